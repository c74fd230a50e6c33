//! Many random scripts, ffmpeg's decoder: `make conformance`.
//!
//! In: how many scripts, and the number of the first (each number is a script of its own). Out:
//! progress; status 1 with the number of the script if ffmpeg shows anything but what the encoder
//! believes, to the bit, or complains. Frames of a few hundred scripts go through one ffmpeg.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use transom_fuzz::encoder::{Colours, believed_in_full, play};
use transom_relay::ts::still::Still;

/// Scripts that share a process.
const BATCH: u64 = 500;

/// The script that each batch begins with: one picture of 16x16. ffmpeg takes the first size that it
/// finds for the container's, and crops by it whatever later fills the same macroblocks; this one
/// crops nothing. For the same reason ffmpeg may not look ahead.
const FIRST: [u8; 4] = [14, 14, 0, 0];

/// What ffmpeg has to show next.
struct Expected {
    script: u64,
    frame: u32,
    samples: Vec<u8>,
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse().expect("numbers are wanted"));
    let count: u64 = arguments.next().unwrap_or(100_000);
    let first: u64 = arguments.next().unwrap_or(0);
    let (begun, mut frames) = (Instant::now(), 0);
    let mut at = first;
    while at < first + count {
        let end = (at + BATCH).min(first + count);
        match batch(at, end) {
            Ok(shown) => frames += shown,
            Err(reason) => {
                eprintln!("conformance: {reason}");
                std::process::exit(1);
            }
        }
        at = end;
        eprint!("\rconformance: {} scripts, {frames} frames, bit-exact", at - first);
        let _ = io::stderr().flush();
    }
    eprintln!(" in {} s", begun.elapsed().as_secs());
}

/// Plays scripts `from..to`; yields the number of frames, or what went wrong.
fn batch(from: u64, to: u64) -> Result<u64, String> {
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "warning", "-probesize", "32", "-analyzeduration", "0"])
        .args(["-threads", "1", "-f", "h264", "-i", "-"])
        .args(["-autoscale", "0", "-fps_mode", "passthrough", "-pix_fmt", "yuv444p"])
        // Of 4:2:0, each sample of chroma four times: nothing is mixed.
        .args(["-sws_flags", "neighbor"])
        .args(["-f", "rawvideo", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("ffmpeg: {e}; tools/setup run installs it"))?;
    let mut input = ffmpeg.stdin.take().ok_or("stdin was piped")?;
    let mut output = ffmpeg.stdout.take().ok_or("stdout was piped")?;
    let mut errors = ffmpeg.stderr.take().ok_or("stderr was piped")?;
    // As far as the encoder may run ahead of a decoder that waits for the next start code.
    let (expect, expected) = mpsc::sync_channel::<Expected>(4096);
    let verdict = std::thread::scope(|scope| {
        scope.spawn(move || {
            let scripts = (from..to).map(|number| (number, script(number)));
            for (number, script) in std::iter::once((from, FIRST.to_vec())).chain(scripts) {
                let mut frame = 0;
                let (mut stream, mut still) = (Vec::new(), Still::default());
                play(&script, Colours::All, |unit, size, screen| {
                    stream.extend_from_slice(&unit.bytes);
                    let samples = believed_in_full(screen, size);
                    still.look(&unit.bytes);
                    // What the relay puts behind the last picture of a screen at rest.
                    for again in still.repeat().iter().cycle().take(frame as usize % 3) {
                        stream.extend_from_slice(again);
                        let samples = samples.clone();
                        let _ = expect.send(Expected { script: number, frame, samples });
                    }
                    // The other side has given up, and says why.
                    let _ = expect.send(Expected { script: number, frame, samples });
                    frame += 1;
                });
                if input.write_all(&stream).is_err() {
                    return;
                }
            }
        });
        let said = scope.spawn(move || {
            let mut said = String::new();
            let _ = errors.read_to_string(&mut said);
            // Of course: it was told not to look.
            let expected = |line: &&str| line.contains("not enough frames to estimate rate");
            said.lines()
                .filter(|line| !expected(line))
                .fold(String::new(), |all, line| all + line + "\n")
        });
        let mut shown = 0;
        let mut verdict = Ok(());
        for Expected { script, frame, samples } in expected {
            let mut decoded = vec![0; samples.len()];
            if let Err(error) = output.read_exact(&mut decoded) {
                verdict = Err(format!("script {script}, frame {frame}: not shown: {error}"));
                break;
            }
            if let Some(at) = decoded.iter().zip(&samples).position(|(a, b)| a != b) {
                verdict = Err(format!("script {script}, frame {frame}: byte {at} differs"));
                break;
            }
            shown += 1;
        }
        let too_much = verdict.is_ok() && output.read(&mut [0]).is_ok_and(|count| count > 0);
        if verdict.is_err() || too_much {
            let _ = ffmpeg.kill();
        }
        drop(output);
        let said = said.join().unwrap_or_default();
        match verdict {
            Ok(()) if too_much => Err(format!("ffmpeg shows more than there was, in {from}..{to}")),
            Ok(()) if !said.is_empty() => Err(format!("ffmpeg on {from}..{to}: {said}")),
            Ok(()) => Ok(shown),
            Err(reason) => Err(format!("{reason}\n{said}")),
        }
    });
    ffmpeg.wait().map_err(|e| e.to_string())?;
    verdict
}

/// The bytes of a script: splitmix64 of its number.
fn script(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) as u8
    };
    let length = 8 + usize::from(next()) % 90;
    (0..length).map(|_| next()).collect()
}
