//! Diagnostic connections, as both sides read them.

use transom_protocol::diagnostics::{
    Check, GuestDiagnostics, HostDiagnostics, Line, LogLevel, LogSource, MAX_DATA, Outcome,
    Percentiles, Process, Request, Sample, Setting, Signal, Terminal, TerminalSize, Value, Verdict,
};
use transom_protocol::message::Text;
use transom_protocol::wire::Limits;
use transom_protocol::{BitRate, Chroma, GuestTime};

use crate::{encoded, frames, round_trip};

/// What an agent reads from its host.
pub fn from_host(data: &[u8]) {
    for frame in frames(data, Limits::DIAGNOSTICS) {
        assert!(frame.bulk.len() <= MAX_DATA as usize);
        round_trip::<HostDiagnostics>(&frame.message);
    }
}

/// What a host reads from an agent.
pub fn from_guest(data: &[u8]) {
    for frame in frames(data, Limits::DIAGNOSTICS) {
        assert!(frame.bulk.len() <= MAX_DATA as usize);
        round_trip::<GuestDiagnostics>(&frame.message);
    }
}

/// One of each kind.
pub fn host_seeds() -> Vec<Vec<u8>> {
    let size = TerminalSize { columns: 80, rows: 24 };
    let path = || Line::new("/var/log/x");
    let unit = Some(Text::new("transom-kiosk.service"));
    let logs =
        |source| Request::Logs { source, level: LogLevel(7), since: 60, last: 100, follow: true };
    let requests = [
        Request::Info,
        Request::Doctor,
        Request::Stats { interval: 1000, count: 0 },
        logs(LogSource::Agent),
        logs(LogSource::Kernel),
        logs(LogSource::Journal { unit }),
        Request::Screenshot { card: Some(1) },
        Request::Top { count: 20 },
        Request::Reboot,
        Request::RestartCompositor,
        Request::Set(Setting::BitRate(BitRate(1 << 23))),
        Request::Set(Setting::FrameRate(30)),
        Request::Set(Setting::Encoder(Text::new("openh264"))),
        Request::Set(Setting::Chroma(Chroma::Yuv420)),
        Request::Shell {
            command: Some(Line::new("uname -a")),
            terminal: Some(Terminal { kind: Text::new("xterm-256color"), size }),
        },
        Request::Pull { path: path() },
        Request::Push { path: path(), mode: 0o644, size: 1 << 28 },
        Request::Throughput { bytes: 1 << 30 },
        Request::Echo,
        Request::Sink,
        Request::UseGpu,
    ];
    let later = [
        HostDiagnostics::EndOfData,
        HostDiagnostics::Resize(size),
        HostDiagnostics::Signal(Signal::Interrupt),
    ];
    requests
        .map(HostDiagnostics::Request)
        .iter()
        .chain(&later)
        .map(|message| encoded(message, &[]))
        .chain([encoded(&HostDiagnostics::Data, b"ls\n")])
        .collect()
}

/// One of each kind.
pub fn guest_seeds() -> Vec<Vec<u8>> {
    let line = || Line::new("what was found");
    let text = || Text::new("drm.card0");
    let times = Percentiles { p50: 900, p95: 2000, p99: 90_000 };
    let sample = Sample {
        at: GuestTime(1 << 40),
        uptime: 1 << 20,
        display: text(),
        width: 1280,
        height: 720,
        encoder: text(),
        watched: true,
        seen_rate: 60_000,
        encoded_rate: 60_000,
        bitrate: 1 << 23,
        target: BitRate(1 << 23),
        frame_rate: 60,
        damage: 100_000,
        convert: times,
        encode: times,
        queue: times,
        dropped_slow_host: 1,
        capture_errors: 2,
        encode_errors: 3,
        agent_cpu: 100_000,
        agent_memory: 1 << 25,
        guest_cpu: 1_000_000,
        processors: 2,
        memory_total: 1 << 31,
        memory_available: 1 << 30,
        stalled: Some((text(), 3000)),
    };
    let messages = [
        GuestDiagnostics::End(Outcome::Done),
        GuestDiagnostics::End(Outcome::Forbidden { remedy: line() }),
        GuestDiagnostics::End(Outcome::Failed { why: line() }),
        GuestDiagnostics::Fact { path: text(), value: Value::Text(line()) },
        GuestDiagnostics::Fact { path: text(), value: Value::Number(-1) },
        GuestDiagnostics::Fact { path: text(), value: Value::Flag(true) },
        GuestDiagnostics::Check(Check {
            name: text(),
            verdict: Verdict::Warn,
            found: line(),
            remedy: line(),
        }),
        GuestDiagnostics::Sample(Box::new(sample)),
        GuestDiagnostics::Record {
            time: 1 << 50,
            level: LogLevel(4),
            origin: text(),
            text: line(),
        },
        GuestDiagnostics::RecordsLost(300),
        GuestDiagnostics::Picture { width: 1280, height: 720 },
        GuestDiagnostics::File { size: 1 << 28, mode: 0o644 },
        GuestDiagnostics::Process(Process {
            pid: 1,
            user: text(),
            cpu: 100_000,
            memory: 1 << 20,
            command: line(),
        }),
        GuestDiagnostics::Exited(130),
        GuestDiagnostics::Unsupported { kind: 9 },
    ];
    let bulky = [
        GuestDiagnostics::Data,
        GuestDiagnostics::ErrorData,
        GuestDiagnostics::Echo { received: GuestTime(1), sent: GuestTime(2), wall: 1 << 50 },
    ];
    let plain = messages.iter().map(|message| encoded(message, &[]));
    plain.chain(bulky.iter().map(|message| encoded(message, b"bulk bytes"))).collect()
}
