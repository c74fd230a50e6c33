//! The encoder itself: one driver, one picture size.
//!
//! Low delay: no reordering, one reference, an IDR on request alone, a rate that is kept within
//! two frames. Everything that may differ between drivers is asked for and never assumed.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::rc::Rc;

use super::headers::{self, FRAME_NUM_BITS, INITIAL_QP, Stream};
use super::message::{self, Layout, Opened};
use crate::sys::va::abi::{self, ConfigAttrib, PictureH264};
use crate::sys::va::{Buffer, Config, Context, Display, Failure, Image, ImageLayout, Surface};

/// Buffers that a compositor flips between; imported once each.
const IMPORTS: usize = 5;
/// The rate is kept over this many frames.
const HRD_FRAMES: u64 = 2;
const FRAME_NUM_MASK: u32 = (1 << FRAME_NUM_BITS) - 1;

/// H.264 profiles, the first that a driver has is taken: Constrained Baseline is what the software
/// encoder writes as well, so that nothing has to be negotiated anew when one takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// What every decoder has.
    ConstrainedBaseline,
    /// With arithmetic coding.
    Main,
    /// The same here, for drivers that have nothing else.
    High,
}

impl Profile {
    const ALL: [Self; 3] = [Self::ConstrainedBaseline, Self::Main, Self::High];

    fn va(self) -> i32 {
        match self {
            Self::ConstrainedBaseline => abi::PROFILE_H264_CONSTRAINED_BASELINE,
            Self::Main => abi::PROFILE_H264_MAIN,
            Self::High => abi::PROFILE_H264_HIGH,
        }
    }

    /// `profile_idc`.
    pub fn idc(self) -> u8 {
        match self {
            Self::ConstrainedBaseline => 66,
            Self::Main => 77,
            Self::High => 100,
        }
    }

    /// The constraint flags.
    pub fn constraints(self) -> u8 {
        match self {
            Self::ConstrainedBaseline => 0xc0,
            Self::Main => 0x40,
            Self::High => 0,
        }
    }

    /// Whether entropy coding is arithmetic.
    pub fn cabac(self) -> bool {
        self != Self::ConstrainedBaseline
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConstrainedBaseline => "Constrained Baseline",
            Self::Main => "Main",
            Self::High => "High",
        }
    }
}

/// What the stream wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bits per second.
    pub bitrate: u32,
    /// Most frames per second.
    pub fps: u16,
}

/// How a picture in memory becomes a surface.
#[derive(Debug)]
enum Upload {
    /// Written straight into the surface.
    Derived(Image),
    /// Written into an image, which the driver copies.
    Copied(Image),
}

/// One encoder.
#[derive(Debug)]
pub struct Session {
    stream: Stream,
    rate: Rate,
    rate_control: u32,
    packed: u32,
    /// Dropped in this order: what works on surfaces before the surfaces.
    context: Context,
    converter: Option<Converter>,
    upload: Upload,
    input: Surface,
    reconstructed: [Surface; 2],
    coded: Buffer,
    /// The rate has yet to be told to the driver.
    retune: bool,
    /// Frames since the IDR; its lowest bits are `frame_num`.
    frame: u32,
    idr_id: u16,
    current: usize,
    opened: Opened,
}

/// Video processing, from RGB to NV12.
#[derive(Debug)]
struct Converter {
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

/// What came of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coded {
    /// Average quantiser, if the driver tells it.
    pub qp: Option<u8>,
}

