//! Which encoder is at work, and why not another.
//!
//! ```text
//!             ┌── no libva, no driver: for good ──▶ software
//!   start ────┤
//!             └──▶ Opening ── ready: IDR ──▶ Hardware
//!                  (software)                   │ fails, late, wrong output
//!                     ▲                         ▼
//!                     └──── backoff over ── Waiting (software at once, with an IDR)
//! ```
//!
//! The stream never waits for a driver to open, and at most a frame's deadline for one that hangs.
//! What was learned about drivers is kept for the life of the process: a new size or viewer does
//! not try again what failed a moment ago.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use transom_protocol::message::{Chroma, Codec};

use super::screen::Screen;
use super::vaapi::candidates::{self, Candidate};
use super::vaapi::{Access, Coded, Progress, Rate, Remote, VaapiError};
use super::{AccessUnit, EncodeError, Request, Tuning};
use crate::capture::Planes;
use crate::sys::va;

/// A driver that failed is tried again after this, …
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// … twice as late each time, and at last this often.
const LAST_RETRY: Duration = Duration::from_secs(600);
/// A driver that has worked for so long starts over with its first retry.
const PROVEN: Duration = Duration::from_secs(60);
/// `--encoder vaapi` has nothing else to show meanwhile.
const PATIENCE: Duration = Duration::from_secs(12);
/// Quantisers above this show on text; such a frame is worth another one when the screen rests.
const COARSE: u8 = 28;

/// What is known about the encoder at work: for the log, for statistics and for diagnostics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncoderState {
    /// `screen`, `openh264`, `vaapi`; empty while nothing is encoded.
    pub name: String,
    /// VA-API: what the driver calls itself.
    pub driver: String,
    /// VA-API: the profile, of H.264 unless it says HEVC.
    pub profile: String,
    /// VA-API: `EncSlice` or `EncSliceLP`.
    pub entrypoint: String,
    /// How pictures get to the encoder: `memory`, `upload (derived image)`, `upload (image)`,
    /// `dma-buf`.
    pub path: String,
    /// Candidates that were tried or ruled out, and the reason of each; the newest reason counts.
    pub rejected: Vec<(String, String)>,
}

impl EncoderState {
    /// Of an encoder that reads pictures from memory.
    pub fn software(name: &str) -> Self {
        Self { name: name.into(), path: "memory".into(), ..Self::default() }
    }
}

/// What this process has learned about drivers.
#[derive(Debug, Default)]
struct Memory {
    looked: bool,
    /// How often it was all forgotten.
    generation: u32,
    candidates: Vec<Tried>,
    rejected: Vec<(String, String)>,
}

#[derive(Debug)]
struct Tried {
    candidate: Candidate,
    /// Its HEVC has failed or is not there: H.264 is asked of it.
    h264_alone: bool,
    failures: u32,
    next: Option<Instant>,
}

static MEMORY: Mutex<Memory> = Mutex::new(Memory {
    looked: false,
    generation: 0,
    candidates: Vec::new(),
    rejected: Vec::new(),
});

/// Drivers have come or changed: all are looked for, and tried, anew.
pub fn look_again() {
    let mut memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = memory.generation.wrapping_add(1);
    *memory = Memory { generation, ..Memory::default() };
}

fn memory() -> MutexGuard<'static, Memory> {
    let mut memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    if !memory.looked {
        memory.look();
    }
    memory
}

impl Memory {
    /// Once: GPUs do not come and go in a running guest, and of drivers that do we are told.
    fn look(&mut self) {
        self.looked = true;
        if let Err(error) = va::check() {
            self.rejected.push(("VA-API".into(), error.to_string()));
        } else {
            let found = candidates::find();
            self.rejected = found.rejected;
            let tried = |candidate| Tried { candidate, h264_alone: false, failures: 0, next: None };
            self.candidates = found.candidates.into_iter().map(tried).collect();
        }
        for (name, reason) in &self.rejected {
            log::info!("encoder: not {name}: {reason}");
        }
    }

    /// The first candidate that may be tried now.
    fn pick(&self, now: Instant) -> Option<Candidate> {
        let due = |tried: &&Tried| tried.next.is_none_or(|next| next <= now);
        self.candidates.iter().find(due).map(|tried| tried.candidate.clone())
    }

    /// When a candidate may be tried that may not be now.
    fn next(&self) -> Option<Instant> {
        self.candidates.iter().filter_map(|tried| tried.next).min()
    }

