//! Finds damage that nobody told of: a slow sweep over all of the picture.
//!
//! In: pictures, what decoders show, and how finely each macroblock was coded. Out: macroblocks in which
//! the two are farther apart than coding makes them. A few rows of macroblocks have their turn with each
//! frame, so many that all of them have had it within [`ROUND`] of the stream's time. Those whose samples
//! are the ones of the last turn, which the picture's stamps tell, are not looked at again: at rest
//! nothing is. It finds what can be seen, and passes over a difference that a coarse quantiser might have
//! left.

use std::time::Duration;

use transom_protocol::message::Chroma;

use super::planes::{Plane, Planes, Samples};
use super::predict::sad16;
use crate::picture::Picture;
use crate::sys::simd;

/// Everything has been looked at once within this time.
const ROUND: Duration = Duration::from_millis(1800);

/// Where the sweep stands.
#[derive(Debug, Default)]
pub struct Sweep {
    /// The row of macroblocks that is next.
    row: usize,
    /// The stream's time up to which rows were looked at; none before the first frame.
    seen: Option<Duration>,
    /// Stamps of the picture's rows of macroblocks as they were when nothing was found there. What decoders
    /// show has changed since only where the same samples were coded again.
    alike: Vec<u64>,
    /// Macroblocks that differ, by their place in rows of macroblocks, for the frame under way.
    pub found: Vec<usize>,
}

impl Sweep {
    /// Looks at the rows that are due at `now`. `quality` holds the quantiser of each macroblock, in rows
    /// of `columns`.
    pub fn look(
        &mut self,
        now: Duration,
        picture: &Picture,
        shown: &Planes,
        (columns, quality): (usize, &[u8]),
    ) {
        self.found.clear();
        let rows = quality.len() / columns;
        let each = ROUND / rows as u32;
        let seen = *self.seen.get_or_insert(now);
        let due = now.saturating_sub(seen).as_nanos() / each.as_nanos().max(1);
        // A stream that has rested for long is looked over once.
        let due = usize::try_from(due).map_or(rows, |due| due.min(rows));
        if due == 0 {
            return;
        }
        self.seen = Some(if due == rows { now } else { seen + each * due as u32 });
        self.alike.resize(rows, 0);
        let mut source = Samples::default();
        for _ in 0..due {
            let row = self.row;
            self.row = (row + 1) % rows;
            let stamp = picture.stamps()[row];
            if self.alike[row] == stamp {
                continue;
            }
            let before = self.found.len();
            for (column, &quality) in quality[row * columns..][..columns].iter().enumerate() {
                let differs = match picture.chroma() {
                    Chroma::Yuv420 => {
                        source.read::<false>(picture, column, row);
                        differs(&source, shown, (column, row), quality)
                    }
                    Chroma::Yuv444 => {
                        source.read::<true>(picture, column, row);
                        differs_in_full(&source, shown, (column, row), quality)
                    }
                };
                if differs {
                    self.found.push(row * columns + column);
                }
            }
            // Not all that is found has to be coded at once: it is looked at again.
            if self.found.len() == before {
                self.alike[row] = stamp;
            }
        }
    }
}

/// What 16 samples may differ by, all told, where the quantiser was so coarse: a step each. A step is
/// 0.625 at quantiser 0 and twice as much every six.
fn allowed(quality: u8) -> u32 {
    const STEPS: [u32; 6] = [10, 11, 13, 14, 16, 18];
    STEPS[usize::from(quality % 6)] << (quality / 6).min(8)
}

fn differs(source: &Samples, shown: &Planes, (x, y): (usize, usize), quality: u8) -> bool {
    let allowed = allowed(quality);
    is_apart(&source.y, &shown.y, (x * 16, y * 16), allowed)
        || source.uv.iter().zip(&shown.uv).any(|(a, b)| is_apart(a, b, (x * 8, y * 8), allowed))
}

fn differs_in_full(source: &Samples, shown: &Planes, (x, y): (usize, usize), quality: u8) -> bool {
    let (allowed, at) = (allowed(quality), (x * 16, y * 16));
    is_apart(&source.y, &shown.y, at, allowed)
        || source.full.iter().zip(&shown.uv).any(|(a, b)| is_apart(a, b, at, allowed))
}

/// Whether some 4x4 block is farther from what is shown than is allowed.
#[inline(always)]
fn is_apart<const N: usize>(
    source: &[[u8; N]; N],
    shown: &Plane,
    (x, y): (usize, usize),
    allowed: u32,
) -> bool {
    let mut there = [[0; N]; N];
    shown.read(x, y, &mut there);
    // Most macroblocks are not that far off in all.
    let parts = source.as_flattened().as_chunks().0.iter().zip(there.as_flattened().as_chunks().0);
    let total: u32 = parts.map(|(a, b)| sad16(a, b)).sum();
    total > allowed && simd::lively(source, &there, allowed).0 != 0
}
