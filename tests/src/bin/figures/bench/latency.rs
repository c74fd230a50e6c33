//! What a relay adds: from the last bytes of a frame on the Unix socket to its last packet out.
//!
//! Frames of an ordinary size come at a steady pace, so many that they fill a tenth and four fifths
//! of a link of 1 Gb/s. Beside the relay: a forwarder written for this alone (`forwarder.rs`), which
//! is what one would write in C, and socat, which makes datagrams of what it reads. The end is taken
//! from the kernel's time stamp of the last packet, so that waking the receiver does not count.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use serde_json::{Value, json};
use transom_tests::{Process, Test, release_dir};

use super::cores::Kept;
use super::forward::Source;
use super::guest::{Guest, numbered};
use super::{INTERVAL, ROUNDS, SETTLE};
use crate::cpu;

/// A frame of 8 Mb/s at 60 fps, in whole datagrams of socat's.
const FRAME: usize = 14 * DATAGRAM;
const DATAGRAM: usize = 1200;
/// Bits per second: what is offered.
const LOADS: [(&str, f64); 2] = [("10 %", 100e6), ("80 %", 800e6)];
const BUFFER: usize = 4 << 20;
/// A sleep comes back so much too late at most; the rest is waited for awake.
const SLACK: Duration = Duration::from_micros(80);

/// When each frame's last piece was handed over, by number.
type Log = Arc<Mutex<Vec<u64>>>;

fn lock(log: &Log) -> std::sync::MutexGuard<'_, Vec<u64>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let kept = Kept::to_one()?;
    let mut lines = Vec::new();
    for (load, bits) in LOADS {
        let gap = Duration::from_secs_f64(FRAME as f64 * 8.0 / bits);
        for round in 1..=ROUNDS {
            for who in ["transom", "forwarder", "socat"] {
                let mut line = turn(test, &kept, who, gap)?;
                line["what"] = json!(format!("{load} of 1 Gb/s"));
                line["round"] = json!(round);
                lines.push(line);
            }
        }
    }
    Ok(lines)
}

fn turn(test: &Test, kept: &Kept, who: &str, gap: Duration) -> Result<Value> {
    let log = Log::default();
    let receiver = Receiver::open()?;
    let target = format!("127.0.0.1:{}", receiver.port);
    let path = test.socket("latency");
    let pacing = Arc::clone(&log);
    // Whichever it is, it has to live until the end of the turn.
    let (mut guest, mut source) = (None, None);
    let mut command = match who {
        "transom" => {
            let guest = guest.insert(Guest::start(path, move |media| {
                pace(gap, &pacing, |number| match number {
                    0 => media.send(true, &numbered::idr(0, FRAME)),
                    _ => media.send(false, &numbered::unit(number, FRAME)),
                })
            })?);
            let mut command = kept.command(release_dir().join("transom"));
            command.args(["relay", &guest.address(), "--idr-interval", "0"]);
            command.args(["--rtp", &format!("udp://{target}")]);
            command
        }
        _ => {
            let socat = who == "socat";
            let source = source.insert(Source::start(path, !socat, move |out| {
                pace(gap, &pacing, |number| out.send(&numbered::slice(number, FRAME)))
            })?);
            other(kept, socat, source, &target)
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let process = Process::spawn(test, who, &mut command)?;
    super::wait("the first frame", || Ok(receiver.count() > 0))?;
    std::thread::sleep(SETTLE);
    let (first, cpu_from, begun) =
        (lock(&log).len(), cpu::of_process(process.pid())?, Instant::now());
    std::thread::sleep(INTERVAL);
    let (last, cpu_to, seconds) =
        (lock(&log).len(), cpu::of_process(process.pid())?, begun.elapsed().as_secs_f64());
    // The last ones need time to get through.
    std::thread::sleep(SETTLE);
    drop(process);
    let arrived = receiver.arrived();
    let sent = lock(&log);
    let mut times: Vec<f64> = arrived
        .iter()
        .filter(|(number, _)| (first..last).contains(&(*number as usize)))
        .map(|(number, at)| (*at as f64 - sent[*number as usize] as f64) / 1e3)
        .collect();
    ensure!(!times.is_empty(), "{who}: no frame came through");
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() as f64 * share) as usize).min(times.len() - 1)];
    Ok(json!({
        "who": who, "frames": times.len(), "lost": (last - first).saturating_sub(times.len()),
        "p50_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999),
        "cpu_percent": (cpu_to - cpu_from) / seconds * 100.0,
        "frames_per_second": (last - first) as f64 / seconds,
    }))
}

fn other(kept: &Kept, socat: bool, source: &Source, target: &str) -> Command {
    let path = source.path().display();
    if socat {
        let mut command = kept.command("socat");
        command.args(["-u", "-b", &DATAGRAM.to_string()]);
        command.arg(format!("UNIX-CONNECT:{path}")).arg(format!("UDP-SENDTO:{target}"));
        command
    } else {
        let mut command = kept.command(release_dir().join("forwarder"));
        command.arg(path.to_string()).arg(target);
        command
    }
}

/// Sends frames at their times; the time of each goes into the log.
fn pace(
    gap: Duration,
    log: &Log,
    mut send: impl FnMut(u32) -> std::io::Result<u64>,
) -> std::io::Result<()> {
    let begun = Instant::now();
    for number in 0u32.. {
        let due = begun + gap * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()).saturating_sub(SLACK));
        while Instant::now() < due {
            std::thread::yield_now();
        }
        let at = send(number)?;
        lock(log).push(at);
    }
    Ok(())
}

/// Notes when the last packet of each frame was handed to it.
struct Receiver {
    port: u16,
    over: Arc<AtomicBool>,
    arrived: Arc<Mutex<Vec<(u32, u64)>>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Receiver {
    fn open() -> Result<Self> {
        let socket = loop {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            if socket.local_addr()?.port() % 2 == 0 {
                break socket;
            }
        };
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &BUFFER)?;
        }
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let port = socket.local_addr()?.port();
        let (over, arrived) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (ended, notes) = (Arc::clone(&over), Arc::clone(&arrived));
        let thread = std::thread::spawn(move || receive(&socket, &ended, &notes));
        Ok(Self { port, over, arrived, thread: Some(thread) })
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Vec<(u32, u64)>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> usize {
        self.notes().len()
    }

    /// Number and time of each frame.
    fn arrived(&self) -> Vec<(u32, u64)> {
        self.notes().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn receive(socket: &UdpSocket, over: &AtomicBool, notes: &Mutex<Vec<(u32, u64)>>) -> Result<()> {
    let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let mut buffer = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::empty();
        let got = match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags) {
            Ok(got) => got,
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => continue,
            Err(e) => return Err(e.into()),
        };
        let stamp = got.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(at) => Some(at),
            _ => None,
        });
        let (stamp, length) = (stamp.context("no time stamp")?, got.bytes);
        if let Some(number) = numbered::of_last(&buffer[..length]) {
            let at = stamp.tv_sec() as u64 * 1_000_000_000 + stamp.tv_nsec() as u64;
            notes.lock().unwrap_or_else(PoisonError::into_inner).push((number, at));
        }
    }
    Ok(())
}
