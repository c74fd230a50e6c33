//! The bytes of every message, pinned. A change here is a change of the protocol: append variants,
//! never touch what is pinned.

use std::fmt::{Debug, Write};

use serde::{Serialize, de::DeserializeOwned};
use transom_protocol::input::{Event, Events, GuestInput, HostInput};
use transom_protocol::message::*;
use transom_protocol::wire::{Message, decode, decode_hello, encode};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String succeeds");
        text
    })
}

/// The message's own bytes, behind a prefix that tells its length.
fn bytes<M: Serialize>(message: &M) -> Vec<u8> {
    let mut out = Vec::new();
    encode(message, 7, &mut out);
    let (prefix, body) = out.split_at(8);
    assert_eq!(prefix, [(body.len() as u32).to_le_bytes(), 7u32.to_le_bytes()].concat());
    body.to_vec()
}

fn pin<M: Serialize + DeserializeOwned + PartialEq + Debug>(message: M, pinned: &str) {
    let body = bytes(&message);
    assert_eq!(hex(&body), pinned, "{message:?}");
    assert_eq!(decode_hello::<M>(&body), Ok(message));
}

/// Pins all kinds of an enum, in order and without a gap.
fn pin_all<M: Message + PartialEq + Debug>(all: Vec<(M, &str)>) {
    assert_eq!(all.len() as u32, M::KINDS, "one pinned message for each kind");
    for (kind, (message, pinned)) in all.into_iter().enumerate() {
        let body = bytes(&message);
        assert_eq!(body[0] as usize, kind);
        assert_eq!(hex(&body), pinned, "{message:?}");
        assert_eq!(decode::<M>(&body), Ok(message));
    }
}

fn scanout() -> Scanout {
    Scanout { card: Text::new("c"), width: 1280, height: 720, fourcc: 0x3432_5258, modifier: 0 }
}

fn hello() -> HostHello {
    HostHello {
        magic: MAGIC,
        version_min: 1,
        version_max: 2,
        session: SessionId(0x1234),
        role: Role::MEDIA,
        capabilities: Capabilities::H264,
        software: Text::new("t"),
    }
}

#[test]
fn hellos() {
    pin(hello(), "5452534d0102b42401010174");
    pin(
        GuestHello::Welcome {
            version: 1,
            capabilities: Capabilities::H264,
            boot: *b"0123456789abcdef",
            software: Text::new("a"),
        },
        "000101303132333435363738396162636465660161",
    );
    pin(GuestHello::Refused(Refusal::Version { min: 1, max: 3 }), "01000103");
    pin(GuestHello::Refused(Refusal::Role(Role::DIAGNOSTICS)), "010103");
    pin(GuestHello::Refused(Refusal::Session), "0102");
    pin(GuestHello::Refused(Refusal::Busy), "0103");
    pin(GuestHello::Refused(Refusal::Malformed), "0104");
}

#[test]
fn a_hello_may_grow() {
    let mut body = bytes(&hello());
    body.extend_from_slice(b"fields of a later version");
    assert_eq!(decode_hello::<HostHello>(&body), Ok(hello()));
}

#[test]
fn control_from_the_host() {
    pin_all(vec![
        (HostControl::Ping { id: 300, sent: HostTime(1_000_000) }, "00ac02c0843d"),
        (HostControl::RequestIdr { stream: StreamId::VIDEO }, "0100"),
        (
            HostControl::SetBitrate { stream: StreamId::VIDEO, bitrate: BitRate(8_000_000) },
            "020080a4e803",
        ),
        (HostControl::SetFrameRate { stream: StreamId::VIDEO, fps: 60 }, "03003c"),
        (HostControl::Goodbye, "04"),
        (HostControl::SetChroma { stream: StreamId::VIDEO, chroma: Chroma::Yuv444 }, "050001"),
        (HostControl::RequestRefresh { stream: StreamId::VIDEO }, "0600"),
        (HostControl::SetCodec { stream: StreamId::VIDEO, codec: Codec::Hevc }, "070001"),
    ]);
    pin(Chroma::Yuv420, "00");
}

#[test]
fn control_from_the_guest() {
    pin_all(vec![
        (
            GuestControl::Pong {
                id: 300,
                host_sent: HostTime(1_000_000),
                received: GuestTime(5),
                sent: GuestTime(6),
            },
            "00ac02c0843d0506",
        ),
        (
            GuestControl::Display { stream: StreamId::VIDEO, state: DisplayState::Lit(scanout()) },
            "0100020163800ad005d8a4c9a10300",
        ),
        (
            GuestControl::Report(Report {
                seen: 1,
                encoded: 2,
                sent: 3,
                dropped_slow_host: 4,
                capture_errors: 5,
                encode_errors: 6,
                cpu: 7,
                resident: 8,
            }),
            "020102030405060708",
        ),
        (GuestControl::Unsupported { kind: 9 }, "0309"),
        (GuestControl::Goodbye(Farewell::Replaced), "0401"),
    ]);
}

