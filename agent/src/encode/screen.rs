//! An H.264 encoder for screens: its cost follows the damage.
//!
//! ```text
//!   damage ─▶ which macroblocks ─▶ rate: how coarse ─▶ for each one, in raster order:
//!             not damaged ─────────▶ skipped, a few nanoseconds
//!             damaged ─▶ predict (motion or edges) ─▶ transform ─▶ levels ─▶ bits
//!                                                        └▶ reconstruction, the next reference
//! ```
//!
//! Constrained Baseline for pictures in 4:2:0 and High 4:4:4 Predictive for those in 4:4:4, which may
//! take turns: the first of the other kind becomes an IDR.
//! One slice, one reference, CAVLC, motion in whole samples, no deblocking
//! (it would change undamaged neighbours). What this refuses to do: periodic IDRs, reordering,
//! looking at macroblocks that are not damaged. Damage has to be true: what it leaves out stays
//! as it was on the viewer's screen until it is damaged again or an IDR comes.

pub(super) mod bits;
mod cavlc;
mod code;
mod grid;
mod headers;
mod macroblock;
mod planes;
mod predict;
mod rate;
mod scroll;
mod transform;

use std::time::{Duration, Instant};

use transom_protocol::message::Chroma;

use super::{AccessUnit, EncodeError, Request, Tuning};
use crate::damage::Damage;
use bits::Bits;
use grid::Grid;
use macroblock::Residual;
use planes::{Planes, Samples};
use predict::Vector;
use rate::{Purpose, REFINED, Rate};
use scroll::Scroll;
use transform::Quantiser;

/// Macroblocks as large as the highest level takes (table A-1).
const MAX_MACROBLOCKS: usize = 139_264;
/// Longest edge in samples.
const MAX_EDGE: u32 = 8192;

/// What the frame under way is written with.
#[derive(Debug, Default)]
struct Output {
    bits: Bits,
    /// Macroblocks skipped since the last one that was written.
    run: u32,
    residual: Residual,
    prediction: Samples,
}

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
    /// Of the pictures so far.
    chroma: Chroma,
    /// What decoders show now.
    reference: Planes,
    /// The frame before that, and then the frame under way.
    next: Planes,
    /// Macroblocks in which these two differ.
    stale: Vec<bool>,
    damaged: Vec<bool>,
    grid: Grid,
    /// Vectors of the last frame that moved a macroblock: motion goes on.
    habits: Vec<Vector>,
    scroll: Scroll,
    /// Quantiser that each macroblock was last coded with.
    quality: Vec<u8>,
    rate: Rate,
    output: Output,
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
    /// An encoder for pictures of this size, which is even, in 4:2:0 or 4:4:4.
    ///
    /// # Errors
    ///
    /// No level of the standard takes them.
    pub fn new(size: (u32, u32), tuning: Tuning) -> Result<Self, EncodeError> {
        let (columns, rows) = (size.0.div_ceil(16) as usize, size.1.div_ceil(16) as usize);
        let count = columns * rows;
        let fits =
            size.0.min(size.1) >= 2 && size.0.max(size.1) <= MAX_EDGE && count <= MAX_MACROBLOCKS;
        if !fits || !size.0.is_multiple_of(2) || !size.1.is_multiple_of(2) {
            return Err(EncodeError::Size(size.0, size.1));
        }
        let chroma = Chroma::Yuv420;
        Ok(Self {
            size,
            chroma,
            reference: Planes::new(columns, rows, chroma),
            next: Planes::new(columns, rows, chroma),
            stale: vec![false; count],
            damaged: vec![false; count],
            grid: Grid::new(columns, rows, chroma),
            habits: vec![Vector::default(); count],
            scroll: Scroll::new(columns),
            quality: vec![u8::MAX; count],
            rate: Rate::new(tuning.bitrate.0),
            output: Output::default(),
            frame_num: 0,
            idrs: 0,
            idr: None,
        })
    }

    pub(super) fn size(&self) -> (u32, u32) {
        self.size
    }

    /// New targets, from the next frame on.
    pub fn tune(&mut self, tuning: Tuning) {
        self.rate.set(tuning.bitrate.0);
    }

    /// Forgets everything that a change of `chroma` makes void: an IDR has to follow.
    fn start_over(&mut self, chroma: Chroma) {
        let Grid { columns, rows, .. } = self.grid;
        self.chroma = chroma;
        self.reference = Planes::new(columns, rows, chroma);
        self.next = Planes::new(columns, rows, chroma);
        self.grid = Grid::new(columns, rows, chroma);
        self.output = Output::default();
        self.idr = None;
    }

    /// What decoders show after the last frame: Y, U and V, each with the bytes in its rows. Whole
    /// macroblocks, larger than the picture where its size is no multiple of 16.
    pub fn reconstruction(&self) -> [(&[u8], usize); 3] {
        let Planes { y, uv: [u, v], .. } = &self.reference;
        [y, u, v].map(|plane| (plane.data.as_slice(), plane.width))
    }

    /// Codes everything with one quantiser from now on, whatever it costs: for comparing encoders
    /// and for tests. Clamped to what there is.
    pub fn fix_quantiser(&mut self, qp: u8) {
        self.rate.fix(qp.clamp(transform::FINEST_QP, 51));
    }

    /// Encodes one frame.
    ///
    /// # Errors
    ///
    /// The picture is of another size.
    pub fn encode(&mut self, request: Request<'_>) -> Result<AccessUnit, EncodeError> {
        let Request { frame, idr, time } = request;
        let begun = Instant::now();
        if frame.picture.size() != self.size {
            let (width, height) = frame.picture.size();
            return Err(EncodeError::Size(width, height));
        }
        let chroma = frame.picture.chroma();
        let idr = idr || self.idrs == 0 || chroma != self.chroma;
        if chroma != self.chroma {
            self.start_over(chroma);
        }
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
        let mut output = std::mem::take(&mut self.output);
        let bits = &mut output.bits;
        if idr {
            headers::parameter_sets(self.size, chroma, bits, &mut bytes);
            (self.frame_num, self.idrs) = (0, self.idrs.wrapping_add(1).max(1));
        }
        headers::slice(bits, idr.then_some(self.idrs), self.frame_num, qp);
        if idr {
            self.code_idr(frame.picture, &steps, &mut output);
        } else {
            self.code_inter(frame.picture, &steps, &mut output);
        }
        for (quality, _) in
            self.quality.iter_mut().zip(&self.damaged).filter(|(_, damaged)| **damaged)
        {
            *quality = qp;
        }
        self.rate.spent(purpose, count, qp, output.bits.len());
        if purpose == Purpose::Change {
            self.rate.took(begun.elapsed());
        }
        output.bits.finish(if idr { headers::NAL_IDR } else { headers::NAL_SLICE }, &mut bytes);
        self.output = output;
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
                    let right = (rect.x.saturating_add(rect.width).div_ceil(16) as usize)
                        .min(self.grid.columns);
                    let bottom = (rect.y.saturating_add(rect.height).div_ceil(16) as usize)
                        .min(self.grid.rows);
                    for row in top..bottom {
                        let line = row * self.grid.columns;
                        self.damaged[line + left.min(right)..line + right].fill(true);
                    }
                }
            }
        }
        self.damaged.iter().filter(|damaged| **damaged).count()
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
