//! One macroblock: residual to levels, levels to bits, and what a decoder will make of them.

use super::bits::Bits;
use super::cavlc::{write_block, write_chroma_dc};
use super::planes::Plane;
use super::transform::{Block, MATTERS, Quantiser, forward, inverse};
use crate::sys::simd;

/// Positions of the 16 luma blocks in the order of the bitstream, in blocks (figure 6-10).
pub const LUMA_ORDER: [(usize, usize); 16] = [
    (0, 0),
    (1, 0),
    (0, 1),
    (1, 1),
    (2, 0),
    (3, 0),
    (2, 1),
    (3, 1),
    (0, 2),
    (1, 2),
    (0, 3),
    (1, 3),
    (2, 2),
    (3, 2),
    (2, 3),
    (3, 3),
];

/// Numbers of coefficients of a macroblock's blocks, for the contexts of its neighbours: luma in
/// rows of four, then U and V in rows of two.
pub type Counts = [u8; 24];

/// The counts of a macroblock and of those to its left and above, where there are any.
#[derive(Debug, Clone, Copy)]
pub struct Neighbours<'a> {
    /// To the left.
    pub left: Option<&'a Counts>,
    /// Above.
    pub above: Option<&'a Counts>,
}

impl Neighbours<'_> {
    /// `nC` of a block at (x, y) of a grid of `edge` by `edge` blocks that starts at `base`
    /// (9.2.1).
    fn context(self, own: &Counts, base: usize, edge: usize, (x, y): (usize, usize)) -> u8 {
        let at = |counts: &Counts, x: usize, y: usize| counts[base + y * edge + x];
        let left =
            if x > 0 { Some(at(own, x - 1, y)) } else { self.left.map(|c| at(c, edge - 1, y)) };
        let above =
            if y > 0 { Some(at(own, x, y - 1)) } else { self.above.map(|c| at(c, x, edge - 1)) };
        match (left, above) {
            (Some(a), Some(b)) => (a + b).div_ceil(2),
            (Some(n), None) | (None, Some(n)) => n,
            (None, None) => 0,
        }
    }
}

/// The residual of one macroblock in levels.
#[derive(Debug, Clone, Default)]
pub struct Residual {
    /// Intra_16x16 only: the DC levels.
    luma_dc: Option<Block>,
    /// In bitstream order; those without a bit in `luma_coded` are left over from before.
    luma: [Block; 16],
    /// Bit n: the n-th luma block has levels.
    luma_coded: u16,
    chroma_dc: [[i16; 4]; 2],
    chroma: [[Block; 4]; 2],
    chroma_dc_coded: bool,
    chroma_ac_coded: bool,
}

/// Weights below which the levels of a quarter of a macroblock, or of all of it, are not sent.
const LEAST_OF_QUARTER: u32 = 4;
const LEAST_OF_ALL: u32 = 6;
/// The same for the AC levels of a chroma plane.
const LEAST_OF_CHROMA: u32 = 7;

/// Codes the luma of an inter macroblock: `prediction` becomes the reconstruction in `out`.
pub fn inter_luma(
    (source, prediction): (&[[u8; 16]; 16], &[[u8; 16]; 16]),
    quantiser: &Quantiser,
    residual: &mut Residual,
    out: &mut Plane,
    (x, y): (usize, usize),
) {
    let difference = Difference::new(source, prediction);
    if difference.is_dead(quantiser.dead) {
        out.put(x, y, prediction);
        return;
    }
    let mut weights = [0; 4];
    for (index, &(bx, by)) in LUMA_ORDER.iter().enumerate() {
        let Some(block) = difference.block(bx, by, quantiser.dead) else { continue };
        let block = quantiser.quantise(&forward(&block));
        if block.mask != 0 {
            weights[index / 4] += block.weight();
            residual.luma[index] = block;
            residual.luma_coded |= 1 << index;
        }
    }
    // What weighs so little in a quarter, or in all of it, is left to the next frame.
    let least = match weights.iter().sum::<u32>() {
        _ if !quantiser.thrifty => 0,
        ..LEAST_OF_ALL => MATTERS,
        _ => LEAST_OF_QUARTER,
    };
    for (quarter, weight) in weights.into_iter().enumerate() {
        if weight < least {
            residual.luma_coded &= !(15 << (4 * quarter));
        }
    }
    let mut frame = *prediction;
    let mut left = residual.luma_coded;
    while left != 0 {
        let index = left.trailing_zeros() as usize;
        let (bx, by) = LUMA_ORDER[index];
        let levels = &residual.luma[index].levels;
        add(&mut frame, bx * 4, by * 4, &inverse(&quantiser.restore(levels)));
        left &= left - 1;
    }
    out.put(x, y, &frame);
}

