//! A link whose capacity steps from 20 to 5 Mb/s and back, 20 ms there and back: how old pictures
//! are when they are whole at the other end, and how much of the link they fill. The agent's encoder
//! behind the relay and WebRTC, against GStreamer's x264enc that follows `rtpgccbwe`
//! (`tests/peer/gcc`).
//!
//! Both get the same raw pictures at the same pace. The agent's encoder runs here and is driven as
//! the agent drives it: one picture at a time, told bitrates over the control connection, and a
//! picture whose turn is over when the last one has left is passed over before it is encoded.

mod arrivals;
mod peer;

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use transom_agent::allowance::Allowance;
use transom_agent::capture::Frame;
use transom_agent::damage::Damage;
use transom_agent::encode::{Choice, Encoder, Request, Tuning};
use transom_agent::picture::Picture;
use transom_agent::pixels::Pixels;
use transom_protocol::BitRate;
use transom_tests::Test;

use super::bottleneck::{DELAY, Link};
use super::cores::Kept;
use super::guest::{Guest, Media, clock, nanos, numbered};
use super::pictures;
use super::viewer::Viewers;
use super::webrtc::serve_with;
use arrivals::{Diary, open};

pub const WIDTH: usize = 1280;
pub const HEIGHT: usize = 720;
pub const RATE: u32 = 60;
/// Raw pictures that are shown in turns.
pub const PICTURES: usize = 30;
/// What the agent encodes for until it is told otherwise.
const UNTOLD: BitRate = BitRate(8_000_000);
/// More than the link ever carries.
const MOST: u64 = 40_000_000;
/// Capacity in bits per second, and how long it stays; the first one is not counted before it has
/// settled.
const PHASES: [(u64, Duration); 3] = [
    (20_000_000, Duration::from_secs(18)),
    (5_000_000, Duration::from_secs(10)),
    (20_000_000, Duration::from_secs(15)),
];
const SETTLE: Duration = Duration::from_secs(8);
const ROUNDS: u64 = 2;
/// A point of the plot.
const BIN: Duration = Duration::from_millis(250);
/// After it, nothing comes that was not given up.
const TAIL: Duration = Duration::from_secs(1);

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let kept = Kept::to_one()?;
    let folder = pictures::folder("moving-9", (WIDTH, HEIGHT), PICTURES, 9)?;
    let program = peer::program()?;
    let mut lines = Vec::new();
    for round in 1..=ROUNDS {
        lines.extend(ours(test, &kept, &folder, round)?);
        lines.extend(peer::theirs(test, &kept, (&program, &folder), round)?);
    }
    Ok(lines)
}

type Shared = Arc<Mutex<Diary>>;

fn ours(test: &Test, kept: &Kept, folder: &Path, round: u64) -> Result<Vec<Value>> {
    let read = |i: usize| std::fs::read(folder.join(format!("{i}.raw")));
    let pictures = (0..PICTURES).map(read).collect::<std::io::Result<Vec<_>>>()?;
    let diary = Shared::default();
    let (sending, go_there) = (Arc::clone(&diary), kept.other());
    let guest = Guest::start(test.socket("capacity"), move |media| {
        // Where the other's encoder runs, too.
        go_there();
        show(media, &pictures, &sending).map_err(std::io::Error::other)
    })?;
    let most = MOST.to_string();
    let relay = serve_with(
        test,
        kept,
        &[("capacity".into(), guest.address())],
        &["--bitrate".as_ref(), most.as_ref()],
    )?;
    let (front, back) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let server = relay.address();
    let viewer = relay.join_by("capacity", |answer| {
        let (direct, round) = (format!(" {} typ", server.port()), front.local_addr());
        let round = round.map_or(0, |address| address.port());
        answer.replace(&direct, &format!(" {round} typ"))
    })?;
    let viewers_address = viewer.address();
    let wide = Arc::new(AtomicU64::new(1_000_000_000));
    let _up =
        Link::open(front.try_clone()?, back.try_clone()?, move || Some(server), wide, |_| ())?;
    let rate = Arc::new(AtomicU64::new(PHASES[0].0));
    let to = move || Some(viewers_address);
    let down = Link::open(back, front, to, Arc::clone(&rate), |_| ())?;
    let mut viewers = Viewers::default();
    let seeing = Arc::clone(&diary);
    viewers.add(viewer, move |packet| {
        let header = &packet.header;
        let number = numbered::of_last(&packet.payload).filter(|_| header.marker);
        let key = (header.timestamp, number.map(u64::from));
        open(&seeing).note(*packet.seq_no, key, header.marker, packet.payload.len());
    });
    viewers.wait()?;
    step("transom", round, &diary, &rate, &down)
}

