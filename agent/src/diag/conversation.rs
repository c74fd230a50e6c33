//! One diagnostic connection behind its welcome: a request, what is said to it, the end.
//!
//! What this refuses to do: waiting for ever for a host that says nothing, or writing for ever to
//! one that reads nothing, unless the request is one that people leave open.

use std::fmt::Display;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use transom_protocol::diagnostics::{
    GuestDiagnostics, HostDiagnostics, LINGER, Line, MAX_DATA, Outcome, REQUEST_TIMEOUT, Request,
    Value,
};
use transom_protocol::message::Text;
use transom_protocol::wire::{self, Decoder, Limits, WireError};

use crate::link::Stream;

/// A host that takes nothing for so long is gone, …
const WRITE: Duration = Duration::from_secs(30);
/// … unless people look at what comes, page by page.
const PATIENT: Duration = Duration::from_secs(3600);

/// As many bytes as leave, with the message in front of them, in whole writes
/// ([`transom_protocol::MAX_WRITE`]): each write is a packet, and one of a few bytes costs as much as
/// a full one.
pub const PIECE: usize = MAX_DATA as usize - 16;
/// Reads between two looks at the clock within one message; looks are dear in some guests.
const READS: u32 = 32;

/// Why a request is over before all was said.
#[derive(Debug)]
pub enum Ended {
    /// The connection broke, or the host left: there is nobody to tell.
    Gone(io::Error),
    /// The host is to be told this.
    With(Outcome),
}

/// How a request went.
pub type Answer<T = ()> = Result<T, Ended>;

/// It did not work, for this reason.
pub fn failed(why: impl Display) -> Ended {
    Ended::With(Outcome::Failed { why: Line::new(why.to_string()) })
}

/// The configuration does not allow it.
pub fn forbidden(remedy: &str) -> Ended {
    Ended::With(Outcome::Forbidden { remedy: Line::new(remedy) })
}

/// What the host does.
#[derive(Debug)]
pub enum Heard {
    /// It says this.
    Message(HostDiagnostics, Vec<u8>),
    /// Nothing within the time given.
    Nothing,
    /// It is gone.
    Closed,
}

/// The connection.
#[derive(Debug)]
pub struct Conversation {
    stream: Stream,
    decoder: Decoder,
    scratch: Vec<u8>,
    /// The request as it came, to hand it on.
    request: Vec<u8>,
    /// The host may be sending: what it sends is taken off before closing.
    takes_input: bool,
}

impl AsFd for Conversation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Conversation {
    /// Goes on behind the welcome.
    pub fn new(stream: Stream, mut decoder: Decoder) -> Self {
        decoder.set_limits(Limits::DIAGNOSTICS);
        let (scratch, request) = (Vec::new(), Vec::new());
        Self { stream, decoder, scratch, request, takes_input: false }
    }

    /// Goes on with a connection of which `bytes` were read already.
    pub fn resume(stream: Stream, bytes: &[u8]) -> Self {
        let mut decoder = Decoder::new(Limits::DIAGNOSTICS);
        decoder.feed(bytes);
        Self::new(stream, decoder)
    }

    /// The connection, and what was read of it and not used: for another process to go on.
    pub fn state(&self) -> (&Stream, Vec<u8>) {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(self.request.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.request);
        self.decoder.unread(&mut bytes);
        (&self.stream, bytes)
    }