    fn failed(&mut self, name: &str, now: Instant, ran: Duration, reason: &str) -> Duration {
        let mut wait = FIRST_RETRY;
        if let Some(tried) = self.candidates.iter_mut().find(|t| t.candidate.name == name) {
            if ran >= PROVEN {
                tried.failures = 0;
            }
            wait = FIRST_RETRY.saturating_mul(1 << tried.failures.min(16)).min(LAST_RETRY);
            tried.failures += 1;
            tried.next = Some(now + wait);
        }
        match self.rejected.iter_mut().find(|(rejected, _)| rejected == name) {
            Some((_, old)) => *old = reason.into(),
            None => self.rejected.push((name.into(), reason.into())),
        }
        wait
    }

    /// What to ask of a candidate.
    fn codec(&self, name: &str, wanted: Codec) -> Codec {
        let same = |tried: &&Tried| tried.candidate.name == name;
        match self.candidates.iter().find(same) {
            Some(tried) if tried.h264_alone => Codec::H264,
            _ => wanted,
        }
    }

    /// No more HEVC from this candidate: it may well have a working H.264.
    fn without_hevc(&mut self, name: &str, reason: &str) {
        if let Some(tried) = self.candidates.iter_mut().find(|t| t.candidate.name == name) {
            tried.h264_alone = true;
        }
        let name = format!("HEVC by {name}");
        self.rejected.retain(|(rejected, _)| *rejected != name);
        self.rejected.push((name, reason.into()));
    }

    fn works(&mut self, name: &str) {
        self.rejected.retain(|(rejected, _)| rejected != name);
    }
}

/// A driver's encoder, or none.
#[derive(Debug)]
enum Hardware {
    /// A helper is starting.
    Opening(String, Box<Remote>),
    /// It encodes since then.
    Running(String, Box<Remote>, Instant),
    /// Not before then, or never.
    Waiting(Option<Instant>),
}

/// VA-API where it works, software everywhere else.
#[derive(Debug)]
pub struct Auto {
    size: (u32, u32),
    tuning: Tuning,
    hardware: Hardware,
    /// What encodes while no hardware does; `None` as well if nothing but hardware shall.
    software: Option<Box<Screen>>,
    only_hardware: bool,
    /// What is wanted, and what the last access unit is.
    wanted: Codec,
    codec: Codec,
    news: Option<EncoderState>,
    /// Of the memory that `hardware` was chosen by.
    generation: u32,
}

impl Auto {
    /// An encoder for pictures of this size. With `only_hardware` it waits for a driver.
    ///
    /// # Errors
    ///
    /// No encoder takes this size, or there is no hardware and nothing else is wanted.
    pub fn new(
        size: (u32, u32),
        tuning: Tuning,
        wanted: Codec,
        only_hardware: bool,
    ) -> Result<Self, EncodeError> {
        let mut this = Self {
            size,
            tuning,
            hardware: Hardware::Waiting(None),
            software: None,
            only_hardware,
            wanted,
            codec: Codec::H264,
            news: None,
            generation: memory().generation,
        };
        this.hardware = this.open_next();
        if only_hardware {
            this.wait_for_hardware()?;
        } else {
            this.software = Some(Box::new(Screen::new(size, tuning)?));
            this.tell();
        }
        Ok(this)
    }

    /// The size of the pictures that it takes.
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// How much colour the next picture should have: no driver is asked for more than 4:2:0, and
    /// none is given up for it.
    pub fn chroma(&mut self, wanted: Chroma) -> Chroma {
        self.advance();
        match self.hardware {
            Hardware::Running(..) => Chroma::Yuv420,
            _ if self.only_hardware => Chroma::Yuv420,
            _ => wanted,
        }
    }

    /// Another codec is wanted: whatever encodes another is replaced, meanwhile by the CPU.
    ///
    /// # Errors
    ///
    /// There is no hardware any more and nothing else is wanted.
    pub fn want(&mut self, codec: Codec) -> Result<(), EncodeError> {
        if std::mem::replace(&mut self.wanted, codec) == codec {
            return Ok(());
        }
        let (Hardware::Running(name, ..) | Hardware::Opening(name, _)) = &self.hardware else {
            return Ok(());
        };
        let runs = match &self.hardware {
            Hardware::Running(_, remote, _) => Some(remote.codec()),
            _ => None,
        };
        if runs == Some(memory().codec(name, codec)) {
            return Ok(());
        }
        self.hardware = self.open_next();
        if self.only_hardware {
            self.wait_for_hardware()?;
        }
        Ok(())
    }

    /// What the last access unit is.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// New targets, from the next frame on.
    pub fn tune(&mut self, tuning: Tuning) {
        self.tuning = tuning;
        if let Some(software) = &mut self.software {
            software.tune(tuning);
        }
    }

    /// What is at work now, if that has changed since the last call.
    pub fn take_news(&mut self) -> Option<EncoderState> {
        self.news.take()
    }

