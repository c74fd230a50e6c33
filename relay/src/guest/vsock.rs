//! AF_VSOCK on Linux: the host side of `vhost-vsock-pci`.

use std::{io, os::fd::OwnedFd};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixStream;

/// Starts a connection and waits until it stands or fails; the caller limits the time.
pub(super) async fn connect(cid: u32, port: u32) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::VSOCK, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::vsock(cid, port)) {
        Err(e) if e.raw_os_error() != Some(EINPROGRESS) => return Err(e),
        _ => {}
    }
    let errors = socket.try_clone()?;
    // tokio has no vsock stream. Its Unix stream asks for nothing but read, write and shutdown of
    // a stream socket, and we ask for no address; that spares an AsyncRead of our own.
    let stream = UnixStream::from_std(std::os::unix::net::UnixStream::from(OwnedFd::from(socket)))?;
    stream.writable().await?;
    match errors.take_error()? {
        None => Ok(stream),
        Some(e) => Err(e),
    }
}

/// socket2 does not translate it; the same on every Linux architecture that runs vhost.
const EINPROGRESS: i32 = 115;
