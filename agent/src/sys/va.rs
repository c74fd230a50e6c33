//! VA-API behind safe calls: displays, configurations, surfaces, contexts, buffers and images that
//! know their display and end with their owner.
//!
//! What a driver says is checked before it is believed: lengths, pitches, offsets, the chain of
//! coded segments. What this cannot guard against is a driver that hangs or corrupts memory:
//! whoever calls it runs in a process of its own (`encode::vaapi`).
#![allow(unsafe_code)]

pub mod abi;
mod library;
mod memory;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;
use std::rc::Rc;

use abi::{ConfigAttrib, Id, PrimeSurface, Rectangle, SurfaceAttrib};
use library::Library;
pub use library::{Missing, check};
pub use memory::{Image, ImageLayout};

/// More than any driver has; what a driver says is not allocated unseen.
const MOST: c_int = 1024;
/// Segments of a coded buffer.
const SEGMENTS: usize = 256;

/// Why a driver's call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The driver or libva answered with a status other than success.
    #[error("{call}: {text} ({status})")]
    Call {
        /// The function.
        call: &'static str,
        /// `VAStatus`.
        status: i32,
        /// What libva calls it.
        text: String,
    },
    /// There is no libva.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The driver's answer makes no sense.
    #[error("{0}")]
    Lie(String),
}

/// Where libva finds its driver.
#[derive(Debug)]
pub enum Device {
    /// A DRM node.
    Drm(OwnedFd),
    /// The X server that `DISPLAY` names.
    X11,
}

/// An initialised display: a driver that is loaded.
pub struct Display {
    library: Library,
    handle: library::Handle,
    /// What libva and the driver complained about meanwhile.
    said: Box<std::cell::RefCell<Vec<String>>>,
    _device: Device,
}

impl std::fmt::Debug for Display {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Display").finish_non_exhaustive()
    }
}

/// Keeps the last few lines that libva says.
unsafe extern "C" fn listen(context: *mut c_void, message: *const c_char) {
    if context.is_null() || message.is_null() {
        return;
    }
    // SAFETY: `context` is the cell that the display owns, and outlives its handle; `message` is a
    // string that libva has just made.
    let (said, message) =
        unsafe { (&*context.cast::<std::cell::RefCell<Vec<String>>>(), CStr::from_ptr(message)) };
    if let Ok(mut said) = said.try_borrow_mut()
        && said.len() < 32
    {
        said.push(message.to_string_lossy().trim_end().to_owned());
    }
}

impl Display {
    /// Loads libva, and libva a driver.
    ///
    /// # Errors
    ///
    /// There is no libva, no driver, or the driver refuses; libva's own words are in the error.
    pub fn open(device: Device) -> Result<Rc<Self>, Failure> {
        let library = Library::load()?;
        let handle = match &device {
            Device::Drm(fd) => library::drm_display(fd.as_raw_fd())?,
            Device::X11 => library::x11_display()?,
        };
        let said = Box::<std::cell::RefCell<Vec<String>>>::default();
        let context = ptr::from_ref(&*said).cast_mut().cast();
        let (mut major, mut minor) = (0, 0);
        // SAFETY: `handle` is a display; the cell lives until after `vaTerminate`.
        let status = unsafe {
            (library.set_info)(handle, None, ptr::null_mut());
            (library.set_error)(handle, Some(listen), context);
            (library.initialize)(handle, &raw mut major, &raw mut minor)
        };
        let this = Self { library, handle, said, _device: device };
        match this.check("vaInitialize", status) {
            Ok(()) => Ok(Rc::new(this)),
            Err(Failure::Call { call, status, text }) => {
                let said = this.said.borrow().join("; ");
                let text = if said.is_empty() { text } else { format!("{text}: {said}") };
                Err(Failure::Call { call, status, text })
            }
            Err(error) => Err(error),
        }
    }