    /// The first message.
    pub fn request(&mut self) -> Answer<Request> {
        self.stream.set_timeouts(None, Some(WRITE)).map_err(Ended::Gone)?;
        let deadline = Instant::now() + Duration::from_secs(REQUEST_TIMEOUT.into());
        let message = loop {
            match self.decoder.poll_frame() {
                Ok(Some(frame)) => break frame.message,
                Ok(None) => {}
                Err(error) => return Err(failed(error)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(failed(format!("no request came within {REQUEST_TIMEOUT} seconds")));
            }
            if self.wait_readable(Some(left))? && !self.read()? {
                return Err(Ended::Gone(io::ErrorKind::UnexpectedEof.into()));
            }
        };
        let request = match wire::decode::<HostDiagnostics>(&message) {
            Ok(HostDiagnostics::Request(request)) => request,
            Ok(_) => return Err(failed("the first message has to be a request")),
            Err(WireError::UnknownKind { .. }) => return Err(Ended::With(Outcome::Unsupported)),
            // Kind 0: a request of a kind that only newer hosts know?
            Err(error) => {
                let known = match message.split_first() {
                    Some((0, rest)) => wire::decode::<Request>(rest),
                    _ => Err(error),
                };
                let Err(WireError::UnknownKind { .. }) = known else {
                    return Err(failed(
                        "the request does not parse: a text in it is too long, or it asks for \
                         something that this agent is too old to know",
                    ));
                };
                return Err(Ended::With(Outcome::Unsupported));
            }
        };
        self.request = message;
        self.takes_input = matches!(
            request,
            Request::Push { .. } | Request::Shell { .. } | Request::Echo | Request::Sink
        );
        Ok(request)
    }

    /// People look at this one: it may rest for long.
    pub fn be_patient(&self) -> Answer {
        self.stream.set_timeouts(None, Some(PATIENT)).map_err(Ended::Gone)
    }

    /// Says something.
    pub fn say(&mut self, message: &GuestDiagnostics) -> Answer {
        self.say_with(message, &[])
    }

    /// Says something with bytes behind it, at most [`MAX_DATA`].
    pub fn say_with(&mut self, message: &GuestDiagnostics, bulk: &[u8]) -> Answer {
        debug_assert!(bulk.len() <= MAX_DATA as usize);
        self.scratch.clear();
        wire::encode(message, bulk.len() as u32, &mut self.scratch);
        self.scratch.extend_from_slice(bulk);
        self.stream.write_pieces(&self.scratch).map_err(Ended::Gone)
    }

    /// Says something with what one read of `source` gives behind it; says nothing at its end. What
    /// is read goes out of the place that it was read to. Returns the number of bytes, or why none
    /// could be read.
    pub fn say_read(
        &mut self,
        message: &GuestDiagnostics,
        source: &mut impl Read,
    ) -> Answer<io::Result<usize>> {
        let mut head = Vec::new();
        wire::encode(message, 0, &mut head);
        let front = head.len();
        self.scratch.resize(front + PIECE, 0);
        let count = loop {
            match source.read(&mut self.scratch[front..]) {
                Ok(0) => return Ok(Ok(0)),
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(Err(error)),
            }
        };
        head.clear();
        wire::encode(message, count as u32, &mut head);
        self.scratch[..front].copy_from_slice(&head);
        self.stream.write_pieces(&self.scratch[..front + count]).map_err(Ended::Gone)?;
        Ok(Ok(count))
    }

    /// Tells a fact.
    pub fn fact(&mut self, path: impl Into<String>, value: Value) -> Answer {
        self.say(&GuestDiagnostics::Fact { path: Text::new(path), value })
    }

    /// Waits for something to be said; `None`: for as long as it takes.
    pub fn hear(&mut self, wait: Option<Duration>) -> Answer<Heard> {
        let deadline = wait.map(|wait| Instant::now() + wait);
        loop {
            if let Some((message, bulk)) = self.message()? {
                return Ok(Heard::Message(message, bulk));
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if !self.wait_readable(left)? {
                return Ok(Heard::Nothing);
            }
            if !self.read()? {
                return Ok(Heard::Closed);
            }
        }
    }

    /// What follows is a stream of messages: their bytes are waited for by reading them, with as
    /// few system calls as can be. To be announced once, for [`Conversation::hear_stream`].
    pub fn expect_stream(&self, silence: Duration) -> Answer {
        self.stream.set_timeouts(Some(silence), Some(WRITE)).map_err(Ended::Gone)
    }

    /// The next message of a stream; nothing, when it pauses for longer than was announced.
    pub fn hear_stream(&mut self, silence: Duration) -> Answer<Heard> {
        let begun = Instant::now();
        for reads in 1.. {
            if let Some((message, bulk)) = self.message()? {
                return Ok(Heard::Message(message, bulk));
            }
            match self.stream.read_some(self.decoder.space()) {
                Ok(0) => return Ok(Heard::Closed),
                Ok(count) => self.decoder.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(Ended::Gone(error)),
            }
            // A host that comes drop by drop has no more patience from us than a silent one.
            if reads % READS == 0 && begun.elapsed() > silence {
                break;
            }
        }
        Ok(Heard::Nothing)
    }

    /// Takes back the memory of a bulk, so that a stream goes without asking for more.
    pub fn recycle(&mut self, bulk: Vec<u8>) {
        self.decoder.recycle(bulk);
    }

    /// The next message of those that are here; others than we know are told so.
    fn message(&mut self) -> Answer<Option<(HostDiagnostics, Vec<u8>)>> {
        loop {
            let frame = match self.decoder.poll_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(None),
                Err(error) => return Err(failed(error)),
            };
            match wire::decode(&frame.message) {
                Ok(message) => return Ok(Some((message, frame.bulk))),
                Err(_) => {
                    let kind = frame.message.first().copied().unwrap_or(0).into();
                    self.say(&GuestDiagnostics::Unsupported { kind })?;
                }
            }
        }
    }

    /// Waits for so long; the host may leave meanwhile, and what it says is not for us.
    pub fn pause(&mut self, time: Duration) -> Answer {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.hear(Some(left))? {
                Heard::Nothing => return Ok(()),
                Heard::Closed => return Err(Ended::Gone(io::ErrorKind::UnexpectedEof.into())),
                Heard::Message(..) => {}
            }
        }
    }

