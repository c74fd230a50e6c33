//! What a lossy way does to pictures: how many are not there, or whole only 100 ms after they were
//! sent. WebRTC with RTX, against GStreamer with RTX and a jitter buffer.
//!
//! Both get the same pictures at the same pace, and the same losses in both directions. A picture
//! counts by its packets, not by whether the one that it refers to was there.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use transom_protocol::message::Codec;
use transom_relay::rtp::Packetizer;
use transom_tests::{Process, Test, free_udp_port};

use super::cores::Kept;
use super::guest::{Guest, nanos, numbered};
use super::lossy::{Gate, Loss, To, Way};
use super::viewer::Viewers;
use super::webrtc::serve;

/// A picture of 8 Mb/s.
const LENGTH: usize = 16_000;
const RATE: u32 = 60;
/// Pictures between IDRs; a newcomer begins at one.
const IDRS: u32 = 120;
const SHARES: [f64; 4] = [0.01, 0.02, 0.05, 0.1];
/// How long it loses.
const INTERVAL: Duration = Duration::from_secs(6);
const SETTLE: Duration = Duration::from_secs(2);
/// What comes later than that is of no use to somebody who plays.
const LATE: u64 = 100_000_000;
/// After it, nothing comes that was not given up.
const TAIL: Duration = Duration::from_secs(1);
const SEED: u64 = 0x5eed;

/// When pictures were sent, and when they were whole at the other end.
#[derive(Default)]
struct Diary {
    sent: HashMap<u32, u64>,
    /// By RTP time: bytes of the slice so far, the number if it is known, and when it was whole.
    got: HashMap<u32, (usize, Option<u32>, Option<u64>)>,
}

type Shared = Arc<Mutex<Diary>>;

fn open(diary: &Shared) -> MutexGuard<'_, Diary> {
    diary.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Diary {
    /// Takes an RTP payload.
    fn note(&mut self, timestamp: u32, payload: &[u8]) {
        const FU_A: u8 = 28;
        let length = match payload.first().map(|header| header & 0x1f) {
            Some(FU_A) => payload.len().saturating_sub(2),
            _ => return,
        };
        let entry = self.got.entry(timestamp).or_insert((0, None, None));
        entry.0 += length;
        entry.1 = entry.1.or(numbered::of_last(payload));
        if entry.0 >= LENGTH && entry.2.is_none() {
            entry.2 = Some(nanos());
        }
    }

    /// How many of the pictures sent in this time were due, lost and late.
    fn judge(&self, from: u64, to: u64) -> (usize, usize, usize) {
        let whole: HashMap<u32, u64> =
            self.got.values().filter_map(|(_, number, at)| number.zip(*at)).collect();
        let due = self.sent.iter().filter(|(_, at)| (from..to).contains(*at));
        let (mut count, mut lost, mut late) = (0, 0, 0);
        for (number, sent) in due {
            count += 1;
            match whole.get(number) {
                None => lost += 1,
                Some(at) if at.saturating_sub(*sent) > LATE => late += 1,
                Some(_) => {}
            }
        }
        (count, lost, late)
    }
}

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let kept = Kept::to_one()?;
    let mut lines = Vec::new();
    for bursty in [false, true] {
        for share in SHARES {
            for (who, run) in [("transom", ours as Run), ("gstreamer", theirs)] {
                let diary = Shared::default();
                let (from, to, overhead) = run(test, &kept, Loss { share, bursty }, &diary)?;
                let (due, lost, late) = open(&diary).judge(from, to);
                let percent = |count: usize| count as f64 * 100.0 / due.max(1) as f64;
                let kind = if bursty { "in bursts" } else { "each by itself" };
                lines.push(json!({
                    "what": format!("{:.0} % {kind}", share * 100.0), "who": who, "pictures": due,
                    "lost_percent": percent(lost), "late_percent": percent(late),
                    "bad_percent": percent(lost + late), "overhead_percent": overhead * 100.0,
                }));
            }
        }
    }
    Ok(lines)
}

/// Yields the span of time in which it lost, and the share of bytes beyond the pictures'.
type Run = fn(&Test, &Kept, Loss, &Shared) -> Result<(u64, u64, f64)>;

fn ours(test: &Test, kept: &Kept, loss: Loss, diary: &Shared) -> Result<(u64, u64, f64)> {
    let sending = Arc::clone(diary);
    let guest = Guest::start(test.socket("lossy"), move |media| {
        let begun = Instant::now();
        for number in 0u32.. {
            let due = begun + Duration::from_secs(1) * number / RATE;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let idr = number % IDRS == 0 || media.take_idr_wish();
            let unit =
                if idr { numbered::idr(number, LENGTH) } else { numbered::unit(number, LENGTH) };
            let at = media.send(idr, &unit)?;
            open(&sending).sent.insert(number, at);
        }
        Ok(())
    })?;
    let relay = serve(test, kept, &[("lossy".into(), guest.address())])?;
    let gate = Arc::<Gate>::default();
    let (front, back) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let server = relay.address();
    let viewer = relay.join_by("lossy", |answer| {
        let (direct, round) = (format!(" {} typ", server.port()), front.local_addr());
        let round = round.map_or(0, |address| address.port());
        answer.replace(&direct, &format!(" {round} typ"))
    })?;
    let known = Arc::<Mutex<Option<SocketAddr>>>::default();
    let _up = Way::open(
        front.try_clone()?,
        back.try_clone()?,
        To::Fixed(server),
        Some(Arc::clone(&known)),
        (loss, SEED),
        Arc::clone(&gate),
    )?;
    let down =
        Way::open(back, front, To::Learned(known), None, (loss, SEED + 1), Arc::clone(&gate))?;
    let mut viewers = Viewers::default();
    let seeing = Arc::clone(diary);
    viewers.add(viewer, move |packet| {
        open(&seeing).note(packet.header.timestamp, &packet.payload);
    });
    viewers.wait()?;
    lose(&gate, &down)
}

