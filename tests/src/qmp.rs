//! QEMU's monitor: one JSON command, one answer.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A monitor answers at once, unless the host is badly overloaded.
const DEADLINE: Duration = Duration::from_secs(30);

/// A connection to the monitor, past its greeting.
pub(crate) struct Qmp(BufReader<UnixStream>);

impl Qmp {
    /// Reads the greeting and answers it.
    pub(crate) fn greet(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut this = Self(BufReader::new(stream));
        this.read()?;
        this.run("qmp_capabilities", "{}")?;
        Ok(this)
    }

    /// Runs a command; `arguments` is a JSON object.
    pub(crate) fn run(&mut self, command: &str, arguments: &str) -> Result<Value> {
        writeln!(self.0.get_mut(), r#"{{"execute": "{command}", "arguments": {arguments}}}"#)?;
        loop {
            let answer = self.read()?;
            // Events come in between and are of no interest.
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        let n = self.0.read_line(&mut line).context("no answer from QEMU's monitor")?;
        anyhow::ensure!(n > 0, "QEMU has ended");
        Ok(serde_json::from_str(&line)?)
    }
}
