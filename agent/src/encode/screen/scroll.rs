//! Finds content that scrolls: rows of the picture that were somewhere else in the frame before.
//!
//! The picture is cut into stripes of columns, and each row of a stripe has a hash. Where much of a
//! stripe is damaged, its rows are looked up among those of the frame before, and the distance
//! that most of them have come is a candidate for the motion search. A text that scrolls by three
//! lines is found so, which no search that goes downhill would: between two lines of text there is
//! no hill. In: pictures and which macroblocks are damaged. Out: one vector for each stripe. It
//! looks up and down only, and backs off where nothing ever scrolls.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::predict::{REACH, Vector};
use crate::picture::Picture;

/// Macroblocks in the width of a stripe.
const STRIPE: usize = 8;
/// Fewer damaged rows of macroblocks than this are left to the ordinary search.
const LEAST: usize = 3;
/// One row in so many has to agree.
const QUORUM: usize = 4;
/// Longest time that is not looked for scrolls, in frames: twice as long after each failure.
const BACK_OFF: u32 = 32;

/// The rows of one stripe.
#[derive(Debug, Clone, Default)]
struct Stripe {
    /// Of the frame before; empty if unknown.
    hashes: Vec<u64>,
    vector: Vector,
    /// Frames still to leave out, and how many it will be after the next failure.
    rest: u32,
    penalty: u32,
}

/// All stripes of a picture.
#[derive(Debug)]
pub struct Scroll {
    stripes: Vec<Stripe>,
}

impl Scroll {
    /// For a picture of so many columns of macroblocks.
    pub fn new(columns: usize) -> Self {
        Self { stripes: vec![Stripe::default(); columns.div_ceil(STRIPE)] }
    }

    /// Where the macroblocks of a column have probably come from.
    pub fn vector(&self, column: usize) -> Vector {
        self.stripes[column / STRIPE].vector
    }

    /// Forgets the frame before.
    pub fn clear(&mut self) {
        self.stripes.iter_mut().for_each(|stripe| *stripe = Stripe::default());
    }

    /// Looks at a picture in which these macroblocks, in rows of `columns`, are damaged; only in
    /// `touched` rows are there any.
    pub fn look(&mut self, picture: &Picture, damaged: &[bool], touched: &[bool], columns: usize) {
        let touched: Vec<usize> = (0..touched.len()).filter(|&row| touched[row]).collect();
        for (index, stripe) in self.stripes.iter_mut().enumerate() {
            let left = index * STRIPE;
            let right = (left + STRIPE).min(columns);
            let rows: Vec<usize> = touched
                .iter()
                .copied()
                .filter(|row| damaged[row * columns..][left..right].contains(&true))
                .collect();
            stripe.vector = Vector::default();
            if rows.is_empty() {
                continue;
            }
            if rows.len() < LEAST || stripe.rest > 0 {
                stripe.rest = stripe.rest.saturating_sub(1);
                // A little damage is followed, so that a scroll can be found right after it.
                if rows.len() < LEAST && !stripe.hashes.is_empty() {
                    stripe.update(picture, left, &rows);
                } else {
                    stripe.hashes.clear();
                }
                continue;
            }
            if stripe.hashes.is_empty() {
                let all: Vec<usize> = (0..damaged.len() / columns).collect();
                stripe.update(picture, left, &all);
                continue;
            }
            let old = stripe.hashes.clone();
            stripe.update(picture, left, &rows);
            match distance(&old, &stripe.hashes, &rows) {
                Some(down) => {
                    stripe.vector = Vector { x: 0, y: -down };
                    (stripe.rest, stripe.penalty) = (0, 0);
                }
                None => {
                    stripe.penalty = (stripe.penalty * 2 + 1).min(BACK_OFF);
                    stripe.rest = stripe.penalty;
                    stripe.hashes.clear();
                }
            }
        }
    }
}

impl Stripe {
    /// Hashes the rows of these rows of macroblocks.
    fn update(&mut self, picture: &Picture, left: usize, rows: &[usize]) {
        let (width, height) = (picture.size().0 as usize, picture.size().1 as usize);
        self.hashes.resize(height, 0);
        let columns = left * 16..((left + STRIPE) * 16).min(width);
        for y in rows.iter().flat_map(|row| row * 16..(row * 16 + 16).min(height)) {
            self.hashes[y] = hash(&picture.planes()[0][y * width..][columns.clone()]);
        }
    }
}

/// Rows are hashed already: what looks them up needs no other hash of that.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(bytes);
    }

    fn write_u64(&mut self, hashed: u64) {
        self.0 = hashed;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// By how much most of the rows have moved down, if that is not nothing.
fn distance(old: &[u64], new: &[u64], rows: &[usize]) -> Option<i16> {
    // Rows that look like the one above tell nothing: paper, borders.
    let telling = |rows: &[u64], y: usize| y > 0 && rows[y] != rows[y - 1];
    let mut places: HashMap<u64, Option<usize>, BuildHasherDefault<AsIs>> =
        HashMap::with_capacity_and_hasher(old.len(), BuildHasherDefault::default());
    for y in (1..old.len()).filter(|&y| telling(old, y)) {
        // What is there twice could have come from either place.
        places.entry(old[y]).and_modify(|place| *place = None).or_insert(Some(y));
    }
    let reach = i32::from(REACH);
    let mut votes = vec![0usize; 2 * REACH as usize + 1];
    let mut asked = 0;
    for y in rows.iter().flat_map(|row| row * 16..(row * 16 + 16).min(new.len())) {
        if new[y] == old[y] || !telling(new, y) {
            continue;
        }
        asked += 1;
        if let Some(Some(from)) = places.get(&new[y]) {
            let down = y as i32 - *from as i32;
            if down.abs() <= reach {
                votes[(down + reach) as usize] += 1;
            }
        }
    }
    let (best, count) = votes.iter().enumerate().max_by_key(|(_, count)| **count)?;
    (*count >= 8 && count * QUORUM >= asked).then_some((best as i32 - reach) as i16)
}

/// Eight bytes at a time; what is left at the end of a narrow picture's rows does not count.
fn hash(row: &[u8]) -> u64 {
    row.as_chunks::<8>().0.iter().fold(0x9e37_79b9_7f4a_7c15, |hash, &bytes| {
        (hash ^ u64::from_le_bytes(bytes)).wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(29)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize, shift: usize) -> Vec<u64> {
        // Lines of text, each of its own, with paper between them.
        let row = |y: usize| if y % 16 < 4 { 7 } else { (y * 31) as u64 | 1 << 40 };
        (0..count).map(|y| row(y + shift)).collect()
    }

    #[test]
    fn text_that_scrolls_is_found_and_new_text_is_not() {
        let all: Vec<usize> = (0..20).collect();
        assert_eq!(distance(&rows(320, 0), &rows(320, 48), &all), Some(-48));
        assert_eq!(distance(&rows(320, 100), &rows(320, 0), &all), Some(100));
        assert_eq!(distance(&rows(320, 0), &rows(320, 5000), &all), None);
        assert_eq!(distance(&rows(320, 0), &rows(320, 0), &all), None);
    }
}