/// Codes the luma of an Intra_16x16 macroblock.
pub fn intra_luma(
    (source, prediction): (&[[u8; 16]; 16], &[[u8; 16]; 16]),
    quantiser: &Quantiser,
    residual: &mut Residual,
    out: &mut Plane,
    (x, y): (usize, usize),
) {
    let difference = Difference::new(source, prediction);
    let mut frame = *prediction;
    let mut dc = [0; 16];
    for (index, &(bx, by)) in LUMA_ORDER.iter().enumerate() {
        let Some(block) = difference.block(bx, by, quantiser.dead) else {
            dc[by * 4 + bx] = difference.dc(bx, by);
            continue;
        };
        let mut coefficients = forward(&block);
        dc[by * 4 + bx] = std::mem::take(&mut coefficients[0]).into();
        let block = quantiser.quantise(&coefficients);
        if block.mask != 0 {
            residual.luma_coded |= 1 << index;
            residual.luma[index] = block;
        }
    }
    let dc_levels = quantiser.quantise_luma_dc(&dc);
    residual.luma_dc = Some(Block::new(dc_levels));
    let dc = quantiser.restore_luma_dc(&dc_levels);
    for (index, &(bx, by)) in LUMA_ORDER.iter().enumerate() {
        // One coded block makes the AC levels of all be sent; those of the rest are zero anyway.
        let coded = residual.luma_coded >> index & 1 != 0;
        let levels = coded.then_some(&residual.luma[index].levels);
        add_block(&mut frame, bx * 4, by * 4, quantiser, levels, dc[by * 4 + bx]);
    }
    out.put(x, y, &frame);
}

/// Codes one chroma plane, 0 or 1.
pub fn chroma(
    plane: usize,
    (source, prediction): (&[[u8; 8]; 8], &[[u8; 8]; 8]),
    quantiser: &Quantiser,
    residual: &mut Residual,
    out: &mut Plane,
    (x, y): (usize, usize),
) {
    let difference = Difference::new(source, prediction);
    // Neither a level of any block nor one of their DC coefficients can come of so little.
    if difference.is_dead(quantiser.dead) && difference.total() <= quantiser.dead_dc {
        out.put(x, y, prediction);
        return;
    }
    let mut frame = *prediction;
    let mut dc = [0; 4];
    let mut blocks = [Block::default(); 4];
    for index in 0..4 {
        let at = (index % 2, index / 2);
        let Some(block) = difference.block(at.0, at.1, quantiser.dead) else {
            dc[index] = difference.dc(at.0, at.1);
            continue;
        };
        let mut coefficients = forward(&block);
        dc[index] = std::mem::take(&mut coefficients[0]).into();
        blocks[index] = quantiser.quantise(&coefficients);
    }
    if quantiser.thrifty && blocks.iter().map(Block::weight).sum::<u32>() < LEAST_OF_CHROMA {
        blocks.iter_mut().for_each(|block| block.mask = 0);
    }
    residual.chroma_ac_coded |= blocks.iter().any(|block| block.mask != 0);
    residual.chroma_dc[plane] = quantiser.quantise_chroma_dc(&dc);
    residual.chroma_dc_coded |= residual.chroma_dc[plane] != [0; 4];
    let dc = quantiser.restore_chroma_dc(&residual.chroma_dc[plane]);
    for index in 0..4 {
        let levels = (blocks[index].mask != 0).then_some(&blocks[index].levels);
        add_block(&mut frame, index % 2 * 4, index / 2 * 4, quantiser, levels, dc[index]);
    }
    residual.chroma[plane] = blocks;
    out.put(x, y, &frame);
}

/// Adds the residual of a block whose DC coefficient came separately.
#[inline]
fn add_block<const N: usize>(
    frame: &mut [[u8; N]; N],
    x: usize,
    y: usize,
    quantiser: &Quantiser,
    levels: Option<&[i16; 16]>,
    dc: i32,
) {
    match levels {
        Some(levels) => {
            let mut coefficients = quantiser.restore(levels);
            coefficients[0] = dc as i16;
            add(frame, x, y, &inverse(&coefficients));
        }
        // The transform of DC alone is flat.
        None if dc != 0 => add(frame, x, y, &[((dc + 32) >> 6) as i16; 16]),
        None => {}
    }
}

/// Source and prediction of `N` by `N` samples, and the sum of absolute differences of each 4x4
/// block. Most blocks of a screen turn out to be nothing; only of the others the differences
/// themselves are of interest.
struct Difference<'a, const N: usize> {
    source: &'a [[u8; N]; N],
    prediction: &'a [[u8; N]; N],
    /// In rows of four blocks for luma, of two for chroma.
    sums: [u32; 16],
}

impl<'a, const N: usize> Difference<'a, N> {
    #[inline(always)]
    fn new(source: &'a [[u8; N]; N], prediction: &'a [[u8; N]; N]) -> Self {
        Self { source, prediction, sums: simd::block_sums(source, prediction) }
    }

