//! What a frame costs the agent in system calls, page faults and waits, counted in user-mode Linux.
//!
//! Faults and waits are the guest's own counters. System calls are counted by the host's strace within
//! the guest, which slows the agent down: only their number counts.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use transom_tests::{Guest, Test, Uml};

use crate::SETTLE;
use crate::stream::{Passed, Stream};

/// At rest there are no frames, and counts are those of a second.
const SCENES: [(&str, &str); 3] =
    [("screen", "animate screen"), ("box", "animate box"), ("rest", "still 1")];
/// Between two looks at the counters.
const INTERVAL: Duration = Duration::from_secs(5);
/// For which strace counts, in seconds; longer than [`INTERVAL`] and what lies around it.
const STRACE: u64 = 8;

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let guest = Uml::new(test).boot()?;
    guest.start_agent(&[])?;
    guest.run(
        "mkdir -p /whole && mount -t hostfs -o hostfs=/ hostfs /whole && mount -t proc proc /whole/proc",
    )?;
    let mut screen = guest.testcard()?;
    screen.tell("mode 1280x720 XRGB8888")?;
    let mut lines = Vec::new();
    for (scene, command) in SCENES {
        screen.tell(command)?;
        let stream = Stream::start(test, &guest)?;
        std::thread::sleep(SETTLE);
        let (from, before) = (stream.passed()?, counters(&guest)?);
        std::thread::sleep(INTERVAL);
        let (to, after) = (stream.passed()?, counters(&guest)?);
        let rests = scene == "rest";
        let frames = units(&from, &to, rests);
        let per_frame = |i: usize| (after[i] - before[i]) / frames;
        lines.push(json!({
            "what": scene, "frames": frames, "faults": per_frame(0), "waits": per_frame(1),
            "preempted": per_frame(2), "calls": calls(&guest, &stream, rests)?,
        }));
    }
    Ok(lines)
}

/// Frames between two looks, or seconds.
fn units(from: &Passed, to: &Passed, seconds: bool) -> f64 {
    if seconds { (to.at - from.at).as_secs_f64() } else { to.frames - from.frames }
}

/// Page faults, waits and losses of the processor, over all of the agent's threads.
fn counters(guest: &Guest) -> Result<[f64; 3]> {
    let text = guest.run(
        "p=$(pidof transom-agent); cut -d' ' -f10 /proc/$p/stat; \
         sed -n 's/^voluntary_ctxt_switches:\\t//p' /proc/$p/task/*/status | paste -sd+; \
         sed -n 's/^nonvoluntary_ctxt_switches:\\t//p' /proc/$p/task/*/status | paste -sd+",
    )?;
    let sum = |line: &str| line.split('+').map(|n| Ok(n.trim().parse::<f64>()?)).sum();
    let counts: Vec<f64> = text.lines().map(sum).collect::<Result<_>>()?;
    counts.try_into().map_err(|counts| anyhow::anyhow!("odd counters: {counts:?}"))
}

/// System calls of a frame, by name.
fn calls(guest: &Guest, stream: &Stream, rests: bool) -> Result<BTreeMap<String, f64>> {
    guest.run(&format!(
        "rm -f /tmp/calls; (timeout -s INT {STRACE} chroot /whole /usr/bin/strace -f -c \
         -p $(pidof transom-agent) 2>&1; echo over) >/tmp/calls &"
    ))?;
    std::thread::sleep(Duration::from_secs(1));
    let from = stream.passed()?;
    std::thread::sleep(INTERVAL);
    let to = stream.passed()?;
    let rate = units(&from, &to, rests) / (to.at - from.at).as_secs_f64();
    let end = Duration::from_secs(STRACE * 4);
    let output =
        guest.sh("until grep -q over /tmp/calls; do sleep 0.1; done; cat /tmp/calls", end)?;
    let frames = rate * STRACE as f64;
    let row = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, _, _, calls, .., name] = words[..] else { return None };
        Some((name.to_owned(), calls.parse::<f64>().ok()? / frames))
    };
    let found: BTreeMap<_, _> =
        output.text.lines().filter_map(row).filter(|(name, _)| name != "total").collect();
    ensure!(!found.is_empty(), "strace counted nothing: {}", output.text.trim());
    Ok(found)
}
