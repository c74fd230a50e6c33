//! Every message, and the newtypes in them. The conversation they make up stands in the crate's
//! header.
//!
//! postcard numbers variants by position: enums here are append-only and structs never change
//! (see "Versions" there). The bytes of each message are pinned in `tests/golden.rs`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{MAX_TEXT, wire::Message};

/// Nanoseconds of the guest's CLOCK_MONOTONIC. Never subtract it from a [`HostTime`]: the relay
/// estimates the offset from pings first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GuestTime(pub u64);

/// Nanoseconds of a clock that the host chooses; the guest only echoes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostTime(pub u64);

/// Ties the connections of one relay together; drawn at random by the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// One numbered stream on the media connection. 0 is the first display's video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StreamId(pub u8);

impl StreamId {
    /// The video of the first display.
    pub const VIDEO: Self = Self(0);
}

/// Counts the access units of a stream from 0, without gaps for frames dropped before encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FrameNumber(pub u64);

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BitRate(pub u32);

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kb/s", self.0 / 1000)
    }
}

/// A text for people, of at most `MAX` bytes: a version, a device name, a reason.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Text<const MAX: usize = MAX_TEXT>(String);

impl<const MAX: usize> Text<MAX> {
    /// Cuts `text` at `MAX` bytes, on a character's edge.
    pub fn new(text: impl Into<String>) -> Self {
        let mut text = text.into();
        let end = (0..=MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() > MAX { Err("text too long") } else { Ok(Self(text)) }
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a peer sends ends up on terminals and in logs.
        self.0
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .try_for_each(|c| fmt::Write::write_char(f, c))
    }
}

/// What a connection is for. A number rather than an enum, so that an agent can refuse by name
/// the roles that only newer hosts know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Role(pub u16);

impl Role {
    /// Requests and replies; opened first.
    pub const CONTROL: Self = Self(0);
    /// Numbered streams, guest to host; opened second, with the session of the first.
    pub const MEDIA: Self = Self(1);
    /// Input events, so that none waits behind media; with the session of the first.
    /// See [`crate::input`].
    pub const INPUT: Self = Self(2);
    /// One diagnostic request, so that none delays media or input; with any session.
    /// See [`crate::diagnostics`].
    pub const DIAGNOSTICS: Self = Self(3);
}

/// Optional abilities, one bit each; each side uses what both have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// H.264 in Annex B on video streams.
    pub const H264: Self = Self(1);
    /// Connections with [`Role::INPUT`].
    pub const INPUT: Self = Self(2);
    /// Connections with [`Role::DIAGNOSTICS`].
    pub const DIAGNOSTICS: Self = Self(4);
    /// [`HostControl::SetChroma`].
    pub const YUV444: Self = Self(8);
    /// [`HostControl::RequestRefresh`].
    pub const REFRESH: Self = Self(16);
    /// [`HostControl::SetCodec`].
    pub const HEVC: Self = Self(32);

    /// Whether all of `others` are among these.
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// These and `others`.
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

/// "TRSM": refuses a stranger before anything else is read.
pub const MAGIC: [u8; 4] = *b"TRSM";

/// First message on every connection, host to guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostHello {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// Oldest protocol version that the host speaks.
    pub version_min: u16,
    /// Newest protocol version that the host speaks.
    pub version_max: u16,
    /// Ties a relay's connections together.
    pub session: SessionId,
    /// What this connection is for.
    pub role: Role,
    /// What the host can make use of.
    pub capabilities: Capabilities,
    /// Name and version of the host's program.
    pub software: Text,
}

/// The guest's answer to [`HostHello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestHello {
    /// The connection is open.
    Welcome {
        /// The version that both speak from here on.
        version: u16,
        /// What this agent can do.
        capabilities: Capabilities,
        /// The kernel's boot id: a new one means the guest was rebooted.
        boot: [u8; 16],
        /// Name and version of the agent.
        software: Text,
    },
    /// The guest closes the connection behind this.
    Refused(Refusal),
}

