//! Checks of the guest around the stream.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::diag::{Context, guest, info};

/// Below this share of memory or space there is trouble ahead, in per cent, …
const LOW: u64 = 10;
/// … and below this it is there.
const EMPTY: u64 = 3;
/// Where programs write.
const PLACES: [&str; 6] = ["/", "/var", "/tmp", "/run", "/home", "/var/log"];

/// This very answer proves the most of it.
pub fn agent(context: &Context) -> Finding {
    let (version, id) = (env!("CARGO_PKG_VERSION"), std::process::id());
    let seconds = context.started.elapsed().as_secs();
    Finding::pass(format!("transom-agent {version} answers; process {id}, up for {seconds} s"))
}

/// Whether a stage hangs.
pub fn stages(context: &Context) -> Finding {
    match context.hub.watch.stalled() {
        None => Finding::pass("every stage moves, or waits for work"),
        Some((stage, elapsed)) => Finding::fail(
            format!("stage '{}' has not moved for {} s", stage.name(), elapsed.as_secs()),
            stage.remedy(),
        ),
    }
}

/// Whether the socket that this answer travels on is what it should be.
pub fn vsock(_: &Context) -> Finding {
    let transports = info::vsock_transports();
    if transports.is_empty() {
        return Finding::warn(
            "no vsock transport is known to the kernel; this answer came another way",
            "give the machine a vsock device (virtio: vhost-vsock-pci; Hyper-V has one of its \
             own), and load vmw_vsock_virtio_transport or hv_sock",
        );
    }
    Finding::pass(format!("{}; this answer travels on it", transports.join(", ")))
}

/// Whether there is memory left.
pub fn memory(_: &Context) -> Finding {
    let Some((total, available)) = guest::memory() else {
        return Finding::skip("/proc/meminfo cannot be read");
    };
    let found = format!("{} of {} MiB are available", available >> 20, total >> 20);
    let remedy = "see what takes it (`transom diag … top`), or give the guest more";
    grade(available, total, found, remedy)
}

/// Whether there is space left where programs write.
pub fn disk(_: &Context) -> Finding {
    let mut seen = HashSet::new();
    let mut worst: Option<(u64, &str, u64, u64)> = None;
    for place in PLACES {
        let Ok(stat) = statvfs(place) else { continue };
        let unit = stat.fragment_size();
        let (total, free) = (stat.blocks() * unit, stat.blocks_available() * unit);
        // Pseudo file systems have no size; one file system is judged once.
        if total == 0 || !seen.insert((stat.filesystem_id(), total)) {
            continue;
        }
        let share = free.saturating_mul(100) / total;
        if worst.is_none_or(|(least, ..)| share < least) {
            worst = Some((share, place, free, total));
        }
    }
    let Some((_, place, free, total)) = worst else {
        return Finding::skip("no file system tells its size");
    };
    let found =
        format!("{place}: {} of {} MiB are free, the least of all", free >> 20, total >> 20);
    let remedy = format!("remove what fills it (`transom diag … shell -- du -x {place}`)");
    grade(free, total, found, &remedy)
}

fn grade(left: u64, total: u64, found: String, remedy: &str) -> Finding {
    let share = left.saturating_mul(100) / total.max(1);
    if share < EMPTY {
        Finding::fail(found, remedy)
    } else if share < LOW {
        Finding::warn(found, remedy)
    } else {
        Finding::pass(found)
    }
}

/// Whether input devices can be made.
pub fn uinput(_: &Context) -> Finding {
    let path = "/dev/uinput";
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Finding::pass(format!("{path} can be opened")),
        Err(error) if !Path::new(path).exists() => {
            Finding::fail(format!("{path}: {error}"), "load the module: `modprobe uinput`")
        }
        Err(error) => Finding::fail(
            format!("{path}: {error}"),
            "the agent's user has to be in the group `input`, the device to belong to it \
             (72-transom.rules), and the unit to have DeviceAllow=/dev/uinput rw",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use transom_protocol::diagnostics::Verdict;

    #[test]
    fn shares_are_graded() {
        let verdict = |left, total| grade(left, total, String::new(), "").verdict;
        assert_eq!(verdict(50, 100), Verdict::Pass);
        assert_eq!(verdict(9, 100), Verdict::Warn);
        assert_eq!(verdict(2, 100), Verdict::Fail);
        assert_eq!(verdict(0, 0), Verdict::Fail);
    }
}
