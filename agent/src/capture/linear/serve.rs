//! The helper: the process in which libgbm and a GPU's driver run.
//!
//! In: orders on the socket that is its standard input, dma-bufs. Out: linear pictures in shared
//! memory. It gives up all capabilities first, and ends with the agent.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use super::message::{Answer, Layout, Order};
use crate::helper;
use crate::sys::gbm::{Buffer, Device, Failure, PLANES, Plane};
use crate::sys::kms::Card;
use crate::sys::pair::{End, Received};
use crate::sys::shared::Shared;

/// Buffers that a compositor flips between; imported once each.
const IMPORTS: usize = 5;

/// Runs until the agent hangs up. `device` is a DRM node.
///
/// # Errors
///
/// The socket's; a driver's failure is an answer.
pub fn serve(device: &Path) -> io::Result<()> {
    let confined = crate::sys::process::confine();
    let socket = End::of(io::stdin().as_fd().try_clone_to_owned()?);
    let say = |answer: &Answer| socket.send(&helper::encode(answer), &[]);
    let device = match confined.and_then(|()| node(device)).map(Device::open) {
        Ok(Ok(device)) => device,
        Ok(Err(error)) => return say(&Answer::Failed(error.to_string())),
        Err(error) => return say(&Answer::Failed(format!("{}: {error}", device.display()))),
    };
    say(&Answer::Opened(device.backend()))?;
    let mut reader = Reader { device, imports: VecDeque::new(), memory: None };
    loop {
        let Some(Received { bytes, mut fds }) = socket.receive(None)? else { return Ok(()) };
        if bytes.is_empty() {
            return Ok(());
        }
        match helper::decode(&bytes) {
            Some(Order::Memory(length)) => {
                let fd = fds.pop().ok_or(io::ErrorKind::InvalidData)?;
                reader.memory = Some((Shared::of(fd, length as usize)?, length as usize));
            }
            Some(Order::Read(layout)) => say(&match reader.read(layout, fds) {
                Ok(()) => Answer::Read,
                Err(error) => Answer::Failed(error.to_string()),
            })?,
            None => return Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }
}

/// A node as libgbm wants it, which is nobody's master.
fn node(path: &Path) -> io::Result<OwnedFd> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.starts_with("card") {
        return Card::open(path)?.as_fd().try_clone_to_owned();
    }
    Ok(OpenOptions::new().read(true).write(true).open(path)?.into())
}

struct Reader {
    device: Rc<Device>,
    imports: VecDeque<Import>,
    memory: Option<(Shared, usize)>,
}

struct Import {
    inodes: Vec<u64>,
    /// While these are open, no other buffer gets one of those inodes.
    _fds: Vec<OwnedFd>,
    layout: Layout,
    buffer: Buffer,
}

impl Reader {
    fn read(&mut self, layout: Layout, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        let lie = |error: io::Error| Failure::Lie(error.to_string());
        if fds.len() > PLANES {
            return Err(Failure::Lie(format!("{} buffers", fds.len())));
        }
        let (mut inodes, mut sizes) = (Vec::new(), Vec::new());
        for fd in &fds {
            inodes.push(nix::sys::stat::fstat(fd).map_err(|error| lie(error.into()))?.st_ino);
            let end = nix::unistd::lseek(fd, 0, nix::unistd::Whence::SeekEnd);
            sizes.push(end.map_err(|error| lie(error.into()))? as u64);
        }
        layout.check(&sizes).map_err(Failure::Lie)?;
        let row = layout.row();
        let Some((memory, _)) =
            self.memory.as_ref().filter(|(_, length)| *length >= layout.length())
        else {
            return Err(Failure::Lie("there is no memory for the view".into()));
        };
        let known = |import: &Import| import.inodes == inodes && import.layout == layout;
        let index = match self.imports.iter().position(known) {
            Some(index) => index,
            None => {
                let planes: Vec<Plane<'_>> = fds
                    .iter()
                    .zip(&layout.planes)
                    .map(|(fd, &(pitch, offset))| Plane { fd: fd.as_fd(), pitch, offset })
                    .collect();
                let (fourcc, modifier, size) = (layout.fourcc, layout.modifier, layout.size);
                let buffer = Buffer::import(&self.device, &planes, fourcc, modifier, size)?;
                if self.imports.len() == IMPORTS {
                    self.imports.pop_front();
                }
                self.imports.push_back(Import { inodes, _fds: fds, layout, buffer });
                self.imports.len() - 1
            }
        };
        self.imports[index].buffer.read(row, |y, bytes| memory.write(y * row, bytes))
    }
}
