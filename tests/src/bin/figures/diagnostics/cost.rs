//! What the guest's CPU time says of diagnostics while the whole screen moves at 60 fps: nobody
//! asks, somebody follows the log and hears nothing, somebody watches the figures.
//!
//! Measured from outside as in `moving.rs`. What differs between the turns is only who asks.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use transom_tests::{Process, Relay, Test, Transcript, Uml};

use crate::stream::Stream;
use crate::{INTERVAL, SETTLE, cpu};

/// Differences of some thousandths of a core want more turns than the others have.
const ROUNDS: u64 = 4;
const SOON: Duration = Duration::from_secs(30);

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let mut guest = Uml::new(test).boot()?;
    let group = guest.process().pid();
    guest.start_agent(&[])?;
    let mut screen = guest.testcard()?;
    screen.tell("mode 1280x720 XRGB8888")?;
    screen.tell("animate screen")?;
    let stream = Stream::start(test, &guest)?;
    let mut lines = Vec::new();
    for round in 1..=ROUNDS {
        for (who, args, begun) in [
            ("nobody", &[][..], ""),
            ("logs -f", &["logs", "-f", "--json"], "\"record\""),
            ("stats --watch", &["stats", "--watch", "--json"], "\"sample\""),
        ] {
            let _client = match args {
                [] => None,
                args => Some(client(test, &guest.address(), args, begun)?),
            };
            std::thread::sleep(SETTLE);
            let (from, cpu_from) = (stream.passed()?, cpu::of_group(group)?);
            std::thread::sleep(INTERVAL);
            let (to, cpu_to) = (stream.passed()?, cpu::of_group(group)?);
            let seconds = (to.at - from.at).as_secs_f64();
            let (frames, used) = (to.frames - from.frames, cpu_to - cpu_from);
            lines.push(json!({
                "what": "cost", "who": who, "round": round,
                "fps": frames / seconds, "guest_cpu_percent": used / seconds * 100.0,
                "ms_per_frame": used / frames * 1e3,
            }));
        }
    }
    Ok(lines)
}

/// Asks, and returns when the first answer is there.
fn client(test: &Test, guest: &str, args: &[&str], begun: &str) -> Result<Process> {
    let mut command = Relay::command();
    command.args(["diag", guest]).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::spawn(test, "client", &mut command)?;
    let stdout = process.child().stdout.take().context("stdout was piped")?;
    Transcript::of(stdout, &test.dir().join("client-said.log"))?.wait(begun, SOON)?;
    Ok(process)
}
