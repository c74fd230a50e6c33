//! Software H.264 with OpenH264: works everywhere, costs CPU time for every macroblock.

use transom_protocol::message::Chroma;

use super::{AccessUnit, EncodeError, Request, Tuning};
use crate::sys::openh264::{Encoder, Kind, Planes, Settings};

/// OpenH264 codes up to level 5.2, pictures of at most this many columns and rows.
const MAX: (u32, u32) = (3840, 2160);
/// It has no smaller macroblock to put a picture in.
const MIN: u32 = 16;

/// Quantisers above this show on text; such a frame is worth another one when the screen rests.
const COARSE: u32 = 28;

/// Below this, OpenH264's rate control does not work as told.
const MIN_BITRATE: u32 = 100_000;
/// What the highest level allows (ITU-T H.264, table A-1).
const MAX_BITRATE: u32 = 240_000_000;
/// OpenH264 takes no higher rate as its target; frames may come faster all the same.
const MAX_FPS: u16 = 60;

/// The encoder for one picture size.
pub struct Software {
    encoder: Encoder,
    size: (u32, u32),
    tuning: Tuning,
}

impl std::fmt::Debug for Software {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Software").field("size", &self.size).field("tuning", &self.tuning).finish()
    }
}

impl Software {
    pub(super) fn new(size: (u32, u32), tuning: Tuning) -> Result<Self, EncodeError> {
        let (long, short) = (size.0.max(size.1), size.0.min(size.1));
        if short < MIN || long > MAX.0 || short > MAX.1 {
            return Err(EncodeError::Size(size.0, size.1));
        }
        let tuning = clamped(tuning);
        let encoder = Encoder::new(Settings {
            width: size.0,
            height: size.1,
            bitrate: tuning.bitrate.0,
            fps: tuning.fps,
        })?;
        Ok(Self { encoder, size, tuning })
    }

    pub(super) fn size(&self) -> (u32, u32) {
        self.size
    }

    pub(super) fn tune(&mut self, tuning: Tuning) -> Result<(), EncodeError> {
        let tuning = clamped(tuning);
        if tuning.bitrate != self.tuning.bitrate {
            self.encoder.set_bitrate(tuning.bitrate.0)?;
        }
        if tuning.fps != self.tuning.fps {
            self.encoder.set_fps(tuning.fps)?;
        }
        self.tuning = tuning;
        Ok(())
    }

    pub(super) fn encode(&mut self, request: Request<'_>) -> Result<AccessUnit, EncodeError> {
        let picture = request.frame.picture;
        if picture.size() != self.size {
            let (width, height) = picture.size();
            return Err(EncodeError::Size(width, height));
        }
        if picture.chroma() != Chroma::Yuv420 {
            return Err(EncodeError::Chroma("OpenH264"));
        }
        let planes = Planes { data: picture.planes(), strides: picture.strides() };
        let mut bytes = Vec::new();
        let milliseconds = (request.time.0 / 1_000_000) as i64;
        match self.encoder.encode(planes, request.idr, milliseconds, &mut bytes)? {
            Kind::Skipped => Err(EncodeError::Skipped),
            kind => {
                let coarse = self.encoder.quantiser()? > COARSE;
                Ok(AccessUnit { bytes, idr: kind == Kind::Idr, coarse })
            }
        }
    }
}

fn clamped(tuning: Tuning) -> Tuning {
    let bitrate = tuning.bitrate.0.clamp(MIN_BITRATE, MAX_BITRATE);
    Tuning { bitrate: transom_protocol::BitRate(bitrate), fps: tuning.fps.clamp(1, MAX_FPS) }
}
