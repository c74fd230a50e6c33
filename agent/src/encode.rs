//! From a picture and its damage to an access unit.
//!
//! Encoders differ in what they take from a [`Request`]: software encoders read the picture's
//! planes, one that follows the damage skips what did not change, VA-API may import the scanout
//! itself. And in colour: the screen encoder takes 4:4:4 as well, the others know 4:2:0 alone. They
//! agree in what comes out: H.264 in Annex B without reordering, one reference, SPS and PPS before
//! every IDR, an IDR when asked for or where the colour's format changes; or HEVC, where that is
//! wanted and VA-API has it, with an IDR wherever one takes over from the other.

pub mod choose;
pub mod screen;
pub mod software;
pub mod vaapi;

use std::str::FromStr;

use transom_protocol::message::{BitRate, Chroma, Codec, GuestTime};

use crate::capture::{Frame, Planes};
pub use choose::look_again;
use choose::{Auto, EncoderState};
use screen::Screen;
use software::Software;

/// What the stream wants of the encoder; changes take effect with the next frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Target.
    pub bitrate: BitRate,
    /// Upper bound for frames per second.
    pub fps: u16,
}

/// One frame to encode.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The picture and its damage.
    pub frame: Frame<'a>,
    /// The access unit has to be decodable by itself.
    pub idr: bool,
    /// When the picture was seen.
    pub time: GuestTime,
}

/// One encoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessUnit {
    /// Annex B.
    pub bytes: Vec<u8>,
    /// Whether it can be decoded by itself.
    pub idr: bool,
    /// Whether more bits would visibly improve the picture: it was coded coarsely.
    pub coarse: bool,
}

