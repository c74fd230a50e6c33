//! What a guest weighs, and how long it takes from power-on to a picture: the shipped image, against
//! Debian with the same compositor and game and wayvnc (`tests/peer/desktop`), in the same emulator.
//!
//! Both boot in turns, each with somebody who waits for its first picture from the start and then
//! watches. The other's kernel is handed over by the firmware itself, without a boot loader: what
//! that saves is in its favour.

mod rfb;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use transom_tests::{Guest, Qemu, Test, Viewer, free_udp_port, project_dir, release_dir};

use crate::stream::Stream;
use crate::{ROUNDS, SETTLE, cpu, emulated};
use rfb::Rfb;

/// Where wayvnc listens in its guest.
const VNC: u16 = 5900;

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let peer = peer()?;
    let mut lines = vec![
        files("transom", &project_dir().join("dist/transom.vhdx"), None)?,
        files("wayvnc", &peer.join("disk.vhdx"), Some(&peer.join("disk.qcow2")))?,
    ];
    for round in 1..=ROUNDS {
        lines.push(ours(test, round)?);
        lines.push(theirs(test, round, &peer)?);
    }
    Ok(lines)
}

/// Builds the other's image if the cache has none, and finds the folder that holds it.
fn peer() -> Result<PathBuf> {
    let script = project_dir().join("tests/peer/desktop");
    let output = Command::new(&script).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(output.status.success(), "{} failed", script.display());
    let stdout = String::from_utf8(output.stdout)?;
    Ok(stdout.lines().last().context("peer/desktop printed no path")?.into())
}

fn files(who: &str, image: &Path, compressed: Option<&Path>) -> Result<Value> {
    let size = |path: &Path| -> Result<u64> {
        Ok(path.metadata().with_context(|| format!("no {}", path.display()))?.len())
    };
    // Ours is compressed within.
    let compressed = size(compressed.unwrap_or(image))?;
    let agent = size(&release_dir().join("transom-agent"))?;
    Ok(json!({
        "what": "files", "who": who, "image_bytes": size(image)?,
        "compressed_bytes": compressed, "agent_bytes": agent,
    }))
}

fn ours(test: &Test, round: u64) -> Result<Value> {
    let qemu = Qemu::new(test).name(&format!("ours{round}"));
    let address = qemu.address();
    let (guest, picture) = std::thread::scope(|scope| {
        let picture = scope.spawn(|| emulated::first_picture(test, &address));
        (qemu.boot(), picture.join())
    });
    let mut guest = guest?;
    let picture = picture.map_err(|_| anyhow::anyhow!("the viewer's thread panicked"))??;
    let mut line = start(&mut guest, picture, "busybox dmesg")?;
    let mut stream = Stream::start(test, &guest)?;
    let _viewer = Viewer::ffmpeg(test, &stream.relay().sdp())?;
    std::thread::sleep(SETTLE);
    weigh(&guest, "transom-agent", &mut line)?;
    line["who"] = json!("transom");
    line["round"] = json!(round);
    Ok(line)
}

fn theirs(test: &Test, round: u64, peer: &Path) -> Result<Value> {
    let port = free_udp_port()?;
    let qemu = Qemu::new(test)
        .name(&format!("theirs{round}"))
        .image(&peer.join("disk.vhdx"))
        .kernel(&peer.join("vmlinuz"), &peer.join("initrd.img"), "root=/dev/vda rw console=ttyS0")
        .forward(port, VNC);
    let (guest, watching) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| Rfb::wait(port, emulated::BOOT));
        (qemu.boot(), watching.join())
    });
    let mut guest = guest?;
    let (mut watching, picture) =
        watching.map_err(|_| anyhow::anyhow!("the viewer's thread panicked"))??;
    let mut line = start(&mut guest, picture, "dmesg")?;
    let end = Instant::now() + SETTLE;
    while Instant::now() < end {
        watching.next_picture(true)?;
    }
    weigh(&guest, "wayvnc", &mut line)?;
    line["who"] = json!("wayvnc");
    line["round"] = json!(round);
    Ok(line)
}

/// When the first picture was there, and when the kernel began with what is not its own.
fn start(guest: &mut Guest, picture: Instant, dmesg: &str) -> Result<Value> {
    let age = cpu::age(guest.process().pid())?;
    let power_on = Instant::now() - Duration::from_secs_f64(age);
    let told = guest.run(&format!("cut -d' ' -f1 /proc/uptime; {dmesg} | grep -m1 'Run /init'"))?;
    let (uptime, run) = told.split_once('\n').context("no uptime")?;
    let run = run.trim_start_matches(['[', ' ']).split(']').next().context("no time")?;
    let kernel_begun = age - uptime.trim().parse::<f64>()?;
    Ok(json!({
        "what": "guest",
        "first_picture": picture.saturating_duration_since(power_on).as_secs_f64(),
        "kernel_begun": kernel_begun, "init_begun": kernel_begun + run.trim().parse::<f64>()?,
    }))
}

/// Memory of the program that shows the screen, and of the guest as a whole, in KiB.
fn weigh(guest: &Guest, program: &str, line: &mut Value) -> Result<()> {
    let pss = guest.run(&format!(
        "for p in $(pidof {program}); do sed -n 's/^Pss: *\\([0-9]*\\) kB/\\1/p' \
         /proc/$p/smaps_rollup; done"
    ))?;
    let pss = pss.lines().map(|kib| Ok(kib.trim().parse::<u64>()?)).sum::<Result<u64>>()?;
    let memory = guest.run("sed -n 's/^Mem[TA][ov].*: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")?;
    let memory: Vec<u64> = memory.lines().filter_map(|kib| kib.trim().parse().ok()).collect();
    let [total, available] = memory[..] else {
        anyhow::bail!("an odd /proc/meminfo: {memory:?}");
    };
    line["pss_kib"] = json!(pss);
    line["used_kib"] = json!(total - available);
    Ok(())
}
