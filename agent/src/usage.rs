//! What the agent itself costs.

use std::fs;

use nix::sys::resource::{UsageWho, getrusage};

/// CPU time in nanoseconds and resident memory in bytes; 0 where the kernel does not tell.
pub fn now() -> (u64, u64) {
    let cpu = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
        [usage.user_time(), usage.system_time()]
            .iter()
            .map(|time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_usec() as u64 * 1000)
            .sum()
    });
    // proc_pid_statm(5): size, then resident, in pages.
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    let page =
        nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    (cpu, pages * page as u64)
}
