//! CPU time, as `/proc/PID/stat` tells it: of one process, on the host or in a guest, or of
//! a whole process group. Its unit is 10 ms; what is measured here lasts seconds.

use anyhow::{Context, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// `USER_HZ`, which every Linux has had for twenty years.
const TICKS_PER_SECOND: f64 = 100.0;
// Fields behind the name, which may hold spaces and ends with the last bracket.
const GROUP: usize = 2;
const USER: usize = 11;
const SYSTEM: usize = 12;
const START: usize = 19;

/// Seconds that the process with this `stat` has used, all its threads together.
pub fn of_stat(stat: &str) -> Result<f64> {
    Ok((field(stat, USER)? + field(stat, SYSTEM)?) / TICKS_PER_SECOND)
}

/// Seconds that a process of this host has used, all its threads together, to the nanosecond.
pub fn of_process(pid: u32) -> Result<f64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))
        .with_context(|| format!("process {pid} is gone"))?;
    let time = clock_gettime(clock).with_context(|| format!("process {pid} is gone"))?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

/// Seconds that all processes of a group on this host have used which still live. A guest in
/// user-mode Linux is one group: its kernel is a process, and each address space another.
pub fn of_group(group: u32) -> Result<f64> {
    let mut seconds = 0.0;
    for entry in std::fs::read_dir("/proc")? {
        // Other processes come and go.
        let Ok(stat) = std::fs::read_to_string(entry?.path().join("stat")) else { continue };
        if field(&stat, GROUP).is_ok_and(|g| g == f64::from(group)) {
            seconds += of_stat(&stat)?;
        }
    }
    Ok(seconds)
}

/// How many seconds ago a process of this host was started.
pub fn age(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let uptime: f64 = uptime.split_whitespace().next().context("/proc/uptime is empty")?.parse()?;
    Ok(uptime - field(&stat, START)? / TICKS_PER_SECOND)
}

fn field(stat: &str, index: usize) -> Result<f64> {
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let field = fields.split_whitespace().nth(index);
    field.and_then(|f| f.parse().ok()).with_context(|| format!("odd stat of a process: {stat}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_with_brackets_do_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 10 0 0 0 150 50 0 0 20 0 1 0 900 1 1";
        assert_eq!(super::of_stat(stat).expect("whole"), 2.0);
        assert_eq!(super::field(stat, super::GROUP).expect("whole"), 7.0);
    }
}
