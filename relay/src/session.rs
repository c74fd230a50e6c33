//! One session with an agent, without input or output: frames and `now` in, events and requests
//! out. The conversation stands in the header of `transom_protocol`.
//!
//! ```text
//!   frames ──▶ handle_control, handle_media ──▶ Event
//!   wishes ──▶ request_idr, set_… ───────┐
//!   time   ──▶ handle_timeout ───────────┴────▶ poll_request ──▶ bytes for the guest
//! ```

use std::time::{Duration, Instant};

use transom_protocol::{
    BitRate, Capabilities, Chroma, FrameNumber, MAX_TEXT, Role, SessionId, StreamId, VERSION_MAX,
    VERSION_MIN,
    message::{
        Codec, DisplayState, Farewell, FrameTimes, GuestControl, GuestHello, GuestMedia,
        HostControl, HostHello, MAGIC, Refusal, Report, Text, VideoFormat,
    },
    wire::{self, Frame, WireError},
};

use crate::clock::GuestClock;

/// Pings at the start, so that the first frames already have a clock; a quiet link has its best
/// round trip among the first few.
const BURST: u32 = 8;
/// Between the pings of the burst: far enough that none queues behind another.
const BURST_INTERVAL: Duration = Duration::from_millis(10);
/// Between later pings.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// A guest that says nothing for so long, though it was pinged, is gone. An emulated guest under
/// load is late by less than a second; hypervisors do not always close when a guest is reset.
const SILENCE: Duration = Duration::from_secs(5);
/// At most one IDR request in this time: a lost packet makes every viewer ask at once, and an IDR
/// costs as much as twenty frames.
const IDR_INTERVAL: Duration = Duration::from_millis(250);

/// What the guest said, as far as the relay cares.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// A display changed its state.
    Display(DisplayState),
    /// A stream starts or changes its shape.
    StreamStart(VideoFormat),
    /// A stream pauses.
    StreamStop,
    /// A picture.
    AccessUnit(AccessUnit),
    /// The agent's counters.
    Report(Report),
    /// The agent ends the session.
    Goodbye(Farewell),
}

/// One access unit of the video stream.
#[derive(Debug, PartialEq)]
pub struct AccessUnit {
    /// What it is, as the start of its stream has said.
    pub codec: Codec,
    /// Its number.
    pub number: FrameNumber,
    /// Whether it starts a decoder.
    pub idr: bool,
    /// When it passed each stage in the guest.
    pub times: FrameTimes,
    /// Changed pixels.
    pub damage: u32,
    /// Annex B.
    pub data: Vec<u8>,
}

/// What a welcome says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// What the agent can do beyond the protocol's core.
    pub capabilities: Capabilities,
    /// The kernel's boot id.
    pub boot: [u8; 16],
    /// The agent's name and version.
    pub software: Text,
}

/// Why a session cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The agent said no.
    #[error("{} refused: {why}", role_name(*.role))]
    Refused {
        /// On which connection.
        role: Role,
        /// Its reason.
        why: Refusal,
    },
    /// The agent chose a version that was not offered.
    #[error(
        "the agent chose protocol version {0}, which we did not offer ({VERSION_MIN} to {VERSION_MAX})"
    )]
    Version(u16),
    /// Bytes that are no message.
    #[error("{} sent something unreadable as frame {frame}: {why}", role_name(*.role))]
    Wire {
        /// On which connection.
        role: Role,
        /// The how manieth frame of that connection.
        frame: u64,
        /// What is wrong.
        why: WireError,
    },
    /// Lengths that cannot be.
    #[error("{} cannot be read any further: {why}", role_name(*.role))]
    Unframed {
        /// On which connection.
        role: Role,
        /// What is wrong.
        why: WireError,
    },
    /// No sign of life.
    #[error("the guest has said nothing for {} s", SILENCE.as_secs())]
    Silent,
}

/// The name of a connection, for messages.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::CONTROL => "the control connection",
        Role::MEDIA => "the media connection",
        Role::INPUT => "the input connection",
        Role::DIAGNOSTICS => "the diagnostic connection",
        _ => "an unknown connection",
    }
}

/// The state of one session.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    clock: GuestClock,
    /// Frames taken so far, to name a broken one.
    control_frames: u64,
    media_frames: u64,
    /// Pings sent so far; the next has this id.
    pings: u32,
    next_ping: Instant,
    /// Since when an answer is due.
    waiting_since: Option<Instant>,
    idr: IdrGate,
    /// Somebody shall be able to join, with or without an IDR.
    refresh: bool,
    bitrate: Option<BitRate>,
    /// What the guest was told, and what it is to be told.
    chroma: (Chroma, Chroma),
    codec: (Codec, Codec),
    /// What the stream is.
    format: Codec,
    /// The number that the next access unit should have.
    expected: Option<FrameNumber>,
    /// Nothing is passed on before the first IDR of a stream.
    decodable: bool,
    skipped: u64,
}

