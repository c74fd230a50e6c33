//! What a frame costs the relay: reading it from the wire, cutting it into packets, sending them.
//! Plain timing without a framework, since the figures differ by tens of per cent when they
//! matter. Runs each once when asked to test: `cargo bench -p transom-relay -- --test`.

use std::{
    hint::black_box,
    net::UdpSocket,
    time::{Duration, Instant},
};

use transom_protocol::{
    FrameNumber, GuestTime, StreamId,
    message::{Codec, FrameTimes, GuestMedia},
    wire::{self, Decoder, Limits},
};
use transom_relay::{
    output::udp::{Target, UdpOutput},
    rtp::{DEFAULT_PACKET, Packetizer},
};

/// How long each is repeated.
const TIME: Duration = Duration::from_secs(1);

fn main() {
    // cargo passes --bench for `cargo bench`, and nothing for `cargo test --benches`.
    let args: Vec<String> = std::env::args().collect();
    let once = args.iter().any(|arg| arg == "--test") || !args.iter().any(|arg| arg == "--bench");
    for (name, length) in
        [("P frame, 5 kB", 5_000), ("P frame, 50 kB", 50_000), ("IDR, 390 kB", 390_000)]
    {
        let unit = access_unit(length);
        let framed = framed(&unit);
        measure(once, &format!("decode     {name}"), || decode(&framed));
        let mut packetizer = Packetizer::new(1, 2, 3, DEFAULT_PACKET);
        measure(once, &format!("packetize  {name}"), || {
            packetizer.packetize(Codec::H264, &unit, 0).len()
        });

        let viewer = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = viewer.local_addr().expect("it is bound");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let _inside = runtime.enter();
        let mut output = UdpOutput::open(Target { address }, 1).expect("sockets");
        let packets = packetizer.packetize(Codec::H264, &unit, 0);
        measure(once, &format!("send       {name}"), || {
            runtime.block_on(output.send(&packets, 0..packets.len()));
        });
        assert_eq!(output.dropped(), 0, "loopback takes everything");
    }
}

fn measure<T>(once: bool, name: &str, mut body: impl FnMut() -> T) {
    black_box(body());
    if once {
        return;
    }
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < TIME {
        black_box(body());
        count += 1;
    }
    println!("{name:28} {:8.1} µs", start.elapsed().as_secs_f64() * 1e6 / f64::from(count));
}

/// SPS, PPS and one slice of noise.
fn access_unit(length: usize) -> Vec<u8> {
    let sets = [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0xda, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80];
    let noise = (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 | 1);
    [&sets[..], &[0, 0, 0, 1, 0x65]].concat().into_iter().chain(noise).collect()
}

fn framed(unit: &[u8]) -> Vec<u8> {
    let t = GuestTime(1 << 40);
    let times = FrameTimes { seen: t, converted: t, encoded: t, sent: t };
    let (stream, number) = (StreamId::VIDEO, FrameNumber(1000));
    let message = GuestMedia::AccessUnit { stream, number, idr: true, times, damage: 1 };
    let mut bytes = Vec::new();
    wire::encode(&message, unit.len() as u32, &mut bytes);
    bytes.extend_from_slice(unit);
    bytes
}

fn decode(mut bytes: &[u8]) -> GuestMedia {
    let mut decoder = Decoder::new(Limits::MEDIA);
    loop {
        if let Some(frame) = decoder.poll_frame().expect("it is within the limits") {
            return wire::decode(&frame.message).expect("it is our own");
        }
        let space = decoder.space();
        let count = space.len().min(bytes.len());
        let (now, later) = bytes.split_at(count);
        space[..count].copy_from_slice(now);
        decoder.advance(count);
        bytes = later;
    }
}
