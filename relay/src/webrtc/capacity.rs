//! What a viewer's network carries, where the estimator alone is wrong. Pure: estimates, loss, round
//! trips and what is sent in, a bitrate out, and when to let the estimator begin anew.
//!
//! **Loss where nothing is full.** The bandwidth estimate reads loss above a twentieth as a full link and falls to 100 kb/s divided
//! by what is beyond it, as Chromium's does: at one packet in ten to 2 Mb/s, whatever the link has.
//! On a radio link that is wrong. A full link makes packets wait before it drops them; so as long as
//! round trips stay as short as they were, what was estimated before the loss began holds on, up to
//! a share of loss at which sending as much would be unkind to others.
//!
//! **A way that narrows.** The estimator comes down in steps, and tells the mean of three seconds of
//! them; meanwhile most of what is sent is lost, what is sent again too, and the loss takes it down
//! to nothing, from where it grows by some percent a second. But what came through is known: it is
//! what the way carries. So the estimate begins anew there, and a little below, as soon as loss and
//! round trips tell that the way is full, and nothing is sent until what queues in front of it is
//! through.
//!
//! **A way that widens again**, or was never narrow: a moment's jitter takes the estimate down to what
//! was sent in it. Beginning anew makes the estimator try the way with padding; that is repeated for
//! as long as the way is quiet and was estimated to be wider.

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

/// What a way that is full is taken to carry, as a share of what came through: less, so that the queue
/// in front of it stays empty. In percent.
const BELOW: u64 = 85;

/// The estimator's loss and its means are of the last second, and of three.
const LOSS_SPAN: Duration = Duration::from_secs(1);
const SMOOTHED: Duration = Duration::from_secs(3);

/// After a fall, the next one at the earliest: the loss before it is no longer counted.
const AGAIN: Duration = Duration::from_millis(1500);

/// After a fall a quiet way is tried as soon as this, and as seldom, if trying brings nothing.
const FIRST_TRY: Duration = Duration::from_secs(4);
const LAST_TRY: Duration = Duration::from_secs(30);

/// A way that was tried is wider if the estimate grew by so much, in percent.
const WIDER: u64 = 130;

/// An estimate that is below such a share of the largest of late has fallen, in percent.
const MUCH_LESS: u64 = 65;
const OF_LATE: Duration = Duration::from_secs(10);

/// What follows from how a way does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    On,
    /// It carries no more than so many bits per second: the estimator is to begin anew there. What
    /// queues takes so long to be through.
    Fell(u64, Duration),
    /// The estimator is to begin anew with so many bits per second: without the loss of before, or to
    /// try whether the way carries more.
    Anew(u64),
}

