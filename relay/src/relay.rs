//! Connects, runs the session, connects again: the one place where time, sockets and state meet.
//!
//! ```text
//!             ┌────────────── backoff ◀─────────────┐
//!             ▼                                     │ lost, refused, silent
//!   connect control ─▶ hello ─▶ connect media, input ─▶ hello ─▶ run ──▶ ended by the user
//!                                                                └─────▶ taken over: do not fight
//! ```

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{sleep, sleep_until, timeout};
use transom_protocol::{
    BitRate, Capabilities, Role, SessionId,
    message::{DisplayState, Farewell, Refusal, Report, VideoFormat},
};

use crate::{
    feed::{Commands, Picture, Source, codec::Preference, colour::Policy},
    guest::{self, ConnectError, GuestAddr},
    link::{Link, LinkError},
    session::{AccessUnit, Event, Session, SessionError, Welcome},
    sets::ParameterSets,
    stats::Collector,
    status::{State, Status},
    video::{Entry, Passage, Video},
};

mod input;
mod tell;

use input::Input;

/// First pause after a lost connection, and the longest. A booting guest is looked at every two
/// seconds, which costs it nothing.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How long the guest may take for its answer to a hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a farewell is waited for behind a lost connection, and ours may take to leave.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);

/// Between status figures.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// A picture older than this by the clock's estimate is the estimate's fault.
const MAX_AGE: i64 = 1_000_000_000;

/// What to relay.
#[derive(Debug, Clone)]
pub struct Config {
    /// From which guest.
    pub guest: GuestAddr,
    /// From which vsock port.
    pub port: u32,
    /// Target for the agent's encoder; its own default otherwise.
    pub bitrate: Option<BitRate>,
    /// How much colour to ask for.
    pub chroma: Policy,
    /// Which codec to ask for.
    pub codec: Preference,
}

/// How a run ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As the user asked.
    Asked,
    /// A newer relay serves this guest now.
    TakenOver,
}

