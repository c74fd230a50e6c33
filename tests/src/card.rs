//! What the testcard draws: pictures that a test can compute on its own, pixel formats,
//! and the frame number that travels in a picture's top row.

use anyhow::{Context, Result, bail};

use crate::picture::Picture;

/// Edge of one block of the frame number: as large as a macroblock, to survive any encoder.
const BLOCK: usize = 16;
/// Bits of the frame number; 24 blocks fit a screen of 384 pixels, and 3 days at 60 fps.
const NUMBER_BITS: usize = 24;

/// The pixel formats that a scanout can have here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 8 bits each, blue first in memory.
    Xrgb8888,
    /// The same with an alpha that the screen ignores or blends with black.
    Argb8888,
    /// 8 bits each, red first in memory.
    Xbgr8888,
    /// The same with alpha.
    Abgr8888,
    /// 10 bits each, blue lowest.
    Xrgb2101010,
    /// 10 bits each, red lowest.
    Xbgr2101010,
    /// 5, 6 and 5 bits, blue lowest.
    Rgb565,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Xrgb8888,
        Self::Argb8888,
        Self::Xbgr8888,
        Self::Abgr8888,
        Self::Xrgb2101010,
        Self::Xbgr2101010,
        Self::Rgb565,
    ];

    /// Its name as in `drm_fourcc.h`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xrgb8888 => "XRGB8888",
            Self::Argb8888 => "ARGB8888",
            Self::Xbgr8888 => "XBGR8888",
            Self::Abgr8888 => "ABGR8888",
            Self::Xrgb2101010 => "XRGB2101010",
            Self::Xbgr2101010 => "XBGR2101010",
            Self::Rgb565 => "RGB565",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|f| f.name() == name)
            .with_context(|| format!("no pixel format '{name}'"))
    }

    /// Bytes per pixel.
    pub fn bytes(self) -> usize {
        if self == Self::Rgb565 { 2 } else { 4 }
    }

    /// A colour as it lies in memory; the first [`Format::bytes`] bytes count.
    pub fn pack(self, [r, g, b]: [u8; 3]) -> [u8; 4] {
        let [wide_r, wide_g, wide_b] = [r, g, b].map(|v| u32::from(v) << 2 | u32::from(v) >> 6);
        match self {
            Self::Xrgb8888 | Self::Argb8888 => [b, g, r, 255],
            Self::Xbgr8888 | Self::Abgr8888 => [r, g, b, 255],
            Self::Xrgb2101010 => (wide_r << 20 | wide_g << 10 | wide_b).to_le_bytes(),
            Self::Xbgr2101010 => (wide_b << 20 | wide_g << 10 | wide_r).to_le_bytes(),
            Self::Rgb565 => {
                let [r, g, b] = [r, g, b].map(u32::from);
                ((r >> 3) << 11 | (g >> 2) << 5 | b >> 3).to_le_bytes()
            }
        }
    }

    /// The colour of a pixel in memory.
    pub fn unpack(self, pixel: &[u8]) -> [u8; 3] {
        let wide = |shift: u32| {
            let all = pixel.iter().rev().fold(0, |a, b| a << 8 | u32::from(*b));
            (all >> shift) & 0x3ff
        };
        // Ten bits shifted right by two fit a byte.
        let narrow = |v: u32| (v >> 2) as u8;
        match self {
            Self::Xrgb8888 | Self::Argb8888 => [pixel[2], pixel[1], pixel[0]],
            Self::Xbgr8888 | Self::Abgr8888 => [pixel[0], pixel[1], pixel[2]],
            Self::Xrgb2101010 => [wide(20), wide(10), wide(0)].map(narrow),
            Self::Xbgr2101010 => [wide(0), wide(10), wide(20)].map(narrow),
            Self::Rgb565 => {
                let v = u16::from_le_bytes([pixel[0], pixel[1]]);
                let five = |v: u16| ((v & 31) << 3 | (v & 31) >> 2) as u8;
                let six = |v: u16| ((v & 63) << 2 | (v & 63) >> 4) as u8;
                [five(v >> 11), six(v >> 5), five(v)]
            }
        }
    }
}

