//! From a framebuffer id to bytes: GETFB2, PRIME, mmap, or a linear view by the GPU's driver.
//!
//! Every GETFB2 makes new buffer handles in our name: they are closed before this file returns,
//! or each frame would leak one. Mappings are kept by the identity of the buffer behind them
//! (the dma-buf's inode), because framebuffer ids are used again for other buffers, and a fresh
//! mapping costs a page fault for every 4 KiB.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use drm::buffer::{DrmFourcc, DrmModifier, Handle};
use drm::control::{Device as _, framebuffer, from_u32};
use transom_protocol::message::Unreadable;

use super::linear::message::Layout;
use super::linear::{Linear, Reading, Way};
use crate::pixels::PixelFormat;
use crate::sys::dmabuf::Mapping;
use crate::sys::kms::Card;

/// A compositor flips between two or three buffers; one more for the cursor.
const KEPT: usize = 5;

/// Wider or higher pictures are not believed.
const MAX_EDGE: u32 = 16_384;

/// A framebuffer whose bytes can be read.
#[derive(Debug)]
pub struct Framebuffer<'a> {
    /// How its pixels are laid out.
    pub format: PixelFormat,
    /// What the kernel calls that.
    pub fourcc: u32,
    /// DRM format modifier.
    pub modifier: u64,
    /// Columns and rows.
    pub size: (u32, u32),
    /// Bytes from one row to the next.
    pub pitch: usize,
    /// Bytes in front of the first pixel.
    pub offset: usize,
    /// The bytes.
    pub mapping: &'a Mapping,
    /// What made them, where they are not the buffer's own: see [`Linear::describe`].
    pub by: Option<String>,
    /// The buffer as its GPU takes it, and how it lies there.
    dmabuf: Option<(OwnedFd, u32, u32)>,
}

/// A scanout as a GPU sees it.
#[derive(Debug)]
pub struct Dmabuf {
    /// The buffer.
    pub fd: OwnedFd,
    /// DRM FourCC.
    pub fourcc: u32,
    /// DRM format modifier.
    pub modifier: u64,
    /// Columns and rows of the framebuffer.
    pub size: (u32, u32),
    /// Bytes from one row to the next.
    pub pitch: u32,
    /// Bytes in front of the first pixel.
    pub offset: u32,
    /// The first column and row that are shown.
    pub start: (u32, u32),
}

impl Framebuffer<'_> {
    /// For a GPU, with a descriptor of its own; `None` where the kernel exports none.
    pub fn dmabuf(&self, start: (u32, u32)) -> Option<Dmabuf> {
        let (fd, pitch, offset) = match &self.dmabuf {
            Some((fd, pitch, offset)) => (fd.as_fd(), *pitch, *offset),
            None if self.by.is_some() => return None,
            None => {
                let (pitch, offset) = (self.pitch.try_into().ok()?, self.offset.try_into().ok()?);
                (self.mapping.dmabuf()?, pitch, offset)
            }
        };
        Some(Dmabuf {
            fd: fd.try_clone_to_owned().ok()?,
            fourcc: self.fourcc,
            modifier: self.modifier,
            size: self.size,
            pitch,
            offset,
            start,
        })
    }
}

/// Why a framebuffer cannot be read.
#[derive(Debug)]
pub enum Refused {
    /// It went away between two system calls: look again.
    Gone(io::Error),
    /// It is there, and this is what stands in the way.
    Unreadable {
        /// Columns and rows, 0 where not known.
        size: (u32, u32),
        /// DRM FourCC.
        fourcc: u32,
        /// DRM format modifier.
        modifier: u64,
        /// The reason.
        why: Unreadable,
    },
}

/// How the bytes of a buffer were found.
enum Found {
    /// At an index of the mappings.
    Mapped(usize),
    /// In the linear view of what lies in these.
    Linear(Vec<OwnedFd>),
}

#[derive(Debug)]
struct Buffer {
    inode: u64,
    length: usize,
    mapping: Mapping,
    used: u64,
}

/// The mappings of one card.
#[derive(Debug, Default)]
pub struct Buffers {
    reading: Reading,
    patient: bool,
    buffers: Vec<Buffer>,
    clock: u64,
    linear: Option<Linear>,
}

impl Buffers {
    /// None yet, to be read in this way.
    pub fn new(reading: Reading) -> Self {
        Self { reading, ..Self::default() }
    }

    /// The same for who waits until a GPU's driver is loaded, rather than looking again.
    pub fn patient(reading: Reading) -> Self {
        Self { reading, patient: true, ..Self::default() }
    }

    /// The bytes behind a framebuffer id.
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    pub fn fetch(
        &mut self,
        card: &Card,
        fb: framebuffer::Handle,
    ) -> Result<Framebuffer<'_>, Refused> {
        // The raw call: the crate's own would lose the handles of formats that it cannot name.
        let info =
            drm_ffi::mode::get_framebuffer2(card.as_fd(), fb.into()).map_err(Refused::Gone)?;
        let handles = Handles { card, handles: info.handles.map(from_u32) };
        let size = (info.width, info.height);
        let told = info.flags & drm_ffi::DRM_MODE_FB_MODIFIERS != 0;
        let told = told.then_some(info.modifier[0]);
        let modifier = told.unwrap_or(DrmModifier::Linear.into());
        let refuse = |why| Refused::Unreadable { size, fourcc: info.pixel_format, modifier, why };

