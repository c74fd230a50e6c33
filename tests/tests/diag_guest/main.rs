//! What an agent answers to diagnostics, by the raw protocol, in guests that boot in two seconds.

mod abuse;
mod copies;
mod image;
mod looks;
mod shells;
mod stuck;

use std::time::Duration;

/// For a whole test.
const LIMIT: Duration = Duration::from_secs(240);
