//! The helper: the process in which driver code runs.
//!
//! In: orders on the socket that is its standard input, frames in shared memory. Out: answers,
//! access units. It gives up all capabilities first, and ends with the agent.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use transom_protocol::message::Codec;

use super::message::{self, Access, Answer, Opened, Order, Overlay, Source};
use super::parameters::Rate;
use super::session::Session;
use crate::helper;
use crate::sys::lent::Borrowed;
use crate::sys::pair::{End, Received};
use crate::sys::shared::Shared;
use crate::sys::va::{Device, Display, Failure, ImageLayout};

/// Runs until the agent hangs up. `device` is a DRM node; without one, libva's X11 display.
///
/// # Errors
///
/// The socket's; a driver's failure is an answer.
pub fn serve(device: Option<PathBuf>) -> io::Result<()> {
    let confined = crate::sys::process::confine();
    let socket = End::of(io::stdin().as_fd().try_clone_to_owned()?);
    let Some(Received { bytes, mut fds }) = socket.receive(None)? else { return Ok(()) };
    let (Some(Order::Open { size, bitrate, fps, codec }), Some(memory)) =
        (helper::decode(&bytes), fds.pop())
    else {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    };
    let rate = Rate { bitrate, fps };
    let opened = match confined {
        Ok(()) => open(device, size, rate, codec, memory),
        Err(error) => Err(format!("the helper cannot give up its capabilities: {error}")),
    };
    let mut encoder = match opened {
        Ok((encoder, opened)) => {
            socket.send(&helper::encode(&Answer::Opened(opened)), &[])?;
            encoder
        }
        Err(reason) => {
            let answer = Answer::Failed { reason, usable: false };
            return socket.send(&helper::encode(&answer), &[]);
        }
    };
    loop {
        let Some(Received { bytes, fds }) = socket.receive(None)? else { return Ok(()) };
        if bytes.is_empty() {
            return Ok(());
        }
        let answer = match helper::decode(&bytes) {
            Some(Order::Encode { access, bitrate, fps, source, regions }) => {
                encoder.session.tune(Rate { bitrate, fps });
                encoder.encode(access, &source, &regions, fds)
            }
            _ => return Err(io::Error::from(io::ErrorKind::InvalidData)),
        };
        socket.send(&helper::encode(&answer), &[])?;
    }
}

struct Encoder {
    session: Session,
    display: Rc<Display>,
    memory: Shared,
    /// Planes of the picture.
    picture: Option<[Borrowed; 3]>,
    size: (u32, u32),
    unit: Vec<u8>,
}

fn open(
    device: Option<PathBuf>,
    size: (u32, u32),
    rate: Rate,
    codec: Codec,
    memory: OwnedFd,
) -> Result<(Encoder, Opened), String> {
    let memory = Shared::of(memory, message::length(size))
        .map_err(|error| format!("shared memory: {error}"))?;
    let device = match device {
        Some(path) => Device::Drm(
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?
                .into(),
        ),
        None => Device::X11,
    };
    let display = Display::open(device).map_err(|error| error.to_string())?;
    let (session, instead) = match Session::open(&display, size, rate, codec) {
        Err(error) if codec == Codec::Hevc => {
            (Session::open(&display, size, rate, Codec::H264), error.to_string())
        }
        other => (other, String::new()),
    };
    let session = session.map_err(|error| error.to_string())?;
    let opened = Opened { instead, ..session.opened().clone() };
    Ok((Encoder { session, display, memory, picture: None, size, unit: Vec::new() }, opened))
}

