//! The 4x4 integer transform and its quantiser (ITU-T H.264, 8.5; the forward direction is the
//! usual inverse of it).
//!
//! Blocks are 16 values in rows. Forward and back are exact integer arithmetic: what the decoder
//! will reconstruct is known to the bit.

use super::rate::REFINED;
use crate::sys::simd;

/// Scan order of a 4x4 block's coefficients (figure 6-6).
pub const ZIGZAG: [usize; 16] = [0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15];

/// `LevelScale4x4` without its factor of 16: for positions with both indices even, both odd, and
/// the rest (8-252 and following).
const SCALE: [[i32; 3]; 6] =
    [[10, 16, 13], [11, 18, 14], [13, 20, 16], [14, 23, 18], [16, 25, 20], [18, 29, 23]];
/// Their reciprocals: 2^21 / (scale · norm of the basis functions).
const FACTOR: [[i32; 3]; 6] = [
    [13107, 5243, 8066],
    [11916, 4660, 7490],
    [10082, 4194, 6554],
    [9362, 3647, 5825],
    [8192, 3355, 5243],
    [7282, 2893, 4559],
];

/// Which of the three classes a position is in.
const CLASS: [usize; 16] = [0, 2, 0, 2, 2, 1, 2, 1, 0, 2, 0, 2, 2, 1, 2, 1];

/// Chroma's quantiser for a luma quantiser of 30 and more (table 8-15).
const CHROMA: [u8; 22] =
    [29, 30, 31, 32, 32, 33, 34, 34, 35, 35, 36, 36, 37, 37, 37, 38, 38, 38, 39, 39, 39, 39];

/// Where a coefficient, numbered in rows, comes in scan order.
const SCANNED: [u8; 16] = {
    let mut table = [0; 16];
    let mut at = 0;
    while at < 16 {
        table[ZIGZAG[at]] = at as u8;
        at += 1;
    }
    table
};

/// The levels of a 4x4 block in rows, and which of them are not zero.
#[derive(Debug, Clone, Copy, Default)]
pub struct Block {
    /// The levels.
    pub levels: [i16; 16],
    /// Bit n: the n-th level in scan order is not zero.
    pub mask: u16,
    /// Some level is larger than one.
    big: bool,
}

impl Block {
    /// Counts them.
    #[inline(always)]
    pub fn new(levels: [i16; 16]) -> Self {
        let (mut left, mut mask, mut big) = (simd::nonzero(&levels), 0, 0);
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            mask |= 1 << SCANNED[at];
            big |= levels[at].unsigned_abs() >> 1;
            left &= left - 1;
        }
        Self { levels, mask, big: big != 0 }
    }

    /// How much these levels matter, or [`MATTERS`] and more: a lone one far up costs more bits
    /// than its absence is seen.
    #[inline(always)]
    pub fn weight(&self) -> u32 {
        if self.big {
            return MATTERS;
        }
        let (mut left, mut next, mut weight) = (self.mask, 0, 0);
        while left != 0 {
            let at = left.trailing_zeros();
            // By the number of zeros in front of it.
            weight += match at - next {
                0 => 3,
                1 | 2 => 2,
                3..6 => 1,
                _ => 0,
            };
            next = at + 1;
            left &= left - 1;
        }
        weight
    }
}

/// A weight that always matters.
pub const MATTERS: u32 = 9;

/// Finer quantisers than this are not offered: their levels overflow what Baseline can tell.
pub const FINEST_QP: u8 = 10;
/// The longest `level_prefix` of this profile, 15, tells no larger levels (9.2.2.1).
const LARGEST_LEVEL: i32 = 2063;

/// All constants of one quantiser.
#[derive(Debug, Clone)]
pub struct Quantiser {
    factor: [u16; 16],
    scale: [i16; 16],
    shift: u32,
    /// Rounding offset: a third of a step for intra, a sixth for inter, where a level that is
    /// left out is often made good by the next frame.
    offset: i32,
    step: u32,
    /// A 4x4 block whose absolute differences sum up to no more quantises to nothing.
    pub dead: u32,
    /// Levels of little weight are left out: the picture moves, or is not that fine anyway.
    pub thrifty: bool,
    /// An 8x8 chroma block whose absolute differences sum up to no more has no DC levels.
    pub dead_dc: u32,
}