/// The known picture for a seed: slow gradients below rectangles, some of them striped,
/// so that a wrong size, pitch, colour order or matrix shows in the PSNR. Colours are
/// muted: what 4:2:0 does to the edges of loud ones (30 dB) is no fault of those tested.
pub fn pattern(seed: u64, width: usize, height: usize) -> Picture {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let ramp = |v: usize, max: usize| (v * 255 / max.max(1)) as u8;
    let mut picture = Picture::from_fn(width, height, |x, y| {
        [ramp(x, width), ramp(y, height), ramp(width - x + y, width + height)]
    });
    for n in 0..40 {
        let (x0, y0) = (random.below(width) & !1, random.below(height) & !1);
        let (w, h) = ((16 + random.below(width / 5)) & !1, (16 + random.below(height / 5)) & !1);
        let grey = 40 + random.below(150);
        let colour = [0; 3].map(|_: u8| (grey + random.below(60)) as u8);
        // Diagonal stripes of another brightness on every fourth.
        let bright = |x, y| if n % 4 == 0 && (x + y) / 8 % 2 == 0 { 40 } else { 0 };
        for y in y0..(y0 + h).min(height) {
            for x in x0..(x0 + w).min(width) {
                let colour = colour.map(|v| v.saturating_sub(bright(x, y)));
                set(&mut picture, x, y, colour);
            }
        }
    }
    picture
}

/// Lines of small marks in loud colours, as terminals show text: what 4:2:0 blurs.
pub fn text(seed: u64, width: usize, height: usize) -> Picture {
    const INKS: [[u8; 3]; 6] =
        [[230, 40, 40], [40, 200, 60], [60, 90, 250], [220, 200, 40], [200, 60, 220], [220; 3]];
    let seed = seed as usize;
    Picture::from_fn(width, height, |x, y| {
        let (line, word) = (y / 16, x / 56);
        let ink = y % 16 < 11 && x % 56 < 48 && (x / 2 * 7 + y / 2 * 5 + word * 3 + line) % 5 < 2;
        if ink { INKS[(word * 5 + line * 7 + seed) % INKS.len()] } else { [20, 24, 40] }
    })
}

/// The blocks that carry a frame number: position, edge, and whether each is white.
pub fn number_blocks(number: u32) -> impl Iterator<Item = (usize, usize, bool)> {
    (0..NUMBER_BITS).map(move |bit| (bit * BLOCK, BLOCK, number >> bit & 1 == 1))
}

/// Reads the frame number out of a picture, however badly it was compressed.
pub fn read_number(picture: &Picture) -> Result<u32> {
    if picture.width < NUMBER_BITS * BLOCK || picture.height < BLOCK {
        bail!("{picture:?} is too small for a frame number");
    }
    (0..NUMBER_BITS).try_fold(0, |number, bit| {
        let [_, green, _] = picture.at(bit * BLOCK + BLOCK / 2, BLOCK / 2);
        match green {
            0..80 => Ok(number),
            176.. => Ok(number | 1 << bit),
            _ => bail!("bit {bit} of the frame number is grey ({green})"),
        }
    })
}

fn set(picture: &mut Picture, x: usize, y: usize, colour: [u8; 3]) {
    let i = (y * picture.width + x) * 3;
    picture.rgb[i..i + 3].copy_from_slice(&colour);
}

/// xorshift64*: the same pictures everywhere, for ever.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, number_blocks, pattern, read_number};
    use crate::picture::Picture;

    #[test]
    fn formats_keep_their_colours_apart() {
        for format in Format::ALL {
            let loss = if format == Format::Rgb565 { 8 } else { 0 };
            for colour in [[0, 0, 0], [255, 255, 255], [200, 10, 90], [1, 128, 254]] {
                let back = format.unpack(&format.pack(colour)[..format.bytes()]);
                let far = colour.iter().zip(back).any(|(a, b)| a.abs_diff(b) > loss);
                assert!(!far, "{}: {colour:?} became {back:?}", format.name());
            }
        }
    }

    #[test]
    fn frame_numbers_are_read_back() {
        for number in [0, 1, 0x5a5a5a, 0xff_ffff] {
            let mut picture = Picture::from_fn(640, 32, |_, _| [99; 3]);
            for (x0, edge, white) in number_blocks(number) {
                for i in 0..edge * edge {
                    super::set(&mut picture, x0 + i % edge, i / edge, [255 * u8::from(white); 3]);
                }
            }
            assert_eq!(read_number(&picture).expect("large enough"), number);
        }
    }

    #[test]
    fn patterns_differ_by_seed_and_repeat() {
        assert_eq!(pattern(1, 640, 480), pattern(1, 640, 480));
        assert!(pattern(1, 640, 480).psnr(&pattern(2, 640, 480)).expect("same size") < 20.0);
    }
}
