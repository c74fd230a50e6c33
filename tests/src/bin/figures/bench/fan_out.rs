//! Plain RTP to many receivers, against GStreamer's multiudpsink: what a core carries, and what
//! gets lost.
//!
//! Loopback hands a packet to its receiver in the sender's time: both sides pay for that.

use std::process::Stdio;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};
use transom_tests::{Process, Test, release_dir};

use super::cores::Kept;
use super::drain::{Counts, Drain};
use super::guest::{Guest, looped};
use super::recording::{GAME, RICH, Recording};
use super::{INTERVAL, ROUNDS, SETTLE};
use crate::cpu;

const RECEIVERS: [usize; 3] = [1, 16, 64];

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let kept = Kept::to_one()?;
    let mut lines = Vec::new();
    for recording in [GAME, RICH] {
        for count in RECEIVERS {
            for round in 1..=ROUNDS {
                lines.push(ours(test, &kept, recording, count, round)?);
                lines.push(theirs(test, &kept, recording, count, round)?);
            }
        }
    }
    Ok(lines)
}

fn ours(test: &Test, kept: &Kept, recording: Recording, count: usize, round: u64) -> Result<Value> {
    let drain = Drain::open(count)?;
    let guest = Guest::start(test.socket("fan"), looped(recording.units()?, recording.rate))?;
    let mut command = kept.command(release_dir().join("transom"));
    command.args(["relay", &guest.address(), "--idr-interval", "0"]);
    for port in drain.ports() {
        command.args(["--rtp", &format!("udp://127.0.0.1:{port}")]);
    }
    span(test, "transom", command, &drain, (recording, round))
}

fn theirs(
    test: &Test,
    kept: &Kept,
    recording: Recording,
    count: usize,
    round: u64,
) -> Result<Value> {
    let drain = Drain::open(count)?;
    let clients: Vec<_> = drain.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut command = kept.command("gst-launch-1.0");
    command.args(["-q", "filesrc"]).arg(format!("location={}", recording.long_file()?.display()));
    command.args(["!", "h264parse", "!", "rtph264pay", "pt=96", "mtu=1200", "config-interval=-1"]);
    command.args(["!", "multiudpsink", &format!("clients={}", clients.join(","))]);
    span(test, "multiudpsink", command, &drain, (recording, round))
}

fn span(
    test: &Test,
    who: &str,
    mut command: std::process::Command,
    drain: &Drain,
    (recording, round): (Recording, u64),
) -> Result<Value> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let process = Process::spawn(test, who, &mut command)?;
    drain.wait()?;
    std::thread::sleep(SETTLE);
    let look = || -> Result<(Instant, f64, Counts)> {
        Ok((Instant::now(), cpu::of_process(process.pid())?, drain.counts()))
    };
    let from = look()?;
    std::thread::sleep(INTERVAL);
    let to = look()?;
    let (seconds, cpu) = ((to.0 - from.0).as_secs_f64(), to.1 - from.1);
    let bits = (to.2.bytes - from.2.bytes) as f64 * 8.0;
    let (packets, lost) = (to.2.packets - from.2.packets, to.2.lost - from.2.lost);
    let count = drain.ports().len();
    Ok(json!({
        "what": format!("{} to {count}", recording.name), "who": who, "round": round,
        "gbps_per_core": bits / cpu / 1e9, "gbps": bits / seconds / 1e9,
        "cpu_percent": cpu / seconds * 100.0, "wall": seconds,
        "loss_percent": lost as f64 / (packets + lost).max(1) as f64 * 100.0,
        "core_percent_for_1_gbps": cpu / bits * 1e9 * 100.0,
    }))
}
