//! The raw protocol of diagnostics, as a host speaks it: what a test says may be wrong on purpose.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use transom_protocol::diagnostics::{GuestDiagnostics, HostDiagnostics, Outcome, Request};
use transom_protocol::message::{GuestHello, HostHello, MAGIC, Refusal, Text};
use transom_protocol::wire::{self, Decoder, Limits};
use transom_protocol::{Capabilities, Role, SessionId, VERSION_MAX, VERSION_MIN};

use crate::guest::Guest;

/// A message with its bulk.
pub type Said = (GuestDiagnostics, Vec<u8>);

/// For answers that come at once, even under load.
pub const SOON: Duration = Duration::from_secs(30);

/// One diagnostic connection.
pub struct Talk {
    stream: UnixStream,
    decoder: Decoder,
}

impl Talk {
    /// Connects and says hello; the answer to it.
    pub fn hello(guest: &Guest) -> Result<(Self, GuestHello)> {
        let mut stream = guest.connect_agent()?;
        stream.set_read_timeout(Some(SOON))?;
        let hello = HostHello {
            magic: MAGIC,
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            session: SessionId(99),
            role: Role::DIAGNOSTICS,
            capabilities: Capabilities::DIAGNOSTICS,
            software: Text::new("a machine test"),
        };
        let mut bytes = Vec::new();
        wire::encode(&hello, 0, &mut bytes);
        stream.write_all(&bytes)?;
        let mut this = Self { stream, decoder: Decoder::new(Limits::DIAGNOSTICS) };
        let (message, _) = this.frame()?.context("closed without an answer to the hello")?;
        Ok((this, wire::decode_hello(&message)?))
    }

    /// Connects for a request, which it does not send yet. Those who have gone are served until the
    /// agent notices; as long as they are too many, this tries again.
    pub fn open(guest: &Guest) -> Result<Self> {
        let end = Instant::now() + SOON;
        loop {
            match Self::hello(guest)? {
                (this, GuestHello::Welcome { capabilities, .. }) => {
                    ensure!(capabilities.contains(Capabilities::DIAGNOSTICS), "{capabilities:?}");
                    return Ok(this);
                }
                (_, GuestHello::Refused(Refusal::Busy)) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                (_, refused) => bail!("{refused:?}"),
            }
        }
    }

    /// Connects and asks.
    pub fn ask(guest: &Guest, request: Request) -> Result<Self> {
        let mut this = Self::open(guest)?;
        this.say(&HostDiagnostics::Request(request), &[])?;
        Ok(this)
    }

    /// Says something.
    pub fn say(&mut self, message: &HostDiagnostics, bulk: &[u8]) -> Result<()> {
        let mut bytes = Vec::new();
        wire::encode(message, bulk.len() as u32, &mut bytes);
        bytes.extend_from_slice(bulk);
        self.raw(&bytes)
    }

    /// Sends bytes of whatever kind, in pieces that every vsock takes.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(transom_protocol::MAX_WRITE) {
            self.stream.write_all(piece)?;
        }
        Ok(())
    }

    fn frame(&mut self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        loop {
            if let Some(frame) = self.decoder.poll_frame()? {
                return Ok(Some((frame.message, frame.bulk)));
            }
            let count = self.stream.read(self.decoder.space()).context("no answer")?;
            if count == 0 {
                return Ok(None);
            }
            self.decoder.advance(count);
        }
    }

    /// The next message.
    pub fn hear(&mut self) -> Result<(GuestDiagnostics, Vec<u8>)> {
        let (message, bulk) = self.frame()?.context("closed before the end")?;
        Ok((wire::decode(&message)?, bulk))
    }

    /// All up to the end, and how it ended.
    pub fn rest(&mut self) -> Result<(Vec<Said>, Outcome)> {
        let mut said = Vec::new();
        loop {
            match self.hear()? {
                (GuestDiagnostics::End(outcome), _) => return Ok((said, outcome)),
                other => said.push(other),
            }
        }
    }

    /// All up to the end, which has to be a good one.
    pub fn done(&mut self) -> Result<Vec<Said>> {
        let (said, outcome) = self.rest()?;
        ensure!(outcome == Outcome::Done, "{outcome:?} behind {said:?}");
        Ok(said)
    }

    /// Why it did not work.
    pub fn why(&mut self) -> Result<String> {
        match self.rest()?.1 {
            Outcome::Failed { why } => Ok(why.to_string()),
            other => bail!("{other:?} instead of a reason"),
        }
    }

    /// The bytes of all data up to a good end, behind other messages that are not asked for.
    pub fn bytes(&mut self) -> Result<Vec<u8>> {
        let said = self.done()?;
        let data = said.iter().filter(|(message, _)| *message == GuestDiagnostics::Data);
        Ok(data.flat_map(|(_, bulk)| bulk.iter().copied()).collect())
    }
}

/// Runs a command without a terminal: status, output, errors.
pub fn command(guest: &Guest, line: &str) -> Result<(i32, String, String)> {
    let command = Some(transom_protocol::diagnostics::Line::new(line));
    let mut talk = Talk::ask(guest, Request::Shell { command, terminal: None })?;
    talk.say(&HostDiagnostics::EndOfData, &[])?;
    let (mut status, mut out, mut errors) = (None, Vec::new(), Vec::new());
    for (message, bulk) in talk.done()? {
        match message {
            GuestDiagnostics::Data => out.extend(bulk),
            GuestDiagnostics::ErrorData => errors.extend(bulk),
            GuestDiagnostics::Exited(code) => status = Some(code),
            other => bail!("{other:?} from a shell"),
        }
    }
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok((status.context("no exit status")?, text(&out), text(&errors)))
}

/// Copies a file into the guest.
pub fn push(guest: &Guest, path: &str, mode: u32, bytes: &[u8]) -> Result<Talk> {
    let path = transom_protocol::diagnostics::Line::new(path);
    let mut talk = Talk::ask(guest, Request::Push { path, mode, size: bytes.len() as u64 })?;
    for piece in bytes.chunks(transom_protocol::diagnostics::MAX_DATA as usize) {
        talk.say(&HostDiagnostics::Data, piece)?;
    }
    talk.say(&HostDiagnostics::EndOfData, &[])?;
    Ok(talk)
}

/// Copies a file out of the guest.
pub fn pull(guest: &Guest, path: &str) -> Result<Vec<u8>> {
    let path = transom_protocol::diagnostics::Line::new(path);
    Talk::ask(guest, Request::Pull { path })?.bytes()
}

/// Bytes without a pattern, the same for the same seed.
pub fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}
