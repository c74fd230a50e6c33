//! The bodies of the fuzz targets, and input to start from. Each takes any bytes; to panic is to
//! have found a bug.

pub mod diagnostics;
pub mod encoder;
pub mod input;
pub mod kernel;
pub mod linear;
pub mod machines;
pub mod reader;
pub mod vaapi;
pub mod web;

use std::time::Instant;

use serde::de::DeserializeOwned;
use transom_protocol::{
    Capabilities, FrameNumber, GuestTime, HostTime, MAX_BULK, MAX_MESSAGE, Role, SessionId,
    StreamId,
    diagnostics::MAX_DATA,
    input::{Event, Events, GuestInput, HostInput},
    message::{
        Codec, DisplayState, Farewell, FrameTimes, GuestControl, GuestHello, GuestMedia,
        HostControl, HostHello, MAGIC, Refusal, Report, Scanout, Text, Unreadable, VideoFormat,
    },
    wire::{self, Decoder, Frame, Limits, Message},
};
use transom_relay::{
    access::{Grant, Role as Allowed, TokenError, TokenId},
    guest::hybrid::{Handshake, MAX_LINE},
    h264::{nal, nal_units},
    rtcp::{self, SenderReport},
    rtp::{HEADER, Packetizer},
    rtsp::{
        connection::{Connection, Door, Guests, Output, Show},
        request::MAX_REQUEST,
    },
    sdp,
    session::Session,
    sets::{self, ParameterSets},
};

/// Name, body and seeds of a target.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All targets.
pub const TARGETS: [Target; 21] = [
    ("encoder", encoder::encoder, encoder::seeds),
    ("still", encoder::still, encoder::still_seeds),
    ("driver_coded", vaapi::coded, vaapi::coded_seeds),
    ("driver_hevc", vaapi::hevc_coded, vaapi::hevc_seeds),
    ("driver_process", vaapi::helper, vaapi::helper_seeds),
    ("linear_view", linear::view, linear::seeds),
    ("wire_guest", wire_guest, guest_seeds),
    ("wire_host", wire_host, host_seeds),
    ("diagnostics_host", diagnostics::from_host, diagnostics::host_seeds),
    ("diagnostics_guest", diagnostics::from_guest, diagnostics::guest_seeds),
    ("reader", reader::reader, reader::seeds),
    ("kernel", kernel::texts, kernel::seeds),
    ("hybrid", hybrid, hybrid_seeds),
    ("rtcp", rtcp, rtcp_seeds),
    ("h264", h264, h264_seeds),
    ("hevc", hevc, vaapi::hevc_seeds),
    ("rtsp", rtsp, rtsp_seeds),
    ("channel", input::channel, input::channel_seeds),
    ("token", web::token, web::token_seeds),
    ("offer", web::offer, web::offer_seeds),
    ("machines", machines::machines, machines::seeds),
];

/// What a host reads from a guest, up to the session. The first byte cuts the stream into pieces.
pub fn wire_guest(data: &[u8]) {
    let now = Instant::now();
    let mut session = Session::new(SessionId(1), now, now);
    for limits in [Limits::MEDIA, Limits::MESSAGES] {
        for frame in frames(data, limits) {
            round_trip::<GuestControl>(&frame.message);
            round_trip::<GuestMedia>(&frame.message);
            round_trip::<GuestInput>(&frame.message);
            let _ = session.handle_welcome(Role::MEDIA, &frame);
            let _ = session.handle_control(now, &frame);
            let _ = session.handle_media(frame);
        }
    }
    let mut requests = Vec::new();
    let _ = session.poll_request(now, &mut requests);
    assert!(requests.len() < 200, "whatever a guest says, it is asked little at a time");
    let _ = session.clock().estimate(now).map(|clock| clock.host_nanos(GuestTime(u64::MAX)));
}

/// What an agent reads from its host.
pub fn wire_host(data: &[u8]) {
    for frame in frames(data, Limits::MESSAGES) {
        assert!(frame.bulk.is_empty());
        round_trip::<HostControl>(&frame.message);
        round_trip::<HostInput>(&frame.message);
        let _ = wire::decode_hello::<HostHello>(&frame.message);
    }
}

