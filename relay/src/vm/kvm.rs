//! Whether KVM runs kernels here. `/dev/kvm` may be there and still boot nothing: only a kernel
//! that speaks proves it. Found out once for each boot of the host, at the first start of a machine.

use std::{fs, io, path::PathBuf, time::Duration};

/// With KVM that works the kernel speaks after two seconds.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// What is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It boots kernels.
    Works,
    /// It does not, or is not there.
    Useless,
    /// Nobody has tried since this host was booted.
    Unknown,
}

/// What is known so far.
pub fn verdict() -> Verdict {
    if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Verdict::Useless;
    }
    match fs::read_to_string(file()).as_deref() {
        Ok("yes") => Verdict::Works,
        Ok("no") => Verdict::Useless,
        _ => Verdict::Unknown,
    }
}

/// Keeps what was found out.
///
/// # Errors
///
/// The file cannot be written.
pub fn remember(works: bool) -> io::Result<()> {
    if let Some(folder) = file().parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file(), if works { "yes" } else { "no" })
}

fn file() -> PathBuf {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    super::run::state_home().join(format!("kvm-{}", boot.trim()))
}
