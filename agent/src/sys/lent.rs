//! Memory of ours that another process may read and nobody else can write: a sealed memfd.
//!
//! Nobody else has it mapped when it is sealed against being mapped writable (F_SEAL_FUTURE_WRITE,
//! Linux 5.1), so that here it is plain memory, borrowed as any other. For the reader it changes at
//! any time: nothing is borrowed there, bytes are only copied out.
#![allow(unsafe_code)]

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr;

use memmap2::{MmapMut, MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// The owner's side.
#[derive(Debug)]
pub struct Lent(Memory);

#[derive(Debug)]
enum Memory {
    Lent(MmapMut, OwnedFd),
    /// Where the kernel gave no such memory.
    Own(Vec<u8>),
}

impl Lent {
    /// So many bytes of this value. Where the kernel has no memory of this kind to give, they are
    /// ours alone.
    pub fn filled(value: u8, length: usize) -> Self {
        let memory = match lend(length) {
            Ok((mut map, fd)) => {
                map.fill(value);
                Memory::Lent(map, fd)
            }
            Err(error) => {
                log::debug!("memory that others may read: {error}");
                Memory::Own(vec![value; length])
            }
        };
        Self(memory)
    }

    /// For handing it to another process; `None` if it is ours alone.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Memory::Lent(_, fd) => Some(fd.as_fd()),
            Memory::Own(_) => None,
        }
    }
}

fn lend(length: usize) -> io::Result<(MmapMut, OwnedFd)> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = memfd_create(c"transom-picture", flags)?;
    nix::unistd::ftruncate(&fd, length as i64)?;
    // SAFETY: the memory is new, and sealed below before anybody else learns of it: nobody can
    // write to it, nor make it shorter.
    let map = unsafe { MmapOptions::new().len(length).map_mut(&fd)? };
    let seals = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_FUTURE_WRITE
        | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
    Ok((map, fd))
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Lent(map, _) => map,
            Memory::Own(bytes) => bytes,
        }
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Lent(map, _) => map,
            Memory::Own(bytes) => bytes,
        }
    }
}

/// The reader's side.
#[derive(Debug)]
pub struct Borrowed(MmapRaw);

impl Borrowed {
    /// Memory that another process has made.
    ///
    /// # Errors
    ///
    /// It is no memfd that is sealed against shrinking, or shorter than `length`.
    pub fn of(fd: &OwnedFd, length: usize) -> io::Result<Self> {
        let seals = fcntl(fd, FcntlArg::F_GET_SEALS)?;
        let long_enough = nix::sys::stat::fstat(fd)?.st_size >= length as i64;
        if !SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK) || !long_enough {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        Ok(Self(MmapOptions::new().len(length).map_raw_read_only(fd.as_raw_fd())?))
    }

    /// Copies bytes out.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn read(&self, at: usize, out: &mut [u8]) {
        assert!(at <= self.0.len() && out.len() <= self.0.len() - at);
        // SAFETY: in bounds (see above), and no reference into the mapping exists.
        unsafe { ptr::copy_nonoverlapping(self.0.as_ptr().add(at), out.as_mut_ptr(), out.len()) }
    }

    /// Copies bytes of two memories out by turns, as NV12 has them.
    ///
    /// # Panics
    ///
    /// If either has not so many.
    pub fn read_pairs(u: &Self, v: &Self, at: usize, out: &mut [u8]) {
        let (pairs, _) = out.as_chunks_mut::<2>();
        for memory in [u, v] {
            assert!(at <= memory.0.len() && pairs.len() <= memory.0.len() - at);
        }
        // SAFETY: in bounds (see above), and no reference into the mappings exists.
        unsafe {
            let (u, v) = (u.0.as_ptr().add(at), v.0.as_ptr().add(at));
            for (index, pair) in pairs.iter_mut().enumerate() {
                *pair = [u.add(index).read(), v.add(index).read()];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_what_is_written_and_cannot_write() {
        let mut lent = Lent::filled(16, 5000);
        let fd = lent.fd().expect("Linux 5.1").try_clone_to_owned().expect("a descriptor");
        let borrowed = Borrowed::of(&fd, 5000).expect("sealed");
        let mut seen = vec![0; 5000];
        borrowed.read(0, &mut seen);
        assert_eq!(seen, [16; 5000]);
        lent[4998..].copy_from_slice(&[7, 8]);
        let mut pairs = [0; 4];
        Borrowed::read_pairs(&borrowed, &borrowed, 4998, &mut pairs);
        assert_eq!(pairs, [7, 7, 8, 8]);
        assert!(MmapOptions::new().len(5000).map_raw(fd.as_raw_fd()).is_err(), "it is sealed");
        assert!(nix::unistd::ftruncate(&fd, 1).is_err(), "nobody makes it shorter");
        assert!(Borrowed::of(&fd, 5001).is_err(), "it is not as long");
    }
}
