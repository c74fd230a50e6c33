//! Finds motion that goes on from nothing: a window that is dragged, another way in each frame.
//!
//! A search that goes downhill finds text that has moved by a few samples, no farther; and what it does
//! not find is coded anew, a whole window at once. So a few macroblocks among the damaged ones, the
//! scouts, are looked up before the others. Where most of them are not where motion was in the frame
//! before, one after the other is compared with all places around. In: the picture, the frame before, and
//! which macroblocks are damaged. Out: one vector, another candidate for all macroblocks. It looks for no
//! more than one motion at a time, and backs off where none is found.

use super::planes::{Plane, Samples};
use super::predict::{Vector, sad16};
use crate::picture::Picture;
use crate::sys::simd;

/// Less damage than this is left to the ordinary search.
const LEAST: usize = 40;
const SCOUTS: usize = 6;
/// So many of them look around before the search is given up.
const SEARCHES: usize = 3;
/// How far, in samples to each side, and up and down: a flick of the wrist.
const AROUND: (usize, usize) = (96, 64);
/// Differences from its own mean that a macroblock has to have, or it would be found everywhere.
const TEXTURE: u32 = 6 * 256;
/// Macroblocks behind a place that are asked for as much.
const PATIENCE: usize = 12;
/// Longest time that is not looked for jumps, in frames: twice as long after each failure.
const BACK_OFF: u32 = 32;

/// Where much of the picture has gone.
#[derive(Debug, Default)]
pub struct Jump {
    /// In this frame; nowhere if that is not known, or if it goes on as before.
    pub vector: Vector,
    /// What was found last: motion goes on.
    last: Vector,
    /// Frames still to leave out, and how many it will be after the next failure.
    rest: u32,
    penalty: u32,
}

/// A macroblock that is looked up.
struct Scout {
    source: [[u8; 16]; 16],
    at: (usize, usize),
    /// What it may differ by, all told, and be found.
    limit: u32,
}

impl Jump {
    /// Looks at a picture in which these macroblocks, so many in rows of `columns`, are damaged; `expected` tells
    /// where one of them has probably come from.
    pub fn look(
        &mut self,
        picture: &Picture,
        reference: &Plane,
        (damaged, count, columns): (&[bool], usize, usize),
        expected: impl Fn(usize) -> [Vector; 2],
    ) {
        self.vector = Vector::default();
        if count < LEAST {
            return;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        let places: Vec<usize> =
            damaged.iter().enumerate().filter_map(|(n, damaged)| damaged.then_some(n)).collect();
        let mut lost = Vec::new();
        let mut all = 0;
        for n in 0..SCOUTS {
            let behind = &places[(2 * n + 1) * places.len() / (2 * SCOUTS)..];
            let mut around = behind.iter().take(PATIENCE);
            let scout =
                around.find_map(|&index| Some((index, Scout::of(picture, index, columns)?)));
            let Some((index, scout)) = scout else { continue };
            all += 1;
            let [habit, scroll] = expected(index);
            let known = [Vector::default(), habit, scroll, self.last];
            if !known.into_iter().any(|vector| scout.is_at(reference, vector)) {
                lost.push(scout);
            }
        }
        if lost.len() < 2 || lost.len() * 2 < all {
            return;
        }
        for (n, scout) in lost.iter().enumerate().take(SEARCHES) {
            let Some(vector) = scout.search(reference) else { continue };
            let others = lost.iter().enumerate().filter(|(other, _)| *other != n);
            if others.into_iter().any(|(_, other)| other.is_at(reference, vector)) {
                (self.vector, self.last) = (vector, vector);
                (self.rest, self.penalty) = (0, 0);
                return;
            }
        }
        self.penalty = (self.penalty * 2 + 1).min(BACK_OFF);
        self.rest = self.penalty;
    }
}

impl Scout {
    /// The macroblock of this index, if it can be told from others.
    fn of(picture: &Picture, index: usize, columns: usize) -> Option<Self> {
        let (column, row) = (index % columns, index / columns);
        let mut source = [[0; 16]; 16];
        Samples::read_luma(picture, column, row, &mut source);
        let sum: u32 = source.as_flattened().iter().map(|&sample| u32::from(sample)).sum();
        let texture = simd::sad(&source, &[(sum / 256) as u8; 16], 0, u32::MAX);
        let at = (column * 16, row * 16);
        (texture >= TEXTURE).then_some(Self { source, at, limit: texture / 4 })
    }

