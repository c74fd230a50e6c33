//! The picture that encoders take: 4:2:0 or 4:4:4, BT.709 limited range, cursor drawn in.
//!
//! One pass over the scanout does it all: two rows are converted at a time, compared with what the
//! picture has, and kept where they differ; while they are in the innermost cache. What was compared
//! is what is encoded, so that a change which 4:2:0 cannot show costs nothing, and there is no copy
//! of the scanout to keep up: one would be compared and written in passes of its own, eight bytes a
//! pixel where this reads one and a half. A scanout that changes meanwhile is read once, and
//! whatever was missed differs at the next look.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use transom_protocol::message::Chroma;

use crate::capture::cursor::Cursor;
use crate::convert::{FullPlanes, Kernel, Order, Planes};
use crate::damage::{Damage, Rect, TILE};
use crate::pixels::{PixelFormat, Pixels};
use crate::sys::lent::Lent;

/// Of the next picture.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Planes Y, U and V of one picture; even width and height.
#[derive(Debug)]
pub struct Picture {
    width: u32,
    height: u32,
    chroma: Chroma,
    planes: [Lent; 3],
    /// No other picture has it.
    number: u64,
    /// Of each band of [`TILE`] rows.
    stamps: Vec<u64>,
    /// Nothing was ever shown: all of the next scanout is damage.
    fresh: bool,
    cursor: Option<Drawn>,
    kernel: Kernel,
    rows: Rows,
}

/// The stamp that was given last, to a band of any picture.
static STAMP: AtomicU64 = AtomicU64::new(0);

/// A stamp that no band has had.
fn new_stamp() -> u64 {
    STAMP.fetch_add(1, Ordering::Relaxed) + 1
}

/// What one step over the rows works with.
#[derive(Debug, Default)]
struct Rows {
    /// Pixels widened to BGRX.
    wide: Vec<u8>,
    /// Rows of samples before they are compared.
    samples: Vec<u8>,
    /// Tiles of a band that have changed.
    changed: Vec<bool>,
}

/// The cursor, and samples of the even rectangle around it.
#[derive(Debug)]
struct Drawn {
    cursor: Cursor,
    area: Rect,
    /// Without it, as they came from the scanout.
    under: [Vec<u8>; 3],
    /// With it.
    over: [Vec<u8>; 3],
}

impl Picture {
    /// A black picture in 4:2:0 for a scanout of this size, whose last odd row and column are cut
    /// off.
    pub fn new(scanout: (u32, u32)) -> Self {
        Self::with_chroma(scanout, Chroma::Yuv420)
    }

    /// The same with so much colour. Of 4:4:4, too, odd rows and columns are cut off: a stream that
    /// changes between the two keeps its size.
    pub fn with_chroma(scanout: (u32, u32), chroma: Chroma) -> Self {
        let (width, height) = (scanout.0 & !1, scanout.1 & !1);
        let samples = width as usize * height as usize;
        let halved = match chroma {
            Chroma::Yuv420 => samples / 4,
            Chroma::Yuv444 => samples,
        };
        let planes = [(16, samples), (128, halved), (128, halved)]
            .map(|(value, length)| Lent::filled(value, length));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let kernel = Kernel::fastest();
        let rows = Rows::default();
        let stamps = vec![new_stamp(); height.div_ceil(TILE) as usize];
        let (fresh, cursor) = (true, None);
        Self { width, height, chroma, planes, number, stamps, fresh, cursor, kernel, rows }
    }

    /// How much colour it has.
    pub fn chroma(&self) -> Chroma {
        self.chroma
    }

    /// Columns and rows of the luma plane.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// The planes; each is as wide as its stride.
    pub fn planes(&self) -> [&[u8]; 3] {
        self.planes.each_ref().map(|plane| &**plane)
    }

    /// The planes for a process that may read them, and a number that no other picture has; `None`
    /// if the kernel had no memory of this kind.
    pub fn lent(&self) -> Option<(u64, [BorrowedFd<'_>; 3])> {
        let [y, u, v] = self.planes.each_ref().map(Lent::fd);
        Some((self.number, [y?, u?, v?]))
    }

    /// Bytes from one row to the next, for each plane.
    pub fn strides(&self) -> [usize; 3] {
        let width = self.width as usize;
        match self.chroma {
            Chroma::Yuv420 => [width, width / 2, width / 2],
            Chroma::Yuv444 => [width; 3],
        }
    }

    /// A number for each band of [`TILE`] rows, never zero, that changes whenever a sample of the band
    /// does. No two pictures share one: as long as it is the same, so are the samples.
    pub fn stamps(&self) -> &[u64] {
        &self.stamps
    }

    /// The cursor that is drawn in.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref().map(|drawn| &drawn.cursor)
    }

