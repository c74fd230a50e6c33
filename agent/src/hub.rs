//! What the stages share: orders down to the pipeline, access units and news up to the link.
//!
//! One lock, held for moments only. The queue of access units has room for one: a second would be
//! older than the picture that could be encoded in its place.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use transom_protocol::message::{
    Chroma, Codec, DisplayState, FrameNumber, FrameTimes, Report, Text, VideoFormat,
};

use crate::encode::choose::EncoderState;
use crate::encode::{Choice, Tuning};
use crate::meter::Meter;
use crate::watchdog::Watch;

/// Access units that wait for the media connection while another is being written.
const WAITING: usize = 1;

/// What goes down the media connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaItem {
    /// The stream starts or changes its shape.
    Start(VideoFormat),
    /// One access unit.
    Unit(Unit),
    /// There is nothing to show.
    Stop,
}

/// An access unit on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its number in the stream.
    pub number: FrameNumber,
    /// Whether it can be decoded by itself.
    pub idr: bool,
    /// When it passed each stage; `sent` is filled in by the link.
    pub times: FrameTimes,
    /// Changed pixels.
    pub damage: u32,
    /// Annex B.
    pub bytes: Vec<u8>,
}

/// What the pipeline has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orders {
    /// Somebody takes media. Its number differs for each connection.
    pub viewer: Option<u64>,
    /// The next frame has to be an IDR.
    pub idr: bool,
    /// Somebody shall be able to join at one of the next frames; told once.
    pub join: bool,
    /// Targets of the encoder.
    pub tuning: Tuning,
    /// Another encoder is wanted than the one that the agent started with.
    pub choice: Option<Choice>,
    /// How much colour is wanted.
    pub chroma: Chroma,
    /// Which codec is wanted.
    pub codec: Codec,
    /// The media connection has room for an access unit.
    pub room: bool,
    /// The agent ends.
    pub stopping: bool,
}

/// How much colour there is, and why no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Colours {
    /// What the relay wants, by what its viewers can show.
    pub relay: Chroma,
    /// No more than 4:2:0, by a setting of this agent.
    pub halved: bool,
    /// What is encoded.
    pub shown: Chroma,
}

impl Colours {
    /// What the encoder should make, if it can.
    pub fn wanted(self) -> Chroma {
        if self.halved { Chroma::Yuv420 } else { self.relay }
    }
}

#[derive(Debug)]
struct State {
    viewer: Option<u64>,
    idr: bool,
    join: bool,
    tuning: Tuning,
    choice: Option<Choice>,
    colours: Colours,
    codec: Codec,
    /// Orders came in since the pipeline last asked.
    fresh: bool,
    media: VecDeque<MediaItem>,
    display: DisplayState,
    display_version: u64,
    encoder: EncoderState,
    report: Report,
    /// Wake the control connections, which wait in `poll`.
    wakers: Vec<Arc<EventFd>>,
    stopping: bool,
}

/// The meeting point of the stages.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<State>,
    /// Wakes the pipeline and the media writer.
    changed: Condvar,
    /// What the stages are doing; no lock.
    pub watch: Watch,
    /// How long frames take.
    pub meter: Meter,
}

