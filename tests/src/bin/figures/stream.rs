//! Our own stream while it runs: how many frames came out of the relay.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use transom_tests::{Guest, Relay, Test};

/// For what comes every second, under load too.
const SOON: Duration = Duration::from_secs(30);
/// For a stream to begin; the game may still be starting.
const STREAMING: Duration = Duration::from_secs(120);

/// A relay that streams.
pub struct Stream(Relay);

/// Frames that were passed on at a time.
pub struct Passed {
    pub at: Instant,
    pub frames: f64,
    /// CPU seconds by the agent's own count, and its resident bytes.
    pub agent: Option<(f64, f64)>,
    /// Latency of each stage in the last seconds, as the relay tells it.
    pub latency_us: Value,
}

impl Stream {
    /// Streams `guest`; returns when frames flow.
    pub fn start(test: &Test, guest: &Guest) -> Result<Self> {
        Self::start_with(test, guest, &[])
    }

    /// The same with settings of the relay's own, as environment variables.
    pub fn start_with(test: &Test, guest: &Guest, settings: &[(&str, &str)]) -> Result<Self> {
        let relay = Relay::start_with(test, guest, settings)?;
        relay.wait(STREAMING, "frames", |line| (line["frames"].as_u64()? > 0).then_some(()))?;
        Ok(Self(relay))
    }

    /// What the relay's next line of figures says.
    pub fn passed(&self) -> Result<Passed> {
        let relay = &self.0;
        let line = relay.wait_from(relay.mark(), SOON, "figures", |line: &Value| {
            (line["event"] == "stats").then(|| line.clone())
        })?;
        let frames = line["frames"].as_f64().context("figures without frames")?;
        let agent = &line["agent"];
        let agent = agent["cpu_ns"].as_f64().zip(agent["resident_bytes"].as_f64());
        let agent = agent.map(|(cpu, resident)| (cpu / 1e9, resident));
        Ok(Passed { at: Instant::now(), frames, agent, latency_us: line["latency_us"].clone() })
    }

    /// The relay itself.
    pub fn relay(&mut self) -> &mut Relay {
        &mut self.0
    }
}