/// Loses for a while.
fn lose(gate: &Gate, down: &Way) -> Result<(u64, u64, f64)> {
    std::thread::sleep(SETTLE);
    gate.loses.store(true, Relaxed);
    let (from, bytes) = (nanos(), down.bytes());
    std::thread::sleep(INTERVAL);
    let (to, bytes) = (nanos(), down.bytes() - bytes);
    let pictures = (to - from) as f64 / 1e9 * f64::from(RATE) * LENGTH as f64;
    std::thread::sleep(TAIL);
    Ok((from, to, bytes as f64 / pictures - 1.0))
}

fn theirs(test: &Test, kept: &Kept, loss: Loss, diary: &Shared) -> Result<(u64, u64, f64)> {
    let gate = Arc::<Gate>::default();
    let [input, at_sender, at_receiver, told] =
        [free_udp_port()?, free_udp_port()?, free_udp_port()?, free_udp_port()?];
    // Packets there, reports there, reports back.
    let mut ways = Vec::new();
    let mut way = |to: u16, seed| -> Result<u16> {
        let from = UdpSocket::bind("127.0.0.1:0")?;
        let port = from.local_addr()?.port();
        let (by, to) = (from.try_clone()?, To::Fixed(([127, 0, 0, 1], to).into()));
        ways.push(Way::open(from, by, to, None, (loss, seed), Arc::clone(&gate))?);
        Ok(port)
    };
    let media = way(at_receiver, SEED + 1)?;
    let reports = way(told, SEED + 2)?;
    let back = way(at_sender, SEED)?;
    let out = UdpSocket::bind("127.0.0.1:0")?;
    const CAPS: &str =
        "application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,payload=96";
    const MAP: &str = "payload-type-map=application/x-rtp-pt-map,96=(uint)97";
    let sender = format!(
        "rtpsession name=s rtp-profile=avpf udpsrc port={input} caps={CAPS},ssrc=(uint)7 ! \
         rtprtxsend {MAP} max-size-packets=2048 ! s.send_rtp_sink s.send_rtp_src ! \
         udpsink host=127.0.0.1 port={media} sync=false async=false \
         udpsrc port={at_sender} ! s.recv_rtcp_sink s.send_rtcp_src ! \
         udpsink host=127.0.0.1 port={reports} sync=false async=false"
    );
    let receiver = format!(
        "rtpsession name=s rtp-profile=avpf udpsrc port={at_receiver} caps={CAPS} ! \
         s.recv_rtp_sink s.recv_rtp_src ! rtprtxreceive {MAP} ! rtpssrcdemux ! \
         rtpjitterbuffer do-retransmission=true latency=90 ! \
         udpsink host=127.0.0.1 port={} sync=false async=false \
         udpsrc port={told} ! s.recv_rtcp_sink s.send_rtcp_src ! \
         udpsink host=127.0.0.1 port={back} sync=false async=false",
        out.local_addr()?.port()
    );
    let start = |name: &str, pipeline: &str| {
        let mut command = kept.command("gst-launch-1.0");
        command.arg("-q").args(pipeline.split_whitespace());
        Process::spawn(test, name, command.stdin(Stdio::null()).stdout(Stdio::null()))
    };
    let _receiver = start("gst-receiver", &receiver)?;
    let _sender = start("gst-sender", &sender)?;
    let over = Over::default();
    receive(out, diary, &over)?;
    send(input, diary, &over)?;
    let told = Arc::clone(diary);
    super::wait("GStreamer's first picture", || {
        Ok(open(&told).got.values().any(|g| g.2.is_some()))
    })?;
    let down = ways.first().context("the way down")?;
    lose(&gate, down)
}

/// Ends threads when it is dropped.
#[derive(Default)]
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn receive(socket: UdpSocket, diary: &Shared, over: &Over) -> Result<()> {
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (diary, over) = (Arc::clone(diary), Arc::clone(&over.0));
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while !over.load(Relaxed) {
            let Ok(length) = socket.recv(&mut buffer) else { continue };
            if let [_, _, _, _, a, b, c, d, _, _, _, _, payload @ ..] = &buffer[..length] {
                open(&diary).note(u32::from_be_bytes([*a, *b, *c, *d]), payload);
            }
        }
    });
    Ok(())
}

fn send(port: u16, diary: &Shared, over: &Over) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(("127.0.0.1", port))?;
    let (diary, over) = (Arc::clone(diary), Arc::clone(&over.0));
    std::thread::spawn(move || {
        // As long as the relay's packets for browsers.
        let mut packetizer = Packetizer::new(7, 0, 0, 1152);
        let begun = Instant::now();
        for number in 0u32.. {
            let at = Duration::from_secs(1) * number / RATE;
            std::thread::sleep((begun + at).saturating_duration_since(Instant::now()));
            if over.load(Relaxed) {
                return;
            }
            let unit = numbered::unit(number, LENGTH);
            open(&diary).sent.insert(number, nanos());
            for packet in packetizer.packetize(Codec::H264, &unit, at.as_nanos() as i64).iter() {
                // Before it listens they go nowhere.
                let _ = socket.send(packet);
            }
        }
    });
    Ok(())
}
