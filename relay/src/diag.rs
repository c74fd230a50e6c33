//! Looking into a guest over vsock, one connection for each question.
//!
//! ```text
//!   what the user asks ─▶ one file per verb ─▶ client.rs ══▶ the agent
//!                            │      ▲  answers, one by one ◀══
//!                            │      └─ heartbeat.rs: is the guest still there?
//!                            └─▶ tell.rs: text for people, JSON lines for programs
//! ```
//!
//! What enters: a guest's address and what to ask. What leaves: text, JSON lines
//! (docs/json.md), files. What this refuses to do: trust the guest. Its texts lose their control
//! characters, its sizes are checked before memory is set aside, and its silence has a limit.

use std::{io, path::PathBuf, time::Duration};

use transom_protocol::{
    diagnostics::Outcome,
    message::{Refusal, Text},
};

use crate::{
    guest::{ConnectError, GuestAddr},
    link::LinkError,
    session::SessionError,
};

pub mod bundle;
pub mod client;
pub mod copy;
pub mod doctor;
pub mod heartbeat;
pub mod info;
pub mod logs;
pub mod screenshot;
pub mod settings;
pub mod shell;
pub mod stats;
pub mod tell;
pub mod top;

pub use client::{Answer, Answers, Client};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    /// The guest was not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection failed.
    #[error("{guest}: {}", link_words(.why))]
    Link {
        /// Which guest.
        guest: GuestAddr,
        /// How.
        why: LinkError,
    },
    /// No answer to a hello, though the guest's kernel took the connection.
    #[error(
        "{guest}: the agent has not answered our hello for {} s. It is stopped or hangs; the guest's \
         kernel still answers", .after.as_secs()
    )]
    HelloTimeout {
        /// Which guest.
        guest: GuestAddr,
        /// For how long.
        after: Duration,
    },
    /// No answer to a request.
    #[error("{guest}: no answer for {} s. `transom diag {guest} doctor` tells what hangs", .after.as_secs())]
    Silent {
        /// Which guest.
        guest: GuestAddr,
        /// For how long.
        after: Duration,
    },
    /// The agent ended the request otherwise than by doing it.
    #[error("{guest}: {}", refusal_words(.outcome, .agent))]
    Ended {
        /// Which guest.
        guest: GuestAddr,
        /// The agent's name and version.
        agent: Text,
        /// How.
        outcome: Outcome,
    },
    /// The agent says something that is no answer to the question.
    #[error("{guest}: the agent's answer makes no sense: {what}")]
    Nonsense {
        /// Which guest.
        guest: GuestAddr,
        /// What is wrong with it.
        what: String,
    },
    /// A file of this machine.
    #[error("{}: {why}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What happened.
        why: io::Error,
    },
    /// Our own terminal or output.
    #[error("cannot use the terminal: {0}")]
    Terminal(#[source] io::Error),
    /// Whoever read our output has gone.
    #[error("nobody reads our output any more")]
    OutputGone,
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// What the user wants cannot be.
    #[error("{0}")]
    Usage(String),
}

impl DiagError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        |why| Self::File { path: path.into(), why }
    }
}

/// What a lost connection means to somebody who only wanted to look.
fn link_words(why: &LinkError) -> String {
    match why {
        LinkError::Session(SessionError::Refused { why: Refusal::Role(_), .. }) => {
            "the agent there is too old for diagnostics: update transom-agent in the guest".into()
        }
        LinkError::Session(SessionError::Refused { why: Refusal::Busy, .. }) => {
            "too many diagnostic connections are open. End one, or try again in a moment".into()
        }
        other => other.to_string(),
    }
}

fn refusal_words(outcome: &Outcome, agent: &Text) -> String {
    match outcome {
        Outcome::Done => "it ended before it had answered".into(),
        Outcome::Unsupported => {
            format!("{agent} does not know this request: update transom-agent in the guest")
        }
        Outcome::Forbidden { remedy } => format!("the guest does not allow this. {remedy}"),
        Outcome::Failed { why } => why.to_string(),
        Outcome::Busy => "the guest does this for others already. Try again in a moment".into(),
    }
}
