//! The guest's clock as seen from the host.
//!
//! In: pings and their answers. Out: a guest time as a host time, with the uncertainty of that.
//! The two raw clocks are never subtracted from one another anywhere else.
//!
//! An answer carries two guest times (received, sent) between two host times (sent, received):
//!
//! ```text
//!   host   t1 ─────────────────────────── t4      offset = ((t2 − t1) + (t3 − t4)) / 2
//!            ╲                           ╱        round trip = (t4 − t1) − (t3 − t2)
//!   guest     t2 ───────────────────── t3         |error| ≤ round trip / 2
//! ```
//!
//! The best of the samples in the window counts, as in NTP: the shortest round trip, where an old
//! sample is charged for the drift that may have happened since.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use transom_protocol::{GuestTime, HostTime};

/// How many samples are looked at: a minute's worth at one a second.
const WINDOW: usize = 64;

/// Drift allowed for between the clocks, as a divisor: 50 ppm. Quartz keeps within that, and a
/// guest whose clock is disciplined by its host does far better.
const DRIFT: i64 = 20_000;

/// What is known about the guest's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Guest time minus host time in nanoseconds.
    pub offset: i64,
    /// How far off the offset may be, either way.
    pub uncertainty: Duration,
    /// Round trip of the sample behind it.
    pub round_trip: Duration,
}

/// Host times count nanoseconds from an epoch that this clock was born with.
#[derive(Debug)]
pub struct GuestClock {
    epoch: Instant,
    samples: VecDeque<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    taken: i64,
    offset: i64,
    round_trip: i64,
}

impl Sample {
    fn uncertainty(&self, now: i64) -> i64 {
        self.round_trip / 2 + (now - self.taken).max(0) / DRIFT
    }
}

impl GuestClock {
    /// A clock about which nothing is known yet.
    pub fn new(epoch: Instant) -> Self {
        Self { epoch, samples: VecDeque::with_capacity(WINDOW) }
    }

    /// `now` in nanoseconds since the epoch.
    pub fn nanos(&self, now: Instant) -> i64 {
        nanos(now.saturating_duration_since(self.epoch))
    }

    /// `now` as it is told to the guest.
    pub fn host_time(&self, now: Instant) -> HostTime {
        HostTime(self.nanos(now).unsigned_abs())
    }

