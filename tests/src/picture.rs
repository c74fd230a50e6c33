//! An RGB picture and how far two of them are apart.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// 8-bit RGB, rows without padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Three bytes per pixel.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// A picture from the colour of each pixel.
    pub fn from_fn(
        width: usize,
        height: usize,
        mut at: impl FnMut(usize, usize) -> [u8; 3],
    ) -> Self {
        let rgb = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let rgb = rgb.flat_map(|(x, y)| at(x, y)).collect();
        Self { width, height, rgb }
    }

    /// The colour of a pixel.
    pub fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let i = (y * self.width + x) * 3;
        [self.rgb[i], self.rgb[i + 1], self.rgb[i + 2]]
    }

    /// The part of it that starts at a point, as far as it goes.
    pub fn part(&self, (x, y): (usize, usize), (width, height): (usize, usize)) -> Self {
        let (width, height) = (width.min(self.width - x), height.min(self.height - y));
        Self::from_fn(width, height, |dx, dy| self.at(x + dx, y + dy))
    }

    /// Reads a binary PPM (P6, 8 bits), also with rows that QEMU has filled up to a
    /// multiple of four bytes, which the format does not know.
    pub fn read_ppm(path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).with_context(|| format!("no picture {}", path.display()))?;
        Self::from_ppm(&bytes).with_context(|| format!("{} is no PPM", path.display()))
    }

    fn from_ppm(bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes;
        let mut words = Vec::new();
        // "P6 <width> <height> 255" and exactly one white space before the pixels.
        while words.len() < 4 {
            let end = rest.iter().position(u8::is_ascii_whitespace).context("short header")?;
            if end > 0 {
                words.push(std::str::from_utf8(&rest[..end])?);
            }
            rest = &rest[end + 1..];
        }
        ensure!(words[0] == "P6" && words[3] == "255", "unknown header {words:?}");
        let (width, height): (usize, usize) = (words[1].parse()?, words[2].parse()?);
        let row = width * 3;
        let stride = if rest.len() == row * height { row } else { row.next_multiple_of(4) };
        ensure!(rest.len() == stride * height, "{} bytes of {width}x{height}", rest.len());
        let rgb = rest.chunks_exact(stride).flat_map(|line| &line[..row]).copied().collect();
        Ok(Self { width, height, rgb })
    }

    /// Writes a binary PPM.
    pub fn write_ppm(&self, path: &Path) -> Result<()> {
        let mut bytes = format!("P6\n{} {}\n255\n", self.width, self.height).into_bytes();
        bytes.extend_from_slice(&self.rgb);
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Its brightness alone (BT.709), as grey.
    #[must_use]
    pub fn luma(&self) -> Self {
        Self::from_fn(self.width, self.height, |x, y| {
            let [r, g, b] = self.at(x, y).map(f64::from);
            [(0.2126 * r + 0.7152 * g + 0.0722 * b).round() as u8; 3]
        })
    }

    /// Peak signal-to-noise ratio over all channels in dB; infinite for equal pictures.
    pub fn psnr(&self, other: &Self) -> Result<f64> {
        ensure!(
            (self.width, self.height) == (other.width, other.height),
            "{self:?} cannot be compared with {other:?}"
        );
        let sum: u64 =
            self.rgb.iter().zip(&other.rgb).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
        // A picture has far fewer than 2^52 values, so the conversion is exact.
        #[allow(clippy::cast_precision_loss)]
        let mse = sum as f64 / self.rgb.len() as f64;
        Ok(10.0 * (255.0 * 255.0 / mse).log10())
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture {}x{}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::Picture;

    #[test]
    fn psnr_is_what_the_formula_says() {
        let flat = |v| Picture::from_fn(4, 4, |_, _| [v; 3]);
        assert!(flat(9).psnr(&flat(9)).expect("same size").is_infinite());
        let apart = flat(0).psnr(&flat(255)).expect("same size");
        assert!(apart.abs() < 1e-9, "{apart}");
        let one_off = flat(10).psnr(&flat(11)).expect("same size");
        assert!((one_off - 48.13).abs() < 0.01, "{one_off}");
        assert!(flat(0).psnr(&Picture::from_fn(4, 5, |_, _| [0; 3])).is_err());
    }

    #[test]
    fn ppm_survives_the_disk() {
        let picture = Picture::from_fn(3, 2, |x, y| [x as u8, y as u8, 32]);
        let path = std::env::temp_dir().join(format!("transom-{}.ppm", std::process::id()));
        picture.write_ppm(&path).expect("temporary folder can be written");
        let read = Picture::read_ppm(&path).expect("just written");
        std::fs::remove_file(path).expect("just read");
        assert_eq!(picture, read);
    }
}