    /// Encodes one frame; a driver that fails is replaced in the middle of it. With `join`, decoders
    /// can begin with it: by a refresh where the driver has that, else as an IDR.
    ///
    /// # Errors
    ///
    /// The software encoder's, or the driver's if nothing else is wanted.
    pub fn encode(
        &mut self,
        request: Request<'_>,
        planes: Option<Planes<'_>>,
        join: bool,
    ) -> Result<AccessUnit, EncodeError> {
        let picture = request.frame.picture;
        if picture.size() != self.size {
            let (width, height) = picture.size();
            return Err(EncodeError::Size(width, height));
        }
        let halved = picture.chroma() == Chroma::Yuv420;
        if halved {
            self.advance();
        } else if self.only_hardware {
            return Err(EncodeError::Chroma("VA-API"));
        }
        let rate = rate(self.tuning);
        if halved && let Hardware::Running(name, remote, since) = &mut self.hardware {
            // The first frame of an encoder is an IDR, whoever asks.
            let idr = request.idr || self.software.is_some() || remote.frames() == 0;
            let access = if join && !idr { Access::Refresh } else { idr.into() };
            let path = remote.path().to_owned();
            let damage = request.frame.damage.rects();
            match remote.encode_scanout(picture, damage, access, rate, planes) {
                Ok(Coded { bytes, qp, idr, refreshing, .. }) => {
                    self.software = None;
                    self.codec = remote.codec();
                    if remote.path() != path {
                        // Each time that a cursor appears or goes: nothing for the journal.
                        log::debug!("encoder: pictures come by {}", remote.path());
                        self.tell();
                    }
                    let budget = rate.bitrate / u32::from(rate.fps.max(1)) / 8;
                    // Without a quantiser: what comes close to the rate was held down by it.
                    let held = bytes.len() as u32 / 3 > budget / 4;
                    let coarse = qp.map_or(held, |qp| qp > COARSE);
                    // A refresh has to end on a screen that rests, too.
                    let coarse = coarse || refreshing;
                    return Ok(AccessUnit { bytes, idr, coarse });
                }
                Err(error) => {
                    let (name, ran) = (name.clone(), since.elapsed());
                    self.lose(&name, ran, &error);
                    if self.only_hardware {
                        return Err(error.into());
                    }
                }
            }
        }
        let fresh = self.software.is_none();
        let software = match &mut self.software {
            Some(software) => software,
            none => none.insert(Box::new(Screen::new(self.size, self.tuning)?)),
        };
        let unit = software.encode(Request { idr: request.idr || join || fresh, ..request })?;
        self.codec = Codec::H264;
        if fresh {
            self.tell();
        }
        Ok(unit)
    }

    /// Brings hardware closer, without waiting.
    fn advance(&mut self) {
        let generation = memory().generation;
        if self.generation != generation {
            self.generation = generation;
            self.hardware = self.open_next();
        }
        match &mut self.hardware {
            Hardware::Opening(name, remote) => match remote.wait_ready(Duration::ZERO) {
                Ok(Progress::Opening) => {}
                Ok(Progress::Ready) => self.take_over(),
                Err(error) => {
                    let name = name.clone();
                    self.lose(&name, Duration::ZERO, &error);
                }
            },
            Hardware::Waiting(Some(until)) if *until <= Instant::now() => {
                self.hardware = self.open_next();
            }
            Hardware::Waiting(_) | Hardware::Running(..) => {}
        }
    }

    fn wait_for_hardware(&mut self) -> Result<(), EncodeError> {
        let deadline = Instant::now() + PATIENCE;
        let mut last = VaapiError::None(reasons());
        while let Hardware::Opening(name, remote) = &mut self.hardware {
            match remote.wait_ready(deadline.saturating_duration_since(Instant::now())) {
                Ok(Progress::Opening) => last = VaapiError::Late(PATIENCE.as_millis()),
                Ok(Progress::Ready) => {
                    self.take_over();
                    return Ok(());
                }
                Err(error) => {
                    let name = name.clone();
                    self.lose(&name, Duration::ZERO, &error);
                    last = error;
                    continue;
                }
            }
            break;
        }
        Err(last.into())
    }

    fn take_over(&mut self) {
        let Hardware::Opening(name, remote) =
            std::mem::replace(&mut self.hardware, Hardware::Waiting(None))
        else {
            return;
        };
        memory().works(&name);
        if let Some(opened) = remote.opened() {
            log::info!(
                "encoder: VA-API, {}, {}, {}, {}, {}, headers from us: {}",
                opened.driver,
                opened.profile,
                opened.entrypoint,
                opened.rate_control,
                opened.path,
                opened.packed
            );
            if !opened.instead.is_empty() {
                log::info!("encoder: HEVC is wanted, but this stays H.264: {}", opened.instead);
                memory().without_hevc(&name, &opened.instead);
            }
        }
        self.hardware = Hardware::Running(name, remote, Instant::now());
        self.tell();
    }

