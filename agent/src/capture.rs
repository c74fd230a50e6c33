//! From the kernel's scanout to a picture and its damage.
//!
//! ```text
//!              no card ──────┐
//!  Cards::find_lit           ▼                    GETFB2 fails for good
//!     ┌──────────────────  Dark  ◀── plane off ──┐      │
//!     ▼                                          │      ▼
//!   Lit ── shape changes: new Picture ─▶ Lit ────┴─ Unreadable
//! ```
//!
//! These are states, not errors: a compositor may restart, a VT switch, a mode or a card change
//! at any time. What enters: the current time. What leaves: [`Look`], and on a change a
//! [`Frame`]. What this refuses to do: being DRM master, changing anything on screen, guessing at
//! tiled buffers, which are read by their GPU's driver ([`linear`]) or not at all.

pub mod buffers;
pub mod cards;
pub mod cursor;
pub mod linear;
pub mod pace;
pub mod plane;
pub mod still;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use drm::buffer::DrmFourcc;
use transom_protocol::message::{Chroma, DisplayState, Scanout, Text, Unreadable};

use crate::damage::{Damage, Rect};
use crate::picture::Picture;
use crate::pixels::{PixelFormat, Pixels};
use buffers::{Buffers, Dmabuf, Framebuffer, Refused};
use cards::{Cards, Screen};
use cursor::Cursor;
use linear::Reading;
use pace::Pace;
use plane::State;

/// While no screen is lit, all cards are looked over this often.
const SCAN: Duration = Duration::from_millis(250);
/// A scanout that could not be read is tried again this often, and whenever it changes.
const RETRY: Duration = Duration::from_millis(500);

/// What one look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// As before.
    Unchanged,
    /// [`Capture::frame`] has a new picture.
    Changed,
    /// There is nothing to show: see [`Capture::state`].
    Nothing,
    /// The kernel's replies did not fit together; try again.
    Failed,
}

/// A picture and what is new in it.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The whole picture.
    pub picture: &'a Picture,
    /// What differs from the frame before.
    pub damage: &'a Damage,
}

/// The buffers that show a [`Frame`], for encoders that read them themselves.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a> {
    /// The screen.
    pub primary: &'a Dmabuf,
    /// What lies above it.
    pub cursor: Option<&'a Cursor>,
}

/// A screen being watched.
struct Watched {
    screen: Screen,
    buffers: Buffers,
    last: Option<(State, Option<State>)>,
    passed: Option<(State, Option<State>)>,
    picture: Option<Shown>,
    dmabuf: Option<Dmabuf>,
    /// What makes the linear views that are read, if that was told to the log.
    by: Option<String>,
}

/// The picture of a scanout of one shape.
struct Shown {
    size: (u32, u32),
    format: PixelFormat,
    picture: Picture,
}

/// Watches whatever screen is lit.
pub struct Capture {
    cards: Cards,
    reading: Reading,
    watched: Option<Watched>,
    state: DisplayState,
    damage: Damage,
    chroma: Chroma,
    pace: Pace,
    next_scan: Duration,
    start: Instant,
}

impl Capture {
    /// Watches all cards, or one alone, and reads what they show in this way.
    pub fn new(card: Option<PathBuf>, reading: Reading) -> Self {
        Self {
            cards: Cards::new(card),
            reading,
            watched: None,
            state: DisplayState::NoCard { reason: Text::new("not looked yet") },
            damage: Damage::default(),
            chroma: Chroma::default(),
            pace: Pace::default(),
            next_scan: Duration::ZERO,
            start: Instant::now(),
        }
    }

    /// How much colour pictures have from the next look on, which finds all of it changed.
    pub fn set_chroma(&mut self, chroma: Chroma) {
        if self.chroma != chroma {
            self.chroma = chroma;
            if let Some(watched) = &mut self.watched {
                watched.last = None;
            }
        }
    }

    /// What the display is doing.
    pub fn state(&self) -> &DisplayState {
        &self.state
    }