    /// Says how it ended, if there is anybody to tell, and lets it arrive.
    pub fn finish(mut self, answer: Answer) {
        let outcome = match answer {
            Ok(()) => Outcome::Done,
            Err(Ended::With(outcome)) => outcome,
            Err(Ended::Gone(error)) => {
                log::debug!("a diagnostic connection broke: {error}");
                return;
            }
        };
        if let Outcome::Failed { why } = &outcome {
            log::info!("diagnostics: {why}");
        }
        // Something may be amiss with the host's bytes, yet its ears are open.
        if self.say(&GuestDiagnostics::End(outcome)).is_err() || !self.takes_input {
            return;
        }
        let deadline = Instant::now() + Duration::from_secs(LINGER.into());
        let mut sink = vec![0; MAX_DATA as usize];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !matches!(self.wait_readable(Some(left)), Ok(true)) {
                return;
            }
            if !matches!(self.stream.read_some(&mut sink), Ok(1..)) {
                return;
            }
        }
    }

    fn read(&mut self) -> Answer<bool> {
        let count = self.stream.read_some(self.decoder.space()).map_err(Ended::Gone)?;
        self.decoder.advance(count);
        Ok(count > 0)
    }

    fn wait_readable(&self, wait: Option<Duration>) -> Answer<bool> {
        let deadline = wait.map(|wait| Instant::now() + wait);
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout(left)) {
                Ok(ready) => return Ok(ready > 0),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(Ended::Gone(error.into())),
            }
        }
    }
}

/// For `poll`, rounded up: a timeout of 0 would spin through the last millisecond.
pub fn timeout(wait: Option<Duration>) -> PollTimeout {
    match wait {
        None => PollTimeout::NONE,
        Some(wait) if wait.is_zero() => PollTimeout::ZERO,
        Some(wait) => PollTimeout::try_from(wait.as_millis() + 1).unwrap_or(PollTimeout::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn talk() -> (Conversation, UnixStream) {
        let (ours, host) = UnixStream::pair().expect("a pair of sockets");
        (Conversation::new(Stream::Unix(ours), Decoder::new(Limits::DIAGNOSTICS)), host)
    }

    fn data(bulk: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        wire::encode(&HostDiagnostics::Data, bulk.len() as u32, &mut bytes);
        [&bytes, bulk].concat()
    }

    #[test]
    fn a_stream_is_heard_until_it_pauses() {
        let (mut talk, mut host) = talk();
        let silence = Duration::from_millis(20);
        talk.expect_stream(silence).expect("a socket option");
        host.write_all(&data(&[7; 3000])).expect("room");
        let heard = talk.hear_stream(silence);
        assert!(
            matches!(&heard, Ok(Heard::Message(HostDiagnostics::Data, bulk)) if *bulk == [7; 3000])
        );
        assert!(matches!(talk.hear_stream(silence), Ok(Heard::Nothing)));
        drop(host);
        assert!(matches!(talk.hear_stream(silence), Ok(Heard::Closed)));
    }

    #[test]
    fn drops_are_not_waited_for_to_the_end() {
        let (mut talk, mut host) = talk();
        let silence = Duration::from_millis(100);
        talk.expect_stream(silence).expect("a socket option");
        let dripping = std::thread::spawn(move || {
            for byte in data(&[0; MAX_DATA as usize]) {
                if host.write_all(&[byte]).is_err() {
                    return true;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            false
        });
        assert!(matches!(talk.hear_stream(silence), Ok(Heard::Nothing)));
        drop(talk);
        assert!(dripping.join().expect("no panic"), "all of it was waited for");
    }
}
