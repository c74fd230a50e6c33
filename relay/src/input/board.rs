//! Input between viewers and one guest. No input or output.
//!
//! In: commands of viewers, answers of the guest, time. Out: messages for the guest, outcomes for
//! viewers. What this refuses to do: let movements pile up. While the guest has not answered what
//! it got, a movement that waits takes the next one in; what is more than it may keep is refused,
//! but never the release of something that is held.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use transom_protocol::{
    HostTime,
    input::{Event, Events, GuestInput, HELD_INTERVAL, HostInput, MAX_EVENTS},
};

use super::{
    Command, InputRefused, Outcome,
    held::{Held, KEY_MAX},
};
use crate::feed::ViewerId;

/// Batches that the guest has not answered. An answer takes a millisecond or two, and a mouse
/// makes one a millisecond; more would be a queue in the kernel's buffers, where nothing can be
/// taken in any more.
const WINDOW: usize = 16;

/// Events that wait for the guest: a quarter of what it takes in a second.
const WAITING: usize = 1_000;

/// Something for the guest, in order.
#[derive(Debug)]
enum Item {
    Event(Event),
    Plug(u8),
    Unplug(u8),
    /// The end of a viewer's batch.
    End(Mark),
}

/// A viewer's batch.
#[derive(Debug, Clone, Copy)]
struct Mark {
    viewer: ViewerId,
    number: u32,
    at: Instant,
}

/// A message on its way, and the viewers' batches that end in it.
#[derive(Debug)]
struct Flight {
    number: u32,
    marks: Vec<Mark>,
    /// When it was handed to the system.
    left: Option<Instant>,
}

/// Counters since the relay began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Events that were not taken: too many, or there was no guest.
    pub refused: u64,
    /// Movements that were taken into others.
    pub merged: u64,
    /// Events that the guest's devices do not have.
    pub ignored: u64,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Board {
    connected: bool,
    held: Held,
    waiting: VecDeque<Item>,
    flights: VecDeque<Flight>,
    next: u32,
    /// When the guest was last told anything.
    told: Option<Instant>,
    /// What the guest said that it ignored on this connection.
    ignored: u32,
    counts: Counts,
}

impl Board {
    /// Counters.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// A viewer's command. What lets go of something is taken always.
    ///
    /// # Errors
    ///
    /// [`InputRefused`]: some or all events, or the gamepad, were not taken.
    pub fn handle(&mut self, command: Command) -> Result<(), InputRefused> {
        match command {
            Command::Events { viewer, number, at, events } => {
                return self.handle_events(Mark { viewer, number, at }, &events);
            }
            Command::ReleaseAll { viewer } => self.release(viewer),
            Command::Leave { viewer } => {
                self.release(viewer);
                let gone = self.held.unplug_all(viewer).into_iter().map(Item::Unplug);
                self.waiting.extend(gone);
            }
            Command::Plug { .. } if self.waiting.len() >= WAITING => return Err(InputRefused),
            Command::Plug { viewer, pad } => {
                self.waiting.extend(self.held.plug(viewer, pad).map(Item::Plug));
            }
            Command::Unplug { viewer, pad } => {
                self.waiting.extend(self.held.unplug(viewer, pad).map(Item::Unplug));
            }
        }
        if !self.connected {
            // The guest is told of the gamepads that are there once it can be.
            self.waiting.clear();
        }
        Ok(())
    }

    fn handle_events(&mut self, mark: Mark, events: &[Event]) -> Result<(), InputRefused> {
        let before = self.counts.refused;
        for event in events {
            let full = !self.connected || self.waiting.len() >= WAITING;
            if full && !is_release(event) {
                self.counts.refused += 1;
            } else if let Some(event) = self.held.handle(mark.viewer, *event)
                && self.connected
            {
                self.push(event);
            }
        }
        if self.connected && self.waiting.len() < WAITING {
            self.waiting.push_back(Item::End(mark));
        }
        if self.counts.refused == before && self.connected { Ok(()) } else { Err(InputRefused) }
    }

    fn release(&mut self, viewer: ViewerId) {
        let released = self.held.release(viewer).into_iter().map(Item::Event);
        self.waiting.extend(released);
    }

    fn push(&mut self, event: Event) {
        let last = self.waiting.iter_mut().rev().find(|item| !matches!(item, Item::End(_)));
        if let Some(Item::Event(last)) = last
            && let Some(both) = merge(*last, event)
        {
            self.counts.merged += 1;
            *last = both;
        } else {
            self.waiting.push_back(Item::Event(event));
        }
    }

    /// The guest takes input from here on, and nothing is held there.
    pub fn connect(&mut self) {
        self.held.reset();
        self.waiting = self.held.pads().map(Item::Plug).collect();
        (self.connected, self.told, self.ignored) = (true, None, 0);
    }

    /// The guest takes none any more. What was on its way did not get there.
    pub fn disconnect(&mut self, now: Instant) -> Vec<Outcome> {
        self.connected = false;
        let flying = std::mem::take(&mut self.flights).into_iter().flat_map(|f| f.marks);
        let waiting = std::mem::take(&mut self.waiting).into_iter().filter_map(|item| match item {
            Item::End(mark) => Some(mark),
            _ => None,
        });
        let outcomes = flying.chain(waiting).map(|mark| lost(mark, now)).collect();
        self.held.reset();
        outcomes
    }

