//! Capture, convert, encode: one thread, one frame at a time, nothing queued in between.
//!
//! A thread each was rejected: the stages of one frame follow one another anyway, a queue between
//! them adds the latency that it hides, and the guest's other cores belong to the game.
//!
//! What enters: orders of the hub. What leaves: access units, at most one ahead of the link. When
//! the link has no room, pictures are passed over before anything is paid for them, and counted.

use std::time::{Duration, Instant};

use transom_protocol::message::{
    Chroma, Codec, DisplayState, FrameNumber, FrameTimes, GuestTime, Unreadable, VideoFormat,
};

use crate::allowance::Allowance;
use crate::capture::{Capture, Look};
use crate::clock;
use crate::encode::{Choice, EncodeError, Encoder, Request};
use crate::hub::{Hub, MediaItem, Orders, Unit};
use crate::watchdog::Stage;

/// Nobody watches: only orders wake the pipeline.
const IDLE: Duration = Duration::from_secs(3600);
/// After an encoder failed, so that a broken one does not eat the guest's CPU.
const ENCODER_RETRY: Duration = Duration::from_millis(500);
/// A coarse picture that rests is refined after this time, …
const REFINE_AFTER: Duration = Duration::from_millis(60);
/// … and at most this often: narrow links refine a part at a time.
const REFINEMENTS: u32 = 64;

/// One viewer's stream.
struct Live {
    viewer: u64,
    choice: Choice,
    encoder: Option<Encoder>,
    /// How much colour was wanted and how much there was, so that changes can be told.
    colour: (Chroma, Chroma),
    /// The viewer was told of a stream of this codec and size.
    started: Option<(Codec, (u32, u32))>,
    /// Of the last access unit.
    codec: Codec,
    next: FrameNumber,
    /// Somebody shall be able to join, and cannot yet.
    join: bool,
    /// Refinements still to do, and when the next one is due.
    refine: Option<(u32, Instant)>,
    /// Earliest time of the next frame.
    due: Instant,
    /// What the link has still to carry, at the pace that it was said to have.
    allowance: Allowance,
}

/// Runs until the hub stops.
pub fn run(hub: &Hub, capture: &mut Capture, choice: Choice) {
    let mut live: Option<Live> = None;
    let mut pause = Duration::ZERO;
    loop {
        hub.watch.pipeline.rest();
        let orders = hub.wait_orders(pause);
        if orders.stopping {
            return;
        }
        let Some(viewer) = orders.viewer else {
            live = None;
            pause = IDLE;
            continue;
        };
        let live = match &mut live {
            Some(live) if live.viewer == viewer => live,
            other => other.insert(Live::new(viewer, choice)),
        };
        let choice = orders.choice.unwrap_or(choice);
        if live.choice != choice {
            live.choice = choice;
            live.encoder = None;
        }
        pause = live.step(hub, capture, orders);
    }
}

impl Live {
    fn new(viewer: u64, choice: Choice) -> Self {
        Self {
            viewer,
            choice,
            encoder: None,
            colour: Default::default(),
            started: None,
            codec: Codec::H264,
            next: FrameNumber(0),
            join: false,
            refine: None,
            due: Instant::now(),
            allowance: Allowance::default(),
        }
    }

    /// One look and, if there is something new, one frame. Yields the time until the next step.
    fn step(&mut self, hub: &Hub, capture: &mut Capture, orders: Orders) -> Duration {
        let frame = Duration::from_secs(1) / u32::from(orders.tuning.fps);
        let now = Instant::now();
        hub.watch.pipeline.enter(Stage::Capture);
        self.join |= orders.join;
        if !orders.room {
            if capture.has_passed_over() {
                hub.count(|report| {
                    report.seen += 1;
                    report.dropped_slow_host += 1;
                });
            }
            return frame;
        }
        if now < self.due {
            return self.due - now;
        }
        self.settle_colour(hub, capture, orders.chroma);
        let seen = clock::now();
        let look = capture.look(frame);
        match look {
            Look::Nothing => {
                hub.publish_display(capture.state());
                self.stop(hub);
                return capture.pause();
            }
            Look::Failed => {
                hub.count(|report| report.capture_errors += 1);
                return capture.pause();
            }
            Look::Changed => hub.count(|report| report.seen += 1),
            Look::Unchanged => {}
        }
        hub.publish_display(capture.state());
        let changed = look == Look::Changed;
        let refine = self.refine.is_some_and(|(_, at)| now >= at);
        if changed || refine || orders.idr || self.join || self.encoder.is_none() {
            if changed {
                self.refine = None;
            }
            hub.watch.pipeline.enter(Stage::Encode);
            match self.encode(hub, capture, orders, seen, changed) {
                Ok(Some(item)) => {
                    hub.count(|report| report.encoded += 1);
                    if let Some(start) = self.start(capture) {
                        hub.push(self.viewer, start);
                    }
                    let bytes = match &item {
                        MediaItem::Unit(unit) => unit.bytes.len(),
                        MediaItem::Start(_) | MediaItem::Stop => 0,
                    };
                    hub.push(self.viewer, item);
                    // A frame that is late does not delay the ones after it. A sixteenth early, so
                    // that the phase creeps to where the screen's own frames come, instead of
                    // staying behind them for good.
                    self.due =
                        self.due.max(now.checked_sub(frame).unwrap_or(now)) + frame * 15 / 16;
                    let encoded = Instant::now();
                    let wait = self.allowance.spend(encoded, orders.tuning.bitrate, bytes);
                    if !wait.is_zero() {
                        self.due = self.due.max(encoded + wait);
                    }
                }
                Ok(None) => {}
                Err(error) => return self.lose_encoder(hub, capture, &error),
            }
        }
        if now.elapsed() >= frame {
            // Slower than the screen: the next picture is there already.
            return Duration::ZERO;
        }
        let pause = capture.pause();
        match self.refine {
            Some((_, at)) => pause.min(at.saturating_duration_since(Instant::now())),
            None => pause,
        }
    }

