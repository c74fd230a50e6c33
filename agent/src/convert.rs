//! RGB to 4:2:0 or 4:4:4 in BT.709, limited range: the specification, and which instructions follow
//! it.
//!
//! For 4:2:0 two rows of pixels enter, two rows of luma and one of each chroma leave; for 4:4:4 one
//! row enters and one of each plane leaves. Arithmetic is in
//! 16 bits with factors of 256ths, which errs by less than one step; every kernel does the same
//! to the bit. Which one is fastest is found out by trying and not by asking the processor: an
//! emulated one has AVX2, too, and takes five times as long with it as without.

use crate::sys::colour::Width;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Where the channels of a pixel of four bytes are, lowest byte first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Blue, green, red.
    Bgrx,
    /// Red, green, blue.
    Rgbx,
}

// ITU-R BT.709-6, section 3: Y = 219 · (0.2126 R + 0.7152 G + 0.0722 B) + 16, and so on, for
// red, green and blue of 255 at most. Factors of chroma add up to nothing, so that grey is grey.
pub(crate) const LUMA: [i16; 3] = [47, 157, 16];
pub(crate) const U: [i16; 3] = [-26, -86, 112];
pub(crate) const V: [i16; 3] = [112, -102, -10];
/// 16, and a half to round.
pub(crate) const LUMA_OFFSET: u16 = (16 << 8) + 128;
/// 128, and a half.
pub(crate) const CHROMA_OFFSET: u16 = (128 << 8) + 128;

/// Where the result goes: for rows of n pixels, n bytes of luma each, n / 2 of chroma.
#[derive(Debug)]
pub struct Planes<'a> {
    /// The two rows of luma.
    pub y: [&'a mut [u8]; 2],
    /// The row of U.
    pub u: &'a mut [u8],
    /// The row of V.
    pub v: &'a mut [u8],
}

/// Where a row of 4:4:4 goes: as many bytes of each as there are pixels.
#[derive(Debug)]
pub struct FullPlanes<'a> {
    /// The row of luma.
    pub y: &'a mut [u8],
    /// The row of U.
    pub u: &'a mut [u8],
    /// The row of V.
    pub v: &'a mut [u8],
}

/// A way to convert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// One pixel after the other: the specification.
    Scalar,
    /// Vectors up to this width; narrower ones at the end of a row.
    Vectors(Width),
}

/// How often each kernel is tried; the best time counts.
const TRIES: u32 = 5;
/// Pixels in a row of a trial, and rows.
const TRIAL: (usize, usize) = (640, 8);

impl Kernel {
    /// What this processor can do.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Scalar];
        all.extend(Width::here().map(Self::Vectors));
        all
    }

    /// The fastest one here, found within a few milliseconds when first asked for.
    pub fn fastest() -> Self {
        static FASTEST: OnceLock<Kernel> = OnceLock::new();
        *FASTEST.get_or_init(Self::find_fastest)
    }

    fn find_fastest() -> Self {
        let mut all: Vec<(Duration, Self)> =
            Self::all().into_iter().map(|kernel| (kernel.time(), kernel)).collect();
        all.sort_by_key(|(time, _)| *time);
        log::debug!("colour conversion, best first: {all:?}");
        all.first().map_or(Self::Scalar, |(_, kernel)| *kernel)
    }

    /// The shortest time of a trial.
    fn time(self) -> Duration {
        let (width, rows) = TRIAL;
        let pixels = vec![0x5a; width * 4 * 2];
        let mut planes = vec![0; width * 3];
        let once = |_| {
            let begun = Instant::now();
            for _ in 0..rows / 2 {
                let [y0, y1, uv] = planes
                    .get_disjoint_mut([0..width, width..2 * width, 2 * width..3 * width])
                    .expect("three parts side by side");
                let (u, v) = uv.split_at_mut(width / 2);
                let (top, bottom) = pixels.split_at(width * 4);
                self.convert(Order::Bgrx, [top, bottom], Planes { y: [y0, y1], u, v });
                std::hint::black_box(&mut planes);
            }
            begun.elapsed()
        };
        (0..TRIES).map(once).min().unwrap_or_default()
    }

    /// Vectors that do it, the widest first.
    fn widths(self) -> impl Iterator<Item = Width> {
        let widest = match self {
            Self::Scalar => None,
            Self::Vectors(width) => Some(width),
        };
        [Width::Avx512, Width::Avx2, Width::Sse2]
            .into_iter()
            .filter(move |&width| widest.is_some_and(|widest| width <= widest))
    }

    /// Converts two rows of an even number of pixels.
    ///
    /// # Panics
    ///
    /// If the planes' rows are too short for the pixels.
    pub fn convert(self, order: Order, rows: [&[u8]; 2], planes: Planes<'_>) {
        let Planes { y: [y0, y1], u, v } = planes;
        let mut done = 0;
        for width in self.widths() {
            let planes = Planes {
                y: [&mut y0[done..], &mut y1[done..]],
                u: &mut u[done / 2..],
                v: &mut v[done / 2..],
            };
            done += width.convert(order, rows.map(|row| &row[done * 4..]), planes);
        }
        let [top, bottom] = rows.map(|row| row[done * 4..].as_chunks::<8>().0);
        let luma = y0[done..].as_chunks_mut::<2>().0.iter_mut().zip(y1[done..].as_chunks_mut().0);
        let chroma = u[done / 2..].iter_mut().zip(&mut v[done / 2..]);
        for (((top, bottom), (y0, y1)), (u, v)) in top.iter().zip(bottom).zip(luma).zip(chroma) {
            let pixels = [top, bottom].map(|pair| {
                let [a, b, c, _, d, e, f, _] = *pair;
                [channels(order, [a, b, c]), channels(order, [d, e, f])]
            });
            *y0 = pixels[0].map(luma_of);
            *y1 = pixels[1].map(luma_of);
            let mean: [u16; 3] = std::array::from_fn(|i| {
                (pixels.iter().flatten().map(|pixel| pixel[i]).sum::<u16>() + 2) >> 2
            });
            *u = dot(mean, U, CHROMA_OFFSET);
            *v = dot(mean, V, CHROMA_OFFSET);
        }
    }

    /// Converts one row to 4:4:4.
    ///
    /// # Panics
    ///
    /// If the planes' rows are too short for the pixels.
    pub fn convert_full(self, order: Order, row: &[u8], planes: FullPlanes<'_>) {
        let FullPlanes { y, u, v } = planes;
        let mut done = 0;
        for width in self.widths() {
            let planes = FullPlanes { y: &mut y[done..], u: &mut u[done..], v: &mut v[done..] };
            done += width.convert_full(order, &row[done * 4..], planes);
        }
        let pixels = row[done * 4..].as_chunks::<4>().0;
        let chroma = u[done..].iter_mut().zip(&mut v[done..]);
        for ((&[a, b, c, _], y), (u, v)) in pixels.iter().zip(&mut y[done..]).zip(chroma) {
            let pixel = channels(order, [a, b, c]);
            *y = luma_of(pixel);
            *u = dot(pixel, U, CHROMA_OFFSET);
            *v = dot(pixel, V, CHROMA_OFFSET);
        }
    }
}

