//! A relay as users have it, as a process of its own; dropped means ended.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Bench, BenchError};

/// Between two looks at whether it is over.
const LOOK: Duration = Duration::from_millis(100);
/// Most of its complaints that are repeated, in bytes.
const COMPLAINTS: u64 = 2000;

/// The process.
#[derive(Debug)]
pub struct RelayProcess {
    child: Child,
    lines: Receiver<Value>,
    waiting: Option<Value>,
}

impl RelayProcess {
    /// Starts `transom relay ARGUMENTS --json`.
    ///
    /// # Errors
    ///
    /// [`BenchError::System`].
    pub fn start<S: AsRef<OsStr>>(
        bench: &Bench,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Self, BenchError> {
        let mut command = Command::new(&bench.program);
        command.arg("relay").args(arguments).arg("--json").env("RUST_LOG", "warn");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(BenchError::system("cannot start a relay"))?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            // Ends with the process, or once nobody listens any more.
            std::thread::spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                let mut values = lines.filter_map(|line| serde_json::from_str(&line).ok());
                while values.next().is_some_and(|value: Value| sender.send(value).is_ok()) {}
            });
        }
        Ok(Self { child, lines, waiting: None })
    }

    /// Whether a line is waiting; the next call of [`Self::next`] yields it at once.
    pub fn has_lines(&mut self) -> bool {
        self.waiting = self.waiting.take().or_else(|| self.lines.try_recv().ok());
        self.waiting.is_some()
    }

    /// The next line that it says, until the given time.
    ///
    /// # Errors
    ///
    /// It has ended, or the user wants the end.
    pub fn next(&mut self, bench: &Bench, until: Instant) -> Result<Option<Value>, BenchError> {
        if let Some(value) = self.waiting.take() {
            return Ok(Some(value));
        }
        loop {
            bench.stop.check()?;
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left.min(LOOK)) {
                Ok(value) => return Ok(Some(value)),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    bench.stop.check()?;
                    return Err(BenchError::RelayEnded(self.complaints()));
                }
            }
        }
    }

    fn complaints(&mut self) -> String {
        let _ = self.child.kill();
        let mut text = String::new();
        if let Some(stderr) = self.child.stderr.take() {
            // What cannot be read is not told.
            let _ = stderr.take(COMPLAINTS).read_to_string(&mut text);
        }
        text.trim().to_owned()
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        // Nothing of it is kept, so that it need not be asked.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