/// Why a hello was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No common protocol version.
    #[error("the agent speaks protocol versions {min} to {max} only")]
    Version {
        /// Oldest version of the agent.
        min: u16,
        /// Newest version of the agent.
        max: u16,
    },
    /// The agent does not serve this role.
    #[error("the agent does not serve connections of role {}", .0.0)]
    Role(Role),
    /// A media connection whose session has no control connection.
    #[error("the agent knows no control connection of this session")]
    Session,
    /// Too many connections are open.
    #[error("the agent has too many connections open")]
    Busy,
    /// The hello did not parse.
    #[error("the agent could not read our hello")]
    Malformed,
}

/// Host to guest on the control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostControl {
    /// Answered at once with [`GuestControl::Pong`].
    Ping {
        /// Echoed.
        id: u32,
        /// Echoed.
        sent: HostTime,
    },
    /// The next frame of the stream shall be an IDR, even if nothing changed.
    RequestIdr {
        /// Which stream.
        stream: StreamId,
    },
    /// New target for the encoder, in force from the next frame on, without an IDR. The agent
    /// clamps it to what it can do.
    SetBitrate {
        /// Which stream.
        stream: StreamId,
        /// Target.
        bitrate: BitRate,
    },
    /// Upper bound for frames per second.
    SetFrameRate {
        /// Which stream.
        stream: StreamId,
        /// Frames per second, at least 1.
        fps: u16,
    },
    /// The host closes the session.
    Goodbye,
    /// How much colour those who watch can show, in force from the next frame on, which is an IDR
    /// if that makes a difference. A session begins with 4:2:0, and an agent without
    /// [`Capabilities::YUV444`] knows nothing else. An encoder that cannot do more stays with 4:2:0:
    /// the SPS tells what a stream is.
    SetChroma {
        /// Which stream.
        stream: StreamId,
        /// The most that is wanted.
        chroma: Chroma,
    },
    /// Somebody shall be able to begin with one of the next frames, and it may take some: an encoder
    /// with intra refresh sends a recovery point and then the picture a part at a time, every other
    /// one an IDR. The access units of a refresh are none that [`GuestMedia::AccessUnit`] calls IDRs.
    RequestRefresh {
        /// Which stream.
        stream: StreamId,
    },
    /// What those who watch can decode, in force as soon as an encoder is there for it: that is
    /// [`GuestMedia::StreamStart`], which names the codec of what follows. A session begins with
    /// H.264, and an agent without [`Capabilities::HEVC`] knows nothing else. HEVC is what is
    /// wanted then and no promise: without hardware for it, and while that fails, H.264 is sent.
    SetCodec {
        /// Which stream.
        stream: StreamId,
        /// The one that is wanted.
        codec: Codec,
    },
}

impl Message for HostControl {
    const KINDS: u32 = 8;
}

/// Guest to host on the control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestControl {
    /// Answer to [`HostControl::Ping`].
    Pong {
        /// From the ping.
        id: u32,
        /// From the ping.
        host_sent: HostTime,
        /// When the ping was read.
        received: GuestTime,
        /// When this answer was written.
        sent: GuestTime,
    },
    /// What a stream's display is doing: sent at the start and at every change.
    Display {
        /// Which stream.
        stream: StreamId,
        /// Its state.
        state: DisplayState,
    },
    /// Sent once a second.
    Report(Report),
    /// A message of this kind is not known to the agent and was skipped.
    Unsupported {
        /// The variant's index.
        kind: u32,
    },
    /// The guest closes the session.
    Goodbye(Farewell),
}

impl Message for GuestControl {
    const KINDS: u32 = 5;
}

/// Why the guest closes a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Farewell {
    /// The agent stops: service restart or shutdown.
    Stopping,
    /// A newer session has taken this one's place.
    Replaced,
}

/// What a display is doing. States, not errors: any may follow any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisplayState {
    /// There is no DRM card, or none can be opened.
    NoCard {
        /// Why, if there is more to say than "none there".
        reason: Text,
    },
    /// There is a card, yet no CRTC scans out a framebuffer (VT switch, compositor restart, blank).
    Dark {
        /// The card looked at, or the first of several.
        card: Text,
    },
    /// A picture is there and is captured.
    Lit(Scanout),
    /// A picture is there, but cannot be read.
    Unreadable {
        /// What is scanned out.
        scanout: Scanout,
        /// Why it cannot be read.
        why: Unreadable,
    },
}

