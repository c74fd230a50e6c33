//! The video stream on its way out: access units in, paced RTP, RTCP and the SDP file out.
//! Lives as long as the relay, across all reconnects, so that viewers see one stream.

use std::{
    future::poll_fn,
    path::Path,
    task::Poll,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    output::udp::UdpOutput,
    pacer::Pacer,
    rtcp::{self, Feedback, SenderReport},
    rtp::{Packetizer, Packets},
    sdp::{self, SdpError, SdpFile},
    session::AccessUnit,
    sets::ParameterSets,
};

/// Between sender reports: viewers use them to line up streams, and one a second is small change.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// RTCP packets looked at in one go, so that a flood of them holds up nothing else.
const MAX_FEEDBACK: usize = 32;

/// How the stream is sent.
#[derive(Debug)]
pub struct Config {
    /// Where to; there may be none.
    pub outputs: Vec<UdpOutput>,
    /// Where the first output is described.
    pub sdp: Option<SdpFile>,
    /// Longest RTP packet in bytes.
    pub packet: usize,
    /// Hops for multicast.
    pub ttl: u8,
    /// Between the IDRs that are asked for unprompted; plain RTP viewers have no way to ask.
    pub idr_interval: Option<Duration>,
    /// What is asked for instead of an IDR.
    pub entry: Entry,
}

/// What a viewer of plain RTP can begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Entry {
    /// An IDR, as every decoder can.
    #[default]
    Idr,
    /// A recovery point, where the guest's encoder has them.
    Refresh,
}

impl Config {
    /// The same for a guest that is sent to nobody by plain RTP.
    pub fn without_outputs(&self) -> Self {
        Self { outputs: Vec::new(), sdp: None, ..*self }
    }
}

/// The stream.
#[derive(Debug)]
pub struct Video {
    config: Config,
    sets: ParameterSets,
    session: Option<sdp::Session>,
    packetizer: Packetizer,
    packets: Packets,
    pacer: Pacer,
    /// The access unit under way.
    current: Option<Passage>,
    cname: String,
    next_report: Instant,
    next_idr: Option<Instant>,
}

/// What is remembered of an access unit until it is out.
#[derive(Debug, Clone, Copy)]
pub struct Passage {
    /// Its times in the guest.
    pub times: transom_protocol::message::FrameTimes,
    /// Its length.
    pub bytes: usize,
    /// When it was here, in nanoseconds of the host's clock.
    pub received: i64,
}