    /// Brings the picture up to date with a scanout and the cursor above it; adds what differs from
    /// before to `damage`, in tiles of [`TILE`] and in even rectangles around the cursor.
    ///
    /// # Panics
    ///
    /// If the scanout is smaller than the picture; the caller has mapped it.
    pub fn update(&mut self, scanout: Pixels<'_>, cursor: Option<Cursor>, damage: &mut Damage) {
        self.uncover();
        let all = Rect { x: 0, y: 0, width: self.width, height: self.height };
        self.take(scanout, all, damage);
        self.fresh = false;
        self.draw(scanout, cursor, damage);
    }

    /// The same where it is known that nothing has changed but what lies in these rectangles, which may
    /// overlap or lie outside: nothing else is read.
    ///
    /// # Panics
    ///
    /// As [`Self::update`].
    pub fn update_within(
        &mut self,
        scanout: Pixels<'_>,
        within: &[Rect],
        cursor: Option<Cursor>,
        damage: &mut Damage,
    ) {
        if self.fresh {
            return self.update(scanout, cursor, damage);
        }
        self.uncover();
        for rect in within {
            let (x, y) = (i64::from(rect.x), i64::from(rect.y));
            let inside = Rect::clipped(x, y, rect.width, rect.height, self.size());
            if let Some(rect) = inside {
                self.take(scanout, rect, damage);
            }
        }
        self.draw(scanout, cursor, damage);
    }

    /// The same if nothing but the cursor has changed.
    pub fn update_cursor(
        &mut self,
        scanout: Pixels<'_>,
        cursor: Option<Cursor>,
        damage: &mut Damage,
    ) {
        if self.fresh {
            return self.update(scanout, cursor, damage);
        }
        self.uncover();
        self.draw(scanout, cursor, damage);
    }

    /// Takes the tiles that share a pixel with this rectangle of the picture.
    fn take(&mut self, scanout: Pixels<'_>, rect: Rect, damage: &mut Damage) {
        let tiles = (rect.x / TILE) as usize..(rect.x + rect.width).div_ceil(TILE) as usize;
        let stamp = new_stamp();
        let mut rows = std::mem::take(&mut self.rows);
        for band in rect.y / TILE..(rect.y + rect.height).div_ceil(TILE) {
            let top = band * TILE;
            let height = TILE.min(self.height - top);
            rows.changed.clear();
            rows.changed.resize(tiles.end, false);
            rows.changed[tiles.clone()].fill(self.fresh);
            for y in (top..top + height).step_by(2) {
                self.take_rows(scanout, y, tiles.clone(), &mut rows);
            }
            if rows.changed.contains(&true) {
                self.stamps[band as usize] = stamp;
                damage.add_band(top, height, &rows.changed, self.size());
            }
        }
        self.rows = rows;
    }

    /// Something in this rectangle has other samples now.
    fn stamp(&mut self, area: Rect) {
        let bands = area.y / TILE..(area.y + area.height).div_ceil(TILE);
        self.stamps[bands.start as usize..bands.end as usize].fill(new_stamp());
    }

    /// Takes the cursor off the planes, so that they are as they came from the scanout.
    fn uncover(&mut self) {
        if let Some(drawn) = &self.cursor {
            put(&mut self.planes, self.width, self.chroma, drawn.area, &drawn.under);
        }
    }

