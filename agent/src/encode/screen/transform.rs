//! The 4x4 integer transform and its quantiser (ITU-T H.264, 8.5; the forward direction is the
//! usual inverse of it).
//!
//! Forward and back are exact integer arithmetic: what the decoder will reconstruct is known to the
//! bit. The work itself is done two blocks at a time in [`crate::sys::blocks`]; plain loops, which
//! are its specification, are among the tests here. Coefficients and levels are kept turned, column
//! after column, as they leave the transform.

use super::rate::REFINED;
use crate::sys::blocks::{Factors, Pair};

/// Scan order of a 4x4 block's coefficients (figure 6-6), turned.
pub const ZIGZAG: [usize; 16] = [0, 4, 1, 2, 5, 8, 12, 9, 6, 3, 7, 10, 13, 14, 11, 15];

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

/// Which of the three classes the positions of an even column are in, and of an odd one.
const CLASS: [[usize; 4]; 2] = [[0, 2, 0, 2], [2, 1, 2, 1]];

/// Chroma's quantiser for a luma quantiser of 30 and more (table 8-15).
const CHROMA: [u8; 22] =
    [29, 30, 31, 32, 32, 33, 34, 34, 35, 35, 36, 36, 37, 37, 37, 38, 38, 38, 39, 39, 39, 39];

/// The bits of a mask that has a bit for each level in the order of storage, in scan order: of the
/// lower byte, and of the upper one.
static SCANNED: [[u16; 256]; 2] = {
    let mut table = [[0; 256]; 2];
    let mut scan = 0;
    while scan < 16 {
        let at = ZIGZAG[scan];
        let mut byte = 0;
        while byte < 256 {
            if byte >> (at % 8) & 1 != 0 {
                table[at / 8][byte] |= 1 << scan;
            }
            byte += 1;
        }
        scan += 1;
    }
    table
};

/// The levels of a 4x4 block, turned, and which of them are not zero.
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
    pub fn new(levels: [i16; 16]) -> Self {
        let mut block = Self { levels, ..Self::default() };
        let nonzero = levels.iter().rev().fold(0, |mask, &level| mask << 1 | u16::from(level != 0));
        block.count((nonzero, levels.iter().any(|level| level.unsigned_abs() > 1)));
        block
    }

    #[inline(always)]
    fn count(&mut self, (nonzero, big): (u16, bool)) {
        let [low, high] = nonzero.to_le_bytes();
        self.mask = SCANNED[0][usize::from(low)] | SCANNED[1][usize::from(high)];
        self.big = big;
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
    /// What turns coefficients into 65536ths of levels.
    factors: Factors,
    /// Added to a coefficient for rounding: a third of a step for intra, a sixth for inter, where
    /// a level that is left out is often made good by the next frame.
    bias: Factors,
    scale: Factors,
    /// The same for DC coefficients of DC coefficients.
    dc_factor: i32,
    shift: u32,
    offset: i32,
    step: u32,
    /// A 4x4 block whose absolute differences sum up to no more quantises to nothing.
    pub dead: u32,
    /// Levels of little weight are left out: the picture moves, or is not that fine anyway.
    pub thrifty: bool,
    /// An 8x8 chroma block whose absolute differences sum up to no more has no DC levels.
    pub dead_dc: u32,
}

/// Spreads a constant of each class over the lanes of two blocks.
fn spread(classes: [i32; 3]) -> Factors {
    CLASS.map(|rows| std::array::from_fn(|lane| classes[rows[lane % 4]] as i16))
}

