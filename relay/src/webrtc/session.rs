//! One WebRTC viewer, from its answer to its end.
//!
//! ```text
//!   socket ─▶ inbox ─▶ peer ─▶ input ──▶ desk ─▶ guest
//!   seat ─▶ pictures ─▶ pacer ─▶ peer ─▶ socket
//!   news, figures, desk ─▶ status channel
//! ```
//!
//! What this refuses to do: queue pictures for a slow network. While the last ones are not out,
//! none is taken from the seat, which then skips to an IDR. And to live on without signs of life:
//! a viewer that goes silent, or that never says by RTCP what it received, is let go.
//!
//! [`pictures`] has how pictures leave and what is asked of the encoder, [`status`] the conversation
//! with the page.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    sync::{Notify, broadcast::error::RecvError, mpsc},
    time::sleep_until,
};

use super::{
    HalfOpen,
    capacity::{Capacity, Turn},
    input::Input,
    packets::{Cut, Cutter},
    peer::{Channel, Peer, Told},
    refresh::Refresh,
    socket::{Datagram, Outgoing, Socket},
};
use crate::{
    access::{Grant, Role, store::Store},
    control::Desk,
    feed::{Feed, Picture, Seat, ViewerId},
    input::Outcome,
    pacer::Pacer,
};

mod pictures;
mod status;

/// From the answer until media can flow. ICE and DTLS take three round trips; a person may have
/// to allow something first.
const JOIN: Duration = Duration::from_secs(15);

/// A viewer that sends nothing for so long is gone: consent checks come every few seconds
/// (RFC 7675), and it wants them to lapse after 30 s.
const SILENCE: Duration = Duration::from_secs(30);

/// A viewer that gets media reports about it every few seconds (RFC 3550).
const NO_RTCP: Duration = Duration::from_secs(30);

/// Between looks at whether the link is still good.
const CHECK: Duration = Duration::from_secs(2);

/// How far ahead of the network a session may write: the IDR of a full screen.
const AHEAD: Duration = Duration::from_millis(300);

/// On a lossy way, what is sent again goes a second time so long after the first, the same bytes,
/// which a viewer's protection against replay sorts out: behind the burst that may have lost it, and
/// early enough for a picture to be in time.
const ECHO: Duration = Duration::from_millis(6);

/// Pictures of so many packets go twice, too: that costs next to nothing, and for the last packets of
/// a picture there is nothing behind them by which a viewer would notice their loss.
const TINY: usize = 2;

/// Bytes of IPv4 and UDP around each datagram.
const HEADERS: usize = 28;

/// Echoes that wait for one session.
const MAX_ECHOES: usize = 256;

/// Datagrams taken in one go, so that pictures get their turn.
const MAX_DATAGRAMS: usize = 32;

/// The least that an encoder is told, in bits per second: below, a screen is not worth looking at.
const MIN_BITRATE: u64 = 500_000;

/// What a session works with.
#[derive(Debug)]
pub struct Viewing {
    /// The guest.
    pub feed: Feed,
    /// Who steers it.
    pub desk: Arc<Desk>,
    /// Its packets.
    pub cutter: Arc<Cutter>,
    /// What this viewer may do.
    pub role: Role,
    /// By which link, if by one.
    pub grant: Option<Grant>,
    /// Which knows whether the link is still good.
    pub store: Arc<Store>,
    /// profile_idc and constraint flags that the answer promised for 4:2:0.
    pub profile: [u8; 2],
    /// What pictures' times are counted from.
    pub epoch: Instant,
    /// Most bits per second to ask the encoder for.
    pub max_bitrate: u64,
}

