//! Runs the live view: samples and keys in, pages out. Survives an agent that restarts, and says
//! when the guest is silent.

use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyModifiers};
use tokio::sync::mpsc;

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
    let mut samples = Some(Samples::open(client, interval, 0).await?);
    let agent = samples.as_ref().map(Samples::agent).unwrap_or_default();
    let mut view = View::new(client.guest().to_string(), agent);
    let mut screen = Screen::enter()?;
    let mut keys = keys();
    let mut last = Instant::now();
    loop {
        screen.draw(&view)?;
        let step = async {
            match &mut samples {
                Some(open) => open.next().await.and_then(|sample| {
                    // The agent ends an endless answer only when it ends itself.
                    sample
                        .ok_or(DiagError::Silent { guest: client.guest().clone(), after: interval })
                }),
                None => {
                    tokio::time::sleep(RETRY).await;
                    samples = Some(Samples::open(client, interval, 0).await?);
                    Err(DiagError::Usage(String::new()))
                }
            }
        };
        let late = interval + LATE;
        tokio::select! {
            result = step => match result {
                Ok(sample) => {
                    last = Instant::now();
                    view.push(sample);
                }
                // Connected again; the next round waits for a sample.
                Err(DiagError::Usage(_)) => {}
                Err(error) => {
                    samples = None;
                    view.notice(error.to_string());
                }
            },
            key = keys.recv() => match key {
                Some(Event::Key(key)) if leaves(key.code, key.modifiers) => return Ok(()),
                Some(_) => {} // a new size: drawn anew above
                None => return Ok(()),
            },
            () = tokio::time::sleep(late) => {
                view.notice(format!("no answer for {} s", last.elapsed().as_secs()));
            }
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
