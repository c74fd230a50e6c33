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
//! take turns: the first of the other kind becomes an IDR. One reference, CAVLC, motion in whole
//! samples, no deblocking (it would change undamaged neighbours). One slice for frames of which
//! little is coded, and one for each thread for others.
//!
//! What this refuses to do: periodic IDRs, reordering, coding macroblocks that are not damaged. Damage
//! has to be true: what it leaves out stays as it was on the viewer's screen until it is damaged again,
//! an IDR comes, or a slow sweep over all of the picture finds it.

pub(super) mod bits;
mod cavlc;
mod code;
mod grid;
mod headers;
mod jump;
mod macroblock;
mod planes;
mod predict;
mod rate;
mod scroll;
mod sweep;
mod transform;

use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

use transom_protocol::message::Chroma;

use super::{AccessUnit, EncodeError, Request, Tuning};
use crate::damage::Damage;
use crate::picture::Picture;
use bits::Bits;
use code::{Common, Slice};
use grid::Grid;
use jump::Jump;
use macroblock::Residual;
use planes::{Planes, Samples};
use predict::Vector;
use rate::{Purpose, REFINED, Rate};
use scroll::Scroll;
use sweep::Sweep;
use transform::Quantiser;

/// Macroblocks as large as the highest level takes (table A-1).
const MAX_MACROBLOCKS: usize = 139_264;
/// Longest edge in samples.
const MAX_EDGE: u32 = 8192;

/// A slice of fewer macroblocks costs more, in bits at its border and for its thread, than it spares.
const LEAST_OF_SLICE: usize = 600;
/// More threads than this are not asked for: the guest's processors are there for what it shows.
const MOST_THREADS: usize = 4;

/// What a slice under way is written with.
#[derive(Debug, Default)]
struct Output {
    bits: Bits,
    /// Macroblocks skipped since the last one that was written.
    run: u32,
    residual: Residual,
    prediction: Samples,
}

/// Constants of a frame, and of the next ones while the quantiser stays.
struct Steps {
    qp: u8,
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
    /// Macroblocks in which these two differ, and rows of macroblocks with such.
    stale: Vec<bool>,
    stale_rows: Vec<bool>,
    /// Macroblocks that are to be coded, and rows with such: all that is done for the others is done
    /// for whole rows.
    damaged: Vec<bool>,
    touched: Vec<bool>,
    grid: Grid,
    /// Vectors of the last frame that moved a macroblock: motion goes on.
    habits: Vec<Vector>,
    scroll: Scroll,
    jump: Jump,
    sweep: Sweep,
    /// Quantiser that each macroblock was last coded with.
    quality: Vec<u8>,
    steps: Steps,
    /// How many of these would be refined at rest.
    coarse: usize,
    rate: Rate,
    /// One for each slice.
    outputs: Vec<Output>,
    /// Slices of a frame in which everything is coded, or of each frame.
    slices: Slices,
    frame_num: u32,
    idrs: u32,
    /// The last access unit, as long as it is an IDR: while the picture rests, viewers that join
    /// get it again, and it costs nothing.
    idr: Option<Vec<u8>>,
}

/// Into how many slices frames are cut.
#[derive(Debug, Clone, Copy)]
enum Slices {
    /// As many as pay, and no more than so many.
    UpTo(usize),
    /// So many.
    Fixed(usize),
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
            stale_rows: vec![false; rows],
            damaged: vec![false; count],
            touched: vec![false; rows],
            grid: Grid::new(columns, rows, chroma),
            habits: vec![Vector::default(); count],
            scroll: Scroll::new(columns),
            jump: Jump::default(),
            sweep: Sweep::default(),
            quality: vec![u8::MAX; count],
            steps: Steps::new(REFINED),
            coarse: count,
            rate: Rate::new(tuning.bitrate.0),
            outputs: Vec::new(),
            slices: Slices::UpTo(thread::available_parallelism().map_or(1, NonZero::get)),
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
        self.outputs.clear();
        self.sweep = Sweep::default();
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

    /// Cuts frames into no more than so many slices, each of which is coded on a thread of its own.
    /// Without this, it is as many as there are processors, up to a few.
    pub fn limit_slices(&mut self, most: usize) {
        self.slices = Slices::UpTo(most.max(1));
    }

