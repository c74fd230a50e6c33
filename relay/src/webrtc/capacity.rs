//! What a viewer's network carries, where packets get lost and nothing is full. Pure: estimates, loss
//! and round trips in, a bitrate out.
//!
//! The bandwidth estimate reads loss above a twentieth as a full link and falls to 100 kb/s divided
//! by what is beyond it, as Chromium's does: at one packet in ten to 2 Mb/s, whatever the link has.
//! On a radio link that is wrong. A full link makes packets wait before it drops them; so as long as
//! round trips stay as short as they were, what was estimated before the loss began holds on, up to
//! a share of loss at which sending as much would be unkind to others.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Share of packets from which on a way is lossy.
const LOSSY: f32 = 0.02;

/// Share of packets above which loss is taken for a full link, whatever round trips say: a router
/// that polices drops without any delay. A little more than the tenth at which older Chromium
/// began to give way.
const FULL: f32 = 0.16;

/// Share of packets from which on what is sent again goes twice.
const TWICE: f32 = 0.005;

/// So much longer than the shortest of late, round trips tell of a queue. The time between two
/// pictures is in them, for viewers report now and then.
const QUEUE: Duration = Duration::from_millis(30);

/// Round trips that must all be longer: single ones are so for any reason.
const ROUND_TRIPS: usize = 4;

/// The shortest round trip is forgotten after one to two of this: routes change.
const FORGET: Duration = Duration::from_secs(10);

/// How long an estimate of before the loss is known to have held: the estimator is as slow.
const BEFORE: Duration = Duration::from_secs(1);

/// How long the estimate of before the loss holds on behind it, for the estimator to recover.
const BEHIND: Duration = Duration::from_secs(5);

/// The largest or smallest of a span of one to two times its length.
#[derive(Debug)]
struct Lately<T> {
    last: Option<T>,
    now: Option<T>,
    since: Instant,
    span: Duration,
}

impl<T: Copy> Lately<T> {
    fn new(now: Instant, span: Duration) -> Self {
        Self { last: None, now: None, since: now, span }
    }

    fn add(&mut self, now: Instant, value: T, best: fn(T, T) -> T) {
        if now.saturating_duration_since(self.since) >= self.span {
            (self.last, self.now, self.since) = (self.now.take(), None, now);
        }
        self.now = Some(self.now.map_or(value, |known| best(known, value)));
    }

    fn get(&self, best: fn(T, T) -> T) -> Option<T> {
        [self.last, self.now].into_iter().flatten().reduce(best)
    }
}

/// What one viewer's network carries.
#[derive(Debug)]
pub struct Capacity {
    estimate: u64,
    /// Estimates of a way without loss.
    clean: Lately<u64>,
    /// What was estimated before packets got lost, while that holds.
    held: Option<u64>,
    shortest: Lately<Duration>,
    recent: VecDeque<Duration>,
    /// When the way lost anything last, and when it was lossy.
    lost: Option<Instant>,
    lossy: Option<Instant>,
}

impl Capacity {
    /// Nothing is known but a first estimate, in bits per second.
    pub fn new(now: Instant, estimate: u64) -> Self {
        Self {
            estimate,
            clean: Lately::new(now, BEFORE),
            held: None,
            shortest: Lately::new(now, FORGET),
            recent: VecDeque::with_capacity(ROUND_TRIPS),
            lost: None,
            lossy: None,
        }
    }

    /// The estimator has come to so many bits per second.
    pub fn handle_estimate(&mut self, estimate: u64) {
        self.estimate = estimate;
    }

    /// Of the packets of the last second this share was lost, and the newest one's round trip was
    /// so long. Call it a few times a second.
    pub fn handle_way(&mut self, now: Instant, loss: f32, round_trip: Duration) {
        if loss >= TWICE {
            self.lost = Some(now);
        }
        self.shortest.add(now, round_trip, Duration::min);
        if self.recent.len() == ROUND_TRIPS {
            self.recent.pop_front();
        }
        self.recent.push_back(round_trip);
        if loss >= LOSSY {
            self.lossy = Some(now);
        } else if self.lossy.is_none_or(|at| now.saturating_duration_since(at) > BEHIND) {
            (self.lossy, self.held) = (None, None);
            self.clean.add(now, self.estimate, u64::max);
            return;
        }
        if self.queues() || loss > FULL {
            // What held before does so no longer.
            self.held = None;
            self.clean = Lately::new(now, BEFORE);
        } else if loss >= LOSSY {
            self.held = self.held.max(self.clean.get(u64::max));
        }
    }