    fn check(&self, call: &'static str, status: abi::Status) -> Result<(), Failure> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: yields a constant string for every number.
        let text = unsafe { CStr::from_ptr((self.library.error_text)(status)) };
        Err(Failure::Call { call, status, text: text.to_string_lossy().into_owned() })
    }

    /// What the driver calls itself.
    pub fn vendor(&self) -> String {
        // SAFETY: yields null or a string of the driver.
        unsafe {
            let text = (self.library.vendor)(self.handle);
            if text.is_null() {
                return String::new();
            }
            CStr::from_ptr(text).to_string_lossy().chars().take(200).collect()
        }
    }

    /// The profiles that the driver has.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn profiles(&self) -> Result<Vec<c_int>, Failure> {
        // SAFETY: no preconditions.
        let most = unsafe { (self.library.max_profiles)(self.handle) };
        // SAFETY: the list has room for as many as the driver announced.
        list("vaMaxNumProfiles", most, |list, count| unsafe {
            (self.library.profiles)(self.handle, list, count)
        })
        .and_then(|(status, list)| self.check("vaQueryConfigProfiles", status).map(|()| list))
    }

    /// The entrypoints of a profile.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn entrypoints(&self, profile: c_int) -> Result<Vec<c_int>, Failure> {
        // SAFETY: no preconditions.
        let most = unsafe { (self.library.max_entrypoints)(self.handle) };
        // SAFETY: as above.
        list("vaMaxNumEntrypoints", most, |list, count| unsafe {
            (self.library.entrypoints)(self.handle, profile, list, count)
        })
        .and_then(|(status, list)| self.check("vaQueryConfigEntrypoints", status).map(|()| list))
    }

    /// An attribute of a profile and entrypoint; `None` where the driver does not know it.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn attribute(
        &self,
        profile: c_int,
        entrypoint: c_int,
        kind: c_int,
    ) -> Result<Option<u32>, Failure> {
        let mut attribute = ConfigAttrib { kind, value: 0 };
        // SAFETY: one attribute is read and written.
        let status = unsafe {
            (self.library.attributes)(self.handle, profile, entrypoint, &raw mut attribute, 1)
        };
        self.check("vaGetConfigAttributes", status)?;
        Ok((attribute.value != abi::NOT_SUPPORTED).then_some(attribute.value))
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        // SAFETY: all objects hold the display, so that none is left.
        unsafe { (self.library.terminate)(self.handle) };
    }
}

/// Calls a function that fills a list whose greatest length the driver has told.
fn list(
    call: &'static str,
    most: c_int,
    fill: impl FnOnce(*mut c_int, *mut c_int) -> abi::Status,
) -> Result<(abi::Status, Vec<c_int>), Failure> {
    if !(0..=MOST).contains(&most) {
        return Err(Failure::Lie(format!("{call} says {most}")));
    }
    let (mut list, mut count) = (vec![0; most as usize], most);
    let status = fill(list.as_mut_ptr(), &raw mut count);
    list.truncate(count.clamp(0, most) as usize);
    Ok((status, list))
}

/// A configuration.
#[derive(Debug)]
pub struct Config {
    display: Rc<Display>,
    id: Id,
}

impl Config {
    /// A configuration of a profile and entrypoint.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn new(
        display: &Rc<Display>,
        profile: c_int,
        entrypoint: c_int,
        attributes: &[ConfigAttrib],
    ) -> Result<Self, Failure> {
        let (mut attributes, mut id) = (attributes.to_vec(), abi::INVALID_ID);
        // SAFETY: the list is as long as told.
        let status = unsafe {
            (display.library.create_config)(
                display.handle,
                profile,
                entrypoint,
                attributes.as_mut_ptr(),
                attributes.len() as c_int,
                &raw mut id,
            )
        };
        display.check("vaCreateConfig", status)?;
        Ok(Self { display: Rc::clone(display), id })
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: made by this display and not used afterwards.
        unsafe { (self.display.library.destroy_config)(self.display.handle, self.id) };
    }
}

/// A picture that the driver can work on.
#[derive(Debug)]
pub struct Surface {
    display: Rc<Display>,
    id: Id,
}