    /// The current picture, with the damage of the last [`Look::Changed`].
    pub fn frame(&self) -> Option<Frame<'_>> {
        let picture = &self.watched.as_ref()?.picture.as_ref()?.picture;
        matches!(self.state, DisplayState::Lit(_))
            .then_some(Frame { picture, damage: &self.damage })
    }

    /// The buffers that show what [`Capture::frame`] shows.
    pub fn planes(&self) -> Option<Planes<'_>> {
        let watched = self.watched.as_ref()?;
        let cursor = watched.picture.as_ref().and_then(|shown| shown.picture.cursor());
        Some(Planes { primary: watched.dmabuf.as_ref()?, cursor })
    }

    /// How long to wait before the next [`Capture::look`].
    pub fn pause(&self) -> Duration {
        match self.watched {
            Some(_) => self.pace.pause(self.start.elapsed()),
            None => self.next_scan.saturating_sub(self.start.elapsed()),
        }
    }

    /// Looks at the screen. `frame` is the shortest interval at which changes are of interest.
    pub fn look(&mut self, frame: Duration) -> Look {
        let begun = self.start.elapsed();
        if self.watched.is_none() && !self.find(begun) {
            return Look::Nothing;
        }
        let Some(watched) = &mut self.watched else { return Look::Nothing };
        let glance = watched.glance();
        self.pace.glanced(self.start.elapsed().saturating_sub(begun));
        let Ok(Some(seen)) = glance else {
            self.lose(begun);
            return Look::Nothing;
        };
        let hinted = watched.last.as_ref() != Some(&seen);
        let sweep = match self.state {
            DisplayState::Lit(_) => self.pace.is_sweep_due(begun, frame),
            _ => self.pace.is_retry_due(begun, RETRY),
        };
        if !hinted && !sweep {
            return Look::Unchanged;
        }
        // A pointer that moves over a screen at rest costs no look at all of the screen.
        let pointer_alone =
            watched.last.as_ref().is_some_and(|(shown, _)| *shown == seen.0) && hinted && !sweep;
        watched.last = Some(seen);
        watched.passed = None;
        self.damage.clear();
        let look = match watched.read(&seen, pointer_alone, self.chroma, &mut self.damage) {
            Ok(scanout) => {
                let now = DisplayState::Lit(scanout);
                if self.state != now {
                    log::info!("display: {now:?}");
                    self.state = now;
                }
                if self.damage.is_empty() { Look::Unchanged } else { Look::Changed }
            }
            Err(Refused::Gone(error)) => {
                log::debug!("the framebuffer went away under us: {error}");
                watched.last = None;
                Look::Failed
            }
            Err(Refused::Unreadable { size, fourcc, modifier, why }) => {
                let (width, height) = size;
                let card = Text::new(watched.screen.card.describe());
                let scanout = Scanout { card, width, height, fourcc, modifier };
                let now = DisplayState::Unreadable { scanout, why };
                if self.state != now {
                    log::warn!("display: {now:?}");
                    self.state = now;
                }
                watched.picture = None;
                Look::Nothing
            }
        };
        let now = self.start.elapsed();
        if pointer_alone {
            self.pace.pointed(now);
        } else {
            // Waiting for a driver in vain is not what looking costs.
            let cost = if look == Look::Nothing { begun } else { now };
            self.pace.looked(now, cost.saturating_sub(begun), look == Look::Changed);
        }
        look
    }

    /// Glances without looking: whether the screen has changed since the last glance or look. For
    /// counting the pictures that nobody has room for; the next look finds what they changed.
    pub fn has_passed_over(&mut self) -> bool {
        let Some(watched) = &mut self.watched else { return false };
        let Ok(Some(seen)) = watched.glance() else { return false };
        let passed = watched.passed.as_ref().or(watched.last.as_ref()) != Some(&seen);
        watched.passed = Some(seen);
        passed
    }

    /// Looks for a lit screen, if it is time to. Whether one is watched now.
    fn find(&mut self, now: Duration) -> bool {
        if now < self.next_scan {
            return false;
        }
        self.next_scan = now + SCAN;
        self.cards.refresh();
        let Some(screen) = self.cards.find_lit() else {
            let state = match self.cards.first() {
                Some(card) => DisplayState::Dark { card: Text::new(card) },
                None => DisplayState::NoCard { reason: Text::new(self.cards.trouble()) },
            };
            if self.state != state {
                log::info!("display: {state:?}");
                self.state = state;
            }
            return false;
        };
        self.pace = Pace::new(screen.primary.tells_damage());
        self.watched = Some(Watched {
            screen,
            buffers: Buffers::new(self.reading),
            last: None,
            passed: None,
            picture: None,
            dmabuf: None,
            by: None,
        });
        true
    }

    fn lose(&mut self, now: Duration) {
        if let Some(watched) = self.watched.take() {
            self.state = DisplayState::Dark { card: Text::new(watched.screen.card.describe()) };
            log::info!("display: {:?}", self.state);
        }
        self.next_scan = now;
    }
}