/// What a hypervisor answers to CONNECT.
pub fn hybrid(data: &[u8]) {
    let mut handshake = Handshake::default();
    for (i, byte) in data.iter().enumerate() {
        assert!(i < MAX_LINE, "no more than a line is waited for");
        match handshake.handle_byte(*byte) {
            Ok(false) => {}
            Ok(true) => return assert!(data.starts_with(b"OK")),
            Err(e) => return assert!(!e.to_string().contains(char::is_control)),
        }
    }
    assert!(!handshake.handle_end().to_string().contains(char::is_control));
}

/// What receivers send back.
pub fn rtcp(data: &[u8]) {
    let ssrc = data.last_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    assert!(rtcp::feedback(data, ssrc).count() <= data.len());
    let cname = String::from_utf8_lossy(data);
    let wall = std::time::Duration::from_millis(ssrc.into());
    let (timestamp, packets, octets) = (ssrc, ssrc, ssrc);
    let report = SenderReport { ssrc, wall, timestamp, packets, octets, cname: &cname };
    assert_eq!(rtcp::feedback(&report.encode(true), ssrc).count(), 0);
}

/// A guest's H.264 on its way into packets and descriptions. The first byte sets the packet size.
pub fn h264(data: &[u8]) {
    stream_of(Codec::H264, data);
}

/// The same for HEVC.
pub fn hevc(data: &[u8]) {
    stream_of(Codec::Hevc, data);
}

fn stream_of(codec: Codec, data: &[u8]) {
    let Some((first, stream)) = data.split_first() else { return };
    let max = HEADER + 4 + usize::from(*first);
    let mut packetizer = Packetizer::new(1, u16::MAX, u32::MAX, max);
    let packets = packetizer.packetize(codec, stream, i64::from(*first) << 40);
    let markers = packets.iter().filter(|packet| packet[1] & 0x80 != 0).count();
    assert_eq!(markers, usize::from(!packets.is_empty()));
    assert!(packets.iter().all(|packet| packet.len() <= max && packet.len() > HEADER));
    // Of a fragmented unit of HEVC, the header's two bytes become one.
    let own = |unit: &&[u8]| match codec {
        Codec::H264 => (1..24).contains(&nal::kind(unit)),
        Codec::Hevc => unit.len() > 2 && sets::hevc::kind(unit) < 48,
    };
    let payload: usize = nal_units(stream).filter(own).map(<[u8]>::len).sum();
    let sent: usize = packets.iter().map(<[u8]>::len).sum();
    assert!(sent >= payload, "no byte of a unit is lost");
    let mut at = 0;
    while at < packets.len() {
        let (bytes, segment, count) = packets.run(at, packets.len(), 64);
        assert_eq!(bytes.len().div_ceil(segment), count);
        at += count;
    }
    let mut known = ParameterSets::default();
    known.update(codec, stream);
    let target = ([127, 0, 0, 1], 5004).into();
    let session = sdp::Session { id: 1, origin: [127, 0, 0, 1].into(), target, ttl: 1 };
    if let Some(text) = sdp::describe(&session, 0, &known) {
        assert!(text.is_ascii() && text.len() < 4096);
    }
}

/// What a player says. The first byte cuts it into pieces.
pub fn rtsp(data: &[u8]) {
    let Some((piece, said)) = data.split_first() else { return };
    let mut now = Instant::now();
    // Odd cuts find the door locked.
    let door = if piece % 2 == 0 { Door::Open } else { Door::Locked { nonce: "n".into() } };
    let mut connection = Connection::new(1, [127, 0, 0, 1].into(), door, now);
    for bytes in said.chunks(usize::from(*piece).max(1)) {
        assert!(connection.has_room(), "what was said was heard");
        connection.handle_bytes(bytes);
        // Each request has at least some bytes, and each brings about little.
        for count in 0.. {
            assert!(count <= MAX_REQUEST, "it ends");
            match connection.poll_output(now, &House) {
                Output::Send(answer) => {
                    assert!(answer.starts_with(b"RTSP/1.0 ") && answer.len() < 2 * MAX_REQUEST);
                    assert!(answer.windows(4).any(|window| window == b"\r\n\r\n"));
                }
                Output::Play { guest, .. } => {
                    assert_eq!(guest, "doom");
                    connection.handle_played(Ok(()));
                }
                Output::Stop | Output::Feedback(_) => {}
                // Nothing comes to it, but the end of its patience.
                Output::Wait { until, .. } => now = until,
                Output::Timeout(until) => {
                    assert!(until > now);
                    break;
                }
                Output::Close(_) => return,
            }
        }
    }
}

