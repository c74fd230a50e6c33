//! A child with a terminal, or a session, of its own (`setsid(2)`, `ioctl_tty(2)`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::{ioctl_write_ptr_bad, libc};

ioctl_write_ptr_bad!(
    /// Sets the size of a terminal.
    set_size, libc::TIOCSWINSZ, Winsize
);

/// Both ends of a new terminal: ours and the child's.
///
/// # Errors
///
/// The kernel has no terminals left.
pub fn open(columns: u16, rows: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    let OpenptyResult { master, slave } = openpty(&size(columns, rows), None)?;
    Ok((master, slave))
}

/// Tells a terminal, and whoever runs on it, its new size.
///
/// # Errors
///
/// It is gone.
pub fn resize(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the structure outlives the call, which only reads it.
    #[allow(unsafe_code)]
    unsafe {
        set_size(terminal.as_raw_fd(), &size(columns, rows))?;
    }
    Ok(())
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// The child leads a session of its own; with `terminal`, its standard input is that session's
/// controlling terminal.
pub fn lead_session(command: &mut Command, terminal: bool) {
    let prepare = move || {
        nix::unistd::setsid()?;
        if terminal {
            // SAFETY: a plain ioctl on standard input.
            #[allow(unsafe_code)]
            let result = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) };
            nix::Error::result(result)?;
        }
        Ok(())
    };
    // SAFETY: runs between fork and exec and makes system calls alone; it allocates nothing and
    // takes no lock.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(prepare);
    }
}