impl Session {
    /// The best that the driver has for pictures of this even size.
    ///
    /// # Errors
    ///
    /// It cannot encode H.264, or not pictures of this size.
    pub fn open(display: &Rc<Display>, size: (u32, u32), rate: Rate) -> Result<Self, Failure> {
        let (profile, entrypoint) = choose(display)?;
        let ask = |kind| display.attribute(profile.va(), entrypoint, kind);
        let most = (ask(abi::ATTRIB_MAX_PICTURE_WIDTH)?, ask(abi::ATTRIB_MAX_PICTURE_HEIGHT)?);
        if most.0.is_some_and(|most| most < size.0) || most.1.is_some_and(|most| most < size.1) {
            let text = format!("the driver's pictures end at {:?}x{:?}", most.0, most.1);
            return Err(Failure::Lie(text));
        }
        let rates = ask(abi::ATTRIB_RATE_CONTROL)?.unwrap_or(abi::RC_CQP);
        let rate_control = [abi::RC_CBR, abi::RC_VBR, abi::RC_CQP]
            .into_iter()
            .find(|mode| rates & mode != 0)
            .unwrap_or(abi::RC_CQP);
        let wanted = abi::PACKED_SEQUENCE | abi::PACKED_PICTURE | abi::PACKED_SLICE;
        let packed = ask(abi::ATTRIB_ENC_PACKED_HEADERS)?.unwrap_or(0) & wanted;
        let attribute = |kind, value| ConfigAttrib { kind, value };
        let mut attributes = vec![
            attribute(abi::ATTRIB_RT_FORMAT, abi::RT_FORMAT_YUV420),
            attribute(abi::ATTRIB_RATE_CONTROL, rate_control),
        ];
        if packed != 0 {
            attributes.push(attribute(abi::ATTRIB_ENC_PACKED_HEADERS, packed));
        }
        let config = Config::new(display, profile.va(), entrypoint, &attributes)?;
        let input = Surface::new(display, size)?;
        let reconstructed = [Surface::new(display, size)?, Surface::new(display, size)?];
        let all = [&input, &reconstructed[0], &reconstructed[1]];
        let context = Context::new(config, size, &all)?;
        let coded = context.coded(message::output_room(size))?;
        let (upload, path) = match Image::derive(&input, size) {
            Ok(image) => (Upload::Derived(image), "upload (derived image)"),
            Err(_) => (Upload::Copied(Image::create(display, size)?), "upload (image)"),
        };
        let converter = Converter::open(display, size).ok();
        let macroblocks = size.0.div_ceil(16) * size.1.div_ceil(16);
        let level = headers::level(macroblocks, rate.fps.into(), rate.bitrate);
        let names: Vec<_> = [(1, "SPS"), (2, "PPS"), (4, "slice")]
            .iter()
            .filter(|(bit, _)| packed & bit != 0)
            .map(|(_, name)| *name)
            .collect();
        let opened = Opened {
            driver: display.vendor(),
            profile: profile.name().into(),
            entrypoint: entrypoint_name(entrypoint).into(),
            path: path.into(),
            rate_control: match rate_control {
                abi::RC_CBR => "CBR",
                abi::RC_VBR => "VBR",
                _ => "CQP",
            }
            .into(),
            packed: if names.is_empty() { "none".into() } else { names.join(", ") },
            converts: converter.is_some(),
        };
        Ok(Self {
            stream: Stream { size, profile, level },
            rate,
            rate_control,
            packed,
            context,
            converter,
            upload,
            input,
            reconstructed,
            coded,
            retune: true,
            frame: 0,
            idr_id: 0,
            current: 0,
            opened,
        })
    }

    /// What was opened.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// New targets, from the next frame on and without an IDR.
    pub fn tune(&mut self, rate: Rate) {
        self.retune |= self.rate != rate;
        self.rate = rate;
    }

