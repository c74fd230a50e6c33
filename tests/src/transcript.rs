//! What somebody said: bytes from a pipe or socket, kept in memory and in a log file.
//!
//! In: any reader. Out: its text so far, and waiting for something to appear in it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A growing text; clones share it.
#[derive(Clone)]
pub struct Transcript {
    name: String,
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    ended: bool,
}

impl Transcript {
    /// Reads `source` to its end on a thread, copying everything to the file `log`.
    pub fn of(mut source: impl Read + Send + 'static, log: &Path) -> Result<Self> {
        let name = log.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let transcript = Self { name, shared: Arc::default() };
        let ours = transcript.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = source.read(&mut buffer) {
                // A full disk must not stop the reader: the guest would block on its console.
                let _ = file.write_all(&buffer[..n]);
                ours.lock().bytes.extend_from_slice(&buffer[..n]);
                ours.shared.1.notify_all();
            }
            ours.lock().ended = true;
            ours.shared.1.notify_all();
        });
        Ok(transcript)
    }

    /// Everything so far.
    pub fn text(&self) -> String {
        self.text_from(0)
    }

    /// Everything from byte `start` on.
    pub fn text_from(&self, start: usize) -> String {
        let state = self.lock();
        let start = start.min(state.bytes.len());
        String::from_utf8_lossy(&state.bytes[start..]).replace("\r\n", "\n")
    }

    /// Bytes so far: a mark for [`Transcript::wait_from`].
    pub fn len(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Nothing was said yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until `pattern` appears, seen from the beginning.
    pub fn wait(&self, pattern: &str, deadline: Duration) -> Result<()> {
        self.wait_from(0, deadline, pattern, |text| text.contains(pattern).then_some(()))
    }

    /// Waits until `find` finds something in the text behind the mark `start`. `what`
    /// names it in the error.
    pub fn wait_from<T>(
        &self,
        start: usize,
        deadline: Duration,
        what: &str,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + deadline;
        let mut seen = None;
        loop {
            let (len, ended) = {
                let state = self.lock();
                (state.bytes.len(), state.ended)
            };
            if seen != Some(len) {
                seen = Some(len);
                if let Some(found) = find(&self.text_from(start)) {
                    return Ok(found);
                }
            }
            let tail = || {
                let text = self.text_from(start);
                let lines: Vec<_> = text.lines().rev().take(5).collect();
                lines.into_iter().rev().collect::<Vec<_>>().join("\n")
            };
            let state = self.lock();
            if state.bytes.len() != len {
                continue;
            }
            if ended {
                drop(state);
                bail!("{} ended without '{what}'; its last lines:\n{}", self.name, tail());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                bail!(
                    "no '{what}' from {} within {deadline:?}; its last lines:\n{}",
                    self.name,
                    tail()
                );
            }
            drop(self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A reader that panicked leaves text that is still true.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