    /// Two rows of the scanout, as far as they lie in these columns of tiles.
    fn take_rows(&mut self, scanout: Pixels<'_>, y: u32, tiles: Range<usize>, rows: &mut Rows) {
        let Rows { wide, samples, changed } = rows;
        let changed = &mut changed[tiles.clone()];
        let order = match scanout.format {
            PixelFormat::Rgbx => Order::Rgbx,
            _ => Order::Bgrx,
        };
        let x = tiles.start as u32 * TILE;
        let width = (tiles.end as u32 * TILE).min(self.width) - x;
        let lines = match scanout.format {
            PixelFormat::Bgrx | PixelFormat::Rgbx => [y, y + 1].map(|y| scanout.row(y, x, width)),
            _ => {
                scanout.read_bgrx(Rect { x, y, width, height: 2 }, wide);
                let (top, bottom) = wide.split_at(width as usize * 4);
                [top, bottom]
            }
        };
        let strides = self.strides();
        let (x, width) = (x as usize, width as usize);
        // Where all has changed there is nothing to compare.
        let settled = !changed.contains(&false);
        match self.chroma {
            Chroma::Yuv420 => {
                let [y0, y1, u, v] = pair_of_rows(&mut self.planes, strides, y as usize);
                let [y0, y1] = [y0, y1].map(|row| &mut row[x..][..width]);
                let [u, v] = [u, v].map(|row| &mut row[x / 2..][..width / 2]);
                let mut old = [y0, y1, u, v];
                if settled {
                    let [y0, y1, u, v] = old;
                    self.kernel.convert(order, lines, Planes { y: [y0, y1], u, v });
                    return;
                }
                let lengths = old.each_ref().map(|row| row.len());
                let [y0, y1, u, v] = split(samples, lengths);
                let planes = Planes { y: [&mut *y0, &mut *y1], u: &mut *u, v: &mut *v };
                self.kernel.convert(order, lines, planes);
                let [old_y0, old_y1, old_u, old_v] = &mut old;
                keep::<16>(y0, old_y0, changed);
                keep::<16>(y1, old_y1, changed);
                keep::<8>(u, old_u, changed);
                keep::<8>(v, old_v, changed);
            }
            Chroma::Yuv444 => {
                for (line, y) in lines.into_iter().zip(y as usize..) {
                    let start = y * strides[0] + x;
                    let old = self.planes.each_mut().map(|plane| &mut plane[start..][..width]);
                    if settled {
                        let [y, u, v] = old;
                        self.kernel.convert_full(order, line, FullPlanes { y, u, v });
                        continue;
                    }
                    let [y, u, v] = split(samples, [width; 3]);
                    let planes = FullPlanes { y: &mut *y, u: &mut *u, v: &mut *v };
                    self.kernel.convert_full(order, line, planes);
                    for (new, old) in [y, u, v].into_iter().zip(old) {
                        keep::<16>(new, old, changed);
                    }
                }
            }
        }
    }

    /// Draws the cursor above what the planes have.
    fn draw(&mut self, scanout: Pixels<'_>, cursor: Option<Cursor>, damage: &mut Damage) {
        let size = self.size();
        let before = self.cursor.take();
        let moved = before.as_ref().map(|drawn| &drawn.cursor) != cursor.as_ref();
        if let Some(drawn) = &before
            && moved
        {
            damage.add(drawn.area);
            self.stamp(drawn.area);
        }
        let Some(cursor) = cursor else { return };
        let Some(area) = cursor.area(size).and_then(|area| area.even(size)) else { return };
        if moved {
            damage.add(area);
        }
        let drawn = match before {
            Some(drawn) if !moved && !damage.rects().iter().any(|rect| rect.meets(area)) => drawn,
            _ => {
                self.stamp(area);
                let under = get(&self.planes, self.width, self.chroma, area);
                let mut patch = std::mem::take(&mut self.rows.wide);
                scanout.read_bgrx(area, &mut patch);
                cursor.blend(&mut patch, area);
                let over = self.converted(&patch, area);
                self.rows.wide = patch;
                Drawn { cursor, area, under, over }
            }
        };
        put(&mut self.planes, self.width, self.chroma, area, &drawn.over);
        self.cursor = Some(drawn);
    }

    /// Samples of BGRX pixels without gaps.
    fn converted(&self, bgrx: &[u8], area: Rect) -> [Vec<u8>; 3] {
        let columns = area.width as usize;
        let lines = bgrx.chunks_exact(columns * 4);
        let [mut y, mut u, mut v] = empty(self.chroma, area);
        match self.chroma {
            Chroma::Yuv420 => {
                let pairs = bgrx.chunks_exact(columns * 8).map(|pair| pair.split_at(columns * 4));
                let chroma = u.chunks_exact_mut(columns / 2).zip(v.chunks_exact_mut(columns / 2));
                let luma = y.chunks_exact_mut(columns * 2);
                for (((top, bottom), luma), (u, v)) in pairs.zip(luma).zip(chroma) {
                    let (y0, y1) = luma.split_at_mut(columns);
                    let planes = Planes { y: [y0, y1], u, v };
                    self.kernel.convert(Order::Bgrx, [top, bottom], planes);
                }
            }
            Chroma::Yuv444 => {
                let chroma = u.chunks_exact_mut(columns).zip(v.chunks_exact_mut(columns));
                for ((line, y), (u, v)) in lines.zip(y.chunks_exact_mut(columns)).zip(chroma) {
                    self.kernel.convert_full(Order::Bgrx, line, FullPlanes { y, u, v });
                }
            }
        }
        [y, u, v]
    }
}

