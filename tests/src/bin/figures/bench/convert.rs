//! From a scanout's pixels to 4:2:0, 1920x1080: the agent's comparing and converting on one thread,
//! against swscale (ffmpeg) and GStreamer's videoconvert.
//!
//! Only CPU time counts. That of the others is a run with the conversion less one without, so that
//! neither reading nor starting counts.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use transom_agent::damage::Damage;
use transom_agent::picture::Picture;
use transom_agent::pixels::Pixels;
use transom_tests::Test;

use super::ROUNDS;
use super::cores::Kept;
use super::pictures;

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;
/// Pictures that take turns: more than fit into a cache.
const PICTURES: usize = 8;
/// Conversions of a turn.
const TURNS: usize = 240;

pub fn measure(_test: &Test) -> Result<Vec<Value>> {
    let kept = Kept::to_one()?;
    let folder = pictures::folder("pictures", (WIDTH, HEIGHT), PICTURES, 40)?;
    let read = |i: usize| std::fs::read(folder.join(format!("{i}.raw")));
    let pictures = (0..PICTURES).map(read).collect::<Result<Vec<_>, _>>()?;
    let mut lines = Vec::new();
    for round in 1..=ROUNDS {
        for (what, rows) in [("whole", 0..HEIGHT), ("glyph", 500..520), ("still", 0..0)] {
            let ms = ours(&pictures, rows)?;
            lines.push(json!({ "what": what, "who": "transom", "round": round, "ms": ms }));
        }
        for (who, run) in [("swscale", ffmpeg as Run), ("videoconvert", gstreamer)] {
            let ms = (run(&kept, &folder, true)? - run(&kept, &folder, false)?).max(0.0);
            let ms = ms * 1e3 / TURNS as f64;
            lines.push(json!({ "what": "whole", "who": who, "round": round, "ms": ms }));
        }
    }
    Ok(lines)
}

type Run = fn(&Kept, &Path, bool) -> Result<f64>;

/// Milliseconds of a picture of which the given rows are new, 16 columns of them if not all are.
fn ours(pictures: &[Vec<u8>], rows: std::ops::Range<usize>) -> Result<f64> {
    let mut screen = pictures[0].clone();
    let mut picture = Picture::new((WIDTH as u32, HEIGHT as u32));
    let mut damage = Damage::default();
    let columns = if rows.len() == HEIGHT { WIDTH } else { 16 };
    let mut seconds = 0.0;
    for turn in 0..=TURNS {
        let other = &pictures[turn % PICTURES];
        for row in rows.clone() {
            let at = row * WIDTH * 4..(row * WIDTH + columns) * 4;
            screen[at.clone()].copy_from_slice(&other[at]);
        }
        damage.clear();
        let begun = cpu_time()?;
        picture.update(Pixels::bgrx(&screen, WIDTH as u32), None, &mut damage);
        // The first one is whole in any case.
        if turn > 0 {
            seconds += cpu_time()? - begun;
        }
    }
    Ok(seconds * 1e3 / TURNS as f64)
}

/// Seconds of CPU that this thread has used.
fn cpu_time() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

fn ffmpeg(kept: &Kept, folder: &Path, converts: bool) -> Result<f64> {
    let mut command = kept.command("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-stream_loop", "-1", "-f", "rawvideo"]);
    command.args(["-pix_fmt", "bgr0", "-s", &format!("{WIDTH}x{HEIGHT}"), "-i"]);
    command.arg(folder.join("all.raw")).args(["-frames:v", &TURNS.to_string()]);
    command.args(["-vf", if converts { "format=yuv420p" } else { "null" }, "-f", "null", "-"]);
    seconds_of(command)
}

fn gstreamer(kept: &Kept, folder: &Path, converts: bool) -> Result<f64> {
    let caps = format!("video/x-raw,format=BGRx,width={WIDTH},height={HEIGHT},framerate=60/1");
    let mut command = kept.command("gst-launch-1.0");
    command.args(["-q", "multifilesrc"]).arg(format!("location={}/%d.raw", folder.display()));
    command.args(["loop=true", &format!("stop-index={}", PICTURES - 1)]);
    command.args([&format!("num-buffers={TURNS}"), &format!("caps={caps}")]);
    if converts {
        command.args(["!", "videoconvert", "!", "video/x-raw,format=I420"]);
    }
    command.args(["!", "fakesink", "sync=false"]);
    seconds_of(command)
}

/// CPU seconds of a program that runs to its end.
fn seconds_of(mut command: Command) -> Result<f64> {
    let used = || -> Result<f64> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let seconds =
            |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
    };
    let before = used()?;
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(used()? - before)
}
