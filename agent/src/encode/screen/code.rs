//! Macroblock after macroblock: how each one is predicted, and what of it is written.

use super::bits::Mark;
use super::grid::{Known, Part, SKIPPED};
use super::macroblock::{self, Counts};
use super::planes::{PlaneBands, Planes, Samples};
use super::predict::{self, Edges, IntraMode, Search, Vector};
use super::scroll::Scroll;
use super::{Output, Steps};
use crate::picture::Picture;

/// `coded_block_pattern` of inter macroblocks to its code number (table 9-4).
const INTER_PATTERN: [u8; 48] = {
    let by_code = [
        0, 16, 1, 2, 4, 8, 32, 3, 5, 10, 12, 15, 47, 7, 11, 13, 14, 6, 9, 31, 35, 37, 42, 44, 33,
        34, 36, 40, 39, 43, 45, 46, 17, 18, 20, 24, 19, 21, 26, 28, 23, 27, 29, 30, 22, 25, 38, 41,
    ];
    let mut table = [0; 48];
    let mut code = 0;
    while code < 48 {
        table[by_code[code]] = code as u8;
        code += 1;
    }
    table
};

/// The same where the pattern has no chroma: in 4:4:4.
const FULL_INTER_PATTERN: [u8; 16] = {
    let by_code = [0, 1, 2, 4, 8, 3, 5, 10, 12, 15, 7, 11, 13, 14, 6, 9];
    let mut table = [0; 16];
    let mut code = 0;
    while code < 16 {
        table[by_code[code]] = code as u8;
        code += 1;
    }
    table
};

/// A macroblock may take 3200 bits (A.3.1), and 128 more than its samples take in the profiles of
/// 4:4:4 (A.3.3): what the standard asks for, less the few bits in front of the residual that are not
/// counted here.
const MOST_BITS: usize = 3100;
const FULL_MOST_BITS: usize = 128 + 3 * 256 * 8 - 100;

/// Motion that costs more than edges by one part in so many is not looked for.
const HOPELESS: u32 = 4;

/// How a macroblock is predicted from its edges.
struct Intra {
    mode: IntraMode,
    /// Luma's sum of absolute differences.
    cost: u32,
    luma: Edges,
    /// Of U and V, in 4:4:4.
    full: Option<[Edges; 2]>,
}

/// What all slices of a frame look at.
#[derive(Clone, Copy)]
pub struct Common<'a> {
    /// What is to be coded.
    pub picture: &'a Picture,
    /// Constants of the frame.
    pub steps: &'a Steps,
    /// What decoders show now.
    pub reference: &'a Planes,
    /// Where rows have come from.
    pub scroll: &'a Scroll,
    /// Where much of it has come from.
    pub jump: Vector,
    /// There is no time to look far.
    pub hurried: bool,
}

/// A slice under way: some rows of macroblocks, which refer to no others of this frame (6.4.9, 8.4.1.3,
/// 9.2.1) and can be coded while those are. All places are counted from its first row, so that what
/// lies above it is not there, as at the top of the picture. `FULL` is 4:4:4: what differs between the
/// two is decided when the agent is compiled.
pub struct Slice<'a, const FULL: bool> {
    /// What others look at, too.
    pub common: Common<'a>,
    /// The picture's row of macroblocks that is the first one here.
    pub top: usize,
    /// The frame under way.
    pub next: PlaneBands<'a>,
    /// What neighbours tell.
    pub grid: Part<'a>,
    /// What has to be coded.
    pub damaged: &'a [bool],
    /// Rows of macroblocks with something of that.
    pub touched: &'a [bool],
    /// Where `next` is not what the reference is.
    pub stale: &'a mut [bool],
    /// Rows of macroblocks with something of that.
    pub stale_rows: &'a mut [bool],
    /// What moved in the frame before.
    pub habits: &'a mut [Vector],
    /// What is written.
    pub output: &'a mut Output,
    /// It is coded.
    pub done: bool,
}

