//! When the next picture may be encoded, by what the last ones have taken.
//!
//! Encoders aim at the bitrate, and there are pictures that they cannot make so small: a game at a
//! tenth of what it needs, an IDR. What is beyond the bitrate would wait in front of the link and be
//! late, with all that comes behind it. So no picture is encoded until the link has caught up; what
//! changes meanwhile is in the next one.
//!
//! In: sizes and the time. Out: how long to wait. No clock, no encoder.

use std::time::{Duration, Instant};

use transom_protocol::message::BitRate;

/// What may be under way at the target's pace: an IDR, which encoders give 100 ms, and a few frames.
const AHEAD: Duration = Duration::from_millis(150);
/// A picture that moves this slowly moves still.
const LONGEST: Duration = Duration::from_millis(500);

/// What is under way.
#[derive(Debug, Default)]
pub struct Allowance {
    bits: f64,
    counted: Option<Instant>,
}

impl Allowance {
    /// Counts an access unit that leaves now, and says how long to wait before the next one.
    pub fn spend(&mut self, now: Instant, target: BitRate, bytes: usize) -> Duration {
        let rate = f64::from(target.0.max(1));
        let passed =
            self.counted.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        let left = (self.bits - rate * passed.as_secs_f64()).max(0.0) + bytes as f64 * 8.0;
        // More is not remembered: when the target rises, or a huge IDR is over, the debt is too.
        let most = rate * (AHEAD + LONGEST).as_secs_f64();
        self.bits = left.min(most);
        self.counted = Some(now);
        Duration::from_secs_f64(self.bits / rate).saturating_sub(AHEAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: BitRate = BitRate(8_000_000);
    const FRAME: Duration = Duration::from_micros(16_667);

    #[test]
    fn frames_at_the_targets_pace_never_wait() {
        let (mut allowance, begun) = (Allowance::default(), Instant::now());
        // An IDR of 100 ms, and what the target leaves for each frame after it.
        assert_eq!(allowance.spend(begun, TARGET, 100_000), Duration::ZERO);
        for n in 1..600 {
            assert_eq!(allowance.spend(begun + FRAME * n, TARGET, 16_667), Duration::ZERO, "{n}");
        }
    }

    #[test]
    fn frames_of_four_times_the_target_come_at_a_quarter_of_the_pace() {
        let (mut allowance, mut now) = (Allowance::default(), Instant::now());
        let begun = now;
        for _ in 0..100 {
            now += allowance.spend(now, TARGET, 4 * 16_667).max(FRAME);
        }
        let took = (now - begun).as_secs_f64();
        let paced = 400.0 * FRAME.as_secs_f64() - AHEAD.as_secs_f64();
        assert!((paced - 0.1..paced + 0.1).contains(&took), "{took} s for {paced}");
    }

    #[test]
    fn no_picture_waits_for_ever_and_a_new_target_forgets_the_old_debt() {
        let (mut allowance, now) = (Allowance::default(), Instant::now());
        assert_eq!(allowance.spend(now, BitRate(0), 1 << 30), LONGEST);
        assert_eq!(allowance.spend(now, TARGET, 1000), Duration::ZERO);
        assert_eq!(allowance.spend(now, TARGET, 1 << 30), LONGEST);
    }
}
