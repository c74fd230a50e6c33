//! One macroblock: residual to levels, levels to bits, and what a decoder will make of them.

use super::bits::Bits;
use super::cavlc::{write_block, write_chroma_dc};
use super::planes::Band;
use super::transform::{Block, MATTERS, Quantiser};
use crate::sys::blocks::Pair;
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
/// The same of U, then V, in 4:4:4: each in rows of four, as luma's.
pub type FullCounts = [u8; 32];

/// The counts of the macroblocks to the left and above, where there are any.
#[derive(Debug, Clone, Copy)]
pub struct Neighbours<'a, C> {
    /// To the left.
    pub left: Option<&'a C>,
    /// Above.
    pub above: Option<&'a C>,
}

/// Stands for the count of a block that is not there.
const NONE: u8 = 0x80;

/// The counts of `E` - 1 by `E` - 1 blocks, with those of the blocks above and to the left around.
type Around<const E: usize> = [[u8; E]; E];

impl<const N: usize> Neighbours<'_, [u8; N]> {
    /// What is around the blocks whose counts start at `base`.
    #[inline(always)]
    fn around<const E: usize>(self, base: usize) -> Around<E> {
        let (mut around, edge) = ([[NONE; E]; E], E - 1);
        for n in 0..edge {
            if let Some(above) = self.above {
                around[0][n + 1] = above[base + (edge - 1) * edge + n];
            }
            if let Some(left) = self.left {
                around[n + 1][0] = left[base + n * edge + edge - 1];
            }
        }
        around
    }
}

/// `nC` of the block at (x, y) (9.2.1): the mean of those there are.
#[inline(always)]
fn context<const E: usize>(around: &Around<E>, (x, y): (usize, usize)) -> u8 {
    let sum = u16::from(around[y + 1][x]) + u16::from(around[y][x + 1]);
    (if sum < NONE.into() { sum.div_ceil(2) } else { sum & 0x7f }) as u8
}

/// The levels of a plane of 16 by 16 samples: luma, and U and V in 4:4:4.
#[derive(Debug, Clone, Default)]
pub struct Component {
    /// Intra_16x16 only: the DC levels.
    dc: Option<Block>,
    /// In bitstream order; those without a bit in `coded` are left over from before.
    blocks: [Block; 16],
    /// Bit n: the n-th block has levels.
    coded: u16,
}