/// Has the capacity step, and tells what became of the pictures.
fn step(
    who: &str,
    round: u64,
    diary: &Shared,
    rate: &AtomicU64,
    link: &Link,
) -> Result<Vec<Value>> {
    let (begun, mut lines, mut spans) = (nanos(), Vec::new(), Vec::new());
    for (number, (capacity, length)) in PHASES.into_iter().enumerate() {
        rate.store(capacity, Relaxed);
        let (from, overflowed) = (Instant::now(), link.overflowed());
        let skip = if number == 0 { SETTLE } else { Duration::ZERO };
        let start = nanos() + skip.as_nanos() as u64;
        std::thread::sleep(length.saturating_sub(from.elapsed()));
        spans.push((capacity, start, nanos(), link.overflowed() - overflowed));
    }
    std::thread::sleep(TAIL);
    let diary = open(diary);
    for (number, (capacity, from, to, overflowed)) in spans.into_iter().enumerate() {
        let mut line = diary.judge(from, to, capacity);
        line["what"] = json!(["20 Mb/s", "5 Mb/s", "20 Mb/s again"][number]);
        line["who"] = json!(who);
        line["round"] = json!(round);
        line["overflowed"] = json!(overflowed);
        lines.push(line);
    }
    let series = diary.series(begun, nanos(), BIN);
    lines.push(json!({
        "what": "series", "who": who, "round": round, "bin_ms": BIN.as_millis() as u64,
        "points": series, "told": diary.told(begun),
        "capacity": PHASES.map(|(rate, length)| (rate, length.as_secs_f64())),
    }));
    Ok(lines)
}

/// Encodes pictures at their pace, as the agent does.
fn show(media: &mut Media, pictures: &[Vec<u8>], diary: &Shared) -> Result<()> {
    let size = (WIDTH as u32, HEIGHT as u32);
    let mut tuning = Tuning { bitrate: UNTOLD, fps: RATE as u16 };
    let mut encoder = Encoder::new(Choice::Screen, size, tuning)?;
    let mut picture = Picture::new(size);
    let (mut damage, begun) = (Damage::default(), Instant::now());
    let (mut allowance, mut free) = (Allowance::default(), begun);
    for (number, pixels) in (0u32..).zip(pictures.iter().cycle()) {
        let due = begun + Duration::from_secs(1) * number / RATE;
        let now = Instant::now();
        if now > due + Duration::from_secs(1) / RATE || due < free {
            // The next one is there already, or there is no room yet for one.
            continue;
        }
        std::thread::sleep(due.saturating_duration_since(now));
        let (shown, seen) = (nanos(), clock());
        if let Some(bitrate) = media.bitrate() {
            if tuning.bitrate != bitrate {
                open(diary).tell(shown, bitrate.0);
            }
            tuning.bitrate = bitrate;
            encoder.tune(tuning)?;
        }
        picture.update(Pixels::bgrx(pixels, size.0), None, &mut damage);
        let frame = Frame { picture: &picture, damage: &damage };
        let idr = media.take_idr_wish();
        let mut unit = encoder.encode(Request { frame, idr, time: seen })?;
        damage.clear();
        unit.bytes.extend_from_slice(&numbered::mark(number));
        open(diary).show(number.into(), shown);
        media.send(unit.idr, &unit.bytes)?;
        let sent = Instant::now();
        free = sent + allowance.spend(sent, tuning.bitrate, unit.bytes.len());
    }
    Ok(())
}

/// An address of this machine.
fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// What no link can do better: the distance, and a picture that takes all of the time between two.
pub const fn least_delay() -> Duration {
    Duration::from_nanos(DELAY.as_nanos() as u64 + 1_000_000_000 / RATE as u64)
}
