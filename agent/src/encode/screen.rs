//! An H.264 encoder for screens: its cost follows the damage.
//!
//! ```text
//!   damage ─▶ which macroblocks ─▶ rate: how coarse ─▶ for each one, in raster order:
//!             not damaged ─────────▶ skipped, a few nanoseconds
//!             damaged ─▶ predict (motion or edges) ─▶ transform ─▶ levels ─▶ bits
//!                                                        └▶ reconstruction, the next reference
//! ```
//!
//! Constrained Baseline, one slice, one reference, CAVLC, motion in whole samples, no deblocking
//! (it would change undamaged neighbours). What this refuses to do: periodic IDRs, reordering,
//! looking at macroblocks that are not damaged. Damage has to be true: what it leaves out stays
//! as it was on the viewer's screen until it is damaged again or an IDR comes.

pub(super) mod bits;
mod cavlc;
mod headers;
mod macroblock;
mod planes;
mod predict;
mod rate;
mod transform;

use std::time::{Duration, Instant};

use super::{AccessUnit, EncodeError, Request, Tuning};
use crate::damage::Damage;
use crate::picture::Picture;
use bits::Bits;
use macroblock::{Counts, Neighbours, Residual};
use planes::{Planes, Source};
use predict::{IntraMode, Search, Vector};
use rate::{Purpose, REFINED, Rate};
use transform::Quantiser;

/// Macroblocks as large as the highest level takes (table A-1).
const MAX_MACROBLOCKS: usize = 36_864;
/// Longest edge in samples.
const MAX_EDGE: u32 = 8192;

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

/// What the macroblocks of the frame under way tell the ones after them.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// `None`: intra.
    vector: Option<Vector>,
    counts: Counts,
}

const SKIPPED: Known = Known { vector: Some(Vector { x: 0, y: 0 }), counts: [0; 24] };

/// Constants of a frame.
struct Steps {
    inter: Quantiser,
    inter_chroma: Quantiser,
    intra: Quantiser,
    intra_chroma: Quantiser,
    /// What a bit of motion is worth in absolute differences.
    lambda: u32,
}

/// The encoder for one picture size.
pub struct Screen {
    size: (u32, u32),
    columns: usize,
    rows: usize,
    /// What decoders show now.
    reference: Planes,
    /// The frame before that, and then the frame under way.
    next: Planes,
    /// Macroblocks in which these two differ.
    stale: Vec<bool>,
    damaged: Vec<bool>,
    known: Vec<Known>,
    /// Vectors of the last frame that moved a macroblock: motion goes on.
    habits: Vec<Vector>,
    /// Quantiser that each macroblock was last coded with.
    quality: Vec<u8>,
    rate: Rate,
    bits: Bits,
    frame_num: u32,
    idrs: u32,
    /// The last access unit, as long as it is an IDR: while the picture rests, viewers that join
    /// get it again, and it costs nothing.
    idr: Option<Vec<u8>>,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("size", &self.size).field("rate", &self.rate).finish()
    }
}

impl Screen {
    pub(super) fn new(size: (u32, u32), tuning: Tuning) -> Result<Self, EncodeError> {
        let (columns, rows) = (size.0.div_ceil(16) as usize, size.1.div_ceil(16) as usize);
        let count = columns * rows;
        let fits =
            size.0.min(size.1) >= 2 && size.0.max(size.1) <= MAX_EDGE && count <= MAX_MACROBLOCKS;
        if !fits || !size.0.is_multiple_of(2) || !size.1.is_multiple_of(2) {
            return Err(EncodeError::Size(size.0, size.1));
        }
        Ok(Self {
            size,
            columns,
            rows,
            reference: Planes::new(columns, rows),
            next: Planes::new(columns, rows),
            stale: vec![false; count],
            damaged: vec![false; count],
            known: vec![SKIPPED; count],
            habits: vec![Vector::default(); count],
            quality: vec![u8::MAX; count],
            rate: Rate::new(tuning.bitrate.0),
            bits: Bits::default(),
            frame_num: 0,
            idrs: 0,
            idr: None,
        })
    }

    pub(super) fn size(&self) -> (u32, u32) {
        self.size
    }

    pub(super) fn tune(&mut self, tuning: Tuning) {
        self.rate.set(tuning.bitrate.0);
    }

