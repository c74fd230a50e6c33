//! The agent's side: starts a helper, feeds it, and believes nothing that it says.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use transom_protocol::message::Codec;

use super::candidates::Candidate;
use super::message::{self, Access, Answer, Layout, Opened, Order, Overlay, Source};
use super::parameters::Rate;
use super::{VaapiError, check, hevc};
use crate::capture::Planes;
use crate::capture::cursor::Cursor;
use crate::damage::Rect;
use crate::picture::Picture;
use crate::sys::pair::End;
use crate::sys::shared::Shared;

/// Loading a driver compiles shaders in bad cases.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// The first frame may set up what later ones use; …
const FIRST_DEADLINE: Duration = Duration::from_secs(2);
/// … later ones are late when this has passed. Hardware needs 10 ms at most.
const FRAME_DEADLINE: Duration = Duration::from_millis(500);

/// What is started as the helper, if it is not this program itself.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Has another program than this one started as the helper: for tests, which are none.
pub fn set_program(program: PathBuf) {
    // The first one stays.
    let _ = PROGRAM.set(program);
}

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
    child: Option<Child>,
    socket: End,
    memory: Shared,
    size: (u32, u32),
    /// What was asked for.
    asked: Codec,
    started: Instant,
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
        let (socket, theirs) = End::pair().map_err(failed)?;
        let memory = Shared::new(message::length(size)).map_err(failed)?;
        let program = PROGRAM.get().map_or("/proc/self/exe".as_ref(), |program| program.as_path());
        let mut command = Command::new(program);
        command.arg("encode-helper").args(candidate.arguments());
        command.envs(candidate.environment.iter().map(|(name, value)| (name, value)));
        // Drivers chatter on stderr, some for every frame.
        let chatter =
            if log::log_enabled!(log::Level::Debug) { Stdio::inherit } else { Stdio::null };
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(chatter());
        let child = command.spawn().map_err(failed)?;
        // The child has its own end now; ours of theirs closed with the command.
        drop(command);
        let mut this = Self::over(socket, memory, size, codec);
        this.child = Some(child);
        let open = Order::Open { size, bitrate: rate.bitrate, fps: rate.fps, codec };
        this.socket.send(&message::encode(&open), &[this.memory.fd()]).map_err(failed)?;
        Ok(this)
    }

    /// Talks to whoever is at the other end, who shares memory of [`message::length`].
    pub fn over(socket: End, memory: Shared, size: (u32, u32), asked: Codec) -> Self {
        let whole = Rect { x: 0, y: 0, width: size.0, height: size.1 };
        Self {
            child: None,
            socket,
            memory,
            size,
            asked,
            started: Instant::now(),
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
        self.child.as_ref().map(Child::id)
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
        match self.answer(timeout)? {
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
            None if self.started.elapsed() > OPEN_DEADLINE => {
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
        let send = self.socket.send(&message::encode(&order), fds);
        send.map_err(|_| self.epitaph())?;
        let deadline = if self.frames == 0 { FIRST_DEADLINE } else { FRAME_DEADLINE };
        match self.answer(deadline)? {
            Some(Answer::Encoded { length, qp, refreshing, path }) => {
                let idr = access == Access::Idr;
                let bytes = self.fetch(length, idr)?;
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
                Ok(Outcome::Unit(Coded { bytes, qp, idr, refreshing }))
            }
            Some(Answer::Failed { reason, usable: true }) => Ok(Outcome::Refused(plain(&reason))),
            Some(Answer::Failed { reason, usable: false }) => {
                Err(VaapiError::Driver(plain(&reason)))
            }
            Some(Answer::Opened(_)) => Err(VaapiError::Helper("it answers out of turn".into())),
            None => Err(VaapiError::Late(deadline.as_millis())),
        }
    }

    /// Copies an access unit out of the shared memory and looks it over.
    fn fetch(&self, length: u32, idr: bool) -> Result<Vec<u8>, VaapiError> {
        let length = length as usize;
        if length > message::output_room(self.size) {
            return Err(VaapiError::Helper(format!("it says that it wrote {length} bytes")));
        }
        let mut bytes = vec![0; length];
        self.memory.read(message::OUTPUT_AT, &mut bytes);
        match self.codec() {
            Codec::H264 => {
                if let Some(announced) = check::access_unit(&bytes, idr)? {
                    check::fits(&announced, self.size)?;
                }
            }
            Codec::Hevc => {
                if let Some(announced) = hevc::check::access_unit(&bytes, idr)? {
                    hevc::check::fits(&announced, self.size)?;
                }
            }
        }
        Ok(bytes)
    }

    fn answer(&mut self, timeout: Duration) -> Result<Option<Answer>, VaapiError> {
        match self.socket.receive(Some(timeout)) {
            Ok(None) => Ok(None),
            Ok(Some(received)) if received.bytes.is_empty() => Err(self.epitaph()),
            Ok(Some(received)) => message::decode(&received.bytes)
                .map(Some)
                .ok_or_else(|| VaapiError::Helper("it answers nonsense".into())),
            Err(_) => Err(self.epitaph()),
        }
    }

    /// What the helper died of.
    fn epitaph(&mut self) -> VaapiError {
        let end = Instant::now() + Duration::from_millis(100);
        while let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(Some(status)) => {
                    self.child = None;
                    return VaapiError::Died(status.to_string());
                }
                // The socket closes a moment before the process has ended.
                Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(1)),
                _ => break,
            }
        }
        VaapiError::Died("without a word".into())
    }
}

/// A driver's words, for one line of the log.
fn plain(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            // A process that a stuck driver holds in the kernel cannot be waited for here.
            let waiter = thread::Builder::new().name("reaper".into()).stack_size(64 * 1024);
            let _ = waiter.spawn(move || child.wait());
        }
    }
}
