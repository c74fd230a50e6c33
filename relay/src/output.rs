//! The ways out of the relay, one file each.

pub mod pair;
pub mod udp;
