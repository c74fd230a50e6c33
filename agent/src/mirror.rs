//! The agent's own copy of the scanout: what the last frame was made of.
//!
//! Comparing with it is the truth about what changed, whatever hints the kernel gives. It is kept
//! in the scanout's own pixel format, so that comparing is nothing but comparing bytes. What
//! enters: mapped framebuffer bytes at any pitch. What leaves: damage, and pixels as BGRX.

use drm::buffer::DrmFourcc;

use crate::damage::{Damage, Rect, TILE};

/// Pixel formats that capture reads. Names give the order of bytes in memory, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelFormat {
    /// XRGB8888, ARGB8888.
    Bgrx,
    /// XBGR8888, ABGR8888.
    Rgbx,
    /// XRGB2101010, ARGB2101010: little-endian words, red in the upper bits.
    Xrgb30,
    /// XBGR2101010, ABGR2101010: little-endian words, blue in the upper bits.
    Xbgr30,
    /// RGB565: little-endian words, red in the upper bits.
    Rgb565,
}

impl PixelFormat {
    /// The format of a framebuffer, if it is one that capture reads.
    pub fn from_fourcc(fourcc: DrmFourcc) -> Option<Self> {
        Some(match fourcc {
            DrmFourcc::Xrgb8888 | DrmFourcc::Argb8888 => Self::Bgrx,
            DrmFourcc::Xbgr8888 | DrmFourcc::Abgr8888 => Self::Rgbx,
            DrmFourcc::Xrgb2101010 | DrmFourcc::Argb2101010 => Self::Xrgb30,
            DrmFourcc::Xbgr2101010 | DrmFourcc::Abgr2101010 => Self::Xbgr30,
            DrmFourcc::Rgb565 => Self::Rgb565,
            _ => return None,
        })
    }

    /// Bytes per pixel.
    pub fn bytes(self) -> usize {
        if self == Self::Rgb565 { 2 } else { 4 }
    }
}

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

    /// The copy itself, and the bytes in each of its rows.
    pub fn bytes(&self) -> (&[u8], usize) {
        (&self.bytes, self.pitch())
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

    /// Writes a part of the picture to `out` as rows of BGRX, without gaps.
    pub fn read_bgrx(&self, rect: Rect, out: &mut Vec<u8>) {
        out.clear();
        let bytes = self.format.bytes();
        for row in rect.y..rect.y + rect.height {
            let start = row as usize * self.pitch() + rect.x as usize * bytes;
            let row = &self.bytes[start..][..rect.width as usize * bytes];
            match self.format {
                PixelFormat::Bgrx => out.extend_from_slice(row),
                PixelFormat::Rgbx => {
                    out.extend(row.as_chunks().0.iter().flat_map(|&[r, g, b, x]| [b, g, r, x]));
                }
                PixelFormat::Xrgb30 => out.extend(row.as_chunks().0.iter().flat_map(|&p| {
                    let [high, middle, low] = channels30(p);
                    [low, middle, high, 255]
                })),
                PixelFormat::Xbgr30 => out.extend(row.as_chunks().0.iter().flat_map(|&p| {
                    let [high, middle, low] = channels30(p);
                    [high, middle, low, 255]
                })),
                PixelFormat::Rgb565 => out.extend(row.as_chunks().0.iter().flat_map(|&p| {
                    let word = u16::from_le_bytes(p);
                    let (r, g, b) = (word >> 11, word >> 5 & 63, word & 31);
                    // Repeating the upper bits below maps 0 to 0 and the largest value to 255.
                    [(b << 3 | b >> 2) as u8, (g << 2 | g >> 4) as u8, (r << 3 | r >> 2) as u8, 255]
                })),
            }
        }
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

/// The upper eight bits of the three ten-bit channels, from the highest to the lowest.
fn channels30(pixel: [u8; 4]) -> [u8; 3] {
    let word = u32::from_le_bytes(pixel);
    [(word >> 22) as u8, (word >> 12) as u8, (word >> 2) as u8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mirrored(format: PixelFormat, pixel: &[u8]) -> Vec<u8> {
        let mut mirror = Mirror::new(format, 1, 1);
        mirror.update(pixel, pixel.len(), &mut Damage::default());
        let mut out = Vec::new();
        mirror.read_bgrx(Rect { x: 0, y: 0, width: 1, height: 1 }, &mut out);
        out[..3].to_vec()
    }

    #[test]
    fn every_format_reads_the_same_colour() {
        let (r, g, b) = (0xffu32, 0x80, 0x10);
        assert_eq!(mirrored(PixelFormat::Bgrx, &[0x10, 0x80, 0xff, 0]), [0x10, 0x80, 0xff]);
        assert_eq!(mirrored(PixelFormat::Rgbx, &[0xff, 0x80, 0x10, 0]), [0x10, 0x80, 0xff]);
        let word = |a: u32, b: u32, c: u32| (a << 22 | b << 12 | c << 2).to_le_bytes();
        assert_eq!(mirrored(PixelFormat::Xrgb30, &word(r, g, b)), [0x10, 0x80, 0xff]);
        assert_eq!(mirrored(PixelFormat::Xbgr30, &word(b, g, r)), [0x10, 0x80, 0xff]);
        let word = (31u16 << 11 | 32 << 5 | 2).to_le_bytes();
        assert_eq!(mirrored(PixelFormat::Rgb565, &word), [0x10, 0x82, 0xff]);
    }

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
