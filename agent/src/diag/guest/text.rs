//! Parsers of text that is not ours: files of the kernel, and of the system's configuration.
//!
//! Any user of the guest has a hand in some of it, by the name of a process or of an input device.
//! What cannot be read is left out; nothing here fails or allocates more than it was given.

/// `MemTotal` and `MemAvailable` of `/proc/meminfo`, in bytes.
pub fn memory(meminfo: &str) -> Option<(u64, u64)> {
    let find = |name: &str| {
        let rest = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some((find("MemTotal")?.saturating_mul(1024), find("MemAvailable")?.saturating_mul(1024)))
}

/// Busy ticks of all processors, and their number, of `/proc/stat`.
pub fn cpu(stat: &str) -> Option<(u64, u16)> {
    let mut lines = stat.lines();
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

/// What is of use in a line of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The name, up to 15 bytes.
    pub name: String,
    /// The session's leader.
    pub session: i32,
    /// CPU time in ticks.
    pub cpu: u64,
    /// Resident pages.
    pub resident: u64,
}

/// Reads a line of `/proc/PID/stat`; `None` if it is no such line.
pub fn process(stat: &str) -> Option<Process> {
    // The name may hold spaces and brackets.
    let (front, rest) = stat.rsplit_once(')')?;
    let name = front.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Process {
        name,
        session: fields.get(3)?.parse().ok()?,
        cpu: number(11)?.saturating_add(number(12)?),
        resident: number(21)?,
    })
}

/// Names and handlers of the devices in `/proc/bus/input/devices`: paragraphs of lines with a
/// letter in front.
pub fn input_devices(devices: &str) -> impl Iterator<Item = (&str, &str)> {
    devices.split("\n\n").filter(|text| !text.trim().is_empty()).map(|device| {
        let line = |start: &str| device.lines().find_map(|line| line.strip_prefix(start));
        let name = line("N: Name=").unwrap_or("?").trim_matches('"');
        (name, line("H: Handlers=").unwrap_or("").trim())
    })
}

/// The name of a user in `/etc/passwd`.
pub fn user(passwd: &str, uid: u32) -> Option<&str> {
    let uid = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    })
}

/// A field of `/etc/os-release`, without its quotes.
pub fn os_release<'a>(release: &'a str, field: &str) -> Option<&'a str> {
    let line = release.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix('='))?;
    Some(line.trim_matches('"'))
}

/// The processor's name in `/proc/cpuinfo`.
pub fn cpu_model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// Whole seconds of `/proc/uptime`.
pub fn uptime(uptime: &str) -> Option<u64> {
    uptime.split(['.', ' ']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_with_odd_names_are_read() {
        let line = "42 (a) b (c)) S 1 42 40 0 -1 4194560 1 0 0 0 7 5 0 0 20 0 1 0 9 100 33 18446744073709551615";
        let stat = process(line).expect("a stat line");
        assert_eq!((stat.name.as_str(), stat.session), ("a) b (c)", 40));
        assert_eq!((stat.cpu, stat.resident), (12, 33));
        assert_eq!(process("42 (x"), None);
        assert_eq!(process("42 (x) S 1"), None);
    }

    #[test]
    fn absurd_counts_saturate() {
        let most = u64::MAX;
        let text = format!("MemTotal: {most} kB\nMemAvailable: 1 kB\n");
        assert_eq!(memory(&text), Some((most, 1024)));
        assert_eq!(memory("MemTotals: 1 kB\nMemAvailable: 1 kB\n"), None);
        let text = format!("cpu {most} {most} 1 9\ncpu0 1\ncpu1 1\nintr 5\n");
        assert_eq!(cpu(&text), Some((most, 2)));
    }

    #[test]
    fn devices_users_and_releases_are_found() {
        let text = "I: Bus=0003\nN: Name=\"a \"b\"\nH: Handlers=kbd event0 \n\nI: Bus=1\n\n\n";
        assert_eq!(input_devices(text).collect::<Vec<_>>(), [("a \"b", "kbd event0"), ("?", "")]);
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\nkiosk:x:990:990:::\n";
        assert_eq!((user(passwd, 990), user(passwd, 1)), (Some("kiosk"), None));
        let release = "NAME_OF=x\nNAME=\"Debian\"\n";
        assert_eq!(os_release(release, "NAME"), Some("Debian"));
        assert_eq!(cpu_model("processor: 0\nmodel name\t: A: B\n"), Some("A: B"));
        assert_eq!((uptime("12.5 7"), uptime("x")), (Some(12), None));
    }
}
