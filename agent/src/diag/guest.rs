//! What the kernel tells about the guest in /proc: small parsers of text that is not ours.

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
    let text = read("/proc/meminfo")?;
    let find = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    Some((find("MemTotal")?.saturating_mul(1024), find("MemAvailable")?.saturating_mul(1024)))
}

/// CPU time of all processors in ticks: busy, and processors seen.
pub fn cpu() -> Option<(u64, u16)> {
    let text = read("/proc/stat")?;
    let mut lines = text.lines();
    let all: Vec<u64> =
        lines.next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // proc(5): user nice system idle iowait irq softirq steal …; guest is in user already.
    let busy = [0, 1, 2, 5, 6, 7]
        .iter()
        .filter_map(|&i| all.get(i))
        .fold(0, |a: u64, b| a.saturating_add(*b));
    let count = lines.take_while(|line| line.starts_with("cpu")).count();
    Some((busy, u16::try_from(count).unwrap_or(u16::MAX)))
}

/// Ticks in a second of what /proc counts in.
pub fn ticks() -> u64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.and_then(|ticks| u64::try_from(ticks).ok()).filter(|&ticks| ticks > 0).unwrap_or(100)
}

/// A line of `/proc/PID/stat` (proc_pid_stat(5)).
pub mod process {
    /// What is of use in it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Stat {
        /// The name, up to 15 bytes.
        pub name: String,
        /// The session's leader.
        pub session: i32,
        /// CPU time in ticks.
        pub cpu: u64,
        /// Resident pages.
        pub resident: u64,
    }

    /// Reads it; `None` if it is no such line.
    pub fn parse(text: &str) -> Option<Stat> {
        // The name may hold spaces and brackets.
        let (front, rest) = text.rsplit_once(')')?;
        let name = front.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Stat {
            name,
            session: fields.get(3)?.parse().ok()?,
            cpu: number(11)?.saturating_add(number(12)?),
            resident: number(21)?,
        })
    }
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
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nonsense_is_no_process(text in ".{0,200}") {
            let _ = process::parse(&text);
        }
    }

    #[test]
    fn processes_with_odd_names_are_read() {
        let line = "42 (a) b (c)) S 1 42 40 0 -1 4194560 1 0 0 0 7 5 0 0 20 0 1 0 9 100 33 18446744073709551615";
        let stat = process::parse(line).expect("a stat line");
        assert_eq!((stat.name.as_str(), stat.session), ("a) b (c)", 40));
        assert_eq!((stat.cpu, stat.resident), (12, 33));
        assert_eq!(process::parse("42 (x"), None);
        assert_eq!(process::parse("42 (x) S 1"), None);
    }

    #[test]
    fn this_machine_can_be_read() {
        let (total, available) = memory().expect("meminfo");
        assert!(total >= available && available > 0);
        let (busy, processors) = cpu().expect("stat");
        assert!(busy > 0 && processors > 0);
        assert!(processes().any(|pid| pid == std::process::id().cast_signed()));
    }
}