    pub(super) fn encode(&mut self, request: Request<'_>) -> Result<AccessUnit, EncodeError> {
        let Request { frame, idr, time } = request;
        let begun = Instant::now();
        if frame.picture.size() != self.size {
            let (width, height) = frame.picture.size();
            return Err(EncodeError::Size(width, height));
        }
        let idr = idr || self.idrs == 0;
        let rests = frame.damage.is_empty();
        let coarse = |quality: &[u8]| quality.iter().any(|&quality| quality > REFINED);
        if let (true, true, Some(last)) = (idr, rests, &mut self.idr) {
            headers::renew_idr(last);
            self.idrs = self.idrs.wrapping_add(1);
            return Ok(AccessUnit { bytes: last.clone(), idr, coarse: coarse(&self.quality) });
        }
        let purpose = match (idr, rests) {
            (true, _) => Purpose::Idr { rests },
            (false, true) => Purpose::Refinement,
            (false, false) => Purpose::Change,
        };
        let wanted = self.mark(frame.damage, purpose);
        let (qp, count) = self.rate.plan(Duration::from_nanos(time.0), purpose, wanted);
        if count < wanted {
            self.damaged
                .iter_mut()
                .filter(|damaged| **damaged)
                .skip(count)
                .for_each(|d| *d = false);
        }
        let steps = Steps::new(qp);
        let mut bytes = Vec::new();
        let mut bits = std::mem::take(&mut self.bits);
        if idr {
            headers::parameter_sets(self.size, &mut bits, &mut bytes);
            (self.frame_num, self.idrs) = (0, self.idrs.wrapping_add(1).max(1));
        }
        headers::slice(&mut bits, idr.then_some(self.idrs), self.frame_num, qp);
        if idr {
            self.code_idr(frame.picture, &steps, &mut bits);
        } else {
            self.code_inter(frame.picture, &steps, &mut bits);
        }
        for (quality, _) in
            self.quality.iter_mut().zip(&self.damaged).filter(|(_, damaged)| **damaged)
        {
            *quality = qp;
        }
        self.rate.spent(purpose, count, qp, bits.len());
        if purpose == Purpose::Change {
            self.rate.took(begun.elapsed());
        }
        bits.finish(if idr { headers::NAL_IDR } else { headers::NAL_SLICE }, &mut bytes);
        self.bits = bits;
        self.frame_num = self.frame_num.wrapping_add(1);
        std::mem::swap(&mut self.reference, &mut self.next);
        self.idr = idr.then(|| bytes.clone());
        Ok(AccessUnit { bytes, idr, coarse: coarse(&self.quality) })
    }

    /// Marks what has to be coded; how much that is.
    fn mark(&mut self, damage: &Damage, purpose: Purpose) -> usize {
        let idr = matches!(purpose, Purpose::Idr { .. });
        self.damaged.fill(idr);
        match purpose {
            Purpose::Idr { .. } => {}
            Purpose::Refinement => {
                for (damaged, &quality) in self.damaged.iter_mut().zip(&self.quality) {
                    *damaged = quality > REFINED;
                }
            }
            Purpose::Change => {
                for rect in damage.rects() {
                    let (left, top) = (rect.x as usize / 16, rect.y as usize / 16);
                    let right = ((rect.x + rect.width).div_ceil(16) as usize).min(self.columns);
                    let bottom = ((rect.y + rect.height).div_ceil(16) as usize).min(self.rows);
                    for row in top..bottom {
                        let line = row * self.columns;
                        self.damaged[line + left.min(right)..line + right].fill(true);
                    }
                }
            }
        }
        self.damaged.iter().filter(|damaged| **damaged).count()
    }

    fn code_idr(&mut self, picture: &Picture, steps: &Steps, bits: &mut Bits) {
        for row in 0..self.rows {
            for column in 0..self.columns {
                let source = Source::read(picture, column, row);
                let choice = predict::intra(&self.next, (column * 16, row * 16), &source);
                self.code_intra(&source, (column, row), choice, steps, 0, bits);
            }
        }
        self.stale.fill(true);
        self.habits.fill(Vector::default());
    }