/// Why a frame was not encoded. The encoder is to be replaced, and an IDR follows.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// This encoder has no way to code pictures of this size.
    #[error("pictures of {0}x{1} are out of the encoder's range")]
    Size(u32, u32),
    /// The library's own reason.
    #[error(transparent)]
    OpenH264(#[from] crate::sys::openh264::Failure),
    /// VA-API's, where nothing else is wanted.
    #[error(transparent)]
    Vaapi(#[from] vaapi::VaapiError),
    /// A picture in 4:4:4 for an encoder of 4:2:0.
    #[error("{0} encodes 4:2:0 alone")]
    Chroma(&'static str),
    /// It returned without a frame although it was told never to.
    #[error("the encoder left a frame out")]
    Skipped,
}

/// Which encoder to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// VA-API where it works, the screen encoder everywhere else.
    #[default]
    Auto,
    /// VA-API or nothing.
    Vaapi,
    /// The one whose cost follows the damage.
    Screen,
    /// OpenH264, which has motion in quarters of a sample and pays for every macroblock.
    OpenH264,
}

impl Choice {
    /// How much colour the first picture should have, before there is an encoder.
    pub fn chroma(self, wanted: Chroma) -> Chroma {
        match self {
            Self::Auto | Self::Screen => wanted,
            Self::Vaapi | Self::OpenH264 => Chroma::Yuv420,
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "vaapi" => Ok(Self::Vaapi),
            "screen" => Ok(Self::Screen),
            "openh264" => Ok(Self::OpenH264),
            _ => Err(format!("'{text}' is none of auto, vaapi, screen, openh264")),
        }
    }
}

/// The encoders.
#[derive(Debug)]
pub enum Encoder {
    /// Whatever is best here and now.
    Auto(Box<Auto>),
    /// On the CPU, at a cost that follows the damage.
    Screen(Box<Screen>),
    /// OpenH264 on the CPU.
    Software(Software),
}

impl Encoder {
    /// An encoder for pictures of this size.
    ///
    /// # Errors
    ///
    /// It does not take this size.
    pub fn new(choice: Choice, size: (u32, u32), tuning: Tuning) -> Result<Self, EncodeError> {
        Self::with_codec(choice, size, tuning, Codec::H264)
    }

    /// The same, with a wish: see [`Encoder::want`].
    ///
    /// # Errors
    ///
    /// It does not take this size.
    pub fn with_codec(
        choice: Choice,
        size: (u32, u32),
        tuning: Tuning,
        codec: Codec,
    ) -> Result<Self, EncodeError> {
        match choice {
            Choice::Auto | Choice::Vaapi => Auto::new(size, tuning, codec, choice == Choice::Vaapi)
                .map(|auto| Self::Auto(Box::new(auto))),
            Choice::Screen => {
                Screen::new(size, tuning).map(|screen| Self::Screen(Box::new(screen)))
            }
            Choice::OpenH264 => Software::new(size, tuning).map(Self::Software),
        }
    }

    /// How much colour the next picture should have, if `wanted` is wanted: what this encoder knows.
    pub fn chroma(&mut self, wanted: Chroma) -> Chroma {
        match self {
            Self::Auto(encoder) => encoder.chroma(wanted),
            Self::Screen(_) => wanted,
            Self::Software(_) => Chroma::Yuv420,
        }
    }

    /// The size of the pictures that this encoder takes.
    pub fn size(&self) -> (u32, u32) {
        match self {
            Self::Auto(encoder) => encoder.size(),
            Self::Screen(encoder) => encoder.size(),
            Self::Software(encoder) => encoder.size(),
        }
    }

    /// What is at work, if that has changed since the last call.
    pub fn take_news(&mut self) -> Option<EncoderState> {
        match self {
            Self::Auto(encoder) => encoder.take_news(),
            Self::Screen(_) | Self::Software(_) => None,
        }
    }

    /// What is at work, for encoders that never change.
    pub fn state(&self) -> EncoderState {
        EncoderState::software(match self {
            Self::Auto(_) | Self::Screen(_) => "screen",
            Self::Software(_) => "openh264",
        })
    }

    /// New targets, from the next frame on and without an IDR.
    ///
    /// # Errors
    ///
    /// The encoder is lost.
    pub fn tune(&mut self, tuning: Tuning) -> Result<(), EncodeError> {
        match self {
            Self::Auto(encoder) => {
                encoder.tune(tuning);
                Ok(())
            }
            Self::Screen(encoder) => {
                encoder.tune(tuning);
                Ok(())
            }
            Self::Software(encoder) => encoder.tune(tuning),
        }
    }

    /// Another codec is wanted. It comes, with an IDR, once there is an encoder for it; those on the
    /// CPU know H.264 alone.
    ///
    /// # Errors
    ///
    /// The encoder is lost.
    pub fn want(&mut self, codec: Codec) -> Result<(), EncodeError> {
        match self {
            Self::Auto(encoder) => encoder.want(codec),
            Self::Screen(_) | Self::Software(_) => Ok(()),
        }
    }

    /// What the last access unit is.
    pub fn codec(&self) -> Codec {
        match self {
            Self::Auto(encoder) => encoder.codec(),
            Self::Screen(_) | Self::Software(_) => Codec::H264,
        }
    }

    /// Encodes one frame whose scanout may be read in place. With `join`, decoders can begin with it:
    /// if not as an IDR, then by a recovery point.
    ///
    /// # Errors
    ///
    /// The encoder is lost.
    pub fn encode_scanout(
        &mut self,
        request: Request<'_>,
        planes: Option<Planes<'_>>,
        join: bool,
    ) -> Result<AccessUnit, EncodeError> {
        match self {
            Self::Auto(encoder) => encoder.encode(request, planes, join),
            Self::Screen(_) | Self::Software(_) => {
                self.encode(Request { idr: request.idr || join, ..request })
            }
        }
    }

    /// Encodes one frame.
    ///
    /// # Errors
    ///
    /// The encoder is lost.
    pub fn encode(&mut self, request: Request<'_>) -> Result<AccessUnit, EncodeError> {
        match self {
            Self::Auto(encoder) => encoder.encode(request, None, false),
            Self::Screen(encoder) => encoder.encode(request),
            Self::Software(encoder) => encoder.encode(request),
        }
    }
}
