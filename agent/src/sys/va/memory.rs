//! Images: the bytes of a surface, or bytes to be copied to one.
#![allow(unsafe_code)]

use std::ptr;
use std::rc::Rc;

use super::{Display, Failure, Surface, abi};

/// Formats of images here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pixels {
    /// Luma, and chroma of half the size behind it.
    Nv12,
    /// Blue, green, red, alpha.
    Bgra,
}

impl Pixels {
    fn format(self) -> abi::ImageFormat {
        let format = abi::ImageFormat { byte_order: 1, ..abi::ImageFormat::default() }; // VA_LSB_FIRST
        match self {
            Self::Nv12 => {
                abi::ImageFormat { fourcc: abi::FOURCC_NV12, bits_per_pixel: 12, ..format }
            }
            Self::Bgra => abi::ImageFormat {
                fourcc: abi::FOURCC_BGRA,
                bits_per_pixel: 32,
                depth: 32,
                red_mask: 0xff_0000,
                green_mask: 0xff00,
                blue_mask: 0xff,
                alpha_mask: 0xff00_0000,
                ..format
            },
        }
    }

    /// Bytes in a row of each plane, and rows.
    fn planes(self, (width, height): (u32, u32)) -> Vec<(usize, usize)> {
        let (width, height) = (width as usize, height as usize);
        match self {
            Self::Nv12 => vec![(width, height), (width, height / 2)],
            Self::Bgra => vec![(width * 4, height)],
        }
    }
}

/// Where the planes of an image lie, checked against its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLayout {
    /// Bytes from one row to the next, of luma and chroma, or of all pixels.
    pub pitches: [usize; 2],
    /// First bytes of luma and chroma, or of all pixels.
    pub offsets: [usize; 2],
    /// Bytes in all.
    pub length: usize,
}

impl ImageLayout {
    /// Believes a driver's description of an image for pictures of this even size, if all of it
    /// lies inside of the image.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn of(image: &abi::Image, pixels: Pixels, size: (u32, u32)) -> Result<Self, Failure> {
        let lie = |what: &str| Err(Failure::Lie(format!("the driver's image {what}: {image:?}")));
        let planes = pixels.planes(size);
        if image.format.fourcc != pixels.format().fourcc
            || image.num_planes as usize != planes.len()
        {
            return lie("has another format");
        }
        let pitches = [image.pitches[0] as usize, image.pitches[1] as usize];
        let offsets = [image.offsets[0] as usize, image.offsets[1] as usize];
        let length = image.data_size as usize;
        let mut ends = [0; 2];
        for (plane, (row, rows)) in planes.iter().enumerate() {
            let end = pitches[plane]
                .checked_mul(rows.saturating_sub(1))
                .and_then(|bytes| bytes.checked_add(offsets[plane] + row));
            match end {
                Some(end) if pitches[plane] >= *row && end <= length => ends[plane] = end,
                _ => return lie("is smaller than it says"),
            }
        }
        if planes.len() == 2 && (offsets[0]..ends[0]).contains(&offsets[1]) {
            return lie("has planes that overlap");
        }
        Ok(Self { pitches, offsets, length })
    }
}

/// An image.
#[derive(Debug)]
pub struct Image {
    display: Rc<Display>,
    image: abi::Image,
    layout: ImageLayout,
    size: (u32, u32),
}

