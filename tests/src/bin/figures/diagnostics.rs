//! What diagnostics cost, and what the stream costs them: round trips beside a stream, copies
//! against a bare vsock stream, and the agent's CPU time with and without somebody who looks.

mod copy;
mod cost;
mod round_trip;

pub use round_trip::measure_image;

use anyhow::Result;
use serde_json::Value;
use transom_tests::Test;

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let mut lines = round_trip::measure(test)?;
    lines.extend(copy::measure(test)?);
    lines.extend(cost::measure(test)?);
    Ok(lines)
}