/// What a CRTC scans out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanout {
    /// Device path and driver, such as `/dev/dri/card0 (virtio_gpu)`.
    pub card: Text,
    /// Visible width in pixels.
    pub width: u32,
    /// Visible height in pixels.
    pub height: u32,
    /// DRM FourCC of the primary plane's framebuffer.
    pub fourcc: u32,
    /// DRM format modifier; 0 is linear, `u64::MAX >> 8` is unknown.
    pub modifier: u64,
}

/// Why a scanout cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unreadable {
    /// The pixel format is not among those that capture converts.
    Format,
    /// A tiled or compressed buffer, whose bytes are no picture to a CPU.
    Tiled,
    /// The kernel hands out no buffer handle: the agent lacks CAP_SYS_ADMIN.
    NotPermitted,
    /// The buffer cannot be mapped; the kernel's errno.
    Map(i32),
    /// The encoder cannot take pictures of this size.
    Size,
}

/// Counters since the agent started, and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Changed pictures that capture saw.
    pub seen: u64,
    /// Access units encoded.
    pub encoded: u64,
    /// Access units handed to the media connection in full.
    pub sent: u64,
    /// Changed pictures not encoded because the host had not taken the last ones yet.
    pub dropped_slow_host: u64,
    /// Looks at the screen that failed; each is retried.
    pub capture_errors: u64,
    /// Encoder failures; each is followed by a fresh encoder.
    pub encode_errors: u64,
    /// CPU time of the agent in nanoseconds.
    pub cpu: u64,
    /// Resident memory of the agent in bytes.
    pub resident: u64,
}

/// Guest to host on the media connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestMedia {
    /// A stream starts or changes its shape; an IDR follows.
    StreamStart {
        /// Which stream.
        stream: StreamId,
        /// Its shape.
        format: VideoFormat,
    },
    /// One access unit; the bulk is its bytes.
    AccessUnit {
        /// Which stream.
        stream: StreamId,
        /// Its number.
        number: FrameNumber,
        /// Whether it can be decoded without an earlier one.
        idr: bool,
        /// When it passed each stage.
        times: FrameTimes,
        /// Pixels that changed against the frame before.
        damage: u32,
    },
    /// The stream pauses: there is nothing to show.
    StreamStop {
        /// Which stream.
        stream: StreamId,
    },
}

impl Message for GuestMedia {
    const KINDS: u32 = 3;
}

/// Shape of a video stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoFormat {
    /// Codec and byte format of the bulk.
    pub codec: Codec,
    /// Visible width in pixels, even.
    pub width: u32,
    /// Visible height in pixels, even.
    pub height: u32,
}

/// Codec of a video stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Codec {
    /// ITU-T H.264, Annex B byte stream, SPS and PPS before every IDR, BT.709 limited range. 4:2:0,
    /// or 4:4:4 where the host has asked for it.
    H264,
    /// ITU-T H.265 in the Main profile, Annex B byte stream, VPS, SPS and PPS before every IDR, BT.709
    /// limited range, 4:2:0. Sent to hosts alone that have asked for it: [`HostControl::SetCodec`].
    Hevc,
}

/// How much colour a video stream carries (ITU-T H.264, table 6-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Chroma {
    /// 4:2:0: one sample of each chroma for four of luma. Every decoder takes it.
    #[default]
    Yuv420,
    /// 4:4:4: as many as of luma, so that small coloured text stays readable.
    Yuv444,
}

/// When a frame passed each stage of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameTimes {
    /// The new picture was noticed.
    pub seen: GuestTime,
    /// Its damage was known and converted.
    pub converted: GuestTime,
    /// It was encoded.
    pub encoded: GuestTime,
    /// Its first byte was handed to the vsock.
    pub sent: GuestTime,
}
