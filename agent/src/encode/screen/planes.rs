//! Pictures in whole macroblocks: the reconstruction that the next frame refers to.

use transom_protocol::message::Chroma;

use crate::picture::Picture;

/// One colour plane.
#[derive(Debug, Clone)]
pub struct Plane {
    /// Samples, rows without gaps.
    pub data: Vec<u8>,
    /// Columns, and bytes from one row to the next.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Plane {
    /// A grey plane.
    pub fn new(width: usize, height: usize) -> Self {
        Self { data: vec![128; width * height], width, height }
    }

    /// `N` samples from a position on.
    #[inline(always)]
    pub fn row<const N: usize>(&self, x: usize, y: usize) -> &[u8; N] {
        self.data[y * self.width + x..].first_chunk().expect("blocks lie inside the plane")
    }

    /// Reads a square block. Not a function that returns it: that would copy it once more.
    #[inline(always)]
    pub fn read<const N: usize>(&self, x: usize, y: usize, block: &mut [[u8; N]; N]) {
        for (row, samples) in block.iter_mut().enumerate() {
            *samples = *self.row(x, y + row);
        }
    }

    /// Bands of so many rows each, from the top down.
    pub fn bands(&mut self, rows: impl Iterator<Item = usize>) -> impl Iterator<Item = Band<'_>> {
        let width = self.width;
        let mut left = self.data.as_mut_slice();
        rows.map_while(move |rows| {
            let data = left.split_off_mut(..rows * width)?;
            Some(Band { data, width })
        })
    }
}

/// Some rows of a plane, to write to; rows are counted from the first of them.
#[derive(Debug)]
pub struct Band<'a> {
    data: &'a mut [u8],
    width: usize,
}

impl Band<'_> {
    /// `N` samples from a position on.
    #[inline(always)]
    pub fn row<const N: usize>(&self, x: usize, y: usize) -> &[u8; N] {
        self.data[y * self.width + x..].first_chunk().expect("blocks lie inside the band")
    }

    /// The same, to write to.
    #[inline(always)]
    pub fn row_mut<const N: usize>(&mut self, x: usize, y: usize) -> &mut [u8; N] {
        let start = y * self.width + x;
        self.data[start..].first_chunk_mut().expect("blocks lie inside the band")
    }

    /// `N` samples from a position down.
    #[inline(always)]
    pub fn column<const N: usize>(&self, x: usize, y: usize) -> [u8; N] {
        let rows = &self.data[y * self.width + x..][..(N - 1) * self.width + 1];
        let mut column = [0; N];
        for (row, sample) in column.iter_mut().enumerate() {
            *sample = rows[row * self.width];
        }
        column
    }

    /// Writes a square block.
    #[inline(always)]
    pub fn put<const N: usize>(&mut self, x: usize, y: usize, block: &[[u8; N]; N]) {
        for (row, samples) in block.iter().enumerate() {
            *self.row_mut(x, y + row) = *samples;
        }
    }
}

/// Y, U and V of one frame.
#[derive(Debug, Clone)]
pub struct Planes {
    /// Luma.
    pub y: Plane,
    /// Chroma, U and V, of half luma's width and height or of the same.
    pub uv: [Plane; 2],
    /// Which of the two it is.
    pub chroma: Chroma,
}

impl Planes {
    /// Grey planes of so many macroblocks.
    pub fn new(columns: usize, rows: usize, chroma: Chroma) -> Self {
        let y = Plane::new(columns * 16, rows * 16);
        let plane = match chroma {
            Chroma::Yuv420 => Plane::new(columns * 8, rows * 8),
            Chroma::Yuv444 => y.clone(),
        };
        Self { y, uv: [plane.clone(), plane], chroma }
    }