    /// Has pictures in as much colour as is wanted and the encoder knows.
    fn settle_colour(&mut self, hub: &Hub, capture: &mut Capture, wanted: Chroma) {
        let shown = match &mut self.encoder {
            Some(encoder) => encoder.chroma(wanted),
            None => self.choice.chroma(wanted),
        };
        capture.set_chroma(shown);
        let colour = (wanted, shown);
        if std::mem::replace(&mut self.colour, colour) == colour {
            return;
        }
        hub.colour(|colours| colours.shown = shown);
        match colour {
            (Chroma::Yuv444, Chroma::Yuv420) => {
                log::info!("4:4:4 is wanted, but this encoder makes 4:2:0 alone: 4:2:0 it stays");
            }
            (_, Chroma::Yuv444) => log::info!("pictures are in 4:4:4"),
            (_, Chroma::Yuv420) => log::info!("pictures are in 4:2:0"),
        }
    }

    fn encode(
        &mut self,
        hub: &Hub,
        capture: &Capture,
        orders: Orders,
        seen: GuestTime,
        changed: bool,
    ) -> Result<Option<MediaItem>, EncodeError> {
        let Some(frame) = capture.frame() else { return Ok(None) };
        let size = frame.picture.size();
        let converted = clock::now();
        let fits = |encoder: &Encoder| encoder.size() == size;
        let idr = orders.idr || !self.encoder.as_ref().is_some_and(fits);
        let encoder = match &mut self.encoder {
            Some(encoder) if fits(encoder) => encoder,
            other => {
                let encoder = Encoder::with_codec(self.choice, size, orders.tuning, orders.codec)?;
                let encoder = other.insert(encoder);
                hub.publish_encoder(encoder.state());
                encoder
            }
        };
        encoder.tune(orders.tuning)?;
        encoder.want(orders.codec)?;
        let request = Request { frame, idr, time: seen };
        let unit = encoder.encode_scanout(request, capture.planes(), self.join)?;
        self.join = false;
        self.codec = encoder.codec();
        if let Some(state) = encoder.take_news() {
            hub.publish_encoder(state);
        }
        let left = self.refine.map_or(REFINEMENTS, |(left, _)| left - 1);
        self.refine = (unit.coarse && left > 0).then(|| (left, Instant::now() + REFINE_AFTER));
        let number = self.next;
        self.next = FrameNumber(number.0 + 1);
        let damage = if changed { frame.damage.area(size) } else { 0 };
        let encoded = clock::now();
        let times = FrameTimes { seen, converted, encoded, sent: encoded };
        Ok(Some(MediaItem::Unit(Unit { number, idr: unit.idr, times, damage, bytes: unit.bytes })))
    }

    /// The message in front of the first access unit of a shape.
    fn start(&mut self, capture: &Capture) -> Option<MediaItem> {
        let size = capture.frame()?.picture.size();
        let (codec, (width, height)) = (self.codec, size);
        if self.started.replace((codec, size)) == Some((codec, size)) {
            return None;
        }
        Some(MediaItem::Start(VideoFormat { codec, width, height }))
    }

    fn stop(&mut self, hub: &Hub) {
        self.encoder = None;
        self.refine = None;
        if self.started.take().is_some() {
            hub.push(self.viewer, MediaItem::Stop);
        }
    }

    fn lose_encoder(&mut self, hub: &Hub, capture: &Capture, error: &EncodeError) -> Duration {
        if let (EncodeError::Size(..), DisplayState::Lit(scanout)) = (error, capture.state()) {
            let (scanout, why) = (scanout.clone(), Unreadable::Size);
            hub.publish_display(&DisplayState::Unreadable { scanout, why });
        } else {
            log::warn!("the encoder failed and is replaced: {error}");
        }
        hub.count(|report| report.encode_errors += 1);
        self.stop(hub);
        ENCODER_RETRY
    }
}
