//! The messages of a connection with [`Role::DIAGNOSTICS`](crate::Role::DIAGNOSTICS): one request
//! and its answer. Whoever wants to know two things opens two connections, so that none waits for
//! another, and no session of a relay is needed: a guest can be looked into while it streams.
//!
//! ```text
//!    host                                                     guest
//! 1. hello with any session ────────────────────────────────▶
//! 2. HostDiagnostics::Request(…) ───────────────────────────▶
//! 3.   ◀──────── GuestDiagnostics::{Fact, Check, Sample, Process, Record, Data, …}, any number
//!    for requests that take input, meanwhile:
//!    HostDiagnostics::{Data, Resize, Signal, EndOfData} ────▶
//! 4.   ◀──────── GuestDiagnostics::End(outcome), then close
//! ```
//!
//! A host that has heard enough closes the connection; the guest then ends what it was doing for
//! it, and a shell's process group with it. A host that reads slowly slows down its own answer
//! alone; of log records the oldest are dropped for it, and it is told how many.
//!
//! Facts are named by dotted paths, so that a newer agent can tell more and an older relay still
//! shows it. What relays compute with has a struct of its own.
//!
//! # Rules for both sides
//!
//! - More than [`MAX_CONNECTIONS`] are refused in the hello, with
//!   [`Refusal::Busy`](crate::message::Refusal::Busy); a request of which the guest serves only so
//!   many at a time ends with [`Outcome::Busy`].
//! - A request of a kind that the guest does not know ends with [`Outcome::Unsupported`], one that
//!   does not parse with [`Outcome::Failed`]. Later messages of a kind that is not known, or with
//!   something in them that is not known, are skipped; the guest says so with
//!   [`GuestDiagnostics::Unsupported`]. Hosts skip what they do not know in silence.
//! - A guest that ends a request early, such as a copy onto a full disk, goes on reading and
//!   discards for up to [`LINGER`] seconds, so that the reason arrives before the connection
//!   breaks. A host that sends looks for [`GuestDiagnostics::End`] meanwhile.
//! - The request has to arrive within [`REQUEST_TIMEOUT`] seconds of the welcome.

use serde::{Deserialize, Serialize};

use crate::{
    message::{BitRate, Chroma, GuestTime, Text},
    wire::Message,
};

/// Longest bulk of a diagnostic message in bytes, either way. Each message costs a few system calls on
/// its way from a file to a file, which are dear in some guests.
pub const MAX_DATA: u32 = 256 * 1024;
/// Longest path, command or log line in bytes.
pub const MAX_LINE: usize = 2048;
/// Diagnostic connections served at a time.
pub const MAX_CONNECTIONS: usize = 8;
/// Most bytes of one [`Request::Throughput`].
pub const MAX_THROUGHPUT: u64 = 1 << 30;
/// How long a guest discards what a host still sends behind the end, in seconds.
pub const LINGER: u32 = 2;
/// How long a guest waits for the request, in seconds.
pub const REQUEST_TIMEOUT: u32 = 5;

/// A path, a command or a line of a log.
pub type Line = Text<MAX_LINE>;

/// Host to guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostDiagnostics {
    /// The first message, and the only one of its kind.
    Request(Request),
    /// Input for the shell, a piece of a file, or what is to be echoed; the bulk is its bytes.
    Data,
    /// There is no more [`HostDiagnostics::Data`]. A shell on a terminal is told by the terminal's
    /// end-of-file character, one on pipes by closing its standard input.
    EndOfData,
    /// The terminal has a new size.
    Resize(TerminalSize),
    /// Send this signal to the shell's foreground process group.
    Signal(Signal),
}

impl Message for HostDiagnostics {
    const KINDS: u32 = 5;
}

