//! The hardware cursor, which is not in the primary framebuffer and has to be drawn in.

use crate::damage::Rect;

/// An ARGB8888 image with premultiplied alpha, as cursor planes carry by default, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Left column in the picture; may lie outside.
    pub x: i64,
    /// Top row in the picture; may lie outside.
    pub y: i64,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// BGRA bytes, rows without gaps.
    pub pixels: Vec<u8>,
}

impl Cursor {
    /// The part of the picture that the cursor covers.
    pub fn area(&self, picture: (u32, u32)) -> Option<Rect> {
        Rect::clipped(self.x, self.y, self.width, self.height, picture)
    }

    /// Draws the cursor into `patch`, the BGRX pixels of `area`.
    pub fn blend(&self, patch: &mut [u8], area: Rect) {
        for (row, line) in patch.chunks_exact_mut(area.width as usize * 4).enumerate() {
            let y = i64::from(area.y) + row as i64 - self.y;
            for (column, under) in line.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let x = i64::from(area.x) + column as i64 - self.x;
                let Some(&[b, g, r, alpha]) = self.pixel(x, y) else { continue };
                let rest = 255 - u32::from(alpha);
                for (under, over) in under.iter_mut().zip([b, g, r]) {
                    let below = (u32::from(*under) * rest + 127) / 255;
                    *under = (below + u32::from(over)).min(255) as u8;
                }
            }
        }
    }

    /// Its pixels in `area` of the picture, transparent where it is not: BGRA, without gaps.
    pub fn patch(&self, area: Rect) -> Vec<u8> {
        let place = |y: u32, x: u32| (i64::from(area.x + x), i64::from(area.y + y));
        let places = (0..area.height).flat_map(|y| (0..area.width).map(move |x| place(y, x)));
        places.flat_map(|(x, y)| *self.pixel(x - self.x, y - self.y).unwrap_or(&[0; 4])).collect()
    }

    fn pixel(&self, x: i64, y: i64) -> Option<&[u8; 4]> {
        let (x, y) = (u32::try_from(x).ok()?, u32::try_from(y).ok()?);
        if x >= self.width || y >= self.height {
            return None;
        }
        self.pixels[(y as usize * self.width as usize + x as usize) * 4..].first_chunk()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blends_premultiplied_and_clips_at_every_edge() {
        let cursor = Cursor {
            x: -1,
            y: 1,
            width: 2,
            height: 2,
            // Row 0: hidden, opaque blue; row 1: hidden, half-transparent white.
            pixels: [[9, 9, 9, 255], [255, 0, 0, 255], [9, 9, 9, 255], [128, 128, 128, 128]]
                .concat(),
        };
        let area = cursor.area((4, 4)).expect("partly inside");
        assert_eq!(area, Rect { x: 0, y: 1, width: 1, height: 2 });
        let area = area.even((4, 4)).expect("inside");
        let mut patch = vec![100; area.width as usize * area.height as usize * 4];
        cursor.blend(&mut patch, area);
        let at = |x: usize, y: usize| &patch[(y * area.width as usize + x) * 4..][..3];
        assert_eq!(at(0, 0), [100; 3], "above the cursor");
        assert_eq!(at(0, 1), [255, 0, 0]);
        assert_eq!(at(0, 2), [178; 3]);
        assert_eq!(at(1, 1), [100; 3], "right of the cursor");
        let patch = cursor.patch(area);
        let at = |x: usize, y: usize| &patch[(y * area.width as usize + x) * 4..][..4];
        assert_eq!([at(0, 0), at(1, 1)], [[0; 4]; 2], "nothing of it is there");
        assert_eq!([at(0, 1), at(0, 2)], [[255, 0, 0, 255], [128; 4]]);
    }
}
