//! Scanouts into surfaces: a dma-buf is imported, and the driver's video processing makes NV12 of it.
//!
//! In: a dma-buf and how pixels lie in it, as the kernel told, and the cursor that lies above it. Out:
//! a surface to encode. It believes no layout that does not fit the buffer, and keeps the last few
//! imports, for compositors flip between the same buffers.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::rc::Rc;

use super::message::Layout;
use crate::sys::va::abi;
use crate::sys::va::{Config, Context, Display, Failure, Image, ImageLayout, Pixels, Surface};

/// Buffers that a compositor flips between; imported once each.
const IMPORTS: usize = 5;

/// Video processing, from RGB to NV12.
#[derive(Debug)]
pub struct Converter {
    context: Context,
    target: Surface,
    imports: VecDeque<Import>,
    blends: bool,
    overlay: Option<Overlay>,
}

/// A picture with premultiplied alpha, to lie above a scanout.
#[derive(Debug)]
struct Overlay {
    /// Dropped before the surface that it may be derived from.
    image: Image,
    derived: bool,
    surface: Surface,
    size: (u32, u32),
}

#[derive(Debug)]
struct Import {
    inode: u64,
    layout: Layout,
    surface: Surface,
}

impl Converter {
    /// For pictures of this size.
    ///
    /// # Errors
    ///
    /// The driver has no video processing.
    pub fn open(display: &Rc<Display>, size: (u32, u32)) -> Result<Self, Failure> {
        let config = Config::new(display, abi::PROFILE_NONE, abi::ENTRYPOINT_VIDEO_PROC, &[])?;
        let target = Surface::new(display, Pixels::Nv12, size)?;
        let context = Context::new(config, size, &[&target])?;
        let blends = context.blends();
        Ok(Self { context, target, imports: VecDeque::new(), blends, overlay: None })
    }

    /// Whether the driver lays pictures above one another.
    pub fn blends(&self) -> bool {
        self.blends
    }

    /// Brings the picture that lies above scanouts up to date: `fill` is given the bytes and where
    /// pixels lie.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn overlay(
        &mut self,
        display: &Rc<Display>,
        size: (u32, u32),
        fill: impl FnOnce(&mut [u8], ImageLayout),
    ) -> Result<(), Failure> {
        let overlay = match &mut self.overlay {
            Some(overlay) if overlay.size.0 >= size.0 && overlay.size.1 >= size.1 => overlay,
            other => other.insert(Overlay::new(display, size)?),
        };
        overlay.image.write(fill)?;
        if overlay.derived { Ok(()) } else { overlay.image.put(&overlay.surface) }
    }

    /// Where converted pictures are.
    pub fn target(&self) -> &Surface {
        &self.target
    }

    /// Converts the picture in a dma-buf, with the overlay in `above` of the picture, if any.
    ///
    /// # Errors
    ///
    /// The layout makes no sense, or the driver does not take this buffer.
    pub fn convert(
        &mut self,
        display: &Rc<Display>,
        fd: BorrowedFd<'_>,
        layout: Layout,
        size: (u32, u32),
        above: Option<[u32; 4]>,
    ) -> Result<(), Failure> {
        let fits = |start: u32, length: u32, whole: u32| {
            start.checked_add(length).is_some_and(|end| end <= whole && whole <= 16_384)
        };
        let Layout { start, size: whole, .. } = layout;
        if !fits(start.0, size.0, whole.0) || !fits(start.1, size.1, whole.1) {
            return Err(Failure::Lie(format!("{size:?} is not inside of {layout:?}")));
        }
        let stat = nix::sys::stat::fstat(fd).map_err(|error| Failure::Lie(error.to_string()))?;
        let known = |import: &Import| import.inode == stat.st_ino && import.layout == layout;
        let index = match self.imports.iter().position(known) {
            Some(index) => index,
            None => {
                let surface = import(display, fd, layout, stat.st_size)?;
                if self.imports.len() == IMPORTS {
                    self.imports.pop_front();
                }
                self.imports.push_back(Import { inode: stat.st_ino, layout, surface });
                self.imports.len() - 1
            }
        };
        let source = &self.imports[index].surface;
        let part = rectangle(start, size);
        let mut layers = vec![self.context.conversion(source, &part, (0, 0), false)?];
        if let Some([x, y, width, height]) = above {
            let missing = || Failure::Lie("there is nothing to lay above the scanout".into());
            let overlay = self.overlay.as_ref().ok_or_else(missing)?;
            let inside = fits(x, width, size.0)
                && fits(y, height, size.1)
                && fits(0, width, overlay.size.0)
                && fits(0, height, overlay.size.1);
            if !inside {
                return Err(Failure::Lie(format!("{above:?} is not inside of {size:?}")));
            }
            let part = rectangle((0, 0), (width, height));
            let at = (x as i16, y as i16);
            layers.push(self.context.conversion(&overlay.surface, &part, at, true)?);
        }
        self.context.convert(&self.target, &layers)?;
        self.target.sync()
    }
}

impl Overlay {
    fn new(display: &Rc<Display>, size: (u32, u32)) -> Result<Self, Failure> {
        // Cursors differ by a row or column, as they lie at odd or even places: room for both.
        let size = (size.0.next_multiple_of(16), size.1.next_multiple_of(16));
        let surface = Surface::new(display, Pixels::Bgra, size)?;
        let (image, derived) = match Image::derive(&surface, Pixels::Bgra, size) {
            Ok(image) => (image, true),
            Err(_) => (Image::create(display, Pixels::Bgra, size)?, false),
        };
        Ok(Self { image, derived, surface, size })
    }
}

fn rectangle((x, y): (u32, u32), (width, height): (u32, u32)) -> abi::Rectangle {
    abi::Rectangle { x: x as i16, y: y as i16, width: width as u16, height: height as u16 }
}

fn import(
    display: &Rc<Display>,
    fd: BorrowedFd<'_>,
    layout: Layout,
    length: i64,
) -> Result<Surface, Failure> {
    let mut buffer = abi::PrimeSurface {
        fourcc: va_fourcc(layout.fourcc)
            .ok_or_else(|| Failure::Lie(format!("no VA format for {:#x}", layout.fourcc)))?,
        width: layout.size.0,
        height: layout.size.1,
        num_objects: 1,
        num_layers: 1,
        ..abi::PrimeSurface::default()
    };
    buffer.objects[0] = abi::PrimeObject {
        fd: fd.as_raw_fd(),
        size: u32::try_from(length).unwrap_or(0),
        drm_format_modifier: layout.modifier,
    };
    buffer.layers[0].drm_format = layout.fourcc;
    buffer.layers[0].num_planes = 1;
    buffer.layers[0].offset[0] = layout.offset;
    buffer.layers[0].pitch[0] = layout.pitch;
    Surface::import(display, &buffer)
}

/// `VA_FOURCC_*` names bytes in memory, `DRM_FORMAT_*` words.
fn va_fourcc(drm: u32) -> Option<u32> {
    let va = match &drm.to_le_bytes() {
        b"XR24" => b"BGRX",
        b"AR24" => b"BGRA",
        b"XB24" => b"RGBX",
        b"AB24" => b"RGBA",
        _ => return None,
    };
    Some(u32::from_le_bytes(*va))
}
