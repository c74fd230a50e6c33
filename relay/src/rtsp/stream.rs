//! The viewers of one guest over UDP: one stream for all of them, cut into packets once.
//!
//! In: pictures of a seat that is taken while somebody watches. Out: datagrams to each viewer from
//! the ports that all guests share, an IDR spread over a frame interval, and a sender report a
//! second. A viewer that joins is sent nothing before the IDR that is asked for at once. One whose
//! packets the system does not take loses them; nobody waits longer than [`PATIENCE`] for it.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::Notify,
    time::{sleep, sleep_until},
};

use crate::{
    feed::{Feed, Full, MAX_VIEWERS, Picture, Seat, ViewerId, codec::Decodes, colour::Takes},
    output::pair::Pair,
    pacer::Pacer,
    rtcp::{self, Feedback, SenderReport},
    rtp::{Packetizer, Packets},
};

/// Between sender reports: players use them to line up streams, and one a second is small change.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A viewer may ask for an IDR so often: each costs all others a large frame.
pub const IDR_INTERVAL: Duration = Duration::from_millis(500);

/// How long a full socket buffer is waited for in all: a third of a frame at 60 Hz.
const PATIENCE: Duration = Duration::from_millis(5);

/// Before a seat is asked for again that was not to be had.
const RETRY: Duration = Duration::from_secs(1);

/// What connections and the stream of a guest have in common.
#[derive(Debug)]
pub struct Stream {
    feed: Feed,
    ssrc: u32,
    listeners: Mutex<Listeners>,
    /// Somebody came or went, or needs an IDR.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Listeners {
    all: Vec<Listener>,
    idr: bool,
    /// For the one who came last.
    repeats: Option<Repeats>,
    closed: bool,
}

impl Listeners {
    fn is_idle(&self) -> bool {
        self.all.is_empty() && !self.closed
    }
}

#[derive(Debug)]
struct Listener {
    id: ViewerId,
    place: Place,
    /// It has been sent an IDR.
    live: bool,
    may_ask: Instant,
    signs: Arc<Notify>,
}

/// Where a viewer is.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// RTP goes here.
    pub rtp: SocketAddr,
    /// RTCP goes here, and comes from here.
    pub rtcp: SocketAddr,
    /// Our address that it knows.
    pub local: Option<IpAddr>,
}

/// IDRs for a viewer behind the one that it began with, 1, 3, 7 and 15 seconds after it joined.
///
/// Players that are told not to buffer (FFmpeg's `-fflags nobuffer`) throw away what they read to find
/// out what it is, for up to five seconds, the first IDR among it, and none of FFmpeg's asks for
/// another over TCP: on a screen at rest they would show nothing for good.
#[derive(Debug)]
pub struct Repeats {
    due: Instant,
    wait: Duration,
}

impl Repeats {
    const FIRST: Duration = Duration::from_secs(1);
    const LAST: Duration = Duration::from_secs(8);

    /// For one who joins now.
    pub fn new(now: Instant) -> Self {
        Self { due: now + Self::FIRST, wait: Self::FIRST }
    }

    /// Whether one is due; told once of each.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.due <= now && self.wait <= Self::LAST;
        if due {
            self.wait *= 2;
            self.due = now + self.wait;
        }
        due
    }
}

/// A viewer's membership; dropped means left.
#[derive(Debug)]
pub struct Membership {
    stream: Arc<Stream>,
    id: ViewerId,
    signs: Arc<Notify>,
}

impl Membership {
    /// Waits for RTCP of this viewer.
    pub async fn sign(&self) {
        self.signs.notified().await;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.stream.listeners().all.retain(|listener| listener.id != self.id);
        self.stream.changed.notify_one();
    }
}

impl Stream {
    /// The stream of a guest, with nobody there yet.
    pub fn new(feed: Feed, ssrc: u32) -> Self {
        Self { feed, ssrc, listeners: Mutex::default(), changed: Notify::new() }
    }