/// What the host wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Facts about the guest: [`GuestDiagnostics::Fact`].
    Info,
    /// Named checks, in order: [`GuestDiagnostics::Check`].
    Doctor,
    /// Figures of the stream: [`GuestDiagnostics::Sample`].
    Stats {
        /// Between two samples, in milliseconds, at least 100.
        interval: u32,
        /// How many; 0 is until the host closes.
        count: u32,
    },
    /// Log records: [`GuestDiagnostics::Record`].
    Logs {
        /// Of whom.
        source: LogSource,
        /// Records of this level and graver ones.
        level: LogLevel,
        /// Not older than so many seconds; 0 is all.
        since: u32,
        /// At most so many of the newest; 0 is all.
        last: u32,
        /// Go on with what is written from now on, until the host closes.
        follow: bool,
    },
    /// The scanout as it is, cursor included: [`GuestDiagnostics::Picture`], then
    /// [`GuestDiagnostics::Data`] with its rows.
    Screenshot {
        /// Of `/dev/dri/cardN`; `None`: of the one that is captured.
        card: Option<u8>,
    },
    /// What runs in the guest, most CPU time first: [`GuestDiagnostics::Process`].
    Top {
        /// How many processes.
        count: u16,
    },
    /// Restarts the guest.
    Reboot,
    /// Restarts the compositor.
    RestartCompositor,
    /// Changes a setting of the stream.
    Set(Setting),
    /// Runs a command or an interactive shell: [`GuestDiagnostics::Data`], then
    /// [`GuestDiagnostics::Exited`].
    Shell {
        /// The command line for `/bin/sh -c`; `None`: a login shell.
        command: Option<Line>,
        /// On a terminal of this kind and size; `None`: on pipes.
        terminal: Option<Terminal>,
    },
    /// A file of the guest: [`GuestDiagnostics::File`], then its bytes as
    /// [`GuestDiagnostics::Data`]. Files of the kernel are longer than they say: all was sent when
    /// the outcome is [`Outcome::Done`].
    Pull {
        /// An absolute path.
        path: Line,
    },
    /// A file for the guest: its bytes follow as [`HostDiagnostics::Data`], then
    /// [`HostDiagnostics::EndOfData`]. It appears under its name only when it is complete.
    Push {
        /// An absolute path.
        path: Line,
        /// Permission bits.
        mode: u32,
        /// Its length in bytes.
        size: u64,
    },
    /// Sends so many bytes as [`GuestDiagnostics::Data`], to measure the way.
    Throughput {
        /// At most [`MAX_THROUGHPUT`].
        bytes: u64,
    },
    /// Answers each [`HostDiagnostics::Data`] with [`GuestDiagnostics::Echo`] and the same bytes,
    /// until [`HostDiagnostics::EndOfData`]: to measure round trips and the guest's clocks.
    Echo,
    /// Discards [`HostDiagnostics::Data`] until [`HostDiagnostics::EndOfData`], to measure the way
    /// into the guest.
    Sink,
    /// Takes the host's GPU libraries into use that were pushed to [`gpu::FOLDER`](crate::gpu::FOLDER):
    /// removes what the list there does not have, tells the linker, looks for encoders again.
    /// Answered by facts.
    UseGpu,
}

impl Message for Request {
    const KINDS: u32 = 16;
}

/// Whose log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogSource {
    /// The agent's own records since it started, journal or not.
    Agent,
    /// The kernel's ring buffer.
    Kernel,
    /// The system's journal, or one unit of it.
    Journal {
        /// Such as `transom-kiosk.service`.
        unit: Option<Text>,
    },
}

/// How grave a record is, as syslog(3) counts: 0 emergency … 7 debug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogLevel(pub u8);

/// A setting that takes effect at once and lasts until the agent restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    /// Target of the encoder.
    BitRate(BitRate),
    /// Most frames per second.
    FrameRate(u16),
    /// Which encoder, by its name.
    Encoder(Text),
    /// The most colour that streams may have, whatever those who watch can show; 4:4:4 at first.
    Chroma(Chroma),
}

/// A terminal for a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// The value of `TERM`.
    pub kind: Text,
    /// Its size.
    pub size: TerminalSize,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Characters in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// Signals that a host may send, by their meaning rather than by a platform's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP.
    HangUp,
    /// SIGKILL.
    Kill,
    /// SIGQUIT.
    Quit,
}

