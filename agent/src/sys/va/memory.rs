//! Images: the bytes of a surface, or bytes to be copied to one.
#![allow(unsafe_code)]

use std::ptr;
use std::rc::Rc;

use super::{Display, Failure, Surface, abi};

/// Where the planes of an NV12 image lie, checked against its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLayout {
    /// Bytes from one row to the next, of luma and chroma.
    pub pitches: [usize; 2],
    /// First bytes of luma and chroma.
    pub offsets: [usize; 2],
    /// Bytes in all.
    pub length: usize,
}

impl ImageLayout {
    /// Believes a driver's description of an NV12 image for pictures of this even size, if all of
    /// it lies inside of the image.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn of(image: &abi::Image, (width, height): (u32, u32)) -> Result<Self, Failure> {
        let lie = |what: &str| Err(Failure::Lie(format!("the driver's image {what}: {image:?}")));
        if image.format.fourcc != abi::FOURCC_NV12 || image.num_planes != 2 {
            return lie("is not NV12");
        }
        let pitches = [image.pitches[0] as usize, image.pitches[1] as usize];
        let offsets = [image.offsets[0] as usize, image.offsets[1] as usize];
        let length = image.data_size as usize;
        for (plane, rows) in [(0, height as usize), (1, height as usize / 2)] {
            let end = pitches[plane]
                .checked_mul(rows.saturating_sub(1))
                .and_then(|bytes| bytes.checked_add(offsets[plane] + width as usize));
            if pitches[plane] < width as usize || end.is_none_or(|end| end > length) {
                return lie("is smaller than it says");
            }
        }
        let luma = offsets[0]..offsets[0] + pitches[0] * (height as usize - 1) + width as usize;
        if luma.contains(&offsets[1]) {
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
    pub fn derive(surface: &Surface, size: (u32, u32)) -> Result<Self, Failure> {
        let (display, mut image) = (&surface.display, abi::Image::default());
        // SAFETY: the surface is alive; one image is written.
        let status =
            unsafe { (display.library.derive_image)(display.handle, surface.id, &raw mut image) };
        display.check("vaDeriveImage", status)?;
        Self::believe(display, image, size)
    }

    /// Bytes of its own, for [`Image::put`].
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn create(display: &Rc<Display>, size: (u32, u32)) -> Result<Self, Failure> {
        let mut format = abi::ImageFormat {
            fourcc: abi::FOURCC_NV12,
            byte_order: 1, // VA_LSB_FIRST
            bits_per_pixel: 12,
            ..abi::ImageFormat::default()
        };
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
        Self::believe(display, image, size)
    }

    fn believe(
        display: &Rc<Display>,
        image: abi::Image,
        size: (u32, u32),
    ) -> Result<Self, Failure> {
        match ImageLayout::of(&image, size) {
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
        assert!(ImageLayout::of(&image(), size).is_ok());
        let wrong = |change: &dyn Fn(&mut abi::Image)| {
            let mut image = image();
            change(&mut image);
            ImageLayout::of(&image, size).expect_err("a lie")
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