/// Lets one request through at a time.
#[derive(Debug, Default)]
struct IdrGate {
    wanted: bool,
    last: Option<Instant>,
}

impl Session {
    /// A session that starts now. `id` is random; `epoch` is the host clock's zero.
    pub fn new(id: SessionId, epoch: Instant, now: Instant) -> Self {
        Self {
            id,
            clock: GuestClock::new(epoch),
            control_frames: 0,
            media_frames: 0,
            pings: 0,
            next_ping: now,
            waiting_since: None,
            idr: IdrGate::default(),
            refresh: false,
            bitrate: None,
            chroma: Default::default(),
            codec: (Codec::H264, Codec::H264),
            format: Codec::H264,
            expected: None,
            decodable: false,
            skipped: 0,
        }
    }

    /// The first bytes on a connection.
    pub fn hello(&self, role: Role) -> Vec<u8> {
        let hello = HostHello {
            magic: MAGIC,
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            session: self.id,
            role,
            capabilities: Capabilities::H264.with(Capabilities::INPUT),
            software: Text::new(concat!("transom ", env!("CARGO_PKG_VERSION"))),
        };
        let mut bytes = Vec::with_capacity(MAX_TEXT);
        wire::encode(&hello, 0, &mut bytes);
        bytes
    }

    /// Reads the answer to a hello.
    ///
    /// # Errors
    ///
    /// A refusal, a version that was not offered, or bytes that are no answer.
    pub fn handle_welcome(&self, role: Role, frame: &Frame) -> Result<Welcome, SessionError> {
        match wire::decode_hello(&frame.message) {
            Ok(GuestHello::Welcome { version, .. })
                if !(VERSION_MIN..=VERSION_MAX).contains(&version) =>
            {
                Err(SessionError::Version(version))
            }
            Ok(GuestHello::Welcome { capabilities, boot, software, .. }) => {
                Ok(Welcome { capabilities, boot, software })
            }
            Ok(GuestHello::Refused(why)) => Err(SessionError::Refused { role, why }),
            Err(why) => Err(SessionError::Wire { role, frame: 0, why }),
        }
    }

    /// Takes a frame of the control connection.
    ///
    /// # Errors
    ///
    /// A message that does not parse.
    pub fn handle_control(
        &mut self,
        now: Instant,
        frame: &Frame,
    ) -> Result<Option<Event>, SessionError> {
        self.control_frames += 1;
        self.waiting_since = self.waiting_since.map(|_| now);
        let message = match wire::decode(&frame.message) {
            Ok(message) => message,
            Err(WireError::UnknownKind { .. }) => return Ok(None), // a newer agent
            Err(why) => {
                let frame = self.control_frames;
                return Err(SessionError::Wire { role: Role::CONTROL, frame, why });
            }
        };
        Ok(match message {
            GuestControl::Pong { id, host_sent, received, sent } => {
                // Only the newest answers the question whether the guest is alive.
                if id.wrapping_add(1) == self.pings {
                    self.waiting_since = None;
                }
                if !self.clock.handle_pong(now, host_sent, received, sent) {
                    log::debug!("pong {id} contradicts itself and is left out");
                }
                None
            }
            GuestControl::Display { stream: StreamId::VIDEO, state } => Some(Event::Display(state)),
            GuestControl::Report(report) => Some(Event::Report(report)),
            GuestControl::Unsupported { kind } => {
                log::debug!("the agent does not know message kind {kind}");
                None
            }
            GuestControl::Goodbye(farewell) => Some(Event::Goodbye(farewell)),
            GuestControl::Display { .. } => None, // a display that we did not ask for
        })
    }

    /// Takes a frame of the media connection.
    ///
    /// # Errors
    ///
    /// A message that does not parse.
    pub fn handle_media(&mut self, frame: Frame) -> Result<Option<Event>, SessionError> {
        self.media_frames += 1;
        let message = match wire::decode(&frame.message) {
            Ok(message) => message,
            Err(WireError::UnknownKind { .. }) => return Ok(None),
            Err(why) => {
                let frame = self.media_frames;
                return Err(SessionError::Wire { role: Role::MEDIA, frame, why });
            }
        };
        Ok(match message {
            GuestMedia::StreamStart { stream: StreamId::VIDEO, format } => {
                (self.decodable, self.expected) = (false, None);
                self.format = format.codec;
                Some(Event::StreamStart(format))
            }
            GuestMedia::AccessUnit { stream: StreamId::VIDEO, number, idr, times, damage } => {
                let codec = self.format;
                let unit = AccessUnit { codec, number, idr, times, damage, data: frame.bulk };
                self.follow(unit).map(Event::AccessUnit)
            }
            GuestMedia::StreamStop { stream: StreamId::VIDEO } => Some(Event::StreamStop),
            _ => None, // another stream
        })
    }

