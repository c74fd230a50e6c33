//! A lossless copy of a scanout, for who wants its very pixels: stills, and recordings.
//!
//! It is kept in the scanout's own pixel format, so that comparing is nothing but comparing bytes.
//! What enters: mapped framebuffer bytes at any pitch. What leaves: damage, and pixels as BGRX. The
//! stream has no use for it: its pictures compare what they convert ([`crate::picture`]).

use crate::damage::{Damage, Rect, TILE};
use crate::pixels::{PixelFormat, Pixels};

/// The copy.
#[derive(Debug)]
pub struct Mirror {
    format: PixelFormat,
    width: u32,
    height: u32,
    bytes: Vec<u8>,
    /// Nothing was ever copied: all of the next picture is damage.
    fresh: bool,
    changed: Vec<bool>,
}

impl Mirror {
    /// An empty copy of a picture of this shape.
    pub fn new(format: PixelFormat, width: u32, height: u32) -> Self {
        let bytes = vec![0; width as usize * height as usize * format.bytes()];
        let changed = vec![false; width.div_ceil(TILE) as usize];
        Self { format, width, height, bytes, fresh: true, changed }
    }

    /// Columns and rows.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// The pixel format.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    fn pitch(&self) -> usize {
        self.width as usize * self.format.bytes()
    }

    /// Compares `source`, whose first byte is the first pixel and whose rows are `pitch` bytes
    /// apart, with the copy; copies what differs and adds it to `damage`. `source` may change
    /// meanwhile: each byte is read at most twice, and the copy is what the next look compares
    /// with, so that no change is ever lost.
    ///
    /// # Panics
    ///
    /// If `source` is too short for the picture; the caller has mapped it.
    pub fn update(&mut self, source: &[u8], pitch: usize, damage: &mut Damage) {
        let row_bytes = self.pitch();
        assert!(
            pitch >= row_bytes && source.len() >= pitch * (self.height as usize - 1) + row_bytes
        );
        let tile_bytes = TILE as usize * self.format.bytes();
        for top in (0..self.height).step_by(TILE as usize) {
            let rows = TILE.min(self.height - top);
            self.changed.fill(self.fresh);
            let mut any = self.fresh;
            for row in top as usize..(top + rows) as usize {
                let new = &source[row * pitch..][..row_bytes];
                let old = &mut self.bytes[row * row_bytes..][..row_bytes];
                if !any && new == old {
                    continue;
                }
                let tiles = new.chunks(tile_bytes).zip(old.chunks_mut(tile_bytes));
                for ((new, old), changed) in tiles.zip(&mut self.changed) {
                    any |= update_tile(new, old, changed);
                }
            }
            if any {
                damage.add_band(top, rows, &self.changed, (self.width, self.height));
            }
        }
        self.fresh = false;
    }

    /// The copy as pixels.
    pub fn pixels(&self) -> Pixels<'_> {
        Pixels { format: self.format, bytes: &self.bytes, pitch: self.pitch() }
    }

    /// Writes a part of the picture to `out` as rows of BGRX, without gaps.
    pub fn read_bgrx(&self, rect: Rect, out: &mut Vec<u8>) {
        self.pixels().read_bgrx(rect, out);
    }
}

/// Brings a row of a tile up to date; whether the tile has changed so far. In one that has, there is
/// nothing left to compare.
#[inline]
fn update_tile(new: &[u8], old: &mut [u8], changed: &mut bool) -> bool {
    // Of known length, so that neither comparing nor copying calls a function for so little.
    if let (Some(new), Some(old)) = (new.first_chunk::<64>(), old.first_chunk_mut::<64>()) {
        if *changed || new != old {
            *old = *new;
            *changed = true;
        }
    } else if *changed || new != old {
        old.copy_from_slice(new);
        *changed = true;
    }
    *changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_picture_is_all_damage_and_an_equal_one_none() {
        let picture = vec![0; 40 * 20 * 4];
        let mut mirror = Mirror::new(PixelFormat::Bgrx, 40, 20);
        let mut damage = Damage::default();
        mirror.update(&picture, 160, &mut damage);
        assert_eq!(damage.rects(), [Rect { x: 0, y: 0, width: 40, height: 20 }]);
        damage.clear();
        mirror.update(&picture, 160, &mut damage);
        assert!(damage.is_empty());
    }

    proptest! {
        /// Whatever changes, at any pitch: the copy equals the source afterwards, and no changed
        /// pixel lies outside the damage.
        #[test]
        fn the_copy_follows_and_damage_covers(
            width in 1u32..90, height in 1u32..70, slack in 0usize..9,
            pokes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let pitch = width as usize * 4 + slack;
            let mut source: Vec<u8> = (0..pitch * height as usize).map(|i| (i * 7) as u8).collect();
            let mut mirror = Mirror::new(PixelFormat::Bgrx, width, height);
            mirror.update(&source, pitch, &mut Damage::default());
            let before = source.clone();
            for (index, value) in pokes {
                let at = index.index(source.len());
                source[at] = value;
            }
            let mut damage = Damage::default();
            mirror.update(&source, pitch, &mut damage);
            for y in 0..height {
                for x in 0..width {
                    let at = y as usize * pitch + x as usize * 4;
                    let copy = (y * width + x) as usize * 4;
                    prop_assert_eq!(&mirror.bytes[copy..copy + 4], &source[at..at + 4]);
                    let pixel = Rect { x, y, width: 1, height: 1 };
                    let covered = damage.rects().iter().any(|rect| rect.meets(pixel));
                    prop_assert!(covered || source[at..at + 4] == before[at..at + 4]);
                }
            }
        }
    }
}