/// One guest that shows something, and one that does not.
struct House;

impl Guests for House {
    fn find(&self, guest: &str) -> Option<Show> {
        let mut sets = ParameterSets::default();
        sets.update(Codec::H264, &[0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0xda, 0, 0, 1, 0x68, 0xce]);
        let sets = match guest {
            "doom" => Some(sets),
            "dark" => None,
            _ => return None,
        };
        let absence = "it is booting".into();
        Some(Show { sets, absence, id: 1, ssrc: 2, ports: (8000, 8001) })
    }

    fn names(&self) -> Vec<String> {
        vec!["doom".into(), "dark".into()]
    }

    fn check(
        &self,
        name: &str,
        _guest: &str,
        proves: &dyn Fn(&str) -> bool,
    ) -> Result<Grant, TokenError> {
        let proven = proves("secret");
        assert!(!proven || name == "name", "an accident that takes 2^128 tries");
        let (id, expires) = (TokenId([0; 8]), u64::MAX);
        let grant = Grant { id, role: Allowed::View, guest: None, expires };
        proven.then_some(grant).ok_or(TokenError::Forged)
    }

    fn still(&self, _grant: &Grant) -> Result<(), TokenError> {
        Ok(())
    }
}

fn rtsp_seeds() -> Vec<Vec<u8>> {
    let session = "Session: 00000000000000011\r\n";
    let request = |method: &str, path: &str, lines: &str| {
        format!("{method} rtsp://h:8554/{path} RTSP/1.0\r\nCSeq: 1\r\n{lines}\r\n")
    };
    let udp = "Transport: RTP/AVP;unicast;client_port=5000-5001\r\n";
    let tcp = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
    let play = |transport| {
        [
            request("OPTIONS", "doom", ""),
            request("DESCRIBE", "doom", "Accept: application/sdp\r\n"),
            request("SETUP", "doom/video", transport),
            request("PLAY", "doom/", session),
            "$\x01\x00\x04abcd".into(),
            request("GET_PARAMETER", "doom/", session),
            request("PAUSE", "doom/", session),
            request("TEARDOWN", "doom/", session),
        ]
        .concat()
    };
    let other = [
        request("DESCRIBE", "dark?token=x", ""),
        request("DESCRIBE", "quake", ""),
        request("SETUP", "doom", "Transport: RTP/SAVP;multicast,RTP/AVP/TCP\r\nRequire: x\r\n"),
        request("SET_PARAMETER", "doom", "Content-Length: 2\r\n") + "ab",
        "OPTIONS * RTSP/2.0\r\nCSeq: 2\r\n\r\n".into(),
    ]
    .concat();
    let shown = "Authorization: Digest username=\"name\", realm=\"transom\", nonce=\"n\", \
                 uri=\"rtsp://h/doom\", qop=auth, nc=00000001, cnonce=\"c\", \
                 response=\"6629fae49393a05397450978507c4ef1\"\r\n";
    let stranger = request("DESCRIBE", "doom", shown) + &request("SETUP", "doom", shown);
    let mut seeds: Vec<_> =
        [play(udp), play(tcp), other].map(|text| [&[200], text.as_bytes()].concat()).to_vec();
    // Before a locked door.
    seeds.push([&[201], stranger.as_bytes()].concat());
    seeds
}

/// Feeds a decoder in pieces and collects what comes out before an error.
fn frames(data: &[u8], limits: Limits) -> Vec<Frame> {
    let Some((piece, mut rest)) = data.split_first() else { return Vec::new() };
    let (mut decoder, mut frames) = (Decoder::new(limits), Vec::new());
    loop {
        match decoder.poll_frame() {
            Ok(Some(frame)) => {
                assert!(frame.message.len() <= MAX_MESSAGE as usize);
                assert!(frame.bulk.len() <= MAX_BULK as usize);
                frames.push(frame);
                continue;
            }
            Ok(None) if rest.is_empty() => return frames,
            Ok(None) => {}
            Err(_) => return frames,
        }
        let space = decoder.space();
        assert!(!space.is_empty(), "a decoder that wants bytes has room for them");
        let first = MAX_DATA as usize;
        assert!(space.len() <= 2 * data.len() + 2 * first, "memory follows what has arrived");
        let count = (usize::from(*piece) * 8 + 1).min(space.len()).min(rest.len());
        space[..count].copy_from_slice(&rest[..count]);
        decoder.advance(count);
        rest = &rest[count..];
    }
}