/// Guest to host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestDiagnostics {
    /// Nothing more comes.
    End(Outcome),
    /// One fact.
    Fact {
        /// Such as `drm.card0.driver`: parts of letters, digits, `_` and `-`.
        path: Text,
        /// What is so.
        value: Value,
    },
    /// One check.
    Check(Check),
    /// Figures of the stream.
    Sample(Box<Sample>),
    /// A log record.
    Record {
        /// When, in microseconds since 1970 by the guest's clock.
        time: u64,
        /// How grave.
        level: LogLevel,
        /// Who wrote it: `kernel`, a unit, a module of the agent.
        origin: Text,
        /// What it says.
        text: Line,
    },
    /// The host read too slowly: so many records are missing here.
    RecordsLost(u64),
    /// A picture follows as [`GuestDiagnostics::Data`]: rows without gaps, three bytes a pixel,
    /// red first.
    Picture {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// A file follows.
    File {
        /// Its length in bytes.
        size: u64,
        /// Permission bits.
        mode: u32,
    },
    /// The bulk is bytes of what was asked for.
    Data,
    /// The bulk is what a command without a terminal wrote to its standard error.
    ErrorData,
    /// One process.
    Process(Process),
    /// The command ended; its status as a shell tells it (128 + n for signal n).
    Exited(i32),
    /// A message of this kind is not known to the agent and was skipped.
    Unsupported {
        /// The variant's index.
        kind: u32,
    },
    /// The bulk is what the host sent.
    Echo {
        /// When it was read.
        received: GuestTime,
        /// When this was written.
        sent: GuestTime,
        /// What the guest's wall clock said then, in microseconds since 1970.
        wall: u64,
    },
}

impl Message for GuestDiagnostics {
    const KINDS: u32 = 14;
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// All was said or done.
    Done,
    /// This agent does not know the request.
    Unsupported,
    /// The guest's configuration does not allow it.
    Forbidden {
        /// How to allow it.
        remedy: Line,
    },
    /// It did not work.
    Failed {
        /// Why, and what helps.
        why: Line,
    },
    /// The guest serves as many requests of this kind as it does at a time.
    Busy,
}

/// A fact's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// Words.
    Text(Line),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

/// One named check of a doctor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// A short name in words with dashes, such as `crtc-lit`: stable, for scripts.
    pub name: Text,
    /// How it went.
    pub verdict: Verdict,
    /// What was found, in a sentence.
    pub found: Line,
    /// What to do about it; empty when all is well.
    pub remedy: Line,
}

/// How a check went, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Not looked at, since it depends on something that is missing.
    Skip,
    /// It works, with a blemish.
    Warn,
    /// It does not work.
    Fail,
}

/// Figures of the stream, over the last seconds where they are rates or percentiles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was taken.
    pub at: GuestTime,
    /// How long the agent runs, in milliseconds.
    pub uptime: u64,
    /// What the display does, in words: `lit`, or why there is no picture.
    pub display: Text,
    /// Visible size of the captured scanout in pixels; 0 when there is none.
    pub width: u32,
    /// The same.
    pub height: u32,
    /// The encoder in use, or the one that a viewer would get: `screen`, `vaapi (radeonsi)`.
    pub encoder: Text,
    /// Whether a host takes media.
    pub watched: bool,
    /// Pictures in a second that capture saw changed, in thousandths.
    pub seen_rate: u32,
    /// Access units in a second, in thousandths.
    pub encoded_rate: u32,
    /// Bits in a second.
    pub bitrate: u64,
    /// The encoder's target.
    pub target: BitRate,
    /// Upper bound for frames per second.
    pub frame_rate: u16,
    /// Share of the picture that changed, per frame on average, in millionths.
    pub damage: u32,
    /// From seen to converted.
    pub convert: Percentiles,
    /// From converted to encoded.
    pub encode: Percentiles,
    /// From encoded to sent.
    pub queue: Percentiles,
    /// Since the agent started: pictures not encoded because the host was slow.
    pub dropped_slow_host: u64,
    /// Since the agent started: looks at the screen that failed.
    pub capture_errors: u64,
    /// Since the agent started: encoders lost.
    pub encode_errors: u64,
    /// CPU time of the agent in the last second, in millionths of one processor.
    pub agent_cpu: u32,
    /// Resident memory of the agent in bytes.
    pub agent_memory: u64,
    /// CPU time of the whole guest in the last second, in millionths of one processor.
    pub guest_cpu: u32,
    /// Processors of the guest.
    pub processors: u16,
    /// Memory of the guest in bytes.
    pub memory_total: u64,
    /// Memory that is left to the guest in bytes.
    pub memory_available: u64,
    /// The stage that does not move any more, and for how many milliseconds.
    pub stalled: Option<(Text, u64)>,
}

/// Percentiles of a time in microseconds; all zero when there was nothing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// The median.
    pub p50: u32,
    /// 19 of 20 are below.
    pub p95: u32,
    /// 99 of 100 are below.
    pub p99: u32,
}

/// One process of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Whose it is.
    pub user: Text,
    /// CPU time over the time it was watched, in millionths of one processor.
    pub cpu: u32,
    /// Resident memory in bytes.
    pub memory: u64,
    /// Its command line.
    pub command: Line,
}