    /// Starts a helper for the next candidate.
    fn open_next(&mut self) -> Hardware {
        loop {
            let now = Instant::now();
            let (picked, next) = {
                let memory = memory();
                (memory.pick(now), memory.next())
            };
            let Some(candidate) = picked else { return Hardware::Waiting(next) };
            let codec = memory().codec(&candidate.name, self.wanted);
            match Remote::start(&candidate, self.size, rate(self.tuning), codec) {
                Ok(remote) => return Hardware::Opening(candidate.name, Box::new(remote)),
                Err(error) => {
                    memory().failed(&candidate.name, now, Duration::ZERO, &error.to_string());
                    log::warn!("encoder: not {}: {error}", candidate.name);
                }
            }
        }
    }

    /// Gives a driver up, once with a reason in the log.
    fn lose(&mut self, name: &str, ran: Duration, error: &VaapiError) {
        let wait = memory().failed(name, Instant::now(), ran, &error.to_string());
        log::warn!("encoder: {name} is given up for {} s: {error}", wait.as_secs());
        if let Hardware::Running(_, remote, _) = &self.hardware
            && remote.codec() == Codec::Hevc
        {
            memory().without_hevc(name, &error.to_string());
        }
        self.hardware = Hardware::Waiting(None);
        self.hardware = self.open_next();
        if self.software.is_some() {
            self.tell();
        }
    }

    /// Makes the state known.
    fn tell(&mut self) {
        let mut state = EncoderState::software("screen");
        if let Hardware::Running(_, remote, _) = &self.hardware
            && let Some(opened) = remote.opened()
        {
            state.name = "vaapi".into();
            state.driver.clone_from(&opened.driver);
            state.profile.clone_from(&opened.profile);
            state.entrypoint.clone_from(&opened.entrypoint);
            state.path = remote.path().into();
        }
        state.rejected.clone_from(&memory().rejected);
        self.news = Some(state);
    }
}

fn rate(tuning: Tuning) -> Rate {
    Rate { bitrate: tuning.bitrate.0.clamp(100_000, 800_000_000), fps: tuning.fps.max(1) }
}

fn reasons() -> String {
    let reasons: Vec<_> =
        memory().rejected.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
    if reasons.is_empty() { "all were tried a moment ago".into() } else { reasons.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str) -> Tried {
        let candidate = Candidate { name: name.into(), device: None, environment: Vec::new() };
        Tried { candidate, h264_alone: false, failures: 0, next: None }
    }

    #[test]
    fn a_driver_whose_hevc_failed_is_asked_for_h264() {
        let mut memory =
            Memory { looked: true, candidates: vec![candidate("a")], ..Memory::default() };
        assert_eq!(memory.codec("a", Codec::Hevc), Codec::Hevc);
        memory.without_hevc("a", "garbage");
        assert_eq!(memory.codec("a", Codec::Hevc), Codec::H264);
        assert_eq!(memory.codec("b", Codec::Hevc), Codec::Hevc);
        assert_eq!(memory.rejected, [("HEVC by a".to_owned(), "garbage".to_owned())]);
    }

    #[test]
    fn a_failed_driver_makes_room_for_the_next_and_comes_back_later() {
        let mut memory = Memory {
            looked: true,
            candidates: vec![candidate("a"), candidate("b")],
            ..Memory::default()
        };
        let name = |memory: &Memory, now| memory.pick(now).map(|candidate| candidate.name);
        let mut now = Instant::now();
        assert_eq!(name(&memory, now).as_deref(), Some("a"));
        assert_eq!(memory.failed("a", now, Duration::ZERO, "hangs"), FIRST_RETRY);
        assert_eq!(name(&memory, now).as_deref(), Some("b"));
        memory.failed("b", now, Duration::ZERO, "lies");
        assert_eq!(name(&memory, now), None);
        assert_eq!(memory.next(), Some(now + FIRST_RETRY));
        for failures in 1..40 {
            now += LAST_RETRY;
            assert_eq!(name(&memory, now).as_deref(), Some("a"), "failure {failures}");
            let wait = memory.failed("a", now, Duration::ZERO, "hangs again");
            assert!(wait > FIRST_RETRY && wait <= LAST_RETRY);
        }
        assert_eq!(memory.failed("a", now, PROVEN, "worked for long"), FIRST_RETRY);
        assert_eq!(memory.rejected.len(), 2);
        memory.works("a");
        assert_eq!(memory.rejected, [("b".to_owned(), "lies".to_owned())]);
    }
}
