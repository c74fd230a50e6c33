//! The agent's side: starts a helper, feeds it, and believes nothing that it says.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use transom_protocol::message::Codec;

use super::candidates::Candidate;
use super::message::{self, Access, Answer, Layout, Opened, Order, Overlay, Source};
use super::parameters::Rate;
use super::{VaapiError, check, hevc};
use crate::capture::Planes;
use crate::capture::cursor::Cursor;
use crate::damage::Rect;
use crate::helper::{Helper, Lost, plain};
use crate::picture::Picture;
use crate::sys::pair::End;
use crate::sys::shared::Shared;

/// Loading a driver compiles shaders in bad cases.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// The first frame may set up what later ones use; …
const FIRST_DEADLINE: Duration = Duration::from_secs(2);
/// … later ones are late when this has passed. Hardware needs 10 ms at most.
const FRAME_DEADLINE: Duration = Duration::from_millis(500);

/// How far a helper has come.
#[derive(Debug)]
pub enum Progress {
    /// It has not answered yet.
    Opening,
    /// It can encode.
    Ready,
}

/// An access unit.
#[derive(Debug)]
pub struct Coded {
    /// Annex B.
    pub bytes: Vec<u8>,
    /// What its SPS announces, if it has one.
    pub announced: Option<check::Announced>,
    /// Average quantiser, if the driver tells it.
    pub qp: Option<u8>,
    /// Whether it is an IDR, as was asked for or because there was nothing better.
    pub idr: bool,
    /// A refresh is not over yet: the next frames bring more of it.
    pub refreshing: bool,
}

/// What came of a frame.
enum Outcome {
    /// An access unit.
    Unit(Coded),
    /// Not by this path; the reason.
    Refused(String),
}

/// One helper with one encoder.
#[derive(Debug)]
pub struct Remote {
    helper: Helper,
    memory: Shared,
    size: (u32, u32),
    /// What was asked for.
    asked: Codec,
    opened: Option<Opened>,
    /// What the driver's picture does not show yet; everything at first.
    stale: Vec<Rect>,
    /// The number of the picture that the helper can read.
    lent: Option<u64>,
    frames: u64,
    /// Dma-bufs are tried until one is refused.
    imports: bool,
    /// So are cursors above them.
    blends: bool,
    /// Refreshes are asked for until one has no recovery point; an IDR is then owed instead.
    refreshes: bool,
    owes_idr: bool,
    /// A refresh is under way.
    refreshing: bool,
    /// One was, which is told once.
    has_refreshed: bool,
    /// What the driver last had above one: columns and rows, pixels.
    above: Option<((u32, u32), Vec<u8>)>,
    /// How the last picture got to the encoder.
    path: String,
}

impl Remote {
    /// Starts a helper for pictures of this even size, and does not wait for it. With HEVC as the
    /// codec it encodes that if the driver can, else H.264: [`Remote::codec`].
    ///
    /// # Errors
    ///
    /// It could not be started.
    pub fn start(
        candidate: &Candidate,
        size: (u32, u32),
        rate: Rate,
        codec: Codec,
    ) -> Result<Self, VaapiError> {
        let failed = |error: io::Error| VaapiError::Helper(error.to_string());
        let memory = Shared::new(message::length(size)).map_err(failed)?;
        let arguments = candidate.arguments();
        let helper = Helper::start("encode-helper", arguments, &candidate.environment);
        let mut this = Self::with(helper.map_err(failed)?, memory, size, codec);
        let open = Order::Open { size, bitrate: rate.bitrate, fps: rate.fps, codec };
        this.helper.say(&open, &[this.memory.fd()])?;
        Ok(this)
    }

    /// Talks to whoever is at the other end, who shares memory of [`message::length`].
    pub fn over(socket: End, memory: Shared, size: (u32, u32), asked: Codec) -> Self {
        Self::with(Helper::over(socket), memory, size, asked)
    }

    fn with(helper: Helper, memory: Shared, size: (u32, u32), asked: Codec) -> Self {
        let whole = Rect { x: 0, y: 0, width: size.0, height: size.1 };
        Self {
            helper,
            memory,
            size,
            asked,
            opened: None,
            stale: vec![whole],
            lent: None,
            frames: 0,
            imports: false,
            blends: false,
            refreshes: false,
            owes_idr: false,
            refreshing: false,
            has_refreshed: false,
            above: None,
            path: String::new(),
        }
    }

