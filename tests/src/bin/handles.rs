//! Tells how many GEM handles another process holds, exactly. Runs inside the guest.
//!
//! In: a process id. Out: for each DRM card that the process has open, the number of the
//! next free handle, one a line. The kernel gives out the lowest number that is free, so a
//! process that leaks handles shows a number that grows. No file of the kernel tells this;
//! the process's own descriptor is borrowed and a tiny buffer made and freed with it.

// Two system calls that no crate here wraps.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result};
use drm::buffer::{Buffer as _, DrmFourcc};
use drm::control::Device as _;
use nix::libc;

fn main() -> Result<()> {
    let pid: i32 = std::env::args().nth(1).context("usage: handles PID")?.parse()?;
    // SAFETY: takes a number and flags, touches no memory of ours.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        // A descriptor may be gone by now.
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        if !target.starts_with("/dev/dri") {
            continue;
        }
        let number: RawFd = entry.file_name().to_string_lossy().parse()?;
        let pidfd = std::os::fd::AsRawFd::as_raw_fd(&process);
        // SAFETY: takes numbers and flags, touches no memory of ours.
        let theirs = owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, number, 0) })?;
        let card = Card(theirs);
        let buffer = card.create_dumb_buffer((8, 8), DrmFourcc::Xrgb8888, 32)?;
        println!("{}", u32::from(buffer.handle()));
        card.destroy_dumb_buffer(buffer)?;
    }
    Ok(())
}

struct Card(OwnedFd);

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
impl drm::Device for Card {}
impl drm::control::Device for Card {}

/// Takes what a system call returned that makes a descriptor.
fn owned(returned: libc::c_long) -> Result<OwnedFd> {
    let fd = RawFd::try_from(returned)?;
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("the process cannot be looked into");
    }
    // SAFETY: the kernel has just made this descriptor for us and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