    /// Takes one answer. Times that contradict each other are left out; `false` says so.
    pub fn handle_pong(
        &mut self,
        now: Instant,
        sent: HostTime,
        guest_received: GuestTime,
        guest_sent: GuestTime,
    ) -> bool {
        let Some(sample) = self.sample(now, sent, guest_received, guest_sent) else {
            return false;
        };
        if self.samples.len() == WINDOW {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        true
    }

    fn sample(&self, now: Instant, t1: HostTime, t2: GuestTime, t3: GuestTime) -> Option<Sample> {
        let t4 = self.nanos(now);
        let [t1, t2, t3] = [t1.0, t2.0, t3.0].map(|t| i64::try_from(t).ok());
        let (t1, t2, t3) = (t1?, t2?, t3?);
        let away = t4.checked_sub(t1).filter(|away| *away >= 0)?;
        let inside = t3.checked_sub(t2).filter(|inside| (0..=away).contains(inside))?;
        // Both differences fit: all four are at least 0.
        let offset = ((i128::from(t2 - t1) + i128::from(t3 - t4)) / 2) as i64;
        Some(Sample { taken: t4, offset, round_trip: away - inside })
    }

    /// The best that is known, or nothing before the first answer.
    pub fn estimate(&self, now: Instant) -> Option<Estimate> {
        let now = self.nanos(now);
        let best = self.samples.iter().min_by_key(|sample| sample.uncertainty(now))?;
        Some(Estimate {
            offset: best.offset,
            uncertainty: duration(best.uncertainty(now)),
            round_trip: duration(best.round_trip),
        })
    }
}

impl Estimate {
    /// A guest time in nanoseconds of the host's clock. Before the epoch it is negative.
    pub fn host_nanos(&self, guest: GuestTime) -> i64 {
        (i128::from(guest.0) - i128::from(self.offset)).clamp(i64::MIN.into(), i64::MAX.into())
            as i64
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn duration(nanos: i64) -> Duration {
    Duration::from_nanos(nanos.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    /// Answers a ping over a link with the given one-way delays; the guest's clock is `offset`
    /// ahead and drifts by `ppm`.
    fn ping(clock: &mut GuestClock, at: i64, there: i64, back: i64, offset: i64, ppm: i64) {
        let guest = |host: i64| GuestTime((host + offset + host / 1_000_000 * ppm) as u64);
        let now = clock.epoch + duration(at + there + back);
        assert!(clock.handle_pong(now, HostTime(at as u64), guest(at + there), guest(at + there)));
    }

    fn clock() -> GuestClock {
        GuestClock::new(Instant::now())
    }

    #[test]
    fn nothing_is_known_before_the_first_answer() {
        assert_eq!(clock().estimate(Instant::now()), None);
    }

    #[test]
    fn the_shortest_round_trip_wins_until_drift_makes_it_stale() {
        let mut clock = clock();
        ping(&mut clock, 0, MS / 10, MS / 10, 5_000 * MS, 0);
        ping(&mut clock, 1_000 * MS, 40 * MS, MS / 10, 5_000 * MS, 0);
        let soon = clock.epoch + Duration::from_secs(2);
        let estimate = clock.estimate(soon).expect("two samples");
        assert_eq!(estimate.offset, 5_000 * MS);
        assert_eq!(estimate.round_trip, Duration::from_micros(200));
        assert!(estimate.uncertainty >= Duration::from_micros(100));
        ping(&mut clock, 60_000 * MS, MS / 2, MS / 2, 5_003 * MS, 0);
        let late = clock.epoch + Duration::from_secs(61);
        assert_eq!(clock.estimate(late).expect("three samples").offset, 5_003 * MS);
    }

    #[test]
    fn answers_that_contradict_themselves_are_left_out() {
        let mut clock = clock();
        let now = clock.epoch + Duration::from_millis(10);
        let at = |t: u64| HostTime(t * MS as u64);
        let guest = |t: u64| GuestTime(t * MS as u64);
        assert!(!clock.handle_pong(now, at(11), guest(1), guest(2)), "answered before it was sent");
        assert!(!clock.handle_pong(now, at(0), guest(3), guest(2)), "sent before it was received");
        assert!(
            !clock.handle_pong(now, at(0), guest(0), guest(20)),
            "held for longer than it took"
        );
        assert!(!clock.handle_pong(now, at(0), GuestTime(u64::MAX), GuestTime(u64::MAX)));
        assert_eq!(clock.estimate(now), None);
    }

    proptest! {
        #[test]
        fn the_truth_lies_within_the_uncertainty(
            offset in 0i64..1_000_000_000_000_000,
            ppm in -40i64..40,
            delays in prop::collection::vec((1_000i64..50_000_000, 1_000i64..50_000_000), 1..100),
        ) {
            let mut clock = clock();
            let offset = offset + 1_000_000_000_000;
            for (i, (there, back)) in delays.iter().enumerate() {
                ping(&mut clock, i as i64 * 1_000 * MS, *there, *back, offset, ppm);
            }
            let now = delays.len() as i64 * 1_000 * MS;
            let truth = offset + now / 1_000_000 * ppm;
            let estimate = clock.estimate(clock.epoch + duration(now)).expect("samples were given");
            let error = (estimate.offset - truth).unsigned_abs();
            // A microsecond for the rounding of the simulated drift.
            prop_assert!(u128::from(error) <= estimate.uncertainty.as_nanos() + 1_000, "{error} {estimate:?}");
        }
    }
}