    /// What was opened, once it is.
    pub fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    /// What it encodes; H.264 until it is open.
    pub fn codec(&self) -> Codec {
        self.opened.as_ref().map_or(Codec::H264, |opened| opened.codec)
    }

    /// The helper's process id, while it lives.
    pub fn pid(&self) -> Option<u32> {
        self.helper.pid()
    }

    /// Frames that came out.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Waits at most so long for the helper to be ready.
    ///
    /// # Errors
    ///
    /// The driver refused, crashed, or took too long altogether.
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<Progress, VaapiError> {
        if self.opened.is_some() {
            return Ok(Progress::Ready);
        }
        match self.helper.hear(timeout)? {
            Some(Answer::Opened(opened)) if ![Codec::H264, self.asked].contains(&opened.codec) => {
                Err(VaapiError::Helper("it encodes what nobody asked for".into()))
            }
            Some(Answer::Opened(opened)) => {
                self.imports = opened.converts;
                self.blends = opened.blends;
                self.refreshes = opened.refreshes;
                self.path = plain(&opened.path);
                let (driver, instead) = (plain(&opened.driver), plain(&opened.instead));
                self.opened = Some(Opened { driver, instead, ..opened });
                Ok(Progress::Ready)
            }
            Some(Answer::Failed { reason, .. }) => Err(VaapiError::Driver(plain(&reason))),
            Some(Answer::Encoded { .. }) => {
                Err(VaapiError::Helper("it answers out of turn".into()))
            }
            None if self.helper.age() > OPEN_DEADLINE => {
                Err(VaapiError::Late(OPEN_DEADLINE.as_millis()))
            }
            None => Ok(Progress::Opening),
        }
    }

    /// Remembers damage of a frame that goes another way.
    pub fn pass_over(&mut self, damage: &[Rect]) {
        if self.stale.len() + damage.len() > message::MAX_RECTS {
            let (width, height) = self.size;
            self.stale = vec![Rect { x: 0, y: 0, width, height }];
        } else {
            self.stale.extend_from_slice(damage);
        }
    }

    /// How the last picture got to the encoder.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Encodes a picture from its scanout where the driver takes that, else from memory. Where the
    /// driver refreshes nothing, an IDR comes instead.
    ///
    /// # Errors
    ///
    /// The helper is of no more use.
    pub fn encode_scanout(
        &mut self,
        picture: &Picture,
        damage: &[Rect],
        access: impl Into<Access>,
        rate: Rate,
        planes: Option<Planes<'_>>,
    ) -> Result<Coded, VaapiError> {
        let access = access.into();
        let regions = self.regions(damage);
        if let Some(Planes { primary: scanout, cursor }) = planes
            && self.imports
            && let Some(overlay) = self.overlay(cursor)
        {
            let layout = Layout {
                fourcc: scanout.fourcc,
                modifier: scanout.modifier,
                size: scanout.size,
                pitch: scanout.pitch,
                offset: scanout.offset,
                start: scanout.start,
            };
            let source = Source::Dmabuf(layout, overlay);
            match self.order(access, rate, source, &regions, &[scanout.fd.as_fd()])? {
                Outcome::Unit(unit) => {
                    self.pass_over(damage);
                    return Ok(unit);
                }
                Outcome::Refused(reason) if overlay.is_some() => {
                    log::info!("encoder: with a cursor the scanout is copied: {reason}");
                    self.blends = false;
                }
                Outcome::Refused(reason) => {
                    log::info!("encoder: the scanout is not imported, but copied: {reason}");
                    self.imports = false;
                }
            }
        }
        self.encode(picture, damage, access, rate)
    }

    /// What matters most in a picture with this damage, as far as the driver wants to know.
    fn regions(&self, damage: &[Rect]) -> Vec<[u32; 4]> {
        let most = self.opened.as_ref().map_or(0, |opened| opened.regions);
        message::regions(damage, self.size, most.into())
    }

    /// What the driver has to lay above a scanout; `None` if it cannot.
    fn overlay(&mut self, cursor: Option<&Cursor>) -> Option<Option<Overlay>> {
        let inside = |cursor: &Cursor| cursor.area(self.size)?.even(self.size);
        let Some((cursor, area)) = cursor.and_then(|c| Some((c, inside(c)?))) else {
            return Some(None);
        };
        let (width, height) = (area.width, area.height);
        if !self.blends || width.max(height) > message::OVERLAY_EDGE {
            return None;
        }
        let above = ((width, height), cursor.patch(area));
        let fresh = self.above.as_ref() != Some(&above);
        if fresh {
            self.memory.write(message::overlay_at(self.size), &above.1);
            self.above = Some(above);
        }
        Some(Some(Overlay { area: [area.x, area.y, width, height], fresh }))
    }

