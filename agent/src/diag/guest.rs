//! What the kernel tells about the guest in /proc and /sys.

pub mod text;

use std::fs::File;
use std::io::Read;

/// Longest file that is read: /proc and /sys have no longer ones of use.
const MAX_FILE: u64 = 256 * 1024;

/// A text file of the kernel, without the line break at its end; `None` if it cannot be read.
pub fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\0']).to_owned())
}

/// `MemTotal` and `MemAvailable` in bytes.
pub fn memory() -> Option<(u64, u64)> {
    text::memory(&read("/proc/meminfo")?)
}

/// CPU time of all processors in ticks: busy, and processors seen.
pub fn cpu() -> Option<(u64, u16)> {
    text::cpu(&read("/proc/stat")?)
}

/// Ticks in a second of what /proc counts in.
pub fn ticks() -> u64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.and_then(|ticks| u64::try_from(ticks).ok()).filter(|&ticks| ticks > 0).unwrap_or(100)
}

/// The numbers of all processes that can be seen.
pub fn processes() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_read() {
        let (total, available) = memory().expect("meminfo");
        assert!(total >= available && available > 0);
        let (busy, processors) = cpu().expect("stat");
        assert!(busy > 0 && processors > 0);
        assert!(processes().any(|pid| pid == std::process::id().cast_signed()));
    }
}
