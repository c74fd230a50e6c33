//! What a helper process does to itself before it runs code that is not trusted.
#![allow(unsafe_code)]

use std::io;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};

/// `linux/capability.h`: version 3 has two words for each set.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// Gives up all capabilities, ends when the parent does, leaves no core file behind.
///
/// # Errors
///
/// The kernel's; what runs then would have more rights than it should.
pub fn confine() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // Not fatal where it is not to be had: the socket's end tells as much.
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    nix::sys::prctl::set_no_new_privs()?;
    let mut header = Header { version: 0x2008_0522, pid: 0 };
    let none = [[0u32; 3]; 2];
    // SAFETY: `capset` reads a header and two words of each set; `prctl` takes numbers.
    unsafe {
        // Fails on kernels without ambient capabilities, which then cannot be there.
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        if libc::syscall(libc::SYS_capset, &raw mut header, none.as_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
