//! How long frames take in each stage, over the last seconds.
//!
//! What enters: the times of each access unit that was sent. What leaves: percentiles and shares,
//! computed when somebody asks; until then a frame costs one entry in a ring.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use transom_protocol::GuestTime;
use transom_protocol::diagnostics::Percentiles;
use transom_protocol::message::FrameTimes;

/// Frames kept: four seconds at the highest frame rate.
const KEPT: usize = 1024;
/// How far back figures reach, in nanoseconds.
const WINDOW: u64 = 5_000_000_000;

/// What is kept of a frame.
#[derive(Debug, Clone, Copy)]
struct Passed {
    times: FrameTimes,
    damage: u32,
}

/// The meter.
#[derive(Debug, Default)]
pub struct Meter {
    passed: Mutex<VecDeque<Passed>>,
    bytes: std::sync::atomic::AtomicU64,
}

/// What it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// From seen to converted.
    pub convert: Percentiles,
    /// From converted to encoded.
    pub encode: Percentiles,
    /// From encoded to sent.
    pub queue: Percentiles,
    /// Changed pixels of a frame, on average.
    pub damage: u64,
}

impl Meter {
    /// An access unit of `bytes` went out.
    pub fn sent(&self, times: FrameTimes, damage: u32, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, std::sync::atomic::Ordering::Relaxed);
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.len() == KEPT {
            passed.pop_front();
        }
        passed.push_back(Passed { times, damage });
    }

    /// Bytes of all access units since the agent started.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The figures of the last seconds.
    pub fn figures(&self, now: GuestTime) -> Figures {
        let frames: Vec<Passed> = {
            let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
            passed
                .iter()
                .filter(|p| now.0.saturating_sub(p.times.sent.0) < WINDOW)
                .copied()
                .collect()
        };
        let stage = |from: fn(&FrameTimes) -> GuestTime, to: fn(&FrameTimes) -> GuestTime| {
            let micros = |p: &Passed| to(&p.times).0.saturating_sub(from(&p.times).0) / 1000;
            percentiles(frames.iter().map(micros).collect())
        };
        let damage: u64 = frames.iter().map(|p| u64::from(p.damage)).sum();
        Figures {
            convert: stage(|t| t.seen, |t| t.converted),
            encode: stage(|t| t.converted, |t| t.encoded),
            queue: stage(|t| t.encoded, |t| t.sent),
            damage: damage / (frames.len() as u64).max(1),
        }
    }
}

/// Nearest rank.
fn percentiles(mut micros: Vec<u64>) -> Percentiles {
    micros.sort_unstable();
    let rank = |percent: usize| {
        let index = (micros.len() * percent).div_ceil(100).saturating_sub(1);
        micros.get(index).map_or(0, |&micros| u32::try_from(micros).unwrap_or(u32::MAX))
    };
    Percentiles { p50: rank(50), p95: rank(95), p99: rank(99) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(sent: u64, micros: u64) -> FrameTimes {
        let at = |back: u64| GuestTime(sent - back * 1000);
        FrameTimes {
            seen: at(4 * micros),
            converted: at(3 * micros),
            encoded: at(micros),
            sent: at(0),
        }
    }

    #[test]
    fn percentiles_are_those_of_the_window() {
        let meter = Meter::default();
        assert_eq!(meter.figures(GuestTime(1)), Figures::default());
        // Too old to count.
        meter.sent(times(1_000_000_000, 100_000), 1, 1);
        let now = 60_000_000_000;
        for micros in 1..=100 {
            meter.sent(times(now, micros), 50, 1000);
        }
        let figures = meter.figures(GuestTime(now));
        assert_eq!(figures.convert, Percentiles { p50: 50, p95: 95, p99: 99 });
        assert_eq!(figures.encode, Percentiles { p50: 100, p95: 190, p99: 198 });
        assert_eq!(figures.queue, figures.convert);
        assert_eq!(figures.damage, 50);
        assert_eq!(meter.bytes(), 100_001);
    }

    #[test]
    fn it_does_not_grow() {
        let meter = Meter::default();
        (0..3 * KEPT as u64).for_each(|n| meter.sent(times(1_000_000_000 + n, 1), 0, 0));
        assert_eq!(meter.passed.lock().expect("no panic").len(), KEPT);
    }
}
