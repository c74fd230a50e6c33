//! GStreamer's side: a program of its own sends and receives, and what is between is ours.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use transom_tests::{Process, Test, free_udp_port, project_dir};

use super::{HEIGHT, Link, PHASES, PICTURES, Shared, WIDTH, local, open, step};
use crate::bench::cores::Kept;

/// RTP's header without extension, and where the length of that stands.
const HEADER: usize = 12;
const EXTENDED: u8 = 0x10;
const MARKER: u8 = 0x80;
const MEDIA: u8 = 96;
const RETRANSMITTED: u8 = 97;

/// Builds it if it is not there, for which there is no network here any more.
pub fn program() -> Result<PathBuf> {
    let script = project_dir().join("tests/peer/gcc/build");
    let output = Command::new(&script).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(output.status.success(), "{} failed (above)", script.display());
    let stdout = String::from_utf8(output.stdout)?;
    Ok(stdout.lines().last().context("peer/gcc/build printed no path")?.into())
}

/// Looks at each packet that comes through.
type See = Box<dyn Fn(&[u8]) + Send>;

pub fn theirs(
    test: &Test,
    kept: &Kept,
    (program, folder): (&Path, &Path),
    round: u64,
) -> Result<Vec<Value>> {
    let diary = Shared::default();
    let [receiver, told, sender] = [free_udp_port()?, free_udp_port()?, free_udp_port()?];
    let wide = Arc::new(AtomicU64::new(1_000_000_000));
    let rate = Arc::new(AtomicU64::new(PHASES[0].0));
    let way = |to: u16, rate: &Arc<AtomicU64>, see: See| -> Result<_> {
        let from = UdpSocket::bind("127.0.0.1:0")?;
        let (port, by) = (from.local_addr()?.port(), from.try_clone()?);
        let to = move || Some(local(to));
        Ok((Link::open(from, by, to, Arc::clone(rate), see)?, port.to_string()))
    };
    let seeing = Arc::clone(&diary);
    // Away from zero, so that numbers may fall.
    let last = AtomicU64::new(1 << 32);
    let see = move |packet: &[u8]| note(packet, &last, &seeing);
    let (down, media) = way(receiver, &rate, Box::new(see))?;
    let (_reports, reports) = way(told, &wide, Box::new(|_| ()))?;
    let (_back, back) = way(sender, &wide, Box::new(|_| ()))?;
    let mut command = kept.command(program);
    command.arg(folder).args([PICTURES, WIDTH, HEIGHT].map(|n| n.to_string()));
    command.args([media, reports, back]).args([receiver, told, sender].map(|n| n.to_string()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(test, "gcc", &mut command)?;
    let stdout = process.child().stdout.take().context("stdout was piped")?;
    let showing = Arc::clone(&diary);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let words: Vec<_> = line.split(' ').collect();
            let [kind, value, at] = words[..] else { continue };
            let (Ok(value), Ok(at)) = (value.parse::<u64>(), at.parse()) else { continue };
            match kind {
                "frame" => open(&showing).show(value, at),
                "rate" => open(&showing).tell(at, u32::try_from(value).unwrap_or(u32::MAX)),
                _ => {}
            }
        }
    });
    crate::bench::wait("GStreamer's first picture", || Ok(open(&diary).has_any()))?;
    step("gstreamer", round, &diary, &rate, &down)
}

/// Takes an RTP packet that came through.
fn note(packet: &[u8], last: &AtomicU64, diary: &Shared) {
    let [first, kind, a, b, c, d, e, f, _, _, _, _, ..] = *packet else { return };
    let mut payload = &packet[HEADER..];
    if first & EXTENDED != 0 {
        let [_, _, high, low, rest @ ..] = payload else { return };
        let words = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(rest) = rest.get(words * 4..) else { return };
        payload = rest;
    }
    let number = match (kind & !MARKER, payload) {
        (MEDIA, _) => u16::from_be_bytes([a, b]),
        // The number that the lost one had stands in front.
        (RETRANSMITTED, [high, low, rest @ ..]) => {
            payload = rest;
            u16::from_be_bytes([*high, *low])
        }
        _ => return,
    };
    let before = last.load(Relaxed);
    let sequence =
        before.wrapping_add_signed(i64::from(number.wrapping_sub(before as u16).cast_signed()));
    last.store(before.max(sequence), Relaxed);
    let timestamp = u32::from_be_bytes([c, d, e, f]);
    open(diary).note(sequence, (timestamp, None), kind & MARKER != 0, payload.len());
}