impl Image {
    /// The surface's own bytes. Nothing is copied; not every driver can.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn derive(surface: &Surface, pixels: Pixels, size: (u32, u32)) -> Result<Self, Failure> {
        let (display, mut image) = (&surface.display, abi::Image::default());
        // SAFETY: the surface is alive; one image is written.
        let status =
            unsafe { (display.library.derive_image)(display.handle, surface.id, &raw mut image) };
        display.check("vaDeriveImage", status)?;
        Self::believe(display, image, pixels, size)
    }

    /// Bytes of its own, for [`Image::put`].
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn create(
        display: &Rc<Display>,
        pixels: Pixels,
        size: (u32, u32),
    ) -> Result<Self, Failure> {
        let mut format = pixels.format();
        let (width, height) = (size.0 as i32, size.1 as i32);
        let mut image = abi::Image::default();
        // SAFETY: the format is read, one image is written.
        let status = unsafe {
            (display.library.create_image)(
                display.handle,
                &raw mut format,
                width,
                height,
                &raw mut image,
            )
        };
        display.check("vaCreateImage", status)?;
        Self::believe(display, image, pixels, size)
    }

    fn believe(
        display: &Rc<Display>,
        image: abi::Image,
        pixels: Pixels,
        size: (u32, u32),
    ) -> Result<Self, Failure> {
        match ImageLayout::of(&image, pixels, size) {
            Ok(layout) => Ok(Self { display: Rc::clone(display), image, layout, size }),
            Err(error) => {
                // SAFETY: made by this display and not used afterwards.
                unsafe { (display.library.destroy_image)(display.handle, image.image_id) };
                Err(error)
            }
        }
    }

    /// Lets `fill` write its bytes.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn write(&mut self, fill: impl FnOnce(&mut [u8], ImageLayout)) -> Result<(), Failure> {
        let (library, handle) = (&self.display.library, self.display.handle);
        let mut data = ptr::null_mut();
        // SAFETY: one pointer is written.
        self.display.check("vaMapBuffer", unsafe {
            (library.map_buffer)(handle, self.image.buf, &raw mut data)
        })?;
        if data.is_null() {
            return Err(Failure::Lie("vaMapBuffer succeeds and maps nothing".into()));
        }
        // SAFETY: the driver has mapped as many bytes as its description says, for us alone until
        // they are unmapped.
        fill(
            unsafe { std::slice::from_raw_parts_mut(data.cast(), self.layout.length) },
            self.layout,
        );
        // SAFETY: mapped above.
        self.display
            .check("vaUnmapBuffer", unsafe { (library.unmap_buffer)(handle, self.image.buf) })
    }

    /// Copies it to a surface.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn put(&self, surface: &Surface) -> Result<(), Failure> {
        let (width, height) = self.size;
        // SAFETY: both are alive and as large as told.
        let status = unsafe {
            (self.display.library.put_image)(
                self.display.handle,
                surface.id,
                self.image.image_id,
                0,
                0,
                width,
                height,
                0,
                0,
                width,
                height,
            )
        };
        self.display.check("vaPutImage", status)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: made by this display and not used afterwards.
        unsafe {
            (self.display.library.destroy_image)(self.display.handle, self.image.image_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> abi::Image {
        let mut image =
            abi::Image { num_planes: 2, data_size: 64 * 48 * 3 / 2, ..Default::default() };
        image.format.fourcc = abi::FOURCC_NV12;
        image.pitches = [64, 64, 0];
        image.offsets = [0, 64 * 48, 0];
        image
    }

    #[test]
    fn only_layouts_that_fit_are_believed() {
        let size = (60, 48);
        assert!(ImageLayout::of(&image(), Pixels::Nv12, size).is_ok());
        assert!(ImageLayout::of(&image(), Pixels::Bgra, size).is_err());
        let wrong = |change: &dyn Fn(&mut abi::Image)| {
            let mut image = image();
            change(&mut image);
            ImageLayout::of(&image, Pixels::Nv12, size).expect_err("a lie")
        };
        wrong(&|i| i.pitches[0] = 1 << 30);
        wrong(&|i| i.pitches = [u32::MAX; 3]);
        wrong(&|i| i.pitches[1] = 59);
        wrong(&|i| i.offsets[1] = u32::MAX);
        wrong(&|i| i.offsets[1] = 64);
        wrong(&|i| i.offsets[0] = 64 * 60);
        wrong(&|i| i.data_size = 64 * 48);
        wrong(&|i| i.num_planes = 3);
        wrong(&|i| i.format.fourcc = 0);
    }
}
