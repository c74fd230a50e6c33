//! `transom diag`, `transom list` and the relay's metrics, as a user runs them, against booted
//! guests.

mod ask;
mod faults;
mod image;
mod metrics;
mod schema;
mod verbs;

use std::time::Duration;

/// For a whole test with a fast guest.
const LIMIT: Duration = Duration::from_secs(240);