#[test]
fn display_states() {
    pin(DisplayState::NoCard { reason: Text::new("n") }, "00016e");
    pin(DisplayState::Dark { card: Text::new("c") }, "010163");
    pin(DisplayState::Lit(scanout()), "020163800ad005d8a4c9a10300");
    for (why, pinned) in [
        (Unreadable::Format, "030163800ad005d8a4c9a1030000"),
        (Unreadable::Tiled, "030163800ad005d8a4c9a1030001"),
        (Unreadable::NotPermitted, "030163800ad005d8a4c9a1030002"),
        (Unreadable::Map(-22), "030163800ad005d8a4c9a10300032b"),
        (Unreadable::Size, "030163800ad005d8a4c9a1030004"),
    ] {
        pin(DisplayState::Unreadable { scanout: scanout(), why }, pinned);
    }
    pin(Farewell::Stopping, "00");
}

#[test]
fn media() {
    pin_all(vec![
        (
            GuestMedia::StreamStart {
                stream: StreamId::VIDEO,
                format: VideoFormat { codec: Codec::H264, width: 1280, height: 720 },
            },
            "000000800ad005",
        ),
        (
            GuestMedia::AccessUnit {
                stream: StreamId::VIDEO,
                number: FrameNumber(1000),
                idr: true,
                times: FrameTimes {
                    seen: GuestTime(1),
                    converted: GuestTime(2),
                    encoded: GuestTime(3),
                    sent: GuestTime(128),
                },
                damage: 921_600,
            },
            "0100e80701010203800180a038",
        ),
        (GuestMedia::StreamStop { stream: StreamId::VIDEO }, "0200"),
    ]);
    pin(VideoFormat { codec: Codec::Hevc, width: 1280, height: 720 }, "01800ad005");
}

/// One event of each kind, in the order of their numbers.
fn events() -> Vec<Event> {
    vec![
        Event::Key { code: 28, pressed: true },
        Event::Button { code: 0x110, pressed: false },
        Event::Move { dx: -1, dy: 300 },
        Event::Place { x: 0, y: 65535 },
        Event::Wheel { dx: 0, dy: 120 },
        Event::Touch { finger: 9, x: 1, y: 2 },
        Event::Lift { finger: 9 },
        Event::PadButton { pad: 3, code: 0x130, pressed: true },
        Event::PadAxis { pad: 3, axis: 16, value: -1 },
    ]
}

#[test]
fn input_from_the_host() {
    let batch = Events::batches(&events()).next().expect("one batch");
    pin_all(vec![
        (
            HostInput::Events { number: 300, time: HostTime(1_000_000), events: batch },
            "00ac02c0843d09\
             001c01\
             01900200\
             0201d804\
             0300ffff03\
             0400f001\
             05090102\
             0609\
             0703b00201\
             08031001",
        ),
        (HostInput::ReleaseAll, "01"),
        (HostInput::Plug { pad: 3 }, "0203"),
        (HostInput::Unplug { pad: 0 }, "0300"),
    ]);
}

#[test]
fn input_from_the_guest() {
    pin_all(vec![
        (GuestInput::Ready, "00"),
        (GuestInput::Unusable { why: Text::new("n") }, "01016e"),
        (GuestInput::Written { number: 300, at: GuestTime(5), ignored: 6 }, "02ac020506"),
        (GuestInput::Rumble { pad: 1, strong: 65535, weak: 0, duration: 200 }, "0301ffff0300c801"),
        (GuestInput::Unsupported { kind: 9 }, "0409"),
    ]);
}

#[test]
fn a_batch_is_bounded() {
    let event = Event::Lift { finger: 0 };
    let raw = postcard::to_allocvec(&vec![event; 65]).expect("events serialise");
    assert!(decode_hello::<Events>(&raw).is_err(), "a longer batch from a peer is refused");
    let all = vec![event; 130];
    let lengths: Vec<_> = Events::batches(&all).map(|batch| batch.as_slice().len()).collect();
    assert_eq!(lengths, [64, 64, 2]);
}

#[test]
fn texts_are_bounded_and_tame() {
    let long = <Text>::new("ü".repeat(400));
    assert_eq!(long.as_str().len(), 254, "cut on a character's edge");
    let raw = postcard::to_allocvec(&"x".repeat(300)).expect("strings serialise");
    assert!(decode_hello::<Text>(&raw).is_err(), "an over-long text from a peer is refused");
    assert_eq!(<Text>::new("a\x1b[2Jb\n").to_string(), "a\u{fffd}[2Jb\u{fffd}");
}
