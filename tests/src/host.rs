//! A host that plays the guest's input devices by hand, as a relay would.
//!
//! In: messages of [`transom_protocol::input`]. Out: them, on connections of a session of its own;
//! and what the agent answers. For what a relay would never send, and for times without a relay.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use transom_protocol::input::{Event, Events, GuestInput, HostInput};
use transom_protocol::message::{GuestHello, HostHello, MAGIC, Text};
use transom_protocol::wire::{self, Decoder, Limits};
use transom_protocol::{Capabilities, HostTime, Role, SessionId, VERSION_MAX, VERSION_MIN};

use crate::guest::Guest;

/// Answers come at once; a guest under load may need a while.
const SOON: Duration = Duration::from_secs(30);

/// The input connection of a session; dropped means that both connections are closed.
pub struct Host {
    stream: UnixStream,
    decoder: Decoder,
    /// What the agent can do.
    pub capabilities: Capabilities,
    /// Taken first, dropped last: input ends with it, too.
    control: UnixStream,
    number: u32,
}

impl Host {
    /// Opens a session of control and input.
    pub fn connect(guest: &Guest, session: u64) -> Result<Self> {
        let (control, _, capabilities) = open(guest, session, Role::CONTROL)?;
        let (stream, decoder, _) = open(guest, session, Role::INPUT)?;
        let mut host = Self { stream, decoder, capabilities, control, number: 0 };
        match host.answer()? {
            GuestInput::Ready => Ok(host),
            other => bail!("the agent says {other:?}"),
        }
    }

    /// Sends a message.
    pub fn send(&mut self, message: &HostInput) -> Result<()> {
        let mut bytes = Vec::new();
        wire::encode(message, 0, &mut bytes);
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Sends bytes that need not be a message.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends events without waiting for the answer; the number of their last batch.
    pub fn push(&mut self, events: &[Event]) -> Result<u32> {
        let none = events.is_empty().then(Events::none);
        for events in Events::batches(events).chain(none) {
            self.number += 1;
            let (number, time) = (self.number, HostTime(0));
            self.send(&HostInput::Events { number, time, events })?;
        }
        Ok(self.number)
    }

    /// Sends events and waits until the kernel has them; how many were ignored so far.
    pub fn play(&mut self, events: &[Event]) -> Result<u32> {
        let last = self.push(events)?;
        self.wait_written(last)
    }

    /// Waits until the kernel has this batch; how many events were ignored so far.
    pub fn wait_written(&mut self, last: u32) -> Result<u32> {
        loop {
            if let GuestInput::Written { number, ignored, .. } = self.answer()?
                && number == last
            {
                return Ok(ignored);
            }
        }
    }

    /// The next answer.
    pub fn answer(&mut self) -> Result<GuestInput> {
        let frame = next(&mut self.stream, &mut self.decoder)?;
        Ok(wire::decode(&frame)?)
    }

    /// Closes the input connection alone.
    pub fn close_input(&self) -> Result<()> {
        Ok(self.stream.shutdown(std::net::Shutdown::Both)?)
    }

    /// Closes the control connection alone.
    pub fn close_control(&self) -> Result<()> {
        Ok(self.control.shutdown(std::net::Shutdown::Both)?)
    }
}

fn open(guest: &Guest, session: u64, role: Role) -> Result<(UnixStream, Decoder, Capabilities)> {
    let mut stream = guest.connect_agent()?;
    stream.set_read_timeout(Some(SOON))?;
    let mut bytes = Vec::new();
    let hello = HostHello {
        magic: MAGIC,
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        session: SessionId(session),
        role,
        capabilities: Capabilities::H264.with(Capabilities::INPUT),
        software: Text::new("test"),
    };
    wire::encode(&hello, 0, &mut bytes);
    stream.write_all(&bytes)?;
    let mut decoder = Decoder::new(Limits::MESSAGES);
    match wire::decode_hello(&next(&mut stream, &mut decoder)?)? {
        GuestHello::Welcome { capabilities, .. } => Ok((stream, decoder, capabilities)),
        GuestHello::Refused(why) => bail!("refused: {why}"),
    }
}

fn next(stream: &mut UnixStream, decoder: &mut Decoder) -> Result<Vec<u8>> {
    loop {
        if let Some(frame) = decoder.poll_frame()? {
            return Ok(frame.message);
        }
        let count = stream.read(decoder.space()).context("no answer")?;
        ensure!(count > 0, "the agent has closed the connection");
        decoder.advance(count);
    }
}

/// The log of the guest's input devices: see `src/bin/evlog.rs`.
pub struct EventLog {
    path: std::path::PathBuf,
}

impl EventLog {
    /// Starts to log in the guest.
    pub fn start(guest: &Guest, test: &crate::Test) -> Result<Self> {
        guest.run(
            "setsid /host/bin/evlog </dev/null >/host/log/evlog 2>&1 & echo $! >/run/evlog.pid",
        )?;
        Ok(Self { path: test.dir().join("evlog") })
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        // The last line may still be half written.
        let whole = text.rfind('\n').map_or(0, |end| end);
        text[..whole].lines().map(str::to_owned).collect()
    }

    /// Waits for a line that starts so, of those behind the mark; the line's number and text.
    pub fn wait(&self, start: usize, prefix: &str) -> Result<(usize, String)> {
        let end = Instant::now() + SOON;
        loop {
            let lines = self.lines();
            let found = lines.iter().enumerate().skip(start).find(|(_, l)| l.starts_with(prefix));
            if let Some((at, line)) = found {
                return Ok((at, line.clone()));
            }
            let tail = lines[lines.len().saturating_sub(12)..].join("\n");
            ensure!(Instant::now() < end, "no line '{prefix}…'; the last ones:\n{tail}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A mark for [`EventLog::wait`].
    pub fn mark(&self) -> usize {
        self.lines().len()
    }
}