    /// The next message for the guest, to be called while nothing waits to be written.
    pub fn poll_message(
        &mut self,
        now: Instant,
        host_time: impl Fn(Instant) -> HostTime,
    ) -> Option<HostInput> {
        if !self.connected || self.flights.len() >= WINDOW {
            return None;
        }
        let message = match self.waiting.front() {
            None if self.held.any() && self.poll_timeout().is_some_and(|due| due <= now) => {
                self.take_off(Vec::new(), Vec::new(), host_time(now))
            }
            None => return None,
            Some(Item::Plug(pad)) => HostInput::Plug { pad: *pad },
            Some(Item::Unplug(pad)) => HostInput::Unplug { pad: *pad },
            Some(Item::Event(_) | Item::End(_)) => {
                let (mut events, mut marks) = (Vec::new(), Vec::new());
                while let Some(item) = self.waiting.front() {
                    match item {
                        Item::Event(event) if events.len() < MAX_EVENTS => events.push(*event),
                        Item::End(mark) => marks.push(*mark),
                        _ => break,
                    }
                    self.waiting.pop_front();
                }
                let at = marks.first().map_or(now, |mark| mark.at);
                self.told = Some(now);
                return Some(self.take_off(events, marks, host_time(at)));
            }
        };
        if matches!(message, HostInput::Plug { .. } | HostInput::Unplug { .. }) {
            self.waiting.pop_front();
        }
        self.told = Some(now);
        Some(message)
    }

    fn take_off(&mut self, events: Vec<Event>, marks: Vec<Mark>, time: HostTime) -> HostInput {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.flights.push_back(Flight { number, marks, left: None });
        let events = Events::try_from(events).unwrap_or_default();
        HostInput::Events { number, time, events }
    }

    /// All that [`Board::poll_message`] gave has been handed to the system.
    pub fn handle_written(&mut self, now: Instant) {
        for flight in self.flights.iter_mut().rev().take_while(|flight| flight.left.is_none()) {
            flight.left = Some(now);
        }
    }

    /// When [`Board::poll_message`] wants to be called again, whatever comes in.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let holds = self.connected && self.held.any();
        holds.then(|| self.told.map(|told| told + HELD_INTERVAL)).flatten()
    }

    /// What the guest said. `since` tells how long after an instant the guest's time is.
    pub fn handle_guest(
        &mut self,
        now: Instant,
        message: &GuestInput,
        since: impl Fn(Instant, transom_protocol::GuestTime) -> Option<Duration>,
    ) -> Vec<Outcome> {
        match *message {
            GuestInput::Written { number, at, ignored } => {
                self.counts.ignored += u64::from(ignored.saturating_sub(self.ignored));
                self.ignored = ignored;
                // In order, but whatever a guest says, nothing is waited for in vain.
                let known = self.flights.iter().position(|flight| flight.number == number);
                let landed = self.flights.drain(..known.map_or(0, |at| at + 1));
                landed
                    .flat_map(|flight| {
                        let left = flight.left.unwrap_or(now);
                        flight.marks.into_iter().map(move |mark| (mark, left))
                    })
                    .map(|(Mark { viewer, number, at: came }, left)| Outcome::Batch {
                        viewer,
                        number,
                        relay: left.saturating_duration_since(came),
                        // Without an estimate of its clock yet, the answer's coming is the best
                        // that is known.
                        guest: Some(since(came, at).unwrap_or(now.saturating_duration_since(came))),
                    })
                    .collect()
            }
            GuestInput::Rumble { pad, strong, weak, duration } => {
                let owner = self.held.owner(pad);
                let shake = |(viewer, pad)| Outcome::Rumble { viewer, pad, strong, weak, duration };
                owner.map(shake).into_iter().collect()
            }
            GuestInput::Ready | GuestInput::Unusable { .. } | GuestInput::Unsupported { .. } => {
                Vec::new()
            }
        }
    }
}

fn lost(Mark { viewer, number, at }: Mark, now: Instant) -> Outcome {
    Outcome::Batch { viewer, number, relay: now.saturating_duration_since(at), guest: None }
}

/// Whether the event lets go of something that can be held. There are no more such news for the
/// guest than presses were taken.
fn is_release(event: &Event) -> bool {
    match event {
        Event::Key { code, pressed }
        | Event::Button { code, pressed }
        | Event::PadButton { code, pressed, .. } => !pressed && *code <= KEY_MAX,
        Event::PadAxis { value, .. } => *value == 0,
        Event::Lift { .. } => true,
        Event::Move { .. } | Event::Place { .. } | Event::Wheel { .. } | Event::Touch { .. } => {
            false
        }
    }
}

/// Two movements as one, where nothing is lost by it.
fn merge(first: Event, then: Event) -> Option<Event> {
    Some(match (first, then) {
        (Event::Move { dx, dy }, Event::Move { dx: dx2, dy: dy2 }) => {
            Event::Move { dx: dx.checked_add(dx2)?, dy: dy.checked_add(dy2)? }
        }
        (Event::Wheel { dx, dy }, Event::Wheel { dx: dx2, dy: dy2 }) => {
            Event::Wheel { dx: dx.checked_add(dx2)?, dy: dy.checked_add(dy2)? }
        }
        (Event::Place { .. }, Event::Place { .. }) => then,
        (Event::Touch { finger: a, .. }, Event::Touch { finger: b, .. }) if a == b => then,
        (Event::PadAxis { pad: p, axis: a, .. }, Event::PadAxis { pad: q, axis: b, .. })
            if (p, a) == (q, b) =>
        {
            then
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