/// The residual of one macroblock in levels.
#[derive(Debug, Clone, Default)]
pub struct Residual {
    /// Luma.
    pub luma: Component,
    /// U and V of 4:4:4; nothing in 4:2:0.
    pub full: [Component; 2],
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

/// Four rows of eight samples, for a pair of blocks.
#[inline(always)]
fn rows<const N: usize>(block: &[[u8; N]; N], (x, y): (usize, usize)) -> [&[u8; 8]; 4] {
    std::array::from_fn(|row| &block[y + row].as_chunks::<8>().0[x / 8])
}

/// Writes four rows of eight samples.
#[inline(always)]
fn put(out: &mut Band<'_>, (x, y): (usize, usize), samples: &[[u8; 8]; 4]) {
    for (row, samples) in samples.iter().enumerate() {
        *out.row_mut(x, y + row) = *samples;
    }
}

/// Where the `n`-th pair of a luma macroblock is, in samples, and the place of its left block in
/// bitstream order; the right one comes next.
#[inline(always)]
fn luma_pair(n: usize) -> ((usize, usize), usize) {
    let (right, row) = (n % 2, n / 2);
    ((right * 8, row * 4), (row / 2 * 2 + right) * 4 + row % 2 * 2)
}

/// Codes the luma of an inter macroblock, or what is coded like it: `prediction` becomes the
/// reconstruction in `out`.
pub fn inter_luma(
    (source, prediction): (&[[u8; 16]; 16], &[[u8; 16]; 16]),
    quantiser: &Quantiser,
    component: &mut Component,
    out: &mut Band<'_>,
    (x, y): (usize, usize),
) {
    out.put(x, y, prediction);
    // Most blocks of a screen turn out to be nothing.
    let (alive, _) = simd::lively(source, prediction, quantiser.dead);
    if alive == 0 {
        return;
    }
    let mut weights = [0; 4];
    for n in 0..8 {
        if alive >> (2 * n) & 3 == 0 {
            continue;
        }
        let (at, index) = luma_pair(n);
        let pair = Pair::difference(rows(source, at), rows(prediction, at)).forward();
        let [blocks, ..] = component.blocks[index..].as_chunks_mut().0 else { continue };
        quantiser.quantise(pair, blocks);
        for (block, index) in blocks.iter().zip(index..) {
            if block.mask != 0 {
                weights[index / 4] += block.weight();
                component.coded |= 1 << index;
            }
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
            component.coded &= !(15 << (4 * quarter));
        }
    }
    for n in 0..8 {
        let (at, index) = luma_pair(n);
        if component.coded >> index & 3 != 0 {
            let pair = quantiser.restore([component.levels(index), component.levels(index + 1)]);
            put(out, (x + at.0, y + at.1), &pair.inverse().add_to(rows(prediction, at)));
        }
    }
}

/// Codes the luma of an Intra_16x16 macroblock, or what is coded like it.
pub fn intra_luma(
    (source, prediction): (&[[u8; 16]; 16], &[[u8; 16]; 16]),
    quantiser: &Quantiser,
    component: &mut Component,
    out: &mut Band<'_>,
    (x, y): (usize, usize),
) {
    // Turned, as all else: column after column.
    let mut dc = [0; 16];
    for n in 0..8 {
        let (at, index) = luma_pair(n);
        let mut pair = Pair::difference(rows(source, at), rows(prediction, at)).forward();
        let place = at.0 + at.1 / 4;
        [dc[place], dc[place + 4]] = pair.take_dc().map(i32::from);
        let [blocks, ..] = component.blocks[index..].as_chunks_mut().0 else { continue };
        quantiser.quantise(pair, blocks);
        for (block, index) in blocks.iter().zip(index..) {
            component.coded |= u16::from(block.mask != 0) << index;
        }
    }
    let dc_levels = quantiser.quantise_luma_dc(&dc);
    component.dc = Some(Block::new(dc_levels));
    let dc = quantiser.restore_luma_dc(&dc_levels);
    for n in 0..8 {
        // One coded block makes the AC levels of all be sent; those of the rest are zero anyway.
        let (at, index) = luma_pair(n);
        let mut pair = quantiser.restore([component.levels(index), component.levels(index + 1)]);
        let place = at.0 + at.1 / 4;
        pair.put_dc([dc[place] as i16, dc[place + 4] as i16]);
        put(out, (x + at.0, y + at.1), &pair.inverse().add_to(rows(prediction, at)));
    }
}

/// Codes one chroma plane of 4:2:0, 0 or 1.
pub fn chroma(
    plane: usize,
    (source, prediction): (&[[u8; 8]; 8], &[[u8; 8]; 8]),
    quantiser: &Quantiser,
    residual: &mut Residual,
    out: &mut Band<'_>,
    (x, y): (usize, usize),
) {
    let (alive, total) = simd::lively(source, prediction, quantiser.dead);
    // Neither a level of any block nor one of their DC coefficients can come of so little.
    if alive == 0 && total <= quantiser.dead_dc {
        out.put(x, y, prediction);
        return;
    }
    let mut dc = [0; 4];
    let blocks = &mut residual.chroma[plane];
    for (half, blocks) in blocks.as_chunks_mut().0.iter_mut().enumerate() {
        let at = (0, half * 4);
        let mut pair = Pair::difference(rows(source, at), rows(prediction, at)).forward();
        [dc[half * 2], dc[half * 2 + 1]] = pair.take_dc().map(i32::from);
        quantiser.quantise(pair, blocks);
    }
    if quantiser.thrifty && blocks.iter().map(Block::weight).sum::<u32>() < LEAST_OF_CHROMA {
        blocks.iter_mut().for_each(|block| block.mask = 0);
    }
    residual.chroma_ac_coded |= blocks.iter().any(|block| block.mask != 0);
    residual.chroma_dc[plane] = quantiser.quantise_chroma_dc(&dc);
    residual.chroma_dc_coded |= residual.chroma_dc[plane] != [0; 4];
    let dc = quantiser.restore_chroma_dc(&residual.chroma_dc[plane]).map(|dc| dc as i16);
    for half in 0..2 {
        let levels = |n: usize| (blocks[n].mask != 0).then_some(&blocks[n].levels);
        let mut pair = quantiser.restore([levels(half * 2), levels(half * 2 + 1)]);
        pair.put_dc([dc[half * 2], dc[half * 2 + 1]]);
        let at = (0, half * 4);
        put(out, (x, y + half * 4), &pair.inverse().add_to(rows(prediction, at)));
    }
}

impl Component {
    /// The levels of a block in bitstream order, if it has any.
    #[inline(always)]
    fn levels(&self, index: usize) -> Option<&[i16; 16]> {
        (self.coded >> index & 1 != 0).then_some(&self.blocks[index].levels)
    }