    /// Bands of so many rows of macroblocks each, from the top down.
    pub fn bands(
        &mut self,
        rows: impl Iterator<Item = usize> + Clone,
    ) -> impl Iterator<Item = PlaneBands<'_>> {
        let edge = match self.chroma {
            Chroma::Yuv420 => 8,
            Chroma::Yuv444 => 16,
        };
        let [u, v] =
            self.uv.each_mut().map(|plane| plane.bands(rows.clone().map(move |n| n * edge)));
        let y = self.y.bands(rows.map(|n| n * 16));
        y.zip(u.zip(v)).map(|(y, (u, v))| PlaneBands { y, uv: [u, v] })
    }
}

/// The rows of a frame that one slice writes.
#[derive(Debug)]
pub struct PlaneBands<'a> {
    /// Luma.
    pub y: Band<'a>,
    /// Chroma, U and V.
    pub uv: [Band<'a>; 2],
}

impl PlaneBands<'_> {
    /// Copies one macroblock from another frame, in which this band's first row of macroblocks is
    /// `top`.
    pub fn copy_macroblock<const FULL: bool>(
        &mut self,
        from: &Planes,
        (column, row): (usize, usize),
        top: usize,
    ) {
        let there = top + row;
        copy::<16>(&mut self.y, &from.y, (column, row), there);
        for (to, from) in self.uv.iter_mut().zip(&from.uv) {
            if FULL {
                copy::<16>(to, from, (column, row), there);
            } else {
                copy::<8>(to, from, (column, row), there);
            }
        }
    }
}

/// Copies a block from another frame, where it is in row `there` of blocks.
#[inline(always)]
fn copy<const N: usize>(
    to: &mut Band<'_>,
    from: &Plane,
    (column, row): (usize, usize),
    there: usize,
) {
    for line in 0..N {
        *to.row_mut::<N>(column * N, row * N + line) = *from.row(column * N, there * N + line);
    }
}

/// The samples of one macroblock: of the picture to encode, or of its prediction.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// Luma.
    pub y: [[u8; 16]; 16],
    /// Chroma of 4:2:0, U and V.
    pub uv: [[[u8; 8]; 8]; 2],
    /// Chroma of 4:4:4. Only one of the two is ever filled in.
    pub full: [[[u8; 16]; 16]; 2],
}

impl Samples {
    /// Reads luma alone.
    pub fn read_luma(picture: &Picture, column: usize, row: usize, y: &mut [[u8; 16]; 16]) {
        let (width, height) = (picture.size().0 as usize, picture.size().1 as usize);
        let at = (column * 16, row * 16);
        read(picture.planes()[0], picture.strides()[0], (width, height), at, y);
    }

    /// Reads a macroblock; beyond the picture's edges its last row and column go on.
    #[inline]
    pub fn read<const FULL: bool>(&mut self, picture: &Picture, column: usize, row: usize) {
        let (width, height) = (picture.size().0 as usize, picture.size().1 as usize);
        let ([y, u, v], strides) = (picture.planes(), picture.strides());
        read(y, strides[0], (width, height), (column * 16, row * 16), &mut self.y);
        if FULL {
            for (plane, block) in [u, v].into_iter().zip(&mut self.full) {
                let at = (column * 16, row * 16);
                read(plane, strides[1], (width, height), at, block);
            }
        } else {
            for (plane, block) in [u, v].into_iter().zip(&mut self.uv) {
                let size = (width / 2, height / 2);
                read(plane, strides[1], size, (column * 8, row * 8), block);
            }
        }
    }
}

#[inline]
fn read<const N: usize>(
    plane: &[u8],
    stride: usize,
    (width, height): (usize, usize),
    (x, y): (usize, usize),
    block: &mut [[u8; N]; N],
) {
    if x + N <= width && y + N <= height {
        let inside = &plane[y * stride + x..][..(N - 1) * stride + N];
        for (row, samples) in block.iter_mut().enumerate() {
            samples.copy_from_slice(&inside[row * stride..][..N]);
        }
        return;
    }
    for (row, samples) in block.iter_mut().enumerate() {
        let line = &plane[(y + row).min(height - 1) * stride..][..width];
        for (column, sample) in samples.iter_mut().enumerate() {
            *sample = line[(x + column).min(width - 1)];
        }
    }
}
