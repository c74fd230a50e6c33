//! The seam between one guest and all who watch it.
//!
//! ```text
//!   relay.rs ── Source ─▶ news, figures ──────────────────▶ Feed ── pages, metrics, lists
//!   (one guest)        ─▶ pictures ─▶ a short queue each ─▶ Seat ── one viewer
//!            ◀─ wishes: an IDR, a bitrate ◀─────────────────┘
//!            ◀─ input: commands, in order ◀─────────── Feed
//! ```
//!
//! What enters: access units and states of a guest. What leaves: the same to every viewer, each
//! access unit shared and never copied. What this refuses to do: wait for a viewer. One that does
//! not keep up misses pictures up to the next IDR, and how often it may ask for that is limited,
//! so that it gets fewer pictures and others do not pay for it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, broadcast, mpsc, watch};
use transom_protocol::{
    BitRate, Chroma,
    message::{Codec, Text, VideoFormat},
};

use crate::{
    guest::GuestAddr,
    input::{Command, InputRefused, InputState, Outcome, Port},
    session::AccessUnit,
    sets::ParameterSets,
    status::{State, figures::Figures},
};

pub mod codec;
pub mod colour;

use codec::{Decodes, Preference};
use colour::{Policy, Takes};

/// Pictures that wait for one viewer. More would be older than what could be shown instead.
const QUEUE: usize = 3;

/// A viewer that fell behind may ask for an IDR so often: each costs all others a large frame.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Viewers of one guest at a time.
pub const MAX_VIEWERS: usize = 256;

/// Names a viewer for as long as the relay runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ViewerId(pub u64);

impl ViewerId {
    /// Another one than all before.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// One access unit on its way to viewers.
#[derive(Debug, PartialEq)]
pub struct Picture {
    /// What the guest sent.
    pub unit: AccessUnit,
    /// When the picture was taken, in nanoseconds of the host's clock; the base of RTP times.
    pub taken: i64,
    /// When it was here in full.
    pub received: Instant,
    /// How much colour it has.
    pub chroma: Chroma,
}

/// What is known about a guest, for those who show it to people.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    /// What the relay is doing.
    pub state: State,
    /// Shape of the stream, while there is one.
    pub format: Option<VideoFormat>,
    /// Its parameter sets, once an IDR has come.
    pub sets: Option<ParameterSets>,
    /// Name and version of the agent, once connected.
    pub agent: Option<Text>,
    /// The kernel's boot id, once connected.
    pub boot: Option<[u8; 16]>,
    /// Whether the guest takes input.
    pub input: InputState,
}

/// What viewers want of the guest since they were last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// Somebody needs a fresh start.
    pub idr: bool,
    /// The encoder's target is to change.
    pub bitrate: Option<BitRate>,
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this guest has {MAX_VIEWERS} viewers already")]
pub struct Full;

#[derive(Debug)]
struct Shared {
    name: String,
    guest: GuestAddr,
    news: watch::Sender<News>,
    figures: watch::Sender<Option<Figures>>,
    stands: Mutex<Stands>,
    /// There are wishes.
    wished: Notify,
    input: Port,
}

/// Everybody's places, and what they want.
#[derive(Debug, Default)]
struct Stands {
    viewers: Vec<Viewer>,
    idr: bool,
    /// The target that the guest was told last, and whether it is to be told again.
    target: Option<BitRate>,
    retarget: bool,
    policy: Policy,
    preference: Preference,
}

#[derive(Debug)]
struct Viewer {
    id: ViewerId,
    queue: mpsc::Sender<Arc<Picture>>,
    /// Nothing is passed on before the next IDR.
    behind: bool,
    /// When it may ask for one again.
    may_ask: Instant,
    demand: Demand,
    takes: Takes,
    decodes: Decodes,
    skipped: Arc<AtomicU64>,
}

/// What a viewer's network carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Bits per second; `None`: no opinion.
    pub bitrate: Option<BitRate>,
    /// Whether this viewer plays: such viewers are waited for, others are not.
    pub controls: bool,
}

impl Shared {
    fn stands(&self) -> MutexGuard<'_, Stands> {
        // Plain values: there is nothing that a panic elsewhere could have left half done.
        self.stands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The viewers' side; cheap to clone.
#[derive(Clone)]
pub struct Feed(Arc<Shared>);

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Feed").field(&self.0.name).finish()
    }
}

/// The guest's side.
#[derive(Debug)]
pub struct Source(Arc<Shared>);

/// The guest's side of input.
#[derive(Debug)]
pub struct Commands(Arc<Shared>);

