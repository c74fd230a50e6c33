//! Where a picture differs from the one before: a short list of rectangles.

/// Edge of a comparison tile in pixels: an H.264 macroblock, so that an encoder can skip by it.
pub const TILE: u32 = 16;

/// More rectangles than this are joined row by row: each one costs a conversion call.
const MAX_RECTS: usize = 64;

/// A rectangle in pixels of the picture, never empty, never outside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Left column.
    pub x: u32,
    /// Top row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Rect {
    /// The part of a rectangle, given with signed corners, that lies in a picture.
    pub fn clipped(x: i64, y: i64, width: u32, height: u32, picture: (u32, u32)) -> Option<Self> {
        let clip = |from: i64, length: u32, limit: u32| {
            let start = from.clamp(0, i64::from(limit));
            let end = from.saturating_add(i64::from(length)).clamp(0, i64::from(limit));
            (start < end).then_some((start as u32, (end - start) as u32))
        };
        let (x, width) = clip(x, width, picture.0)?;
        let (y, height) = clip(y, height, picture.1)?;
        Some(Self { x, y, width, height })
    }

    /// The smallest rectangle with even corners around this one, as 4:2:0 wants it; `None` if
    /// nothing is left of it in a picture whose last odd row and column are cut off.
    pub fn even(self, picture: (u32, u32)) -> Option<Self> {
        let (x, y) = (self.x & !1, self.y & !1);
        let right = (self.x + self.width).next_multiple_of(2).min(picture.0 & !1);
        let bottom = (self.y + self.height).next_multiple_of(2).min(picture.1 & !1);
        (x < right && y < bottom).then(|| Self { x, y, width: right - x, height: bottom - y })
    }

    /// Whether two rectangles share a pixel.
    pub fn meets(self, other: Self) -> bool {
        self.x < other.x + other.width
            && other.x < self.x + self.width
            && self.y < other.y + other.height
            && other.y < self.y + self.height
    }

    /// Pixels.
    pub fn area(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// The damage of one frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    rects: Vec<Rect>,
}

impl Damage {
    /// Nothing changed.
    pub fn clear(&mut self) {
        self.rects.clear();
    }

    /// Adds a rectangle; it may overlap others.
    pub fn add(&mut self, rect: Rect) {
        self.rects.push(rect);
    }

    /// The rectangles.
    pub fn rects(&self) -> &[Rect] {
        &self.rects
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.rects.is_empty()
    }

    /// Changed pixels; overlaps count twice, yet never more than the picture has.
    pub fn area(&self, picture: (u32, u32)) -> u32 {
        let sum: u64 = self.rects.iter().map(|rect| rect.area()).sum();
        sum.min(u64::from(picture.0) * u64::from(picture.1)).min(u64::from(u32::MAX)) as u32
    }

    /// Adds the changed tiles of one band of [`TILE`] rows; joins runs with those of the band
    /// above where they match.
    pub fn add_band(&mut self, y: u32, height: u32, changed: &[bool], picture: (u32, u32)) {
        let mut tile = 0;
        while let Some(start) = changed[tile..].iter().position(|&c| c).map(|n| n + tile) {
            let end =
                changed[start..].iter().position(|&c| !c).map_or(changed.len(), |n| n + start);
            let x = start as u32 * TILE;
            let width = (end as u32 * TILE).min(picture.0) - x;
            let above =
                self.rects.iter_mut().find(|r| r.x == x && r.width == width && r.y + r.height == y);
            match above {
                Some(above) => above.height += height,
                None => self.rects.push(Rect { x, y, width, height }),
            }
            tile = end;
        }
        if self.rects.len() > MAX_RECTS {
            self.join();
        }
    }

    /// Unites all that shares rows, so that at most one rectangle per row remains.
    fn join(&mut self) {
        self.rects.sort_by_key(|rect| rect.y);
        let mut joined: Vec<Rect> = Vec::new();
        for rect in self.rects.drain(..) {
            match joined.last_mut() {
                Some(last) if rect.y < last.y + last.height => {
                    let right = (last.x + last.width).max(rect.x + rect.width);
                    let bottom = (last.y + last.height).max(rect.y + rect.height);
                    last.x = last.x.min(rect.x);
                    (last.width, last.height) = (right - last.x, bottom - last.y);
                }
                _ => joined.push(rect),
            }
        }
        self.rects = joined;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn matching_runs_grow_downwards() {
        let mut damage = Damage::default();
        damage.add_band(0, 16, &[false, true, true, false], (60, 32));
        damage.add_band(16, 16, &[false, true, true, true], (60, 32));
        assert_eq!(
            damage.rects(),
            [
                Rect { x: 16, y: 0, width: 32, height: 16 },
                Rect { x: 16, y: 16, width: 44, height: 16 }
            ]
        );
        damage.clear();
        damage.add_band(0, 16, &[true, false], (32, 32));
        damage.add_band(16, 16, &[true, false], (32, 32));
        assert_eq!(damage.rects(), [Rect { x: 0, y: 0, width: 16, height: 32 }]);
    }

    #[test]
    fn even_rectangles_stay_inside() {
        let odd = Rect { x: 3, y: 5, width: 4, height: 1 };
        assert_eq!(odd.even((9, 6)), Some(Rect { x: 2, y: 4, width: 6, height: 2 }));
        assert_eq!(Rect { x: 8, y: 0, width: 1, height: 1 }.even((9, 9)), None);
    }

    proptest! {
        #[test]
        fn every_changed_tile_is_covered(bands in prop::collection::vec(prop::collection::vec(any::<bool>(), 40), 1..40)) {
            let picture = (40 * TILE - 5, bands.len() as u32 * TILE);
            let mut damage = Damage::default();
            for (i, band) in bands.iter().enumerate() {
                damage.add_band(i as u32 * TILE, TILE, band, picture);
            }
            prop_assert!(damage.rects().len() <= MAX_RECTS + 20);
            for (i, band) in bands.iter().enumerate() {
                for (j, &changed) in band.iter().enumerate() {
                    let tile = Rect::clipped(j as i64 * 16, i as i64 * 16, 16, 16, picture).expect("inside");
                    let covered = damage.rects().iter().any(|r| r.x <= tile.x && r.y <= tile.y
                        && r.x + r.width >= tile.x + tile.width && r.y + r.height >= tile.y + tile.height);
                    prop_assert!(covered || !changed);
                }
            }
            for rect in damage.rects() {
                prop_assert!(rect.x + rect.width <= picture.0 && rect.y + rect.height <= picture.1);
            }
        }

        #[test]
        fn clipping_never_leaves_the_picture(x in any::<i64>(), y in -200i64..200, w in any::<u32>(), h in 0u32..400) {
            if let Some(rect) = Rect::clipped(x, y, w, h, (100, 90)) {
                prop_assert!(rect.width > 0 && rect.height > 0);
                prop_assert!(rect.x + rect.width <= 100 && rect.y + rect.height <= 90);
            }
        }
    }
}
