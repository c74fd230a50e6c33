//! The guest's clock on the wire.

use nix::time::{ClockId, clock_gettime};
use transom_protocol::GuestTime;

/// Now, on CLOCK_MONOTONIC: the clock that KMS stamps its events with, too.
pub fn now() -> GuestTime {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has CLOCK_MONOTONIC");
    GuestTime(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
