//! One WebRTC connection, without input or output: str0m's machine, and what of it we use.
//!
//! ```text
//!   offer ──▶ accept ──▶ answer
//!   datagrams, time ──▶ handle_*  ─┐
//!   pictures, messages ──▶ write_* ┴──▶ poll ──▶ datagrams, events, when to poll again
//! ```
//!
//! We are ICE-lite: the viewer comes to our one address. RTP is packed by ourselves and once for
//! all; str0m encrypts it, answers NACKs by RTX and estimates the bandwidth.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use str0m::{
    Candidate, Event, IceConnectionState, Input, Output, PacerReason, Reason, Rtc, RtcError,
    bwe::{Bitrate, BweKind},
    change::SdpOffer,
    channel::ChannelId,
    config::DtlsCert,
    media::{MediaTime, Mid, Pt},
    net::{Protocol, Receive},
    rtp::{Extension, ExtensionMap, ExtensionValues, RtpWrite, SeqNo},
};

use transom_protocol::Chroma;

use super::{packets::Cut, socket::Outgoing};
use crate::{feed::colour::Takes, h264::HIGH_444};

/// The estimate before there is one: what a local network and most homes carry. It is corrected
/// within a second; starting low would make the first picture late.
const FIRST_ESTIMATE: Bitrate = Bitrate::mbps(10);

/// Upper end of the playout delay that a viewer may choose, in 10 ms. Anything above 0 together
/// with a lower end of 0 turns on Chromium's low-latency rendering; this much lets it wait for a
/// retransmission.
const MAX_PLAYOUT_DELAY: u64 = 10;

/// Pictures from one that tells the delay to the next, besides IDRs. A receiver keeps what it was told,
/// and packets of different lengths do not leave in one system call.
const DELAY_INTERVAL: u32 = 64;

/// Between looks at loss and round trips.
const WAY_INTERVAL: Duration = Duration::from_millis(200);

/// What is kept for retransmission. Who misses a packet for longer has asked for an IDR by then; and
/// each packet costs each viewer's session half a kilobyte beside the payload that all share.
const RTX_PACKETS: usize = 2048;
const RTX_AGE: Duration = Duration::from_secs(1);

/// Of what is sent, what is sent again may be so much; beyond, it would keep a way full that is.
/// One packet in six, and some of them several times.
const RTX_SHARE: f32 = 0.3;

/// str0m looks at its budgets and estimates every 25 to 40 ms, for each of its parts at another time.
/// Such looks wait so long for the next picture or datagram, with which they cost no turn of their
/// own: at 30 pictures a second and more that saves half of a session's turns.
const LENIENCE: Duration = Duration::from_millis(20);

/// Two packets of one moment are at least a microsecond apart to str0m.
const PACKET: Duration = Duration::from_micros(2);

/// Nothing waits so soon after the way was tried with padding, whose packets have to be on time.
const TRIAL: Duration = Duration::from_millis(100);

/// Profiles whose decoders take Constrained Baseline as well, in the order of liking.
const BASELINE: u32 = 0x42_00_00;
const MAIN: u32 = 0x4d_00_00;
const HIGH: u32 = 0x64_00_00;
/// High 4:4:4 Predictive.
const FULL: u32 = (HIGH_444 as u32) << 16;

/// Why an offer is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Not SDP, or not of WebRTC.
    #[error("this is no SDP offer of WebRTC: {0}")]
    Malformed(String),
    /// Nothing to show it on.
    #[error("the offer receives no video: it needs a video section that is recvonly or sendrecv")]
    NoVideo,
    /// No common codec.
    #[error(
        "the offer has no H.264 of packetization-mode 1 and profile {0:06x}, which the guest sends"
    )]
    NoCodec(u32),
}

/// The data channels of our page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// States and figures, as JSON; and wishes.
    Status,
    /// Keys, pointer, gamepads.
    Input,
}

/// What a connection tells.
#[derive(Debug, PartialEq)]
pub enum Told {
    /// Media can flow.
    Connected,
    /// The viewer wants an IDR.
    WantsIdr,
    /// What its network carries by the estimator, in bits per second.
    Carries(u64),
    /// The share of packets that its network lost within the last second, and how long the newest
    /// one took there and back.
    Way(f32, Duration),
    /// A data channel of ours is open.
    Opened(Channel),
    /// A message on one; whether it is binary.
    Message(Channel, bool, Vec<u8>),
    /// The viewer said goodbye, or is lost.
    Closed,
}

