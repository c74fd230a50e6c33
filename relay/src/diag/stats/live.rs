//! Runs the live view: samples and keys in, pages out. Survives an agent that restarts, and says
//! when the guest is silent.

use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyModifiers};
use tokio::sync::mpsc;
use transom_protocol::diagnostics::Sample;

use super::{Samples, view::View};
use crate::diag::{Client, DiagError};

/// Between two attempts to reach a guest that went away.
const RETRY: Duration = Duration::from_secs(2);

/// A sample that is late by this is worth a word.
const LATE: Duration = Duration::from_secs(3);

/// How often the keyboard's thread looks whether it is still needed.
const KEY_POLL: Duration = Duration::from_millis(200);

/// The terminal, ours for as long as this lives.
struct Screen(ratatui::DefaultTerminal);

impl Screen {
    fn enter() -> Result<Self, DiagError> {
        ratatui::try_init().map(Self).map_err(DiagError::Terminal)
    }

    fn draw(&mut self, view: &View) -> Result<(), DiagError> {
        self.0.draw(|frame| view.draw(frame)).map(drop).map_err(DiagError::Terminal)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows a guest's figures until the user leaves.
///
/// # Errors
///
/// The guest cannot be reached at the start, or the terminal cannot be used.
pub async fn run(client: &Client, interval: Duration) -> Result<(), DiagError> {
    let mut source = Source { client, interval, open: None };
    let agent = source.open().await?;
    let mut view = View::new(client.guest().to_string(), agent);
    let mut screen = Screen::enter()?;
    let mut keys = keys();
    let mut last = Instant::now();
    loop {
        screen.draw(&view)?;
        tokio::select! {
            result = source.next() => match result {
                Ok(sample) => {
                    last = Instant::now();
                    view.push(sample);
                }
                Err(error) => view.notice(error.to_string()),
            },
            key = keys.recv() => match key {
                Some(Event::Key(key)) if leaves(key.code, key.modifiers) => return Ok(()),
                Some(_) => {} // a new size: drawn anew above
                None => return Ok(()),
            },
            () = tokio::time::sleep(interval + LATE) => {
                view.notice(format!("no answer for {} s", last.elapsed().as_secs()));
            }
        }
    }
}

/// Samples of a guest, asked for again whenever they break off.
struct Source<'a> {
    client: &'a Client,
    interval: Duration,
    open: Option<Samples>,
}

impl Source<'_> {
    /// Asks for samples; the agent's name and version.
    async fn open(&mut self) -> Result<String, DiagError> {
        let samples = Samples::open(self.client, self.interval, 0).await?;
        let agent = samples.agent();
        self.open = Some(samples);
        Ok(agent)
    }

    /// The next sample. May be dropped at any time; after an error it waits before it tries again.
    async fn next(&mut self) -> Result<Sample, DiagError> {
        loop {
            let Some(samples) = &mut self.open else {
                tokio::time::sleep(RETRY).await;
                self.open().await?;
                continue;
            };
            let broke = match samples.next().await {
                Ok(Some(sample)) => return Ok(sample),
                // The agent ends an endless answer only when it ends itself.
                Ok(None) => {
                    DiagError::Silent { guest: self.client.guest().clone(), after: self.interval }
                }
                Err(error) => error,
            };
            self.open = None;
            return Err(broke);
        }
    }
}

fn leaves(code: KeyCode, modifiers: KeyModifiers) -> bool {
    matches!(code, KeyCode::Char('q' | 'Q') | KeyCode::Esc)
        || (code == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL))
}

/// Keys and new sizes, from a thread: the terminal's reads block.
fn keys() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(KEY_POLL) {
                Ok(false) => {}
                Ok(true) => {
                    if event::read().map_or(true, |event| sender.blocking_send(event).is_err()) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    });
    receiver
}
