//! Notices a stage that does not move any more, names it, and lets systemd start the agent anew.
//!
//! A stage says what it is about to do ([`Pulse::enter`]) and when it waits for others
//! ([`Pulse::rest`]): two atomic writes, no lock. A thread of its own looks every few seconds. Under
//! systemd's `WatchdogSec=` it tells systemd that all is well, as long as it is: a stall of
//! [`FATAL`] makes it stop, and systemd does the rest. In between there is time to ask the agent
//! what is wrong: diagnostics go on answering meanwhile.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::hub::Hub;

/// A stage that takes so long is stalled. Encoding a large picture in an emulated guest stays below
/// a second.
pub const STALL: Duration = Duration::from_secs(3);
/// A pipeline that takes so long does not come back.
pub const FATAL: Duration = Duration::from_secs(30);
/// Between two looks, where systemd does not want them more often.
const LOOK: Duration = Duration::from_secs(5);

/// What a thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Reading the scanout.
    Capture = 1,
    /// Encoding a picture.
    Encode = 2,
    /// Writing to the host.
    Send = 3,
}

impl Stage {
    /// Its name, as diagnostics show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Encode => "encode",
            Self::Send => "send",
        }
    }

    /// Why it may stall, and what helps.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Capture => {
                "the kernel's display driver does not answer: look into its log \
                 (`transom diag … logs --kernel`); the agent is restarted by systemd"
            }
            Self::Encode => {
                "the encoder does not come back: choose another one \
                 (`transom diag … set encoder screen`, TRANSOM_ENCODER in /etc/transom/agent)"
            }
            Self::Send => "the host takes no media: look at the relay and at the host's load",
        }
    }
}

/// What one thread is doing, and since when.
#[derive(Debug, Default)]
pub struct Pulse {
    stage: AtomicU8,
    /// In milliseconds of the guest's clock.
    since: AtomicU64,
}

impl Pulse {
    /// Begins with something that has to end soon.
    pub fn enter(&self, stage: Stage) {
        self.since.store(now(), Ordering::Relaxed);
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// Waits for others, for as long as they like.
    pub fn rest(&self) {
        self.stage.store(0, Ordering::Release);
    }

    /// What does not end, and since when.
    fn stalled(&self, now: u64) -> Option<(Stage, Duration)> {
        let stage = match self.stage.load(Ordering::Acquire) {
            1 => Stage::Capture,
            2 => Stage::Encode,
            3 => Stage::Send,
            _ => return None,
        };
        let since = self.since.load(Ordering::Relaxed);
        let elapsed = Duration::from_millis(now.saturating_sub(since));
        (elapsed >= STALL).then_some((stage, elapsed))
    }
}

/// The threads that are watched.
#[derive(Debug, Default)]
pub struct Watch {
    /// Capture and encode.
    pub pipeline: Pulse,
    /// The media connection.
    pub media: Pulse,
}

impl Watch {
    /// The stage that does not move any more, and for how long.
    pub fn stalled(&self) -> Option<(Stage, Duration)> {
        let now = now();
        self.pipeline.stalled(now).or_else(|| self.media.stalled(now))
    }

    /// Whether only a fresh process helps. A host that does not read is none of our faults.
    fn is_lost(&self) -> bool {
        self.pipeline.stalled(now()).is_some_and(|(_, elapsed)| elapsed >= FATAL)
    }
}

fn now() -> u64 {
    clock::now().0 / 1_000_000
}

/// Watches until the hub stops.
pub fn run(hub: &Hub) {
    let wanted = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
    // Three times in the period, so that one late look does no harm.
    let pause = wanted.map_or(LOOK, |micros| LOOK.min(Duration::from_micros(micros) / 3));
    let mut told = None;
    while !hub.is_stopping() {
        let stalled = hub.watch.stalled();
        match (stalled, told) {
            (Some((stage, elapsed)), told_of) if told_of != Some(stage) => {
                let (name, seconds) = (stage.name(), elapsed.as_secs());
                log::warn!("stage '{name}' has not moved for {seconds} s: {}", stage.remedy());
                told = Some(stage);
            }
            (None, Some(stage)) => {
                log::info!("stage '{}' moves again", stage.name());
                told = None;
            }
            _ => {}
        }
        if wanted.is_some() && !hub.watch.is_lost() {
            // Without systemd there is nobody to tell.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
        thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_stalls_by_name_and_moves_again() {
        let pulse = Pulse::default();
        let later = now() + 3000;
        assert_eq!(pulse.stalled(later), None);
        pulse.enter(Stage::Encode);
        assert_eq!(pulse.stalled(now()), None);
        let (stage, elapsed) = pulse.stalled(now() + 4000).expect("stalled");
        assert_eq!(stage, Stage::Encode);
        assert!(elapsed >= STALL);
        pulse.rest();
        assert_eq!(pulse.stalled(now() + 60_000), None);
    }
}
