//! What one KMS plane shows, read by one system call.

use std::io;

use drm::control::{Device as _, ResourceHandle, crtc, framebuffer, from_u32, plane};

use crate::sys::kms::{Card, Properties};

/// `enum drm_plane_type`: the value of a plane's property "type".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Picture-in-picture; not captured.
    Overlay,
    /// The screen.
    Primary,
    /// The mouse pointer.
    Cursor,
}

/// Where a plane takes its pixels from, and where it puts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The framebuffer shown.
    pub fb: framebuffer::Handle,
    /// The CRTC it is shown on.
    pub crtc: crtc::Handle,
    /// Left column on the CRTC.
    pub x: i32,
    /// Top row on the CRTC.
    pub y: i32,
    /// Part of the framebuffer shown: left, top, columns, rows. `None`: all of it.
    pub source: Option<[u32; 4]>,
    /// Blob with the damage of the last commit. Commits between two looks are lost, so that it
    /// tells *that* something changed and never *what*.
    pub damage: u64,
}

/// Positions of a plane's properties.
#[derive(Debug)]
struct Columns {
    fb: usize,
    crtc: usize,
    x: usize,
    y: usize,
    source: [usize; 4],
    damage: Option<usize>,
}

/// A plane being watched.
#[derive(Debug)]
pub struct Plane {
    handle: plane::Handle,
    /// What the plane is for.
    pub kind: Kind,
    /// The CRTCs that it can be shown on.
    pub crtcs: Vec<crtc::Handle>,
    properties: Properties,
    columns: Option<Columns>,
}

impl Plane {
    /// Gets to know a plane.
    ///
    /// # Errors
    ///
    /// The card is gone.
    pub fn open(card: &Card, handle: plane::Handle) -> io::Result<Self> {
        let info = card.get_plane(handle)?;
        let crtcs = card.resource_handles()?.filter_crtcs(info.possible_crtcs());
        let properties = Properties::read(card, handle.into(), plane::Handle::FFI_TYPE)?;
        let find = |name| properties.find(card, name);
        let kind = match find("type").and_then(|index| properties.value(index)) {
            Some(1) => Kind::Primary,
            Some(2) => Kind::Cursor,
            _ => Kind::Overlay,
        };
        let columns = (|| {
            Some(Columns {
                fb: find("FB_ID")?,
                crtc: find("CRTC_ID")?,
                x: find("CRTC_X")?,
                y: find("CRTC_Y")?,
                source: [find("SRC_X")?, find("SRC_Y")?, find("SRC_W")?, find("SRC_H")?],
                damage: find("FB_DAMAGE_CLIPS"),
            })
        })();
        Ok(Self { handle, kind, crtcs, properties, columns })
    }

    /// Whether the driver tells when front-buffer drawing damages the plane.
    pub fn tells_damage(&self) -> bool {
        self.columns.as_ref().is_some_and(|columns| columns.damage.is_some())
    }

    /// What the plane shows now; `None` while it is off.
    ///
    /// # Errors
    ///
    /// The card is gone.
    pub fn state(&mut self, card: &Card) -> io::Result<Option<State>> {
        let Some(columns) = &self.columns else { return self.legacy_state(card) };
        self.properties.refresh(card)?;
        let value = |index| self.properties.value(index).unwrap_or(0);
        let (Some(fb), Some(crtc)) =
            (from_u32(value(columns.fb) as u32), from_u32(value(columns.crtc) as u32))
        else {
            return Ok(None);
        };
        // SRC_* are 16.16 fixed point; positions are signed.
        let source = columns.source.map(|index| (value(index) >> 16) as u32);
        Ok(Some(State {
            fb,
            crtc,
            x: value(columns.x) as i32,
            y: value(columns.y) as i32,
            source: (source[2] > 0 && source[3] > 0).then_some(source),
            damage: columns.damage.map_or(0, value),
        }))
    }

    /// Drivers without atomic modesetting tell neither position nor damage.
    fn legacy_state(&self, card: &Card) -> io::Result<Option<State>> {
        let info = card.get_plane(self.handle)?;
        Ok(info.framebuffer().zip(info.crtc()).map(|(fb, crtc)| State {
            fb,
            crtc,
            x: 0,
            y: 0,
            source: None,
            damage: 0,
        }))
    }
}
