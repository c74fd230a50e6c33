//! The encoder itself: one driver, one picture size.
//!
//! Low delay: no reordering, one reference, an IDR on request alone, a rate that is kept within
//! two frames. Everything that may differ between drivers is asked for and never assumed.

use std::os::fd::BorrowedFd;
use std::rc::Rc;

use transom_protocol::message::Codec;

use super::convert::Converter;
use super::headers::{self, Stream};
use super::hevc::{self, Tools};
use super::message::{self, Access, Layout, Opened};
use super::parameters::{Parameters, Rate, Rates};
use super::profile::{Profile, choose, choose_hevc, entrypoint_name};
use super::refresh::{Direction, Wave};
use crate::sys::va::abi::{self, ConfigAttrib};
use crate::sys::va::{
    Buffer, Config, Context, Display, Failure, Image, ImageLayout, Pixels, Surface,
};

/// How a picture in memory becomes a surface.
#[derive(Debug)]
enum Upload {
    /// Written straight into the surface.
    Derived(Image),
    /// Written into an image, which the driver copies.
    Copied(Image),
}

/// What is encoded.
#[derive(Debug)]
enum Dialect {
    H264(Stream),
    Hevc(hevc::Stream),
}

/// One encoder.
#[derive(Debug)]
pub struct Session {
    dialect: Dialect,
    size: (u32, u32),
    rate: Rate,
    rate_control: u32,
    /// The driver can be told how large a frame may be.
    caps_frames: bool,
    packed: u32,
    /// Intra refresh, where the driver has it and takes all headers that go with it.
    wave: Option<Wave>,
    /// Whether regions of interest are told by a quantiser's difference, not by priority.
    region_deltas: bool,
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

/// What came of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coded {
    /// Average quantiser, if the driver tells it.
    pub qp: Option<u8>,
    /// A refresh is not over yet.
    pub refreshing: bool,
}

/// How much finer a region of interest shall be: as far as x264 goes for what it finds flat.
const REGION_QP_DELTA: i8 = -4;
/// The same where drivers want a priority, of which nobody says what it is worth.
const REGION_PRIORITY: i8 = 1;

