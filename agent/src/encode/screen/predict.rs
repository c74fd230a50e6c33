//! Prediction: motion from the frame before, or from the macroblocks around (ITU-T H.264, 8.3, 8.4).

use super::planes::{Plane, Planes, Source};

/// A motion vector in whole luma samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vector {
    /// To the right.
    pub x: i16,
    /// Down.
    pub y: i16,
}

/// The prediction of one macroblock.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// Luma.
    pub y: [[u8; 16]; 16],
    /// Chroma, U and V.
    pub uv: [[[u8; 8]; 8]; 2],
}

/// Sum of absolute differences. Written so that compilers turn it into the instruction for it.
#[inline]
pub fn sad16(a: &[u8; 16], b: &[u8; 16]) -> u32 {
    let mut sum = 0u32;
    for i in 0..16 {
        sum += u32::from(a[i].abs_diff(b[i]));
    }
    sum
}

/// How far a search goes from where it starts, in samples; what the headers promise is 256.
pub const REACH: i16 = 250;

/// Steps of one width: a search that has gone so far is better off with the next neighbour's start.
const ROUNDS: u32 = 6;

/// Searches the frame before for a macroblock.
#[derive(Debug)]
pub struct Search<'a> {
    reference: &'a Plane,
    source: &'a [[u8; 16]; 16],
    x: i32,
    y: i32,
    /// The vector that costs no bits.
    predicted: Vector,
    lambda: u32,
    /// Best so far.
    pub best: (u32, Vector),
}

impl<'a> Search<'a> {
    /// A search that has found nothing yet.
    pub fn new(
        reference: &'a Plane,
        source: &'a [[u8; 16]; 16],
        (x, y): (usize, usize),
        predicted: Vector,
        lambda: u32,
    ) -> Self {
        let best = (u32::MAX, Vector::default());
        Self { reference, source, x: x as i32, y: y as i32, predicted, lambda, best }
    }

    /// Tries a vector; whether it is the best so far. Those that leave the picture are not tried.
    #[inline]
    pub fn try_vector(&mut self, vector: Vector) -> bool {
        let (x, y) = (self.x + i32::from(vector.x), self.y + i32::from(vector.y));
        let inside = x >= 0
            && y >= 0
            && x + 16 <= self.reference.width as i32
            && y + 16 <= self.reference.height as i32
            && vector.x.abs() <= REACH
            && vector.y.abs() <= REACH;
        if !inside {
            return false;
        }
        let bits = length(vector.x - self.predicted.x) + length(vector.y - self.predicted.y);
        let mut cost = self.lambda * bits;
        // Every other row tells as much about where a block came from, for half the time.
        for part in 0..2 {
            for row in (part * 8..part * 8 + 8).step_by(2) {
                let there = self.reference.row::<16>(x as usize, y as usize + row);
                cost += 2 * sad16(&self.source[row], there);
            }
            if cost >= self.best.0 {
                return false;
            }
        }
        self.best = (cost, vector);
        true
    }

    /// Follows the best vector downhill, in steps that halve from `step` on.
    pub fn descend(&mut self, mut step: i16) {
        while step > 0 {
            let mut rounds = 0;
            loop {
                let centre = self.best.1;
                for (dx, dy) in [(0, -step), (-step, 0), (step, 0), (0, step)] {
                    self.try_vector(Vector { x: centre.x + dx, y: centre.y + dy });
                }
                rounds += 1;
                if self.best.1 == centre || rounds == ROUNDS {
                    break;
                }
            }
            step /= 2;
        }
    }
}

/// Bits of a vector's difference, about.
fn length(difference: i16) -> u32 {
    let magnitude = u32::from(difference.unsigned_abs()) * 4;
    2 * (32 - magnitude.leading_zeros()) + 1
}

