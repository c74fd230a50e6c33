//! One relay for many guests: what each guest with its four viewers costs, and whether one that
//! floods the relay holds up another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use transom_tests::Test;

use super::cores::Kept;
use super::guest::{Guest, looped, nanos, numbered};
use super::memory::pss_kib;
use super::recording::SLOW;
use super::viewer::Viewers;
use super::webrtc::serve;
use super::{INTERVAL, ROUNDS};
use crate::cpu;
use crate::latency::percentiles;

const GUESTS: [usize; 4] = [1, 4, 16, 32];
const VIEWERS: usize = 4;
const SETTLE: Duration = Duration::from_secs(2);

/// The quiet guest's pictures: their length, and the time between them.
const QUIET: (usize, Duration) = (2500, Duration::from_millis(20));
/// What the other one floods the relay with.
const FLOOD: usize = 100_000;

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let kept = Kept::to_one()?;
    let mut lines = vec![idle(test, &kept)?];
    for count in GUESTS {
        lines.push(grow(test, &kept, count)?);
    }
    for round in 1..=ROUNDS {
        for floods in [false, true] {
            lines.push(quiet(test, &kept, floods, round)?);
        }
    }
    Ok(lines)
}

/// A relay that nobody watches, with a guest at rest.
fn idle(test: &Test, kept: &Kept) -> Result<Value> {
    let guest = Guest::start(test.socket("idle"), |media| {
        loop {
            media.send(true, &numbered::idr(0, QUIET.0))?;
            std::thread::sleep(Duration::from_secs(1));
        }
    })?;
    let relay = serve(test, kept, &[("idle".into(), guest.address())])?;
    std::thread::sleep(SETTLE);
    Ok(json!({ "what": "idle", "pss_kib": pss_kib(relay.process.pid())? }))
}

fn grow(test: &Test, kept: &Kept, count: usize) -> Result<Value> {
    let units = SLOW.units()?;
    let guests = (0..count)
        .map(|i| Guest::start(test.socket(&format!("g{i}")), looped(Arc::clone(&units), SLOW.rate)))
        .collect::<Result<Vec<_>>>()?;
    let named: Vec<_> =
        guests.iter().enumerate().map(|(i, guest)| (format!("g{i}"), guest.address())).collect();
    let relay = serve(test, kept, &named)?;
    let mut viewers = Viewers::default();
    for (name, _) in &named {
        for _ in 0..VIEWERS {
            viewers.add(relay.join(name)?, |_| ());
        }
    }
    viewers.wait()?;
    std::thread::sleep(SETTLE);
    let pid = relay.process.pid();
    let (from, begun, pictures) =
        (cpu::of_process(pid)?, Instant::now(), viewers.counts().pictures);
    std::thread::sleep(INTERVAL);
    let seconds = begun.elapsed().as_secs_f64();
    let due = seconds * f64::from(SLOW.rate) * (count * VIEWERS) as f64;
    Ok(json!({
        "what": "guests", "guests": count, "viewers": count * VIEWERS,
        "cpu_percent": (cpu::of_process(pid)? - from) / seconds * 100.0,
        "pss_kib": pss_kib(pid)?,
        "pictures_percent": (viewers.counts().pictures - pictures) as f64 / due * 100.0,
    }))
}

/// How long a quiet guest's pictures take to its viewer, with and without one that floods.
fn quiet(test: &Test, kept: &Kept, floods: bool, round: u64) -> Result<Value> {
    let sent = Arc::new(Mutex::new(HashMap::new()));
    let noted = Arc::clone(&sent);
    let (length, gap) = QUIET;
    let quiet = Guest::start(test.socket("quiet"), move |media| {
        let begun = Instant::now();
        for number in 0u32.. {
            let due = begun + gap * number;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // With an IDR now and then, for its viewer to begin at.
            let idr = number % 50 == 0 || media.take_idr_wish();
            let unit =
                if idr { numbered::idr(number, length) } else { numbered::unit(number, length) };
            let at = media.send(idr, &unit)?;
            noted.lock().unwrap_or_else(PoisonError::into_inner).insert(number, at);
        }
        Ok(())
    })?;
    let loud = Guest::start(test.socket("loud"), move |media| {
        let idr = numbered::idr(0, FLOOD);
        loop {
            media.send(true, &idr)?;
            if !floods {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    })?;
    let guests = [("quiet".to_owned(), quiet.address()), ("loud".to_owned(), loud.address())];
    let relay = serve(test, kept, &guests)?;
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let mut viewers = Viewers::default();
    let notes = Arc::clone(&arrived);
    viewers.add(relay.join("quiet")?, move |packet| {
        if let Some(number) = numbered::of_last(&packet.payload) {
            notes.lock().unwrap_or_else(PoisonError::into_inner).push((number, nanos()));
        }
    });
    for _ in 0..VIEWERS {
        viewers.add(relay.join("loud")?, |_| ());
    }
    viewers.wait()?;
    std::thread::sleep(SETTLE);
    arrived.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let pid = relay.process.pid();
    let (from, begun) = (cpu::of_process(pid)?, Instant::now());
    std::thread::sleep(INTERVAL);
    let cpu_percent = (cpu::of_process(pid)? - from) / begun.elapsed().as_secs_f64() * 100.0;
    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
    let arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
    let times: Vec<_> = arrived
        .iter()
        .filter_map(|(number, at)| Some((*at as f64 - *sent.get(number)? as f64) / 1e6))
        .collect();
    ensure!(!times.is_empty(), "nothing of the quiet guest came through");
    Ok(json!({
        "what": if floods { "beside a flood" } else { "alone" }, "round": round,
        "pictures": times.len(), "ms": percentiles(times).context("none")?,
        "cpu_percent": cpu_percent,
    }))
}
