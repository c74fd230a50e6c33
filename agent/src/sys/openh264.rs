//! Cisco's OpenH264 encoder behind safe calls (`codec_api.h`, `codec_app_def.h`).
//!
//! The crate `openh264` wraps it too, but hides what a live stream needs: the bitrate changed
//! without a new encoder, one reference, and the quantiser of the last frame.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;

use openh264_sys2 as ffi;
use openh264_sys2::source::APILoader;

/// The settings that the agent chooses; all others are fixed in [`Encoder::new`].
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Luma columns, even.
    pub width: u32,
    /// Luma rows, even.
    pub height: u32,
    /// Bits per second.
    pub bitrate: u32,
    /// Upper bound for frames per second.
    pub fps: u16,
}

/// OpenH264 answered a call with a code other than 0.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("OpenH264 {call} failed with code {code}")]
pub struct Failure {
    /// The call.
    pub call: &'static str,
    /// `CM_RETURN` of the library.
    pub code: i64,
}

/// The planes of a picture in I420 (4:2:0), as long as a call lasts.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a> {
    /// Y, U and V.
    pub data: [&'a [u8]; 3],
    /// Bytes from one row to the next.
    pub strides: [usize; 3],
}

/// What an encode produced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Decodable without an earlier frame; SPS and PPS are in front.
    Idr,
    /// Refers to the frame before.
    Predicted,
    /// Nothing: the encoder left the frame out.
    Skipped,
}

/// One encoder for pictures of one size.
pub struct Encoder {
    encoder: *mut ffi::ISVCEncoder,
    settings: Settings,
    info: Box<ffi::SFrameBSInfo>,
}

// SAFETY: the library keeps no thread-local state; the pointer is used by one owner at a time.
unsafe impl Send for Encoder {}

impl Encoder {
    /// Sets up an encoder for a live picture: Constrained Baseline, CAVLC, one slice, one
    /// reference, no reordering, an IDR only at the start and on request, BT.709 limited range
    /// in the VUI.
    ///
    /// # Errors
    ///
    /// The library refuses the size, or memory is short.
    pub fn new(settings: Settings) -> Result<Self, Failure> {
        let mut encoder: *mut ffi::ISVCEncoder = ptr::null_mut();
        // SAFETY: the library writes one pointer.
        check("create", unsafe { APILoader::WelsCreateSVCEncoder(&raw mut encoder) })?;
        let this = Self { encoder, settings, info: Box::default() };
        // First of all: the library would print to stderr.
        this.set(ffi::ENCODER_OPTION_TRACE_LEVEL, &mut (ffi::WELS_LOG_QUIET as c_int))?;
        let mut params = ffi::SEncParamExt::default();
        // SAFETY: `encoder` is a live object and `params` a structure of the type it fills in.
        check("get default parameters", unsafe {
            (this.table().GetDefaultParams.ok_or(MISSING)?)(encoder, &raw mut params)
        })?;
        this.fill(&mut params);
        // SAFETY: as above; the parameters are copied.
        check("initialise", unsafe {
            (this.table().InitializeExt.ok_or(MISSING)?)(encoder, &raw const params)
        })?;
        Ok(this)
    }

    fn fill(&self, params: &mut ffi::SEncParamExt) {
        let Settings { width, height, bitrate, fps } = self.settings;
        params.iUsageType = ffi::CAMERA_VIDEO_REAL_TIME;
        params.iPicWidth = width as c_int;
        params.iPicHeight = height as c_int;
        params.iTargetBitrate = bitrate as c_int;
        params.iMaxBitrate = 0;
        // Frames come when the screen changes: their budget follows their own times.
        params.iRCMode = ffi::RC_TIMESTAMP_MODE;
        params.fMaxFrameRate = f32::from(fps);
        params.iTemporalLayerNum = 1;
        params.iSpatialLayerNum = 1;
        params.iComplexityMode = ffi::LOW_COMPLEXITY;
        params.uiIntraPeriod = 0;
        params.iNumRefFrame = 1;
        params.eSpsPpsIdStrategy = ffi::CONSTANT_ID;
        params.bPrefixNalAddingCtrl = false;
        params.iEntropyCodingModeFlag = 0;
        // Dropping is the pipeline's to decide, before it pays for an encode.
        params.bEnableFrameSkip = false;
        // Finer steps than this are not seen on a screen, yet rate control would go there whenever
        // bits are left: 24 instead of 12 halves the CPU time of a moving game.
        params.iMinQp = 24;
        params.iMaxQp = 46;
        params.bEnableLongTermReference = false;
        // One thread: the guest's other cores belong to the game.
        params.iMultipleThreadIdc = 1;
        // Off: 13 % of the CPU time for smoothing that text and pixel art are better without.
        params.iLoopFilterDisableIdc = 1;
        params.bEnableDenoise = false;
        params.bEnableBackgroundDetection = false;
        params.bEnableAdaptiveQuant = false;
        params.bEnableFrameCroppingFlag = true;
        // It would insert IDRs of its own will.
        params.bEnableSceneChangeDetect = false;
        let layer = &mut params.sSpatialLayers[0];
        layer.iVideoWidth = width as c_int;
        layer.iVideoHeight = height as c_int;
        layer.fFrameRate = f32::from(fps);
        layer.iSpatialBitrate = bitrate as c_int;
        layer.iMaxSpatialBitrate = 0;
        layer.uiProfileIdc = ffi::PRO_BASELINE;
        layer.sSliceArgument.uiSliceMode = ffi::SM_SINGLE_SLICE;
        layer.sSliceArgument.uiSliceNum = 1;
        layer.bVideoSignalTypePresent = true;
        layer.uiVideoFormat = ffi::VF_UNDEF as u8;
        layer.bFullRange = false;
        layer.bColorDescriptionPresent = true;
        layer.uiColorPrimaries = ffi::CP_BT709 as u8;
        layer.uiTransferCharacteristics = ffi::TRC_BT709 as u8;
        layer.uiColorMatrix = ffi::CM_BT709 as u8;
    }

