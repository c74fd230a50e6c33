//! Prediction: motion from the frame before, or from the macroblocks around (ITU-T H.264, 8.3, 8.4).

use super::planes::{Band, Plane, PlaneBands, Planes, Samples};
use crate::sys::simd;

/// A motion vector in whole luma samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vector {
    /// To the right.
    pub x: i16,
    /// Down.
    pub y: i16,
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
const ROUNDS: u32 = 4;

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
        let cost = self.lambda * bits;
        let Some(limit) = self.best.0.checked_sub(cost) else { return false };
        let there = &self.reference.data[y as usize * self.reference.width + x as usize..];
        let cost = cost + simd::sad(self.source, there, self.reference.width, limit);
        if cost >= self.best.0 {
            return false;
        }
        self.best = (cost, vector);
        true
    }

    /// Follows the best vector downhill, in steps that halve from `step` on.
    pub fn descend(&mut self, mut step: i16) {
        while step > 0 {
            let mut came_from = self.best.1;
            for _ in 0..ROUNDS {
                let centre = self.best.1;
                for (dx, dy) in [(0, -step), (-step, 0), (step, 0), (0, step)] {
                    let vector = Vector { x: centre.x + dx, y: centre.y + dy };
                    if vector != came_from {
                        self.try_vector(vector);
                    }
                }
                if self.best.1 == centre {
                    break;
                }
                came_from = centre;
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

/// Takes a macroblock from the frame before. Odd vectors put chroma of 4:2:0 between samples
/// (8.4.2.2.2); that of 4:4:4 goes where luma goes.
#[inline]
pub fn inter<const FULL: bool>(
    reference: &Planes,
    (x, y): (usize, usize),
    vector: Vector,
    out: &mut Samples,
) {
    let shifted = |at: usize, by: i16| (at as i32 + i32::from(by)) as usize;
    let (left, top) = (shifted(x, vector.x), shifted(y, vector.y));
    reference.y.read(left, top, &mut out.y);
    if FULL {
        for (plane, block) in reference.uv.iter().zip(&mut out.full) {
            plane.read(left, top, block);
        }
        return;
    }
    let at = (left / 2, top / 2);
    let between = (vector.x & 1 != 0, vector.y & 1 != 0);
    for (plane, block) in reference.uv.iter().zip(&mut out.uv) {
        inter_chroma(plane, at, between, block);
    }
}

#[inline(always)]
fn inter_chroma(
    plane: &Plane,
    (x, y): (usize, usize),
    between: (bool, bool),
    block: &mut [[u8; 8]; 8],
) {
    // The mean of two, rounded up, is what the standard asks for in one direction.
    let mean = |a: &[u8; 8], b: &[u8; 8]| -> [u8; 8] {
        let mut out = [0; 8];
        for i in 0..8 {
            out[i] = (u16::from(a[i]) + u16::from(b[i])).div_ceil(2) as u8;
        }
        out
    };
    let sums = |row: usize| -> [u16; 8] {
        let (a, b) = (plane.row::<8>(x, row), plane.row::<8>(x + 1, row));
        let mut out = [0; 8];
        for i in 0..8 {
            out[i] = u16::from(a[i]) + u16::from(b[i]);
        }
        out
    };
    match between {
        (false, false) => plane.read(x, y, block),
        (true, false) => {
            for (row, samples) in (y..).zip(block) {
                *samples = mean(plane.row(x, row), plane.row(x + 1, row));
            }
        }
        (false, true) => {
            for (row, samples) in (y..).zip(block) {
                *samples = mean(plane.row(x, row), plane.row(x, row + 1));
            }
        }
        (true, true) => {
            let mut above = sums(y);
            for (row, samples) in (y + 1..).zip(block) {
                let below = sums(row);
                for i in 0..8 {
                    samples[i] = ((above[i] + below[i] + 2) >> 2) as u8;
                }
                above = below;
            }
        }
    }
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

/// What is reconstructed in one plane above a macroblock and to its left, and the mean of it.
#[derive(Debug)]
pub struct Edges {
    above: Option<[u8; 16]>,
    left: Option<[u8; 16]>,
    dc: u8,
}

impl Edges {
    /// The edges of the macroblock at (x, y) in samples of a slice's band, beyond which it knows none.
    #[inline]
    pub fn of(plane: &Band<'_>, (x, y): (usize, usize)) -> Self {
        let above = (y > 0).then(|| *plane.row::<16>(x, y - 1));
        let left = (x > 0).then(|| plane.column::<16>(x - 1, y));
        let sum = |edge: &[u8; 16]| edge.iter().map(|&s| u32::from(s)).sum::<u32>();
        let dc = match (&above, &left) {
            (Some(a), Some(l)) => (sum(a) + sum(l) + 16) >> 5,
            (Some(edge), None) | (None, Some(edge)) => (sum(edge) + 8) >> 4,
            (None, None) => 128,
        };
        Self { above, left, dc: dc as u8 }
    }

    /// The best Intra_16x16 prediction and its sum of absolute differences.
    #[inline]
    pub fn best(&self, source: &[[u8; 16]; 16]) -> (IntraMode, u32) {
        // A block whose rows are all alike is one row, again and again.
        let mut best = (IntraMode::Dc, simd::sad(source, &[self.dc; 16], 0, u32::MAX));
        let mut offer = |mode, cost| {
            if cost < best.1 {
                best = (mode, cost);
            }
            best.1
        };
        let mut limit = u32::MAX;
        if let Some(above) = &self.above {
            limit = offer(IntraMode::Vertical, simd::sad(source, above, 0, u32::MAX));
        }
        if self.left.is_some() {
            let block = self.block(IntraMode::Horizontal);
            let cost = simd::sad(source, block.as_flattened(), 16, limit);
            offer(IntraMode::Horizontal, cost);
        }
        best
    }

    /// The best prediction for all three planes of 4:4:4, which share their mode (8.3.4.5): what is
    /// flat in luma may have an edge in colour. The sum of absolute differences is luma's alone, as
    /// that of motion is.
    #[inline]
    pub fn best_of_all(&self, chroma: &[Self; 2], source: &Samples) -> (IntraMode, u32) {
        let mut best = (IntraMode::Dc, u32::MAX, u32::MAX);
        for mode in [IntraMode::Dc, IntraMode::Vertical, IntraMode::Horizontal] {
            if mode == IntraMode::Vertical && self.above.is_none()
                || mode == IntraMode::Horizontal && self.left.is_none()
            {
                continue;
            }
            let cost = |edges: &Self, source: &[[u8; 16]; 16]| {
                simd::sad(source, edges.block(mode).as_flattened(), 16, u32::MAX)
            };
            let luma = cost(self, &source.y);
            let colour: u32 = chroma.iter().zip(&source.full).map(|(e, s)| cost(e, s)).sum();
            if luma + colour < best.1 {
                best = (mode, luma + colour, luma);
            }
        }
        (best.0, best.2)
    }

    /// The prediction of a mode that these edges allow.
    #[inline]
    pub fn block(&self, mode: IntraMode) -> [[u8; 16]; 16] {
        match (mode, self.above, self.left) {
            (IntraMode::Vertical, Some(row), _) => [row; 16],
            (IntraMode::Horizontal, _, Some(column)) => column.map(|sample| [sample; 16]),
            _ => [[self.dc; 16]; 16],
        }
    }
}

/// The best intra prediction of both chroma planes of 4:2:0: its mode (table 7-16) and the blocks.
pub fn intra_chroma(
    frame: &PlaneBands<'_>,
    (x, y): (usize, usize),
    source: &Samples,
) -> (u32, [[[u8; 8]; 8]; 2]) {
    let cost = |blocks: &[[[u8; 8]; 8]; 2]| {
        let samples = blocks.as_flattened().as_flattened().as_chunks::<16>().0;
        let wanted = source.uv.as_flattened().as_flattened().as_chunks::<16>().0;
        samples.iter().zip(wanted).map(|(a, b)| sad16(a, b)).sum::<u32>()
    };
    let flat = frame.uv.each_ref().map(|plane| intra_chroma_dc(plane, (x, y)));
    let mut best = (0, cost(&flat), flat);
    let across = (x > 0).then(|| {
        frame.uv.each_ref().map(|plane| plane.column::<8>(x - 1, y).map(|sample| [sample; 8]))
    });
    let down = (y > 0).then(|| frame.uv.each_ref().map(|plane| [*plane.row::<8>(x, y - 1); 8]));
    for (mode, blocks) in [(1, across), (2, down)] {
        if let Some(blocks) = blocks {
            let cost = cost(&blocks);
            if cost < best.1 {
                best = (mode, cost, blocks);
            }
        }
    }
    (best.0, best.2)
}

/// Intra prediction of a chroma plane, mode DC: each 4x4 block by the means of the edges next to
/// it (8.3.4.1 to 8.3.4.3).
fn intra_chroma_dc(plane: &Band<'_>, (x, y): (usize, usize)) -> [[u8; 8]; 8] {
    let above = (y > 0).then(|| *plane.row::<8>(x, y - 1));
    let left = (x > 0).then(|| plane.column::<8>(x - 1, y));
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
