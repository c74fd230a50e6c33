//! What viewers do, on its way to the guest.
//!
//! ```text
//!   viewer ── channel.rs ──▶ Command ──▶ board.rs ──▶ HostInput ══▶ guest
//!            (bytes of a page)           held.rs: who holds what
//!   viewer ◀── channel.rs ◀── Outcome ◀── board.rs ◀── GuestInput ◀══ guest
//! ```
//!
//! `keys.rs` knows which key a page means; docs/input.md tells all of it to whoever writes a
//! viewer. Commands are taken by [`Port::send`] and act at once, in the caller's turn: there is no
//! queue in front of the board in which a release could get lost.

pub mod board;
pub mod channel;
pub mod held;
pub mod keys;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, broadcast};
use transom_protocol::input::Event;

use crate::feed::ViewerId;
use board::Board;

/// Outcomes that a viewer's task may be late by; it misses the oldest of more.
const OUTCOMES: usize = 256;

/// Something that a viewer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Events, in order.
    Events {
        /// Whose.
        viewer: ViewerId,
        /// The viewer's own number for them, for [`Outcome::Batch`].
        number: u32,
        /// When they came in.
        at: Instant,
        /// What happened.
        events: Vec<Event>,
    },
    /// Nothing that the viewer holds stays held: its page lost the focus.
    ReleaseAll {
        /// Whose.
        viewer: ViewerId,
    },
    /// The viewer left or lost control: nothing stays held, and its gamepads go.
    Leave {
        /// Whose.
        viewer: ViewerId,
    },
    /// The viewer has a gamepad.
    Plug {
        /// Whose.
        viewer: ViewerId,
        /// Which.
        pad: u8,
    },
    /// The viewer's gamepad is gone.
    Unplug {
        /// Whose.
        viewer: ViewerId,
        /// Which.
        pad: u8,
    },
}

/// What a viewer learns about its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// What became of a [`Command::Events`] that was taken.
    Batch {
        /// Whose.
        viewer: ViewerId,
        /// Its number.
        number: u32,
        /// From its coming in to its leaving for the guest.
        relay: Duration,
        /// From its coming in to its being in the guest's kernel, by the estimate of the guest's
        /// clock; `None`: it did not get there.
        guest: Option<Duration>,
    },
    /// A game wants the viewer's gamepad to shake.
    Rumble {
        /// Whose.
        viewer: ViewerId,
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

/// Whether the guest takes input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum InputState {
    /// There is no connection for it (yet), or the agent knows of no input.
    #[default]
    Absent,
    /// It does.
    Ready,
    /// It cannot; why, and what helps.
    Unusable(String),
}

/// Why input was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest takes no input at the moment")]
pub struct InputRefused;

/// Where viewers and the guest's task meet.
#[derive(Debug)]
pub struct Port {
    board: Mutex<Board>,
    /// There is something for the guest.
    ready: Notify,
    outcomes: broadcast::Sender<Outcome>,
}

impl Default for Port {
    fn default() -> Self {
        let outcomes = broadcast::Sender::new(OUTCOMES);
        Self { board: Mutex::default(), ready: Notify::new(), outcomes }
    }
}

impl Port {
    /// Takes a command, in the order of the calls. What lets go of something is taken always.
    ///
    /// # Errors
    ///
    /// [`InputRefused`]: the guest takes no events, or not so many.
    pub fn send(&self, command: Command) -> Result<(), InputRefused> {
        let taken = self.board().handle(command);
        self.ready.notify_one();
        taken
    }

    /// What becomes of commands from here on, of all viewers.
    pub fn outcomes(&self) -> broadcast::Receiver<Outcome> {
        self.outcomes.subscribe()
    }

    /// For the guest's task: waits until there may be something. May be dropped at any time.
    pub async fn ready(&self) {
        self.ready.notified().await;
    }

    /// For the guest's task.
    pub fn board(&self) -> MutexGuard<'_, Board> {
        // Plain values: there is nothing that a panic elsewhere could have left half done.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the guest's task: tells viewers.
    pub fn tell(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        for outcome in outcomes {
            // Nobody may be listening.
            let _ = self.outcomes.send(outcome);
        }
    }
}
