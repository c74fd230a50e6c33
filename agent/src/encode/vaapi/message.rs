//! The conversation between the agent and its helper.
//!
//! 1. agent: [`Order::Open`], with the shared memory;
//! 2. helper: [`Answer::Opened`] or [`Answer::Failed`];
//! 3. agent: [`Order::Encode`], with the dma-buf if there is one, or with the three planes of a
//!    picture that is another than before; helper: [`Answer::Encoded`] or
//!    [`Answer::Failed`]. One frame at a time, and so on.
//!
//! The shared memory has room for what comes out and, behind it, for an overlay. Planes of the
//! picture are memory of their own, which the helper can only read ([`crate::sys::lent`]): it copies
//! from there into the driver's image, and nobody copies before.

use serde::{Deserialize, Serialize};

use transom_protocol::message::Codec;

use crate::damage::Rect;

/// More rectangles are united by the sender.
pub const MAX_RECTS: usize = 256;

/// What the agent wants.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// An encoder for pictures of this even size.
    Open {
        /// Columns and rows.
        size: (u32, u32),
        /// Bits per second.
        bitrate: u32,
        /// Most frames per second.
        fps: u16,
        /// Which of them, where the driver has both; H.264 in every other case.
        codec: Codec,
    },
    /// One frame.
    Encode {
        /// Whether decoders can begin with it.
        access: Access,
        /// Bits per second.
        bitrate: u32,
        /// Most frames per second.
        fps: u16,
        /// Where the picture is.
        source: Source,
        /// What matters most in it, as x, y, width and height; no more than the driver takes.
        regions: Vec<[u32; 4]>,
    },
}

/// Whether decoders can begin with a frame (random access, ITU-T H.264, D.2.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// No: it builds on the frame before.
    None,
    /// It is decodable by itself.
    Idr,
    /// A recovery point: it and the frames behind it refresh a part of the picture each.
    Refresh,
}

impl From<bool> for Access {
    /// An IDR or nothing.
    fn from(idr: bool) -> Self {
        if idr { Self::Idr } else { Self::None }
    }
}

/// Where a picture is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// In planes of 4:2:0 without gaps: those that come along, else those of the time before. These
    /// rectangles, as x, y, width and height, differ from the picture that was there before; all of
    /// them are even.
    Memory(Vec<[u32; 4]>),
    /// In the dma-buf that comes along, with something above it or not.
    Dmabuf(Layout, Option<Overlay>),
}

/// What lies above a scanout: a cursor. Its pixels are in the shared memory, BGRA with
/// premultiplied alpha, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Where it lies in the picture: x, y, width and height, all of them even, for chroma is of
    /// half the size.
    pub area: [u32; 4],
    /// Its pixels are others than before.
    pub fresh: bool,
}

/// How pixels lie in a dma-buf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// DRM FourCC.
    pub fourcc: u32,
    /// DRM format modifier.
    pub modifier: u64,
    /// Columns and rows of the buffer.
    pub size: (u32, u32),
    /// Bytes from one row to the next.
    pub pitch: u32,
    /// Bytes in front of the first pixel.
    pub offset: u32,
    /// The part of it that is shown: x and y of its first pixel.
    pub start: (u32, u32),
}

/// What the helper says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The encoder is ready.
    Opened(Opened),
    /// The access unit lies in the shared memory.
    Encoded {
        /// Its bytes.
        length: u32,
        /// Average quantiser, if the driver tells it.
        qp: Option<u8>,
        /// A refresh has begun and is not over yet.
        refreshing: bool,
        /// How the picture got to the encoder.
        path: String,
    },
    /// Nothing came of it; the reason. A dma-buf that was refused is no reason to give up.
    Failed {
        /// In words.
        reason: String,
        /// The next frame may succeed by another path.
        usable: bool,
    },
}

