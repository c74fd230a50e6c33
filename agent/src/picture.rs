//! The picture that encoders take: 4:2:0 or 4:4:4, BT.709 limited range, cursor drawn in.
//!
//! Only damage is converted; the rest stays from the frames before.

use transom_protocol::message::Chroma;

use crate::capture::cursor::Cursor;
use crate::convert::{FullPlanes, Kernel, Order, Planes};
use crate::damage::{Damage, Rect};
use crate::mirror::{Mirror, PixelFormat};

/// Rows converted at a time where pixels are widened first: small enough for the inner caches.
const STRIP: u32 = 16;

/// Planes Y, U and V of one picture; even width and height.
#[derive(Debug)]
pub struct Picture {
    width: u32,
    height: u32,
    chroma: Chroma,
    planes: [Vec<u8>; 3],
    scratch: Vec<u8>,
    kernel: Kernel,
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
        let planes = [vec![16; samples], vec![128; halved], vec![128; halved]];
        Self { width, height, chroma, planes, scratch: Vec::new(), kernel: Kernel::fastest() }
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
        self.planes.each_ref().map(Vec::as_slice)
    }

    /// Bytes from one row to the next, for each plane.
    pub fn strides(&self) -> [usize; 3] {
        let width = self.width as usize;
        match self.chroma {
            Chroma::Yuv420 => [width, width / 2, width / 2],
            Chroma::Yuv444 => [width; 3],
        }
    }

    /// Brings the picture up to date: converts the damaged parts of the mirror, then draws the
    /// cursor where it is damaged.
    pub fn update(&mut self, mirror: &Mirror, damage: &Damage, cursor: Option<&Cursor>) {
        let size = (self.width, self.height);
        for rect in damage.rects().iter().filter_map(|rect| rect.even(size)) {
            self.convert(mirror, rect);
        }
        let Some((cursor, area)) = cursor.and_then(|cursor| Some((cursor, cursor.area(size)?)))
        else {
            return;
        };
        if let Some(area) = area.even(size)
            && damage.rects().iter().any(|rect| rect.meets(area))
        {
            let mut patch = std::mem::take(&mut self.scratch);
            mirror.read_bgrx(area, &mut patch);
            cursor.blend(&mut patch, area);
            self.write_bgrx(&patch, area);
            self.scratch = patch;
        }
    }

    fn convert(&mut self, mirror: &Mirror, rect: Rect) {
        let (bytes, pitch) = mirror.bytes();
        match mirror.format() {
            format @ (PixelFormat::Bgrx | PixelFormat::Rgbx) => {
                let start = rect.y as usize * pitch + rect.x as usize * 4;
                let order = if format == PixelFormat::Bgrx { Order::Bgrx } else { Order::Rgbx };
                self.write(&bytes[start..], pitch, rect, order);
            }
            _ => {
                let mut strip = std::mem::take(&mut self.scratch);
                let end = rect.y + rect.height;
                for y in (rect.y..end).step_by(STRIP as usize) {
                    let part = Rect { y, height: STRIP.min(end - y), ..rect };
                    mirror.read_bgrx(part, &mut strip);
                    self.write_bgrx(&strip, part);
                }
                self.scratch = strip;
            }
        }
    }

    fn write_bgrx(&mut self, pixels: &[u8], rect: Rect) {
        self.write(pixels, rect.width as usize * 4, rect, Order::Bgrx);
    }

    fn write(&mut self, pixels: &[u8], pitch: usize, rect: Rect, order: Order) {
        match self.chroma {
            Chroma::Yuv420 => self.write_halved(pixels, pitch, rect, order),
            Chroma::Yuv444 => self.write_full(pixels, pitch, rect, order),
        }
    }

    fn write_full(&mut self, pixels: &[u8], pitch: usize, rect: Rect, order: Order) {
        let columns = rect.width as usize;
        let rows = pixels.chunks(pitch).take(rect.height as usize);
        for (row, at) in rows.zip(rect.y as usize..) {
            let start = at * self.width as usize + rect.x as usize;
            let [y, u, v] = self.planes.each_mut().map(|plane| &mut plane[start..][..columns]);
            self.kernel.convert_full(order, &row[..columns * 4], FullPlanes { y, u, v });
        }
    }

    fn write_halved(&mut self, pixels: &[u8], pitch: usize, rect: Rect, order: Order) {
        let [luma, chroma, _] = self.strides();
        let [y_plane, u_plane, v_plane] = &mut self.planes;
        let (x, columns) = (rect.x as usize, rect.width as usize);
        let top = rect.y as usize;
        let pairs = pixels.chunks(pitch * 2).take(rect.height as usize / 2);
        for (pair, row) in pairs.zip((top..).step_by(2)) {
            let (above, below) = pair.split_at(pitch);
            let (y0, y1) = y_plane[row * luma..].split_at_mut(luma);
            let halved = row / 2 * chroma + x / 2;
            let planes = Planes {
                y: [y0, y1].map(|y| &mut y[x..x + columns]),
                u: &mut u_plane[halved..halved + columns / 2],
                v: &mut v_plane[halved..halved + columns / 2],
            };
            let rows = [above, below].map(|row| &row[..columns * 4]);
            self.kernel.convert(order, rows, planes);
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

    #[test]
    fn primary_colours_land_where_bt709_puts_them() {
        // ITU-R BT.709-6, section 3: limited range, 8 bits.
        for (bgrx, expected) in [
            ([255u8, 255, 255, 0], [235u8, 128, 128]),
            ([0, 0, 0, 0], [16, 128, 128]),
            ([0, 0, 255, 0], [63, 102, 240]),
            ([0, 255, 0, 0], [173, 42, 26]),
            ([255, 0, 0, 0], [32, 240, 118]),
        ] {
            let mut mirror = Mirror::new(PixelFormat::Bgrx, 4, 4);
            let mut damage = Damage::default();
            mirror.update(&bgrx.repeat(16), 16, &mut damage);
            for chroma in [Chroma::Yuv420, Chroma::Yuv444] {
                let mut picture = Picture::with_chroma((4, 4), chroma);
                picture.update(&mirror, &damage, None);
                for (plane, expected) in picture.planes().into_iter().zip(expected) {
                    for &sample in plane {
                        assert!(sample.abs_diff(expected) <= 1, "{bgrx:?}: {sample}, {expected}");
                    }
                }
            }
        }
    }

    proptest! {
        /// Converting only the damage ends with the same picture as converting everything.
        #[test]
        fn partial_updates_equal_a_full_conversion(
            width in 2u32..70, height in 2u32..50, seed in any::<u32>(),
            spot in (0u32..70, 0u32..50, 1u32..40, 1u32..40), full in any::<bool>(),
        ) {
            let pitch = width as usize * 4;
            let mut source = noise(seed, pitch * height as usize);
            let mut mirror = Mirror::new(PixelFormat::Bgrx, width, height);
            let mut damage = Damage::default();
            mirror.update(&source, pitch, &mut damage);
            let chroma = if full { Chroma::Yuv444 } else { Chroma::Yuv420 };
            let mut picture = Picture::with_chroma((width, height), chroma);
            picture.update(&mirror, &damage, None);
            if let Some(rect) = Rect::clipped(spot.0.into(), spot.1.into(), spot.2, spot.3, (width, height)) {
                for y in rect.y..rect.y + rect.height {
                    for x in rect.x..rect.x + rect.width {
                        source[y as usize * pitch + x as usize * 4] ^= 0x55;
                    }
                }
            }
            damage.clear();
            mirror.update(&source, pitch, &mut damage);
            picture.update(&mirror, &damage, None);
            let mut whole = Picture::with_chroma((width, height), chroma);
            let mut all = Damage::default();
            all.add(Rect { x: 0, y: 0, width, height });
            whole.update(&mirror, &all, None);
            prop_assert_eq!(picture.planes(), whole.planes());
        }
    }
}