/// The connection.
pub struct Peer {
    rtc: Rtc,
    local: SocketAddr,
    fragment: String,
    mid: Mid,
    pt: Pt,
    /// The payload type of 4:4:4, if the viewer takes that, too.
    full_pt: Option<Pt>,
    /// The payload types of what is sent again.
    resent: [Option<Pt>; 2],
    sequence: u64,
    /// Pictures written so far.
    pictures: u32,
    status: Option<ChannelId>,
    input: Option<ChannelId>,
    /// The newest time that the machine was told; it takes none before.
    clock: Instant,
    /// Until then everything is on time.
    exact_until: Instant,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("local", &self.local).finish_non_exhaustive()
    }
}

impl Peer {
    /// Answers an offer. `profile_level_id` is that of the stream in 4:2:0, `local` where viewers
    /// reach us. 4:4:4 gets a payload type of its own where the offer has it.
    ///
    /// # Errors
    ///
    /// See [`OfferError`].
    pub fn accept(
        offer: &str,
        profile_level_id: u32,
        local: SocketAddr,
        certificate: &DtlsCert,
        now: Instant,
    ) -> Result<(Self, String), OfferError> {
        // str0m promises not to panic; but what it reads here comes from anybody, and there are
        // assertions on its way that a hostile offer might reach.
        let taken = catch_unwind(AssertUnwindSafe(|| {
            Self::accept_unguarded(offer, profile_level_id, local, certificate, now)
        }));
        taken.unwrap_or_else(|_| Err(OfferError::Malformed("it contradicts itself".into())))
    }

    fn accept_unguarded(
        offer: &str,
        profile_level_id: u32,
        local: SocketAddr,
        certificate: &DtlsCert,
        now: Instant,
    ) -> Result<(Self, String), OfferError> {
        let malformed = |e: &dyn std::fmt::Display| OfferError::Malformed(e.to_string());
        let offer = SdpOffer::from_sdp_string(offer).map_err(|e| malformed(&e))?;
        let mut config = Rtc::builder()
            .set_ice_lite(true)
            .clear_codecs()
            .set_rtp_mode(true)
            .enable_bwe(Some(FIRST_ESTIMATE))
            .set_stats_interval(Some(WAY_INTERVAL))
            .set_dtls_cert(certificate.clone())
            .set_extension_map(extensions());
        let full = FULL | (profile_level_id & 0xff);
        for (i, profile) in profiles(profile_level_id).chain([full]).enumerate() {
            let pt = 96 + 2 * i as u8;
            config.codec_config().add_h264(pt.into(), Some((pt + 1).into()), true, profile);
        }
        let mut rtc = config.build(now);
        let candidate = Candidate::host(local, "udp").map_err(|e| malformed(&e))?;
        rtc.add_local_candidate(candidate);
        let answer = rtc.sdp_api().accept_offer(offer).map_err(|e| malformed(&e))?;
        let fragment = rtc.direct_api().local_ice_credentials().ufrag;
        // What goes out before the connection stands is nothing; but the machine is to be drained.
        while !matches!(rtc.poll_output().map_err(|e| malformed(&e))?, Output::Timeout(_)) {}
        let answer = with_formats(&answer.to_sdp_string());
        let mid = video_mids(&answer)
            .find(|&mid| rtc.media(mid).is_some_and(|media| media.direction().is_sending()))
            .ok_or(OfferError::NoVideo)?;
        let pts = rtc.media(mid).map(|media| media.remote_pts().to_vec()).unwrap_or_default();
        // Ours are in the order of our liking.
        let agreed = |full: bool| {
            let is_full = |id: Option<u32>| id.is_some_and(|id| id & 0xff_00_00 == FULL);
            let mut all = rtc.codec_config().iter().filter(|params| pts.contains(&params.pt()));
            all.find(|params| is_full(params.spec().format.profile_level_id) == full)
        };
        let params = agreed(false).ok_or(OfferError::NoCodec(profile_level_id))?;
        let full = agreed(true);
        let (pt, full_pt) = (params.pt(), full.map(|params| params.pt()));
        let resent = [params.resend(), full.and_then(|params| params.resend())];
        let mut direct = rtc.direct_api();
        let stream = direct.stream_tx_by_mid(mid, None).ok_or(OfferError::NoVideo)?;
        // Pictures are paced by the session, which knows them whole.
        stream.set_unpaced(true);
        stream.set_rtx_cache(RTX_PACKETS, RTX_AGE, Some(RTX_SHARE));
        // Below 2^15, so that a receiver cannot mistake the first wrap-around.
        let sequence = getrandom::u32().unwrap_or(1) & 0x7fff;
        let peer = Self {
            rtc,
            local,
            fragment,
            mid,
            pt,
            full_pt,
            resent,
            sequence: sequence.into(),
            pictures: 0,
            status: None,
            input: None,
            clock: now,
            exact_until: now,
        };
        Ok((peer, answer))
    }

