//! Memory that two processes share: a sealed memfd.
//!
//! The other side may write at any time and may be out of its mind: nothing is ever borrowed from
//! here, bytes are only copied in and out.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr;

use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A mapped memfd.
#[derive(Debug)]
pub struct Shared {
    map: MmapRaw,
    fd: OwnedFd,
}

impl Shared {
    /// New memory, all zeros, which nobody can make shorter.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn new(length: usize) -> io::Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let fd = memfd_create(c"transom-frames", flags)?;
        nix::unistd::ftruncate(&fd, length as i64)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
        let map = MmapOptions::new().len(length).map_raw(&fd)?;
        Ok(Self { map, fd })
    }

    /// Memory that another process has made.
    ///
    /// # Errors
    ///
    /// It is no memfd that is sealed against shrinking, or shorter than `length`.
    pub fn of(fd: OwnedFd, length: usize) -> io::Result<Self> {
        let seals = fcntl(&fd, FcntlArg::F_GET_SEALS)?;
        let long_enough = nix::sys::stat::fstat(&fd)?.st_size >= length as i64;
        if !SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK) || !long_enough {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let map = MmapOptions::new().len(length).map_raw(fd.as_raw_fd())?;
        Ok(Self { map, fd })
    }

    /// For handing it to another process.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Copies bytes in.
    ///
    /// # Panics
    ///
    /// If they do not fit.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.map.len() && bytes.len() <= self.map.len() - at);
        // SAFETY: in bounds (see above), and no reference into the mapping exists.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_mut_ptr().add(at), bytes.len());
        }
    }

    /// Copies bytes out.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn read(&self, at: usize, out: &mut [u8]) {
        assert!(at <= self.map.len() && out.len() <= self.map.len() - at);
        // SAFETY: in bounds (see above), and no reference into the mapping exists.
        unsafe { ptr::copy_nonoverlapping(self.map.as_ptr().add(at), out.as_mut_ptr(), out.len()) }
    }
}