    /// Brings the picture in memory up to date: `fill` is given the bytes and where planes lie.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn upload(&mut self, fill: impl FnOnce(&mut [u8], ImageLayout)) -> Result<(), Failure> {
        match &mut self.upload {
            Upload::Derived(image) => image.write(fill),
            Upload::Copied(image) => {
                image.write(fill)?;
                image.put(&self.input)
            }
        }
    }

    /// Converts the picture in a dma-buf.
    ///
    /// # Errors
    ///
    /// The driver does not take this buffer; memory may still work.
    pub fn import(
        &mut self,
        display: &Rc<Display>,
        fd: BorrowedFd<'_>,
        layout: Layout,
    ) -> Result<(), Failure> {
        let size = self.stream.size;
        let refused = || Failure::Lie("the driver has no video processing".into());
        self.converter.as_mut().ok_or_else(refused)?.convert(display, fd, layout, size)
    }

    /// Encodes the picture that was uploaded, or converted if `converted`, to `out`.
    ///
    /// # Errors
    ///
    /// The driver's; the encoder is lost.
    pub fn encode(
        &mut self,
        idr: bool,
        converted: bool,
        out: &mut Vec<u8>,
    ) -> Result<Coded, Failure> {
        if idr {
            self.frame = 0;
            self.idr_id ^= 1;
            self.retune = true;
        }
        let buffers = self.buffers(idr)?;
        let target = match &self.converter {
            Some(converter) if converted => &converter.target,
            _ => &self.input,
        };
        self.context.render(target, &buffers)?;
        target.sync()?;
        out.clear();
        let status = self.coded.read_coded(out)?;
        if status & (abi::CODED_OVERFLOW | abi::CODED_BAD) != 0 {
            return Err(Failure::Lie(format!("the driver marks its output as bad ({status:#x})")));
        }
        self.retune = false;
        self.current ^= 1;
        self.frame = self.frame.wrapping_add(1);
        let qp = (status & abi::CODED_QP) as u8;
        Ok(Coded { qp: (qp > 0 && qp <= 51).then_some(qp) })
    }

    /// All that describes a picture, in the order that every driver takes.
    fn buffers(&self, idr: bool) -> Result<Vec<Buffer>, Failure> {
        let (context, stream) = (&self.context, &self.stream);
        let mut buffers = Vec::with_capacity(12);
        if idr {
            buffers.push(context.buffer(abi::BUFFER_SEQUENCE, &self.sequence())?);
        }
        if self.retune && self.rate_control != abi::RC_CQP {
            self.tell_rate(&mut buffers)?;
        }
        buffers.push(context.buffer(abi::BUFFER_PICTURE, &self.picture(idr))?);
        if idr && self.packed & abi::PACKED_SEQUENCE != 0 {
            self.pack(abi::HEADER_SEQUENCE, &stream.sps(), None, &mut buffers)?;
        }
        if idr && self.packed & abi::PACKED_PICTURE != 0 {
            self.pack(abi::HEADER_PICTURE, &stream.pps(), None, &mut buffers)?;
        }
        if self.packed & abi::PACKED_SLICE != 0 {
            let (bytes, bits) = stream.slice(idr.then_some(self.idr_id), self.frame);
            self.pack(abi::HEADER_SLICE, &bytes, Some(bits), &mut buffers)?;
        }
        buffers.push(context.buffer(abi::BUFFER_SLICE, &self.slice(idr))?);
        Ok(buffers)
    }

    fn pack(
        &self,
        kind: u32,
        bytes: &[u8],
        bits: Option<u32>,
        buffers: &mut Vec<Buffer>,
    ) -> Result<(), Failure> {
        let header = abi::PackedHeader {
            kind,
            bit_length: bits.unwrap_or(bytes.len() as u32 * 8),
            has_emulation_bytes: 1,
            reserved: [0; 4],
        };
        buffers.push(self.context.buffer(abi::BUFFER_PACKED_PARAMETER, &header)?);
        buffers.push(self.context.bytes(abi::BUFFER_PACKED_DATA, bytes)?);
        Ok(())
    }

    fn tell_rate(&self, buffers: &mut Vec<Buffer>) -> Result<(), Failure> {
        let Rate { bitrate, fps } = self.rate;
        let fps = u32::from(fps.max(1));
        let hrd = (u64::from(bitrate) * HRD_FRAMES / u64::from(fps)).max(1);
        let rate = abi::RateControl {
            bits_per_second: bitrate,
            target_percentage: 100,
            window_size: (1000 * HRD_FRAMES as u32 / fps).max(1),
            initial_qp: INITIAL_QP.into(),
            rc_flags: abi::RC_DISABLE_FRAME_SKIP | abi::RC_DISABLE_BIT_STUFFING,
            ..abi::RateControl::default()
        };
        let hrd = abi::Hrd {
            initial_buffer_fullness: hrd as u32,
            buffer_size: hrd as u32,
            reserved: [0; 4],
        };
        let frame_rate = abi::FrameRate { framerate: 1 << 16 | fps, ..abi::FrameRate::default() };
        let context = &self.context;
        let misc = abi::BUFFER_MISC;
        buffers
            .push(context.buffer(misc, &abi::Misc { kind: abi::MISC_RATE_CONTROL, data: rate })?);
        buffers.push(
            context.buffer(misc, &abi::Misc { kind: abi::MISC_FRAME_RATE, data: frame_rate })?,
        );
        buffers.push(context.buffer(misc, &abi::Misc { kind: abi::MISC_HRD, data: hrd })?);
        Ok(())
    }

    fn sequence(&self) -> abi::SequenceH264 {
        let (columns, rows) = self.stream.macroblocks();
        let (right, bottom) = self.stream.crop();
        abi::SequenceH264 {
            seq_parameter_set_id: 0,
            level_idc: self.stream.level,
            // As long as can be said: an IDR comes on request alone.
            intra_period: u32::from(u16::MAX),
            intra_idr_period: u32::from(u16::MAX),
            ip_period: 1,
            bits_per_second: if self.rate_control == abi::RC_CQP { 0 } else { self.rate.bitrate },
            max_num_ref_frames: 1,
            picture_width_in_mbs: columns as u16,
            picture_height_in_mbs: rows as u16,
            seq_fields: 1 << abi::SEQ_CHROMA_FORMAT
                | 1 << abi::SEQ_FRAME_MBS_ONLY
                | 1 << abi::SEQ_DIRECT_8X8
                | (FRAME_NUM_BITS - 4) << abi::SEQ_LOG2_FRAME_NUM
                | (FRAME_NUM_BITS - 4) << (abi::SEQ_POC_TYPE + 2),
            bit_depth_luma_minus8: 0,
            bit_depth_chroma_minus8: 0,
            num_ref_frames_in_pic_order_cnt_cycle: 0,
            offset_for_non_ref_pic: 0,
            offset_for_top_to_bottom_field: 0,
            offset_for_ref_frame: [0; 256],
            frame_cropping_flag: u8::from(right + bottom > 0),
            frame_crop_left_offset: 0,
            frame_crop_right_offset: right,
            frame_crop_top_offset: 0,
            frame_crop_bottom_offset: bottom,
            vui_parameters_present_flag: 1,
            vui_fields: 1 << abi::VUI_BITSTREAM_RESTRICTION
                | 15 << abi::VUI_MV_HORIZONTAL
                | 15 << abi::VUI_MV_VERTICAL
                | 1 << abi::VUI_LOW_DELAY_HRD,
            aspect_ratio_idc: 0,
            sar_width: 0,
            sar_height: 0,
            num_units_in_tick: 1,
            time_scale: 2 * u32::from(self.rate.fps.max(1)),
            reserved: [0; 4],
        }
    }

    fn reference(&self, surface: usize, frame: u32, flags: u32) -> PictureH264 {
        let order = frame.wrapping_mul(2) as i32;
        PictureH264 {
            picture_id: self.reconstructed[surface].id(),
            frame_idx: frame & FRAME_NUM_MASK,
            flags,
            top_field_order_cnt: order,
            bottom_field_order_cnt: order,
            reserved: [0; 4],
        }
    }

    /// The picture before this one.
    fn before(&self) -> PictureH264 {
        self.reference(self.current ^ 1, self.frame.wrapping_sub(1), abi::PICTURE_SHORT_TERM)
    }

    fn picture(&self, idr: bool) -> abi::PictureParameterH264 {
        let mut references = [PictureH264::NONE; 16];
        if !idr {
            references[0] = self.before();
        }
        abi::PictureParameterH264 {
            curr_pic: self.reference(self.current, self.frame, 0),
            reference_frames: references,
            coded_buf: self.coded.id(),
            pic_parameter_set_id: 0,
            seq_parameter_set_id: 0,
            last_picture: 0,
            frame_num: (self.frame & FRAME_NUM_MASK) as u16,
            pic_init_qp: INITIAL_QP,
            num_ref_idx_l0_active_minus1: 0,
            num_ref_idx_l1_active_minus1: 0,
            chroma_qp_index_offset: 0,
            second_chroma_qp_index_offset: 0,
            pic_fields: u32::from(idr) << abi::PIC_IDR
                | 1 << abi::PIC_REFERENCE
                | u32::from(self.stream.profile.cabac()) << abi::PIC_CABAC
                | 1 << abi::PIC_DEBLOCKING_CONTROL,
            reserved: [0; 4],
        }
    }

    fn slice(&self, idr: bool) -> abi::SliceH264 {
        let (columns, rows) = self.stream.macroblocks();
        let mut list = [PictureH264::NONE; 32];
        if !idr {
            list[0] = self.before();
        }
        abi::SliceH264 {
            macroblock_address: 0,
            num_macroblocks: columns * rows,
            macroblock_info: abi::INVALID_ID,
            slice_type: if idr { 2 } else { 0 },
            pic_parameter_set_id: 0,
            idr_pic_id: self.idr_id,
            pic_order_cnt_lsb: (self.frame.wrapping_mul(2) & FRAME_NUM_MASK) as u16,
            delta_pic_order_cnt_bottom: 0,
            delta_pic_order_cnt: [0; 2],
            direct_spatial_mv_pred_flag: 0,
            num_ref_idx_active_override_flag: 0,
            num_ref_idx_l0_active_minus1: 0,
            num_ref_idx_l1_active_minus1: 0,
            ref_pic_list0: list,
            ref_pic_list1: [PictureH264::NONE; 32],
            luma_log2_weight_denom: 0,
            chroma_log2_weight_denom: 0,
            luma_weight_l0_flag: 0,
            luma_weight_l0: [0; 32],
            luma_offset_l0: [0; 32],
            chroma_weight_l0_flag: 0,
            chroma_weight_l0: [[0; 2]; 32],
            chroma_offset_l0: [[0; 2]; 32],
            luma_weight_l1_flag: 0,
            luma_weight_l1: [0; 32],
            luma_offset_l1: [0; 32],
            chroma_weight_l1_flag: 0,
            chroma_weight_l1: [[0; 2]; 32],
            chroma_offset_l1: [[0; 2]; 32],
            cabac_init_idc: 0,
            slice_qp_delta: 0,
            disable_deblocking_filter_idc: 0,
            slice_alpha_c0_offset_div2: 0,
            slice_beta_offset_div2: 0,
            reserved: [0; 4],
        }
    }
}

