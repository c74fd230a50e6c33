//! Pixels as they lie in memory: formats, and rows of any of them as BGRX.

use drm::buffer::DrmFourcc;

use crate::damage::Rect;

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

/// Rows of pixels in memory: what a plane scans out.
#[derive(Debug, Clone, Copy)]
pub struct Pixels<'a> {
    /// How each pixel is made up.
    pub format: PixelFormat,
    /// The first byte is the first pixel. They may change meanwhile.
    pub bytes: &'a [u8],
    /// Bytes from one row to the next.
    pub pitch: usize,
}

impl<'a> Pixels<'a> {
    /// Rows of BGRX without gaps, so many pixels wide.
    pub fn bgrx(bytes: &'a [u8], width: u32) -> Self {
        Self { format: PixelFormat::Bgrx, bytes, pitch: width as usize * 4 }
    }

    /// So many pixels of a row, from a column on.
    ///
    /// # Panics
    ///
    /// If they are not there; the caller has mapped them.
    pub fn row(&self, y: u32, x: u32, columns: u32) -> &'a [u8] {
        let bytes = self.format.bytes();
        &self.bytes[y as usize * self.pitch + x as usize * bytes..][..columns as usize * bytes]
    }

    /// Writes a part to `out` as rows of BGRX, without gaps.
    pub fn read_bgrx(&self, rect: Rect, out: &mut Vec<u8>) {
        out.clear();
        for y in rect.y..rect.y + rect.height {
            let row = self.row(y, rect.x, rect.width);
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

/// The upper eight bits of the three ten-bit channels, from the highest to the lowest.
fn channels30(pixel: [u8; 4]) -> [u8; 3] {
    let word = u32::from_le_bytes(pixel);
    [(word >> 22) as u8, (word >> 12) as u8, (word >> 2) as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: PixelFormat, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let pixels = Pixels { format, bytes, pitch: bytes.len() };
        pixels.read_bgrx(Rect { x: 0, y: 0, width: 1, height: 1 }, &mut out);
        out[..3].to_vec()
    }

    #[test]
    fn every_format_reads_the_same_colour() {
        let (r, g, b) = (0xffu32, 0x80, 0x10);
        assert_eq!(read(PixelFormat::Bgrx, &[0x10, 0x80, 0xff, 0]), [0x10, 0x80, 0xff]);
        assert_eq!(read(PixelFormat::Rgbx, &[0xff, 0x80, 0x10, 0]), [0x10, 0x80, 0xff]);
        let word = |a: u32, b: u32, c: u32| (a << 22 | b << 12 | c << 2).to_le_bytes();
        assert_eq!(read(PixelFormat::Xrgb30, &word(r, g, b)), [0x10, 0x80, 0xff]);
        assert_eq!(read(PixelFormat::Xbgr30, &word(b, g, r)), [0x10, 0x80, 0xff]);
        let word = (31u16 << 11 | 32 << 5 | 2).to_le_bytes();
        assert_eq!(read(PixelFormat::Rgb565, &word), [0x10, 0x82, 0xff]);
    }
}
