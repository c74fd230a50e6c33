//! The bytes of every message on diagnostic connections, pinned. A change here is a change of the
//! protocol: append variants, never touch what is pinned.

use std::fmt::{Debug, Write};

use serde::{Serialize, de::DeserializeOwned};
use transom_protocol::diagnostics::*;
use transom_protocol::message::Text;
use transom_protocol::wire::{Message, WireError, decode, decode_hello, encode};
use transom_protocol::{BitRate, Chroma, GuestTime, MAX_MESSAGE};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String succeeds");
        text
    })
}

fn bytes<M: Serialize>(message: &M) -> Vec<u8> {
    let mut out = Vec::new();
    encode(message, 0, &mut out);
    out.split_off(8)
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

fn sample() -> Sample {
    Sample {
        at: GuestTime(1),
        uptime: 2,
        display: Text::new("d"),
        width: 1280,
        height: 720,
        encoder: Text::new("e"),
        watched: true,
        seen_rate: 3,
        encoded_rate: 4,
        bitrate: 5,
        target: BitRate(6),
        frame_rate: 7,
        damage: 8,
        convert: Percentiles { p50: 9, p95: 10, p99: 11 },
        encode: Percentiles { p50: 12, p95: 13, p99: 14 },
        queue: Percentiles { p50: 15, p95: 16, p99: 17 },
        dropped_slow_host: 18,
        capture_errors: 19,
        encode_errors: 20,
        agent_cpu: 21,
        agent_memory: 22,
        guest_cpu: 23,
        processors: 24,
        memory_total: 25,
        memory_available: 26,
        stalled: Some((Text::new("s"), 300)),
    }
}

#[test]
fn requests() {
    let size = TerminalSize { columns: 80, rows: 24 };
    let terminal = Terminal { kind: Text::new("t"), size };
    let unit = LogSource::Journal { unit: Some(Text::new("u")) };
    let logs =
        |source| Request::Logs { source, level: LogLevel(7), since: 300, last: 10, follow: true };
    pin_all(vec![
        (Request::Info, "00"),
        (Request::Doctor, "01"),
        (Request::Stats { interval: 1000, count: 1 }, "02e80701"),
        (logs(LogSource::Kernel), "030107ac020a01"),
        (Request::Screenshot { card: Some(1) }, "040101"),
        (Request::Top { count: 300 }, "05ac02"),
        (Request::Reboot, "06"),
        (Request::RestartCompositor, "07"),
        (Request::Set(Setting::BitRate(BitRate(8_000_000))), "080080a4e803"),
        (
            Request::Shell { command: Some(Line::new("c")), terminal: Some(terminal) },
            "090101630101745018",
        ),
        (Request::Pull { path: Line::new("/p") }, "0a022f70"),
        (Request::Push { path: Line::new("/p"), mode: 0o644, size: 1 << 20 }, "0b022f70a403808040"),
        (Request::Throughput { bytes: 1 << 20 }, "0c808040"),
        (Request::Echo, "0d"),
        (Request::Sink, "0e"),
        (Request::UseGpu, "0f"),
    ]);
    pin(LogSource::Agent, "00");
    pin(unit, "02010175");
    pin(Setting::FrameRate(60), "013c");
    pin(Setting::Encoder(Text::new("e")), "020165");
    pin(Setting::Chroma(Chroma::Yuv444), "0301");
    pin(Request::Shell { command: None, terminal: None }, "090000");
    pin(Request::Screenshot { card: None }, "0400");
}

#[test]
fn from_the_host() {
    pin_all(vec![
        (HostDiagnostics::Request(Request::Info), "0000"),
        (HostDiagnostics::Data, "01"),
        (HostDiagnostics::EndOfData, "02"),
        (HostDiagnostics::Resize(TerminalSize { columns: 300, rows: 24 }), "03ac0218"),
        (HostDiagnostics::Signal(Signal::Interrupt), "0400"),
    ]);
    for (signal, pinned) in [
        (Signal::Interrupt, "00"),
        (Signal::Terminate, "01"),
        (Signal::HangUp, "02"),
        (Signal::Kill, "03"),
        (Signal::Quit, "04"),
    ] {
        pin(signal, pinned);
    }
}

#[test]
fn from_the_guest() {
    let check = Check {
        name: Text::new("n"),
        verdict: Verdict::Warn,
        found: Line::new("f"),
        remedy: Line::new("r"),
    };
    let process =
        Process { pid: 1, user: Text::new("u"), cpu: 2, memory: 3, command: Line::new("c") };
    pin_all(vec![
        (GuestDiagnostics::End(Outcome::Done), "0000"),
        (GuestDiagnostics::Fact { path: Text::new("p"), value: Value::Number(-1) }, "0101700101"),
        (GuestDiagnostics::Check(check), "02016e0201660172"),
        (
            GuestDiagnostics::Sample(Box::new(sample())),
            "0301020164800ad005016501030405060708090a0b0c0d0e0f101112131415161718191a010173ac02",
        ),
        (
            GuestDiagnostics::Record {
                time: 1_000_000,
                level: LogLevel(6),
                origin: Text::new("o"),
                text: Line::new("t"),
            },
            "04c0843d06016f0174",
        ),
        (GuestDiagnostics::RecordsLost(300), "05ac02"),
        (GuestDiagnostics::Picture { width: 1280, height: 720 }, "06800ad005"),
        (GuestDiagnostics::File { size: 300, mode: 0o644 }, "07ac02a403"),
        (GuestDiagnostics::Data, "08"),
        (GuestDiagnostics::ErrorData, "09"),
        (GuestDiagnostics::Process(process), "0a01017502030163"),
        (GuestDiagnostics::Exited(130), "0b8402"),
        (GuestDiagnostics::Unsupported { kind: 9 }, "0c09"),
        (
            GuestDiagnostics::Echo { received: GuestTime(1), sent: GuestTime(2), wall: 300 },
            "0d0102ac02",
        ),
    ]);
    pin(Outcome::Unsupported, "01");
    pin(Outcome::Forbidden { remedy: Line::new("r") }, "020172");
    pin(Outcome::Failed { why: Line::new("w") }, "030177");
    pin(Outcome::Busy, "04");
    pin(Value::Text(Line::new("t")), "000174");
    pin(Value::Flag(true), "0201");
    for (verdict, pinned) in
        [(Verdict::Pass, "00"), (Verdict::Skip, "01"), (Verdict::Warn, "02"), (Verdict::Fail, "03")]
    {
        pin(verdict, pinned);
    }
}

#[test]
fn requests_of_a_newer_host_are_told_apart() {
    let newer = [&[0][..], &[99, 1, 2, 3]].concat();
    assert!(decode::<HostDiagnostics>(&newer).is_err());
    assert_eq!(decode::<Request>(&newer[1..]), Err(WireError::UnknownKind { kind: 99 }));
}

#[test]
fn the_longest_messages_fit() {
    let line = || Line::new("x".repeat(MAX_LINE));
    let text = || Text::new("x".repeat(255));
    let longest = [
        bytes(&GuestDiagnostics::Check(Check {
            name: text(),
            verdict: Verdict::Fail,
            found: line(),
            remedy: line(),
        })),
        bytes(&GuestDiagnostics::Process(Process {
            pid: u32::MAX,
            user: text(),
            cpu: u32::MAX,
            memory: u64::MAX,
            command: line(),
        })),
        bytes(&HostDiagnostics::Request(Request::Shell {
            command: Some(line()),
            terminal: Some(Terminal {
                kind: text(),
                size: TerminalSize { columns: u16::MAX, rows: u16::MAX },
            }),
        })),
    ];
    assert!(longest.iter().all(|message| message.len() <= MAX_MESSAGE as usize));
}
