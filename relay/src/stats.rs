//! What is measured: times per stage over the last seconds, rates, drops.
//!
//! In: access units with their times on one clock. Out: a [`Stats`] to show.
//!
//! ```text
//!   seen ─convert─▶ converted ─encode─▶ encoded ─queue─▶ sent ─link─▶ received ─relay─▶ out
//!   └─────────────── guest's clock ───────────────────────┘          └── host's clock ──┘
//! ```
//! The link crosses the clocks: it is as exact as [`crate::clock::Estimate::uncertainty`] says.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde::Serialize;
use transom_protocol::message::FrameTimes;

use crate::clock::Estimate;

/// How far back percentiles and rates look.
pub const WINDOW: Duration = Duration::from_secs(5);

/// Frames looked at: 5 s at 240 Hz, a bound for what a guest can make us keep.
const MAX_FRAMES: usize = 1200;

/// Number of stages, with the total.
const STAGES: usize = 6;

/// One percentile triple, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Half are below.
    pub p50: i64,
    /// 95 of 100 are below.
    pub p95: i64,
    /// 99 of 100 are below.
    pub p99: i64,
}

/// Latency of each stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stages {
    /// Seen to converted, in the guest.
    pub convert: Percentiles,
    /// Converted to encoded, in the guest.
    pub encode: Percentiles,
    /// Encoded to sent, in the guest.
    pub queue: Percentiles,
    /// Sent by the guest to received by the host, in full.
    pub link: Percentiles,
    /// Received to the last packet handed to the system, pacing included.
    pub relay: Percentiles,
    /// Seen by the guest to the last packet handed to the system.
    pub total: Percentiles,
}

/// The last seconds in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Frames per second.
    pub fps: f64,
    /// Kilobits of H.264 per second.
    pub kbps: f64,
    /// Percentiles in microseconds; nothing without a frame in the window.
    pub latency_us: Option<Stages>,
}

/// Collects the frames of the last seconds.
#[derive(Debug, Default)]
pub struct Collector {
    frames: VecDeque<Sample>,
    started: Option<Instant>,
}

#[derive(Debug)]
struct Sample {
    at: Instant,
    bytes: usize,
    /// Microseconds; nothing as long as the clock is not known.
    stages: Option<[i64; STAGES]>,
}

impl Collector {
    /// Takes a frame that is through. `received` and `out` are nanoseconds of the host's clock.
    pub fn add(
        &mut self,
        now: Instant,
        bytes: usize,
        times: &FrameTimes,
        received: i64,
        out: i64,
        clock: Option<Estimate>,
    ) {
        self.started.get_or_insert(now);
        if self.frames.len() == MAX_FRAMES {
            self.frames.pop_front();
        }
        let stages = clock.map(|clock| {
            let seen = clock.host_nanos(times.seen);
            let sent = clock.host_nanos(times.sent);
            let guest = [times.seen, times.converted, times.encoded, times.sent]
                .map(|time| clock.host_nanos(time));
            [
                guest[1].saturating_sub(guest[0]),
                guest[2].saturating_sub(guest[1]),
                guest[3].saturating_sub(guest[2]),
                received.saturating_sub(sent),
                out.saturating_sub(received),
                out.saturating_sub(seen),
            ]
            .map(|nanos| nanos / 1000)
        });
        self.frames.push_back(Sample { at: now, bytes, stages });
    }

    /// The figures up to now.
    pub fn stats(&mut self, now: Instant) -> Stats {
        while self.frames.front().is_some_and(|f| now.saturating_duration_since(f.at) > WINDOW) {
            self.frames.pop_front();
        }
        // Just after the start, the window is as long as the stream.
        let span = self.started.map_or(WINDOW, |started| {
            now.saturating_duration_since(started).clamp(Duration::from_secs(1), WINDOW)
        });
        let bytes: usize = self.frames.iter().map(|f| f.bytes).sum();
        Stats {
            fps: round(self.frames.len() as f64 / span.as_secs_f64()),
            kbps: round(bytes as f64 * 8.0 / 1000.0 / span.as_secs_f64()),
            latency_us: self.latency(),
        }
    }

    fn latency(&self) -> Option<Stages> {
        let mut columns = [const { Vec::new() }; STAGES];
        for stages in self.frames.iter().filter_map(|frame| frame.stages) {
            columns.iter_mut().zip(stages).for_each(|(column, value)| column.push(value));
        }
        if columns[0].is_empty() {
            return None;
        }
        let [convert, encode, queue, link, relay, total] = columns.map(percentiles);
        Some(Stages { convert, encode, queue, link, relay, total })
    }
}

fn percentiles(mut values: Vec<i64>) -> Percentiles {
    values.sort_unstable();
    // Nearest rank: an existing value, never one in between.
    let at = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
    Percentiles { p50: at(50), p95: at(95), p99: at(99) }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use transom_protocol::GuestTime;

    const MS: i64 = 1_000_000;

    fn clock(offset: i64) -> Estimate {
        Estimate { offset, uncertainty: Duration::ZERO, round_trip: Duration::ZERO }
    }

    /// A frame that spends 1, 2, 3, 4 and 5 ms in the stages.
    fn times(seen: i64) -> FrameTimes {
        let [seen, converted, encoded, sent] =
            [0, 1, 3, 6].map(|ms| GuestTime((seen + ms * MS) as u64));
        FrameTimes { seen, converted, encoded, sent }
    }

    #[test]
    fn stages_add_up_across_the_clocks() {
        let (now, offset) = (Instant::now(), 1_000_000 * MS);
        let mut collector = Collector::default();
        collector.add(now, 1000, &times(offset + 50 * MS), 60 * MS, 65 * MS, Some(clock(offset)));
        let stages = collector.stats(now).latency_us.expect("a frame");
        let all =
            [stages.convert, stages.encode, stages.queue, stages.link, stages.relay, stages.total];
        assert_eq!(all.map(|p| p.p50), [1000, 2000, 3000, 4000, 5000, 15000]);
    }

    #[test]
    fn rates_look_at_the_window_alone() {
        let start = Instant::now();
        let mut collector = Collector::default();
        let at = |i: u32| start + Duration::from_millis(20) * i;
        for i in 0..500 {
            collector.add(at(i), 1250, &times(0), 0, 0, None);
        }
        let stats = collector.stats(at(499));
        assert!((stats.fps - 50.0).abs() < 1.0, "{stats:?}");
        assert!((stats.kbps - 500.0).abs() < 10.0, "{stats:?}");
        assert_eq!(stats.latency_us, None, "nothing is claimed without a clock");
        assert_eq!(collector.stats(at(5000)).fps, 0.0);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        assert_eq!(
            percentiles((1..=100).rev().collect()),
            Percentiles { p50: 50, p95: 95, p99: 99 }
        );
        assert_eq!(percentiles(vec![7]), Percentiles { p50: 7, p95: 7, p99: 7 });
    }

    #[test]
    fn absurd_times_do_not_overflow() {
        let mut collector = Collector::default();
        let t = GuestTime(u64::MAX);
        let wild = FrameTimes { seen: t, converted: GuestTime(0), encoded: t, sent: GuestTime(0) };
        collector.add(Instant::now(), 1, &wild, i64::MAX, i64::MIN, Some(clock(i64::MIN)));
        assert!(collector.stats(Instant::now()).latency_us.is_some());
    }
}
