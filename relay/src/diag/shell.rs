//! A command or a login shell in a guest, on a terminal or on pipes.
//!
//! ```text
//!   stdin ──▶ escape.rs ──▶ Data ═══▶ guest
//!   resize, signals ──────▶ Resize, Signal ═▶
//!   stdout, stderr ◀── Data, ErrorData ◀════
//! ```
//!
//! On a terminal all keys belong to the guest, Ctrl-C too; `~.` at the start of a line leaves, as
//! in ssh, for a guest that hangs. The terminal is put back on every way out.

use std::time::Duration;

use tokio::sync::mpsc;
use transom_protocol::{
    diagnostics::{
        GuestDiagnostics, HostDiagnostics, Line, MAX_DATA, MAX_LINE, Request, Signal, Terminal,
    },
    message::Text,
};

use super::{Answers, Client, DiagError, client::OUTBOX, heartbeat, tell};

mod escape;
mod terminal;

use escape::Escape;
use terminal::{Raw, Resizes};
pub use terminal::{input, size};

/// How long a guest may take to say that a shell has begun or is refused.
const SILENCE: Duration = Duration::from_secs(10);

/// What a user does to us from outside of the terminal's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// Passed on to the guest.
    Signal(Signal),
    /// The user does not want to wait for the guest.
    Leave,
}

/// How a shell ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this status.
    Exited(i32),
    /// The user left it.
    Left,
}

/// The command line for `/bin/sh -c`: a single word is taken as it is, several are quoted.
///
/// # Errors
///
/// It is too long.
pub fn command_line(words: &[String]) -> Result<Option<Line>, DiagError> {
    let line = match words {
        [] => return Ok(None),
        [line] => line.clone(),
        words => words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "),
    };
    if line.len() > MAX_LINE {
        return Err(DiagError::Usage(format!(
            "a command has at most {MAX_LINE} bytes. Copy a script over with `cp` and run that"
        )));
    }
    Ok(Some(Line::new(line)))
}

fn quote(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs a command, or a login shell, until it ends. `signals` are what the user sends to us.
///
/// # Errors
///
/// See [`DiagError`].
pub async fn run(
    client: &Client,
    command: Option<Line>,
    on_terminal: bool,
    mut input: mpsc::Receiver<Vec<u8>>,
    mut signals: mpsc::Receiver<Interruption>,
) -> Result<Ending, DiagError> {
    let terminal = on_terminal.then(|| Terminal {
        kind: Text::new(std::env::var("TERM").unwrap_or_else(|_| "xterm-256color".into())),
        size: size(),
    });
    let mut answers = client.ask(Request::Shell { command, terminal }).await?;
    // Our request has to be taken; after that a shell may be silent for days.
    answers.set_silence(Some(SILENCE));
    while answers.waiting() > 0 {
        answers.drive_out().await?;
    }
    answers.set_silence(None);
    let raw = on_terminal.then(Raw::enter).transpose()?;
    let newline = if raw.is_some() { "\r\n" } else { "\n" };
    let mut resizes = Resizes::new()?;
    let mut escape = Escape::default();
    let mut status = None;
    let mut input_open = true;
    let watching = heartbeat::watch(client, |text| eprint!("{newline}transom: {text}{newline}"));
    let mut watching = std::pin::pin!(watching);
    loop {
        tokio::select! {
            // Not `next`, which would send on for ever while the guest says nothing, and take no
            // more input meanwhile.
            answer = answers.drive() => {
                let Some(answer) = answer? else {
                    if !answers.has_ended() {
                        continue;
                    }
                    return status.map(Ending::Exited).ok_or_else(|| answers.nonsense("no exit status"));
                };
                match answer.message {
                    GuestDiagnostics::Data => tell::say_bytes(&answer.bulk)?,
                    GuestDiagnostics::ErrorData => {
                        use std::io::Write;
                        std::io::stderr().write_all(&answer.bulk).map_err(DiagError::Terminal)?;
                    }
                    GuestDiagnostics::Exited(code) => status = Some(code),
                    _ => {}
                }
            }
            bytes = input.recv(), if input_open && answers.waiting() < OUTBOX => match bytes {
                Some(bytes) if on_terminal => {
                    let (bytes, leave) = escape.handle(&bytes);
                    send(&mut answers, &bytes);
                    if leave {
                        return Ok(Ending::Left);
                    }
                }
                Some(bytes) => send(&mut answers, &bytes),
                None => {
                    input_open = false;
                    answers.queue(&HostDiagnostics::EndOfData, &[]);
                }
            },
            Some(size) = resizes.next(), if on_terminal => {
                answers.queue(&HostDiagnostics::Resize(size), &[]);
            }
            Some(interruption) = signals.recv() => match interruption {
                Interruption::Signal(signal) => {
                    answers.queue(&HostDiagnostics::Signal(signal), &[]);
                }
                Interruption::Leave => return Ok(Ending::Left),
            },
            never = watching.as_mut() => match never {},
        }
    }
}

fn send(answers: &mut Answers, bytes: &[u8]) {
    for chunk in bytes.chunks(MAX_DATA as usize) {
        answers.queue(&HostDiagnostics::Data, chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_a_command_line_and_several_are_words() {
        let line = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&w| w.into()).collect();
            command_line(&words).expect("short").map(|line| line.as_str().to_owned())
        };
        assert_eq!(line(&[]), None);
        assert_eq!(line(&["ps | wc -l"]).as_deref(), Some("ps | wc -l"));
        assert_eq!(
            line(&["ls", "-l", "/a b", "it's", ""]).as_deref(),
            Some(r"ls -l '/a b' 'it'\''s' ''")
        );
        assert!(command_line(&["x".repeat(MAX_LINE + 1)]).is_err());
    }
}