impl Converter {
    fn open(display: &Rc<Display>, size: (u32, u32)) -> Result<Self, Failure> {
        let config = Config::new(display, abi::PROFILE_NONE, abi::ENTRYPOINT_VIDEO_PROC, &[])?;
        let target = Surface::new(display, size)?;
        let context = Context::new(config, size, &[&target])?;
        Ok(Self { context, target, imports: VecDeque::new() })
    }

    fn convert(
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

fn entrypoint_name(entrypoint: i32) -> &'static str {
    if entrypoint == abi::ENTRYPOINT_ENC_SLICE_LP { "EncSliceLP" } else { "EncSlice" }
}

/// The first profile that can be encoded, and by which entrypoint.
fn choose(display: &Display) -> Result<(Profile, i32), Failure> {
    let profiles = display.profiles()?;
    for profile in Profile::ALL {
        if !profiles.contains(&profile.va()) {
            continue;
        }
        let entrypoints = display.entrypoints(profile.va())?;
        for entrypoint in [abi::ENTRYPOINT_ENC_SLICE, abi::ENTRYPOINT_ENC_SLICE_LP] {
            let formats = || display.attribute(profile.va(), entrypoint, abi::ATTRIB_RT_FORMAT);
            if entrypoints.contains(&entrypoint)
                && formats()?.is_some_and(|formats| formats & abi::RT_FORMAT_YUV420 != 0)
            {
                return Ok((profile, entrypoint));
            }
        }
    }
    let h264 = Profile::ALL.iter().any(|profile| profiles.contains(&profile.va()));
    let what = if h264 { "decodes H.264 but does not encode it" } else { "knows no H.264" };
    Err(Failure::Lie(format!("{} {what}", display.vendor())))
}
