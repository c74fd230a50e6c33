//! What the macroblocks of the frame under way tell the ones after them, and what follows from it:
//! predicted vectors, and contexts of the entropy code.

use transom_protocol::message::Chroma;

use super::macroblock::{Counts, FullCounts, Neighbours};
use super::predict::Vector;

/// One macroblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// `None`: intra.
    pub vector: Option<Vector>,
    /// Levels in each of its blocks.
    pub counts: Counts,
}

/// A macroblock that stays as it was.
pub const SKIPPED: Known = Known { vector: Some(Vector { x: 0, y: 0 }), counts: [0; 24] };

/// All macroblocks of a frame, in rows.
#[derive(Debug)]
pub struct Grid {
    /// Macroblocks in a row.
    pub columns: usize,
    /// Rows of macroblocks.
    pub rows: usize,
    /// Those coded so far; the others are left over from the frame before.
    known: Vec<Known>,
    /// Rows in which `known` has nothing but macroblocks that stay as they were: most of most frames,
    /// passed over in one step.
    calm: Vec<bool>,
    /// In 4:4:4, levels in the blocks of U and V; zeros for macroblocks not coded in this frame.
    /// Apart from `known`, which is written for every macroblock that rests: it stays small.
    full: Vec<FullCounts>,
    /// Rows of macroblocks in which `full` holds more than zeros.
    filled: Vec<bool>,
}

impl Grid {
    /// A grid that knows nothing yet.
    pub fn new(columns: usize, rows: usize, chroma: Chroma) -> Self {
        let full = match chroma {
            Chroma::Yuv420 => Vec::new(),
            Chroma::Yuv444 => vec![FullCounts::default(); columns * rows],
        };
        Self {
            columns,
            rows,
            known: vec![SKIPPED; columns * rows],
            calm: vec![true; rows],
            full,
            filled: vec![false; rows],
        }
    }

    /// A frame begins, in slices of so many rows each.
    pub fn begin(&mut self, rows: impl Iterator<Item = usize>) -> impl Iterator<Item = Part<'_>> {
        let columns = self.columns;
        for (row, filled) in self.full.chunks_mut(columns).zip(&mut self.filled) {
            if std::mem::take(filled) {
                row.fill(FullCounts::default());
            }
        }
        let (mut known, mut calm) = (self.known.as_mut_slice(), self.calm.as_mut_slice());
        let (mut full, mut filled) = (self.full.as_mut_slice(), self.filled.as_mut_slice());
        rows.map_while(move |rows| {
            Some(Part {
                columns,
                rows,
                known: known.split_off_mut(..rows * columns)?,
                calm: calm.split_off_mut(..rows)?,
                // There is none in 4:2:0.
                full: full.split_off_mut(..rows * columns).unwrap_or_default(),
                filled: filled.split_off_mut(..rows)?,
            })
        })
    }
}

/// The macroblocks of one slice, which knows of no others; rows are counted from its first.
#[derive(Debug)]
pub struct Part<'a> {
    /// Macroblocks in a row.
    pub columns: usize,
    /// Rows of macroblocks.
    pub rows: usize,
    /// Those coded so far; the others are left over from the frame before.
    pub known: &'a mut [Known],
    calm: &'a mut [bool],
    full: &'a mut [FullCounts],
    filled: &'a mut [bool],
}

impl Part<'_> {
    /// Whether macroblocks in this row that stay as they were can be skipped whatever is next to them
    /// (8.4.1.1): nothing moves above.
    pub fn is_calm_above(&self, row: usize) -> bool {
        row == 0 || self.calm[row - 1]
    }

    /// All of a row stays as it was.
    pub fn rest(&mut self, row: usize) {
        if !std::mem::replace(&mut self.calm[row], true) {
            self.known[row * self.columns..][..self.columns].fill(SKIPPED);
        }
    }

    /// A row was coded, macroblock after macroblock.
    pub fn row_done(&mut self, row: usize) {
        let known = &self.known[row * self.columns..][..self.columns];
        self.calm[row] = known.iter().all(|known| *known == SKIPPED);
    }

    /// In 4:4:4, what a macroblock's U and V have taken.
    pub fn set_full(&mut self, (column, row): (usize, usize), counts: FullCounts) {
        self.full[row * self.columns + column] = counts;
        self.filled[row] = true;
    }

    /// In 4:4:4, the contexts of a macroblock's blocks of U and V.
    pub fn full_around(&self, (column, row): (usize, usize)) -> Neighbours<'_, FullCounts> {
        let index = row * self.columns + column;
        Neighbours {
            left: (column > 0).then(|| &self.full[index - 1]),
            above: (row > 0).then(|| &self.full[index - self.columns]),
        }
    }

    /// The macroblocks to the left, above, and above to the right (or else to the left).
    #[inline(always)]
    pub fn neighbours(
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

    /// For the contexts of its blocks.
    #[inline(always)]
    pub fn counts_around(&self, column: usize, row: usize) -> Neighbours<'_, Counts> {
        let (left, above, _) = self.neighbours(column, row);
        Neighbours {
            left: left.map(|known| &known.counts),
            above: above.map(|known| &known.counts),
        }
    }

    /// Prediction of a motion vector (8.4.1.3).
    #[inline(always)]
    pub fn predicted_vector(&self, column: usize, row: usize) -> Vector {
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
    #[inline(always)]
    pub fn skip_vector(&self, column: usize, row: usize) -> Vector {
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
