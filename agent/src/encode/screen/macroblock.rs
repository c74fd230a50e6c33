//! One macroblock: residual to levels, levels to bits, and what a decoder will make of them.

use super::bits::Bits;
use super::cavlc::{Context, write_block};
use super::planes::Plane;
use super::transform::{Quantiser, ZIGZAG, forward, inverse};

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
    fn context(self, own: &Counts, base: usize, edge: usize, (x, y): (usize, usize)) -> Context {
        let at = |counts: &Counts, x: usize, y: usize| counts[base + y * edge + x];
        let left =
            if x > 0 { Some(at(own, x - 1, y)) } else { self.left.map(|c| at(c, edge - 1, y)) };
        let above =
            if y > 0 { Some(at(own, x, y - 1)) } else { self.above.map(|c| at(c, x, edge - 1)) };
        Context::Neighbours(match (left, above) {
            (Some(a), Some(b)) => (a + b).div_ceil(2),
            (Some(n), None) | (None, Some(n)) => n,
            (None, None) => 0,
        })
    }
}

/// Levels in scan order.
type Levels = [i16; 16];

/// The residual of one macroblock in levels.
#[derive(Debug, Clone, Default)]
pub struct Residual {
    /// Intra_16x16 only: the DC levels.
    luma_dc: Option<Levels>,
    luma: [Levels; 16],
    /// Bit n: the n-th luma block in bitstream order has levels.
    luma_coded: u16,
    chroma_dc: [[i16; 4]; 2],
    chroma: [[Levels; 4]; 2],
    chroma_dc_coded: bool,
    chroma_ac_coded: bool,
}

/// Codes the luma of an inter macroblock: `prediction` becomes the reconstruction in `out`.
pub fn inter_luma(
    source: &[[u8; 16]; 16],
    prediction: &[[u8; 16]; 16],
    quantiser: &Quantiser,
    residual: &mut Residual,
    out: &mut Plane,
    (x, y): (usize, usize),
) {
    let difference = Difference::new(source, prediction);
    let mut frame = *prediction;
    for (index, (bx, by)) in LUMA_ORDER.into_iter().enumerate() {
        let Some(block) = difference.block(bx, by, quantiser.dead) else { continue };
        let (levels, any) = quantiser.quantise(&forward(&block));
        if any {
            residual.luma[index] = scan(&levels);
            residual.luma_coded |= 1 << index;
            add(&mut frame, bx * 4, by * 4, &inverse(&quantiser.restore(&levels)));
        }
    }
    out.put(x, y, &frame);
}

/// Codes the luma of an Intra_16x16 macroblock.
pub fn intra_luma(
    source: &[[u8; 16]; 16],
    prediction: &[[u8; 16]; 16],
    quantiser: &Quantiser,
    residual: &mut Residual,
    out: &mut Plane,
    (x, y): (usize, usize),
) {
    let difference = Difference::new(source, prediction);
    let mut frame = *prediction;
    let mut dc = [0; 16];
    let mut levels = [[0i16; 16]; 16];
    for (index, (bx, by)) in LUMA_ORDER.into_iter().enumerate() {
        let Some(block) = difference.block(bx, by, quantiser.dead) else {
            dc[by * 4 + bx] = difference.dc(bx, by);
            continue;
        };
        let mut coefficients = forward(&block);
        dc[by * 4 + bx] = std::mem::take(&mut coefficients[0]).into();
        let (block_levels, any) = quantiser.quantise(&coefficients);
        levels[index] = block_levels;
        residual.luma_coded |= u16::from(any) << index;
        residual.luma[index] = scan(&block_levels);
    }
    let dc_levels = quantiser.quantise_luma_dc(&dc);
    residual.luma_dc = Some(scan(&dc_levels));
    let dc = quantiser.restore_luma_dc(&dc_levels);
    for (index, (bx, by)) in LUMA_ORDER.into_iter().enumerate() {
        // One coded block makes the AC levels of all be sent; those of the rest are zero anyway.
        let levels = (residual.luma_coded >> index & 1 != 0).then_some(&levels[index]);
        add_block(&mut frame, bx * 4, by * 4, quantiser, levels, dc[by * 4 + bx]);
    }
    out.put(x, y, &frame);
}

