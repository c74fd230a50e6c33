//! The input connection of a session: what the board has for the guest goes out, and back comes
//! what became of it. It is opened with the media connection if the agent has devices; without
//! it, a session is for watching.

use std::{
    future::pending,
    time::{Duration, Instant},
};

use transom_protocol::{
    Role,
    input::GuestInput,
    wire::{self, WireError},
};

use super::Relay;
use crate::{
    input::InputState,
    link::{Link, LinkError},
    session::{Session, SessionError},
};

/// The connection, as long as it is of use.
#[derive(Debug, Default)]
pub(super) struct Input {
    link: Option<Link>,
    frames: u64,
}

impl Input {
    /// A connection whose hello is done, if there is one.
    pub(super) fn new(link: Option<Link>) -> Self {
        Self { link, frames: 0 }
    }

    /// Waits until some bytes have come in or gone out. May be dropped at any time.
    pub(super) async fn turn(&mut self) -> Result<(), LinkError> {
        match &mut self.link {
            Some(link) => link.turn().await,
            None => pending().await,
        }
    }

    fn next(&mut self) -> Result<Option<GuestInput>, LinkError> {
        let Some(link) = &mut self.link else { return Ok(None) };
        while let Some(frame) = link.poll_frame()? {
            self.frames += 1;
            match wire::decode(&frame.message) {
                Ok(message) => return Ok(Some(message)),
                Err(WireError::UnknownKind { .. }) => {} // a newer agent
                Err(why) => {
                    let (role, frame) = (Role::INPUT, self.frames);
                    return Err(SessionError::Wire { role, frame, why }.into());
                }
            }
        }
        Ok(None)
    }
}

impl Relay {
    /// Passes on what has come in, from either side.
    pub(super) fn pass_input(&self, session: &Session, input: &mut Input) -> Result<(), LinkError> {
        let port = self.commands.port();
        while let Some(message) = input.next()? {
            let now = Instant::now();
            match &message {
                GuestInput::Ready => {
                    port.board().connect();
                    self.source.tell(|news| news.input = InputState::Ready);
                }
                GuestInput::Unusable { why } => {
                    log::warn!("{}: no input: {why}", self.config.guest);
                    self.source.tell(|news| news.input = InputState::Unusable(why.to_string()));
                    input.link = None;
                }
                GuestInput::Unsupported { kind } => {
                    log::debug!("the agent does not know input message kind {kind}");
                }
                GuestInput::Written { .. } | GuestInput::Rumble { .. } => {
                    let clock = session.clock();
                    let estimate = clock.estimate(now);
                    let outcomes = port.board().handle_guest(now, &message, |came, at| {
                        let later = estimate.as_ref()?.host_nanos(at) - clock.nanos(came);
                        Some(Duration::from_nanos(u64::try_from(later).unwrap_or(0)))
                    });
                    port.tell(outcomes);
                }
            }
        }
        if let Some(link) = &mut input.link
            && link.outbox.is_empty()
        {
            let (now, mut board) = (Instant::now(), port.board());
            board.handle_written(now);
            if let Some(message) = board.poll_message(now, |at| session.clock().host_time(at)) {
                wire::encode(&message, 0, &mut link.outbox);
            }
        }
        Ok(())
    }

    /// The session ends, and with it what was on its way.
    pub(super) fn lose_input(&self) {
        let port = self.commands.port();
        let lost = port.board().disconnect(Instant::now());
        port.tell(lost);
        self.source.tell(|news| news.input = InputState::Absent);
    }
}