    fn code_inter(&mut self, picture: &Picture, steps: &Steps, bits: &mut Bits) {
        let mut run = 0;
        for row in 0..self.rows {
            for column in 0..self.columns {
                let index = row * self.columns + column;
                if self.damaged[index] {
                    let source = Source::read(picture, column, row);
                    self.code_damaged(&source, (column, row), steps, &mut run, bits);
                    continue;
                }
                if std::mem::replace(&mut self.stale[index], false) {
                    self.next.copy_macroblock(&self.reference, column, row);
                }
                self.known[index] = SKIPPED;
                if self.skip_vector(column, row) == Vector::default() {
                    run += 1;
                } else {
                    // Its neighbours move and it does not: a skipped one would move along.
                    self.write_inter(
                        &Residual::default(),
                        (column, row),
                        Vector::default(),
                        &mut run,
                        bits,
                    );
                }
            }
        }
        if run > 0 {
            bits.ue(run);
        }
    }

    fn code_damaged(
        &mut self,
        source: &Source,
        (column, row): (usize, usize),
        steps: &Steps,
        run: &mut u32,
        bits: &mut Bits,
    ) {
        let index = row * self.columns + column;
        let at = (column * 16, row * 16);
        let (sad, vector) = self.search(source, (column, row), steps);
        self.stale[index] = true;
        // Intra costs more bits for the same sum of differences: it knows no details.
        if sad > 8 * 256 {
            let choice = predict::intra(&self.next, at, source);
            if choice.1 + 256 + choice.1 / 8 < sad {
                bits.ue(std::mem::take(run));
                self.habits[index] = Vector::default();
                self.code_intra(source, (column, row), choice, steps, 5, bits);
                return;
            }
        }
        self.habits[index] = vector;
        let prediction = predict::inter(&self.reference, at, vector);
        let mut residual = Residual::default();
        macroblock::inter_luma(
            &source.y,
            &prediction.y,
            &steps.inter,
            &mut residual,
            &mut self.next.y,
            at,
        );
        let half = (column * 8, row * 8);
        for plane in 0..2 {
            let (source, prediction) = (&source.uv[plane], &prediction.uv[plane]);
            let out = &mut self.next.uv[plane];
            macroblock::chroma(
                plane,
                source,
                prediction,
                &steps.inter_chroma,
                &mut residual,
                out,
                half,
            );
        }
        self.known[index] = Known { vector: Some(vector), counts: [0; 24] };
        if residual.is_empty() && vector == self.skip_vector(column, row) {
            *run += 1;
        } else {
            self.write_inter(&residual, (column, row), vector, run, bits);
        }
    }

    /// The best vector and what it costs.
    fn search(
        &self,
        source: &Source,
        (column, row): (usize, usize),
        steps: &Steps,
    ) -> (u32, Vector) {
        let enough = (8 * steps.inter.dead).max(2 * 256);
        let index = row * self.columns + column;
        let predicted = self.predicted_vector(column, row);
        let at = (column * 16, row * 16);
        let mut search = Search::new(&self.reference.y, &source.y, at, predicted, steps.lambda);
        let (left, above, right) = self.neighbours(column, row);
        search.try_vector(Vector::default());
        let around = [left, above, right].map(|known| known.and_then(|known| known.vector));
        let mut tried = [Vector::default(); 6];
        let candidates = around.into_iter().flatten().chain([predicted, self.habits[index]]);
        for (n, vector) in candidates.enumerate() {
            if !tried[..=n].contains(&vector) {
                search.try_vector(vector);
            }
            tried[n + 1] = vector;
        }
        // What matches this well leaves next to nothing to code: no need for a better match. A
        // machine that is short of time makes do with what moved in the frame before.
        if search.best.0 > enough && !self.rate.is_hurried() {
            search.descend(if search.best.0 > 12 * 256 { 8 } else { 2 });
        }
        search.best
    }

    fn code_intra(
        &mut self,
        source: &Source,
        (column, row): (usize, usize),
        (mode, _, prediction): (IntraMode, u32, [[u8; 16]; 16]),
        steps: &Steps,
        first_type: u32,
        bits: &mut Bits,
    ) {
        let mut residual = Residual::default();
        let at = (column * 16, row * 16);
        macroblock::intra_luma(
            &source.y,
            &prediction,
            &steps.intra,
            &mut residual,
            &mut self.next.y,
            at,
        );
        let half = (column * 8, row * 8);
        for plane in 0..2 {
            let out = &mut self.next.uv[plane];
            let prediction = predict::intra_chroma(out, half);
            let source = &source.uv[plane];
            macroblock::chroma(
                plane,
                source,
                &prediction,
                &steps.intra_chroma,
                &mut residual,
                out,
                half,
            );
        }
        // mb_type of Intra_16x16 (table 7-11).
        let kind = 1
            + mode as u32
            + 4 * residual.chroma_pattern()
            + 12 * u32::from(residual.has_luma_ac());
        bits.ue(first_type + kind);
        bits.ue(0); // intra_chroma_pred_mode: DC
        bits.se(0); // mb_qp_delta
        let mut counts = [0; 24];
        residual.write(bits, self.counts_around(column, row), &mut counts);
        self.known[row * self.columns + column] = Known { vector: None, counts };
    }