/// Takes a macroblock from the frame before. Odd vectors put chroma between samples (8.4.2.2.2).
pub fn inter(reference: &Planes, (x, y): (usize, usize), vector: Vector) -> Prediction {
    let shifted = |at: usize, by: i16| (at as i32 + i32::from(by)) as usize;
    let luma = reference.y.block(shifted(x, vector.x), shifted(y, vector.y));
    let (left, top) = (shifted(x, vector.x) / 2, shifted(y, vector.y) / 2);
    let (half_x, half_y) = (vector.x & 1 != 0, vector.y & 1 != 0);
    let chroma = |plane: &Plane| {
        let mut block: [[u8; 8]; 8] = plane.block(left, top);
        if half_x {
            for (row, samples) in block.iter_mut().enumerate() {
                let next = plane.row::<8>(left + 1, top + row);
                for (sample, next) in samples.iter_mut().zip(next) {
                    // Exact for one direction alone; both are redone below.
                    *sample = (u16::from(*sample) + u16::from(*next)).div_ceil(2) as u8;
                }
            }
        } else if half_y {
            for (row, samples) in block.iter_mut().enumerate() {
                let next = plane.row::<8>(left, top + row + 1);
                for (sample, next) in samples.iter_mut().zip(next) {
                    *sample = (u16::from(*sample) + u16::from(*next)).div_ceil(2) as u8;
                }
            }
        }
        if half_x && half_y {
            for (row, samples) in block.iter_mut().enumerate() {
                let rows = [plane.row::<9>(left, top + row), plane.row::<9>(left, top + row + 1)];
                for (i, sample) in samples.iter_mut().enumerate() {
                    let sum: u16 = rows.iter().map(|r| u16::from(r[i]) + u16::from(r[i + 1])).sum();
                    *sample = ((sum + 2) >> 2) as u8;
                }
            }
        }
        block
    };
    Prediction { y: luma, uv: [chroma(&reference.uv[0]), chroma(&reference.uv[1])] }
}

/// Intra_16x16 prediction modes by number (table 8-4); the fourth, plane, does not pay here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntraMode {
    /// The row above goes down.
    Vertical = 0,
    /// The column to the left goes right.
    Horizontal = 1,
    /// The mean of both.
    Dc = 2,
}

/// The best Intra_16x16 prediction from what is reconstructed above and to the left, with its
/// sum of absolute differences.
pub fn intra(
    frame: &Planes,
    (x, y): (usize, usize),
    source: &Source,
) -> (IntraMode, u32, [[u8; 16]; 16]) {
    let above = (y > 0).then(|| *frame.y.row::<16>(x, y - 1));
    let left: Option<[u8; 16]> =
        (x > 0).then(|| std::array::from_fn(|r| frame.y.row::<1>(x - 1, y + r)[0]));
    let sum = |edge: &[u8]| edge.iter().map(|&s| u32::from(s)).sum::<u32>();
    let dc = match (&above, &left) {
        (Some(a), Some(l)) => (sum(a) + sum(l) + 16) >> 5,
        (Some(edge), None) | (None, Some(edge)) => (sum(edge) + 8) >> 4,
        (None, None) => 128,
    } as u8;
    // Every other row, as for motion.
    let cost = |block: &[[u8; 16]; 16]| {
        block.iter().zip(&source.y).step_by(2).map(|(a, b)| 2 * sad16(a, b)).sum::<u32>()
    };
    let flat = [[dc; 16]; 16];
    let mut best = (IntraMode::Dc, cost(&flat), flat);
    let others = [
        (IntraMode::Vertical, above.map(|row| [row; 16])),
        (IntraMode::Horizontal, left.map(|column| column.map(|sample| [sample; 16]))),
    ];
    for (mode, block) in others {
        if let Some(block) = block {
            let cost = cost(&block);
            if cost < best.1 {
                best = (mode, cost, block);
            }
        }
    }
    best
}

/// Intra prediction of a chroma plane, mode DC: each 4x4 block by the means of the edges next to
/// it (8.3.4.1 to 8.3.4.3).
pub fn intra_chroma(plane: &Plane, (x, y): (usize, usize)) -> [[u8; 8]; 8] {
    let above = (y > 0).then(|| *plane.row::<8>(x, y - 1));
    let left: Option<[u8; 8]> =
        (x > 0).then(|| std::array::from_fn(|r| plane.row::<1>(x - 1, y + r)[0]));
    let part = |edge: &Option<[u8; 8]>, half: usize| {
        edge.map(|edge| edge[half * 4..half * 4 + 4].iter().map(|&s| u32::from(s)).sum::<u32>())
    };
    let mut block = [[0; 8]; 8];
    for (by, bx) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (a, l) = (part(&above, bx), part(&left, by));
        let dc = match (a, l) {
            // Off the diagonal, the edge that is nearer rules.
            (Some(a), Some(_)) if bx == 1 && by == 0 => (a + 2) >> 2,
            (Some(_), Some(l)) if bx == 0 && by == 1 => (l + 2) >> 2,
            (Some(a), Some(l)) => (a + l + 4) >> 3,
            (Some(edge), None) | (None, Some(edge)) => (edge + 2) >> 2,
            (None, None) => 128,
        };
        for row in &mut block[by * 4..by * 4 + 4] {
            row[bx * 4..bx * 4 + 4].fill(dc as u8);
        }
    }
    block
}