    /// New target in bits per second, from the next frame on, without an IDR.
    ///
    /// # Errors
    ///
    /// The library refuses the rate.
    pub fn set_bitrate(&mut self, bitrate: u32) -> Result<(), Failure> {
        let mut info =
            ffi::SBitrateInfo { iLayer: ffi::SPATIAL_LAYER_ALL, iBitrate: bitrate as c_int };
        self.set(ffi::ENCODER_OPTION_BITRATE, &mut info)?;
        self.settings.bitrate = bitrate;
        Ok(())
    }

    /// New upper bound for frames per second, from the next frame on, without an IDR.
    ///
    /// # Errors
    ///
    /// The library refuses the rate.
    pub fn set_fps(&mut self, fps: u16) -> Result<(), Failure> {
        self.set(ffi::ENCODER_OPTION_FRAME_RATE, &mut f32::from(fps))?;
        self.settings.fps = fps;
        Ok(())
    }

    /// Encodes one picture and appends the access unit to `out`, in Annex B. `time` is in
    /// milliseconds on any clock that only goes forward.
    ///
    /// # Errors
    ///
    /// The library's; the encoder should be replaced then.
    pub fn encode(
        &mut self,
        picture: Planes<'_>,
        idr: bool,
        time: i64,
        out: &mut Vec<u8>,
    ) -> Result<Kind, Failure> {
        let (width, height) = (self.settings.width as usize, self.settings.height as usize);
        for (plane, (columns, rows)) in
            [(width, height), (width / 2, height / 2), (width / 2, height / 2)]
                .into_iter()
                .enumerate()
        {
            let (data, stride) = (picture.data[plane], picture.strides[plane]);
            assert!(
                stride >= columns && data.len() >= stride * (rows - 1) + columns,
                "plane {plane} is smaller than the picture"
            );
        }
        if idr {
            // SAFETY: `encoder` is live and initialised.
            check("force an IDR", unsafe {
                (self.table().ForceIntraFrame.ok_or(MISSING)?)(self.encoder, true)
            })?;
        }
        let [y, u, v] = picture.data.map(|plane| plane.as_ptr().cast_mut());
        let [ys, us, vs] = picture.strides.map(|stride| stride as c_int);
        let source = ffi::SSourcePicture {
            iColorFormat: ffi::videoFormatI420,
            iStride: [ys, us, vs, 0],
            pData: [y, u, v, ptr::null_mut()],
            iPicWidth: width as c_int,
            iPicHeight: height as c_int,
            uiTimeStamp: time,
            ..Default::default()
        };
        // SAFETY: the planes were checked above to hold the picture and are only read; `info` is
        // filled with pointers that stay valid until the next call on this encoder.
        check("encode", unsafe {
            (self.table().EncodeFrame.ok_or(MISSING)?)(
                self.encoder,
                &raw const source,
                &raw mut *self.info,
            )
        })?;
        self.append(out);
        Ok(match self.info.eFrameType {
            ffi::videoFrameTypeIDR => Kind::Idr,
            ffi::videoFrameTypeSkip => Kind::Skipped,
            _ => Kind::Predicted,
        })
    }

    fn append(&self, out: &mut Vec<u8>) {
        let layers = &self.info.sLayerInfo[..(self.info.iLayerNum.max(0) as usize).min(128)];
        for layer in layers {
            // SAFETY: the library describes `iNalCount` NAL units that lie behind one another in
            // `pBsBuf`, both valid until its next call.
            let bytes = unsafe {
                let lengths = std::slice::from_raw_parts(
                    layer.pNalLengthInByte,
                    layer.iNalCount.max(0) as usize,
                );
                let total: usize = lengths.iter().map(|&length| length.max(0) as usize).sum();
                std::slice::from_raw_parts(layer.pBsBuf, total)
            };
            out.extend_from_slice(bytes);
        }
    }

    /// Average quantiser of the last frame.
    ///
    /// # Errors
    ///
    /// The library's.
    pub fn quantiser(&mut self) -> Result<u32, Failure> {
        let mut statistics = ffi::SEncoderStatistics::default();
        // SAFETY: the option fills a structure of this type.
        check("get statistics", unsafe {
            (self.table().GetOption.ok_or(MISSING)?)(
                self.encoder,
                ffi::ENCODER_OPTION_GET_STATISTICS,
                (&raw mut statistics).cast::<c_void>(),
            )
        })?;
        Ok(statistics.uiAverageFrameQP)
    }

    fn set<T>(&self, option: ffi::ENCODER_OPTION, value: &mut T) -> Result<(), Failure> {
        // SAFETY: every caller passes the type that `codec_app_def.h` names for its option.
        check("set an option", unsafe {
            (self.table().SetOption.ok_or(MISSING)?)(
                self.encoder,
                option,
                (&raw mut *value).cast::<c_void>(),
            )
        })
    }

    fn table(&self) -> &ffi::ISVCEncoderVtbl {
        // SAFETY: an `ISVCEncoder` is a pointer to its table of functions, constant for its life.
        unsafe { &**self.encoder }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: created by this API and not used afterwards.
        unsafe {
            if let Some(uninitialize) = self.table().Uninitialize {
                uninitialize(self.encoder);
            }
            APILoader::WelsDestroySVCEncoder(self.encoder);
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
