//! Macroblock after macroblock: how each one is predicted, and what of it is written.

use transom_protocol::message::Chroma;

use super::bits::{Bits, Mark};
use super::grid::{Known, SKIPPED};
use super::macroblock::{self, Counts};
use super::planes::Samples;
use super::predict::{self, Edges, IntraMode, Search, Vector};
use super::{Output, Screen, Steps};
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

impl Screen {
    pub(super) fn code_idr(&mut self, picture: &Picture, steps: &Steps, output: &mut Output) {
        let mut source = Samples::default();
        self.grid.begin();
        for row in 0..self.grid.rows {
            for column in 0..self.grid.columns {
                source.read(picture, column, row);
                let intra = self.look_at_edges(&source, (column, row));
                self.code_intra(&source, (column, row), &intra, steps, 0, output);
            }
        }
        self.stale.fill(true);
        self.habits.fill(Vector::default());
        self.scroll.clear();
    }

    pub(super) fn code_inter(&mut self, picture: &Picture, steps: &Steps, output: &mut Output) {
        output.run = 0;
        if !self.rate.is_hurried() {
            self.scroll.look(picture, &self.damaged, self.grid.columns);
        }
        let mut source = Samples::default();
        self.grid.begin();
        for row in 0..self.grid.rows {
            for column in 0..self.grid.columns {
                let index = row * self.grid.columns + column;
                if self.damaged[index] {
                    source.read(picture, column, row);
                    self.code_damaged(&source, (column, row), steps, output);
                    continue;
                }
                if std::mem::replace(&mut self.stale[index], false) {
                    self.next.copy_macroblock(&self.reference, column, row);
                }
                self.grid.known[index] = SKIPPED;
                if self.grid.skip_vector(column, row) == Vector::default() {
                    output.run += 1;
                } else {
                    // Its neighbours move and it does not: a skipped one would move along.
                    output.residual.clear();
                    self.write_inter((column, row), Vector::default(), output);
                }
            }
        }
        if output.run > 0 {
            output.bits.ue(output.run);
        }
    }

