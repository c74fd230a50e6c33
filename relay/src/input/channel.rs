//! The bytes of the data channel on which a page sends input and learns what became of it.
//!
//! In: one message of the channel. Out: a [`Batch`], or why it is none. What this refuses to do:
//! guess. A message with one unreadable byte is thrown away whole, and the channel goes on.
//!
//! ```text
//!  page to relay: a batch
//!   0         1                 5                 9
//!  +---------+-----------------+-----------------+--------+---------+----
//!  | version | sequence        | sent            | kind   | fields  | …   at most 64 events
//!  | u8 = 1  | u32, LE         | u32, LE         | u8     | by kind |
//!  +---------+-----------------+-----------------+--------+---------+----
//!
//!  relay to page: an answer
//!  | kind u8 | fields |
//! ```
//!
//! All numbers are little endian. `sequence` and `sent`, microseconds of any clock of the page's,
//! come back in [`Answer::Echo`]. `relay/web/input-wire.mjs` is the other side, docs/input.md
//! tells it in words.

use transom_protocol::input::{Event, MAX_EVENTS, MAX_GAMEPADS, MAX_TOUCHES};

/// First byte of a batch.
pub const VERSION: u8 = 1;

/// Bytes before the first event.
const HEADER: usize = 9;

/// Longest batch in bytes; longer messages are refused unread.
pub const MAX_BATCH: usize = HEADER + MAX_EVENTS * 6;

/// What a page did since its last batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Counts the page's batches.
    pub sequence: u32,
    /// When the page sent it, in microseconds of its own clock, cut to 32 bits.
    pub sent: u32,
    /// In order.
    pub actions: Vec<Action>,
}

/// One thing that happened in the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// An event for the guest.
    Event(Event),
    /// A gamepad appeared.
    Plug(u8),
    /// A gamepad is gone.
    Unplug(u8),
    /// The page lost the focus, or was hidden: nothing stays held.
    ReleaseAll,
}

/// Why a message is no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Longer than any batch.
    #[error("{0} bytes, more than the {MAX_BATCH} of the longest batch")]
    Long(usize),
    /// Not of this version.
    #[error("version {0}, not {VERSION}: reload the page")]
    Version(u8),
    /// Ends within an event or the header.
    #[error("it ends too early")]
    Short,
    /// No such kind of event.
    #[error("there is no event of kind {0}")]
    Kind(u8),
    /// More events than allowed.
    #[error("more than {MAX_EVENTS} events")]
    Many,
    /// A field that cannot have this value.
    #[error("an event of kind {0} with a value that cannot be")]
    Value(u8),
}