struct Session {
    viewing: Viewing,
    viewer: ViewerId,
    peer: Peer,
    socket: Arc<Socket>,
    seat: Option<Seat>,
    cut: Option<Arc<Cut>>,
    pacer: Pacer,
    refresh: Refresh,
    input: Input,
    outgoing: Vec<Outgoing>,
    told: Vec<Told>,
    /// A picture is under way that goes twice.
    tiny: bool,
    /// What goes a second time, and when.
    echoes: VecDeque<(Instant, Outgoing)>,
    /// When the network has carried what was written, by its estimate.
    carried: Instant,
    capacity: Capacity,
    demanded: u64,
    /// Per-picture times are wanted.
    times: bool,
    status: bool,
    connected: bool,
    half_open: Option<HalfOpen>,
    started: Instant,
    heard: Instant,
    rtcp: Instant,
    wrote: Option<Instant>,
    deadline: Instant,
    next_check: Instant,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the viewer left")]
    Left,
    #[error("it was ended by request")]
    Asked,
    #[error("no connection within {} s", JOIN.as_secs())]
    NotJoined,
    #[error("nothing was heard for {} s", SILENCE.as_secs())]
    Silent,
    #[error("no RTCP for {} s", NO_RTCP.as_secs())]
    NoRtcp,
    #[error("{0}")]
    Link(#[from] crate::access::TokenError),
    #[error("{0}")]
    Full(#[from] crate::feed::Full),
    #[error("the stream has another profile now")]
    Profile,
    #[error("{0}")]
    Peer(#[from] str0m::RtcError),
    #[error("the relay ends")]
    Relay,
}

/// Runs a session to its end.
pub async fn run(
    viewing: Viewing,
    (viewer, half_open): (ViewerId, HalfOpen),
    peer: Peer,
    (mut inbox, socket): (mpsc::Receiver<Datagram>, Arc<Socket>),
    stop: Arc<Notify>,
) {
    let now = Instant::now();
    let name = format!("{}: viewer {}", viewing.feed.name(), viewer.0);
    let mut session = Session {
        viewer,
        peer,
        socket,
        seat: None,
        cut: None,
        pacer: Pacer::new(now),
        refresh: Refresh::default(),
        input: Input::new(viewer, now),
        outgoing: Vec::new(),
        told: Vec::new(),
        tiny: false,
        echoes: VecDeque::new(),
        carried: now,
        capacity: Capacity::new(now, 10_000_000),
        demanded: 0,
        times: false,
        status: false,
        connected: false,
        half_open: Some(half_open),
        started: now,
        heard: now,
        rtcp: now,
        wrote: None,
        deadline: now,
        next_check: now + CHECK,
        viewing,
    };
    log::debug!("{name}: answered");
    let end = match session.live(&mut inbox, &stop).await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    if session.connected {
        log::info!("{name}: {end}");
    } else {
        log::debug!("{name}: {end}");
    }
    session.goodbye(&end).await;
}

impl Session {
    async fn live(
        &mut self,
        inbox: &mut mpsc::Receiver<Datagram>,
        stop: &Notify,
    ) -> Result<std::convert::Infallible, End> {
        let mut news = self.viewing.feed.news();
        let mut figures = self.viewing.feed.figures();
        let mut holder = self.viewing.desk.watch();
        let mut outcomes = self.viewing.feed.input_outcomes();
        self.drain(Instant::now()).await?;
        loop {
            let now = Instant::now();
            let room = self.cut.is_none() && self.carried <= now + AHEAD;
            let mut wake = self.deadline.min(self.next_check);
            for at in [
                self.refresh.poll_timeout(),
                self.pacer.poll_timeout(now).filter(|_| self.cut.is_some()),
                self.echoes.front().map(|(at, _)| *at),
                (!room && self.cut.is_none()).then(|| self.carried - AHEAD),
            ] {
                wake = at.map_or(wake, |at| wake.min(at));
            }
            tokio::select! {
                datagram = inbox.recv() => {
                    let mut next = datagram;
                    for _ in 0..MAX_DATAGRAMS {
                        let Some(datagram) = next else { break };
                        self.datagram(&datagram).await?;
                        next = inbox.try_recv().ok();
                    }
                }
                picture = next(&mut self.seat), if room => {
                    let picture = picture.ok_or(End::Relay)?;
                    self.picture(Instant::now(), &picture).await?;
                }
                () = sleep_until(wake.into()) => self.timeout(Instant::now()).await?,
                changed = news.changed() => {
                    changed.map_err(|_| End::Relay)?;
                    let news = news.borrow_and_update().clone();
                    self.news(&news).await?;
                }
                changed = figures.changed() => {
                    changed.map_err(|_| End::Relay)?;
                    let message = json!({ "type": "figures", "figures": *figures.borrow_and_update() });
                    self.say(&message).await?;
                }
                changed = holder.changed() => {
                    changed.map_err(|_| End::Relay)?;
                    holder.mark_unchanged();
                    self.say_control().await?;
                }
                outcome = outcomes.recv() => match outcome {
                    Ok(outcome) => self.answer(&outcome).await?,
                    // Some of them are missed; nothing depends on an answer.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Err(End::Relay),
                },
                () = stop.notified() => return Err(End::Asked),
            }
        }
    }

    async fn datagram(&mut self, datagram: &Datagram) -> Result<(), End> {
        let Datagram { at, source, bytes, .. } = datagram;
        if !self.peer.handle_datagram(*at, *source, bytes)? {
            return Ok(());
        }
        self.heard = *at;
        if super::stun::is_rtcp(bytes) {
            self.rtcp = *at;
        }
        if super::stun::receiver(bytes).is_some() {
            // Its integrity was checked.
            self.socket.learn(*source, self.peer.fragment());
        }
        self.drain(*at).await
    }

    /// Passes on what became of input.
    async fn answer(&mut self, outcome: &Outcome) -> Result<(), End> {
        let Some(answer) = self.input.answer(outcome) else { return Ok(()) };
        self.peer.write_message(Channel::Input, true, &answer);
        let now = Instant::now();
        self.peer.handle_timeout(now)?;
        self.drain(now).await
    }

    async fn timeout(&mut self, now: Instant) -> Result<(), End> {
        if now >= self.next_check {
            self.next_check = now + CHECK;
            self.check(now)?;
        }
        if self.refresh.poll(now)
            && let Some(seat) = &self.seat
        {
            seat.request_idr();
        }
        self.pace(now);
        self.peer.handle_timeout(now)?;
        self.drain(now).await
    }

    fn check(&self, now: Instant) -> Result<(), End> {
        let since = |then| now.saturating_duration_since(then);
        if !self.connected && since(self.started) > JOIN {
            return Err(End::NotJoined);
        }
        if since(self.heard) > SILENCE {
            return Err(End::Silent);
        }
        // Only of what it gets can it tell.
        if self.wrote.is_some_and(|wrote| wrote > self.rtcp && since(self.rtcp) > NO_RTCP) {
            return Err(End::NoRtcp);
        }
        if let Some(grant) = &self.viewing.grant {
            self.viewing.store.still(grant)?;
        }
        Ok(())
    }

    /// Sends what is to be sent, and acts on what was told.
    async fn drain(&mut self, now: Instant) -> Result<(), End> {
        loop {
            self.deadline = self.peer.poll(now, &mut self.outgoing, &mut self.told)?;
            self.echo(now);
            let bytes: usize = self.outgoing.iter().map(|out| out.bytes.len() + HEADERS).sum();
            self.capacity.handle_sent(bytes as u64 * 8);
            self.socket.send(&mut self.outgoing).await;
            if self.told.is_empty() {
                break;
            }
            for told in std::mem::take(&mut self.told) {
                self.hear(now, told)?;
            }
            // Some of that may have written messages.
            self.peer.handle_timeout(now)?;
        }
        if self.peer.is_alive() { Ok(()) } else { Err(End::Left) }
    }

    /// Adds the echoes that are due, and notes those that are to come.
    fn echo(&mut self, now: Instant) {
        if !self.outgoing.is_empty() && self.capacity.loses(now) {
            let twice = |out: &&Outgoing| self.tiny || self.peer.is_resent(&out.bytes);
            let room = MAX_ECHOES.saturating_sub(self.echoes.len());
            let echoes = self.outgoing.iter().filter(twice).take(room);
            self.echoes.extend(echoes.map(|out| (now + ECHO, out.clone())));
        }
        while self.echoes.front().is_some_and(|(at, _)| *at <= now) {
            self.outgoing.extend(self.echoes.pop_front().map(|(_, out)| out));
        }
    }

    fn hear(&mut self, now: Instant, told: Told) -> Result<(), End> {
        match told {
            Told::Connected => {
                self.connected = true;
                self.half_open = None;
                self.rtcp = now;
                self.look_for(now);
                let takes = self.peer.takes();
                self.seat = Some(self.viewing.feed.watch(self.viewer, takes)?);
                log::info!(
                    "{}: viewer {} joined, role {}",
                    self.viewing.feed.name(),
                    self.viewer.0,
                    self.viewing.role
                );
            }
            Told::WantsIdr => {
                if self.refresh.handle_request(now)
                    && let Some(seat) = &self.seat
                {
                    seat.request_idr();
                }
            }
            Told::Carries(estimate) => {
                self.capacity.handle_estimate(now, estimate);
                self.look_for(now);
                self.demand();
            }
            Told::Way(loss, round_trip) => self.way(now, loss, round_trip),
            Told::Opened(Channel::Status) => self.greet(),
            Told::Opened(Channel::Input) => {
                if self.viewing.role == Role::Control {
                    self.viewing.desk.ask(self.viewer);
                    self.demand();
                }
            }
            Told::Message(Channel::Status, _, message) => self.wish(&message),
            Told::Message(Channel::Input, true, message) => {
                if self.viewing.role == Role::Control {
                    self.input.handle(now, &message, &self.viewing.desk);
                    if let Some(notice) = self.input.poll_notice(now) {
                        self.write(&notice);
                    }
                }
            }
            Told::Message(Channel::Input, false, _) => {}
            Told::Closed => return Err(End::Left),
        }
        Ok(())
    }

    /// Acts on how the viewer's network does.
    fn way(&mut self, now: Instant, loss: f32, round_trip: Duration) {
        let before = self.capacity.carries();
        match self.capacity.handle_way(now, loss, round_trip) {
            Turn::On => self.look_for(now),
            Turn::Fell(to, queue) => {
                self.echoes.clear();
                self.peer.start_over(to);
                self.look_for(now);
                self.carried = self.carried.max(now + AHEAD + queue);
            }
            Turn::Anew(from) => {
                self.peer.start_over(from);
                self.look_for(now);
            }
        }
        if self.capacity.carries() != before {
            self.demand();
        }
    }

    /// Says what could be sent, so that the estimate grows up to it.
    fn look_for(&mut self, now: Instant) {
        let most = self.viewing.max_bitrate * 3 / 2;
        self.peer.wish(self.capacity.wishes(now, most));
    }

    /// What the viewer's network carries, in bits per second.
    fn carries(&self) -> u64 {
        self.capacity.carries().max(MIN_BITRATE)
    }

    async fn goodbye(&mut self, end: &End) {
        self.seat = None;
        if self.viewing.role == Role::Control {
            self.viewing.desk.leave(self.viewer);
        }
        self.socket.forget(self.peer.fragment());
        if !self.peer.is_alive() {
            return;
        }
        self.write(&json!({ "type": "bye", "why": end.to_string() }));
        let now = Instant::now();
        if self.peer.handle_timeout(now).is_ok() {
            let _ = self.peer.poll(now, &mut self.outgoing, &mut self.told);
        }
        self.peer.close();
        while let Ok(at) = self.peer.poll(now, &mut self.outgoing, &mut self.told) {
            if at > now {
                break;
            }
            if self.peer.handle_timeout(now).is_err() {
                break;
            }
        }
        self.socket.send(&mut self.outgoing).await;
    }
}

/// The next picture; waits for ever while there is no seat.
async fn next(seat: &mut Option<Seat>) -> Option<Arc<Picture>> {
    match seat {
        Some(seat) => seat.next().await,
        None => std::future::pending().await,
    }
}
