//! A connection on its way to another process (`unix(7)`, SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Sends `bytes`, of which there is at least one and few, with a descriptor.
///
/// # Errors
///
/// Those of `sendmsg`; a peer that takes only a part.
pub fn send(to: &UnixStream, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    let fds = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let slices = [IoSlice::new(bytes)];
    let sent = sendmsg::<()>(to.as_raw_fd(), &slices, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives exactly as many bytes as `into` has room for, and the descriptor with them.
///
/// # Errors
///
/// Those of `recvmsg`; a peer that sent something else.
pub fn receive(from: &UnixStream, into: &mut [u8]) -> io::Result<OwnedFd> {
    let length = into.len();
    let mut space = cmsg_space!([RawFd; 1]);
    let mut slices = [IoSliceMut::new(into)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(from.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut received = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            for fd in fds {
                // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
                #[allow(unsafe_code)]
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                received.get_or_insert(fd);
            }
        }
    }
    match received {
        Some(fd) if message.bytes == length => Ok(fd),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no connection was handed over")),
    }
}

/// Standard input as a socket of its own: what systemd gives a unit with `StandardInput=socket`.
///
/// # Errors
///
/// No descriptors are left.
pub fn standard_input() -> io::Result<UnixStream> {
    use std::os::fd::AsFd;
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}