impl Encoder {
    fn encode(
        &mut self,
        access: Access,
        source: &Source,
        regions: &[[u32; 4]],
        fds: Vec<OwnedFd>,
    ) -> Answer {
        let lost =
            |error: &dyn ToString| Answer::Failed { reason: error.to_string(), usable: false };
        let (converted, path) = match source {
            Source::Memory(rects) => {
                if !fds.is_empty() {
                    match planes(&fds, self.size) {
                        Ok(planes) => self.picture = Some(planes),
                        Err(error) => return lost(&error),
                    }
                }
                let size = self.size;
                let Some(picture) = &self.picture else { return lost(&"there is no picture") };
                let filled = self.session.upload(|bytes, layout| {
                    rects.iter().for_each(|rect| copy(picture, size, bytes, layout, *rect));
                });
                if let Err(error) = filled {
                    return lost(&error);
                }
                (false, self.session.opened().path.clone())
            }
            Source::Dmabuf(layout, overlay) => {
                let Some(fd) = fds.first() else { return lost(&"no dma-buf came along") };
                let above = overlay.map(|overlay| overlay.area);
                let imported = overlay
                    .map_or(Ok(()), |overlay| self.overlay(overlay))
                    .and_then(|()| self.session.import(&self.display, fd.as_fd(), *layout, above));
                if let Err(error) = imported {
                    return Answer::Failed { reason: error.to_string(), usable: true };
                }
                let with = if overlay.is_some() { ", cursor blended" } else { "" };
                (true, format!("dma-buf{with}"))
            }
        };
        let coded = match self.session.encode(access, regions, converted, &mut self.unit) {
            Ok(coded) => coded,
            Err(error) => return lost(&error),
        };
        if self.unit.len() > message::output_room(self.size) {
            return lost(&"the access unit is larger than any may be");
        }
        self.memory.write(message::OUTPUT_AT, &self.unit);
        let (qp, refreshing) = (coded.qp, coded.refreshing);
        Answer::Encoded { length: self.unit.len() as u32, qp, refreshing, path }
    }
}

impl Encoder {
    /// Hands the pixels of an overlay to the driver, if they are new.
    fn overlay(&mut self, overlay: Overlay) -> Result<(), Failure> {
        let [_, _, width, height] = overlay.area;
        if width > message::OVERLAY_EDGE || height > message::OVERLAY_EDGE {
            return Err(Failure::Lie(format!("an overlay of {width}x{height}")));
        }
        if !overlay.fresh {
            return Ok(());
        }
        let (memory, at) = (&self.memory, message::overlay_at(self.size));
        self.session.overlay(&self.display, (width, height), |bytes, layout| {
            let row = width as usize * 4;
            for y in 0..height as usize {
                let to = layout.offsets[0] + y * layout.pitches[0];
                memory.read(at + y * row, &mut bytes[to..to + row]);
            }
        })
    }
}

/// The planes of a picture of this size, as the agent lends them.
fn planes(fds: &[OwnedFd], (width, height): (u32, u32)) -> io::Result<[Borrowed; 3]> {
    let [y, u, v] = fds else { return Err(io::Error::from(io::ErrorKind::InvalidData)) };
    let samples = width as usize * height as usize;
    let chroma = |fd| Borrowed::of(fd, samples / 4);
    Ok([Borrowed::of(y, samples)?, chroma(u)?, chroma(v)?])
}

/// Copies one rectangle of a picture to a driver's image, whose layout fits the size.
fn copy(
    [luma, u, v]: &[Borrowed; 3],
    (width, height): (u32, u32),
    bytes: &mut [u8],
    layout: ImageLayout,
    [x, y, columns, rows]: [u32; 4],
) {
    let inside = |start: u32, length: u32, limit: u32| {
        start.checked_add(length).is_some_and(|end| end <= limit)
    };
    if !inside(x, columns, width) || !inside(y, rows, height) {
        return;
    }
    let width = width as usize;
    let (x, y, columns, rows) = (x as usize, y as usize, columns as usize, rows as usize);
    for row in y..y + rows {
        let to = layout.offsets[0] + row * layout.pitches[0] + x;
        luma.read(row * width + x, &mut bytes[to..to + columns]);
    }
    for row in y / 2..(y + rows) / 2 {
        let to = layout.offsets[1] + row * layout.pitches[1] + x;
        Borrowed::read_pairs(u, v, (row * width + x) / 2, &mut bytes[to..to + columns]);
    }
}