impl Surface {
    /// A surface in the driver's own memory, NV12.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn new(display: &Rc<Display>, (width, height): (u32, u32)) -> Result<Self, Failure> {
        let fourcc = abi::GenericValue {
            kind: abi::VALUE_INTEGER,
            value: abi::GenericUnion { i: abi::FOURCC_NV12 as i32 },
        };
        let mut list = [SurfaceAttrib {
            kind: abi::SURFACE_PIXEL_FORMAT,
            flags: abi::SETTABLE,
            value: fourcc,
        }];
        Self::create(display, abi::RT_FORMAT_YUV420, (width, height), &mut list)
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

/// A configuration at work on pictures of one size.
#[derive(Debug)]
pub struct Context {
    id: Id,
    config: Config,
}

impl Context {
    /// A context for pictures of one size, whose surfaces are known beforehand.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn new(
        config: Config,
        (width, height): (u32, u32),
        targets: &[&Surface],
    ) -> Result<Self, Failure> {
        let mut targets: Vec<Id> = targets.iter().map(|surface| surface.id).collect();
        let (display, mut id) = (&config.display, abi::INVALID_ID);
        // SAFETY: the list is as long as told.
        let status = unsafe {
            (display.library.create_context)(
                display.handle,
                config.id,
                width as c_int,
                height as c_int,
                abi::PROGRESSIVE,
                targets.as_mut_ptr(),
                targets.len() as c_int,
                &raw mut id,
            )
        };
        display.check("vaCreateContext", status)?;
        Ok(Self { id, config })
    }

    /// One picture: hands these buffers over and starts the work.
    ///
    /// # Errors
    ///
    /// The driver's; the picture is lost.
    pub fn render(&self, target: &Surface, buffers: &[Buffer]) -> Result<(), Failure> {
        let display = &self.config.display;
        let (library, handle) = (&display.library, display.handle);
        let mut ids: Vec<Id> = buffers.iter().map(|buffer| buffer.id).collect();
        // SAFETY: context, surface and buffers are alive, the list is as long as told.
        unsafe {
            display.check("vaBeginPicture", (library.begin_picture)(handle, self.id, target.id))?;
            let (list, count) = (ids.as_mut_ptr(), ids.len() as c_int);
            let rendered = (library.render_picture)(handle, self.id, list, count);
            // A picture that was begun has to be ended, or the context is of no more use.
            let ended = (library.end_picture)(handle, self.id);
            display.check("vaRenderPicture", rendered)?;
            display.check("vaEndPicture", ended)
        }
    }

    /// A buffer with a structure of libva; `kind` has to be the one that goes with it.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn buffer<T: Copy>(&self, kind: c_int, value: &T) -> Result<Buffer, Failure> {
        Buffer::new(self, kind, size_of::<T>(), ptr::from_ref(value).cast())
    }

    /// A buffer with bytes.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn bytes(&self, kind: c_int, bytes: &[u8]) -> Result<Buffer, Failure> {
        Buffer::new(self, kind, bytes.len(), bytes.as_ptr().cast())
    }

    /// A buffer for what the encoder writes.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn coded(&self, size: usize) -> Result<Buffer, Failure> {
        Buffer::new(self, abi::BUFFER_CODED, size, ptr::null())
    }

    /// What video processing shall do: all of `source` into all of a surface of the same size.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn conversion(
        &self,
        source: &Surface,
        part: &Rectangle,
    ) -> Result<ConversionBuffer, Failure> {
        let region = Box::new(*part);
        let output = Box::new(Rectangle { x: 0, y: 0, ..*part });
        let color = |range, matrix| abi::ColorProperties {
            color_range: range,
            matrix_coefficients: matrix,
            ..abi::ColorProperties::default()
        };
        // SAFETY: every field of this plain C structure may be zero.
        let mut pipeline: abi::Pipeline = unsafe { std::mem::zeroed() };
        pipeline.surface = source.id;
        pipeline.surface_region = &raw const *region;
        pipeline.output_region = &raw const *output;
        pipeline.output_background_color = 0xff00_0000;
        pipeline.surface_color_standard = abi::COLOR_SRGB;
        pipeline.output_color_standard = abi::COLOR_BT709;
        pipeline.input_color_properties = color(abi::RANGE_FULL, 0);
        pipeline.output_color_properties = color(abi::RANGE_REDUCED, 1);
        let buffer = self.buffer(abi::BUFFER_PIPELINE, &pipeline)?;
        Ok(ConversionBuffer { buffer: [buffer], _regions: [region, output] })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let display = &self.config.display;
        // SAFETY: made by this display and not used afterwards.
        unsafe { (display.library.destroy_context)(display.handle, self.id) };
    }
}