/// Why the relay cannot go on, or why one session ended.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The guest was not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A connection failed.
    #[error("{guest}: {why}")]
    Link {
        /// Which guest.
        guest: GuestAddr,
        /// How.
        why: LinkError,
    },
    /// No answer to a hello.
    #[error("{guest}: the agent has not answered our hello for {} s", HELLO_TIMEOUT.as_secs())]
    HelloTimeout {
        /// Which guest.
        guest: GuestAddr,
    },
    /// The agent is going down.
    #[error("{guest}: the agent is stopping")]
    Stopping {
        /// Which guest.
        guest: GuestAddr,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

impl RelayError {
    /// Whether trying again cannot help. `connected`: whether this run has had a connection.
    fn is_final(&self, connected: bool) -> bool {
        match self {
            Self::Connect(e) => !connected && e.cause.is_users_to_mend(),
            Self::Link { why: LinkError::Session(e), .. } => matches!(
                e,
                SessionError::Version(_)
                    | SessionError::Refused { why: Refusal::Version { .. } | Refusal::Role(_), .. }
            ),
            Self::Random(_) => true,
            _ => false,
        }
    }
}

/// The relay, across all its sessions.
#[derive(Debug)]
pub struct Relay {
    config: Config,
    video: Video,
    status: Status,
    /// Where viewers other than those of plain RTP are served.
    source: Source,
    commands: Commands,
    sets: ParameterSets,
    /// Zero of the host's clock.
    epoch: Instant,
    collector: Collector,
    /// The guest's boot, once connected.
    boot: Option<[u8; 16]>,
    /// Why connecting failed last, to tell it once.
    failures: u32,
    display: Option<DisplayState>,
    format: Option<VideoFormat>,
    report: Option<(Instant, Report)>,
    cpu_percent: Option<f64>,
    frames: u64,
    skipped: u64,
    next_status: Instant,
}

impl Relay {
    /// A relay that has not begun.
    pub fn new(
        config: Config,
        video: Video,
        status: Status,
        (source, commands): (Source, Commands),
        epoch: Instant,
    ) -> Self {
        source.set_policy(config.chroma);
        source.set_preference(config.codec);
        Self {
            config,
            video,
            status,
            source,
            commands,
            sets: ParameterSets::default(),
            epoch,
            collector: Collector::default(),
            boot: None,
            failures: 0,
            display: None,
            format: None,
            report: None,
            cpu_percent: None,
            frames: 0,
            skipped: 0,
            next_status: epoch,
        }
    }

    /// Runs until `shutdown`, for ever if the guest stays away.
    ///
    /// # Errors
    ///
    /// What waiting cannot mend: see [`RelayError`].
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<Ending, RelayError> {
        let mut shutdown = std::pin::pin!(shutdown);
        let ending = loop {
            let error = match self.session(shutdown.as_mut()).await {
                Ok(ending) => break Ok(ending),
                Err(error) if error.is_final(self.boot.is_some()) => break Err(error),
                Err(error) => error,
            };
            self.lost(&error);
            tokio::select! {
                () = shutdown.as_mut() => break Ok(Ending::Asked),
                () = sleep(self.backoff()?) => {}
            }
        };
        self.video.bye(self.host_now());
        match &ending {
            Ok(Ending::Asked) => self.set_state(State::Ended),
            Ok(Ending::TakenOver) => self.set_state(State::TakenOver),
            Err(error) => self.status.error(&error.to_string()),
        }
        self.status.finish();
        ending
    }

    fn host_now(&self) -> i64 {
        i64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }

    fn lost(&mut self, error: &RelayError) {
        self.failures += 1;
        (self.display, self.format, self.report) = (None, None, None);
        self.cpu_percent = None;
        self.video.pause();
        self.source.restart();
        self.source.tell_figures(None);
        self.source.tell(|news| news.format = None);
        self.set_state(State::Waiting(error.to_string()));
    }

    /// Doubles from one failure to the next; half of it is chance, so that relays which lost the
    /// same host do not come back in step.
    fn backoff(&self) -> Result<Duration, getrandom::Error> {
        let (first, most) = BACKOFF;
        let full = (first * 2u32.pow(self.failures.saturating_sub(1).min(5))).min(most);
        Ok(full / 2 + full / 2 * (getrandom::u32()? >> 16) / (1 << 16))
    }

    /// One session from connect to its end.
    async fn session(
        &mut self,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ending, RelayError> {
        let mut session = Session::new(SessionId(getrandom::u64()?), self.epoch, Instant::now());
        if let Some(bitrate) = self.config.bitrate {
            session.set_bitrate(bitrate);
        }
        let control = tokio::select! {
            () = shutdown.as_mut() => return Ok(Ending::Asked),
            link = self.open(Role::CONTROL, &session) => link?,
        };
        let (mut control, welcome) = control;
        self.meet(&welcome);
        let abilities = welcome.capabilities;
        let mut result = self.serve(&mut session, &mut control, abilities, shutdown).await;
        self.lose_input();
        if result.is_err() && was_replaced(&mut session, &mut control).await {
            result = Ok(Ending::TakenOver);
        }
        if let Ok(Ending::Asked) = result {
            control.outbox.extend(Session::goodbye());
            let leave =
                async { while !control.outbox.is_empty() && control.turn().await.is_ok() {} };
            let _ = timeout(FAREWELL_TIMEOUT, leave).await;
        }
        self.skipped += session.skipped();
        result
    }

    async fn open(&self, role: Role, session: &Session) -> Result<(Link, Welcome), RelayError> {
        let guest = &self.config.guest;
        let stream = guest::connect(guest, self.config.port).await?;
        match timeout(HELLO_TIMEOUT, Link::open(stream, role, session)).await {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(why)) => Err(RelayError::Link { guest: guest.clone(), why }),
            Err(_elapsed) => Err(RelayError::HelloTimeout { guest: guest.clone() }),
        }
    }

    /// The agent has said who it is.
    fn meet(&mut self, welcome: &Welcome) {
        let guest = &self.config.guest;
        match self.boot.replace(welcome.boot) {
            Some(boot) if boot == welcome.boot => {}
            Some(_) => log::info!("{guest}: the guest was rebooted; {}", welcome.software),
            None => log::info!("{guest}: connected to {}", welcome.software),
        }
        self.source.tell(|news| {
            (news.boot, news.agent) = (Some(welcome.boot), Some(welcome.software.clone()));
        });
    }

    /// Runs a session whose control connection stands.
    async fn serve(
        &mut self,
        session: &mut Session,
        control: &mut Link,
        abilities: Capabilities,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ending, RelayError> {
        let open_input = async {
            match abilities.contains(Capabilities::INPUT) {
                true => self.open(Role::INPUT, session).await.map(|(link, _)| Some(link)),
                false => Ok(None),
            }
        };
        // At once: the picture does not wait for input.
        let (media, input) = tokio::select! {
            () = shutdown.as_mut() => return Ok(Ending::Asked),
            both = async { tokio::join!(self.open(Role::MEDIA, session), open_input) } => both,
        };
        let ((mut media, _), mut input) = (media?, Input::new(input?));
        self.failures = 0;
        self.next_status = Instant::now() + STATUS_INTERVAL;
        let guest = self.config.guest.clone();
        let link = |why: LinkError| RelayError::Link { guest: guest.clone(), why };
        loop {
            self.pass_input(session, &mut input).map_err(link)?;
            while let Some(frame) = control.poll_frame().map_err(link)? {
                let event = session.handle_control(Instant::now(), &frame);
                match event.map_err(|e| link(e.into()))? {
                    Some(Event::Goodbye(Farewell::Replaced)) => return Ok(Ending::TakenOver),
                    Some(Event::Goodbye(Farewell::Stopping)) => {
                        return Err(RelayError::Stopping { guest });
                    }
                    Some(event) => self.handle_event(session, event).await,
                    None => {}
                }
            }
            while let Some(frame) = media.poll_frame().map_err(link)? {
                if let Some(event) = session.handle_media(frame).map_err(|e| link(e.into()))? {
                    self.handle_event(session, event).await;
                }
            }
            let now = Instant::now();
            if let Some(done) = self.video.pump(now).await {
                self.passed(session, done);
            }
            self.video.report(now, session.clock().nanos(now));
            let wishes = self.source.take_wishes();
            match self.video.take_idr_wish(now) {
                Some(Entry::Refresh) if abilities.contains(Capabilities::REFRESH) => {
                    session.request_refresh();
                }
                Some(_) => session.request_idr(),
                None => {}
            }
            if wishes.idr {
                session.request_idr();
            }
            if abilities.contains(Capabilities::YUV444) {
                session.set_chroma(self.source.chroma(self.video.has_outputs()));
            }
            if abilities.contains(Capabilities::HEVC) {
                session.set_codec(self.source.codec(self.video.has_outputs()));
            }
            if let Some(bitrate) = wishes.bitrate {
                session.set_bitrate(self.config.bitrate.map_or(bitrate, |most| most.min(bitrate)));
            }
            if now >= self.next_status {
                self.next_status = now + STATUS_INTERVAL;
                self.tell_state(true);
                self.tell_figures(session, now);
            }
            session.poll_request(now, &mut control.outbox).map_err(|e| link(e.into()))?;
            let holds = self.commands.port().board().poll_timeout();
            let wake = [Some(session.poll_timeout()), self.video.poll_timeout(now), holds]
                .into_iter()
                .flatten()
                .fold(self.next_status, Instant::min);
            tokio::select! {
                biased;
                () = shutdown.as_mut() => return Ok(Ending::Asked),
                () = self.commands.port().ready() => {}
                turn = input.turn() => turn.map_err(link)?,
                turn = control.turn() => turn.map_err(link)?,
                turn = media.turn() => turn.map_err(link)?,
                () = self.video.feedback_ready() => {
                    if self.video.take_feedback() {
                        session.request_idr();
                    }
                }
                () = self.source.wished() => {}
                () = sleep_until(wake.into()) => {}
            }
        }
    }

    async fn handle_event(&mut self, session: &Session, event: Event) {
        match event {
            Event::Display(state) => {
                self.display = Some(state);
                self.tell_state(false);
            }
            Event::StreamStart(format) => {
                self.format = Some(format);
                self.source.tell(|news| news.format = Some(format));
                self.tell_state(false);
            }
            Event::StreamStop => {
                self.format = None;
                self.source.tell_figures(None);
                self.source.tell(|news| news.format = None);
                self.tell_state(false);
            }
            Event::AccessUnit(unit) => self.handle_unit(session, unit).await,
            Event::Report(report) => self.handle_report(report),
            Event::Goodbye(_) => {} // ends the session before it gets here
        }
    }

    async fn handle_unit(&mut self, session: &Session, unit: AccessUnit) {
        let now = Instant::now();
        if let Some(done) = self.video.flush().await {
            self.passed(session, done);
        }
        let received = session.clock().nanos(now);
        let seen = session.clock().estimate(now).map(|clock| clock.host_nanos(unit.times.seen));
        let taken = seen.unwrap_or(received).clamp(received - MAX_AGE, received);
        let passage = Passage { times: unit.times, bytes: unit.data.len(), received };
        if unit.idr && self.sets.update(unit.codec, &unit.data) {
            self.source.tell(|news| news.sets = Some(self.sets.clone()));
        }
        let chroma = self.sets.chroma();
        let picture = Arc::new(Picture { unit, taken, received: now, chroma });
        self.source.publish(&picture);
        match self.video.start(now, &picture.unit, taken, passage) {
            Ok(Some(path)) => self.status.sdp(path),
            Ok(None) => {}
            Err(e) => {
                log::error!("{e}");
                self.status.error(&e.to_string());
            }
        }
        if let Some(done) = self.video.pump(now).await {
            self.passed(session, done);
        }
    }

    /// An access unit is out.
    fn passed(&mut self, session: &Session, done: Passage) {
        let now = Instant::now();
        let (out, clock) = (session.clock().nanos(now), session.clock().estimate(now));
        self.frames += 1;
        if let Some(clock) = clock {
            let (t, received, offset) = (&done.times, done.received, clock.offset);
            let [seen, converted, encoded, sent] =
                [t.seen, t.converted, t.encoded, t.sent].map(|t| t.0);
            // What a recorded run is evaluated from: four guest times, then two of the host.
            log::trace!(
                "frame {seen} {converted} {encoded} {sent} {received} {out} offset {offset}"
            );
        }
        self.collector.add(now, done.bytes, &done.times, done.received, out, clock);
    }
}

/// Whether a lost session was taken over: the agent says so on the control connection, but the
/// media connection may have ended first. Without this, two relays would fight for the guest.
async fn was_replaced(session: &mut Session, control: &mut Link) -> bool {
    let farewell = async {
        loop {
            while let Ok(Some(frame)) = control.poll_frame() {
                let event = session.handle_control(Instant::now(), &frame);
                if let Ok(Some(Event::Goodbye(farewell))) = event {
                    return farewell == Farewell::Replaced;
                }
            }
            if control.turn().await.is_err() {
                return false;
            }
        }
    };
    timeout(FAREWELL_TIMEOUT, farewell).await.unwrap_or(false)
}
