//! One picture of a screen, lossless, apart from the stream.
//!
//! It uses mappings of its own, so that it works while the stream is stuck, and reads the screen
//! until two looks agree, so that a picture that is being drawn is not torn where that can be
//! helped.

use drm::control::Device as _;

use super::buffers::{Buffers, Refused};
use super::cards::Screen;
use super::cursor::Cursor;
use super::linear::Reading;
use super::{View, read_cursor};
use crate::damage::{Damage, Rect};
use crate::mirror::Mirror;

/// Looks at a screen that does not come to rest.
const LOOKS: u32 = 4;
/// 7680x4320; a larger one would take more memory than the agent has.
const MAX_PIXELS: u64 = 7680 * 4320;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum StillError {
    /// The plane was turned off.
    #[error("the screen went dark")]
    Dark,
    /// The kernel does not show it.
    #[error("{0}")]
    Unreadable(String),
    /// Too much for the agent's memory.
    #[error("{0}x{1} pixels are too many for a picture of it")]
    Size(u32, u32),
}

/// The picture.
#[derive(Debug)]
pub struct Still {
    mirror: Mirror,
    cursor: Option<Cursor>,
    /// DRM FourCC of the framebuffer.
    pub fourcc: u32,
    /// DRM format modifier.
    pub modifier: u64,
    /// What made the bytes that were read, where they are not the buffer's own.
    pub by: Option<String>,
    /// Whether two looks agreed.
    pub at_rest: bool,
}

impl Still {
    /// Takes it, reading in this way.
    ///
    /// # Errors
    ///
    /// See [`StillError`].
    pub fn take(screen: &mut Screen, reading: Reading) -> Result<Self, StillError> {
        let mut buffers = Buffers::patient(reading);
        let mut still: Option<Self> = None;
        for _ in 0..LOOKS {
            match Self::look(screen, &mut buffers, still.take()) {
                Ok(taken) if taken.at_rest => return Ok(taken),
                Ok(taken) => still = Some(taken),
                // It was flipped away from under us.
                Err(Looked::Again) => {}
                Err(Looked::Never(error)) => return Err(error),
            }
        }
        still.ok_or(StillError::Dark)
    }

    fn look(
        screen: &mut Screen,
        buffers: &mut Buffers,
        before: Option<Self>,
    ) -> Result<Self, Looked> {
        let Screen { card, crtc, primary, cursor } = screen;
        let card = &*card;
        let shown = primary.state(card).ok().flatten().filter(|state| state.crtc == *crtc);
        let Some(shown) = shown else { return Err(Looked::Never(StillError::Dark)) };
        let pointer = cursor.as_mut().and_then(|plane| plane.state(card).ok().flatten());
        let pointer = pointer.filter(|state| state.crtc == *crtc);

        let fb = buffers.fetch(card, shown.fb).map_err(explain)?;
        let view = View::new(&fb, shown.source);
        let (width, height) = view.size;
        if width == 0 || height == 0 || u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(Looked::Never(StillError::Size(width, height)));
        }
        let (fourcc, modifier, format) = (fb.fourcc, fb.modifier, fb.format);
        let by = fb.by.clone();
        let fits =
            |still: &Self| still.mirror.size() == view.size && still.mirror.format() == format;
        let (mut mirror, old_cursor) = match before.filter(fits) {
            Some(still) => (still.mirror, still.cursor),
            None => (Mirror::new(format, width, height), None),
        };
        let mut damage = Damage::default();
        fb.mapping.with_bytes(|bytes| mirror.update(&bytes[view.start..], fb.pitch, &mut damage));
        let cursor = pointer.and_then(|pointer| {
            let fb = buffers.fetch(card, pointer.fb).ok()?;
            read_cursor(&fb, &pointer, &shown)
        });
        let at_rest = damage.is_empty() && cursor == old_cursor;
        Ok(Self { mirror, cursor, fourcc, modifier, by, at_rest })
    }

    /// Columns and rows.
    pub fn size(&self) -> (u32, u32) {
        self.mirror.size()
    }

    /// Appends rows as RGB, three bytes a pixel, cursor included.
    pub fn read_rgb(&self, top: u32, rows: u32, out: &mut Vec<u8>) {
        let (width, height) = self.size();
        let rows = rows.min(height.saturating_sub(top));
        let area = Rect { x: 0, y: top, width, height: rows };
        let mut bgrx = Vec::new();
        self.mirror.read_bgrx(area, &mut bgrx);
        if let Some(cursor) = &self.cursor {
            cursor.blend(&mut bgrx, area);
        }
        out.extend(bgrx.as_chunks::<4>().0.iter().flat_map(|&[b, g, r, _]| [r, g, b]));
    }
}

enum Looked {
    Again,
    Never(StillError),
}

fn explain(refused: Refused) -> Looked {
    match refused {
        Refused::Gone(_) => Looked::Again,
        Refused::Unreadable { size: (width, height), fourcc, modifier, why } => {
            let why = why_not(why);
            Looked::Never(StillError::Unreadable(format!(
                "a framebuffer of {width}x{height}, format {}, modifier {modifier:#x}: {why}",
                name(fourcc)
            )))
        }
    }
}

/// A reason in words.
pub fn why_not(why: transom_protocol::message::Unreadable) -> String {
    use transom_protocol::message::Unreadable;
    match why {
        Unreadable::Format => "its pixel format is not among those that are read".into(),
        Unreadable::Tiled => {
            "it is tiled or compressed, so that its bytes are no picture to a CPU, and GBM makes no \
             linear view of it: the agent's log has the reason"
                .into()
        }
        Unreadable::NotPermitted => {
            "the kernel hands it to nobody without CAP_SYS_ADMIN, which the agent lacks".into()
        }
        Unreadable::Map(code) => {
            format!("it cannot be mapped: {}", std::io::Error::from_raw_os_error(code))
        }
        Unreadable::Size => "its size is out of range".into(),
    }
}

/// A FourCC as its letters.
pub fn name(fourcc: u32) -> String {
    let letters = fourcc.to_le_bytes();
    letters
        .iter()
        .map(|&byte| if byte.is_ascii_graphic() { char::from(byte) } else { '?' })
        .collect()
}

/// The screen that a card shows, or that any of several does.
pub fn find<'a>(
    cards: impl IntoIterator<Item = &'a std::sync::Arc<crate::sys::kms::Card>>,
) -> Option<Screen> {
    cards
        .into_iter()
        .filter(|card| card.resource_handles().is_ok())
        .find_map(|card| super::cards::find_on(card).ok().flatten())
}