impl Hub {
    /// Nobody is there yet.
    pub fn new(tuning: Tuning) -> Self {
        let state = State {
            viewer: None,
            idr: false,
            join: false,
            tuning,
            choice: None,
            colours: Colours::default(),
            codec: Codec::H264,
            fresh: false,
            media: VecDeque::new(),
            display: DisplayState::NoCard { reason: Text::new("the agent is starting") },
            display_version: 0,
            encoder: EncoderState::default(),
            report: Report::default(),
            wakers: Vec::new(),
            stopping: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            watch: Watch::default(),
            meter: Meter::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A stage that panicked is named by the supervisor; the state itself is plain values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the pipeline: what to do, at the latest after `pause`, or as soon as orders change.
    pub fn wait_orders(&self, pause: Duration) -> Orders {
        let deadline = Instant::now() + pause;
        let mut state = self.lock();
        while !state.fresh && !state.stopping {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.fresh = false;
        Orders {
            viewer: state.viewer,
            idr: state.idr,
            join: std::mem::take(&mut state.join),
            tuning: state.tuning,
            choice: state.choice,
            chroma: state.colours.wanted(),
            codec: state.codec,
            room: state.media.len() < WAITING,
            stopping: state.stopping,
        }
    }

    /// For the pipeline: sends an item to the viewer it was made for; `idr` is done with by it.
    pub fn push(&self, viewer: u64, item: MediaItem) {
        let mut state = self.lock();
        if state.viewer == Some(viewer) {
            if matches!(&item, MediaItem::Unit(unit) if unit.idr) {
                state.idr = false;
            }
            state.media.push_back(item);
            self.changed.notify_all();
        }
    }

    /// For the pipeline: what the display is doing now.
    pub fn publish_display(&self, display: &DisplayState) {
        let mut state = self.lock();
        if state.display != *display {
            state.display = display.clone();
            state.display_version += 1;
            state.wake_control();
        }
    }

    /// For the pipeline: which encoder is at work now, and why not another.
    pub fn publish_encoder(&self, encoder: EncoderState) {
        self.lock().encoder = encoder;
    }

    /// For diagnostics: which encoder is at work, and why not another.
    pub fn encoder(&self) -> EncoderState {
        self.lock().encoder.clone()
    }

    /// For all stages: changes the counters.
    pub fn count(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.lock().report);
    }

    /// For the link: an order came in.
    pub fn order(&self, change: impl FnOnce(&mut bool, &mut Tuning)) {
        let mut guard = self.lock();
        let state = &mut *guard;
        change(&mut state.idr, &mut state.tuning);
        state.fresh = true;
        self.changed.notify_all();
    }

    /// For the link: somebody shall be able to join without an IDR, if that can be.
    pub fn order_join(&self) {
        let mut state = self.lock();
        state.join = true;
        state.fresh = true;
        self.changed.notify_all();
    }

    /// For diagnostics: whether somebody takes media, and the targets of the encoder.
    pub fn stream(&self) -> (bool, Tuning) {
        let state = self.lock();
        (state.viewer.is_some(), state.tuning)
    }

    /// For the link and for diagnostics: another wish for colour.
    pub fn colour(&self, change: impl FnOnce(&mut Colours)) {
        let mut state = self.lock();
        let before = state.colours;
        change(&mut state.colours);
        if state.colours.wanted() != before.wanted() {
            state.fresh = true;
            self.changed.notify_all();
        }
    }

    /// For the link: another codec, as soon as there is an encoder for it.
    pub fn order_codec(&self, codec: Codec) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.codec, codec) != codec {
            state.fresh = true;
            self.changed.notify_all();
        }
    }

    /// For diagnostics: how much colour there is.
    pub fn colours(&self) -> Colours {
        self.lock().colours
    }

    /// For diagnostics: the encoder that is wanted instead of the one that the agent started with.
    pub fn choice(&self) -> Option<Choice> {
        self.lock().choice
    }

    /// For diagnostics: another encoder from the next frame on.
    pub fn choose(&self, choice: Choice) {
        let mut state = self.lock();
        state.choice = Some(choice);
        state.idr = true;
        state.fresh = true;
        self.changed.notify_all();
    }

    /// For the link: a viewer takes media from here on, until [`Hub::detach`].
    pub fn attach(&self, viewer: u64) {
        let mut state = self.lock();
        state.viewer = Some(viewer);
        state.media.clear();
        state.idr = true;
        state.fresh = true;
        self.changed.notify_all();
    }

    /// For the link: the viewer is gone. Another one that came meanwhile stays.
    pub fn detach(&self, viewer: u64) {
        let mut state = self.lock();
        if state.viewer == Some(viewer) {
            state.viewer = None;
            state.media.clear();
            state.fresh = true;
            self.changed.notify_all();
        }
    }

    /// For the media writer: the next item, or `None` once this viewer is no longer served.
    pub fn next_item(&self, viewer: u64) -> Option<MediaItem> {
        let mut state = self.lock();
        loop {
            if state.viewer != Some(viewer) || state.stopping {
                return None;
            }
            if let Some(item) = state.media.pop_front() {
                // There is room now: the pipeline may have been waiting for it.
                state.fresh = true;
                self.changed.notify_all();
                return Some(item);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// For the control connection: the display and a number that changes with it.
    pub fn display(&self) -> (u64, DisplayState) {
        let state = self.lock();
        (state.display_version, state.display.clone())
    }

    /// For the control connection: the counters.
    pub fn report(&self) -> Report {
        self.lock().report
    }

    /// For a control connection: readable whenever there may be news, as long as it is held.
    ///
    /// # Errors
    ///
    /// The kernel has no descriptors left.
    pub fn subscribe(&self) -> nix::Result<Arc<EventFd>> {
        let waker = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let waker = Arc::new(waker);
        self.lock().wakers.push(Arc::clone(&waker));
        Ok(waker)
    }

    /// Whether the agent ends.
    pub fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Ends all stages.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        state.wake_control();
        self.changed.notify_all();
    }

    /// Wakes the control connections.
    pub fn wake_control(&self) {
        self.lock().wake_control();
    }
}

impl State {
    fn wake_control(&mut self) {
        self.wakers.retain(|waker| Arc::strong_count(waker) > 1);
        for waker in &self.wakers {
            // Full means that it is awake already.
            let _ = waker.write(1);
        }
    }
}
