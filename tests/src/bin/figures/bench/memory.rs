//! Memory of a relay for each guest and each viewer: by the slope over more and more of them. Janus
//! beside it, for viewers alone: it knows no guests.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use transom_tests::Test;

use super::cores::Kept;
use super::guest::{Guest, looped};
use super::janus::Janus;
use super::recording::SLOW;
use super::viewer::Viewers;
use super::webrtc::serve;

const GUESTS: [usize; 4] = [1, 4, 8, 16];
const VIEWERS: [usize; 4] = [1, 8, 16, 32];
/// Until buffers have been as full as they get.
const SETTLE: Duration = Duration::from_secs(3);

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let kept = Kept::to_one()?;
    let mut lines = Vec::new();
    let line = |what: &str, who: &str, count: usize, pss: u64| json!({ "what": what, "who": who, "count": count, "pss_kib": pss });
    for count in GUESTS {
        lines.push(line("guests", "transom", count, guests(test, &kept, count)?));
    }
    for count in VIEWERS {
        lines.push(line("viewers", "transom", count, viewers(test, &kept, count)?));
        lines.push(line("viewers", "janus", count, theirs(test, &kept, count)?));
    }
    Ok(lines)
}

/// With one viewer at the first of them, so that pictures come as they do.
fn guests(test: &Test, kept: &Kept, count: usize) -> Result<u64> {
    let units = SLOW.units()?;
    let guests = (0..count)
        .map(|i| Guest::start(test.socket(&format!("m{i}")), looped(Arc::clone(&units), SLOW.rate)))
        .collect::<Result<Vec<_>>>()?;
    let named: Vec<_> =
        guests.iter().enumerate().map(|(i, guest)| (format!("m{i}"), guest.address())).collect();
    let relay = serve(test, kept, &named)?;
    let mut viewers = Viewers::default();
    viewers.add(relay.join("m0")?, |_| ());
    viewers.wait()?;
    std::thread::sleep(SETTLE);
    pss_kib(relay.process.pid())
}

fn viewers(test: &Test, kept: &Kept, count: usize) -> Result<u64> {
    let guest = Guest::start(test.socket("memory"), looped(SLOW.units()?, SLOW.rate))?;
    let relay = serve(test, kept, &[("memory".into(), guest.address())])?;
    let mut viewers = Viewers::default();
    for _ in 0..count {
        viewers.add(relay.join("memory")?, |_| ());
    }
    viewers.wait()?;
    std::thread::sleep(SETTLE);
    pss_kib(relay.process.pid())
}

fn theirs(test: &Test, kept: &Kept, count: usize) -> Result<u64> {
    let janus = Janus::start(test, kept, SLOW)?;
    let mut viewers = Viewers::default();
    for _ in 0..count {
        viewers.add(janus.join()?, |_| ());
    }
    viewers.wait()?;
    std::thread::sleep(SETTLE);
    pss_kib(janus.pid())
}

/// Memory of a process, what it shares with others counted in parts.
pub fn pss_kib(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