/// Rows `y` and `y + 1` of luma, and the row of each chroma plane that belongs to both.
fn pair_of_rows(planes: &mut [Lent; 3], strides: [usize; 3], y: usize) -> [&mut [u8]; 4] {
    let [luma, u, v] = planes;
    let (y0, y1) = luma[y * strides[0]..][..2 * strides[0]].split_at_mut(strides[0]);
    let [u, v] = [(u, strides[1]), (v, strides[2])]
        .map(|(plane, stride)| &mut plane[y / 2 * stride..][..stride]);
    [y0, y1, u, v]
}

/// Parts of these lengths.
fn split<const N: usize>(samples: &mut Vec<u8>, lengths: [usize; N]) -> [&mut [u8]; N] {
    samples.resize(samples.len().max(lengths.iter().sum()), 0);
    let mut rest = samples.as_mut_slice();
    lengths.map(|length| rest.split_off_mut(..length).unwrap_or_default())
}

/// Keeps what differs of a row of samples, of which `N` belong to each tile.
#[inline]
fn keep<const N: usize>(new: &[u8], old: &mut [u8], changed: &mut [bool]) {
    if !changed.contains(&true) && new == old {
        return;
    }
    for ((new, old), changed) in new.chunks(N).zip(old.chunks_mut(N)).zip(changed) {
        // Of known length, so that neither comparing nor copying calls a function for so little.
        if let (Some(new), Some(old)) = (new.first_chunk::<N>(), old.first_chunk_mut::<N>()) {
            if *changed || new != old {
                *old = *new;
                *changed = true;
            }
        } else if *changed || new != old {
            old.copy_from_slice(new);
            *changed = true;
        }
    }
}

/// Room for the samples of an even rectangle.
fn empty(chroma: Chroma, area: Rect) -> [Vec<u8>; 3] {
    let samples = area.area() as usize;
    let halved = match chroma {
        Chroma::Yuv420 => samples / 4,
        Chroma::Yuv444 => samples,
    };
    [vec![0; samples], vec![0; halved], vec![0; halved]]
}

/// Rows of an even rectangle in each plane: of plane `n`, where they start and how long they are.
fn rows_of(
    n: usize,
    width: u32,
    chroma: Chroma,
    area: Rect,
) -> (usize, impl Iterator<Item = usize>) {
    let by = if n > 0 && chroma == Chroma::Yuv420 { 2 } else { 1 };
    let [width, x, y, columns, rows] =
        [width, area.x, area.y, area.width, area.height].map(|length| (length / by) as usize);
    (columns, (y..y + rows).map(move |y| y * width + x))
}

fn get(planes: &[Lent; 3], width: u32, chroma: Chroma, area: Rect) -> [Vec<u8>; 3] {
    let mut patch = empty(chroma, area);
    for (n, (plane, patch)) in planes.iter().zip(&mut patch).enumerate() {
        let (columns, starts) = rows_of(n, width, chroma, area);
        for (start, to) in starts.zip(patch.chunks_exact_mut(columns)) {
            to.copy_from_slice(&plane[start..][..columns]);
        }
    }
    patch
}

