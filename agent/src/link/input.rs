//! One input connection: plays the guest's devices as the host says.
//!
//! What enters: [`HostInput`]. What leaves: events of the kernel's, and [`GuestInput`]. What this
//! refuses to do: leave anything held. Whatever ends the connection, and if the host falls silent
//! while something is held, all of it is released, and the gamepads are unplugged.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use transom_protocol::input::{GuestInput, HELD_SILENCE, HostInput};
use transom_protocol::message::Text;
use transom_protocol::wire::{Decoder, WireError, decode};

use super::{Shared, Stream, write};
use crate::clock;
use crate::input::devices::Devices;
use crate::input::pace::Pace;
use crate::input::rumble::Rumble;
use crate::input::{Report, Translator};

/// A gamepad that comes or goes keeps udev busy: as much as so many events.
const PLUG: usize = 100;

/// Serves the connection until it ends.
pub fn run(shared: &Shared, stream: &mut Stream, mut decoder: Decoder) -> io::Result<()> {
    stream.set_timeouts(None, Some(super::WRITE_TIMEOUT))?;
    match &mut *shared.desk.lock() {
        Ok(devices) => {
            write(stream, &GuestInput::Ready)?;
            let mut player = Player { devices, translator: Translator::default() };
            player.serve(stream, &mut decoder)
        }
        Err(error) => {
            let why = Text::new(error.to_string());
            log::warn!("a host wants to send input: {why}");
            write(stream, &GuestInput::Unusable { why })
        }
    }
}

/// Plays the devices and knows what is held on them.
struct Player<'a> {
    devices: &'a mut Devices,
    translator: Translator,
}

impl Drop for Player<'_> {
    fn drop(&mut self) {
        // On the way of errors, too, and of a panic.
        if let Err(error) = self.release_all() {
            log::error!("what was held may still be: {error}");
        }
        for pad in self.translator.plugged() {
            self.devices.unplug(pad);
        }
    }
}

impl Player<'_> {
    fn serve(&mut self, stream: &mut Stream, decoder: &mut Decoder) -> io::Result<()> {
        let mut pace = Pace::new(Instant::now());
        let mut heard = Instant::now();
        loop {
            let mut pause = pace.pause(Instant::now());
            while pause.is_zero() {
                let Some(frame) = decoder.poll_frame().map_err(invalid)? else { break };
                heard = Instant::now();
                let events = self.handle(stream, &frame.message)?;
                pace.count(heard, events);
                pause = pace.pause(heard);
            }
            if !pause.is_zero() {
                // Whoever is made to wait is not silent.
                heard = Instant::now() + pause;
                self.wait(stream, false, Some(pause))?;
                continue;
            }
            let silence = HELD_SILENCE.saturating_sub(heard.elapsed());
            let limit = self.translator.holds().then_some(silence);
            if self.wait(stream, true, limit)? {
                let count = stream.read_some(decoder.space())?;
                if count == 0 {
                    return Ok(());
                }
                decoder.advance(count);
            } else if self.translator.holds() && heard.elapsed() >= HELD_SILENCE {
                log::warn!("the host fell silent with something held: released");
                self.release_all()?;
            }
        }
    }

    /// Waits for games, and for the host if it is to be read. Whether the host has something.
    fn wait(
        &mut self,
        stream: &mut Stream,
        reads: bool,
        limit: Option<Duration>,
    ) -> io::Result<bool> {
        // Rounded up: a timeout of 0 would spin through the last millisecond.
        let timeout = limit.map_or(PollTimeout::NONE, |limit| {
            PollTimeout::try_from(limit.as_millis() + 1).unwrap_or(PollTimeout::MAX)
        });
        let host = if reads { PollFlags::POLLIN } else { PollFlags::empty() };
        let (pads, mut fds): (Vec<u8>, Vec<PollFd<'_>>) =
            self.devices.pads().map(|(pad, fd)| (pad, PollFd::new(fd, PollFlags::POLLIN))).unzip();
        fds.push(PollFd::new(stream.as_fd(), host));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        for (pad, _) in pads.into_iter().zip(&ready).filter(|(_, ready)| **ready) {
            if let Some(Rumble { strong, weak, duration }) = self.devices.rumble(pad) {
                write(stream, &GuestInput::Rumble { pad, strong, weak, duration })?;
            }
        }
        Ok(ready.last() == Some(&true))
    }

    /// One message; how many events it was.
    fn handle(&mut self, stream: &mut Stream, message: &[u8]) -> io::Result<usize> {
        match decode::<HostInput>(message) {
            Ok(HostInput::Events { number, events, .. }) => {
                let mut reports = Vec::new();
                for event in events.as_slice() {
                    self.translator.handle(*event, &mut reports);
                }
                self.write(&reports)?;
                let (at, ignored) = (clock::now(), self.translator.ignored());
                write(stream, &GuestInput::Written { number, at, ignored })?;
                Ok(events.as_slice().len())
            }
            Ok(HostInput::ReleaseAll) => self.release_all().map(|()| 0),
            Ok(HostInput::Plug { pad }) => {
                if self.translator.plug(pad)
                    && let Err(error) = self.devices.plug(pad)
                {
                    log::warn!("gamepad {pad}: {error}");
                    self.translator.unplug(pad, &mut Vec::new());
                }
                Ok(PLUG)
            }
            Ok(HostInput::Unplug { pad }) => {
                let mut reports = Vec::new();
                if self.translator.unplug(pad, &mut reports) {
                    self.write(&reports)?;
                    self.devices.unplug(pad);
                }
                Ok(PLUG)
            }
            Err(WireError::UnknownKind { kind }) => {
                write(stream, &GuestInput::Unsupported { kind }).map(|()| 1)
            }
            Err(error) => Err(invalid(error)),
        }
    }

    fn release_all(&mut self) -> io::Result<()> {
        let mut reports = Vec::new();
        self.translator.release_all(&mut reports);
        self.write(&reports)
    }

    fn write(&mut self, reports: &[Report]) -> io::Result<()> {
        reports.iter().try_for_each(|report| self.devices.write(report))
    }
}

fn invalid(error: WireError) -> io::Error {
    log::warn!("the host sent what is no input message: {error}");
    io::Error::new(io::ErrorKind::InvalidData, error)
}