impl Session {
    /// The best that the driver has for pictures of this even size.
    ///
    /// # Errors
    ///
    /// It cannot encode this codec, or not pictures of this size.
    pub fn open(
        display: &Rc<Display>,
        size: (u32, u32),
        rate: Rate,
        codec: Codec,
    ) -> Result<Self, Failure> {
        // For H.264, which of its profiles; for HEVC there is Main alone.
        let (h264, va, entrypoint) = match codec {
            Codec::H264 => {
                let (profile, entrypoint) = choose(display)?;
                (Some(profile), profile.va(), entrypoint)
            }
            Codec::Hevc => (None, abi::hevc::PROFILE_MAIN, choose_hevc(display)?),
        };
        let ask = |kind| display.attribute(va, entrypoint, kind);
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
        let caps_frames = ask(abi::ATTRIB_MAX_FRAME_SIZE)?.is_some_and(|value| value & 1 == 1);
        let wanted =
            abi::PACKED_SEQUENCE | abi::PACKED_PICTURE | abi::PACKED_SLICE | abi::PACKED_RAW;
        let packed = ask(abi::ATTRIB_ENC_PACKED_HEADERS)?.unwrap_or(0) & wanted;
        let refreshes = ask(abi::ATTRIB_ENC_INTRA_REFRESH)?.unwrap_or(0);
        // The recovery point that goes with it is written for H.264 alone.
        let direction =
            Direction::of(refreshes).filter(|_| packed == wanted && codec == Codec::H264);
        let roi = ask(abi::ATTRIB_ENC_ROI)?.unwrap_or(0);
        let region_deltas = rate_control == abi::RC_CQP || roi & abi::ROI_QP_DELTA != 0;
        let has_regions = region_deltas || roi & abi::ROI_PRIORITY != 0;
        let attribute = |kind, value| ConfigAttrib { kind, value };
        let mut attributes = vec![
            attribute(abi::ATTRIB_RT_FORMAT, abi::RT_FORMAT_YUV420),
            attribute(abi::ATTRIB_RATE_CONTROL, rate_control),
        ];
        if packed != 0 {
            attributes.push(attribute(abi::ATTRIB_ENC_PACKED_HEADERS, packed));
        }
        let dialect = match h264 {
            Some(profile) => {
                let macroblocks = size.0.div_ceil(16) * size.1.div_ceil(16);
                let level = headers::level(macroblocks, rate.fps.into(), rate.bitrate);
                Dialect::H264(Stream { size, profile, level })
            }
            None => {
                let tools = Tools::of(
                    ask(abi::hevc::ATTRIB_FEATURES)?,
                    ask(abi::hevc::ATTRIB_BLOCK_SIZES)?,
                    ask(abi::hevc::ATTRIB_PREDICTION_DIRECTION)?,
                    rate_control != abi::RC_CQP,
                )?;
                let level = hevc::level(size.0 * size.1, rate.fps.into(), rate.bitrate);
                Dialect::Hevc(hevc::Stream { size, level, tools })
            }
        };
        let config = Config::new(display, va, entrypoint, &attributes)?;
        let input = Surface::new(display, Pixels::Nv12, size)?;
        let reconstructed = [
            Surface::new(display, Pixels::Nv12, size)?,
            Surface::new(display, Pixels::Nv12, size)?,
        ];
        let all = [&input, &reconstructed[0], &reconstructed[1]];
        let context = Context::new(config, size, &all)?;
        let coded = context.coded(message::output_room(size))?;
        let (upload, path) = match Image::derive(&input, Pixels::Nv12, size) {
            Ok(image) => (Upload::Derived(image), "upload (derived image)"),
            Err(_) => {
                (Upload::Copied(Image::create(display, Pixels::Nv12, size)?), "upload (image)")
            }
        };
        let converter = Converter::open(display, size).ok();
        let names: Vec<_> = [(1, "SPS"), (2, "PPS"), (4, "slice"), (16, "SEI")]
            .iter()
            .filter(|(bit, _)| packed & bit != 0)
            .map(|(_, name)| *name)
            .collect();
        let opened = Opened {
            codec,
            instead: String::new(),
            driver: display.vendor(),
            profile: h264.map_or("HEVC Main", Profile::name).into(),
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
            blends: converter.as_ref().is_some_and(Converter::blends),
            refreshes: direction.is_some(),
            regions: if has_regions { (roi & abi::ROI_REGIONS) as u8 } else { 0 },
        };
        let macroblocks = (size.0.div_ceil(16), size.1.div_ceil(16));
        Ok(Self {
            wave: direction.map(|direction| Wave::new(direction, macroblocks)),
            region_deltas,
            dialect,
            size,
            rate,
            rate_control,
            caps_frames,
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

    /// Converts the picture in a dma-buf, with the overlay in `above` of the picture, if any.
    ///
    /// # Errors
    ///
    /// The driver does not take this buffer; memory may still work.
    pub fn import(
        &mut self,
        display: &Rc<Display>,
        fd: BorrowedFd<'_>,
        layout: Layout,
        above: Option<[u32; 4]>,
    ) -> Result<(), Failure> {
        let size = self.size;
        self.converter()?.convert(display, fd, layout, size, above)
    }

    /// Brings the overlay up to date: `fill` is given the bytes and where pixels lie.
    ///
    /// # Errors
    ///
    /// The driver's; memory may still work.
    pub fn overlay(
        &mut self,
        display: &Rc<Display>,
        size: (u32, u32),
        fill: impl FnOnce(&mut [u8], ImageLayout),
    ) -> Result<(), Failure> {
        self.converter()?.overlay(display, size, fill)
    }

    fn converter(&mut self) -> Result<&mut Converter, Failure> {
        let refused = || Failure::Lie("the driver has no video processing".into());
        self.converter.as_mut().ok_or_else(refused)
    }

    /// Encodes the picture that was uploaded, or converted if `converted`, to `out`, with most care
    /// for some `regions` of it: x, y, width and height.
    ///
    /// # Errors
    ///
    /// The driver's; the encoder is lost.
    pub fn encode(
        &mut self,
        access: Access,
        regions: &[[u32; 4]],
        converted: bool,
        out: &mut Vec<u8>,
    ) -> Result<Coded, Failure> {
        let (idr, mut begins) = (access == Access::Idr, false);
        if idr {
            self.frame = 0;
            self.idr_id ^= 1;
            self.retune = true;
        }
        if let Some(wave) = &mut self.wave {
            match access {
                Access::Idr => wave.stop(),
                Access::Refresh => begins = wave.begin(),
                Access::None => {}
            }
        }
        let mut buffers = self.buffers(idr, begins)?;
        if !regions.is_empty() {
            buffers.push(self.regions(regions)?);
        }
        let target = match &self.converter {
            Some(converter) if converted => converter.target(),
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
        let refreshing = self.wave.as_ref().is_some_and(Wave::is_under_way);
        Ok(Coded { qp: (qp > 0 && qp <= 51).then_some(qp), refreshing })
    }

    /// All that describes a picture, in the order that every driver takes; parameter sets where a
    /// decoder can begin, which is at an IDR and where a refresh begins.
    fn buffers(&mut self, idr: bool, begins: bool) -> Result<Vec<Buffer>, Failure> {
        let stream = match &self.dialect {
            Dialect::H264(stream) => *stream,
            Dialect::Hevc(stream) => return self.hevc_buffers(stream, idr),
        };
        let band = self.wave.as_mut().and_then(Wave::next_band);
        let context = &self.context;
        let parameters = self.parameters(&stream, idr);
        let mut buffers = Vec::with_capacity(12);
        if idr {
            buffers.push(context.buffer(abi::BUFFER_SEQUENCE, &parameters.sequence())?);
        }
        if self.retune && self.rate_control != abi::RC_CQP {
            self.tell_rate(&mut buffers)?;
        }
        if let Some(data) = band {
            let misc = abi::Misc { kind: abi::MISC_REFRESH, data };
            buffers.push(context.buffer(abi::BUFFER_MISC, &misc)?);
        }
        buffers.push(context.buffer(abi::BUFFER_PICTURE, &parameters.picture())?);
        let first = idr || begins;
        if first && self.packed & abi::PACKED_SEQUENCE != 0 {
            self.pack(abi::HEADER_SEQUENCE, &stream.sps(), None, &mut buffers)?;
        }
        if first && self.packed & abi::PACKED_PICTURE != 0 {
            self.pack(abi::HEADER_PICTURE, &stream.pps(), None, &mut buffers)?;
        }
        if let Some(wave) = self.wave.as_ref().filter(|_| begins) {
            let point = stream.recovery_point(wave.frames());
            self.pack(abi::HEADER_RAW, &point, None, &mut buffers)?;
        }
        if self.packed & abi::PACKED_SLICE != 0 {
            let (bytes, bits) = stream.slice(idr.then_some(self.idr_id), self.frame);
            self.pack(abi::HEADER_SLICE, &bytes, Some(bits), &mut buffers)?;
        }
        buffers.push(context.buffer(abi::BUFFER_SLICE, &parameters.slice())?);
        Ok(buffers)
    }

    /// The same for HEVC.
    fn hevc_buffers(&self, stream: &hevc::Stream, idr: bool) -> Result<Vec<Buffer>, Failure> {
        let context = &self.context;
        let parameters = hevc::Parameters {
            stream,
            rate: self.rate,
            constant: self.rate_control == abi::RC_CQP,
            idr,
            frame: self.frame,
            current: self.reconstructed[self.current].id(),
            before: self.reconstructed[self.current ^ 1].id(),
            coded: self.coded.id(),
        };
        let mut buffers = Vec::with_capacity(12);
        if idr {
            buffers.push(context.buffer(abi::BUFFER_SEQUENCE, &parameters.sequence())?);
        }
        if self.retune && self.rate_control != abi::RC_CQP {
            self.tell_rate(&mut buffers)?;
        }
        buffers.push(context.buffer(abi::BUFFER_PICTURE, &parameters.picture())?);
        if idr && self.packed & abi::PACKED_SEQUENCE != 0 {
            // One for both: libva has no kind of header for a VPS alone.
            let both = [stream.vps(), stream.sps()].concat();
            self.pack(abi::HEADER_SEQUENCE, &both, None, &mut buffers)?;
        }
        if idr && self.packed & abi::PACKED_PICTURE != 0 {
            self.pack(abi::HEADER_PICTURE, &stream.pps(), None, &mut buffers)?;
        }
        if self.packed & abi::PACKED_SLICE != 0 {
            self.pack(abi::HEADER_SLICE, &stream.slice(idr, self.frame), None, &mut buffers)?;
        }
        buffers.push(context.buffer(abi::BUFFER_SLICE, &parameters.slice())?);
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

    fn regions(&self, regions: &[[u32; 4]]) -> Result<Buffer, Failure> {
        let value = if self.region_deltas { REGION_QP_DELTA } else { REGION_PRIORITY };
        let region = |&[x, y, width, height]: &[u32; 4]| abi::Region {
            roi_rectangle: abi::Rectangle {
                x: x as i16,
                y: y as i16,
                width: width as u16,
                height: height as u16,
            },
            roi_value: value,
        };
        let most = usize::from(self.opened.regions);
        let regions = regions.iter().take(most).map(region).collect();
        self.context.regions(regions, self.region_deltas)
    }

    fn tell_rate(&self, buffers: &mut Vec<Buffer>) -> Result<(), Failure> {
        let rates = Rates::of(self.rate);
        let (context, misc) = (&self.context, abi::BUFFER_MISC);
        let rate = abi::Misc { kind: abi::MISC_RATE_CONTROL, data: rates.control };
        buffers.push(context.buffer(misc, &rate)?);
        let frames = abi::Misc { kind: abi::MISC_FRAME_RATE, data: rates.frames };
        buffers.push(context.buffer(misc, &frames)?);
        let hrd = abi::Misc { kind: abi::MISC_HRD, data: rates.hrd };
        buffers.push(context.buffer(misc, &hrd)?);
        if self.caps_frames {
            let most = abi::Misc { kind: abi::MISC_MAX_FRAME_SIZE, data: rates.most };
            buffers.push(context.buffer(misc, &most)?);
        }
        Ok(())
    }

    /// What describes the picture that comes next.
    fn parameters<'a>(&self, stream: &'a Stream, idr: bool) -> Parameters<'a> {
        Parameters {
            stream,
            rate: self.rate,
            constant: self.rate_control == abi::RC_CQP,
            idr,
            idr_id: self.idr_id,
            frame: self.frame,
            current: self.reconstructed[self.current].id(),
            before: self.reconstructed[self.current ^ 1].id(),
            coded: self.coded.id(),
        }
    }
}
