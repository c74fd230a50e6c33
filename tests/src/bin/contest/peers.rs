//! The other encoders: x264 in an ffmpeg of its own, OpenH264 as the agent has it.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use transom_agent::capture::Frame;
use transom_agent::encode::{Choice, Encoder, Request, Tuning};
use transom_protocol::{BitRate, GuestTime};
use transom_tests::corpus::Scene;

use super::{Player, Run, cpu_time};

/// A peer's runs with the two quantisers whose luma is on either side of what is wanted.
pub struct Bracket {
    /// The first quantiser; the other is the next one.
    pub qp: u8,
    runs: [Run; 2],
    /// How much the second counts, 0 to 1.
    weight: f64,
}

impl Bracket {
    /// Takes another round with both.
    pub fn again(&mut self, run: impl Fn(u8) -> Result<Run>) -> Result<()> {
        for (kept, qp) in self.runs.iter_mut().zip(self.qp..) {
            kept.seconds.extend(run(qp)?.seconds);
        }
        Ok(())
    }

    /// What a quantiser in between would have come to. Bytes and errors grow by factors.
    pub fn between(&self) -> Run {
        let [fine, coarse] = &self.runs;
        let factor = |a: f64, b: f64| a * (b / a.max(1.0)).powf(self.weight);
        let seconds = fine.seconds.iter().zip(&coarse.seconds);
        Run {
            seconds: seconds.map(|(a, b)| a + (b - a) * self.weight).collect(),
            bytes: factor(fine.bytes as f64, coarse.bytes as f64) as usize,
            errors: std::array::from_fn(|i| {
                factor(fine.errors[i] as f64, coarse.errors[i] as f64) as u64
            }),
        }
    }
}

/// Where x264 codes a picture by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gop {
    /// The first one alone.
    Endless,
    /// Every one.
    Intra,
}

/// The runs around `wanted` decibels of luma.
pub fn bracket(wanted: f64, samples: usize, run: impl Fn(u8) -> Result<Run>) -> Result<Bracket> {
    // The coarsest that is still too fine is not far from ours.
    let (least, most, mut low) = (10, 45, super::QUANTISER);
    let psnr = |run: &Run| run.psnr(samples)[0];
    let mut fine = run(low)?;
    while psnr(&fine) < wanted && low > least {
        low -= 1;
        fine = run(low)?;
    }
    let mut coarse = run(low + 1)?;
    while psnr(&coarse) >= wanted && low < most {
        low += 1;
        fine = std::mem::replace(&mut coarse, run(low + 1)?);
    }
    let runs = [fine, coarse];
    let (fine, coarse) = (psnr(&runs[0]), psnr(&runs[1]));
    let weight = ((fine - wanted) / (fine - coarse).max(0.01)).clamp(0.0, 1.0);
    Ok(Bracket { qp: low, runs, weight })
}

/// x264 ultrafast zerolatency on one thread, in a program of its own: ffmpeg with it, less ffmpeg
/// without. The CPU seconds are those of all pictures, the bytes those of all but the first IDR.
pub fn x264(frames: &[&[u8]], size: (u32, u32), qp: u8, gop: Gop) -> Result<Run> {
    let qp = qp.to_string();
    let encode =
        ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-threads", "1"];
    let length = if gop == Gop::Intra { "1" } else { "100000" };
    let with = [&encode[..], &["-qp", &qp, "-g", length, "-f", "h264", "-"]].concat();
    let (none, reading) = ffmpeg(frames, size, &["-c:v", "wrapped_avframe", "-f", "null", "-"])?;
    ensure!(none.is_empty(), "ffmpeg wrote something");
    let (stream, seconds) = ffmpeg(frames, size, &with)?;
    let errors = errors(&stream, frames, size)?;
    let first = if gop == Gop::Intra { 0 } else { first_picture(&stream) };
    Ok(Run { seconds: vec![(seconds - reading).max(0.0)], bytes: stream.len() - first, errors })
}

/// Bytes up to the first slice that is not of an IDR (table 7-1).
fn first_picture(stream: &[u8]) -> usize {
    stream
        .windows(4)
        .position(|bytes| bytes[..3] == [0, 0, 1] && bytes[3] & 31 == 1)
        .unwrap_or(stream.len())
}

