//! What ours is compared with: ffmpeg's kmsgrab and libx264 in the same guest, from a root
//! tree of its own (`tests/peer/build`) that is mounted in the guest as `/peer`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use transom_tests::{Guest, project_dir};

use crate::cpu;

/// Until ffmpeg has encoded its first frames; an emulated guest loads 200 libraries first.
const FIRST_FRAMES: Duration = Duration::from_secs(120);

/// ffmpeg's counters at a time.
pub struct Encoded {
    pub at: Instant,
    pub frames: f64,
    pub cpu: f64,
}

/// Builds the tree if the cache has none, and finds the folder that holds it.
pub fn folder() -> Result<PathBuf> {
    let script = project_dir().join("tests/peer/build");
    let output = Command::new(&script)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(output.status.success(), "{} failed", script.display());
    let stdout = String::from_utf8(output.stdout)?;
    Ok(stdout.lines().last().context("peer/build printed no path")?.into())
}

/// Makes the tree usable; `mount` is the guest's command that mounts it.
pub fn mount(guest: &Guest, mount: &str) -> Result<()> {
    guest
        .run(&format!(
            "mkdir -p /peer && {mount} /peer && mount --bind /dev /peer/dev && \
             mount -t proc proc /peer/proc && mount -t tmpfs tmpfs /peer/tmp"
        ))
        .map(drop)
}

/// The same in user-mode Linux, where it may send on loopback then; yields the card to grab.
pub fn mount_in_uml(guest: &Guest) -> Result<String> {
    let tree = folder()?.join("root");
    guest.run("busybox ifconfig lo up")?;
    mount(guest, &format!("mount -t hostfs -o hostfs={} hostfs", tree.display()))?;
    let card = guest.run("ls -d /sys/devices/*/vkms/drm/card* | head -n 1")?;
    Ok(format!("/dev/dri/{}", card.trim().rsplit('/').next().context("no VKMS")?))
}

/// Starts it on `card`; returns when frames flow. It sends to a port nobody listens on,
/// and, as ours does, 4:2:0 pictures at no more than 60 per second, each of them once:
/// by default ffmpeg repeats pictures where the guest is too slow for 60.
pub fn start(guest: &Guest, card: &str) -> Result<()> {
    start_to(guest, card, "-f rtp rtp://127.0.0.1:5004")
}

/// The same with its outputs as an option of ffmpeg's.
pub fn start_to(guest: &Guest, card: &str, output: &str) -> Result<()> {
    guest.run(&format!(
        "rm -f /peer/tmp/progress; setsid chroot /peer /usr/bin/ffmpeg -nostdin -hide_banner \
         -loglevel warning -nostats -stats_period 0.2 -progress /tmp/progress \
         -device {card} -framerate 60 -f kmsgrab -i - \
         -vf hwdownload,format=bgr0,format=yuv420p -fps_mode passthrough \
         -c:v libx264 -preset ultrafast -tune zerolatency {output} \
         </dev/null >/peer/tmp/log 2>&1 &"
    ))?;
    let end = Instant::now() + FIRST_FRAMES;
    // It reports to a file alone; the pause decides nothing but when we look.
    while !encoded(guest).is_ok_and(|e| e.frames >= 3.0) {
        ensure!(
            Instant::now() < end,
            "ffmpeg encodes nothing: {}",
            guest.run("cat /peer/tmp/log").unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Its counters now; frames as of at most 0.2 s ago.
pub fn encoded(guest: &Guest) -> Result<Encoded> {
    let text = guest.run(
        "sed -n 's/^frame=//p' /peer/tmp/progress | tail -n 1; cat /proc/$(pidof ffmpeg)/stat",
    )?;
    let (frames, stat) = text.split_once('\n').context("ffmpeg is gone")?;
    Ok(Encoded { at: Instant::now(), frames: frames.trim().parse()?, cpu: cpu::of_stat(stat)? })
}

/// Ends it and waits until it is gone.
pub fn stop(guest: &Guest) -> Result<()> {
    guest.run("kill -9 $(pidof ffmpeg); while pidof ffmpeg; do sleep 0.1; done").map(drop)
}