/// A feed for a guest, under a name that is fit for a URL.
pub fn feed(name: &str, guest: &GuestAddr) -> (Source, Commands, Feed) {
    let news = News {
        state: State::Connecting,
        format: None,
        sets: None,
        agent: None,
        boot: None,
        input: InputState::Absent,
    };
    let shared = Arc::new(Shared {
        name: name.into(),
        guest: guest.clone(),
        news: watch::Sender::new(news),
        figures: watch::Sender::new(None),
        stands: Mutex::default(),
        wished: Notify::new(),
        input: Port::default(),
    });
    (Source(Arc::clone(&shared)), Commands(Arc::clone(&shared)), Feed(shared))
}

impl Feed {
    /// The guest's name in paths.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Where the guest is.
    pub fn guest(&self) -> &GuestAddr {
        &self.0.guest
    }

    /// What is known, now and at every change.
    pub fn news(&self) -> watch::Receiver<News> {
        self.0.news.subscribe()
    }

    /// The figures of the last second, `None` while there is no stream.
    pub fn figures(&self) -> watch::Receiver<Option<Figures>> {
        self.0.figures.subscribe()
    }

    /// How many watch.
    pub fn viewers(&self) -> usize {
        self.0.stands().viewers.len()
    }

    /// Takes a seat: pictures from the next IDR on, which is asked for at once. None of them has
    /// more colour than the viewer takes.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn watch(&self, id: ViewerId, takes: Takes) -> Result<Seat, Full> {
        self.watch_with(id, takes, Decodes::H264)
    }

    /// The same for a viewer that may be sent another codec, too.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn watch_with(&self, id: ViewerId, takes: Takes, decodes: Decodes) -> Result<Seat, Full> {
        let (queue, pictures) = mpsc::channel(QUEUE);
        let skipped = Arc::new(AtomicU64::new(0));
        let viewer = Viewer {
            id,
            queue,
            behind: true,
            may_ask: Instant::now() + CATCH_UP,
            demand: Demand::default(),
            takes,
            decodes,
            skipped: Arc::clone(&skipped),
        };
        let mut stands = self.0.stands();
        if stands.viewers.len() >= MAX_VIEWERS {
            return Err(Full);
        }
        stands.viewers.push(viewer);
        stands.idr = true;
        drop(stands);
        self.0.wished.notify_one();
        Ok(Seat { shared: Arc::clone(&self.0), id, pictures, skipped })
    }

    /// Passes input on, in the order of the calls and in the caller's turn. What lets go of
    /// something is taken always.
    ///
    /// # Errors
    ///
    /// [`InputRefused`]: the guest takes no events, or not so many.
    pub fn send_input(&self, command: Command) -> Result<(), InputRefused> {
        self.0.input.send(command)
    }

    /// What becomes of input from here on, of all viewers.
    pub fn input_outcomes(&self) -> broadcast::Receiver<Outcome> {
        self.0.input.outcomes()
    }
}

/// One viewer's place; dropped means left, and nothing that it holds stays held.
#[derive(Debug)]
pub struct Seat {
    shared: Arc<Shared>,
    id: ViewerId,
    pictures: mpsc::Receiver<Arc<Picture>>,
    skipped: Arc<AtomicU64>,
}

impl Seat {
    /// Whose place it is.
    pub fn viewer(&self) -> ViewerId {
        self.id
    }

    /// The next picture; `None` once the relay ends. May be dropped at any time.
    pub async fn next(&mut self) -> Option<Arc<Picture>> {
        self.pictures.recv().await
    }

    /// Asks for a fresh start, after a loss that cannot be mended otherwise. Requests of all
    /// viewers that come close to one another become one.
    pub fn request_idr(&self) {
        self.shared.stands().idr = true;
        self.shared.wished.notify_one();
    }

    /// Says what this viewer's network carries.
    pub fn demand(&self, demand: Demand) {
        let mut stands = self.shared.stands();
        if let Some(viewer) = stands.viewers.iter_mut().find(|viewer| viewer.id == self.id) {
            viewer.demand = demand;
        }
        if stands.settle() {
            drop(stands);
            self.shared.wished.notify_one();
        }
    }

    /// Pictures that this viewer missed because it was too slow.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Taken always.
        let _ = self.shared.input.send(Command::Leave { viewer: self.id });
        let mut stands = self.shared.stands();
        stands.viewers.retain(|viewer| viewer.id != self.id);
        stands.settle();
        drop(stands);
        // Those who stay may take more colour, too.
        self.shared.wished.notify_one();
    }
}

