//! Spreads a large access unit over a frame interval, so that an IDR does not overrun the socket
//! buffer of a viewer or the queue of a switch. Pure: packets and `now` in, ranges to send out.
//!
//! Nothing queues up: when the next access unit comes, what is left of the last one goes at once.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

/// Packets that may go at once: 38 kB, well below what the smallest default socket buffer takes
/// (Linux: 92 packets of this size). A normal frame is below it and is never held up.
const BURST: usize = 32;

/// Packets behind the burst that go in each [`STEP`] at least: 77 Mb/s. So a frame only a little
/// over the burst does not wait for a share of an interval that it does not need.
const MIN_RATE: usize = 8;

/// Time between the parts of a large access unit; the resolution of the timer.
const STEP: Duration = Duration::from_millis(1);

/// Bounds for the interval that is spread over: 144 Hz, and 30 Hz, since a viewer of a mostly
/// still screen should not wait for the length of its pauses.
const MIN_INTERVAL: Duration = Duration::from_millis(7);
const MAX_INTERVAL: Duration = Duration::from_millis(33);

/// What remains to be sent of the current access unit.
#[derive(Debug)]
pub struct Pacer {
    /// Packets of the current access unit, all and sent.
    total: usize,
    sent: usize,
    started: Instant,
    spread: Duration,
    /// Smoothed distance between access units.
    interval: Duration,
}

impl Pacer {
    /// A pacer with nothing to send.
    pub fn new(now: Instant) -> Self {
        Self { total: 0, sent: 0, started: now, spread: STEP, interval: Duration::from_millis(16) }
    }

    /// Takes an access unit of `packets` packets in place of the last one.
    pub fn start(&mut self, now: Instant, packets: usize) {
        let gap = now.saturating_duration_since(self.started).clamp(MIN_INTERVAL, MAX_INTERVAL);
        self.interval = (self.interval * 7 + gap) / 8;
        // Done before the next one comes, even if that is early.
        self.spread = self.interval * 3 / 4;
        (self.total, self.sent, self.started) = (packets, 0, now);
    }

    /// The packets to send now; empty if none is due.
    pub fn poll(&mut self, now: Instant) -> Range<usize> {
        let steps = now.saturating_duration_since(self.started).as_micros() / STEP.as_micros();
        let all = (self.spread.as_micros() / STEP.as_micros()).max(1);
        let rest = self.total.saturating_sub(BURST);
        let share = (rest as u128 * steps / all).max(MIN_RATE as u128 * steps);
        // The cast loses nothing: no more than `rest` is left.
        self.take(BURST.min(self.total) + share.min(rest as u128) as usize)
    }

    /// All that is left.
    pub fn flush(&mut self) -> Range<usize> {
        self.take(self.total)
    }

    fn take(&mut self, due: usize) -> Range<usize> {
        let range = self.sent..due.max(self.sent);
        self.sent = range.end;
        range
    }

    /// Whether all packets were handed out.
    pub fn is_done(&self) -> bool {
        self.sent == self.total
    }

    /// When to poll again, while there is something left.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        (!self.is_done()).then(|| now + STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_micros(16_667);

    /// Sends one access unit and tells the parts with their times.
    fn run(pacer: &mut Pacer, start: Instant, packets: usize) -> Vec<(Duration, usize)> {
        pacer.start(start, packets);
        let (mut now, mut parts) = (start, Vec::new());
        loop {
            let range = pacer.poll(now);
            if !range.is_empty() {
                parts.push((now - start, range.len()));
            }
            match pacer.poll_timeout(now) {
                Some(next) => now = next,
                None => return parts,
            }
        }
    }

    #[test]
    fn a_small_access_unit_goes_at_once() {
        let now = Instant::now();
        assert_eq!(run(&mut Pacer::new(now), now + FRAME, BURST), [(Duration::ZERO, BURST)]);
        assert_eq!(run(&mut Pacer::new(now), now + FRAME, 0), []);
    }

    #[test]
    fn one_a_little_larger_is_hardly_held_up() {
        let now = Instant::now();
        let parts = run(&mut Pacer::new(now), now + FRAME, BURST + 10);
        assert_eq!(parts, [(Duration::ZERO, BURST), (STEP, 8), (STEP * 2, 2)]);
    }

    #[test]
    fn a_large_one_is_spread_but_done_before_the_next() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        for i in 1..100 {
            let parts = run(&mut pacer, now + FRAME * i, 325);
            assert_eq!(parts.iter().map(|(_, n)| n).sum::<usize>(), 325);
            assert!(parts.iter().all(|(_, n)| *n <= 40), "{parts:?}");
            assert!(parts.last().expect("sent").0 < FRAME, "{parts:?}");
            assert!(parts.len() >= 8, "{parts:?}");
        }
    }

    #[test]
    fn what_is_left_goes_when_the_next_one_comes() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        pacer.start(now, 1000);
        let first = pacer.poll(now).len();
        assert_eq!(pacer.flush(), first..1000);
        assert!(pacer.is_done() && pacer.flush().is_empty() && pacer.poll_timeout(now).is_none());
    }

    #[test]
    fn a_still_screen_does_not_slow_the_next_picture_down() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        for i in 1..50 {
            let parts = run(&mut pacer, now + Duration::from_secs(60) * i, 325);
            assert!(parts.last().expect("sent").0 <= MAX_INTERVAL, "{parts:?}");
        }
    }
}