    /// Whether packets wait somewhere on the way.
    fn queues(&self) -> bool {
        let shortest = self.shortest.get(Duration::min).unwrap_or_default();
        self.recent.len() == ROUND_TRIPS && self.recent.iter().all(|trip| *trip > shortest + QUEUE)
    }

    /// What it carries, in bits per second.
    pub fn carries(&self) -> u64 {
        self.held.map_or(self.estimate, |held| held.max(self.estimate))
    }

    /// Whether what is sent again is worth sending twice. For a while behind the last loss, too: what
    /// goes twice seldom gets lost, by which nobody may conclude that nothing does.
    pub fn loses(&self, now: Instant) -> bool {
        self.lost.is_some_and(|at| now.saturating_duration_since(at) < BEHIND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(200);
    const TRIP: Duration = Duration::from_millis(20);

    /// A way that is watched for a while with each of these estimates, losses and round trips.
    fn watch(parts: &[(u32, u64, f32, Duration)]) -> Capacity {
        let mut now = Instant::now();
        let mut capacity = Capacity::new(now, 10);
        for (steps, estimate, loss, trip) in parts {
            for _ in 0..*steps {
                now += STEP;
                capacity.handle_estimate(*estimate);
                capacity.handle_way(now, *loss, *trip);
            }
        }
        capacity
    }

    #[test]
    fn a_clean_way_carries_what_is_estimated() {
        assert_eq!(watch(&[(20, 8, 0.0, TRIP), (1, 3, 0.01, TRIP)]).carries(), 3);
    }

    #[test]
    fn loss_without_delay_does_not_count_as_a_full_link() {
        let capacity = watch(&[(20, 8, 0.0, TRIP), (100, 2, 0.1, TRIP)]);
        assert_eq!(capacity.carries(), 8);
        let last = capacity.lost.expect("it was lossy");
        assert!(capacity.loses(last + STEP) && !capacity.loses(last + BEHIND));
    }

    #[test]
    fn what_is_estimated_beyond_counts() {
        assert_eq!(watch(&[(20, 8, 0.0, TRIP), (10, 9, 0.1, TRIP)]).carries(), 9);
    }

    #[test]
    fn loss_with_delay_is_a_full_link() {
        let slow = TRIP + 2 * QUEUE;
        assert_eq!(watch(&[(20, 8, 0.0, TRIP), (10, 2, 0.1, slow)]).carries(), 2);
        // And what was held before is forgotten.
        let parts = [(20, 8, 0.0, TRIP), (10, 2, 0.1, TRIP), (10, 2, 0.1, slow), (5, 2, 0.1, TRIP)];
        assert_eq!(watch(&parts).carries(), 2);
    }

    #[test]
    fn so_is_more_loss_than_a_link_has_by_itself() {
        assert_eq!(watch(&[(20, 8, 0.0, TRIP), (2, 1, 0.3, TRIP)]).carries(), 1);
    }

    #[test]
    fn a_single_long_round_trip_says_nothing() {
        let parts = [(20, 8, 0.0, TRIP), (9, 2, 0.1, TRIP), (1, 2, 0.1, TRIP + 5 * QUEUE)];
        assert_eq!(watch(&parts).carries(), 8);
    }

    #[test]
    fn behind_the_loss_there_is_time_to_recover_and_no_more() {
        let lossy = [(20, 8, 0.0, TRIP), (20, 2, 0.1, TRIP)];
        let within = (BEHIND.as_millis() / STEP.as_millis()) as u32;
        let clean = |steps| watch(&[&lossy[..], &[(steps, 3, 0.0, TRIP)]].concat()).carries();
        assert_eq!(clean(within - 1), 8);
        assert_eq!(clean(within + 2), 3);
    }

    #[test]
    fn nothing_is_held_that_was_never_seen_clean() {
        assert_eq!(watch(&[(20, 2, 0.1, TRIP)]).carries(), 2);
    }
}
