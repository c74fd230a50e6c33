//! Makes the figures of docs/performance.md: `make figures`, and `make bench`.
//!
//! In: which parts; without arguments all of them but those of `bench`. Out: one JSON line for each measurement
//! in `target/figures/<part>.jsonl`, and the tables of the page written anew from all the
//! parts that were ever measured here. It measures and never judges: no figure makes it fail.

mod bench;
mod calls;
mod cpu;
mod diagnostics;
mod emulated;
mod footprint;
mod idle;
mod input;
mod latency;
mod moving;
mod page;
mod peer;
mod play;
mod ring;
mod stream;
mod vaapi;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use transom_tests::page::{load, machine};
use transom_tests::{Test, machine_test, release_dir};

/// A part of the page: what it measures goes to a file of its own.
type Part = (&'static str, fn(&Test) -> Result<Vec<Value>>);

const PARTS: &[Part] = &[
    ("emulated", emulated::measure),
    ("moving", moving::measure),
    ("latency", latency::measure),
    ("latency-peer", latency::peer::measure),
    ("idle", idle::measure),
    ("input", input::measure),
    ("diagnostics-trips", diagnostics::round_trip::measure),
    ("diagnostics-image", diagnostics::round_trip::measure_image),
    ("diagnostics-copy", diagnostics::copy::measure),
    ("diagnostics-cost", diagnostics::cost::measure),
    ("play", play::measure),
    ("vaapi", vaapi::measure),
    ("ring", ring::measure),
    ("footprint", footprint::measure),
    ("calls", calls::measure),
    ("bench-convert", bench::convert::measure),
    ("bench-latency", bench::latency::measure),
    ("bench-fan-out", bench::fan_out::measure),
    ("bench-webrtc", bench::webrtc::measure),
    ("bench-scale", bench::scale::measure),
    ("bench-memory", bench::memory::measure),
    ("bench-loss", bench::loss::measure),
    ("bench-capacity", bench::capacity::measure),
];
/// Parts that need no guest: `make bench`.
const BENCH: &str = "bench";
/// Several times what a part takes on an idle machine of two cores without KVM.
const LIMIT: Duration = Duration::from_secs(900);

/// How often ours and the other's turn comes.
const ROUNDS: u64 = 3;
/// Between a start and the first look at a counter.
const SETTLE: Duration = Duration::from_secs(2);
/// Between two looks at a counter.
const INTERVAL: Duration = Duration::from_secs(12);

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|w| !PARTS.iter().any(|(part, _)| means(w, part))) {
        let parts: Vec<_> = PARTS.iter().map(|(part, _)| *part).collect();
        bail!("there is no part '{unknown}', only {}", parts.join(", "));
    }
    let is_wanted = |part: &str| match &wanted[..] {
        [] => !means(BENCH, part),
        wanted => wanted.iter().any(|w| means(w, part)),
    };
    if PARTS.iter().any(|(part, _)| is_wanted(part) && means(BENCH, part)) {
        bench::go_apart()?;
    }
    let folder = folder()?;
    for &(part, measure) in PARTS {
        if !is_wanted(part) {
            continue;
        }
        machine_test(&format!("figures {part}"), LIMIT, |test| {
            let (before, begun) = (load()?, Instant::now());
            let mut lines = measure(test)?;
            lines.insert(0, machine(before, begun.elapsed())?);
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            print!("{text}");
            let file = folder.join(part).with_extension("jsonl");
            std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
        });
    }
    page::rewrite(&folder)
}

/// A part by its name, or all whose names begin with a word.
fn means(wanted: &str, part: &str) -> bool {
    part.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn folder() -> Result<PathBuf> {
    let folder = release_dir().parent().context("the target folder")?.join("figures");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