/// Whatever can be read can be written, and reads the same again.
fn round_trip<M: Message + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &[u8]) {
    if let Ok(read) = wire::decode::<M>(message) {
        let mut bytes = vec![255];
        wire::encode(&read, 0, &mut bytes);
        let again = frames(&bytes, Limits::MESSAGES).remove(0);
        assert_eq!(wire::decode::<M>(&again.message), Ok(read));
    }
}

fn encoded<M: serde::Serialize>(message: &M, bulk: &[u8]) -> Vec<u8> {
    let mut bytes = vec![40];
    wire::encode(message, bulk.len() as u32, &mut bytes);
    bytes.extend_from_slice(bulk);
    bytes
}

fn guest_seeds() -> Vec<Vec<u8>> {
    let stream = StreamId::VIDEO;
    let text = || Text::new("/dev/dri/card0 (virtio_gpu)");
    let scanout = || Scanout { card: text(), width: 1280, height: 720, fourcc: 1, modifier: 0 };
    let state = |state| GuestControl::Display { stream, state };
    let t = GuestTime(1 << 40);
    let times = FrameTimes { seen: t, converted: t, encoded: t, sent: t };
    let format = VideoFormat { codec: Codec::H264, width: 1280, height: 720 };
    let hello = GuestHello::Welcome {
        version: 1,
        capabilities: Capabilities::H264,
        boot: [3; 16],
        software: text(),
    };
    let control = [
        GuestControl::Pong { id: 0, host_sent: HostTime(0), received: t, sent: t },
        state(DisplayState::NoCard { reason: text() }),
        state(DisplayState::Dark { card: text() }),
        state(DisplayState::Lit(scanout())),
        state(DisplayState::Unreadable { scanout: scanout(), why: Unreadable::Map(-1) }),
        GuestControl::Report(Report { seen: 1 << 50, ..Report::default() }),
        GuestControl::Unsupported { kind: 9 },
        GuestControl::Goodbye(Farewell::Replaced),
    ];
    let number = FrameNumber(300);
    let media = [
        GuestMedia::StreamStart { stream, format },
        GuestMedia::AccessUnit { stream, number, idr: true, times, damage: 9 },
        GuestMedia::StreamStop { stream },
    ];
    let input = [
        GuestInput::Ready,
        GuestInput::Unusable { why: text() },
        GuestInput::Written { number: 1 << 20, at: t, ignored: 3 },
        GuestInput::Rumble { pad: 3, strong: 65535, weak: 1, duration: 5000 },
    ];
    let hellos = [hello, GuestHello::Refused(Refusal::Version { min: 1, max: 2 })];
    let (hellos, control, input) = (
        hellos.iter().map(|m| encoded(m, &[])),
        control.iter().map(|m| encoded(m, &[])),
        input.iter().map(|m| encoded(m, &[])),
    );
    let media = media.iter().map(|m| encoded(m, b"bulk bytes"));
    hellos.chain(control).chain(media).chain(input).collect()
}

fn host_seeds() -> Vec<Vec<u8>> {
    let stream = StreamId::VIDEO;
    let hello = HostHello {
        magic: MAGIC,
        version_min: 1,
        version_max: 1,
        session: SessionId(u64::MAX),
        role: Role::CONTROL,
        capabilities: Capabilities::H264,
        software: Text::new("transom 0.1.0"),
    };
    let control = [
        HostControl::Ping { id: 1, sent: HostTime(1 << 40) },
        HostControl::RequestIdr { stream },
        HostControl::SetBitrate { stream, bitrate: transom_protocol::BitRate(8_000_000) },
        HostControl::SetFrameRate { stream, fps: 60 },
        HostControl::Goodbye,
        HostControl::RequestRefresh { stream },
        HostControl::SetCodec { stream, codec: Codec::Hevc },
        HostControl::SetChroma { stream, chroma: transom_protocol::Chroma::Yuv444 },
    ];
    let batch = [
        Event::Key { code: 28, pressed: true },
        Event::Button { code: 0x110, pressed: false },
        Event::Move { dx: i16::MIN, dy: 300 },
        Event::Place { x: 0, y: 65535 },
        Event::Wheel { dx: 0, dy: -120 },
        Event::Touch { finger: 9, x: 1, y: 2 },
        Event::Lift { finger: 255 },
        Event::PadButton { pad: 3, code: 0x130, pressed: true },
        Event::PadAxis { pad: 3, axis: 16, value: -1 },
    ];
    let time = HostTime(1 << 40);
    let input: Vec<_> = Events::batches(&batch)
        .map(|events| HostInput::Events { number: 300, time, events })
        .chain([HostInput::ReleaseAll, HostInput::Plug { pad: 3 }, HostInput::Unplug { pad: 0 }])
        .collect();
    let messages = control.iter().map(|m| encoded(m, &[]));
    let input = input.iter().map(|m| encoded(m, &[]));
    std::iter::once(encoded(&hello, &[])).chain(messages).chain(input).collect()
}

