//! What diagnostics cost, and what the stream costs them: round trips beside a stream, copies
//! against a bare vsock stream, and the agent's CPU time with and without somebody who looks.

pub mod copy;
pub mod cost;
pub mod round_trip;
