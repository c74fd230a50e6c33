//! Scanouts into surfaces: a dma-buf is imported, and the driver's video processing makes NV12 of it.
//!
//! In: a dma-buf and how pixels lie in it, as the kernel told. Out: a surface to encode. It believes
//! no layout that does not fit the buffer, and keeps the last few imports, for compositors flip
//! between the same buffers.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::rc::Rc;

use super::message::Layout;
use crate::sys::va::abi;
use crate::sys::va::{Config, Context, Display, Failure, Surface};

/// Buffers that a compositor flips between; imported once each.
const IMPORTS: usize = 5;

/// Video processing, from RGB to NV12.
#[derive(Debug)]
pub struct Converter {
    context: Context,
    target: Surface,
    imports: VecDeque<Import>,
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
        let target = Surface::new(display, size)?;
        let context = Context::new(config, size, &[&target])?;
        Ok(Self { context, target, imports: VecDeque::new() })
    }

    /// Where converted pictures are.
    pub fn target(&self) -> &Surface {
        &self.target
    }

    /// Converts the picture in a dma-buf.
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
        let part = abi::Rectangle {
            x: start.0 as i16,
            y: start.1 as i16,
            width: size.0 as u16,
            height: size.1 as u16,
        };
        let source = &self.imports[index].surface;
        let pipeline = self.context.conversion(source, &part)?;
        self.context.render(&self.target, &pipeline.buffer)?;
        self.target.sync()
    }
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
