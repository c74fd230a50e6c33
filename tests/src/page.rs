//! Tables of docs/performance.md, and the machine that they were measured on.
//!
//! In: what a table holds. Out: the page with that between its markers, `<!-- figures: NAME -->` and
//! `<!-- end -->`. It refuses a page that has no such place.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The page with something else in one of its places.
///
/// # Errors
///
/// It has no place of that name.
pub fn replace(page: &str, marker: &str, content: &str) -> Result<String> {
    let (open, close) = (format!("<!-- figures: {marker} -->\n"), "<!-- end -->");
    let missing = || format!("docs/performance.md has no place for {marker}");
    let begin = page.find(&open).with_context(missing)? + open.len();
    let end = begin + page[begin..].find(close).with_context(missing)?;
    Ok(format!("{}\n{content}\n{}", &page[..begin], &page[end..]))
}

/// What it was measured on, how long that took, and how much else was going on there.
///
/// # Errors
///
/// `/proc` cannot be read.
pub fn machine(load_before: f64, took: Duration) -> Result<Value> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
    let names = || cpus.lines().filter_map(|l| l.strip_prefix("model name")?.split_once(": "));
    Ok(json!({
        "what": "machine",
        "cpu": names().next().map_or("unknown", |(_, name)| name),
        "cores": names().count(),
        "seconds": took.as_secs(),
        "load_before": load_before,
        "load_after": load()?,
    }))
}

/// Processes that run, on average of the last minute.
///
/// # Errors
///
/// `/proc` cannot be read.
pub fn load() -> Result<f64> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    Ok(load.split_whitespace().next().context("/proc/loadavg is empty")?.parse()?)
}

/// The sentence about a [`machine`], and the command that measured there.
pub fn measured_on(line: &Value, command: &str) -> Option<String> {
    let (cpu, cores) = (line["cpu"].as_str()?, &line["cores"]);
    let (before, after) = (line["load_before"].as_f64()?, line["load_after"].as_f64()?);
    // Lines of older versions do not tell.
    let took = line["seconds"].as_u64().map_or_else(String::new, |s| format!(" in {s} s"));
    Some(format!(
        "Measured by `{command}`{took} on {cores} cores of a machine with {cpu}; its load was \
         {before:.1} before and {after:.1} at the end."
    ))
}
