//! How coarse a frame may be: a token bucket, and what frames of its kind have cost.

use std::time::Duration;

/// Finer steps are not seen while the picture moves, and cost time and bits.
const FINEST: u8 = 28;
/// At rest they are: a picture that stays is refined to this.
pub const REFINED: u8 = 22;
/// Coarser is a mosaic.
const COARSEST: u8 = 44;
/// An IDR may take the bits of so much time at once: a coarse picture now beats a fine one late.
const IDR_TIME: Duration = Duration::from_millis(100);
/// Tokens are saved up for so long at most, or the first frames after a rest would flood the link.
const BUCKET: Duration = Duration::from_millis(50);

/// Bits that a macroblock takes at `FINEST`: first guesses.
const GUESS_IDR: f64 = 300.0;
const GUESS_INTER: f64 = 80.0;

/// Plans quantisers for one stream.
#[derive(Debug)]
pub struct Rate {
    bits_per_second: f64,
    tokens: f64,
    last: Option<Duration>,
    idr: f64,
    inter: f64,
    /// The finest quantiser for a change that this machine has time for.
    floor: u8,
    /// The only quantiser, if there is one.
    fixed: Option<u8>,
}

/// A factor of two in bits for every six steps of the quantiser.
fn saving(qp: u8) -> f64 {
    2f64.powf((f64::from(qp) - f64::from(FINEST)) / 6.0)
}

/// A change that takes longer to encode makes the next one coarser, and one that takes less makes
/// it finer: levels that are not there cost no time. On a slow machine the picture moves smoothly
/// first, and gets sharp when it rests.
const SLOW: Duration = Duration::from_millis(10);
const QUICK: Duration = Duration::from_millis(6);
/// The floor is not raised beyond this for want of time.
const HURRIED: u8 = 38;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To start decoders, while the picture moves or rests.
    Idr {
        /// Nothing has changed since the last frame.
        rests: bool,
    },
    /// To show what changed.
    Change,
    /// To show better what rests.
    Refinement,
}

impl Rate {
    /// A full bucket.
    pub fn new(bits_per_second: u32) -> Self {
        let bits_per_second = f64::from(bits_per_second);
        let tokens = bits_per_second * BUCKET.as_secs_f64();
        Self {
            bits_per_second,
            tokens,
            last: None,
            idr: GUESS_IDR,
            inter: GUESS_INTER,
            floor: FINEST,
            fixed: None,
        }
    }

    /// A new target, from the next frame on.
    pub fn set(&mut self, bits_per_second: u32) {
        self.bits_per_second = f64::from(bits_per_second);
    }

    /// One quantiser for everything.
    pub fn fix(&mut self, qp: u8) {
        self.fixed = Some(qp);
    }

    /// The quantiser for a frame of so many macroblocks at `time`, and how many of them fit: a
    /// refinement would rather be fine in parts than coarse again.
    pub fn plan(&mut self, time: Duration, purpose: Purpose, macroblocks: usize) -> (u8, usize) {
        if let Some(qp) = self.fixed {
            return (qp, macroblocks);
        }
        let cap = self.bits_per_second * BUCKET.as_secs_f64();
        let passed = self.last.map_or(BUCKET, |last| time.saturating_sub(last));
        self.last = Some(time);
        self.tokens = (self.tokens + self.bits_per_second * passed.as_secs_f64()).min(cap);
        // Even a dry bucket sends something: frames are small where little changed.
        let budget = self.tokens.max(cap / 8.0);
        match purpose {
            Purpose::Idr { rests } => {
                let budget = self.bits_per_second * IDR_TIME.as_secs_f64();
                let finest = if rests { REFINED } else { FINEST };
                (coarseness(finest, self.idr * macroblocks as f64, budget), macroblocks)
            }
            Purpose::Change => {
                (coarseness(self.floor, self.inter * macroblocks as f64, budget), macroblocks)
            }
            Purpose::Refinement => {
                let fit = budget * saving(REFINED) / self.inter;
                (REFINED, macroblocks.min((fit as usize).max(8)))
            }
        }
    }

    /// How long a change took to encode.
    pub fn took(&mut self, time: Duration) {
        if time > SLOW {
            self.floor = (self.floor + 1).min(HURRIED);
        } else if time < QUICK {
            self.floor = (self.floor - 1).max(FINEST);
        }
    }

    /// Coarseness alone does not make changes fast enough for this machine.
    pub fn is_hurried(&self) -> bool {
        self.fixed.is_none() && self.floor == HURRIED
    }

    /// What the frame has cost.
    pub fn spent(&mut self, purpose: Purpose, macroblocks: usize, qp: u8, bits: usize) {
        let cap = self.bits_per_second * BUCKET.as_secs_f64();
        self.tokens = (self.tokens - bits as f64).max(-2.0 * cap);
        // A handful of macroblocks tells little about whole pictures.
        if macroblocks >= 40 && purpose != Purpose::Refinement {
            let cost = bits as f64 * saving(qp) / macroblocks as f64;
            let known = if matches!(purpose, Purpose::Idr { .. }) {
                &mut self.idr
            } else {
                &mut self.inter
            };
            *known = (*known + cost) / 2.0;
        }
    }
}

/// The finest quantiser whose cost fits.
fn coarseness(finest: u8, cost: f64, budget: f64) -> u8 {
    (finest..COARSEST).find(|&qp| cost / saving(qp) <= budget).unwrap_or(COARSEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_costs_more_than_it_may_gets_coarser_and_holds_its_rate() {
        let mut rate = Rate::new(2_000_000);
        let (mut total, mut last) = (0.0, 0);
        for frame in 0..300u32 {
            (last, _) = rate.plan(Duration::from_micros(16_667) * frame, Purpose::Change, 1000);
            let bits = 200.0 * 1000.0 / saving(last);
            total += bits;
            rate.spent(Purpose::Change, 1000, last, bits as usize);
        }
        assert!(last > FINEST);
        assert!((0.7..1.3).contains(&(total / 5.0 / 2_000_000.0)), "{total}");
    }

    #[test]
    fn a_slow_machine_gets_coarser_and_recovers() {
        let mut rate = Rate::new(8_000_000);
        (0..100).for_each(|_| rate.took(Duration::from_millis(50)));
        assert_eq!(rate.plan(Duration::ZERO, Purpose::Change, 1).0, HURRIED);
        assert_eq!(rate.plan(Duration::ZERO, Purpose::Refinement, 1).0, REFINED);
        (0..100).for_each(|_| rate.took(Duration::from_millis(1)));
        assert_eq!(rate.plan(Duration::ZERO, Purpose::Change, 1).0, FINEST);
    }

    #[test]
    fn a_quiet_stream_is_as_fine_as_it_gets() {
        let mut rate = Rate::new(8_000_000);
        assert_eq!(rate.plan(Duration::ZERO, Purpose::Change, 50), (FINEST, 50));
        let idr = Purpose::Idr { rests: true };
        assert!(Rate::new(300_000).plan(Duration::ZERO, idr, 3600).0 > FINEST, "coarse at once");
        let (qp, some) = Rate::new(300_000).plan(Duration::ZERO, Purpose::Refinement, 3600);
        assert!(qp == REFINED && some < 3600);
    }
}