/// Codes one chroma plane, 0 or 1.
pub fn chroma(
    plane: usize,
    source: &[[u8; 8]; 8],
    prediction: &[[u8; 8]; 8],
    quantiser: &Quantiser,
    residual: &mut Residual,
    out: &mut Plane,
    (x, y): (usize, usize),
) {
    let difference = Difference::new(source, prediction);
    // Neither a level of any block nor one of their DC coefficients can come of so little.
    if difference.total() <= quantiser.dead {
        out.put(x, y, prediction);
        return;
    }
    let mut frame = *prediction;
    let mut dc = [0; 4];
    let mut levels = [[0i16; 16]; 4];
    let mut coded = [false; 4];
    for index in 0..4 {
        let at = (index % 2, index / 2);
        let Some(block) = difference.block(at.0, at.1, quantiser.dead) else {
            dc[index] = difference.dc(at.0, at.1);
            continue;
        };
        let mut coefficients = forward(&block);
        dc[index] = std::mem::take(&mut coefficients[0]).into();
        (levels[index], coded[index]) = quantiser.quantise(&coefficients);
        residual.chroma[plane][index] = scan(&levels[index]);
    }
    residual.chroma_ac_coded |= coded.contains(&true);
    residual.chroma_dc[plane] = quantiser.quantise_chroma_dc(&dc);
    residual.chroma_dc_coded |= residual.chroma_dc[plane] != [0; 4];
    let dc = quantiser.restore_chroma_dc(&residual.chroma_dc[plane]);
    for index in 0..4 {
        let levels = coded[index].then_some(&levels[index]);
        add_block(&mut frame, index % 2 * 4, index / 2 * 4, quantiser, levels, dc[index]);
    }
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
            coefficients[0] = dc;
            add(frame, x, y, &inverse(&coefficients));
        }
        // The transform of DC alone is flat.
        None if dc != 0 => add(frame, x, y, &[(dc + 32) >> 6; 16]),
        None => {}
    }
}

/// Levels in rows to levels in scan order.
#[inline]
fn scan(levels: &[i16; 16]) -> Levels {
    let mut out = [0; 16];
    for (out, at) in out.iter_mut().zip(ZIGZAG) {
        *out = levels[at];
    }
    out
}

/// Source minus prediction of `N` by `N` samples, and the sum of its magnitudes for each 4x4 block.
/// Whole rows at a time, which is what vector instructions are for; most blocks of a screen turn
/// out to be nothing.
struct Difference<const N: usize> {
    rows: [[i16; N]; N],
    sums: [[u16; N]; N],
}

impl<const N: usize> Difference<N> {
    #[inline]
    fn new(source: &[[u8; N]; N], prediction: &[[u8; N]; N]) -> Self {
        let mut rows = [[0; N]; N];
        let mut sums = [[0; N]; N];
        for y in 0..N {
            for x in 0..N {
                let (a, b) = (source[y][x], prediction[y][x]);
                rows[y][x] = i16::from(a) - i16::from(b);
                // One row of sums for four of samples, still to be added up across.
                sums[y / 4][x] += u16::from(a.abs_diff(b));
            }
        }
        Self { rows, sums }
    }

    /// The sum of all magnitudes.
    #[inline]
    fn total(&self) -> u32 {
        self.sums[..N / 4].iter().flatten().map(|&sum| u32::from(sum)).sum()
    }

    /// The DC coefficient of a block: the plain sum.
    #[inline]
    fn dc(&self, bx: usize, by: usize) -> i32 {
        let rows = &self.rows[by * 4..by * 4 + 4];
        rows.iter().flat_map(|row| &row[bx * 4..bx * 4 + 4]).map(|&value| i32::from(value)).sum()
    }

    /// A 4x4 block by its position in blocks; `None` if it adds up to no more than `dead`.
    #[inline]
    fn block(&self, bx: usize, by: usize, dead: u32) -> Option<[i16; 16]> {
        let sum: u16 = self.sums[by][bx * 4..bx * 4 + 4].iter().sum();
        if u32::from(sum) <= dead {
            return None;
        }
        let mut block = [0; 16];
        for row in 0..4 {
            block[row * 4..row * 4 + 4]
                .copy_from_slice(&self.rows[by * 4 + row][bx * 4..bx * 4 + 4]);
        }
        Some(block)
    }
}

#[inline]
fn add<const N: usize>(frame: &mut [[u8; N]; N], x: usize, y: usize, residual: &[i32; 16]) {
    for row in 0..4 {
        for column in 0..4 {
            let sample = &mut frame[y + row][x + column];
            *sample = (i32::from(*sample) + residual[row * 4 + column]).clamp(0, 255) as u8;
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

    /// Writes `residual( )` (7.3.5.3); `counts` is filled in.
    pub fn write(&self, bits: &mut Bits, neighbours: Neighbours<'_>, counts: &mut Counts) {
        *counts = [0; 24];
        if let Some(dc) = &self.luma_dc {
            write_block(bits, dc, neighbours.context(counts, 0, 4, (0, 0)));
        }
        let pattern = if self.luma_dc.is_some() {
            if self.has_luma_ac() { 15 } else { 0 }
        } else {
            self.pattern()
        };
        for (index, at) in LUMA_ORDER.into_iter().enumerate() {
            if pattern >> (index / 4) & 1 != 0 {
                let context = neighbours.context(counts, 0, 4, at);
                let first = usize::from(self.luma_dc.is_some());
                counts[at.1 * 4 + at.0] = write_block(bits, &self.luma[index][first..], context);
            }
        }
        if self.chroma_pattern() > 0 {
            for dc in &self.chroma_dc {
                write_block(bits, dc, Context::ChromaDc);
            }
        }
        if self.chroma_pattern() == 2 {
            for (plane, blocks) in self.chroma.iter().enumerate() {
                for (index, levels) in blocks.iter().enumerate() {
                    let base = 16 + plane * 4;
                    let context = neighbours.context(counts, base, 2, (index % 2, index / 2));
                    counts[base + index] = write_block(bits, &levels[1..], context);
                }
            }
        }
    }
}