    /// Watches the numbers; a gap, or a start without an IDR, asks for one.
    fn follow(&mut self, unit: AccessUnit) -> Option<AccessUnit> {
        if self.expected.is_some_and(|expected| expected != unit.number) {
            log::warn!(
                "stream 0: access unit {} came where {} was due; asking for an IDR",
                unit.number.0,
                self.expected.map_or(0, |n| n.0)
            );
            self.request_idr();
        }
        self.expected = Some(FrameNumber(unit.number.0.wrapping_add(1)));
        self.decodable |= unit.idr;
        if unit.idr {
            self.idr.wanted = false;
        }
        if !self.decodable {
            self.skipped += 1;
            self.request_idr();
            return None;
        }
        Some(unit)
    }

    /// A viewer wants a fresh start. Requests close to one another are made one.
    pub fn request_idr(&mut self) {
        self.idr.wanted = true;
    }

    /// It is time for a frame that somebody can begin with; an IDR that is wanted anyway is one.
    pub fn request_refresh(&mut self) {
        self.refresh = true;
    }

    /// Sets the encoder's target.
    pub fn set_bitrate(&mut self, bitrate: BitRate) {
        self.bitrate = Some(bitrate);
    }

    /// Says how much colour viewers take; until then, the guest sends 4:2:0.
    pub fn set_chroma(&mut self, chroma: Chroma) {
        self.chroma.1 = chroma;
    }

    /// Says which codec viewers take; until then, the guest sends H.264.
    pub fn set_codec(&mut self, codec: Codec) {
        self.codec.1 = codec;
    }

    /// Appends what is due to `out`.
    ///
    /// # Errors
    ///
    /// [`SessionError::Silent`].
    pub fn poll_request(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), SessionError> {
        if self.waiting_since.is_some_and(|since| now.saturating_duration_since(since) >= SILENCE) {
            return Err(SessionError::Silent);
        }
        if let Some(bitrate) = self.bitrate.take() {
            wire::encode(&HostControl::SetBitrate { stream: StreamId::VIDEO, bitrate }, 0, out);
        }
        if self.chroma.0 != self.chroma.1 {
            self.chroma.0 = self.chroma.1;
            let chroma = self.chroma.1;
            wire::encode(&HostControl::SetChroma { stream: StreamId::VIDEO, chroma }, 0, out);
        }
        if self.codec.0 != self.codec.1 {
            self.codec.0 = self.codec.1;
            let codec = self.codec.1;
            wire::encode(&HostControl::SetCodec { stream: StreamId::VIDEO, codec }, 0, out);
        }
        if self.idr.wanted && self.idr.due().is_none_or(|due| due <= now) {
            self.idr = IdrGate { wanted: false, last: Some(now) };
            wire::encode(&HostControl::RequestIdr { stream: StreamId::VIDEO }, 0, out);
            self.refresh = false;
        }
        if std::mem::take(&mut self.refresh) && !self.idr.wanted {
            wire::encode(&HostControl::RequestRefresh { stream: StreamId::VIDEO }, 0, out);
        }
        if self.next_ping <= now {
            wire::encode(
                &HostControl::Ping { id: self.pings, sent: self.clock.host_time(now) },
                0,
                out,
            );
            self.pings = self.pings.wrapping_add(1);
            self.waiting_since.get_or_insert(now);
            let burst = self.pings < BURST;
            self.next_ping = now + if burst { BURST_INTERVAL } else { PING_INTERVAL };
        }
        Ok(())
    }

    /// When [`Session::poll_request`] wants to be called again, whatever comes in.
    pub fn poll_timeout(&self) -> Instant {
        let idr = if self.idr.wanted { self.idr.due() } else { None };
        let silent = self.waiting_since.map(|since| since + SILENCE);
        [idr, silent].into_iter().flatten().fold(self.next_ping, Instant::min)
    }

    /// The farewell, for an end that the user asked for.
    pub fn goodbye() -> Vec<u8> {
        let mut bytes = Vec::new();
        wire::encode(&HostControl::Goodbye, 0, &mut bytes);
        bytes
    }

    /// What is known about the guest's clock.
    pub fn clock(&self) -> &GuestClock {
        &self.clock
    }

    /// Access units that came before the first IDR of their stream.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

impl IdrGate {
    /// When the next request may go out; `None` is at once.
    fn due(&self) -> Option<Instant> {
        self.last.map(|last| last + IDR_INTERVAL)
    }
}

#[cfg(test)]
mod tests;
