//! From an event's coming in at the relay to the guest's kernel having it.
//!
//! The player taps the space bar, far enough apart for each event to go alone. The relay's share
//! ends when the bytes are with the system, the total when the agent has written to the device, by
//! the relay's estimate of the guest's clock, which is good to half a round trip.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use transom_tests::{Guest, Player, Qemu, Test, Uml};

use crate::latency::percentiles;

/// Percentiles of so many are good to their 99th.
const TAPS: u32 = 500;
/// A fast typist presses and releases so often.
const INTERVAL_MS: u32 = 25;
/// Twice what it takes, and more.
const LIMIT: Duration = Duration::from_secs(120);
/// From power-on to a running game.
const BOOT: Duration = Duration::from_secs(240);

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let guest = Uml::new(test).boot()?;
    guest.start_agent(&[])?;
    let fast = taps(test, &guest, "user-mode Linux")?;
    drop(guest);
    let guest = Qemu::new(test).boot()?;
    guest.sh("until pidof chocolate-doom; do sleep 0.5; done; sleep 10", BOOT)?;
    Ok(vec![fast, taps(test, &guest, "shipped image, the game running")?])
}

fn taps(test: &Test, guest: &Guest, what: &str) -> Result<Value> {
    let mut player = Player::start(test, guest)?;
    // The estimate of the clock settles within the first pings.
    std::thread::sleep(Duration::from_secs(2));
    player.tell(&format!("measure {TAPS} {INTERVAL_MS}"))?;
    player.wait_within("measured", LIMIT)?;
    player.wait_within(&format!("written 1 {} ", 2 * TAPS), LIMIT)?;
    let text = player.text();
    let times: Vec<(f64, f64)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("written 1 ")?.split(' ').skip(1);
            let mut ms = || Some(words.next()?.parse::<f64>().ok()? / 1e6);
            Some((ms()?, ms()?))
        })
        .collect();
    ensure!(times.len() == 2 * TAPS as usize, "{} events were written", times.len());
    let of = |which: fn(&(f64, f64)) -> f64| {
        percentiles(times.iter().map(which).collect()).context("no event was written")
    };
    Ok(json!({
        "what": what, "events": times.len(), "relay": of(|t| t.0)?, "guest": of(|t| t.1)?,
    }))
}
