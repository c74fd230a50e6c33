//! Surfaces: pictures that a driver can work on, in its own memory or in somebody else's dma-buf.
#![allow(unsafe_code)]

use std::rc::Rc;

use super::abi::{self, Id, PrimeSurface, SurfaceAttrib};
use super::{Display, Failure, Pixels};

/// A picture that the driver can work on.
#[derive(Debug)]
pub struct Surface {
    pub(super) display: Rc<Display>,
    pub(super) id: Id,
}

impl Surface {
    /// A surface in the driver's own memory.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn new(
        display: &Rc<Display>,
        pixels: Pixels,
        (width, height): (u32, u32),
    ) -> Result<Self, Failure> {
        let (format, fourcc) = match pixels {
            Pixels::Nv12 => (abi::RT_FORMAT_YUV420, abi::FOURCC_NV12),
            Pixels::Bgra => (abi::RT_FORMAT_RGB32, abi::FOURCC_BGRA),
        };
        let fourcc = abi::GenericValue {
            kind: abi::VALUE_INTEGER,
            value: abi::GenericUnion { i: fourcc as i32 },
        };
        let mut list = [SurfaceAttrib {
            kind: abi::SURFACE_PIXEL_FORMAT,
            flags: abi::SETTABLE,
            value: fourcc,
        }];
        Self::create(display, format, (width, height), &mut list)
    }

    /// A surface over a dma-buf of somebody else; the driver duplicates its descriptors.
    ///
    /// # Errors
    ///
    /// The driver takes no such buffer.
    pub fn import(display: &Rc<Display>, buffer: &PrimeSurface) -> Result<Self, Failure> {
        let mut buffer = *buffer;
        let memory = abi::GenericValue {
            kind: abi::VALUE_INTEGER,
            value: abi::GenericUnion { i: abi::MEMORY_DRM_PRIME_2 },
        };
        let external = abi::GenericValue {
            kind: abi::VALUE_POINTER,
            value: abi::GenericUnion { p: (&raw mut buffer).cast() },
        };
        let flags = abi::SETTABLE;
        let mut list = [
            SurfaceAttrib { kind: abi::SURFACE_MEMORY_TYPE, flags, value: memory },
            SurfaceAttrib { kind: abi::SURFACE_EXTERNAL, flags, value: external },
        ];
        let size = (buffer.width, buffer.height);
        Self::create(display, abi::RT_FORMAT_RGB32, size, &mut list)
    }

    fn create(
        display: &Rc<Display>,
        format: u32,
        (width, height): (u32, u32),
        list: &mut [SurfaceAttrib],
    ) -> Result<Self, Failure> {
        let mut id = abi::INVALID_ID;
        // SAFETY: one id is written, the list is as long as told, and what it points to lives.
        let status = unsafe {
            (display.library.create_surfaces)(
                display.handle,
                format,
                width,
                height,
                &raw mut id,
                1,
                list.as_mut_ptr(),
                list.len() as u32,
            )
        };
        display.check("vaCreateSurfaces", status)?;
        Ok(Self { display: Rc::clone(display), id })
    }

    /// libva's number of it.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Waits until the driver is done with it.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn sync(&self) -> Result<(), Failure> {
        // SAFETY: the surface is alive.
        let status = unsafe { (self.display.library.sync_surface)(self.display.handle, self.id) };
        self.display.check("vaSyncSurface", status)
    }
}

impl Drop for Surface {
    fn drop(&mut self) {
        // SAFETY: made by this display and not used afterwards.
        unsafe {
            (self.display.library.destroy_surfaces)(self.display.handle, &raw mut self.id, 1);
        }
    }
}
