//! What this host has, and lacks, for running guests: `transom doctor --host`.
//!
//! ```text
//!   linux.rs    looks at devices and programs ──▶ Facts ──▶ judge ──▶ checks
//!   windows.rs  one PowerShell script ─▶ JSON ──▶ Facts ──▶ judge ──▶ checks
//! ```
//!
//! Judging is a pure function of what was found on either system, and tested on both. What this
//! refuses to do: change anything, or start a machine.

use super::Name;
use crate::diag::doctor::Report;

pub mod linux;
pub mod windows;

/// Examines this host, and on Windows one machine on it, too.
#[cfg(windows)]
pub fn examine(machine: Option<&Name>) -> Report {
    let checks = match super::powershell::run(&windows::script(machine)) {
        Ok(said) => windows::checks(&said, machine),
        Err(said) => vec![windows::no_facts(&said)],
    };
    Report { checks }
}

/// Examines this host. Machines of QEMU need no look: what they have, `transom vm` gave them.
#[cfg(unix)]
pub fn examine(_: Option<&Name>) -> Report {
    Report { checks: linux::judge(&linux::Facts::gather()) }
}