        let format = DrmFourcc::try_from(info.pixel_format)
            .ok()
            .and_then(PixelFormat::from_fourcc)
            .ok_or_else(|| refuse(Unreadable::Format))?;
        if size.0 == 0 || size.1 == 0 || size.0 > MAX_EDGE || size.1 > MAX_EDGE {
            return Err(refuse(Unreadable::Size));
        }
        let handle = handles.handles[0].ok_or_else(|| refuse(Unreadable::NotPermitted))?;
        let (pitch, offset) = (info.pitches[0], info.offsets[0]);
        let row = size.0 as usize * format.bytes();
        if (pitch as usize) < row {
            return Err(refuse(Unreadable::Map(nix::libc::EINVAL)));
        }
        // Whatever fails last is why it cannot be read.
        let (mut found, mut why) = (None, Unreadable::Tiled);
        for way in self.reading.ways(&card.driver, told) {
            match way {
                Way::Map => {
                    let length = offset as usize + pitch as usize * (size.1 as usize - 1) + row;
                    match self.map(card, handle, length) {
                        Ok(index) => found = Some(Found::Mapped(index)),
                        Err(error) => why = Unreadable::Map(error.raw_os_error().unwrap_or(0)),
                    }
                }
                Way::Gbm => {
                    let planes = handles.planes().map(|(n, _)| (info.pitches[n], info.offsets[n]));
                    let layout = Layout {
                        fourcc: info.pixel_format,
                        modifier: told.unwrap_or(DrmModifier::Invalid.into()),
                        size,
                        bytes: format.bytes() as u8,
                        planes: planes.collect(),
                    };
                    found = self.view(card, &layout, &handles).map(Found::Linear);
                }
            }
            if found.is_some() {
                break;
            }
        }
        let found = found.ok_or_else(|| refuse(why))?;
        let (fourcc, bytes) = (info.pixel_format, (pitch as usize, offset as usize));
        let (mapping, by, dmabuf, (pitch, offset)) = match found {
            Found::Mapped(index) => (&self.buffers[index].mapping, None, None, bytes),
            Found::Linear(fds) => {
                let linear = self.linear.as_ref();
                let Some((linear, view)) = linear.and_then(|l| Some((l, l.last()?))) else {
                    return Err(refuse(Unreadable::Tiled));
                };
                // Of several planes an encoder would have to be told, too.
                let fd = <[OwnedFd; 1]>::try_from(fds).ok().map(|[fd]| fd);
                let dmabuf = fd.map(|fd| (fd, pitch, offset));
                (view, Some(linear.describe()), dmabuf, (row, 0))
            }
        };
        Ok(Framebuffer { format, fourcc, modifier, size, pitch, offset, mapping, by, dmabuf })
    }

    /// Has the GPU's driver make a linear view of a buffer, and yields what it lies in. Why there is
    /// none is in the log.
    fn view(
        &mut self,
        card: &Card,
        layout: &Layout,
        handles: &Handles<'_>,
    ) -> Option<Vec<OwnedFd>> {
        let fds = handles.planes().map(|(_, handle)| card.export(handle));
        let fds: Vec<_> = fds.collect::<io::Result<_>>().ok()?;
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let patient = self.patient;
        let linear = self.linear.get_or_insert_with(|| {
            let linear = Linear::new(&card.renderer());
            if patient { linear.patient() } else { linear }
        });
        linear.view(layout, &borrowed).ok()?;
        Some(fds)
    }

    /// Index of a mapping of at least `length` bytes of a buffer.
    fn map(&mut self, card: &Card, handle: Handle, length: usize) -> io::Result<usize> {
        self.clock += 1;
        let (inode, dmabuf) = match card.export(handle) {
            Ok(dmabuf) => (nix::sys::stat::fstat(&dmabuf)?.st_ino, Some(dmabuf)),
            // Without PRIME a buffer has no identity: map it anew at every look.
            Err(_) => (0, None),
        };
        let known = |b: &Buffer| inode != 0 && b.inode == inode && b.length >= length;
        if let Some(index) = self.buffers.iter().position(known) {
            self.buffers[index].used = self.clock;
            return Ok(index);
        }
        self.buffers.retain(|buffer| buffer.inode != inode);
        let mapping = match dmabuf {
            Some(dmabuf) => Mapping::of_dmabuf(dmabuf, length)?,
            None => Mapping::of_card(card.as_fd(), card.dumb_offset(handle)?, length)?,
        };
        if self.buffers.len() >= KEPT
            && let Some(oldest) = (0..self.buffers.len()).min_by_key(|&i| self.buffers[i].used)
        {
            self.buffers.swap_remove(oldest);
        }
        self.buffers.push(Buffer { inode, length, mapping, used: self.clock });
        Ok(self.buffers.len() - 1)
    }
}

/// Buffer handles that one GETFB2 made, closed on drop; planes may share one.
struct Handles<'a> {
    card: &'a Card,
    handles: [Option<Handle>; 4],
}

impl Handles<'_> {
    /// The planes that there are, with the buffers that they lie in.
    fn planes(&self) -> impl Iterator<Item = (usize, Handle)> {
        self.handles.iter().map_while(|handle| *handle).enumerate()
    }
}

impl Drop for Handles<'_> {
    fn drop(&mut self) {
        for index in 0..self.handles.len() {
            if let Some(handle) = self.handles[index]
                && !self.handles[..index].contains(&Some(handle))
            {
                // Nothing can be done about a handle that is gone already.
                let _ = self.card.close_buffer(handle);
            }
        }
    }
}
