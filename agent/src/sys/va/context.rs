//! Configurations, and contexts at work: pictures go in with what describes them.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::ptr;
use std::rc::Rc;

use super::abi::{self, ConfigAttrib, Id, Rectangle};
use super::{Buffer, Display, Failure, Surface};

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

/// A configuration at work on pictures of one size.
#[derive(Debug)]
pub struct Context {
    pub(super) id: Id,
    config: Config,
}

impl Context {
    pub(super) fn display(&self) -> &Rc<Display> {
        &self.config.display
    }

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
        self.render_all(target, buffers.iter().map(Buffer::id).collect())
    }

    /// The same with what video processing shall do, the lowest first.
    ///
    /// # Errors
    ///
    /// The driver's; the picture is lost.
    pub fn convert(&self, target: &Surface, layers: &[ConversionBuffer]) -> Result<(), Failure> {
        self.render_all(target, layers.iter().map(|layer| layer.buffer.id()).collect())
    }

    fn render_all(&self, target: &Surface, mut ids: Vec<Id>) -> Result<(), Failure> {
        let display = &self.config.display;
        let (library, handle) = (&display.library, display.handle);
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

    /// A buffer with regions of interest, which stay where they are until the driver has read them.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn regions(&self, regions: Box<[abi::Region]>, delta: bool) -> Result<Buffer, Failure> {
        let data = abi::Regions {
            num_roi: regions.len() as u32,
            max_delta_qp: abi::MOST_QP_DELTA,
            min_delta_qp: -abi::MOST_QP_DELTA,
            roi: regions.as_ptr(),
            roi_flags: if delta { abi::ROI_VALUE_IS_QP_DELTA } else { 0 },
            reserved: [0; 4],
        };
        let mut buffer = self.buffer(abi::BUFFER_MISC, &abi::Misc { kind: abi::MISC_ROI, data })?;
        buffer.keep(regions);
        Ok(buffer)
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

    /// Whether video processing can lay RGB with premultiplied alpha above its input.
    pub fn blends(&self) -> bool {
        let (display, none) = (&self.config.display, ptr::null_mut());
        // SAFETY: every field of this plain C structure may be zero.
        let mut caps: abi::PipelineCaps = unsafe { std::mem::zeroed() };
        // SAFETY: the context is alive; there are no filters; one structure is written.
        let status = unsafe {
            (display.library.pipeline_caps)(display.handle, self.id, none, 0, &raw mut caps)
        };
        status == 0 && caps.blend_flags & abi::BLEND_PREMULTIPLIED != 0
    }

    /// What video processing shall do: a part of `source`, to `at` of a surface, in the same size;
    /// `above` what is there already, or instead of it.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn conversion(
        &self,
        source: &Surface,
        part: &Rectangle,
        at: (i16, i16),
        above: bool,
    ) -> Result<ConversionBuffer, Failure> {
        let blend =
            Box::new(abi::Blend { flags: abi::BLEND_PREMULTIPLIED, ..abi::Blend::default() });
        let region = Box::new(*part);
        let output = Box::new(Rectangle { x: at.0, y: at.1, ..*part });
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
        if above {
            pipeline.blend_state = (&raw const *blend).cast();
        }
        pipeline.surface_color_standard = abi::COLOR_SRGB;
        pipeline.output_color_standard = abi::COLOR_BT709;
        pipeline.input_color_properties = color(abi::RANGE_FULL, 0);
        pipeline.output_color_properties = color(abi::RANGE_REDUCED, 1);
        let buffer = self.buffer(abi::BUFFER_PIPELINE, &pipeline)?;
        Ok(ConversionBuffer { buffer, _regions: [region, output], _blend: blend })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let display = &self.config.display;
        // SAFETY: made by this display and not used afterwards.
        unsafe { (display.library.destroy_context)(display.handle, self.id) };
    }
}

/// A pipeline buffer and what it points to.
#[derive(Debug)]
pub struct ConversionBuffer {
    buffer: Buffer,
    _regions: [Box<Rectangle>; 2],
    _blend: Box<abi::Blend>,
}
