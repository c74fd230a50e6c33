//! One connection to the agent: frames from a stream, bytes into it.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transom_protocol::{
    Role,
    wire::{Decoder, Frame, Limits},
};

use crate::{
    guest::GuestStream,
    session::{Session, SessionError, Welcome},
};

#[cfg(unix)]
type Halves = (tokio::net::unix::OwnedReadHalf, tokio::net::unix::OwnedWriteHalf);
#[cfg(not(unix))]
type Halves = (tokio::net::tcp::OwnedReadHalf, tokio::net::tcp::OwnedWriteHalf);

/// A connection whose hello is done.
#[derive(Debug)]
pub struct Link {
    role: Role,
    halves: Halves,
    decoder: Decoder,
    /// Bytes not taken by the guest yet. A guest that takes none falls silent too, which ends the
    /// session long before this grows.
    pub outbox: Vec<u8>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The stream failed or ended.
    #[error("{} was lost: {why}", crate::session::role_name(*.role))]
    Io {
        /// Which connection.
        role: Role,
        /// How.
        why: io::Error,
    },
    /// What came makes no sense.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl Link {
    /// Says hello and waits for the answer.
    ///
    /// # Errors
    ///
    /// The guest refused, made no sense or went away.
    pub async fn open(
        stream: GuestStream,
        role: Role,
        session: &Session,
    ) -> Result<(Self, Welcome), LinkError> {
        let limits = match role {
            Role::MEDIA => Limits::MEDIA,
            Role::DIAGNOSTICS => Limits::DIAGNOSTICS,
            _ => Limits::MESSAGES,
        };
        let halves = stream.into_split();
        let mut link =
            Self { role, halves, decoder: Decoder::new(limits), outbox: session.hello(role) };
        while !link.outbox.is_empty() {
            link.turn().await?;
        }
        loop {
            if let Some(frame) = link.poll_frame()? {
                return Ok((link, session.handle_welcome(role, &frame)?));
            }
            link.turn().await?;
        }
    }

    /// Waits until some bytes have come in or gone out. May be dropped at any time.
    ///
    /// # Errors
    ///
    /// The stream failed or ended.
    pub async fn turn(&mut self) -> Result<(), LinkError> {
        let (reader, writer) = &mut self.halves;
        let why = tokio::select! {
            biased;
            read = reader.read(self.decoder.space()) => match read {
                Ok(0) if self.decoder.is_between_frames() => {
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the guest closed it")
                }
                Ok(0) => {
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the guest closed it within a frame")
                }
                Ok(count) => {
                    self.decoder.advance(count);
                    // The rest of a frame mostly lies there already, and is no turn of its own worth.
                    while self.decoder.is_within_bulk() {
                        match reader.try_read(self.decoder.space()) {
                            // What went wrong shows in the next turn.
                            Ok(0) | Err(_) => break,
                            Ok(count) => self.decoder.advance(count),
                        }
                    }
                    return Ok(());
                }
                Err(e) => e,
            },
            written = writer.write(&self.outbox), if !self.outbox.is_empty() => match written {
                Ok(count) => {
                    self.outbox.drain(..count);
                    return Ok(());
                }
                Err(e) => e,
            },
        };
        Err(LinkError::Io { role: self.role, why })
    }

    /// The next whole frame, if it is there.
    ///
    /// # Errors
    ///
    /// A length over the limit.
    pub fn poll_frame(&mut self) -> Result<Option<Frame>, LinkError> {
        let role = self.role;
        self.decoder.poll_frame().map_err(|why| SessionError::Unframed { role, why }.into())
    }
}
