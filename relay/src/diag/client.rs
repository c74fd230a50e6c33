//! One request and its answers.
//!
//! In: a request, and input for those that take some. Out: answers one by one, until the agent's
//! outcome. A guest that falls silent is an error after a time that the caller sets.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use transom_protocol::{
    Role, SessionId,
    diagnostics::{GuestDiagnostics, HostDiagnostics, MAX_DATA, Outcome, Request},
    wire::{self, WireError},
};

use super::DiagError;
use crate::{
    guest::{self, GuestAddr},
    link::{Link, LinkError},
    session::{Session, SessionError, Welcome},
};

/// How long an agent may take for its answer to a hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a guest may be silent within an answer, unless a verb knows better.
pub const SILENCE: Duration = Duration::from_secs(10);

/// Bytes of ours that may wait for the guest before more is read from their source: one message, for
/// the socket holds several and what waits behind a part that is taken has to be moved.
pub const OUTBOX: usize = MAX_DATA as usize;

/// Reaches one guest, any number of times.
#[derive(Debug, Clone)]
pub struct Client {
    guest: GuestAddr,
    port: u32,
}

/// One message of an answer, and the bytes behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The message.
    pub message: GuestDiagnostics,
    /// Its bulk.
    pub bulk: Vec<u8>,
}

/// An answer under way; dropped means that we have heard enough.
#[derive(Debug)]
pub struct Answers {
    guest: GuestAddr,
    link: Link,
    welcome: Welcome,
    silence: Option<Duration>,
    frames: u64,
    ended: bool,
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(guest: GuestAddr, port: u32) -> Self {
        Self { guest, port }
    }

    /// Which guest.
    pub fn guest(&self) -> &GuestAddr {
        &self.guest
    }

    /// Which vsock port.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Connects and asks.
    ///
    /// # Errors
    ///
    /// The guest is not reached, or the agent refuses the connection.
    pub async fn ask(&self, request: Request) -> Result<Answers, DiagError> {
        let mut answers = self.connect().await?;
        answers.queue(&HostDiagnostics::Request(request), &[]);
        Ok(answers)
    }

    /// Connects and says hello, without a question.
    ///
    /// # Errors
    ///
    /// The guest is not reached, or the agent refuses the connection.
    pub async fn connect(&self) -> Result<Answers, DiagError> {
        let guest = self.guest.clone();
        let now = Instant::now();
        let session = Session::new(SessionId(getrandom::u64()?), now, now);
        let stream = guest::connect(&guest, self.port).await?;
        let opening = Link::open(stream, Role::DIAGNOSTICS, &session);
        match timeout(HELLO_TIMEOUT, opening).await {
            Ok(Ok((link, welcome))) => {
                let silence = Some(SILENCE);
                Ok(Answers { guest, link, welcome, silence, frames: 0, ended: false })
            }
            Ok(Err(why)) => Err(DiagError::Link { guest, why }),
            Err(_elapsed) => Err(DiagError::HelloTimeout { guest, after: HELLO_TIMEOUT }),
        }
    }
}

impl Answers {
    /// What the agent said to our hello.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// How long the guest may be silent from here on; `None` is for ever.
    pub fn set_silence(&mut self, silence: Option<Duration>) {
        self.silence = silence;
    }

    /// Puts a message and its bulk behind what is to be sent.
    pub fn queue(&mut self, message: &HostDiagnostics, bulk: &[u8]) {
        let length = u32::try_from(bulk.len()).unwrap_or(u32::MAX);
        wire::encode(message, length, &mut self.link.outbox);
        self.link.outbox.extend_from_slice(bulk);
    }

    /// Bytes of ours that the guest has not taken yet.
    pub fn waiting(&self) -> usize {
        self.link.outbox.len()
    }

    /// The next message, or `None` once all was said and done. May be dropped at any time.
    ///
    /// # Errors
    ///
    /// The agent's refusal, its silence, and everything that ends the connection.
    pub async fn next(&mut self) -> Result<Option<Answer>, DiagError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            if let Some(answer) = self.poll()? {
                return Ok(Some(answer));
            }
            if !self.ended {
                self.turn().await?;
            }
        }
    }

    /// Waits until bytes have gone out or come in, and takes a message if one is there. For those
    /// who send more than fits in [`OUTBOX`]. May be dropped at any time.
    ///
    /// # Errors
    ///
    /// As [`Answers::next`].
    pub async fn drive(&mut self) -> Result<Option<Answer>, DiagError> {
        if let Some(answer) = self.poll()? {
            return Ok(Some(answer));
        }
        if !self.ended {
            self.turn().await?;
        }
        self.poll()
    }

    /// Waits until bytes have gone out or come in, and leaves messages where they are. For
    /// requests that are small enough to be taken whole.
    ///
    /// # Errors
    ///
    /// Silence, and everything that ends the connection.
    pub async fn drive_out(&mut self) -> Result<(), DiagError> {
        self.turn().await
    }

    /// Whether the agent has said its last word.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// An answer that must not be here.
    pub fn nonsense(&self, what: impl Into<String>) -> DiagError {
        DiagError::Nonsense { guest: self.guest.clone(), what: what.into() }
    }

    async fn turn(&mut self) -> Result<(), DiagError> {
        let turn = self.link.turn();
        let result = match self.silence {
            Some(silence) => timeout(silence, turn)
                .await
                .map_err(|_| DiagError::Silent { guest: self.guest.clone(), after: silence })?,
            None => turn.await,
        };
        match result {
            // The guest takes no more, and may have said why before it closed: read on.
            Err(LinkError::Io { .. }) if !self.link.outbox.is_empty() => {
                self.link.outbox.clear();
                Ok(())
            }
            result => result.map_err(|why| DiagError::Link { guest: self.guest.clone(), why }),
        }
    }

    fn poll(&mut self) -> Result<Option<Answer>, DiagError> {
        let guest = &self.guest;
        loop {
            let frame = self.link.poll_frame();
            let frame = frame.map_err(|why| DiagError::Link { guest: guest.clone(), why })?;
            let Some(frame) = frame else { return Ok(None) };
            self.frames += 1;
            let message = match wire::decode(&frame.message) {
                Ok(message) => message,
                // A newer agent tells more than we can use.
                Err(WireError::UnknownKind { .. }) => continue,
                Err(why) => {
                    let (role, frame) = (Role::DIAGNOSTICS, self.frames);
                    let why = SessionError::Wire { role, frame, why }.into();
                    return Err(DiagError::Link { guest: guest.clone(), why });
                }
            };
            match message {
                GuestDiagnostics::End(outcome) => {
                    self.ended = true;
                    let agent = self.welcome.software.clone();
                    return match outcome {
                        Outcome::Done => Ok(None),
                        outcome => Err(DiagError::Ended { guest: guest.clone(), agent, outcome }),
                    };
                }
                GuestDiagnostics::Unsupported { kind } => {
                    log::debug!("{guest}: the agent does not know message kind {kind}");
                }
                message => return Ok(Some(Answer { message, bulk: frame.bulk })),
            }
        }
    }
}