    /// Whether the viewer takes 4:4:4, too.
    pub fn takes(&self) -> Takes {
        if self.full_pt.is_some() { Takes::Full } else { Takes::Halved }
    }

    /// What STUN requests call this session.
    pub fn fragment(&self) -> &str {
        &self.fragment
    }

    /// Takes a datagram; `false` if it is not this viewer's.
    ///
    /// # Errors
    ///
    /// The connection cannot go on.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        bytes: &[u8],
    ) -> Result<bool, RtcError> {
        let Ok(contents) = bytes.try_into() else { return Ok(false) };
        let receive = Receive { proto: Protocol::Udp, source, destination: self.local, contents };
        self.clock = self.clock.max(now);
        let input = Input::Receive(self.clock, receive);
        if !self.rtc.accepts(&input) {
            return Ok(false);
        }
        self.rtc.handle_input(input)?;
        Ok(true)
    }

    /// Time has passed.
    ///
    /// # Errors
    ///
    /// The connection cannot go on.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), RtcError> {
        self.clock = self.clock.max(now);
        self.rtc.handle_input(Input::Timeout(self.clock))
    }

    /// Queues some packets of a picture; [`Peer::handle_timeout`] and [`Peer::poll`] send them.
    pub fn write_packets(&mut self, cut: &Cut, packets: std::ops::Range<usize>) {
        let pt = match cut.picture().chroma {
            Chroma::Yuv420 => self.pt,
            // The feed hands out none to those who do not take it.
            Chroma::Yuv444 => self.full_pt.unwrap_or(self.pt),
        };
        let tells_delay = self.pictures.is_multiple_of(DELAY_INTERVAL) || cut.picture().unit.idr;
        if packets.start == 0 {
            self.pictures = self.pictures.wrapping_add(1);
        }
        let mid = self.mid;
        let last = cut.payloads.len().saturating_sub(1);
        let mut direct = self.rtc.direct_api();
        let Some(stream) = direct.stream_tx_by_mid(mid, None) else { return };
        for i in packets {
            let Some(payload) = cut.payloads.get(i) else { return };
            let mut extensions = ExtensionValues::default();
            if i == 0 && tells_delay {
                extensions.play_delay_min = Some(MediaTime::from_hundredths(0));
                extensions.play_delay_max = Some(MediaTime::from_hundredths(MAX_PLAYOUT_DELAY));
            }
            let (sequence, at) = (SeqNo::from(self.sequence), cut.picture().received);
            self.sequence += 1;
            stream.write_rtp(
                RtpWrite::new(pt, sequence, cut.timestamp, at, payload.clone())
                    .marker(i == last)
                    .nackable(true)
                    .ext_vals(extensions),
            );
        }
    }

    /// Whether a datagram of ours sends packets again, or fills the way like that.
    pub fn is_resent(&self, datagram: &[u8]) -> bool {
        let pt = match datagram {
            [128..=191, pt, ..] => pt & 0x7f,
            _ => return false,
        };
        self.resent.iter().flatten().any(|resent| **resent == pt)
    }

    /// Queues a message; `false` if the channel is not open or full.
    pub fn write_message(&mut self, channel: Channel, binary: bool, message: &[u8]) -> bool {
        let id = match channel {
            Channel::Status => self.status,
            Channel::Input => self.input,
        };
        let channel = id.and_then(|id| self.rtc.channel(id));
        channel.is_some_and(|mut channel| channel.write(binary, message).unwrap_or(false))
    }

    /// Says what could be sent, so that the estimate grows up to it.
    pub fn wish(&mut self, bitrate: u64) {
        self.rtc.bwe().set_desired_bitrate(Bitrate::bps(bitrate));
    }

    /// Has the bandwidth estimate begin anew, from so many bits per second.
    pub fn start_over(&mut self, bitrate: u64) {
        self.rtc.bwe().reset(Bitrate::bps(bitrate));
    }

    /// Begins the end; what [`Peer::poll`] yields from here on says goodbye.
    pub fn close(&mut self) {
        if let Err(e) = self.rtc.close() {
            log::debug!("closing a WebRTC session: {e}");
        }
    }

    /// Whether it can still become anything.
    pub fn is_alive(&self) -> bool {
        self.rtc.is_alive()
    }

    /// All that is to be sent and told now, and when to come again.
    ///
    /// # Errors
    ///
    /// The connection cannot go on.
    pub fn poll(
        &mut self,
        now: Instant,
        outgoing: &mut Vec<Outgoing>,
        told: &mut Vec<Told>,
    ) -> Result<Instant, RtcError> {
        let mut sent = false;
        self.clock = self.clock.max(now);
        loop {
            match self.rtc.poll_output()? {
                // Its pacer holds none of our packets back; yet behind each it wants time to have
                // passed, a microsecond, before it yields the next. Waiting for that would take a
                // turn and, by the timer's resolution, a millisecond for each packet.
                Output::Timeout(at) if sent && at <= self.clock + PACKET => {
                    sent = false;
                    self.clock = self.clock.max(at);
                    self.rtc.handle_input(Input::Timeout(self.clock))?;
                }
                Output::Timeout(at) => return Ok(self.turn_at(at)),
                Output::Transmit(transmit) => {
                    sent = true;
                    outgoing.push(Outgoing {
                        destination: transmit.destination,
                        source: transmit.source,
                        bytes: transmit.contents.into(),
                    });
                }
                Output::Event(event) => told.extend(self.event(event)),
            }
        }
    }

    /// When to come again for what is due at `at`.
    fn turn_at(&mut self, at: Instant) -> Instant {
        use PacerReason::{Handle, Padding, Probe1, Probe2};
        match self.rtc.last_timeout_reason() {
            Reason::Pacer(Probe1 | Probe2 | Padding) => {
                self.exact_until = at + TRIAL;
                at
            }
            Reason::Nack | Reason::Pacer(Handle) | Reason::BweDelayControl | Reason::Stats
                if at > self.exact_until =>
            {
                at + LENIENCE
            }
            _ => at,
        }
    }

    fn event(&mut self, event: Event) -> Option<Told> {
        Some(match event {
            Event::Connected => Told::Connected,
            Event::KeyframeRequest(_) => Told::WantsIdr,
            Event::EgressBitrateEstimate(BweKind::Twcc { estimate, .. }) => {
                Told::Carries(estimate.as_u64())
            }
            Event::EgressBitrateEstimate(BweKind::Remb { estimate, .. }) => {
                Told::Carries(estimate.as_u64())
            }
            Event::PeerStats(stats) => {
                Told::Way(stats.egress_loss_fraction.unwrap_or(0.0), stats.rtt?)
            }
            Event::ChannelOpen(id, label) => match label.as_str() {
                "status" => {
                    self.status = Some(id);
                    Told::Opened(Channel::Status)
                }
                "input" => {
                    self.input = Some(id);
                    Told::Opened(Channel::Input)
                }
                _ => return None,
            },
            Event::ChannelData(data) if Some(data.id) == self.status => {
                Told::Message(Channel::Status, data.binary, data.data)
            }
            Event::ChannelData(data) if Some(data.id) == self.input => {
                Told::Message(Channel::Input, data.binary, data.data)
            }
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) | Event::Closed => {
                Told::Closed
            }
            _ => return None,
        })
    }
}