fn hybrid_seeds() -> Vec<Vec<u8>> {
    ["OK 1073741824\n", "OK\r\n", "", "HTTP/1.1 400 Bad Request\r\n"].map(|s| s.into()).into()
}

fn rtcp_seeds() -> Vec<Vec<u8>> {
    let pli = [0x81, 206, 0, 2, 9, 9, 9, 9, 1, 2, 3, 4];
    let fir = [0x84, 206, 0, 4, 9, 9, 9, 9, 0, 0, 0, 0, 1, 2, 3, 4, 7, 0, 0, 0, 1, 2, 3, 4];
    let nack = [0x81, 205, 0, 3, 9, 9, 9, 9, 1, 2, 3, 4, 0, 7, 0, 1, 1, 2, 3, 4];
    let report = [&[0x81, 201, 0, 7, 9, 9, 9, 9, 1, 2, 3, 4][..], &[5; 20], &[1, 2, 3, 4]].concat();
    let compound = [&report[..32], &pli].concat();
    vec![pli.into(), fir.into(), nack.into(), report, compound]
}

fn h264_seeds() -> Vec<Vec<u8>> {
    let sets = [200, 0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0xda, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80];
    let idr = [&sets[..], &[0, 0, 0, 1, 0x65], &[0x88; 900]].concat();
    vec![idr, [&[0, 0, 0, 1, 0x41][..], &[7; 50], &[0, 0, 1, 0x06, 5, 0, 0]].concat(), sets.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// xorshift64*: the same input on every machine.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
        }

        /// Does to a seed what libFuzzer would.
        fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
            let mut data = seeds[self.below(seeds.len())].clone();
            for _ in 0..=self.below(6) {
                let at = self.below(data.len());
                match self.below(6) {
                    0 if !data.is_empty() => data[at] ^= 1 << self.below(8),
                    1 if !data.is_empty() => data[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                    2 => data.truncate(at),
                    3 => data.insert(at, self.below(256) as u8),
                    4 => data.extend((0..self.below(64)).map(|i| (i * 37) as u8)),
                    _ => data.extend_from_slice(&seeds[self.below(seeds.len())][..]),
                }
            }
            data
        }
    }

    #[test]
    fn a_brief_look_finds_nothing() {
        for (name, body, seeds) in TARGETS {
            let (seeds, mut random) = (seeds(), Random(name.len() as u64 + 1));
            seeds.iter().for_each(|seed| body(seed));
            let rounds = match name {
                // Each is dozens of frames, coded and decoded.
                "encoder" | "still" => 400,
                // Each is a conversation over a socket, or several.
                "reader" => 4_000,
                _ => 20_000,
            };
            (0..rounds).for_each(|_| body(&random.mutate(&seeds)));
        }
    }

    #[test]
    fn the_seeds_are_what_they_seem() {
        let parsed =
            |seeds: Vec<Vec<u8>>| seeds.iter().flat_map(|s| frames(s, Limits::MEDIA)).count();
        assert_eq!(parsed(guest_seeds()), 17);
        assert_eq!(parsed(host_seeds()), 13);
        assert_eq!(parsed(diagnostics::host_seeds()), 25);
        assert_eq!(parsed(diagnostics::guest_seeds()), 18);
        assert!(
            rtcp_seeds()
                .iter()
                .all(|s| rtcp::feedback(s, 0x0102_0304).count() == 1 || s.len() > 40)
        );
    }
}
