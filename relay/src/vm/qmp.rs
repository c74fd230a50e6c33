//! QEMU's monitor (docs/interop/qmp-spec): one JSON command, one answer.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

/// A monitor answers at once, unless the host is badly overloaded.
const DEADLINE: Duration = Duration::from_secs(30);
/// Longest answer that is read.
const MAX_LINE: u64 = 1 << 20;

/// A connection to the monitor, past its greeting.
#[derive(Debug)]
pub struct Qmp(BufReader<UnixStream>);

impl Qmp {
    /// Connects, reads the greeting and answers it.
    ///
    /// # Errors
    ///
    /// Nobody listens, or it is no monitor.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let mut this = Self(BufReader::new(stream));
        this.read()?;
        this.run("qmp_capabilities")?;
        Ok(this)
    }

    /// Runs a command without arguments.
    ///
    /// # Errors
    ///
    /// QEMU refuses it, or is gone.
    pub fn run(&mut self, command: &str) -> io::Result<()> {
        writeln!(self.0.get_mut(), "{}", json!({ "execute": command }))?;
        loop {
            let answer = self.read()?;
            // Events come in between and are of no interest.
            if answer.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = answer.get("error") {
                return Err(io::Error::other(format!("QEMU refuses {command}: {error}")));
            }
        }
    }

    fn read(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.0.by_ref().take(MAX_LINE).read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "QEMU has ended"));
        }
        Ok(serde_json::from_str(&line)?)
    }
}