    fn is_at(&self, reference: &Plane, vector: Vector) -> bool {
        let place = |at: usize, by: i16, length: usize| {
            at.checked_add_signed(by.into()).filter(|at| at + 16 <= length)
        };
        let x = place(self.at.0, vector.x, reference.width);
        let y = place(self.at.1, vector.y, reference.height);
        let (Some(x), Some(y)) = (x, y) else { return false };
        self.difference(reference, (x, y), self.limit) < self.limit
    }

    fn difference(&self, reference: &Plane, (x, y): (usize, usize), limit: u32) -> u32 {
        let there = &reference.data[y * reference.width + x..];
        simd::sad(&self.source, there, reference.width, limit)
    }

    /// Where it has come from.
    fn search(&self, reference: &Plane) -> Option<Vector> {
        let range = |at: usize, around: usize, length: usize| {
            (at.saturating_sub(around), (at + around).min(length - 16))
        };
        let (left, right) = range(self.at.0, AROUND.0, reference.width);
        let (top, bottom) = range(self.at.1, AROUND.1, reference.height);
        // The row that tells most is compared before all the others.
        let lively = |row: &[u8; 16]| -> u32 {
            row.windows(2).map(|pair| u32::from(pair[0].abs_diff(pair[1]))).sum()
        };
        let row = (0..16).max_by_key(|&row| lively(&self.source[row]))?;
        let telling = &self.source[row];
        let (mut best, mut found) = (self.limit, None);
        for y in top..=bottom {
            let line = &reference.data[(y + row) * reference.width..][left..right + 16];
            let places = line.windows(16).filter_map(|samples| samples.first_chunk::<16>());
            for (x, samples) in (left..).zip(places) {
                // Four times its share of what all may differ by.
                if sad16(telling, samples) >= best / 4 {
                    continue;
                }
                let difference = self.difference(reference, (x, y), best);
                if difference < best {
                    best = difference;
                    let apart = |to: usize, from: usize| to as i16 - from as i16;
                    found = Some(Vector { x: apart(x, self.at.0), y: apart(y, self.at.1) });
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::Damage;
    use crate::pixels::Pixels;

    /// Noise on a grey ground, from this place on.
    fn screen((left, top): (usize, usize)) -> Picture {
        let mut pixels = vec![90; 320 * 240 * 4];
        let mut state = 1u32;
        for y in top..top + 120 {
            for x in left..left + 160 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                pixels[(y * 320 + x) * 4..][..3].fill((state >> 24) as u8);
            }
        }
        let mut picture = Picture::new((320, 240));
        picture.update(Pixels::bgrx(&pixels, 320), None, &mut Damage::default());
        picture
    }

    fn plane(picture: &Picture) -> Plane {
        Plane { data: picture.planes()[0].to_vec(), width: 320, height: 240 }
    }

    #[test]
    fn a_window_is_found_wherever_it_was_and_new_ones_are_not() {
        let damaged = vec![true; 20 * 15];
        let still = |_| [Vector::default(); 2];
        let mut jump = Jump::default();
        for (from, to, vector) in [
            ((40, 40), (91, 93), (-51, -53)),
            ((91, 93), (1, 30), (90, 63)),
            ((1, 30), (2, 30), (-1, 0)),
            ((2, 30), (2, 30), (0, 0)),
            // Expected, now.
            ((40, 30), (41, 30), (0, 0)),
            ((0, 0), (110, 0), (0, 0)),
        ] {
            jump.look(&screen(to), &plane(&screen(from)), (&damaged, 300, 20), still);
            assert_eq!((jump.vector.x, jump.vector.y), vector, "from {from:?} to {to:?}");
        }
        // What is not found is not looked for at once.
        jump.look(&screen((40, 40)), &plane(&screen((60, 60))), (&damaged, 300, 20), still);
        assert_eq!(jump.vector, Vector::default());
        jump.look(&screen((40, 40)), &plane(&screen((60, 60))), (&damaged, 300, 20), still);
        assert_eq!(jump.vector, Vector { x: 20, y: 20 });
        // A handful of macroblocks is left alone.
        let few: Vec<bool> = (0..300).map(|n| n < 39).collect();
        jump.look(&screen((40, 0)), &plane(&screen((60, 0))), (&few, 39, 20), still);
        assert_eq!(jump.vector, Vector::default());
    }
}