/// What was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// What it encodes.
    pub codec: Codec,
    /// Why that is not what was wanted; empty where it is.
    pub instead: String,
    /// What the driver calls itself.
    pub driver: String,
    /// The profile.
    pub profile: String,
    /// The entrypoint.
    pub entrypoint: String,
    /// How pictures get to the encoder.
    pub path: String,
    /// Rate control.
    pub rate_control: String,
    /// Which headers the driver takes from us.
    pub packed: String,
    /// Whether dma-bufs can be tried: the driver has video processing.
    pub converts: bool,
    /// Whether it lays cursors above them.
    pub blends: bool,
    /// Whether it refreshes pictures bit by bit, with recovery points that we write.
    pub refreshes: bool,
    /// How many regions of interest a picture may have.
    pub regions: u8,
}

/// Where the output begins in the shared memory.
pub const OUTPUT_AT: usize = 0;

/// Room for an access unit: raw samples, an escape for every second byte, and headers.
pub fn output_room(size: (u32, u32)) -> usize {
    size.0.div_ceil(16) as usize * size.1.div_ceil(16) as usize * 600 + 64 * 1024
}

/// Most columns and rows of an overlay: those of the largest cursor, and what makes it even.
pub const OVERLAY_EDGE: u32 = 514;

/// Where an overlay begins in the shared memory.
pub fn overlay_at(size: (u32, u32)) -> usize {
    OUTPUT_AT + output_room(size)
}

/// Bytes of the shared memory.
pub fn length(size: (u32, u32)) -> usize {
    overlay_at(size) + OVERLAY_EDGE as usize * OVERLAY_EDGE as usize * 4
}

/// As much of the damage as fits a message, with even corners.
pub fn rects(damage: &[Rect], size: (u32, u32)) -> Vec<[u32; 4]> {
    let even = damage.iter().filter_map(|rect| rect.even(size));
    let rects: Vec<_> = even.map(|rect| [rect.x, rect.y, rect.width, rect.height]).collect();
    if rects.len() > MAX_RECTS { vec![[0, 0, size.0, size.1]] } else { rects }
}

/// What matters most in a picture: its damage, if that is little of it. Skipping the rest costs
/// nothing, and where all is new nothing matters more than the rest.
pub fn regions(damage: &[Rect], size: (u32, u32), most: usize) -> Vec<[u32; 4]> {
    let area: u64 = damage.iter().map(|rect| rect.area()).sum();
    if most == 0 || area == 0 || area * 4 > u64::from(size.0) * u64::from(size.1) {
        return Vec::new();
    }
    let all = rects(damage, size);
    // Several that lie next to one another are made one, in the order in which damage is found:
    // from top to bottom.
    let unite = |part: &[[u32; 4]]| {
        let edge = |pick: fn(&[u32; 4]) -> u32| part.iter().map(pick);
        let (x, y) = (edge(|r| r[0]).min()?, edge(|r| r[1]).min()?);
        let (right, bottom) = (edge(|r| r[0] + r[2]).max()?, edge(|r| r[1] + r[3]).max()?);
        Some([x, y, right - x, bottom - y])
    };
    all.chunks(all.len().div_ceil(most).max(1)).filter_map(unite).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_damage_is_what_matters_and_no_more_than_can_be_told() {
        let rect = |x, y, width, height| Rect { x, y, width, height };
        let size = (640, 480);
        let two = [rect(3, 5, 32, 16), rect(100, 300, 16, 16)];
        assert_eq!(regions(&two, size, 8), [[2, 4, 34, 18], [100, 300, 16, 16]]);
        assert_eq!(regions(&two, size, 1), [[2, 4, 114, 312]]);
        assert!(regions(&two, size, 0).is_empty(), "the driver knows none");
        assert!(regions(&[], size, 8).is_empty());
        assert!(regions(&[rect(0, 0, 640, 121)], size, 8).is_empty(), "more than a quarter");
        let many: Vec<_> = (0..30).map(|row| rect(0, row * 16, 8, 8)).collect();
        for most in 1..40 {
            let told = regions(&many, size, most);
            assert!(!told.is_empty() && told.len() <= most, "{most}: {told:?}");
            assert_eq!(told.iter().map(|r| r[1] + r[3]).max(), Some(29 * 16 + 8));
        }
    }
}