    /// Cuts every frame into so many slices, whether they pay or not, as far as it has rows of
    /// macroblocks: for tests.
    pub fn fix_slices(&mut self, slices: usize) {
        self.slices = Slices::Fixed(slices.max(1));
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
        let now = Duration::from_nanos(time.0);
        self.sweep.look(now, frame.picture, &self.reference, (self.grid.columns, &self.quality));
        let rests = frame.damage.is_empty() && self.sweep.found.is_empty();
        if let (true, true, Some(last)) = (idr, rests, &mut self.idr) {
            headers::renew_idr(last);
            self.idrs = self.idrs.wrapping_add(1);
            return Ok(AccessUnit { bytes: last.clone(), idr, coarse: self.coarse > 0 });
        }
        // What the sweep has found is news, too, but it may be coded as finely as what rests.
        let purpose = match (idr, frame.damage.is_empty()) {
            (true, _) => Purpose::Idr { rests },
            (false, true) => Purpose::Refinement,
            (false, false) => Purpose::Change,
        };
        let wanted = self.mark(frame.damage, purpose);
        let (qp, count) = self.rate.plan(now, purpose, wanted);
        if count < wanted {
            self.damaged
                .iter_mut()
                .filter(|damaged| **damaged)
                .skip(count)
                .for_each(|d| *d = false);
        }
        let mut bytes = Vec::new();
        if idr {
            headers::parameter_sets(self.size, chroma, &mut bytes);
            (self.frame_num, self.idrs) = (0, self.idrs.wrapping_add(1).max(1));
        }
        if let (false, 0, Slices::UpTo(_)) = (idr, count, self.slices) {
            self.rest(qp, &mut bytes);
            return Ok(AccessUnit { bytes, idr, coarse: self.coarse > 0 });
        }
        let slices = match self.slices {
            Slices::Fixed(slices) => slices,
            Slices::UpTo(most) => (count / LEAST_OF_SLICE).clamp(1, most.min(MOST_THREADS)),
        };
        let rows = cut(&self.damaged, self.grid.columns, slices);
        match chroma {
            Chroma::Yuv420 => self.code::<false>(frame.picture, (qp, count), idr, &rows),
            Chroma::Yuv444 => self.code::<true>(frame.picture, (qp, count), idr, &rows),
        }
        self.note_quality(qp);
        let outputs = &mut self.outputs[..rows.len()];
        let bits = outputs.iter().map(|output| output.bits.len()).sum();
        self.rate.spent(purpose, count, qp, bits);
        if purpose == Purpose::Change {
            self.rate.took(begun.elapsed());
        }
        for output in outputs {
            output.bits.finish(if idr { headers::NAL_IDR } else { headers::NAL_SLICE }, &mut bytes);
        }
        self.frame_num = self.frame_num.wrapping_add(1);
        std::mem::swap(&mut self.reference, &mut self.next);
        self.idr = idr.then(|| bytes.clone());
        Ok(AccessUnit { bytes, idr, coarse: self.coarse > 0 })
    }

    /// A frame in which everything is skipped. Decoders show what they have shown; planes, and all that is
    /// known of their macroblocks, stay what they are.
    fn rest(&mut self, qp: u8, bytes: &mut Vec<u8>) {
        self.outputs.resize_with(self.outputs.len().max(1), Output::default);
        let bits = &mut self.outputs[0].bits;
        headers::slice(bits, 0, None, self.frame_num, qp);
        bits.ue(self.damaged.len() as u32); // mb_skip_run
        self.rate.spent(Purpose::Refinement, 0, qp, bits.len());
        bits.finish(headers::NAL_SLICE, bytes);
        self.frame_num = self.frame_num.wrapping_add(1);
        self.idr = None;
    }

    /// Codes what is marked, so much, in slices of so many rows of macroblocks each.
    fn code<const FULL: bool>(
        &mut self,
        picture: &Picture,
        (qp, count): (u8, usize),
        idr: bool,
        rows: &[usize],
    ) {
        let hurried = self.rate.is_hurried();
        let columns = self.grid.columns;
        if idr {
            self.scroll.clear();
            self.jump = Jump::default();
        } else if !hurried {
            self.scroll.look(picture, &self.damaged, &self.touched, columns);
            let damaged = (self.damaged.as_slice(), count, columns);
            self.jump.look(picture, &self.reference.y, damaged, |index| {
                [self.habits[index], self.scroll.vector(index % columns)]
            });
        }
        if self.steps.qp != qp {
            self.steps = Steps::new(qp);
        }
        let (steps, reference, scroll) = (&self.steps, &self.reference, &self.scroll);
        let jump = self.jump.vector;
        let common = Common { picture, steps, reference, scroll, jump, hurried };
        let lengths = rows.iter().copied();
        let macroblocks = || lengths.clone().map(|rows| rows * columns);
        let parts = self.next.bands(lengths.clone()).zip(self.grid.begin(lengths.clone()));
        let stale = parts_of(&mut self.stale, macroblocks())
            .zip(parts_of(&mut self.stale_rows, lengths.clone()));
        let memory = stale.zip(parts_of(&mut self.habits, macroblocks()));
        self.outputs.resize_with(rows.len().max(self.outputs.len()), Output::default);
        let mut left = self.damaged.as_slice();
        let mut top = 0;
        let mut slices: Vec<Slice<'_, FULL>> = parts
            .zip(memory)
            .zip(&mut self.outputs)
            .map(|(((next, grid), ((stale, stale_rows), habits)), output)| {
                let touched = &self.touched[top..top + grid.rows];
                let (damaged, behind) = left.split_at(grid.rows * columns);
                let (macroblock, id) = ((top * columns) as u32, idr.then_some(self.idrs));
                headers::slice(&mut output.bits, macroblock, id, self.frame_num, qp);
                let first = top;
                (left, top) = (behind, top + grid.rows);
                Slice {
                    common,
                    top: first,
                    next,
                    grid,
                    damaged,
                    touched,
                    stale,
                    stale_rows,
                    habits,
                    output,
                    done: false,
                }
            })
            .collect();
        if let Some((last, others)) = slices.split_last_mut()
            && !others.is_empty()
        {
            thread::scope(|scope| {
                for slice in others {
                    // A guest that is out of threads has it done below.
                    let name = thread::Builder::new().name("slice".into());
                    let _ = name.spawn_scoped(scope, || slice.code(idr));
                }
                last.code(idr);
            });
        }
        slices.iter_mut().filter(|slice| !slice.done).for_each(|slice| slice.code(idr));
    }

