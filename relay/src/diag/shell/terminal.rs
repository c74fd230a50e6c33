//! The user's terminal: raw while a guest has it, its size, and what is typed.

use std::io::{self, Read};

use tokio::sync::mpsc;
use transom_protocol::diagnostics::TerminalSize;

use super::DiagError;

/// Raw for as long as this lives.
#[derive(Debug)]
pub(super) struct Raw(());

impl Raw {
    pub(super) fn enter() -> Result<Self, DiagError> {
        crossterm::terminal::enable_raw_mode().map_err(DiagError::Terminal)?;
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(e) = crossterm::terminal::disable_raw_mode() {
            log::warn!("the terminal could not be put back: {e}. Type `reset`");
        }
    }
}

/// The terminal's size; 80x24 if it does not say.
pub fn size() -> TerminalSize {
    let (columns, rows) = crossterm::terminal::size().unwrap_or((80, 24));
    TerminalSize { columns: columns.max(1), rows: rows.max(1) }
}

/// What is typed or piped, read by a thread of its own: a read of stdin cannot be called off, and
/// the thread ends with the process. The channel closes at the end of the input.
pub fn input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    log::debug!("stdin cannot be read: {e}");
                    return;
                }
            }
        }
    });
    receiver
}

/// Tells new sizes of the terminal.
#[cfg(unix)]
pub(super) struct Resizes(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Resizes {
    pub(super) fn new() -> Result<Self, DiagError> {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::window_change()).map(Self).map_err(DiagError::Terminal)
    }

    pub(super) async fn next(&mut self) -> Option<TerminalSize> {
        self.0.recv().await.map(|()| size())
    }
}

/// Tells new sizes of the terminal: looks twice a second, for there is no signal.
#[cfg(not(unix))]
pub(super) struct Resizes(TerminalSize);

#[cfg(not(unix))]
impl Resizes {
    pub(super) fn new() -> Result<Self, DiagError> {
        Ok(Self(size()))
    }

    pub(super) async fn next(&mut self) -> Option<TerminalSize> {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            let now = size();
            if now != self.0 {
                self.0 = now;
                return Some(now);
            }
        }
    }
}