impl Quantiser {
    /// For luma quantiser `qp`, [`FINEST_QP`] to 51.
    pub fn luma(qp: u8, intra: bool) -> Self {
        let (step, class) = (u32::from(qp / 6), usize::from(qp % 6));
        let shift = 15 + step;
        let offset = (1 << shift) / if intra { 3 } else { 6 };
        // No coefficient exceeds four times the sum, at the positions of the smallest factor, nor
        // twice or once at those of the larger ones; the first bound is the tightest.
        let dead = ((1 << shift) - offset - 1) / (4 * FACTOR[class][1]);
        Self {
            factor: CLASS.map(|c| FACTOR[class][c] as u16),
            scale: CLASS.map(|c| (SCALE[class][c] << step) as i16),
            shift,
            offset,
            step,
            dead: dead as u32,
            thrifty: qp > REFINED,
            // Their transform only adds; one bit more is shifted out than for a level.
            dead_dc: (((2 << shift) - 2 * offset - 1) / FACTOR[class][0]) as u32,
        }
    }

    /// The chroma quantiser that goes with a luma quantiser.
    pub fn chroma(qp: u8, intra: bool) -> Self {
        Self::luma(if qp < 30 { qp } else { CHROMA[usize::from(qp) - 30] }, intra)
    }

    /// The level of a DC coefficient of DC coefficients, which have one bit more.
    fn dc_level(&self, value: i32) -> i16 {
        let factor = i32::from(self.factor[0]);
        let magnitude = (value.abs() * factor + (self.offset << 1)) >> (self.shift + 1);
        let magnitude = magnitude.min(LARGEST_LEVEL);
        (if value < 0 { -magnitude } else { magnitude }) as i16
    }

    /// Levels of all 16 coefficients, in rows.
    ///
    /// The product loses its lower 16 bits before the offset is added: a difference in rounding
    /// that is ours to choose, and eight lanes of 16 bits instead of four of 32.
    #[inline(always)]
    pub fn quantise(&self, coefficients: &[i16; 16]) -> Block {
        let (offset, shift) = ((self.offset >> 16) as u16, self.step - 1);
        let mut levels = [0; 16];
        for i in 0..16 {
            let (value, factor) = (coefficients[i], self.factor[i]);
            let high = ((u32::from(value.unsigned_abs()) * u32::from(factor)) >> 16) as u16;
            let magnitude = ((high + offset) >> shift) as i16;
            let sign = value >> 15;
            levels[i] = (magnitude ^ sign) - sign;
        }
        Block::new(levels)
    }

    /// Coefficients of levels, in rows (8.5.12.1). Whatever a conforming stream carries stays
    /// within 16 bits, here and in the transform.
    #[inline(always)]
    pub fn restore(&self, levels: &[i16; 16]) -> [i16; 16] {
        let mut coefficients = [0; 16];
        for i in 0..16 {
            coefficients[i] = levels[i].wrapping_mul(self.scale[i]);
        }
        coefficients
    }

    /// Levels of the 16 DC coefficients of an Intra_16x16 macroblock, in rows of blocks.
    pub fn quantise_luma_dc(&self, dc: &[i32; 16]) -> [i16; 16] {
        hadamard(dc).map(|value| self.dc_level(value >> 1))
    }

    /// And back (8.5.10).
    pub fn restore_luma_dc(&self, levels: &[i16; 16]) -> [i32; 16] {
        let scale = i32::from(self.scale[0]) >> self.step;
        hadamard(&levels.map(i32::from)).map(|value| match self.step {
            0 | 1 => (value * scale + 1) >> 1,
            step => (value * scale) << (step - 2),
        })
    }

    /// Levels of the four DC coefficients of a chroma plane.
    pub fn quantise_chroma_dc(&self, dc: &[i32; 4]) -> [i16; 4] {
        hadamard2(dc).map(|value| self.dc_level(value))
    }

    /// And back (8.5.11).
    pub fn restore_chroma_dc(&self, levels: &[i16; 4]) -> [i32; 4] {
        hadamard2(&levels.map(i32::from)).map(|value| (value * i32::from(self.scale[0])) >> 1)
    }
}