    /// Marks what has to be coded; how much that is.
    fn mark(&mut self, damage: &Damage, purpose: Purpose) -> usize {
        let Grid { columns, rows, .. } = self.grid;
        if let Purpose::Idr { .. } = purpose {
            self.damaged.fill(true);
            self.touched.fill(true);
            return columns * rows;
        }
        for (line, touched) in self.damaged.chunks_mut(columns).zip(&mut self.touched) {
            if std::mem::take(touched) {
                line.fill(false);
            }
        }
        let mut wanted = 0;
        if purpose == Purpose::Refinement && self.coarse > 0 {
            for (damaged, &quality) in self.damaged.iter_mut().zip(&self.quality) {
                *damaged = quality > REFINED;
            }
            self.touched.fill(true);
            wanted = self.coarse;
        }
        for rect in damage.rects() {
            let (left, top) = (rect.x as usize / 16, rect.y as usize / 16);
            let right = (rect.x.saturating_add(rect.width).div_ceil(16) as usize).min(columns);
            let bottom = (rect.y.saturating_add(rect.height).div_ceil(16) as usize).min(rows);
            for row in top..bottom {
                let line = &mut self.damaged[row * columns..][left.min(right)..right];
                self.touched[row] = true;
                wanted += line.iter().filter(|damaged| !**damaged).count();
                line.fill(true);
            }
        }
        for index in self.sweep.found.drain(..) {
            self.touched[index / columns] = true;
            wanted += usize::from(!std::mem::replace(&mut self.damaged[index], true));
        }
        wanted
    }

    /// What was marked has now been coded with this quantiser.
    fn note_quality(&mut self, qp: u8) {
        let columns = self.grid.columns;
        for row in (0..self.grid.rows).filter(|&row| self.touched[row]) {
            let line = row * columns..(row + 1) * columns;
            let marked = self.quality[line.clone()].iter_mut().zip(&self.damaged[line]);
            for (quality, _) in marked.filter(|(_, damaged)| **damaged) {
                let before = std::mem::replace(quality, qp);
                self.coarse =
                    self.coarse + usize::from(qp > REFINED) - usize::from(before > REFINED);
            }
        }
    }
}

/// Parts of these lengths, from the start on.
fn parts_of<T>(
    mut all: &mut [T],
    mut lengths: impl Iterator<Item = usize>,
) -> impl Iterator<Item = &mut [T]> {
    std::iter::from_fn(move || all.split_off_mut(..lengths.next()?))
}

/// Cuts a frame into slices that have about as much to code: how many rows of macroblocks each has,
/// one at least.
fn cut(damaged: &[bool], columns: usize, slices: usize) -> Vec<usize> {
    let rows = damaged.len() / columns;
    let slices = slices.min(rows);
    if slices <= 1 {
        return vec![rows];
    }
    let count = |damaged: &[bool]| damaged.iter().filter(|damaged| **damaged).count();
    let all = count(damaged);
    let mut cuts = Vec::with_capacity(slices);
    let (mut seen, mut begun) = (0, 0);
    for (end, row) in (1..).zip(damaged.chunks(columns)) {
        seen += count(row);
        let to_come = slices - 1 - cuts.len();
        let enough = seen * slices >= all * (cuts.len() + 1);
        if to_come > 0 && (enough && rows - end >= to_come || rows - end == to_come) {
            cuts.push(end - begun);
            begun = end;
        }
    }
    cuts.push(rows - begun);
    cuts
}

impl Steps {
    fn new(qp: u8) -> Self {
        Self {
            qp,
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