/// A pipeline buffer and the rectangles that it points to.
#[derive(Debug)]
pub struct ConversionBuffer {
    /// For [`Context::render`].
    pub buffer: [Buffer; 1],
    _regions: [Box<Rectangle>; 2],
}

/// A buffer of parameters, or of what was encoded.
#[derive(Debug)]
pub struct Buffer {
    display: Rc<Display>,
    id: Id,
    size: usize,
}

impl Buffer {
    fn new(
        context: &Context,
        kind: c_int,
        size: usize,
        data: *const c_void,
    ) -> Result<Self, Failure> {
        let (display, mut id) = (&context.config.display, abi::INVALID_ID);
        // SAFETY: `data` is null or has `size` bytes, which libva copies.
        let status = unsafe {
            (display.library.create_buffer)(
                display.handle,
                context.id,
                kind,
                size as u32,
                1,
                data.cast_mut(),
                &raw mut id,
            )
        };
        display.check("vaCreateBuffer", status)?;
        Ok(Self { display: Rc::clone(display), id, size })
    }

    /// libva's number of it.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Copies what was encoded to `out`; yields the status word of the last segment.
    ///
    /// # Errors
    ///
    /// The driver's, or it describes more than the buffer can hold.
    pub fn read_coded(&self, out: &mut Vec<u8>) -> Result<u32, Failure> {
        let (library, handle) = (&self.display.library, self.display.handle);
        let mut data = ptr::null_mut();
        // SAFETY: maps the buffer; one pointer is written.
        self.display.check("vaMapBuffer", unsafe {
            (library.map_buffer)(handle, self.id, &raw mut data)
        })?;
        // SAFETY: the driver yields a chain of segments, valid until the buffer is unmapped; each
        // length is checked against the size of the buffer that they lie in.
        let result = unsafe { read_segments(data.cast(), self.size, out) };
        // SAFETY: mapped above.
        self.display.check("vaUnmapBuffer", unsafe { (library.unmap_buffer)(handle, self.id) })?;
        result
    }
}

/// # Safety
///
/// `segment` is null or the first of a chain of segments, all of which stay meanwhile.
unsafe fn read_segments(
    mut segment: *const abi::CodedSegment,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<u32, Failure> {
    let mut status = 0;
    for _ in 0..SEGMENTS {
        if segment.is_null() {
            return Ok(status);
        }
        // SAFETY: not null, so it is a segment (see above).
        let this = unsafe { *segment };
        let size = this.size as usize;
        if size > limit.saturating_sub(out.len()) || (size > 0 && this.buf.is_null()) {
            return Err(Failure::Lie(format!(
                "a coded segment of {size} bytes in a buffer of {limit}"
            )));
        }
        if size > 0 {
            // SAFETY: the driver says that so many bytes are there, and the buffer can hold them.
            out.extend_from_slice(unsafe { std::slice::from_raw_parts(this.buf.cast(), size) });
        }
        status |= this.status;
        segment = this.next.cast();
    }
    Err(Failure::Lie("a chain of coded segments without an end".into()))
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: made by this display and not used afterwards.
        unsafe { (self.display.library.destroy_buffer)(self.display.handle, self.id) };
    }
}