/// The forward transform. Differences of samples stay within 16 bits.
#[inline(always)]
pub fn forward(block: &[i16; 16]) -> [i16; 16] {
    transpose(&columns(&transpose(&columns(block))))
}

/// The transform's pass down the columns, four lanes at a time.
#[inline(always)]
fn columns(v: &[i16; 16]) -> [i16; 16] {
    let mut out = [0; 16];
    for i in 0..4 {
        let (a, b, c, d) = (v[i], v[4 + i], v[8 + i], v[12 + i]);
        let (s, u, m, n) = (a + d, a - d, b + c, b - c);
        out[i] = s + m;
        out[4 + i] = 2 * u + n;
        out[8 + i] = s - m;
        out[12 + i] = u - 2 * n;
    }
    out
}

#[inline(always)]
fn transpose(v: &[i16; 16]) -> [i16; 16] {
    let mut out = [0; 16];
    for i in 0..16 {
        out[i] = v[i % 4 * 4 + i / 4];
    }
    out
}

/// The inverse transform with its rounding (8.5.12.2): the residual.
#[inline(always)]
pub fn inverse(c: &[i16; 16]) -> [i16; 16] {
    let out = inverse_columns(&transpose(&inverse_columns(&transpose(c))));
    out.map(|value| value.wrapping_add(32) >> 6)
}

/// Its pass down the columns.
#[inline(always)]
fn inverse_columns(v: &[i16; 16]) -> [i16; 16] {
    let mut out = [0; 16];
    for i in 0..4 {
        let (a, b, c, d) = (v[i], v[4 + i], v[8 + i], v[12 + i]);
        let (e, f) = (a.wrapping_add(c), a.wrapping_sub(c));
        let (g, h) = ((b >> 1).wrapping_sub(d), b.wrapping_add(d >> 1));
        out[i] = e.wrapping_add(h);
        out[4 + i] = f.wrapping_add(g);
        out[8 + i] = f.wrapping_sub(g);
        out[12 + i] = e.wrapping_sub(h);
    }
    out
}

fn hadamard(block: &[i32; 16]) -> [i32; 16] {
    let pass = |v: [i32; 4]| {
        let [a, b, c, d] = v;
        let (s, u, m, n) = (a + d, a - d, b + c, b - c);
        [s + m, u + n, s - m, u - n]
    };
    let mut t = [0; 16];
    for i in 0..4 {
        let row = pass([block[4 * i], block[4 * i + 1], block[4 * i + 2], block[4 * i + 3]]);
        t[4 * i..4 * i + 4].copy_from_slice(&row);
    }
    let mut out = [0; 16];
    for i in 0..4 {
        let column = pass([t[i], t[4 + i], t[8 + i], t[12 + i]]);
        for (k, value) in column.into_iter().enumerate() {
            out[4 * k + i] = value;
        }
    }
    out
}

fn hadamard2(v: &[i32; 4]) -> [i32; 4] {
    let [a, b, c, d] = *v;
    [a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_residual_survives_within_its_step(block in prop::array::uniform16(-255i16..=255), qp in FINEST_QP..=51) {
            let quantiser = Quantiser::luma(qp, true);
            let back = inverse(&quantiser.restore(&quantiser.quantise(&forward(&block)).levels));
            let step = 0.625 * 2f64.powf(f64::from(qp) / 6.0);
            for (a, b) in block.iter().zip(back) {
                prop_assert!(f64::from((*a - b).abs()) <= 2.0 * step + 2.0);
            }
        }

        #[test]
        fn a_dead_block_is_really_dead(block in prop::array::uniform16(-6i16..=6), qp in FINEST_QP..=51) {
            let quantiser = Quantiser::luma(qp, false);
            let sum: u32 = block.iter().map(|v| u32::from(v.unsigned_abs())).sum();
            let mask = quantiser.quantise(&forward(&block)).mask;
            prop_assert!(mask == 0 || sum > quantiser.dead);
            let dc = [block[0], block[5], block[10], block[15]].map(i32::from).map(|dc| dc * 9);
            let sum: u32 = dc.iter().map(|dc| dc.unsigned_abs()).sum();
            let levels = quantiser.quantise_chroma_dc(&dc);
            prop_assert!(levels == [0; 4] || sum > quantiser.dead_dc);
        }
    }
}