impl Video {
    /// A stream that has not begun. Its identity is drawn at random, as RFC 3550 asks for.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn new(config: Config, now: Instant) -> Result<Self, getrandom::Error> {
        let (identity, start) = (getrandom::u64()?, getrandom::u64()?);
        let session = config.outputs.first().map(|output| sdp::Session {
            id: getrandom::u32().unwrap_or(1),
            origin: output.origin(),
            target: output.target().address,
            ttl: config.ttl,
        });
        Ok(Self {
            sets: ParameterSets::default(),
            session,
            packetizer: Packetizer::new(
                identity as u32,
                (identity >> 32) as u16,
                start as u32,
                config.packet,
            ),
            packets: Packets::default(),
            pacer: Pacer::new(now),
            current: None,
            cname: format!("{:016x}", getrandom::u64()?),
            next_report: now,
            next_idr: None,
            config,
        })
    }

    /// Takes an access unit, whose picture was taken at `taken` nanoseconds of the host's clock.
    /// The one before must be out: [`Video::flush`].
    ///
    /// # Errors
    ///
    /// The SDP file cannot be written any more; the stream itself goes on.
    pub fn start(
        &mut self,
        now: Instant,
        unit: &AccessUnit,
        taken: i64,
        passage: Passage,
    ) -> Result<Option<&Path>, SdpError> {
        self.current = Some(passage);
        if unit.idr {
            self.next_idr = self.config.idr_interval.map(|interval| now + interval);
        }
        self.packets = if self.config.outputs.is_empty() {
            Packets::default()
        } else {
            self.packetizer.packetize(unit.codec, &unit.data, taken)
        };
        self.pacer.start(now, self.packets.len());
        if unit.idr
            && self.sets.update(unit.codec, &unit.data)
            && let (Some(file), Some(session)) = (&mut self.config.sdp, &self.session)
        {
            return Ok(file.update(session, &self.sets)?.then(|| file.path()));
        }
        Ok(None)
    }

    /// Sends what is due. Yields the access unit when its last packet is out.
    pub async fn pump(&mut self, now: Instant) -> Option<Passage> {
        let range = self.pacer.poll(now);
        self.send(range).await
    }

    /// Sends what is left of the access unit under way.
    pub async fn flush(&mut self) -> Option<Passage> {
        let range = self.pacer.flush();
        self.send(range).await
    }

    async fn send(&mut self, range: std::ops::Range<usize>) -> Option<Passage> {
        if !range.is_empty() {
            for output in &mut self.config.outputs {
                output.send(&self.packets, range.clone()).await;
            }
        }
        if self.pacer.is_done() { self.current.take() } else { None }
    }

    /// Sends a sender report if one is due; `host` is `now` on the host's clock.
    pub fn report(&mut self, now: Instant, host: i64) {
        if now >= self.next_report && self.packetizer.sent().0 > 0 {
            self.next_report = now + REPORT_INTERVAL;
            self.send_report(host, false);
        }
    }

    /// Tells viewers that the stream is over.
    pub fn bye(&mut self, host: i64) {
        if self.packetizer.sent().0 > 0 {
            self.send_report(host, true);
        }
    }

    fn send_report(&self, host: i64, bye: bool) {
        let (packets, octets) = self.packetizer.sent();
        let report = SenderReport {
            ssrc: self.packetizer.ssrc(),
            wall: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            timestamp: self.packetizer.timestamp_at(host),
            packets,
            octets,
            cname: &self.cname,
        };
        let packet = report.encode(bye);
        self.config.outputs.iter().for_each(|output| output.send_rtcp(&packet));
    }

    /// Waits until some target has sent RTCP; for ever without targets.
    pub async fn feedback_ready(&self) {
        poll_fn(|cx| {
            let ready = |output: &UdpOutput| output.poll_rtcp_ready(cx).is_ready();
            if self.config.outputs.iter().any(ready) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }

    /// Takes the RTCP that came in; `true` if a viewer needs an IDR.
    pub fn take_feedback(&mut self) -> bool {
        let (mut idr, mut buffer) = (false, [0; 1500]);
        for output in &self.config.outputs {
            for _ in 0..MAX_FEEDBACK {
                let Some(packet) = output.poll_rtcp(&mut buffer) else { break };
                for told in rtcp::feedback(packet, self.packetizer.ssrc()) {
                    log::trace!("{}: {told:?}", output.target());
                    idr |= told == Feedback::NeedsIdr;
                }
            }
        }
        idr
    }

    /// Whether it is time for a frame to begin with that nobody asked for.
    pub fn take_idr_wish(&mut self, now: Instant) -> Option<Entry> {
        let due = self.next_idr.is_some_and(|due| due <= now) && !self.config.outputs.is_empty();
        if due {
            self.next_idr = self.config.idr_interval.map(|interval| now + interval);
        }
        due.then_some(self.config.entry)
    }

    /// The guest is gone: there is nobody to ask for an IDR until the stream starts again.
    pub fn pause(&mut self) {
        self.next_idr = None;
    }

    /// When [`Video::pump`], [`Video::report`] or [`Video::take_idr_wish`] want to be called.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let report = (self.packetizer.sent().0 > 0).then_some(self.next_report);
        [self.pacer.poll_timeout(now), report, self.next_idr].into_iter().flatten().min()
    }

    /// Whether there are players of plain RTP.
    pub fn has_outputs(&self) -> bool {
        !self.config.outputs.is_empty()
    }

    /// Packets that the system did not take, over all targets.
    pub fn dropped(&self) -> u64 {
        self.config.outputs.iter().map(UdpOutput::dropped).sum()
    }
}