/// What ffmpeg makes of raw pictures, and its CPU seconds.
fn ffmpeg(frames: &[&[u8]], (width, height): (u32, u32), to: &[&str]) -> Result<(Vec<u8>, f64)> {
    let size = format!("{width}x{height}");
    let from = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", &size, "-r", "60", "-i", "-"];
    let arguments = [&["-nostdin", "-v", "error", "-filter_threads", "1"], &from[..], to].concat();
    let before = children()?;
    let out =
        piped(&arguments, |input| frames.iter().try_for_each(|frame| input.write_all(frame)))?;
    Ok((out, children()? - before))
}

/// Runs ffmpeg with something for its input; yields its output.
fn piped(
    arguments: &[&str],
    feed: impl FnOnce(&mut std::process::ChildStdin) -> std::io::Result<()> + Send,
) -> Result<Vec<u8>> {
    let mut child = Command::new("ffmpeg")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run ffmpeg: tools/setup run installs it")?;
    let mut input = child.stdin.take().context("stdin was piped")?;
    let mut output = child.stdout.take().context("stdout was piped")?;
    let mut out = Vec::new();
    std::thread::scope(|scope| {
        let fed = scope.spawn(move || feed(&mut input));
        output.read_to_end(&mut out)?;
        fed.join().map_err(|_| anyhow::anyhow!("the feeding thread panicked"))??;
        ensure!(child.wait()?.success(), "ffmpeg {} failed", arguments.join(" "));
        anyhow::Ok(())
    })?;
    Ok(out)
}

/// CPU seconds of all children that have ended.
fn children() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// OpenH264, at the bitrate that ours came to: it takes no quantiser here.
pub fn openh264(scene: &Scene, frames: &[Vec<u8>], bytes: usize) -> Result<Run> {
    let mut player = Player::new(scene);
    let size = player.picture.size();
    let bitrate = bytes as f64 / frames.len() as f64 * 8.0 * 60.0;
    let tuning = Tuning { bitrate: BitRate(bitrate.min(2e8) as u32), fps: 60 };
    let mut encoder = Encoder::new(Choice::OpenH264, size, tuning)?;
    let (mut seconds, mut first, mut stream) = (0.0, 0, Vec::new());
    for n in 0..frames.len() {
        player.show();
        player.convert();
        let frame = Frame { picture: &player.picture, damage: &player.damage };
        let time = GuestTime(n as u64 * 16_666_667);
        let begun = cpu_time()?;
        let unit = encoder.encode(Request { frame, idr: n == 0, time })?;
        if n > 0 {
            seconds += cpu_time()? - begun;
        } else {
            first = unit.bytes.len();
        }
        stream.extend_from_slice(&unit.bytes);
    }
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let errors = errors(&stream, &frames, size)?;
    Ok(Run { seconds: vec![seconds], bytes: stream.len() - first, errors })
}

/// What ffmpeg's decoder shows, against what was encoded.
fn errors(stream: &[u8], frames: &[&[u8]], (width, height): (u32, u32)) -> Result<[u64; 3]> {
    let arguments = ["-nostdin", "-v", "error", "-f", "h264", "-i", "-"];
    let to = ["-fps_mode", "passthrough", "-pix_fmt", "yuv420p", "-f", "rawvideo", "-"];
    let shown = piped(&[&arguments[..], &to].concat(), |input| input.write_all(stream))?;
    let luma = (width * height) as usize;
    ensure!(shown.len() == frames.len() * luma * 3 / 2, "a decoder shows other pictures");
    let mut errors = [0; 3];
    for (shown, frame) in shown.chunks_exact(luma * 3 / 2).zip(frames) {
        for (i, part) in
            [0..luma, luma..luma * 5 / 4, luma * 5 / 4..luma * 3 / 2].into_iter().enumerate()
        {
            errors[i] += squares(&shown[part.clone()], &frame[part]);
        }
    }
    Ok(errors)
}

/// Sum of squared differences.
pub fn squares(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum()
}