impl Quantiser {
    /// For luma quantiser `qp`, [`FINEST_QP`] to 51.
    pub fn luma(qp: u8, intra: bool) -> Self {
        let (step, class) = (u32::from(qp / 6), usize::from(qp % 6));
        let shift = 15 + step;
        let parts = if intra { 3 } else { 6 };
        let offset = (1 << shift) / parts;
        // Rounded: 16 bits hold what a shift of 16 leaves of them.
        let factors = FACTOR[class].map(|factor| (factor + (1 << (step - 1) >> 1)) >> (step - 1));
        let bias = factors.map(|factor| (65_536 + factor / 2) / factor / parts);
        // The smallest coefficient that is a level, by class; no coefficient exceeds the sum, four
        // times the sum, or twice the sum.
        let least: [i32; 3] = std::array::from_fn(|i| {
            65_536i32.div_euclid(factors[i]) + i32::from(65_536 % factors[i] != 0) - bias[i]
        });
        let dead = (least[0] - 1).min((least[1] - 1) / 4).min((least[2] - 1) / 2);
        Self {
            factors: spread(factors),
            bias: spread(bias),
            scale: spread(SCALE[class].map(|scale| scale << step)),
            dc_factor: FACTOR[class][0],
            shift,
            offset,
            step,
            dead: dead.max(0) as u32,
            thrifty: !intra && qp > REFINED,
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
        let magnitude = (value.abs() * self.dc_factor + (self.offset << 1)) >> (self.shift + 1);
        let magnitude = magnitude.min(LARGEST_LEVEL);
        (if value < 0 { -magnitude } else { magnitude }) as i16
    }

    /// Levels of the coefficients of two blocks.
    #[inline(always)]
    pub fn quantise(&self, coefficients: Pair, blocks: &mut [Block; 2]) {
        let [left, right] = blocks;
        let levels = [&mut left.levels, &mut right.levels];
        let [of_left, of_right] = coefficients.quantise(&self.bias, &self.factors, levels);
        left.count(of_left);
        right.count(of_right);
    }

    /// Coefficients of levels (8.5.12.1). Whatever a conforming stream carries stays within 16
    /// bits, here and in the transform.
    #[inline(always)]
    pub fn restore(&self, levels: [Option<&[i16; 16]>; 2]) -> Pair {
        Pair::restore(levels, &self.scale)
    }

    /// Levels of the 16 DC coefficients of an Intra_16x16 macroblock; turned or not, as they come.
    pub fn quantise_luma_dc(&self, dc: &[i32; 16]) -> [i16; 16] {
        hadamard(dc).map(|value| self.dc_level(value >> 1))
    }

    /// And back (8.5.10).
    pub fn restore_luma_dc(&self, levels: &[i16; 16]) -> [i32; 16] {
        let scale = i32::from(self.scale[0][0]) >> self.step;
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
        hadamard2(&levels.map(i32::from)).map(|value| (value * i32::from(self.scale[0][0])) >> 1)
    }
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

    type Matrix = [[i32; 4]; 4];

    fn product(a: &Matrix, b: &Matrix) -> Matrix {
        std::array::from_fn(|i| std::array::from_fn(|j| (0..4).map(|k| a[i][k] * b[k][j]).sum()))
    }

    fn turned(a: &Matrix) -> Matrix {
        std::array::from_fn(|i| std::array::from_fn(|j| a[j][i]))
    }

    /// The forward transform, as it is usually written.
    fn forward(block: &Matrix) -> Matrix {
        let core = [[1, 1, 1, 1], [2, 1, -1, -2], [1, -1, -1, 1], [1, -2, 2, -1]];
        product(&product(&core, block), &turned(&core))
    }

    /// 8.5.12.2, line by line.
    fn inverse(d: &Matrix) -> Matrix {
        let pass = |[a, b, c, d]: [i32; 4]| {
            let (e, f, g, h) = (a + c, a - c, (b >> 1) - d, b + (d >> 1));
            [e + h, f + g, f - g, e - h]
        };
        let rows = d.map(pass);
        turned(&turned(&rows).map(pass)).map(|row| row.map(|value| (value + 32) >> 6))
    }

    fn at(quantiser: &Factors, row: usize, column: usize) -> i32 {
        i32::from(quantiser[column % 2][row])
    }

    fn levels(quantiser: &Quantiser, c: &Matrix) -> Matrix {
        std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                let bias = at(&quantiser.bias, i, j);
                let magnitude = ((c[i][j].abs() + bias) * at(&quantiser.factors, i, j)) >> 16;
                magnitude * c[i][j].signum()
            })
        })
    }

    fn restored(quantiser: &Quantiser, levels: &Matrix) -> Matrix {
        std::array::from_fn(|i| std::array::from_fn(|j| levels[i][j] * at(&quantiser.scale, i, j)))
    }

    fn matrix(values: &[[u8; 8]; 4], left: usize) -> Matrix {
        std::array::from_fn(|i| std::array::from_fn(|j| i32::from(values[i][left + j])))
    }

    fn samples() -> impl Strategy<Value = [[u8; 8]; 4]> {
        prop_oneof![
            prop::array::uniform4(prop::array::uniform8(any::<u8>())),
            prop::array::uniform4(prop::array::uniform8(120u8..130)),
        ]
    }

    proptest! {
        #[test]
        fn two_blocks_at_once_are_two_plain_ones(
            source in samples(), prediction in samples(), qp in FINEST_QP..=51, intra in any::<bool>(),
            dc in any::<bool>(),
        ) {
            let quantiser = Quantiser::luma(qp, intra);
            let mut pair = Pair::difference(source.each_ref(), prediction.each_ref()).forward();
            let mut expected = [0, 4].map(|left| {
                let (a, b) = (matrix(&source, left), matrix(&prediction, left));
                forward(&std::array::from_fn(|i| std::array::from_fn(|j| a[i][j] - b[i][j])))
            });
            let mut taken = [0; 2];
            if dc {
                taken = pair.take_dc();
                for (matrix, taken) in expected.iter_mut().zip(taken) {
                    prop_assert_eq!(std::mem::take(&mut matrix[0][0]), i32::from(taken));
                }
            }
            let mut blocks = [Block::default(); 2];
            quantiser.quantise(pair, &mut blocks);
            let levels = expected.map(|c| levels(&quantiser, &c));
            for (block, levels) in blocks.iter().zip(&levels) {
                let stored = turned(levels).as_flattened().to_vec();
                prop_assert_eq!(block.levels.map(i32::from).to_vec(), stored);
                for (scan, &at) in ZIGZAG.iter().enumerate() {
                    prop_assert_eq!(block.mask >> scan & 1 != 0, block.levels[at] != 0);
                }
                let counted = Block::new(block.levels);
                prop_assert_eq!((counted.mask, counted.big), (block.mask, block.big));
            }
            let mut pair = quantiser.restore(blocks.each_ref().map(|block| Some(&block.levels)));
            if dc {
                pair.put_dc(taken);
            }
            let out = pair.inverse().add_to(prediction.each_ref());
            for (half, levels) in levels.iter().enumerate() {
                let mut coefficients = restored(&quantiser, levels);
                if dc {
                    coefficients[0][0] = taken[half].into();
                }
                let (residual, under) = (inverse(&coefficients), matrix(&prediction, half * 4));
                let sum: Matrix = std::array::from_fn(|i| {
                    std::array::from_fn(|j| (under[i][j] + residual[i][j]).clamp(0, 255))
                });
                prop_assert_eq!(matrix(&out, half * 4), sum);
            }
        }

        #[test]
        fn a_residual_survives_within_its_step(
            source in samples(), prediction in samples(), qp in FINEST_QP..=51,
        ) {
            let quantiser = Quantiser::luma(qp, true);
            let pair = Pair::difference(source.each_ref(), prediction.each_ref()).forward();
            let mut blocks = [Block::default(); 2];
            quantiser.quantise(pair, &mut blocks);
            let pair = quantiser.restore(blocks.each_ref().map(|block| Some(&block.levels)));
            let out = pair.inverse().add_to(prediction.each_ref());
            let step = 0.625 * 2f64.powf(f64::from(qp) / 6.0);
            for (a, b) in source.as_flattened().iter().zip(out.as_flattened()) {
                prop_assert!(f64::from(a.abs_diff(*b)) <= 2.0 * step + 2.0);
            }
        }

        #[test]
        fn a_dead_block_is_really_dead(values in prop::array::uniform16(0u8..14), qp in FINEST_QP..=51) {
            let quantiser = Quantiser::luma(qp, false);
            let rows: [[u8; 8]; 4] = std::array::from_fn(|i| {
                std::array::from_fn(|j| if j < 4 { values[i * 4 + j] } else { 7 })
            });
            let middle = [[7; 8]; 4];
            let pair = Pair::difference(rows.each_ref(), middle.each_ref()).forward();
            let sum: u32 = values.iter().map(|v| u32::from(v.abs_diff(7))).sum();
            let mut blocks = [Block::default(); 2];
            quantiser.quantise(pair, &mut blocks);
            prop_assert!(blocks[0].mask == 0 || sum > quantiser.dead);
            let dc = [values[0], values[5], values[10], values[15]].map(|v| i32::from(v) * 9 - 63);
            let sum: u32 = dc.iter().map(|dc| dc.unsigned_abs()).sum();
            let levels = quantiser.quantise_chroma_dc(&dc);
            prop_assert!(levels == [0; 4] || sum > quantiser.dead_dc);
        }
    }
}