    /// Encodes a picture in memory.
    ///
    /// # Errors
    ///
    /// The helper is of no more use.
    pub fn encode(
        &mut self,
        picture: &Picture,
        damage: &[Rect],
        access: impl Into<Access>,
        rate: Rate,
    ) -> Result<Coded, VaapiError> {
        let regions = self.regions(damage);
        self.pass_over(damage);
        let rects = message::rects(&self.stale, self.size);
        let alone = || VaapiError::Helper("the kernel has no memory to lend".into());
        let (number, planes) = picture.lent().ok_or_else(alone)?;
        let known = self.lent == Some(number);
        let planes = if known { &[][..] } else { &planes[..] };
        // Of another picture nothing is there yet.
        let (width, height) = self.size;
        let rects = if known { rects } else { vec![[0, 0, width, height]] };
        self.stale.clear();
        self.lent = Some(number);
        match self.order(access.into(), rate, Source::Memory(rects), &regions, planes)? {
            Outcome::Unit(unit) => Ok(unit),
            Outcome::Refused(reason) => Err(VaapiError::Driver(reason)),
        }
    }

    fn order(
        &mut self,
        access: Access,
        rate: Rate,
        source: Source,
        regions: &[[u32; 4]],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Outcome, VaapiError> {
        let (bitrate, fps) = (rate.bitrate, rate.fps);
        let access = match access {
            _ if self.owes_idr => Access::Idr,
            Access::Refresh if !self.refreshes => Access::Idr,
            access => access,
        };
        let regions = regions.to_vec();
        let order = Order::Encode { access, bitrate, fps, source, regions };
        self.helper.say(&order, fds)?;
        let deadline = if self.frames == 0 { FIRST_DEADLINE } else { FRAME_DEADLINE };
        match self.helper.hear(deadline)? {
            Some(Answer::Encoded { length, qp, refreshing, path }) => {
                let idr = access == Access::Idr;
                let (bytes, announced) = self.fetch(length, idr)?;
                self.frames += 1;
                self.owes_idr &= !idr;
                // A second request while a refresh is under way begins none.
                let begins = access == Access::Refresh && !self.refreshing;
                if begins && check::has_recovery_point(&bytes) {
                    if !std::mem::replace(&mut self.has_refreshed, true) {
                        log::info!("encoder: the picture is refreshed a part at a time");
                    }
                } else if begins {
                    log::info!("encoder: no recovery point came out: IDRs instead of refreshes");
                    (self.refreshes, self.owes_idr) = (false, true);
                }
                self.refreshing = refreshing;
                if self.path != path {
                    self.path = plain(&path);
                }
                Ok(Outcome::Unit(Coded { bytes, announced, qp, idr, refreshing }))
            }
            Some(Answer::Failed { reason, usable: true }) => Ok(Outcome::Refused(plain(&reason))),
            Some(Answer::Failed { reason, usable: false }) => {
                Err(VaapiError::Driver(plain(&reason)))
            }
            Some(Answer::Opened(_)) => Err(VaapiError::Helper("it answers out of turn".into())),
            None => Err(VaapiError::Late(deadline.as_millis())),
        }
    }

    /// Copies an access unit out of the shared memory and looks it over. Yields what it announces,
    /// too.
    fn fetch(
        &self,
        length: u32,
        idr: bool,
    ) -> Result<(Vec<u8>, Option<check::Announced>), VaapiError> {
        let length = length as usize;
        if length > message::output_room(self.size) {
            return Err(VaapiError::Helper(format!("it says that it wrote {length} bytes")));
        }
        let mut bytes = vec![0; length];
        self.memory.read(message::OUTPUT_AT, &mut bytes);
        let announced = match self.codec() {
            Codec::H264 => check::access_unit(&bytes, idr)?,
            Codec::Hevc => hevc::check::access_unit(&bytes, idr)?,
        };
        if let Some(announced) = &announced {
            match self.codec() {
                Codec::H264 => check::fits(announced, self.size)?,
                Codec::Hevc => hevc::check::fits(announced, self.size)?,
            }
        }
        Ok((bytes, announced))
    }
}

impl From<Lost> for VaapiError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Died(how) => Self::Died(how),
            Lost::Nonsense => Self::Helper("it answers nonsense".into()),
        }
    }
}
