//! What the VA-API path costs on the CPU beside the driver, which does no work here: copying into
//! shared memory, the helper, libva's calls, looking the output over.
//!
//! Prints microseconds of CPU time a frame, of the agent's side and of the helper, and whether
//! anything grows. Without `--bench` (that is, in tests) on a few frames, so that it cannot rot.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use transom_agent::damage::Rect;
use transom_agent::encode::vaapi::{Progress, Remote};
use transom_agent::picture::Picture;

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

/// Resident memory in KiB.
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn open(mode: &str, size: (u32, u32)) -> Remote {
    let mut remote = stage::start(mode, size).expect("starts");
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
    for (name, mode, damage) in [
        ("upload (derived image), all", "idle", &whole[..]),
        ("upload (derived image), 640x32", "idle", &line),
        ("upload (derived image), nothing", "idle", &[]),
        ("upload (image), all", "idle,no-derive", &whole),
    ] {
        let mut remote = open(mode, size);
        let pid = remote.pid().expect("it runs");
        remote.encode(&picture, &whole, true, stage::RATE).expect("encodes");
        let (mine, its) = (own_time(), time_of(pid));
        for _ in 0..frames {
            remote.encode(&picture, damage, false, stage::RATE).expect("encodes");
        }
        let [mine, its] = [own_time() - mine, time_of(pid).saturating_sub(its)]
            .map(|time| time.as_secs_f64() * 1e6 / f64::from(frames));
        println!("{name:34} {mine:8.1} {its:8.1} {:8.1}", mine + its);
    }
    let size = (128, 128);
    let picture = Picture::new(size);
    let mut remote = open("idle", size);
    let pids = [std::process::id(), remote.pid().expect("it runs")];
    let mut before = [0; 2];
    let frames = if measure { 100_000 } else { 300 };
    for number in 0..=frames {
        if number == frames / 10 {
            before = pids.map(resident);
        }
        let idr = number % 500 == 0;
        remote.encode(&picture, &line[..0], idr, stage::RATE).expect("encodes");
    }
    let after = pids.map(resident);
    println!(
        "resident after {} and {frames} frames: agent {} and {} KiB, helper {} and {} KiB",
        frames / 10,
        before[0],
        after[0],
        before[1],
        after[1]
    );
}
