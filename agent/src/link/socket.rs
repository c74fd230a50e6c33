//! A listening socket and its connections: vsock in a guest, a Unix socket for trying the agent
//! out without a virtual machine.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use transom_protocol::MAX_WRITE;
use vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockListener, VsockStream};

/// hv_sock takes its ring sizes from the *listening* socket's buffers when the host connects:
/// 24 KiB unless told, 256 KiB at most. An IDR of 200 KiB then leaves in one go.
const RING: usize = 256 * 1024;

/// Where the agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// vsock, for the host alone.
    Vsock,
    /// A Unix socket that only this user can reach.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            None if text == "vsock" => Ok(Self::Vsock),
            _ => Err(format!("'{text}' is neither 'vsock' nor 'unix:PATH'")),
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// Of the virtual machine.
    Vsock(VsockListener),
    /// Of the file system.
    Unix(UnixListener),
}

impl Listener {
    /// Listens.
    ///
    /// # Errors
    ///
    /// The kernel has no vsock, or the port or path is taken.
    pub fn bind(address: &Address, port: u32) -> io::Result<Self> {
        match address {
            Address::Vsock => {
                let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port)?;
                setsockopt(&listener, sockopt::SndBuf, &RING)?;
                setsockopt(&listener, sockopt::RcvBuf, &RING)?;
                Ok(Self::Vsock(listener))
            }
            Address::Unix(path) => {
                let listener = UnixListener::bind(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
                Ok(Self::Unix(listener))
            }
        }
    }

    /// The next connection from the host; those of other peers are closed at once.
    ///
    /// # Errors
    ///
    /// Those of `accept`; EPERM for a peer that is not the host.
    pub fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Vsock(listener) => {
                let (stream, peer) = listener.accept()?;
                if peer.cid() != VMADDR_CID_HOST {
                    // Any process in the guest can get here where vsock_loopback is loaded.
                    return Err(io::Error::from_raw_os_error(nix::libc::EPERM));
                }
                Ok(Stream::Vsock(stream))
            }
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept()?.0)),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// From the host of the virtual machine.
    Vsock(VsockStream),
    /// From a process beside us.
    Unix(UnixStream),
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vsock(_) => "vsock",
            Self::Unix(_) => "unix",
        })
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Vsock(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Stream {
    /// A second handle on the same connection.
    ///
    /// # Errors
    ///
    /// No descriptors are left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Vsock(stream) => Self::Vsock(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    /// How long a read and a write may take; `None`: for ever.
    ///
    /// # Errors
    ///
    /// Those of `setsockopt`.
    pub fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Vsock(stream) => {
                stream.set_read_timeout(read)?;
                stream.set_write_timeout(write)
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(read)?;
                stream.set_write_timeout(write)
            }
        }
    }

    /// Ends the connection under whoever waits on it.
    pub fn shut(&self) {
        // Not connected any more is what was wanted.
        let _ = match self {
            Self::Vsock(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// Reads what is there; 0 at the end.
    ///
    /// # Errors
    ///
    /// Those of `read`, but not EINTR.
    pub fn read_some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::Vsock(stream) => stream.read(into),
                Self::Unix(stream) => stream.read(into),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Writes all, in pieces that every vsock transport takes (see [`MAX_WRITE`]).
    ///
    /// # Errors
    ///
    /// Those of `write`; after one, the connection is in no known state.
    pub fn write_pieces(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(MAX_WRITE) {
            match self {
                Self::Vsock(stream) => stream.write_all(piece)?,
                Self::Unix(stream) => stream.write_all(piece)?,
            }
        }
        Ok(())
    }
}
