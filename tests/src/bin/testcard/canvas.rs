//! Pictures in memory that a card can show: dumb buffers, in any format and pitch.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Result, bail};
use drm::buffer::{Buffer as _, DrmFourcc, DrmModifier, Handle, PlanarBuffer};
use drm::control::dumbbuffer::{DumbBuffer, DumbMapping};
use drm::control::{Device as _, FbCmd2Flags, framebuffer};
use transom_tests::Picture;
use transom_tests::card::Format;

/// An open DRM card.
pub struct Card(pub File);

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
impl drm::Device for Card {}
impl drm::control::Device for Card {}

/// A picture in memory that the screen can show.
pub struct Canvas {
    /// The memory.
    pub buffer: DumbBuffer,
    /// What a plane shows.
    pub fb: framebuffer::Handle,
    map: DumbMapping<'static>,
    /// How a pixel lies in memory.
    pub format: Format,
    /// Pixels per row, and rows.
    pub size: (usize, usize),
}

/// What [`Card`] needs to be told about a canvas.
struct Layout(Handle, DrmFourcc, (u32, u32), u32);

impl PlanarBuffer for Layout {
    fn size(&self) -> (u32, u32) {
        self.2
    }
    fn format(&self) -> DrmFourcc {
        self.1
    }
    fn modifier(&self) -> Option<DrmModifier> {
        None
    }
    fn pitches(&self) -> [u32; 4] {
        [self.3, 0, 0, 0]
    }
    fn handles(&self) -> [Option<Handle>; 4] {
        [Some(self.0), None, None, None]
    }
    fn offsets(&self) -> [u32; 4] {
        [0; 4]
    }
}

impl Canvas {
    /// Makes a black one whose rows are `extra` pixels longer than shown.
    pub fn new(card: &Card, (w, h): (u32, u32), format: Format, extra: u32) -> Result<Self> {
        let fourcc = match format {
            Format::Xrgb8888 => DrmFourcc::Xrgb8888,
            Format::Argb8888 => DrmFourcc::Argb8888,
            Format::Xbgr8888 => DrmFourcc::Xbgr8888,
            Format::Abgr8888 => DrmFourcc::Abgr8888,
            Format::Xrgb2101010 => DrmFourcc::Xrgb2101010,
            Format::Xbgr2101010 => DrmFourcc::Xbgr2101010,
            Format::Rgb565 => DrmFourcc::Rgb565,
        };
        let bits = format.bytes() as u32 * 8;
        let buffer = card.create_dumb_buffer((w + extra, h), fourcc, bits)?;
        let layout = Layout(buffer.handle(), fourcc, (w, h), buffer.pitch());
        let fb = match card.add_planar_framebuffer(&layout, FbCmd2Flags::empty()) {
            Ok(fb) => fb,
            Err(error) => {
                card.destroy_dumb_buffer(buffer)?;
                bail!("unsupported: the card takes no {}: {error}", format.name());
            }
        };
        // The mapping borrows its handle; a few bytes per mode are lent for good.
        let map = card.map_dumb_buffer(Box::leak(Box::new(buffer)))?;
        Ok(Self { buffer, fb, map, format, size: (w as usize, h as usize) })
    }

    /// The pixels of a row.
    pub fn row(&mut self, y: usize) -> &mut [u8] {
        let (pitch, used) = (self.buffer.pitch() as usize, self.size.0 * self.format.bytes());
        &mut self.map[y * pitch..][..used]
    }

    /// Becomes like another one of the same form.
    pub fn copy_from(&mut self, other: &Self) {
        self.map.copy_from_slice(&other.map);
    }

    /// Draws a picture of the same size.
    pub fn draw(&mut self, picture: &Picture) {
        let bytes = self.format.bytes();
        for (y, line) in picture.rgb.chunks_exact(picture.width * 3).enumerate() {
            let format = self.format;
            for (to, from) in self.row(y).chunks_exact_mut(bytes).zip(line.chunks_exact(3)) {
                to.copy_from_slice(&format.pack([from[0], from[1], from[2]])[..bytes]);
            }
        }
    }

    /// Fills a rectangle, as far as it lies inside.
    pub fn fill(&mut self, (x, y): (usize, usize), (w, h): (usize, usize), colour: [u8; 3]) {
        let (bytes, pixel) = (self.format.bytes(), self.format.pack(colour));
        let (right, bottom) = ((x + w).min(self.size.0), (y + h).min(self.size.1));
        for line in y..bottom {
            for to in self.row(line)[x * bytes..right * bytes].chunks_exact_mut(bytes) {
                to.copy_from_slice(&pixel[..bytes]);
            }
        }
    }

    /// Reads everything back.
    pub fn read(&mut self) -> Picture {
        let (format, (w, h)) = (self.format, self.size);
        let mut rgb = Vec::with_capacity(w * h * 3);
        for y in 0..h {
            rgb.extend(self.row(y).chunks_exact(format.bytes()).flat_map(|p| format.unpack(p)));
        }
        Picture { width: w, height: h, rgb }
    }

    /// Gives the memory back.
    pub fn free(self, card: &Card) -> Result<()> {
        card.destroy_framebuffer(self.fb)?;
        drop(self.map);
        Ok(card.destroy_dumb_buffer(self.buffer)?)
    }
}