/// A way that was estimated to carry more than it does.
#[derive(Debug, Clone, Copy)]
struct Fallen {
    /// Bits per second before.
    from: u64,
    /// When it was tried last, at which estimate, and how long to wait before the next time.
    tried: Instant,
    estimate: u64,
    wait: Duration,
}

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
    /// Bits that were sent since the last report, and before each of the reports of a second.
    sending: u64,
    sent: VecDeque<(Instant, u64)>,
    /// The way is full by the last report.
    full: bool,
    /// When it was found to carry less, and how much; and that the loss of that time still counts.
    fell: Option<(Instant, u64)>,
    settles: bool,
    /// The largest estimates of late.
    most: Lately<u64>,
    fallen: Option<Fallen>,
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
            sending: 0,
            sent: VecDeque::new(),
            full: false,
            fell: None,
            settles: false,
            most: Lately::new(now, OF_LATE),
            fallen: None,
        }
    }

    /// So many bits leave.
    pub fn handle_sent(&mut self, bits: u64) {
        self.sending += bits;
    }

    /// The estimator has come to so many bits per second.
    pub fn handle_estimate(&mut self, now: Instant, estimate: u64) {
        // Right behind a fall it tells means of before.
        let fell = self.fell.filter(|_| self.has_fallen(now));
        self.estimate = fell.map_or(estimate, |(_, to)| to.min(estimate));
    }

    /// Whether it was full a moment ago.
    fn has_fallen(&self, now: Instant) -> bool {
        self.fell.is_some_and(|(at, _)| now.saturating_duration_since(at) < SMOOTHED)
    }

    /// Of the packets of the last second this share was lost, and the newest one's round trip was
    /// so long. Call it a few times a second.
    pub fn handle_way(&mut self, now: Instant, loss: f32, round_trip: Duration) -> Turn {
        let sends = self.sends(now);
        if loss >= TWICE {
            self.lost = Some(now);
        }
        self.shortest.add(now, round_trip, Duration::min);
        if self.recent.len() == ROUND_TRIPS {
            self.recent.pop_front();
        }
        self.recent.push_back(round_trip);
        self.full = loss > FULL || (loss >= LOSSY && self.queues());
        if self.full {
            // What held before does so no longer.
            self.held = None;
            self.clean = Lately::new(now, BEFORE);
            self.lossy = Some(now);
            let through = (sends as f64 * f64::from(1.0 - loss.clamp(0.0, 1.0))) as u64;
            return self.fall(now, through * BELOW / 100, round_trip);
        }
        if loss >= LOSSY {
            self.lossy = Some(now);
            self.held = self.held.max(self.clean.get(u64::max));
        } else if self.lossy.is_none_or(|at| now.saturating_duration_since(at) > BEHIND) {
            (self.lossy, self.held) = (None, None);
            self.clean.add(now, self.estimate, u64::max);
        }
        self.recover(now, loss, round_trip)
    }

    /// Bits per second of the last second.
    fn sends(&mut self, now: Instant) -> u64 {
        self.sent.push_back((now, std::mem::take(&mut self.sending)));
        let is_old = |at: Instant| now.saturating_duration_since(at) > LOSS_SPAN;
        // The first of them ends where the second begins to count.
        while self.sent.get(1).is_some_and(|(at, _)| is_old(*at)) {
            self.sent.pop_front();
        }
        let Some((first, _)) = self.sent.front() else { return 0 };
        let span = now.saturating_duration_since(*first).as_secs_f64();
        let bits: u64 = self.sent.iter().skip(1).map(|(_, bits)| bits).sum();
        if span > 0.0 { (bits as f64 / span) as u64 } else { 0 }
    }

    /// The way is full, and carries `to`.
    fn fall(&mut self, now: Instant, to: u64, round_trip: Duration) -> Turn {
        let from = self.carries();
        let is_told = |(at, _)| now.saturating_duration_since(at) < AGAIN;
        if to == 0 || to >= from || self.fell.is_some_and(is_told) {
            return Turn::On;
        }
        self.remember(now, from, to);
        (self.fell, self.estimate, self.settles) = (Some((now, to)), to, true);
        Turn::Fell(to, round_trip.saturating_sub(self.at_best(round_trip)).min(LOSS_SPAN))
    }

    /// Once there was more than `estimate`.
    fn remember(&mut self, now: Instant, from: u64, estimate: u64) {
        let from = self.fallen.map_or(from, |fallen| fallen.from.max(from));
        self.fallen = Some(Fallen { from, tried: now, estimate, wait: FIRST_TRY });
    }

    /// Tries a way that has carried more, from time to time, while nothing is lost or queues.
    fn recover(&mut self, now: Instant, loss: f32, round_trip: Duration) -> Turn {
        if self.settles && loss < TWICE {
            // By what was lost while the way was full, the estimator would still come down to nothing.
            self.settles = false;
            self.estimate = self.fell.map_or(self.estimate, |(_, to)| to);
            return Turn::Anew(self.estimate);
        }
        self.most.add(now, self.estimate, u64::max);
        let most = self.most.get(u64::max).unwrap_or_default();
        if self.fallen.is_none() && self.estimate < most / 100 * MUCH_LESS {
            self.remember(now, most, self.estimate);
        }
        let at_best = self.at_best(round_trip);
        let Some(fallen) = &mut self.fallen else { return Turn::On };
        if self.estimate >= fallen.from / 10 * 9 {
            self.fallen = None;
            return Turn::On;
        }
        let is_quiet = loss < TWICE && round_trip <= at_best + QUEUE;
        if !is_quiet || now.saturating_duration_since(fallen.tried) < fallen.wait {
            return Turn::On;
        }
        let wider = self.estimate >= fallen.estimate / 100 * WIDER;
        fallen.wait = if wider { FIRST_TRY } else { (fallen.wait * 2).min(LAST_TRY) };
        (fallen.tried, fallen.estimate) = (now, self.estimate);
        Turn::Anew(self.estimate)
    }

    /// The shortest round trip of late.
    fn at_best(&self, round_trip: Duration) -> Duration {
        self.shortest.get(Duration::min).unwrap_or(round_trip)
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

    /// What to have the estimator look for, where `most` bits per second are of use. It tries the way
    /// with twice of what it looks for: with much more than there is it would fill the way, and take
    /// the delay for a narrower one. Right behind a fall not even that: the way is known, and full.
    pub fn wishes(&self, now: Instant, most: u64) -> u64 {
        let carries = self.carries();
        most.min(if self.has_fallen(now) { carries / 2 } else { carries / 20 * 21 })
    }

    /// Whether what is sent again is worth sending twice: not where it would fill the way. For a while
    /// behind the last loss, too: what goes twice seldom gets lost, by which nobody may conclude that
    /// nothing does.
    pub fn loses(&self, now: Instant) -> bool {
        !self.full && self.lost.is_some_and(|at| now.saturating_duration_since(at) < BEHIND)
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
                capacity.handle_estimate(now, *estimate);
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

    /// A way of 5 Mb/s that is given 16 from one moment on, and what follows, with the time since.
    fn narrowed(after: &[(u32, u64, f32, Duration)]) -> (Capacity, Instant, Vec<(Duration, Turn)>) {
        let begun = Instant::now();
        let (mut now, mut capacity) = (begun, Capacity::new(begun, 16_000_000));
        let before = [(20, 16_000_000, 0.0, TRIP)];
        // The estimator tells the mean of three seconds; the loss is of the last one.
        let full = [(5, 15_000_000, 0.68, 10 * TRIP)];
        let mut turns = Vec::new();
        for (steps, estimate, loss, trip) in before.iter().chain(&full).chain(after) {
            for _ in 0..*steps {
                now += STEP;
                capacity.handle_sent(16_000_000 / 5);
                capacity.handle_estimate(now, *estimate);
                let turn = capacity.handle_way(now, *loss, *trip);
                if turn != Turn::On {
                    turns.push((now - begun - 20 * STEP, turn));
                }
            }
        }
        (capacity, now, turns)
    }

    #[test]
    fn a_way_that_narrows_carries_what_came_through_and_a_little_less() {
        let (capacity, now, turns) = narrowed(&[]);
        let [(STEP, Turn::Fell(to, queue))] = turns[..] else { panic!("{turns:?}") };
        let through = 16_000_000.0 * 0.32 * 0.85;
        assert!((to as f64 - through).abs() < through / 10.0, "{to}");
        assert_eq!(queue, 9 * TRIP);
        assert_eq!(capacity.carries(), to);
        assert!(!capacity.loses(now), "it would be filled by what goes twice");
        assert!(capacity.wishes(now, 60_000_000) < to, "it is known, and full");
    }

    #[test]
    fn what_was_lost_then_does_not_count_any_more() {
        let (capacity, now, turns) =
            narrowed(&[(1, 300_000, 0.0, TRIP), (1, 4_000_000, 0.0, TRIP)]);
        let [(_, Turn::Fell(to, _)), (_, Turn::Anew(from))] = turns[..] else {
            panic!("{turns:?}")
        };
        assert_eq!(from, to);
        // What is less counts again, and what is more not yet.
        assert_eq!(capacity.carries(), 4_000_000);
        assert!(capacity.wishes(now, 60_000_000) < to);
    }

    #[test]
    fn a_way_that_was_wider_is_tried_more_and_more_seldom_until_it_is_again() {
        let (_, _, turns) = narrowed(&[(300, 4_000_000, 0.0, TRIP)]);
        let tried: Vec<_> = turns.iter().skip(2).map(|(at, _)| *at).collect();
        assert!(turns[1..].iter().all(|(_, turn)| matches!(turn, Turn::Anew(_))), "{turns:?}");
        assert!((3..=6).contains(&tried.len()), "{tried:?}");
        let waits: Vec<_> = tried.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(waits.windows(2).all(|two| two[1] >= two[0]), "{waits:?}");

        let (capacity, now, turns) =
            narrowed(&[(20, 4_000_000, 0.0, TRIP), (300, 16_000_000, 0.0, TRIP)]);
        assert!(turns.len() <= 3, "{turns:?}");
        assert_eq!(capacity.carries(), 16_000_000);
        assert!(capacity.wishes(now, 60_000_000) > 16_000_000);
        assert_eq!(capacity.wishes(now, 9_000_000), 9_000_000);
    }

    #[test]
    fn nothing_is_tried_while_packets_wait() {
        let (_, _, turns) = narrowed(&[(8, 4_000_000, 0.0, TRIP), (100, 4_000_000, 0.0, 4 * TRIP)]);
        // But for the round trips that soon are the shortest there are.
        let early = turns.iter().filter(|(at, _)| *at < STEP * 13 + FORGET).count();
        assert_eq!(early, 2, "{turns:?}");
    }

    #[test]
    fn an_estimate_that_falls_by_itself_is_tried_too() {
        let begun = Instant::now();
        let (mut now, mut capacity) = (begun, Capacity::new(begun, 16_000_000));
        let mut turns = Vec::new();
        for step in 0..60 {
            now += STEP;
            capacity.handle_estimate(now, if step < 20 { 16_000_000 } else { 4_000_000 });
            turns.push(capacity.handle_way(now, 0.0, TRIP));
        }
        assert!(turns[..30].iter().all(|turn| *turn == Turn::On), "{turns:?}");
        assert!(turns.contains(&Turn::Anew(4_000_000)), "{turns:?}");
    }
}