/// Reads numbers from the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BatchError> {
        let (front, rest) = self.0.split_first_chunk::<N>().ok_or(BatchError::Short)?;
        self.0 = rest;
        Ok(*front)
    }

    fn u8(&mut self) -> Result<u8, BatchError> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, BatchError> {
        self.take().map(u16::from_le_bytes)
    }

    fn i16(&mut self) -> Result<i16, BatchError> {
        self.take().map(i16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, BatchError> {
        self.take().map(u32::from_le_bytes)
    }

    fn below(&mut self, kind: u8, bound: u8) -> Result<u8, BatchError> {
        match self.u8()? {
            number if number < bound => Ok(number),
            _ => Err(BatchError::Value(kind)),
        }
    }

    fn pressed(&mut self, kind: u8) -> Result<bool, BatchError> {
        self.below(kind, 2).map(|pressed| pressed == 1)
    }

    fn action(&mut self) -> Result<Action, BatchError> {
        let kind = self.u8()?;
        Ok(Action::Event(match kind {
            1 => Event::Key { code: self.u16()?, pressed: self.pressed(kind)? },
            2 => Event::Button { code: self.u16()?, pressed: self.pressed(kind)? },
            3 => Event::Move { dx: self.i16()?, dy: self.i16()? },
            4 => Event::Place { x: self.u16()?, y: self.u16()? },
            5 => Event::Wheel { dx: self.i16()?, dy: self.i16()? },
            6 => Event::Touch {
                finger: self.below(kind, MAX_TOUCHES)?,
                x: self.u16()?,
                y: self.u16()?,
            },
            7 => Event::Lift { finger: self.below(kind, MAX_TOUCHES)? },
            8 => Event::PadButton {
                pad: self.below(kind, MAX_GAMEPADS)?,
                code: self.u16()?,
                pressed: self.pressed(kind)?,
            },
            9 => Event::PadAxis {
                pad: self.below(kind, MAX_GAMEPADS)?,
                axis: self.u8()?,
                value: self.i16()?,
            },
            10 => return Ok(Action::Plug(self.below(kind, MAX_GAMEPADS)?)),
            11 => return Ok(Action::Unplug(self.below(kind, MAX_GAMEPADS)?)),
            12 => return Ok(Action::ReleaseAll),
            _ => return Err(BatchError::Kind(kind)),
        }))
    }
}

impl Batch {
    /// Reads one message of the channel.
    ///
    /// # Errors
    ///
    /// See [`BatchError`]; nothing of such a message counts.
    pub fn parse(message: &[u8]) -> Result<Self, BatchError> {
        if message.len() > MAX_BATCH {
            return Err(BatchError::Long(message.len()));
        }
        let mut reader = Reader(message);
        match reader.u8()? {
            VERSION => {}
            other => return Err(BatchError::Version(other)),
        }
        let (sequence, sent) = (reader.u32()?, reader.u32()?);
        let mut actions = Vec::new();
        while !reader.0.is_empty() {
            if actions.len() == MAX_EVENTS {
                return Err(BatchError::Many);
            }
            actions.push(reader.action()?);
        }
        Ok(Self { sequence, sent, actions })
    }

    /// Writes the message that [`Batch::parse`] reads, for viewers that are no page.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.sent.to_le_bytes());
        for action in &self.actions {
            let mut put = |kind: u8, fields: &[&[u8]]| {
                out.push(kind);
                fields.iter().for_each(|field| out.extend_from_slice(field));
            };
            match *action {
                Action::Event(Event::Key { code, pressed }) => {
                    put(1, &[&code.to_le_bytes(), &[pressed.into()]]);
                }
                Action::Event(Event::Button { code, pressed }) => {
                    put(2, &[&code.to_le_bytes(), &[pressed.into()]]);
                }
                Action::Event(Event::Move { dx, dy }) => {
                    put(3, &[&dx.to_le_bytes(), &dy.to_le_bytes()]);
                }
                Action::Event(Event::Place { x, y }) => {
                    put(4, &[&x.to_le_bytes(), &y.to_le_bytes()]);
                }
                Action::Event(Event::Wheel { dx, dy }) => {
                    put(5, &[&dx.to_le_bytes(), &dy.to_le_bytes()]);
                }
                Action::Event(Event::Touch { finger, x, y }) => {
                    put(6, &[&[finger], &x.to_le_bytes(), &y.to_le_bytes()]);
                }
                Action::Event(Event::Lift { finger }) => put(7, &[&[finger]]),
                Action::Event(Event::PadButton { pad, code, pressed }) => {
                    put(8, &[&[pad], &code.to_le_bytes(), &[pressed.into()]]);
                }
                Action::Event(Event::PadAxis { pad, axis, value }) => {
                    put(9, &[&[pad, axis], &value.to_le_bytes()]);
                }
                Action::Plug(pad) => put(10, &[&[pad]]),
                Action::Unplug(pad) => put(11, &[&[pad]]),
                Action::ReleaseAll => put(12, &[]),
            }
        }
        out
    }
}

/// What the relay tells the page on the same channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// What became of a batch.
    Echo {
        /// Its `sequence`.
        sequence: u32,
        /// Its `sent`.
        sent: u32,
        /// Microseconds that the relay had it.
        relay: u32,
        /// Microseconds from the relay's receiving it to the guest's kernel having it, by the
        /// relay's estimate of the guest's clock; `None`: it did not get there.
        guest: Option<u32>,
    },
    /// A game wants a gamepad to shake.
    Rumble {
        /// Which.
        pad: u8,
        /// The heavy motor, 0 to 65535.
        strong: u16,
        /// The light motor, 0 to 65535.
        weak: u16,
        /// For how long, in milliseconds; 0 ends it.
        duration: u16,
    },
}

impl Answer {
    /// The message for the page.
    pub fn encode(&self) -> Vec<u8> {
        match *self {
            Self::Echo { sequence, sent, relay, guest } => {
                let guest = guest.unwrap_or(u32::MAX);
                let numbers = [sequence, sent, relay, guest].map(u32::to_le_bytes);
                [&[1], numbers.as_flattened()].concat()
            }
            Self::Rumble { pad, strong, weak, duration } => {
                let numbers = [strong, weak, duration].map(u16::to_le_bytes);
                [&[2, pad], numbers.as_flattened()].concat()
            }
        }
    }
}

#[cfg(test)]
mod tests;