impl Stands {
    /// Whether the guest is to be told another target.
    fn settle(&mut self) -> bool {
        let target = target(self.viewers.iter().map(|viewer| viewer.demand));
        if target.is_none() || target == self.target {
            return false;
        }
        (self.target, self.retarget) = (target, true);
        true
    }
}

/// The encoder's target for what viewers' networks carry. Those who control are waited for:
/// the slowest of them rules. Else the slowest of all who are at least half as fast as the
/// fastest; who is slower than that gets fewer pictures.
pub fn target(demands: impl Iterator<Item = Demand> + Clone) -> Option<BitRate> {
    let controlling = demands.clone().filter(|demand| demand.controls);
    if let Some(slowest) = controlling.filter_map(|demand| demand.bitrate).min() {
        return Some(slowest);
    }
    let rates = demands.filter_map(|demand| demand.bitrate);
    let fastest = rates.clone().max()?;
    rates.filter(|rate| rate.0 >= fastest.0 / 2).min()
}

impl Source {
    /// The name under which viewers know the guest.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Changes what is known; viewers are told if it makes a difference.
    pub fn tell(&self, change: impl FnOnce(&mut News)) {
        self.0.news.send_if_modified(|news| {
            let before = news.clone();
            change(news);
            *news != before
        });
    }

    /// The figures of the last second.
    pub fn tell_figures(&self, figures: Option<Figures>) {
        self.0.figures.send_replace(figures);
    }

    /// Hands a picture to all who keep up.
    pub fn publish(&self, picture: &Arc<Picture>) {
        let mut guard = self.0.stands();
        let stands = &mut *guard;
        for viewer in &mut stands.viewers {
            // On its way before the guest was told of this viewer: an IDR that fits comes behind it.
            if picture.chroma == Chroma::Yuv444 && !stands.policy.trusts(viewer.takes) {
                viewer.behind = true;
                continue;
            }
            if !stands.preference.trusts(viewer.decodes, picture.unit.codec) {
                viewer.behind = true;
                continue;
            }
            if viewer.behind && !picture.unit.idr {
                viewer.skipped.fetch_add(1, Ordering::Relaxed);
                if viewer.queue.capacity() == QUEUE && viewer.may_ask <= picture.received {
                    viewer.may_ask = picture.received + CATCH_UP;
                    stands.idr = true;
                }
                continue;
            }
            viewer.behind = viewer.queue.try_send(Arc::clone(picture)).is_err();
            if viewer.behind {
                viewer.skipped.fetch_add(1, Ordering::Relaxed);
            }
        }
        let wished = stands.idr;
        drop(guard);
        if wished {
            self.0.wished.notify_one();
        }
    }

    /// The stream was lost or starts anew: nobody can go on without an IDR, and the guest knows
    /// of no target.
    pub fn restart(&self) {
        let mut stands = self.0.stands();
        stands.viewers.iter_mut().for_each(|viewer| viewer.behind = true);
        stands.retarget = stands.target.is_some();
        drop(stands);
        self.0.wished.notify_one();
    }

    /// Waits until there may be wishes. May be dropped at any time.
    pub async fn wished(&self) {
        self.0.wished.notified().await;
    }

    /// How `--chroma` decides; to be said before anybody watches.
    pub fn set_policy(&self, policy: Policy) {
        self.0.stands().policy = policy;
    }

    /// How much colour the guest should send; `plain`: to players of plain RTP, too.
    pub fn chroma(&self, plain: bool) -> Chroma {
        let stands = self.0.stands();
        let viewers = stands.viewers.iter().map(|viewer| viewer.takes);
        stands.policy.chroma(viewers.chain(plain.then_some(Takes::Untold)))
    }

    /// How `--codec` decides; to be said before anybody watches.
    pub fn set_preference(&self, preference: Preference) {
        self.0.stands().preference = preference;
    }

    /// Which codec the guest should send; `plain`: to players of plain RTP, too, who take what the
    /// user says.
    pub fn codec(&self, plain: bool) -> Codec {
        let stands = self.0.stands();
        let viewers = stands.viewers.iter().map(|viewer| viewer.decodes);
        stands.preference.codec(viewers.chain(plain.then_some(Decodes::Described)))
    }

    /// What viewers want since the last call.
    pub fn take_wishes(&self) -> Wishes {
        let mut stands = self.0.stands();
        let retarget = std::mem::take(&mut stands.retarget);
        Wishes { idr: std::mem::take(&mut stands.idr), bitrate: stands.target.filter(|_| retarget) }
    }
}

impl Commands {
    /// Where they are.
    pub fn port(&self) -> &Port {
        &self.0.input
    }
}

#[cfg(test)]
mod tests;
