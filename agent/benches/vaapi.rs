//! What the VA-API path costs on the CPU beside the driver, which does no work here: copying into
//! shared memory, the helper, libva's calls, looking the output over.
//!
//! Prints microseconds of CPU time a frame, of the agent's side and of the helper. Without `--bench`
//! (that is, in tests) on a few frames, so that it cannot rot. Whether anything grows is told by
//! `transom-agent probe --encode --frames 100000`.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use transom_agent::capture::Planes;
use transom_agent::capture::buffers::Dmabuf;
use transom_agent::damage::Rect;
use transom_agent::encode::vaapi::{Progress, Remote};
use transom_agent::picture::Picture;
use transom_agent::sys::shared::Shared;

#[path = "../tests/stage/mod.rs"]
mod stage;

/// CPU time of this thread.
fn own_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has it").into()
}

/// CPU time of a process, from its scheduler's statistics.
fn time_of(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let first = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(first.unwrap_or(0))
}

fn open(mode: &str, size: (u32, u32)) -> Remote {
    let mut remote =
        stage::start(mode, size, transom_protocol::message::Codec::H264).expect("starts");
    let ready = remote.wait_ready(Duration::from_secs(60)).expect("opens");
    assert!(matches!(ready, Progress::Ready));
    remote
}

fn main() {
    let measure = std::env::args().any(|argument| argument == "--bench");
    let frames = if measure { 1000 } else { 3 };
    let size = (1920, 1080);
    let picture = Picture::new(size);
    println!("{:34} {:>8} {:>8} {:>8}", "1080p, us of CPU a frame", "agent", "helper", "sum");
    let whole = [Rect { x: 0, y: 0, width: 1920, height: 1080 }];
    let line = [Rect { x: 320, y: 512, width: 640, height: 32 }];
    // Any memory of a descriptor's will do for a driver that does not look at it.
    let pixels = Shared::new(1920 * 1080 * 4).expect("a memfd");
    for (name, mode, damage) in [
        ("import, all", "idle", &whole[..]),
        ("upload (derived image), all", "idle", &whole),
        ("upload (derived image), 640x32", "idle", &line),
        ("upload (derived image), nothing", "idle", &[]),
        ("upload (image), all", "idle,no-derive", &whole),
    ] {
        let mut remote = open(mode, size);
        let pid = remote.pid().expect("it runs");
        remote.encode(&picture, &whole, true, stage::RATE).expect("encodes");
        let (mine, its) = (own_time(), time_of(pid));
        for _ in 0..frames {
            // As capture does it: a descriptor of its own for each frame.
            let scanout = name.starts_with("import").then(|| Dmabuf {
                fd: pixels.fd().try_clone_to_owned().expect("a descriptor"),
                fourcc: u32::from_le_bytes(*b"XR24"),
                modifier: 0,
                size,
                pitch: size.0 * 4,
                offset: 0,
                start: (0, 0),
            });
            let planes = scanout.as_ref().map(|primary| Planes { primary, cursor: None });
            remote.encode_scanout(&picture, damage, false, stage::RATE, planes).expect("encodes");
        }
        assert_eq!(remote.path() == "dma-buf", name.starts_with("import"));
        let [mine, its] = [own_time() - mine, time_of(pid).saturating_sub(its)]
            .map(|time| time.as_secs_f64() * 1e6 / f64::from(frames));
        println!("{name:34} {mine:8.1} {its:8.1} {:8.1}", mine + its);
    }
}