    /// Writes a P_L0_16x16 macroblock.
    fn write_inter(
        &mut self,
        residual: &Residual,
        (column, row): (usize, usize),
        vector: Vector,
        run: &mut u32,
        bits: &mut Bits,
    ) {
        bits.ue(std::mem::take(run));
        bits.ue(0); // mb_type: P_L0_16x16
        let predicted = self.predicted_vector(column, row);
        // In quarters of a sample.
        bits.se(4 * i32::from(vector.x - predicted.x));
        bits.se(4 * i32::from(vector.y - predicted.y));
        let pattern = residual.pattern();
        bits.ue(INTER_PATTERN[pattern as usize].into());
        let mut counts = [0; 24];
        if pattern != 0 {
            bits.se(0); // mb_qp_delta
            residual.write(bits, self.counts_around(column, row), &mut counts);
        }
        self.known[row * self.columns + column] = Known { vector: Some(vector), counts };
    }

    /// The macroblocks to the left, above, and above to the right (or else to the left).
    fn neighbours(
        &self,
        column: usize,
        row: usize,
    ) -> (Option<&Known>, Option<&Known>, Option<&Known>) {
        let index = row * self.columns + column;
        let left = (column > 0).then(|| &self.known[index - 1]);
        let above = (row > 0).then(|| &self.known[index - self.columns]);
        let corner = if row == 0 {
            None
        } else if column + 1 < self.columns {
            Some(&self.known[index - self.columns + 1])
        } else {
            (column > 0).then(|| &self.known[index - self.columns - 1])
        };
        (left, above, corner)
    }

    fn counts_around(&self, column: usize, row: usize) -> Neighbours<'_> {
        let (left, above, _) = self.neighbours(column, row);
        Neighbours {
            left: left.map(|known| &known.counts),
            above: above.map(|known| &known.counts),
        }
    }

    /// Prediction of a motion vector (8.4.1.3).
    fn predicted_vector(&self, column: usize, row: usize) -> Vector {
        let (left, above, corner) = self.neighbours(column, row);
        let vectors = [left, above, corner].map(|known| known.and_then(|known| known.vector));
        // Only the left one exists: it stands for all.
        if let (Some(left), None, None) = (left, above, corner) {
            return left.vector.unwrap_or_default();
        }
        let mut moving = vectors.into_iter().flatten();
        if let (Some(only), None) = (moving.next(), moving.next()) {
            return only;
        }
        let [a, b, c] = vectors.map(Option::unwrap_or_default);
        let median = |a: i16, b: i16, c: i16| a.max(b).min(a.min(b).max(c));
        Vector { x: median(a.x, b.x, c.x), y: median(a.y, b.y, c.y) }
    }

    /// The vector of a skipped macroblock (8.4.1.1).
    fn skip_vector(&self, column: usize, row: usize) -> Vector {
        if column == 0 || row == 0 {
            return Vector::default();
        }
        let index = row * self.columns + column;
        let rests = |index: usize| self.known[index].vector == Some(Vector::default());
        if rests(index - 1) || rests(index - self.columns) {
            return Vector::default();
        }
        self.predicted_vector(column, row)
    }
}

impl Steps {
    fn new(qp: u8) -> Self {
        Self {
            inter: Quantiser::luma(qp, false),
            inter_chroma: Quantiser::chroma(qp, false),
            intra: Quantiser::luma(qp, true),
            intra_chroma: Quantiser::chroma(qp, true),
            // The square root of the usual Lagrange factor, 0.85 · 2^((qp − 12) / 3).
            lambda: (0.92 * 2f64.powf((f64::from(qp) - 12.0) / 6.0)) as u32,
        }
    }
}

#[cfg(test)]
mod tests;