/// An answer whose refused sections name a format, as the grammar wants it: str0m names none where
/// it knows none, and Chromium then refuses the whole.
fn with_formats(answer: &str) -> String {
    let fill = |line: &str| {
        let empty = line.starts_with("m=") && line.split_whitespace().count() < 4;
        format!("{}{}\r\n", line.trim_end(), if empty { " 0" } else { "" })
    };
    answer.lines().map(fill).collect()
}

/// The names of an answer's video sections. The machine tells of them only once it is connected.
fn video_mids(answer: &str) -> impl Iterator<Item = Mid> {
    let mut is_video = false;
    answer.lines().filter_map(move |line| {
        if let Some(section) = line.strip_prefix("m=") {
            is_video = section.starts_with("video ");
        }
        line.strip_prefix("a=mid:").filter(|_| is_video).map(|mid| Mid::from(mid.trim()))
    })
}

/// The stream's own profile and level first, then those whose decoders take it too.
fn profiles(profile_level_id: u32) -> impl Iterator<Item = u32> {
    // constraint_set1_flag together with profile 66 is Constrained Baseline.
    let constrained = profile_level_id >> 16 == 0x42 && profile_level_id & 0x40_00 != 0;
    let level = profile_level_id & 0xff;
    let others = [BASELINE, MAIN, HIGH].map(|profile| profile | level);
    [profile_level_id].into_iter().chain(others.into_iter().filter(move |_| constrained))
}

fn extensions() -> ExtensionMap {
    let mut map = ExtensionMap::empty();
    map.set(2, Extension::AbsoluteSendTime);
    map.set(3, Extension::TransportSequenceNumber);
    map.set(4, Extension::RtpMid);
    map.set(5, Extension::PlayoutDelay);
    map
}

#[cfg(test)]
mod tests;
