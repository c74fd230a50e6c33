//! From a flip to the first RTP packet of its picture: ours and ffmpeg's, in turns, in one boot.
//!
//! ffmpeg sends to a program in the same guest, which notes when packets come, and writes what it
//! encodes to a file, too. Each flip's number is in its picture: decoded here, the file tells which
//! picture of the stream shows which flip. Ours ends later, when the relay on the host has handed
//! over the *last* packet; [`super::scene`] measures it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use transom_tests::card::read_number;
use transom_tests::{Guest, Picture, Test, Testcard, Uml};

use super::{BETWEEN_KEYS, DRAIN, percentiles, scene};
use crate::{ROUNDS, SETTLE, peer};

/// The screen moves for so long, …
const MOVING: Duration = Duration::from_secs(6);
/// … or so many keys are pressed.
const KEYS: usize = 30;
const PORT: u16 = 5004;
/// The strip of a picture that has its number.
const STRIP: (usize, usize) = (384, 16);

/// What is on the screen, and what makes it so.
type Scene = (&'static str, fn(&mut Testcard<'_>) -> Result<()>);

const SCENES: [Scene; 2] = [("screen", move_all), ("typing", type_keys)];

fn move_all(screen: &mut Testcard<'_>) -> Result<()> {
    screen.tell("animate screen")?;
    std::thread::sleep(MOVING);
    Ok(())
}

fn type_keys(screen: &mut Testcard<'_>) -> Result<()> {
    for _ in 0..KEYS {
        std::thread::sleep(BETWEEN_KEYS);
        screen.tell("type 16")?;
    }
    Ok(())
}

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let guest = Uml::new(test).boot()?;
    guest.start_agent(&[])?;
    let card = peer::mount_in_uml(&guest)?;
    let mut screen = guest.testcard()?;
    screen.tell("mode 1280x720 XRGB8888")?;
    let mut lines = Vec::new();
    for round in 1..=ROUNDS {
        for (name, play) in SCENES {
            let mut line = scene(test, &guest, &mut screen, name, play)?;
            (line["round"], line["who"]) = (json!(round), json!("agent"));
            lines.push(line);
            let mut line = theirs(test, &guest, &mut screen, &card, (name, play))?;
            (line["round"], line["who"]) = (json!(round), json!("ffmpeg"));
            lines.push(line);
        }
    }
    Ok(lines)
}

fn theirs(
    test: &Test,
    guest: &Guest,
    screen: &mut Testcard<'_>,
    card: &str,
    (name, play): Scene,
) -> Result<Value> {
    screen.tell("still 1")?;
    guest.run(&format!(
        "rm -f /host/log/rtp /host/log/peer.h264; \
         setsid /host/bin/rtplog {PORT} </dev/null >/host/log/rtp 2>&1 & \
         until grep -q ready /host/log/rtp 2>/dev/null; do sleep 0.02; done"
    ))?;
    // One encoder, two outputs; what is written goes to memory and costs next to nothing.
    let both = format!("-map 0:v -f tee '[f=rtp]rtp://127.0.0.1:{PORT}|[f=h264]/tmp/peer.h264'");
    peer::start_to(guest, card, &both)?;
    std::thread::sleep(SETTLE);
    screen.flips()?;
    play(screen)?;
    let flips = screen.flips()?;
    std::thread::sleep(DRAIN);
    // It is given the time to write what it has.
    guest.run(
        "kill -INT $(pidof ffmpeg); while pidof ffmpeg; do sleep 0.05; done; \
         kill $(pidof rtplog); cp /peer/tmp/peer.h264 /host/log/peer.h264; rm /peer/tmp/peer.h264",
    )?;
    let arrivals = arrivals(&std::fs::read_to_string(test.dir().join("rtp"))?);
    let shown = numbers(test)?;
    ensure!(
        shown.len() >= arrivals.len(),
        "{} pictures sent, {} kept",
        arrivals.len(),
        shown.len()
    );
    // The first picture of each number.
    let mut first = BTreeMap::new();
    for (number, at) in shown.iter().zip(&arrivals) {
        first.entry(*number).or_insert(*at);
    }
    let waits: Vec<f64> = flips
        .iter()
        .filter_map(|(number, flip)| Some((first.get(number)? - *flip as i64) as f64 / 1e6))
        .collect();
    let frames = waits.len();
    let total = percentiles(waits).with_context(|| format!("{name}: ffmpeg showed no flip"))?;
    Ok(json!({ "what": name, "flips": flips.len(), "frames": frames, "total": total }))
}

/// When the first packet of each picture came.
fn arrivals(log: &str) -> Vec<i64> {
    log.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The numbers in the pictures that it encoded.
fn numbers(test: &Test) -> Result<Vec<u32>> {
    let (width, height) = STRIP;
    let output = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(test.dir().join("peer.h264"))
        .args(["-vf", &format!("crop={width}:{height}:0:0"), "-fps_mode", "passthrough"])
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"])
        .output()?;
    ensure!(output.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&output.stderr));
    let strips = output.stdout.chunks_exact(width * height * 3);
    let number = |rgb: &[u8]| read_number(&Picture { width, height, rgb: rgb.to_vec() });
    // The still picture in front of the first flip has none.
    Ok(strips.map(|rgb| number(rgb).unwrap_or(0)).collect())
}