    /// The guest.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Who sends.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Sends to this viewer, too, from the next IDR on.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn join(self: &Arc<Self>, place: Place) -> Result<Membership, Full> {
        let (id, signs) = (ViewerId::next(), Arc::new(Notify::new()));
        let mut listeners = self.listeners();
        if listeners.all.len() >= MAX_VIEWERS {
            return Err(Full);
        }
        listeners.idr = true;
        listeners.repeats = Some(Repeats::new(Instant::now()));
        listeners.all.push(Listener {
            id,
            place,
            live: false,
            may_ask: Instant::now() + IDR_INTERVAL,
            signs: Arc::clone(&signs),
        });
        drop(listeners);
        self.changed.notify_one();
        Ok(Membership { stream: Arc::clone(self), id, signs })
    }

    /// Takes RTCP; `false` if it is of nobody here.
    pub fn handle_rtcp(&self, now: Instant, from: SocketAddr, packet: &[u8]) -> bool {
        let mut guard = self.listeners();
        let Listeners { all, idr, .. } = &mut *guard;
        let mut known = false;
        for listener in all.iter_mut().filter(|listener| listener.place.rtcp == from) {
            known = true;
            listener.signs.notify_one();
            let wants = rtcp::feedback(packet, self.ssrc).any(|told| told == Feedback::NeedsIdr);
            if wants && listener.may_ask <= now {
                listener.may_ask = now + IDR_INTERVAL;
                *idr = true;
            }
        }
        if guard.idr {
            drop(guard);
            self.changed.notify_one();
        }
        known
    }

    /// Ends the stream: its sender says so to all who watch.
    pub fn close(&self) {
        self.listeners().closed = true;
        self.changed.notify_one();
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        // Plain values: there is nothing that a panic elsewhere could have left half done.
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What goes out.
#[derive(Debug)]
pub struct Sender {
    stream: Arc<Stream>,
    pair: Arc<Pair>,
    packetizer: Packetizer,
    packets: Packets,
    pacer: Pacer,
    /// Who gets the packets under way.
    places: Vec<Place>,
    cname: String,
    next_report: Instant,
    epoch: Instant,
    lost: u64,
}

impl Sender {
    /// A sender for a stream, to be run once. `packetizer` makes packets of the stream's SSRC.
    pub fn new(
        stream: Arc<Stream>,
        pair: Arc<Pair>,
        packetizer: Packetizer,
        cname: String,
        epoch: Instant,
    ) -> Self {
        let now = Instant::now();
        Self {
            stream,
            pair,
            packetizer,
            packets: Packets::default(),
            pacer: Pacer::new(now),
            places: Vec::new(),
            cname,
            next_report: now,
            epoch,
            lost: 0,
        }
    }

    /// Sends until the stream is closed or the relay ends.
    pub async fn run(mut self) {
        loop {
            while self.stream.listeners().is_idle() {
                self.stream.changed.notified().await;
            }
            if self.stream.listeners().closed {
                return;
            }
            match self.stream.feed.watch_with(ViewerId::next(), Takes::Untold, Decodes::Described) {
                Ok(seat) => {
                    if self.play(seat).await.is_none() {
                        return self.report(true);
                    }
                }
                Err(full) => {
                    log::warn!("{}: no RTSP over UDP: {full}", self.stream.feed.name());
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Plays while there are viewers; `None` once the relay ends.
    async fn play(&mut self, mut seat: Seat) -> Option<()> {
        loop {
            let now = Instant::now();
            self.pump(now).await;
            if now >= self.next_report && self.packetizer.sent().0 > 0 {
                self.next_report = now + REPORT_INTERVAL;
                self.report(false);
                if self.stream.listeners().repeats.as_mut().is_some_and(|r| r.is_due(now)) {
                    seat.request_idr();
                }
            }
            let wake = self.pacer.poll_timeout(now).unwrap_or(now + REPORT_INTERVAL);
            tokio::select! {
                biased;
                picture = seat.next() => self.start(&*picture?).await,
                () = self.stream.changed.notified() => {
                    let mut listeners = self.stream.listeners();
                    if listeners.closed {
                        return None;
                    }
                    if listeners.all.is_empty() {
                        return Some(());
                    }
                    if std::mem::take(&mut listeners.idr) {
                        drop(listeners);
                        seat.request_idr();
                    }
                }
                () = sleep_until(wake.min(self.next_report.max(now)).into()) => {}
            }
        }
    }

    async fn start(&mut self, picture: &Picture) {
        let rest = self.pacer.flush();
        self.send(rest).await;
        self.choose_places(picture);
        self.packets =
            self.packetizer.packetize(picture.unit.codec, &picture.unit.data, picture.taken);
        let now = Instant::now();
        self.pacer.start(now, self.packets.len());
        self.pump(now).await;
    }

    /// Who gets this picture.
    fn choose_places(&mut self, picture: &Picture) {
        let mut listeners = self.stream.listeners();
        if picture.unit.idr && listeners.all.iter().any(|listener| !listener.live) {
            listeners.all.iter_mut().for_each(|listener| listener.live = true);
            // Who has just come knows at once what its timestamps mean.
            self.next_report = picture.received;
        }
        self.places.clear();
        self.places.extend(listeners.all.iter().filter(|l| l.live).map(|l| l.place));
    }

    async fn pump(&mut self, now: Instant) {
        let range = self.pacer.poll(now);
        self.send(range).await;
    }

    async fn send(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let mut patience = PATIENCE;
        for Place { rtp, local, .. } in &self.places {
            let sent = self.pair.send(*rtp, *local, &self.packets, range.clone(), patience).await;
            if let Err(lost) = sent {
                if self.lost == 0 {
                    log::warn!("{rtp}: packets are lost: {}", lost.why);
                }
                self.lost += lost.packets;
                patience = Duration::ZERO;
            }
        }
    }

    fn report(&self, bye: bool) {
        let packet = sender_report(&self.packetizer, &self.cname, self.epoch).encode(bye);
        for Place { rtcp, .. } in &self.places {
            if let Err(e) = self.pair.rtcp().try_send_to(&packet, *rtcp) {
                log::debug!("{rtcp}: RTCP not sent: {e}");
            }
        }
    }
}

/// What a stream's sender has to say now; `epoch` is zero of the clock of its timestamps.
pub fn sender_report<'a>(
    packetizer: &Packetizer,
    cname: &'a str,
    epoch: Instant,
) -> SenderReport<'a> {
    let (packets, octets) = packetizer.sent();
    let host = i64::try_from(epoch.elapsed().as_nanos()).unwrap_or(i64::MAX);
    SenderReport {
        ssrc: packetizer.ssrc(),
        wall: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
        timestamp: packetizer.timestamp_at(host),
        packets,
        octets,
        cname,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_gets_four_more_idrs_ever_further_apart() {
        let joined = Instant::now();
        let mut repeats = Repeats::new(joined);
        let due = (0..60).filter(|&second| repeats.is_due(joined + Duration::from_secs(second)));
        assert_eq!(due.collect::<Vec<_>>(), [1, 3, 7, 15]);
    }
}
