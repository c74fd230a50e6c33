//! Hands a request that needs more rights than the agent has to a unit that has them.
//!
//! ```text
//!  agent ── descriptor of the connection, request, what was read ahead ──▶ helper
//!                                                        host ◀── answer ── helper
//!        ◀───────────────────────────────── one byte: it was answered ──── helper
//! ```
//!
//! systemd starts a helper for each request (`Accept=yes`), with a control group of its own that
//! ends with it. Permission is checked on the helper's side, from the configuration that it reads
//! itself: an agent that was taken over gains no more than what the configuration allows anyway.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::conversation::{Answer, Conversation, failed};
use super::{Settings, privileged};
use crate::link::Stream;
use crate::sys::handover;

/// Most bytes that were read ahead: a request, and a piece of a file behind it.
const MAX_AHEAD: u32 = 256 * 1024;
/// Longest wait for a helper to take what it is handed.
const TAKE: Duration = Duration::from_secs(10);

/// Which helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Logs, processes, restarts: a unit with few rights.
    Helper,
    /// Shells and files: a unit with all of them, off unless configured.
    Shell,
}

impl Kind {
    fn unit(self) -> &'static str {
        match self {
            Self::Helper => "transom-helper",
            Self::Shell => "transom-shell",
        }
    }
}

/// Gives the connection away and waits until the request is answered.
pub fn hand_over(kind: Kind, talk: &Conversation) -> Answer {
    let unit = kind.unit();
    let path = format!("/run/transom/{unit}");
    let explain = |error: io::Error| {
        failed(format!(
            "{unit} does not take the request ({path}: {error}): is {unit}.socket installed and \
             started? `systemctl start {unit}.socket`"
        ))
    };
    let mut helper = UnixStream::connect(&path).map_err(explain)?;
    helper.set_write_timeout(Some(TAKE)).map_err(explain)?;
    let (stream, ahead) = talk.state();
    let length = u32::try_from(ahead.len()).unwrap_or(u32::MAX).to_le_bytes();
    handover::send(&helper, &length, stream.as_fd()).map_err(explain)?;
    helper.write_all(&ahead).map_err(explain)?;
    let mut answered = [0];
    match helper.read(&mut answered) {
        Ok(1) => Err(super::Ended::Gone(io::Error::other("answered by a helper"))),
        _ => Err(failed(format!("{unit} ended without an answer: `journalctl -u '{unit}@*'`"))),
    }
}

/// The helper's side: answers the one request that standard input brings.
///
/// # Errors
///
/// Nothing was handed over.
pub fn run(settings: &Settings) -> io::Result<()> {
    let mut agent = handover::standard_input()?;
    agent.set_read_timeout(Some(TAKE))?;
    let mut length = [0; 4];
    let connection = handover::receive(&agent, &mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_AHEAD {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too much was read ahead"));
    }
    let mut ahead = vec![0; length as usize];
    agent.read_exact(&mut ahead)?;
    // Whatever kind of socket it is: all that is done with it is common to stream sockets.
    let mut talk = Conversation::resume(Stream::Unix(connection.into()), &ahead);
    let answer = talk.request().and_then(|request| privileged(settings, &mut talk, &request));
    talk.finish(answer);
    agent.write_all(&[1])
}
