//! How many events the guest takes in a second. No input or output.
//!
//! In: that so many came, and when. Out: how long to read no more. What comes meanwhile waits in
//! the connection: nothing is lost, least of all a release.

use std::time::{Duration, Instant};

use transom_protocol::input::MAX_EVENT_RATE;

/// Events that may come at once: a tenth of a second's worth, more than a person and four
/// gamepads ever make.
const BURST: u32 = MAX_EVENT_RATE / 10;

/// A bucket that empties at [`MAX_EVENT_RATE`].
#[derive(Debug)]
pub struct Pace {
    /// When the bucket will be empty.
    empty: Instant,
}

impl Pace {
    /// An empty bucket.
    pub fn new(now: Instant) -> Self {
        Self { empty: now }
    }

    /// So many events came.
    pub fn count(&mut self, now: Instant, events: usize) {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        self.empty = self.empty.max(now) + Duration::from_secs(1) * events / MAX_EVENT_RATE;
    }

    /// How long to read no more; zero if there is room.
    pub fn pause(&self, now: Instant) -> Duration {
        let full = Duration::from_secs(1) * BURST / MAX_EVENT_RATE;
        self.empty.saturating_duration_since(now).saturating_sub(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_events_take_two_and_a_half_seconds() {
        let start = Instant::now();
        let (mut now, mut pace) = (start, Pace::new(start));
        for _ in 0..10_000 / 50 {
            now += pace.pause(now);
            pace.count(now, 50);
        }
        let took = now - start;
        assert!((Duration::from_millis(2_350)..=Duration::from_millis(2_500)).contains(&took));
    }

    #[test]
    fn a_person_never_waits() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for i in 0..1_000 {
            let now = start + Duration::from_millis(i);
            assert_eq!(pace.pause(now), Duration::ZERO);
            pace.count(now, 3);
        }
    }
}