impl<const FULL: bool> Slice<'_, FULL> {
    /// Codes it, behind its header.
    pub fn code(&mut self, idr: bool) {
        if idr {
            self.code_idr()
        } else {
            self.code_inter()
        }
        self.done = true;
    }

    fn code_idr(&mut self) {
        let mut source = Samples::default();
        for row in 0..self.grid.rows {
            for column in 0..self.grid.columns {
                source.read::<FULL>(self.common.picture, column, self.top + row);
                let intra = self.look_at_edges(&source, (column, row));
                self.code_intra(&source, (column, row), &intra, 0);
            }
            self.grid.row_done(row);
        }
        self.stale.fill(true);
        self.stale_rows.fill(true);
        self.habits.fill(Vector::default());
    }

    fn code_inter(&mut self) {
        self.output.run = 0;
        let mut source = Samples::default();
        for row in 0..self.grid.rows {
            let touched = self.touched[row];
            if std::mem::replace(&mut self.stale_rows[row], touched) {
                self.bring_up_to_date(row);
            }
            if !touched && self.grid.is_calm_above(row) {
                self.grid.rest(row);
                self.output.run += self.grid.columns as u32;
                continue;
            }
            for column in 0..self.grid.columns {
                let index = row * self.grid.columns + column;
                if self.damaged[index] {
                    source.read::<FULL>(self.common.picture, column, self.top + row);
                    self.code_damaged(&source, (column, row));
                    continue;
                }
                self.grid.known[index] = SKIPPED;
                if self.grid.skip_vector(column, row) == Vector::default() {
                    self.output.run += 1;
                } else {
                    // Its neighbours move and it does not: a skipped one would move along.
                    self.output.residual.clear::<FULL>();
                    self.write_inter((column, row), Vector::default());
                }
            }
            self.grid.row_done(row);
        }
        if self.output.run > 0 {
            self.output.bits.ue(self.output.run);
        }
    }

    /// Copies what was coded in the frame before and rests now.
    fn bring_up_to_date(&mut self, row: usize) {
        for column in 0..self.grid.columns {
            let index = row * self.grid.columns + column;
            if !self.damaged[index] && std::mem::replace(&mut self.stale[index], false) {
                let reference = self.common.reference;
                self.next.copy_macroblock::<FULL>(reference, (column, row), self.top);
            }
        }
    }

    fn code_damaged(&mut self, source: &Samples, (column, row): (usize, usize)) {
        let index = row * self.grid.columns + column;
        // In the slice, and in the picture.
        let at = (column * 16, row * 16);
        let place = (column * 16, (self.top + row) * 16);
        let Common { steps, hurried, reference, .. } = self.common;
        self.stale[index] = true;
        let mut search = self.look_around(source, (column, row));
        // Where motion explains little, edges may explain more; and what is new is best shown well
        // at once, since all that follows refers to it.
        if search.best.0 > 2 * 256 {
            let intra = self.look_at_edges(source, (column, row));
            let cost = intra.cost;
            // What matches well leaves next to nothing to code: no need for a better match. Nor is
            // one found where edges are that much better. A machine that is short of time makes do
            // with what moved in the frame before.
            let enough = (8 * steps.inter.dead).max(3 * 256);
            let hopeless = cost + cost / HOPELESS < search.best.0;
            if search.best.0 > enough && !hopeless && !hurried {
                // Some look farther, and their neighbours profit.
                let scout = (column + 2 * row).is_multiple_of(4) && search.best.0 > 12 * 256;
                search.descend(if scout { 8 } else { 1 });
            }
            if cost < search.best.0 + search.best.0 / 4 {
                self.output.bits.ue(std::mem::take(&mut self.output.run));
                self.habits[index] = Vector::default();
                self.code_intra(source, (column, row), &intra, 5);
                return;
            }
        }
        let (_, vector) = search.best;
        self.habits[index] = vector;
        let Output { prediction, residual, .. } = &mut *self.output;
        predict::inter::<FULL>(reference, place, vector, prediction);
        residual.clear::<FULL>();
        let luma = (&source.y, &prediction.y);
        macroblock::inter_luma(luma, &steps.inter, &mut residual.luma, &mut self.next.y, at);
        let quantiser = &steps.inter_chroma;
        for (plane, out) in self.next.uv.iter_mut().enumerate() {
            if FULL {
                let full = (&source.full[plane], &prediction.full[plane]);
                macroblock::inter_luma(full, quantiser, &mut residual.full[plane], out, at);
            } else {
                let chroma = (&source.uv[plane], &prediction.uv[plane]);
                let half = (column * 8, row * 8);
                macroblock::chroma(plane, chroma, quantiser, residual, out, half);
            }
        }
        self.grid.known[index] = Known { vector: Some(vector), counts: [0; 24] };
        if residual.is_empty::<FULL>() && vector == self.grid.skip_vector(column, row) {
            self.output.run += 1;
        } else {
            let (mark, run) = (self.output.bits.mark(), self.output.run);
            let start = self.output.bits.len();
            self.write_inter((column, row), vector);
            if self.output.bits.len() - start > Self::MOST_BITS {
                self.give_up(source, (column, row), (mark, run));
            }
        }
    }

    /// What a macroblock may take before its samples themselves are sent instead.
    const MOST_BITS: usize = if FULL { FULL_MOST_BITS } else { MOST_BITS };

    /// The best prediction from the edges around a macroblock.
    #[inline]
    fn look_at_edges(&self, source: &Samples, (column, row): (usize, usize)) -> Intra {
        let at = (column * 16, row * 16);
        let edges = Edges::of(&self.next.y, at);
        if FULL {
            let full = self.next.uv.each_ref().map(|plane| Edges::of(plane, at));
            let (mode, cost) = edges.best_of_all(&full, source);
            Intra { mode, cost, luma: edges, full: Some(full) }
        } else {
            let (mode, cost) = edges.best(&source.y);
            Intra { mode, cost, luma: edges, full: None }
        }
    }

    /// A search that has tried the vectors that are likely.
    fn look_around<'s>(&'s self, source: &'s Samples, (column, row): (usize, usize)) -> Search<'s> {
        let index = row * self.grid.columns + column;
        let predicted = self.grid.predicted_vector(column, row);
        let place = (column * 16, (self.top + row) * 16);
        let Common { reference, steps, scroll, jump, .. } = self.common;
        let mut search = Search::new(&reference.y, &source.y, place, predicted, steps.lambda);
        let (left, above, right) = self.grid.neighbours(column, row);
        search.try_vector(Vector::default());
        let around = [left, above, right].map(|known| known.and_then(|known| known.vector));
        let mut tried = [Vector::default(); 8];
        let guesses = [jump, scroll.vector(column), predicted, self.habits[index]];
        let candidates = around.into_iter().flatten().chain(guesses);
        for (n, vector) in candidates.enumerate() {
            if !tried[..=n].contains(&vector) {
                search.try_vector(vector);
            }
            tried[n + 1] = vector;
        }
        search
    }

    fn code_intra(
        &mut self,
        source: &Samples,
        (column, row): (usize, usize),
        intra: &Intra,
        first_type: u32,
    ) {
        let steps = self.common.steps;
        let Output { bits, residual, .. } = &mut *self.output;
        residual.clear::<FULL>();
        let at = (column * 16, row * 16);
        let luma = (&source.y, &intra.luma.block(intra.mode));
        macroblock::intra_luma(luma, &steps.intra, &mut residual.luma, &mut self.next.y, at);
        let mut chroma_mode = None;
        if let (true, Some(full)) = (FULL, &intra.full) {
            for (plane, edges) in full.iter().enumerate() {
                let chroma = (&source.full[plane], &edges.block(intra.mode));
                let (component, out) = (&mut residual.full[plane], &mut self.next.uv[plane]);
                macroblock::intra_luma(chroma, &steps.intra_chroma, component, out, at);
            }
        } else {
            let half = (column * 8, row * 8);
            let (mode, prediction) = predict::intra_chroma(&self.next, half, source);
            chroma_mode = Some(mode);
            for (plane, prediction) in prediction.iter().enumerate() {
                let chroma = (&source.uv[plane], prediction);
                let out = &mut self.next.uv[plane];
                macroblock::chroma(plane, chroma, &steps.intra_chroma, residual, out, half);
            }
        }
        let begun = bits.mark();
        // mb_type of Intra_16x16 (table 7-11).
        let kind = 1
            + intra.mode as u32
            + 4 * residual.chroma_pattern()
            + 12 * u32::from(residual.has_luma_ac::<FULL>());
        bits.ue(first_type + kind);
        if let Some(mode) = chroma_mode {
            bits.ue(mode); // intra_chroma_pred_mode
        }
        bits.se(0); // mb_qp_delta
        let start = bits.len();
        let mut counts = self.write_residual((column, row));
        if self.output.bits.len() - start > Self::MOST_BITS {
            self.output.bits.rewind(begun);
            counts = self.code_samples(source, (column, row), first_type);
        }
        self.grid.known[row * self.grid.columns + column] = Known { vector: None, counts };
    }

    /// Writes the residual; yields how many levels luma has, and chroma in 4:2:0.
    #[inline]
    fn write_residual(&mut self, (column, row): (usize, usize)) -> Counts {
        let Output { bits, residual, .. } = &mut *self.output;
        let mut counts = [0; 24];
        residual.write::<FULL>(bits, self.grid.counts_around(column, row), &mut counts);
        if FULL {
            let mut full = [0; 32];
            residual.write_full(bits, self.grid.full_around((column, row)), &mut full);
            self.grid.set_full((column, row), full);
        }
        counts
    }

    /// Writes the samples themselves: I_PCM.
    fn code_samples(
        &mut self,
        source: &Samples,
        (column, row): (usize, usize),
        first_type: u32,
    ) -> Counts {
        let bits = &mut self.output.bits;
        bits.ue(first_type + 25);
        bits.aligned(source.y.as_flattened());
        self.next.y.put(column * 16, row * 16, &source.y);
        // What its neighbours have to assume (9.2.1) is 16 levels everywhere.
        if FULL {
            for (plane, samples) in self.next.uv.iter_mut().zip(&source.full) {
                bits.aligned(samples.as_flattened());
                plane.put(column * 16, row * 16, samples);
            }
            self.grid.set_full((column, row), [16; 32]);
        } else {
            for (plane, samples) in self.next.uv.iter_mut().zip(&source.uv) {
                bits.aligned(samples.as_flattened());
                plane.put(column * 8, row * 8, samples);
            }
        }
        [16; 24]
    }

    /// Codes a damaged macroblock without a prediction: I_PCM.
    fn give_up(&mut self, source: &Samples, (column, row): (usize, usize), begun: (Mark, u32)) {
        self.output.bits.rewind(begun.0);
        self.output.bits.ue(begun.1);
        let counts = self.code_samples(source, (column, row), 5);
        self.grid.known[row * self.grid.columns + column] = Known { vector: None, counts };
    }

    /// Writes a P_L0_16x16 macroblock.
    fn write_inter(&mut self, (column, row): (usize, usize), vector: Vector) {
        let Output { bits, run, residual, .. } = &mut *self.output;
        bits.ue(std::mem::take(run));
        bits.ue(0); // mb_type: P_L0_16x16
        let predicted = self.grid.predicted_vector(column, row);
        // In quarters of a sample.
        bits.se(4 * i32::from(vector.x - predicted.x));
        bits.se(4 * i32::from(vector.y - predicted.y));
        let pattern = residual.pattern::<FULL>();
        bits.ue(if FULL {
            FULL_INTER_PATTERN[pattern as usize & 15].into()
        } else {
            INTER_PATTERN[pattern as usize].into()
        });
        let mut counts = [0; 24];
        if pattern != 0 {
            bits.se(0); // mb_qp_delta
            counts = self.write_residual((column, row));
        }
        self.grid.known[row * self.grid.columns + column] = Known { vector: Some(vector), counts };
    }
}
