//! OpenH264's decoder behind safe calls (`codec_api.h`): diagnostics prove with it that what the
//! encoder writes can be read.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;

use openh264_sys2 as ffi;
use openh264_sys2::source::APILoader;

use super::openh264::Failure;

/// The luma of a decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Luma {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Rows without gaps.
    pub samples: Vec<u8>,
}

/// One decoder.
pub struct Decoder {
    decoder: *mut ffi::ISVCDecoder,
}

impl Decoder {
    /// A decoder at the start of a stream.
    ///
    /// # Errors
    ///
    /// Memory is short.
    pub fn new() -> Result<Self, Failure> {
        let mut decoder: *mut ffi::ISVCDecoder = ptr::null_mut();
        // SAFETY: the library writes one pointer.
        check("create a decoder", unsafe { APILoader::WelsCreateDecoder(&raw mut decoder) })?;
        let this = Self { decoder };
        let params = ffi::SDecodingParam::default();
        let mut quiet = ffi::WELS_LOG_QUIET as c_int;
        // SAFETY: `decoder` is a live object; both arguments are of the types that the library
        // names for them and are copied.
        unsafe {
            let set = this.table().SetOption.ok_or(MISSING)?;
            // First of all: the library would print to stderr.
            let quiet = (&raw mut quiet).cast::<c_void>();
            check("set an option", set(decoder, ffi::DECODER_OPTION_TRACE_LEVEL, quiet))?;
            let initialize = this.table().Initialize.ok_or(MISSING)?;
            check("initialise a decoder", initialize(decoder, &raw const params))?;
        }
        Ok(this)
    }

    /// Decodes one access unit in Annex B; `None` if there is no picture in it.
    ///
    /// # Errors
    ///
    /// The bytes are no valid stream.
    pub fn decode(&mut self, unit: &[u8]) -> Result<Option<Luma>, Failure> {
        let mut planes: [*mut u8; 3] = [ptr::null_mut(); 3];
        let mut info = ffi::SBufferInfo::default();
        let length = c_int::try_from(unit.len()).map_err(|_| MISSING)?;
        // SAFETY: the bytes outlive the call; the library fills in `planes` and `info`.
        let state = unsafe {
            let decode = self.table().DecodeFrameNoDelay.ok_or(MISSING)?;
            let planes = planes.as_mut_ptr();
            decode(self.decoder, unit.as_ptr(), length, planes, &raw mut info)
        };
        check("decode", state)?;
        if info.iBufferStatus != 1 || planes[0].is_null() {
            return Ok(None);
        }
        // SAFETY: a picture is there (above), and this is the only member of the union.
        let buffer = unsafe { info.UsrData.sSystemBuffer };
        let [width, height, stride] = [buffer.iWidth, buffer.iHeight, buffer.iStride[0]]
            .map(|value| usize::try_from(value).unwrap_or(0));
        let mut samples = Vec::with_capacity(width * height);
        for row in 0..height {
            // SAFETY: the library describes `height` rows of `width` bytes, `stride` apart, valid
            // until its next call.
            samples.extend_from_slice(unsafe {
                std::slice::from_raw_parts(planes[0].add(row * stride), width)
            });
        }
        Ok(Some(Luma { width, height, samples }))
    }

    fn table(&self) -> &ffi::ISVCDecoderVtbl {
        // SAFETY: an `ISVCDecoder` is a pointer to its table of functions, constant for its life.
        unsafe { &**self.decoder }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: created by this API and not used afterwards.
        unsafe {
            if let Some(uninitialize) = self.table().Uninitialize {
                uninitialize(self.decoder);
            }
            APILoader::WelsDestroyDecoder(self.decoder);
        }
    }
}

const MISSING: Failure = Failure { call: "look-up of a function", code: -1 };

fn check(call: &'static str, code: impl Into<i64>) -> Result<(), Failure> {
    match code.into() {
        0 => Ok(()),
        code => Err(Failure { call, code }),
    }
}