    /// Writes `residual_luma( )` (7.3.5.3.1); `counts` is filled in from `base` on. Bit n of
    /// `pattern` tells whether the n-th quarter is sent.
    #[inline(always)]
    fn write<const N: usize>(
        &self,
        bits: &mut Bits,
        pattern: u32,
        neighbours: Neighbours<'_, [u8; N]>,
        base: usize,
        counts: &mut [u8; N],
    ) {
        let mut around = neighbours.around::<5>(base);
        let mut first = 0;
        if let Some(dc) = &self.dc {
            write_block(bits, &dc.levels, dc.mask, 0, context(&around, (0, 0)));
            first = 1;
        }
        for (index, &(x, y)) in LUMA_ORDER.iter().enumerate() {
            let mut count = 0;
            if pattern >> (index / 4) & 1 != 0 {
                let block = &self.blocks[index];
                let mask = if self.coded >> index & 1 != 0 { block.mask } else { 0 };
                count = write_block(bits, &block.levels, mask, first, context(&around, (x, y)));
            }
            around[y + 1][x + 1] = count;
            counts[base + y * 4 + x] = count;
        }
    }
}

impl Residual {
    /// Blocks with levels in luma or in what is coded like it.
    #[inline(always)]
    fn coded<const FULL: bool>(&self) -> u16 {
        if FULL {
            self.luma.coded | self.full[0].coded | self.full[1].coded
        } else {
            self.luma.coded
        }
    }

    /// Nothing of it will be sent.
    #[inline(always)]
    pub fn is_empty<const FULL: bool>(&self) -> bool {
        self.coded::<FULL>() == 0 && !self.chroma_dc_coded && !self.chroma_ac_coded
    }

    /// The chroma part of `coded_block_pattern`: nothing, DC, or both.
    pub fn chroma_pattern(&self) -> u32 {
        if self.chroma_ac_coded { 2 } else { u32::from(self.chroma_dc_coded) }
    }

    /// Whether an Intra_16x16 macroblock sends its AC levels.
    pub fn has_luma_ac<const FULL: bool>(&self) -> bool {
        self.coded::<FULL>() != 0
    }

    /// `coded_block_pattern` of an inter macroblock: a bit for each 8x8 of luma (and of all three
    /// planes in 4:4:4), then chroma.
    pub fn pattern<const FULL: bool>(&self) -> u32 {
        let coded = self.coded::<FULL>();
        let luma = (0..4).filter(|quarter| coded >> (quarter * 4) & 15 != 0);
        luma.map(|quarter| 1 << quarter).sum::<u32>() | self.chroma_pattern() << 4
    }

    /// Forgets everything: for the next macroblock.
    #[inline(always)]
    pub fn clear<const FULL: bool>(&mut self) {
        (self.luma.dc, self.luma.coded) = (None, 0);
        if FULL {
            for component in &mut self.full {
                (component.dc, component.coded) = (None, 0);
            }
            return;
        }
        self.chroma_dc = [[0; 4]; 2];
        self.chroma.iter_mut().flatten().for_each(|block| block.mask = 0);
        (self.chroma_dc_coded, self.chroma_ac_coded) = (false, false);
    }

    /// Which quarters of luma, and of what is coded like it, are sent.
    #[inline(always)]
    fn quarters<const FULL: bool>(&self) -> u32 {
        match &self.luma.dc {
            Some(_) if self.has_luma_ac::<FULL>() => 15,
            Some(_) => 0,
            None => self.pattern::<FULL>() & 15,
        }
    }

    /// Writes what of `residual( )` follows luma in 4:4:4, U and V (7.3.5.3); `counts` is filled in.
    pub fn write_full(
        &self,
        bits: &mut Bits,
        neighbours: Neighbours<'_, FullCounts>,
        counts: &mut FullCounts,
    ) {
        let quarters = self.quarters::<true>();
        for (component, base) in self.full.iter().zip([0, 16]) {
            component.write(bits, quarters, neighbours, base, counts);
        }
    }

    /// Writes `residual( )` (7.3.5.3), in 4:4:4 its first part; `counts` is filled in.
    #[inline]
    pub fn write<const FULL: bool>(
        &self,
        bits: &mut Bits,
        neighbours: Neighbours<'_, Counts>,
        counts: &mut Counts,
    ) {
        *counts = [0; 24];
        self.luma.write(bits, self.quarters::<FULL>(), neighbours, 0, counts);
        if FULL {
            return;
        }
        if self.chroma_pattern() > 0 {
            for dc in &self.chroma_dc {
                write_chroma_dc(bits, dc);
            }
        }
        if self.chroma_pattern() == 2 {
            for (plane, blocks) in self.chroma.iter().enumerate() {
                let base = 16 + plane * 4;
                let mut around = neighbours.around::<3>(base);
                for (index, block) in blocks.iter().enumerate() {
                    let (x, y) = (index % 2, index / 2);
                    let nc = context(&around, (x, y));
                    let count = write_block(bits, &block.levels, block.mask, 1, nc);
                    around[y + 1][x + 1] = count;
                    counts[base + index] = count;
                }
            }
        }
    }
}
