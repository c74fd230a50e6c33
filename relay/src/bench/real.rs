//! A real guest: how soon a relay that starts now has a picture of it, and what the agent and the
//! relay tell of the seconds after that.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Bench, BenchError, Finding, child::RelayProcess, delay};
use crate::{
    diag::{Client, stats::Samples},
    guest::GuestAddr,
};

/// For a guest to show something; one that boots takes its time.
const PICTURE: Duration = Duration::from_secs(20);
/// Of the diagnostic connection.
const SAMPLE: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(50);

/// Measures it. A guest that somebody watches is left alone, unless `take_over`.
///
/// # Errors
///
/// See [`BenchError`].
pub fn measure(
    bench: &Bench,
    guest: &GuestAddr,
    port: u32,
    take_over: bool,
) -> Result<Vec<Finding>, BenchError> {
    if !take_over && is_watched(guest, port)? {
        return Err(BenchError::Watched(guest.to_string()));
    }
    let receiver = delay::receiver()?;
    receiver.set_read_timeout(Some(LOOK)).map_err(BenchError::system("no time-out"))?;
    let to = receiver.local_addr().map_err(BenchError::system("no address"))?;
    let (guest, port) = (guest.to_string(), port.to_string());
    let target = format!("udp://{to}");
    let begun = Instant::now();
    let mut relay =
        RelayProcess::start(bench, [guest.as_str(), "--port", &port, "--rtp", &target])?;
    let mut first = None;
    let mut last = None;
    let mut buffer = [0; 2048];
    loop {
        // With all that is waiting, so that nobody waits for us.
        while receiver.recv(&mut buffer).is_ok() {
            first = first.or(Some(Instant::now()));
            if relay.has_lines() {
                break;
            }
        }
        while let Some(line) = relay.next(bench, Instant::now())? {
            if line["event"] == "stats" && line["latency_us"].is_object() {
                last = Some(line);
            }
        }
        match first {
            None if begun.elapsed() > PICTURE => return Err(BenchError::Silent(PICTURE)),
            Some(first) if first.elapsed() > bench.time => break,
            _ => {}
        }
    }
    let mut findings = Vec::new();
    if let Some(first) = first {
        let seconds = first.saturating_duration_since(begun).as_secs_f64();
        findings.push(Finding::new("from starting a relay to its first packet", seconds, "s"));
    }
    if let Some(line) = &last {
        findings.extend(figures(line));
    }
    Ok(findings)
}

fn is_watched(guest: &GuestAddr, port: u32) -> Result<bool, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(BenchError::system("cannot start the runtime"))?;
    let client = Client::new(guest.clone(), port);
    let watched = runtime.block_on(async {
        let mut samples = Samples::open(&client, SAMPLE, 1).await?;
        Ok::<_, BenchError>(samples.next().await?.is_some_and(|sample| sample.watched))
    })?;
    Ok(watched)
}

/// What a line of the relay's says, over the last seconds.
fn figures(line: &Value) -> Vec<Finding> {
    let of = |path: &str| line.pointer(path).and_then(Value::as_f64);
    let rows: [(&str, &str, f64, &'static str); 10] = [
        ("pictures that changed and came", "/fps", 1.0, "fps"),
        ("of H.264", "/kbps", 1.0, "kb/s"),
        ("to convert a picture, half of them less", "/latency_us/convert/p50", 1e-3, "ms"),
        ("to encode a picture, half of them less", "/latency_us/encode/p50", 1e-3, "ms"),
        ("to encode a picture, 95 of 100 less", "/latency_us/encode/p95", 1e-3, "ms"),
        ("from seen to sent by the relay, half of them less", "/latency_us/total/p50", 1e-3, "ms"),
        ("from seen to sent by the relay, 95 of 100 less", "/latency_us/total/p95", 1e-3, "ms"),
        ("to the agent and back", "/clock/round_trip_us", 1e-3, "ms"),
        ("of the guest's core for the agent", "/agent/cpu_percent", 1.0, "%"),
        ("of memory for the agent", "/agent/resident_bytes", 1e-6, "MB"),
    ];
    let found = rows.into_iter();
    found
        .filter_map(|(what, path, scale, unit)| Some(Finding::new(what, of(path)? * scale, unit)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_becomes_figures_and_what_is_not_there_is_left_out() {
        let stage = json!({ "p50": 2000, "p95": 4000, "p99": 5000 });
        let line = json!({
            "event": "stats", "fps": 59.9, "kbps": 4210.0,
            "latency_us": { "convert": stage, "encode": stage, "total": stage },
            "clock": { "round_trip_us": 150 }, "agent": null,
        });
        let found = figures(&line);
        let of = |what: &str| found.iter().find(|f| f.what.starts_with(what)).map(|f| f.value);
        assert_eq!(of("pictures that changed"), Some(59.9));
        assert_eq!(of("to encode a picture, 95"), Some(4.0));
        assert_eq!(of("to the agent and back"), Some(0.15));
        assert_eq!(of("of memory"), None);
    }
}