/// Red, green and blue of a pixel's first three bytes.
fn channels(order: Order, bytes: [u8; 3]) -> [u16; 3] {
    let [a, b, c] = bytes.map(u16::from);
    match order {
        Order::Bgrx => [c, b, a],
        Order::Rgbx => [a, b, c],
    }
}

fn luma_of(pixel: [u16; 3]) -> u8 {
    dot(pixel, LUMA, LUMA_OFFSET)
}

/// Sums of products stay within 16 bits, those of chroma with their sign.
fn dot(pixel: [u16; 3], factors: [i16; 3], offset: u16) -> u8 {
    let sum = pixel.iter().zip(factors).fold(offset, |sum, (&channel, factor)| {
        sum.wrapping_add(channel.wrapping_mul(factor as u16))
    });
    (sum >> 8) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn converted(kernel: Kernel, order: Order, pixels: &[u8]) -> [Vec<u8>; 4] {
        let (top, bottom) = pixels.split_at(pixels.len() / 2);
        let width = top.len() / 4;
        let mut out = [vec![0; width], vec![0; width], vec![0; width / 2], vec![0; width / 2]];
        let [y0, y1, u, v] = &mut out;
        kernel.convert(order, [top, bottom], Planes { y: [y0, y1], u, v });
        out
    }

    fn converted_full(kernel: Kernel, order: Order, pixels: &[u8]) -> [Vec<u8>; 3] {
        let mut out = [(); 3].map(|()| vec![0; pixels.len() / 4]);
        let [y, u, v] = &mut out;
        kernel.convert_full(order, pixels, FullPlanes { y, u, v });
        out
    }

    #[test]
    fn every_colour_lands_within_a_step_of_the_standard() {
        // A grid of the colour cube, with its corners.
        let grid = || (0..=255u8).step_by(15);
        for (r, g, b) in
            grid().flat_map(|r| grid().flat_map(move |g| grid().map(move |b| (r, g, b))))
        {
            let [y, _, u, v] = converted(Kernel::Scalar, Order::Bgrx, &[b, g, r, 9].repeat(4));
            // Of one colour, both formats are the same.
            let full = converted_full(Kernel::Scalar, Order::Bgrx, &[b, g, r, 9]);
            assert_eq!([y[0], u[0], v[0]], full.map(|plane| plane[0]));
            let [r, g, b] = [r, g, b].map(|c| f64::from(c) / 255.0);
            let luma = 0.2126 * r + 0.7152 * g + 0.0722 * b;
            let exact = [
                16.0 + 219.0 * luma,
                128.0 + 224.0 * (b - luma) / 1.8556,
                128.0 + 224.0 * (r - luma) / 1.5748,
            ];
            for (sample, exact) in [y[0], u[0], v[0]].into_iter().zip(exact) {
                assert!((f64::from(sample) - exact).abs() < 1.2, "{r} {g} {b}: {sample}, {exact}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_kernel_does_what_the_specification_says(
            pixels in (1usize..120).prop_flat_map(|pairs| prop::collection::vec(any::<u8>(), pairs * 16)),
            swapped in any::<bool>(),
        ) {
            let order = if swapped { Order::Rgbx } else { Order::Bgrx };
            let expected = converted(Kernel::Scalar, order, &pixels);
            for kernel in Kernel::all() {
                prop_assert_eq!(&converted(kernel, order, &pixels), &expected, "{:?}", kernel);
            }
        }

        #[test]
        fn every_kernel_does_so_in_full_colour(
            pixels in (1usize..240).prop_flat_map(|count| prop::collection::vec(any::<u8>(), count * 4)),
            swapped in any::<bool>(),
        ) {
            let order = if swapped { Order::Rgbx } else { Order::Bgrx };
            let expected = converted_full(Kernel::Scalar, order, &pixels);
            for kernel in Kernel::all() {
                prop_assert_eq!(&converted_full(kernel, order, &pixels), &expected, "{:?}", kernel);
            }
        }
    }
}
