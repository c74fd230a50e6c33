//! WebRTC to many viewers, against Janus: how many a core carries.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use transom_tests::{Process, Test, release_dir};

use super::cores::Kept;
use super::guest::{Guest, looped};
use super::http;
use super::janus::Janus;
use super::recording::{GAME, Recording, SLOW};
use super::viewer::{Counts, Viewer, Viewers};
use super::{INTERVAL, ROUNDS};
use crate::cpu;

/// Viewers of each stream.
const CASES: [(Recording, usize); 2] = [(GAME, 16), (SLOW, 64)];
/// Until what is known of the network is settled.
const SETTLE: Duration = Duration::from_secs(2);

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let kept = Kept::to_one()?;
    let mut lines = Vec::new();
    for (recording, count) in CASES {
        for round in 1..=ROUNDS {
            lines.push(ours(test, &kept, (recording, count), round)?);
            lines.push(theirs(test, &kept, (recording, count), round)?);
        }
    }
    Ok(lines)
}

fn ours(test: &Test, kept: &Kept, case: (Recording, usize), round: u64) -> Result<Value> {
    let guest = Guest::start(test.socket("webrtc"), looped(case.0.units()?, case.0.rate))?;
    let relay = serve(test, kept, &[("bench".into(), guest.address())])?;
    let mut viewers = Viewers::default();
    for _ in 0..case.1 {
        viewers.add(relay.join("bench")?, |_| ());
    }
    span("transom", relay.process.pid(), &viewers, case, round)
}

fn theirs(test: &Test, kept: &Kept, case: (Recording, usize), round: u64) -> Result<Value> {
    let janus = Janus::start(test, kept, case.0)?;
    let mut viewers = Viewers::default();
    for _ in 0..case.1 {
        viewers.add(janus.join()?, |_| ());
    }
    span("janus", janus.pid(), &viewers, case, round)
}

fn span(
    who: &str,
    pid: u32,
    viewers: &Viewers,
    (recording, count): (Recording, usize),
    round: u64,
) -> Result<Value> {
    viewers.wait()?;
    std::thread::sleep(SETTLE);
    let look = || -> Result<(Instant, f64, Counts)> {
        Ok((Instant::now(), cpu::of_process(pid)?, viewers.counts()))
    };
    let from = look()?;
    std::thread::sleep(INTERVAL);
    let to = look()?;
    let (seconds, cpu) = ((to.0 - from.0).as_secs_f64(), to.1 - from.1);
    let pictures = (to.2.pictures - from.2.pictures) as f64;
    let due = seconds * f64::from(recording.rate) * count as f64;
    let bits = (to.2.bytes - from.2.bytes) as f64 * 8.0;
    let packets = (to.2.packets - from.2.packets).max(1) as f64;
    Ok(json!({
        "what": format!("{count} viewers at {}", recording.name), "who": who, "round": round,
        // What did not arrive is no viewer's.
        "viewers_per_core": count as f64 * (pictures / due).min(1.0) / (cpu / seconds),
        "cpu_percent": cpu / seconds * 100.0, "wall": seconds,
        "gbps_per_core": bits / cpu / 1e9, "us_per_packet": cpu / packets * 1e6,
        "pictures_percent": pictures / due * 100.0,
        "lost_packets": to.2.lost.saturating_sub(from.2.lost),
    }))
}

/// A relay with a page.
pub struct Serving {
    /// The relay.
    pub process: Process,
    http: SocketAddr,
}

/// Serves guests, by name and address.
pub fn serve(test: &Test, kept: &Kept, guests: &[(String, String)]) -> Result<Serving> {
    serve_with(test, kept, guests, &[])
}

/// The same with further arguments.
pub fn serve_with(
    test: &Test,
    kept: &Kept,
    guests: &[(String, String)],
    arguments: &[&OsStr],
) -> Result<Serving> {
    let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = kept.command(release_dir().join("transom"));
    command.arg("relay").args(guests.iter().map(|(name, address)| format!("{name}={address}")));
    command
        .args(["--http", &http.to_string()])
        .args(arguments)
        .env("TRANSOM_STATE", test.dir().join("state"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let process = Process::spawn(test, "relay", &mut command)?;
    super::wait("the relay's page", || {
        Ok(http::ask(http, "GET", "/api/guests", "text/plain", "").is_ok())
    })?;
    Ok(Serving { process, http })
}

impl Serving {
    /// Where it serves, by TCP and UDP.
    pub fn address(&self) -> SocketAddr {
        self.http
    }

    /// A viewer that was answered.
    pub fn join(&self, guest: &str) -> Result<Viewer> {
        self.join_by(guest, |answer| answer)
    }

    /// The same by another way than the answer says.
    pub fn join_by(&self, guest: &str, by: impl FnOnce(String) -> String) -> Result<Viewer> {
        let (viewer, offer) = Viewer::offer()?;
        let path = format!("/{guest}/whep");
        let answer = http::ask(self.http, "POST", &path, "application/sdp", &offer)?;
        viewer.answered(&by(answer))
    }
}
