//! The game in the shipped image: frame rate, CPU per frame against ffmpeg's, idle CPU,
//! sizes, and how long it takes from power-on to a picture.
//!
//! One boot; ours and ffmpeg take turns, and only one of them streams at a time. CPU time is
//! what the guest's kernel accounts to the process and its threads.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use transom_tests::{Guest, Qemu, Relay, Test, Viewer, free_udp_port, project_dir, release_dir};

use crate::idle::{IDLE, NO_IDRS, REST};
use crate::stream::Stream;
use crate::{INTERVAL, ROUNDS, SETTLE, cpu, peer};

/// From power-on to a picture, under load too.
pub const BOOT: Duration = Duration::from_secs(240);

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let qemu = Qemu::new(test).disk(&peer::folder()?.join("root.squashfs"));
    let address = qemu.address();
    let (guest, picture) = std::thread::scope(|scope| {
        let picture = scope.spawn(|| first_picture(test, &address));
        (qemu.boot(), picture.join())
    });
    let mut guest = guest?;
    let picture = picture.map_err(|_| anyhow::anyhow!("the viewer's thread panicked"))??;
    let qemu = guest.process().pid();
    let power_on = Instant::now() - Duration::from_secs_f64(cpu::age(qemu)?);
    let mut lines = vec![json!({
        "what": "first picture",
        "seconds": picture.saturating_duration_since(power_on).as_secs_f64(),
        "kvm": std::fs::read_to_string(format!("/proc/{qemu}/cmdline"))?.contains("\0kvm\0"),
    })];

    peer::mount(&guest, "mount -o ro /dev/vdb")?;
    let card = guest.run("ls /dev/dri/card* | head -n 1")?;
    // The game shows its title before it plays.
    Stream::start(test, &guest)?
        .relay()
        .wait(BOOT, "a game that moves", |line| (line["fps"].as_f64()? >= 8.0).then_some(()))?;
    for round in 1..=ROUNDS {
        lines.push(ours(test, &guest, round)?);
        lines.push(theirs(&guest, &card, round)?);
    }
    lines.push(who_else(&guest)?);
    lines.extend(idle(test, &guest)?);
    lines.push(sizes()?);
    Ok(lines)
}

/// When a viewer that waits for the machine has its first picture.
pub fn first_picture(test: &Test, address: &str) -> Result<Instant> {
    let end = Instant::now() + BOOT;
    if let Some(path) = address.strip_prefix("unix:") {
        while !Path::new(path).exists() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let relay = Relay::start_at(test, address, free_udp_port()?)?;
    relay.wait_state(0, "streaming", BOOT)?;
    let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
    viewer.wait_frames(1, BOOT)?;
    viewer.arrivals().first().copied().context("a frame has an arrival")
}

fn ours(test: &Test, guest: &Guest, round: u64) -> Result<Value> {
    let stream = Stream::start(test, guest)?;
    std::thread::sleep(SETTLE);
    let (from, cpu_from) = (stream.passed()?, agent_cpu(guest)?);
    std::thread::sleep(INTERVAL);
    let (to, cpu_to) = (stream.passed()?, agent_cpu(guest)?);
    let (frames, seconds) = (to.frames - from.frames, (to.at - from.at).as_secs_f64());
    let own = from.agent.zip(to.agent).map(|((from, _), (to, _))| (to - from) / frames * 1e3);
    Ok(json!({
        "what": "agent", "round": round, "frames": frames, "seconds": seconds,
        "fps": frames / seconds,
        "cpu_ms_per_frame": (cpu_to - cpu_from) / frames * 1e3,
        "cpu_ms_per_frame_own_count": own,
        "resident_bytes": to.agent.map(|(_, resident)| resident),
        "latency_us": to.latency_us,
    }))
}

fn theirs(guest: &Guest, card: &str, round: u64) -> Result<Value> {
    peer::start(guest, card)?;
    std::thread::sleep(SETTLE);
    let from = peer::encoded(guest)?;
    std::thread::sleep(INTERVAL);
    let to = peer::encoded(guest)?;
    peer::stop(guest)?;
    let (frames, seconds) = (to.frames - from.frames, (to.at - from.at).as_secs_f64());
    Ok(json!({
        "what": "ffmpeg", "round": round, "frames": frames, "seconds": seconds,
        "fps": frames / seconds,
        "cpu_ms_per_frame": (to.cpu - from.cpu) / frames * 1e3,
    }))
}

/// What the rest of the guest does with its processors while nobody watches.
fn who_else(guest: &Guest) -> Result<Value> {
    let names = ["chocolate-doom", "Xwayland", "cage"];
    let cpu = || -> Result<Vec<f64>> { names.iter().map(|name| of_named(guest, name)).collect() };
    let (from, start) = (cpu()?, Instant::now());
    std::thread::sleep(INTERVAL);
    let (to, seconds) = (cpu()?, start.elapsed().as_secs_f64());
    let percent = |i: usize| (to[i] - from[i]) / seconds * 100.0;
    let percents = names.iter().enumerate().map(|(i, name)| (name.to_string(), percent(i).into()));
    Ok(json!({ "what": "others", "percent": percents.collect::<serde_json::Map<_, _>>() }))
}

/// A still picture: the game is stopped in its tracks.
fn idle(test: &Test, guest: &Guest) -> Result<Vec<Value>> {
    guest.run("kill -STOP $(pidof chocolate-doom)")?;
    let mut lines = Vec::new();
    for (what, settings) in [("idle", &[][..]), ("idle without IDRs", &[NO_IDRS])] {
        let _stream = Stream::start_with(test, guest, settings)?;
        std::thread::sleep(REST);
        let (from, start) = (agent_cpu(guest)?, Instant::now());
        std::thread::sleep(IDLE);
        let (to, seconds) = (agent_cpu(guest)?, start.elapsed().as_secs_f64());
        let percent = (to - from) / seconds * 100.0;
        lines.push(json!({ "what": what, "seconds": seconds, "percent": percent }));
    }
    Ok(lines)
}

fn sizes() -> Result<Value> {
    let size = |path: &Path| -> Result<u64> {
        Ok(path.metadata().with_context(|| format!("no {}", path.display()))?.len())
    };
    Ok(json!({
        "what": "sizes",
        "agent_bytes": size(&release_dir().join("transom-agent"))?,
        "vhdx_bytes": size(&project_dir().join("dist/transom.vhdx"))?,
    }))
}

fn agent_cpu(guest: &Guest) -> Result<f64> {
    of_named(guest, "transom-agent")
}

fn of_named(guest: &Guest, name: &str) -> Result<f64> {
    cpu::of_stat(&guest.run(&format!("cat /proc/$(pidof {name})/stat"))?)
}