impl Watched {
    /// What the planes show now, in a few system calls.
    fn glance(&mut self) -> io::Result<Option<(State, Option<State>)>> {
        let Screen { card, crtc, primary, cursor } = &mut self.screen;
        let Some(shown) = primary.state(card)?.filter(|state| state.crtc == *crtc) else {
            return Ok(None);
        };
        let pointer = match cursor {
            Some(plane) => plane.state(card)?.filter(|state| state.crtc == *crtc),
            None => None,
        };
        Ok(Some((shown, pointer)))
    }

    /// Brings the picture up to date; with `pointer_alone`, but for what the screen shows.
    fn read(
        &mut self,
        seen: &(State, Option<State>),
        pointer_alone: bool,
        chroma: Chroma,
        damage: &mut Damage,
    ) -> Result<Scanout, Refused> {
        let (shown, pointer) = seen;
        let cursor = pointer.as_ref().and_then(|pointer| {
            let fb = self.buffers.fetch(&self.screen.card, pointer.fb).ok()?;
            read_cursor(&fb, pointer, shown)
        });
        let fb = self.buffers.fetch(&self.screen.card, shown.fb)?;
        let view = View::new(&fb, shown.source);
        let scanout = Scanout {
            card: Text::new(self.screen.card.describe()),
            width: view.size.0,
            height: view.size.1,
            fourcc: fb.fourcc,
            modifier: fb.modifier,
        };
        if view.size.0 < 2 || view.size.1 < 2 {
            return Err(Refused::Unreadable {
                size: view.size,
                fourcc: fb.fourcc,
                modifier: fb.modifier,
                why: Unreadable::Size,
            });
        }
        let fits = |shown: &Shown| {
            (shown.size, shown.format) == (view.size, fb.format) && shown.picture.chroma() == chroma
        };
        let Shown { picture, .. } = match &mut self.picture {
            Some(shown) if fits(shown) => shown,
            other => {
                let picture = Picture::with_chroma(view.size, chroma);
                other.insert(Shown { size: view.size, format: fb.format, picture })
            }
        };
        fb.mapping.with_bytes(|bytes| {
            let bytes = &bytes[view.start..];
            let pixels = Pixels { format: fb.format, bytes, pitch: fb.pitch };
            if pointer_alone {
                picture.update_cursor(pixels, cursor, damage);
            } else {
                picture.update(pixels, cursor, damage);
            }
        });
        self.dmabuf = fb.dmabuf(view.first);
        if self.by != fb.by {
            log::info!("display: read by {}", fb.by.as_deref().unwrap_or("mapping it"));
            self.by = fb.by;
        }
        Ok(scanout)
    }
}

/// The part of a framebuffer that a plane shows.
struct View {
    size: (u32, u32),
    /// The first column and row.
    first: (u32, u32),
    start: usize,
}

impl View {
    fn new(fb: &Framebuffer<'_>, source: Option<[u32; 4]>) -> Self {
        let whole = Rect { x: 0, y: 0, width: fb.size.0, height: fb.size.1 };
        let part = source
            .and_then(|[x, y, width, height]| {
                Rect::clipped(x.into(), y.into(), width, height, fb.size)
            })
            .unwrap_or(whole);
        let start = fb.offset + part.y as usize * fb.pitch + part.x as usize * fb.format.bytes();
        Self { size: (part.width, part.height), first: (part.x, part.y), start }
    }
}

/// Cursor planes take ARGB8888; whatever else there may be is left out of the picture.
fn read_cursor(fb: &Framebuffer<'_>, pointer: &State, shown: &State) -> Option<Cursor> {
    if fb.fourcc != DrmFourcc::Argb8888 as u32 || fb.size.0 > 512 || fb.size.1 > 512 {
        return None;
    }
    let (width, height) = fb.size;
    let row = width as usize * 4;
    let mut pixels = Vec::with_capacity(row * height as usize);
    fb.mapping.with_bytes(|bytes| {
        for y in 0..height as usize {
            pixels.extend_from_slice(&bytes[fb.offset + y * fb.pitch..][..row]);
        }
    });
    Some(Cursor {
        x: i64::from(pointer.x) - i64::from(shown.x),
        y: i64::from(pointer.y) - i64::from(shown.y),
        width,
        height,
        pixels,
    })
}