    /// The sum of all magnitudes.
    #[inline(always)]
    fn total(&self) -> u32 {
        self.sums[..N * N / 16].iter().sum()
    }

    /// Whether each block adds up to no more than `dead`.
    #[inline(always)]
    fn is_dead(&self, dead: u32) -> bool {
        self.sums[..N * N / 16].iter().all(|&sum| sum <= dead)
    }

    /// The DC coefficient of a block: the plain sum.
    #[inline(always)]
    fn dc(&self, bx: usize, by: usize) -> i32 {
        self.values(bx, by).iter().map(|&value| i32::from(value)).sum()
    }

    /// A 4x4 block by its position in blocks; `None` if it adds up to no more than `dead`.
    #[inline(always)]
    fn block(&self, bx: usize, by: usize, dead: u32) -> Option<[i16; 16]> {
        (self.sums[by * (N / 4) + bx] > dead).then(|| self.values(bx, by))
    }

    #[inline(always)]
    fn values(&self, bx: usize, by: usize) -> [i16; 16] {
        let mut block = [0; 16];
        for row in 0..4 {
            let (source, prediction) = (&self.source[by * 4 + row], &self.prediction[by * 4 + row]);
            for column in 0..4 {
                let at = bx * 4 + column;
                block[row * 4 + column] = i16::from(source[at]) - i16::from(prediction[at]);
            }
        }
        block
    }
}

#[inline(always)]
fn add<const N: usize>(frame: &mut [[u8; N]; N], x: usize, y: usize, residual: &[i16; 16]) {
    for row in 0..4 {
        for column in 0..4 {
            let sample = &mut frame[y + row][x + column];
            *sample = (i16::from(*sample) + residual[row * 4 + column]).clamp(0, 255) as u8;
        }
    }
}

impl Residual {
    /// Nothing of it will be sent.
    pub fn is_empty(&self) -> bool {
        self.luma_coded == 0 && !self.chroma_dc_coded && !self.chroma_ac_coded
    }

    /// The chroma part of `coded_block_pattern`: nothing, DC, or both.
    pub fn chroma_pattern(&self) -> u32 {
        if self.chroma_ac_coded { 2 } else { u32::from(self.chroma_dc_coded) }
    }

    /// Whether an Intra_16x16 macroblock sends its AC levels.
    pub fn has_luma_ac(&self) -> bool {
        self.luma_coded != 0
    }

    /// `coded_block_pattern` of an inter macroblock: a bit for each 8x8 of luma, then chroma.
    pub fn pattern(&self) -> u32 {
        let luma = (0..4).filter(|quarter| self.luma_coded >> (quarter * 4) & 15 != 0);
        luma.map(|quarter| 1 << quarter).sum::<u32>() | self.chroma_pattern() << 4
    }

    /// Forgets everything: for the next macroblock.
    pub fn clear(&mut self) {
        self.luma_dc = None;
        self.luma_coded = 0;
        self.chroma_dc = [[0; 4]; 2];
        self.chroma.iter_mut().flatten().for_each(|block| block.mask = 0);
        (self.chroma_dc_coded, self.chroma_ac_coded) = (false, false);
    }

    /// Writes `residual( )` (7.3.5.3); `counts` is filled in.
    pub fn write(&self, bits: &mut Bits, neighbours: Neighbours<'_>, counts: &mut Counts) {
        *counts = [0; 24];
        if let Some(dc) = &self.luma_dc {
            let context = neighbours.context(counts, 0, 4, (0, 0));
            write_block(bits, &dc.levels, dc.mask, 0, context);
        }
        let (pattern, first) = match &self.luma_dc {
            Some(_) => (if self.has_luma_ac() { 15 } else { 0 }, 1),
            None => (self.pattern(), 0),
        };
        for (index, &at) in LUMA_ORDER.iter().enumerate() {
            if pattern >> (index / 4) & 1 != 0 {
                let context = neighbours.context(counts, 0, 4, at);
                let block = &self.luma[index];
                let mask = if self.luma_coded >> index & 1 != 0 { block.mask } else { 0 };
                let count = write_block(bits, &block.levels, mask, first, context);
                counts[at.1 * 4 + at.0] = count;
            }
        }
        if self.chroma_pattern() > 0 {
            for dc in &self.chroma_dc {
                write_chroma_dc(bits, dc);
            }
        }
        if self.chroma_pattern() == 2 {
            for (plane, blocks) in self.chroma.iter().enumerate() {
                for (index, block) in blocks.iter().enumerate() {
                    let base = 16 + plane * 4;
                    let context = neighbours.context(counts, base, 2, (index % 2, index / 2));
                    counts[base + index] = write_block(bits, &block.levels, block.mask, 1, context);
                }
            }
        }
    }
}