fn put(planes: &mut [Lent; 3], width: u32, chroma: Chroma, area: Rect, patch: &[Vec<u8>; 3]) {
    for (n, (plane, patch)) in planes.iter_mut().zip(patch).enumerate() {
        let (columns, starts) = rows_of(n, width, chroma, area);
        for (start, from) in starts.zip(patch.chunks_exact(columns)) {
            plane[start..][..columns].copy_from_slice(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(seed: u32, count: usize) -> Vec<u8> {
        let mut state = seed | 1;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect()
    }

    fn bgrx(bytes: &[u8], pitch: usize) -> Pixels<'_> {
        Pixels { format: PixelFormat::Bgrx, bytes, pitch }
    }

    #[test]
    fn primary_colours_land_where_bt709_puts_them() {
        // ITU-R BT.709-6, section 3: limited range, 8 bits.
        for (pixel, expected) in [
            ([255u8, 255, 255, 0], [235u8, 128, 128]),
            ([0, 0, 0, 0], [16, 128, 128]),
            ([0, 0, 255, 0], [63, 102, 240]),
            ([0, 255, 0, 0], [173, 42, 26]),
            ([255, 0, 0, 0], [32, 240, 118]),
        ] {
            for chroma in [Chroma::Yuv420, Chroma::Yuv444] {
                let mut picture = Picture::with_chroma((4, 4), chroma);
                picture.update(bgrx(&pixel.repeat(16), 16), None, &mut Damage::default());
                for (plane, expected) in picture.planes().into_iter().zip(expected) {
                    for &sample in plane {
                        assert!(sample.abs_diff(expected) <= 1, "{pixel:?}: {sample}, {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_picture_is_all_damage_and_an_equal_one_none() {
        // Black, as the planes are from the beginning.
        let scanout = vec![0; 41 * 20 * 4];
        let mut picture = Picture::new((41, 20));
        let mut damage = Damage::default();
        picture.update(bgrx(&scanout, 164), None, &mut damage);
        assert_eq!(damage.rects(), [Rect { x: 0, y: 0, width: 40, height: 20 }]);
        damage.clear();
        picture.update(bgrx(&scanout, 164), None, &mut damage);
        assert!(damage.is_empty());
    }

    /// A scanout, and the cursor above it.
    #[derive(Debug, Clone)]
    struct Scene {
        bytes: Vec<u8>,
        cursor: Option<Cursor>,
    }

    /// Changes between two looks: bytes that are poked, where the cursor is afterwards, and
    /// whether the scanout is read at all.
    type Change = (Vec<(prop::sample::Index, u8)>, Option<(i64, i64, u8)>, bool);

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let pokes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
        let cursor = prop::option::of((-12i64..90, -12i64..70, any::<u8>()));
        prop::collection::vec((pokes, cursor, any::<bool>()), 1..6)
    }

    proptest! {
        /// Whatever changes, at any pitch, in any format, with any cursor: the picture is the same
        /// as one that was never looked at before, and no sample changes outside of the damage or behind a
        /// stamp that stays.
        #[test]
        fn the_picture_follows_and_damage_covers(
            width in 2u32..90, height in 2u32..70, slack in 0usize..9, seed in any::<u32>(),
            format in prop::sample::select(&[
                PixelFormat::Bgrx, PixelFormat::Rgbx, PixelFormat::Xrgb30, PixelFormat::Rgb565,
            ][..]),
            full in any::<bool>(), within in any::<bool>(), changes in changes(),
        ) {
            let pitch = width as usize * format.bytes() + slack;
            let chroma = if full { Chroma::Yuv444 } else { Chroma::Yuv420 };
            let mut scene =
                Scene { bytes: noise(seed, pitch * height as usize), cursor: None };
            let mut picture = Picture::with_chroma((width, height), chroma);
            let mut damage = Damage::default();
            let look = |picture: &mut Picture, scene: &Scene, damage: &mut Damage| {
                let pixels = Pixels { format, bytes: &scene.bytes, pitch };
                picture.update(pixels, scene.cursor.clone(), damage);
            };
            look(&mut picture, &scene, &mut damage);
            for (pokes, cursor, whole) in changes {
                let before = picture.planes().map(<[u8]>::to_vec);
                let stamps = picture.stamps().to_vec();
                let mut told = Vec::new();
                scene.cursor = cursor.map(|(x, y, shade)| {
                    let pixels = [shade, 0, shade / 2, shade].repeat(9 * 7);
                    Cursor { x, y, width: 9, height: 7, pixels }
                });
                damage.clear();
                if whole {
                    for (index, value) in pokes {
                        let at = index.index(scene.bytes.len());
                        scene.bytes[at] = value;
                        let (x, y) = (at % pitch / format.bytes(), at / pitch);
                        told.push(Rect { x: x as u32, y: y as u32, width: 1, height: 1 });
                    }
                }
                if whole && within {
                    let pixels = Pixels { format, bytes: &scene.bytes, pitch };
                    picture.update_within(pixels, &told, scene.cursor.clone(), &mut damage);
                } else if whole {
                    look(&mut picture, &scene, &mut damage);
                } else {
                    let pixels = Pixels { format, bytes: &scene.bytes, pitch };
                    picture.update_cursor(pixels, scene.cursor.clone(), &mut damage);
                }
                let mut fresh = Picture::with_chroma((width, height), chroma);
                look(&mut fresh, &scene, &mut Damage::default());
                prop_assert_eq!(picture.planes(), fresh.planes());
                let strides = picture.strides();
                for (n, (before, now)) in before.iter().zip(picture.planes()).enumerate() {
                    let by = if n > 0 && !full { 2 } else { 1 };
                    for at in (0..now.len()).filter(|&at| now[at] != before[at]) {
                        let [x, y] = [at % strides[n], at / strides[n]].map(|i| i as u32 * by);
                        let sample = Rect { x, y, width: by, height: by };
                        let covered = damage.rects().iter().any(|rect| rect.meets(sample));
                        prop_assert!(covered, "plane {} changed at {}, {}", n, x, y);
                        let band = (y / TILE) as usize;
                        prop_assert_ne!(stamps[band], picture.stamps()[band]);
                    }
                }
                for rect in damage.rects() {
                    let (width, height) = picture.size();
                    prop_assert!(rect.x + rect.width <= width && rect.y + rect.height <= height);
                }
            }
        }
    }
}