    fn code_damaged(
        &mut self,
        source: &Samples,
        (column, row): (usize, usize),
        steps: &Steps,
        output: &mut Output,
    ) {
        let index = row * self.grid.columns + column;
        let at = (column * 16, row * 16);
        self.stale[index] = true;
        let mut search = self.look_around(source, (column, row), steps);
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
            if search.best.0 > enough && !hopeless && !self.rate.is_hurried() {
                // Some look farther, and their neighbours profit.
                let scout = (column + 2 * row).is_multiple_of(4) && search.best.0 > 12 * 256;
                search.descend(if scout { 8 } else { 1 });
            }
            if cost < search.best.0 + search.best.0 / 4 {
                output.bits.ue(std::mem::take(&mut output.run));
                self.habits[index] = Vector::default();
                self.code_intra(source, (column, row), &intra, steps, 5, output);
                return;
            }
        }
        let (_, vector) = search.best;
        self.habits[index] = vector;
        let Output { prediction, residual, .. } = output;
        predict::inter(&self.reference, at, vector, prediction);
        residual.clear();
        let luma = (&source.y, &prediction.y);
        macroblock::inter_luma(luma, &steps.inter, &mut residual.luma, &mut self.next.y, at);
        let quantiser = &steps.inter_chroma;
        for (plane, out) in self.next.uv.iter_mut().enumerate() {
            match self.chroma {
                Chroma::Yuv420 => {
                    let chroma = (&source.uv[plane], &prediction.uv[plane]);
                    let half = (column * 8, row * 8);
                    macroblock::chroma(plane, chroma, quantiser, residual, out, half);
                }
                Chroma::Yuv444 => {
                    let full = (&source.full[plane], &prediction.full[plane]);
                    macroblock::inter_luma(full, quantiser, &mut residual.full[plane], out, at);
                }
            }
        }
        self.grid.known[index] = Known { vector: Some(vector), counts: [0; 24] };
        if residual.is_empty() && vector == self.grid.skip_vector(column, row) {
            output.run += 1;
        } else {
            let (mark, run) = (output.bits.mark(), output.run);
            let start = output.bits.len();
            self.write_inter((column, row), vector, output);
            if output.bits.len() - start > self.most_bits() {
                self.give_up(source, (column, row), (mark, run), output);
            }
        }
    }

    /// What a macroblock may take before its samples themselves are sent instead.
    fn most_bits(&self) -> usize {
        match self.chroma {
            Chroma::Yuv420 => MOST_BITS,
            Chroma::Yuv444 => FULL_MOST_BITS,
        }
    }

    /// The best prediction from the edges around a macroblock.
    #[inline]
    fn look_at_edges(&self, source: &Samples, (column, row): (usize, usize)) -> Intra {
        let at = (column * 16, row * 16);
        let edges = Edges::of(&self.next.y, at);
        match self.chroma {
            Chroma::Yuv420 => {
                let (mode, cost) = edges.best(&source.y);
                Intra { mode, cost, luma: edges, full: None }
            }
            Chroma::Yuv444 => {
                let full = self.next.uv.each_ref().map(|plane| Edges::of(plane, at));
                let (mode, cost) = edges.best_of_all(&full, source);
                Intra { mode, cost, luma: edges, full: Some(full) }
            }
        }
    }

    /// A search that has tried the vectors that are likely.
    fn look_around<'a>(
        &'a self,
        source: &'a Samples,
        (column, row): (usize, usize),
        steps: &Steps,
    ) -> Search<'a> {
        let index = row * self.grid.columns + column;
        let predicted = self.grid.predicted_vector(column, row);
        let at = (column * 16, row * 16);
        let mut search = Search::new(&self.reference.y, &source.y, at, predicted, steps.lambda);
        let (left, above, right) = self.grid.neighbours(column, row);
        search.try_vector(Vector::default());
        let around = [left, above, right].map(|known| known.and_then(|known| known.vector));
        let mut tried = [Vector::default(); 7];
        let guesses = [self.scroll.vector(column), predicted, self.habits[index]];
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
        steps: &Steps,
        first_type: u32,
        output: &mut Output,
    ) {
        let Output { bits, residual, .. } = output;
        residual.clear();
        let at = (column * 16, row * 16);
        let luma = (&source.y, &intra.luma.block(intra.mode));
        macroblock::intra_luma(luma, &steps.intra, &mut residual.luma, &mut self.next.y, at);
        let mut chroma_mode = None;
        if let Some(full) = &intra.full {
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
            + 12 * u32::from(residual.has_luma_ac());
        bits.ue(first_type + kind);
        if let Some(mode) = chroma_mode {
            bits.ue(mode); // intra_chroma_pred_mode
        }
        bits.se(0); // mb_qp_delta
        let start = output.bits.len();
        let mut counts = self.write_residual((column, row), output);
        if output.bits.len() - start > self.most_bits() {
            output.bits.rewind(begun);
            counts = self.code_samples(source, (column, row), first_type, &mut output.bits);
        }
        self.grid.known[row * self.grid.columns + column] = Known { vector: None, counts };
    }

    /// Writes the residual; yields how many levels luma has, and chroma in 4:2:0.
    #[inline]
    fn write_residual(&mut self, (column, row): (usize, usize), output: &mut Output) -> Counts {
        let Output { bits, residual, .. } = output;
        let mut counts = [0; 24];
        residual.write(bits, self.grid.counts_around(column, row), &mut counts);
        if self.chroma == Chroma::Yuv444 {
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
        bits: &mut Bits,
    ) -> Counts {
        bits.ue(first_type + 25);
        bits.aligned(source.y.as_flattened());
        self.next.y.put(column * 16, row * 16, &source.y);
        // What its neighbours have to assume (9.2.1) is 16 levels everywhere.
        match self.chroma {
            Chroma::Yuv420 => {
                for (plane, samples) in self.next.uv.iter_mut().zip(&source.uv) {
                    bits.aligned(samples.as_flattened());
                    plane.put(column * 8, row * 8, samples);
                }
            }
            Chroma::Yuv444 => {
                for (plane, samples) in self.next.uv.iter_mut().zip(&source.full) {
                    bits.aligned(samples.as_flattened());
                    plane.put(column * 16, row * 16, samples);
                }
                self.grid.set_full((column, row), [16; 32]);
            }
        }
        [16; 24]
    }

    /// Codes a damaged macroblock without a prediction: I_PCM.
    fn give_up(
        &mut self,
        source: &Samples,
        (column, row): (usize, usize),
        begun: (Mark, u32),
        output: &mut Output,
    ) {
        output.bits.rewind(begun.0);
        output.bits.ue(begun.1);
        let counts = self.code_samples(source, (column, row), 5, &mut output.bits);
        self.grid.known[row * self.grid.columns + column] = Known { vector: None, counts };
    }

    /// Writes a P_L0_16x16 macroblock.
    fn write_inter(&mut self, (column, row): (usize, usize), vector: Vector, output: &mut Output) {
        let Output { bits, run, residual, .. } = output;
        bits.ue(std::mem::take(run));
        bits.ue(0); // mb_type: P_L0_16x16
        let predicted = self.grid.predicted_vector(column, row);
        // In quarters of a sample.
        bits.se(4 * i32::from(vector.x - predicted.x));
        bits.se(4 * i32::from(vector.y - predicted.y));
        let pattern = residual.pattern();
        bits.ue(match self.chroma {
            Chroma::Yuv420 => INTER_PATTERN[pattern as usize].into(),
            Chroma::Yuv444 => FULL_INTER_PATTERN[pattern as usize & 15].into(),
        });
        let mut counts = [0; 24];
        if pattern != 0 {
            bits.se(0); // mb_qp_delta
            counts = self.write_residual((column, row), output);
        }
        self.grid.known[row * self.grid.columns + column] = Known { vector: Some(vector), counts };
    }
}
