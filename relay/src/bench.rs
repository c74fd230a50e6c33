//! `transom bench`: what this machine makes of the relay, and what a guest makes of its screen.
//!
//! ```text
//!   synthetic guest ──▶ transom relay (a process, as users have it) ──▶ receivers ──▶ delay.rs
//!   frames ──▶ rtp.rs, output/udp.rs on one thread, flat out ──▶ receivers ──▶ fan_out.rs
//!   real guest ──▶ transom relay --json ──▶ real.rs
//! ```
//!
//! What enters: how long each may take. What leaves: [`Finding`]s, for people or as JSON. Nothing
//! leaves the machine; only loopback addresses and ports that the system picks are used. What this
//! refuses to do: compare with other programs (`make bench` does), or judge.

use std::{
    io,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde::Serialize;

pub mod child;
pub mod delay;
pub mod fan_out;
pub mod real;
mod synthetic;

/// A figure with its name and unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What was measured, in words that stay.
    pub what: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

impl Finding {
    fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = match self.value.abs() {
            0.0..10.0 => 2,
            10.0..100.0 => 1,
            _ => 0,
        };
        write!(f, "{:>9.digits$} {:<12} {}", self.value, self.unit, self.what)
    }
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The user has asked for the end.
    #[error("stopped")]
    Stopped,
    /// The system refuses something.
    #[error("{what}: {why}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        why: io::Error,
    },
    /// The relay that was started has ended.
    #[error("the relay that was started has ended: {0}")]
    RelayEnded(String),
    /// Nothing came through.
    #[error("nothing came through the relay within {} s", .0.as_secs())]
    Silent(Duration),
    /// Somebody watches the guest, who would be cut off.
    #[error("a relay streams {0} already, and would be cut off: end it first, or say --take-over")]
    Watched(String),
    /// The guest does not answer.
    #[error(transparent)]
    Guest(#[from] crate::diag::DiagError),
}

impl BenchError {
    fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |why| Self::System { what, why }
    }
}

/// Whether the user has had enough; may be shared by threads.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// Ends what runs, soon.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), BenchError> {
        if self.0.load(Ordering::Relaxed) { Err(BenchError::Stopped) } else { Ok(()) }
    }
}

/// What all measurements need.
#[derive(Debug)]
pub struct Bench {
    /// The program `transom`, which is started as a relay.
    pub program: PathBuf,
    /// How long each measurement lasts.
    pub time: Duration,
    /// Whether to end before.
    pub stop: Stop,
}

/// Values at percentiles of an unsorted list, or nothing of an empty one.
fn percentiles(values: &mut [f64], percents: &[usize]) -> Option<Vec<f64>> {
    values.sort_by(f64::total_cmp);
    let at =
        |percent: &usize| values.get((values.len() * percent).div_ceil(100).max(1) - 1).copied();
    percents.iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentiles(&mut values, &[50, 99, 100]), Some(vec![50.0, 99.0, 100.0]));
        assert_eq!(percentiles(&mut [3.0], &[50, 99]), Some(vec![3.0, 3.0]));
        assert_eq!(percentiles(&mut [], &[50]), None);
    }

    #[test]
    fn figures_stand_below_one_another() {
        let short = Finding::new("a", 1.234, "ms").to_string();
        let long = Finding::new("a", 1234.5, "ms").to_string();
        assert_eq!((short.find("ms"), long.find("ms")), (Some(10), Some(10)));
        assert!(short.contains("1.23 ") && long.contains("1234 "), "{short} {long}");
    }

    #[test]
    fn who_has_had_enough_is_heard() {
        let stop = Stop::default();
        assert!(stop.check().is_ok());
        stop.stop();
        assert!(matches!(stop.check(), Err(BenchError::Stopped)));
    }
}
