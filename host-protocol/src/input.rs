//! The messages of a connection with [`Role::INPUT`](crate::Role::INPUT): what viewers do with
//! keyboard, pointer, touch and gamepads, on its way to the guest's input devices.
//!
//! ```text
//!    host                                                     guest
//! 1. hello with the session of the control connection ─────▶
//! 2.   ◀────────────────────────── GuestInput::Ready, or Unusable(why): then nothing is taken
//! 3. HostInput::Events { number, … } ───────────────────────▶  one report per device, in order
//!      ◀────────────────────────── GuestInput::Written { number }, once a batch is in the kernel
//! 4. HostInput::Plug, Unplug ───────────────────────────────▶  gamepads come and go
//!      ◀────────────────────────── GuestInput::Rumble, when a game asks for it
//! 5. HostInput::ReleaseAll ─────────────────────────────────▶  a viewer left: nothing stays held
//! ```
//!
//! When the connection ends, however it ends, the guest releases all that is held and unplugs the
//! gamepads. It does the former, too, when the host falls silent ([`HELD_SILENCE`]). Codes are those of the kernel's `include/uapi/linux/input-event-codes.h`, so that no
//! table stands between the sender and the device; the guest ignores codes that its devices do
//! not have, and counts them ([`GuestInput::Written`]).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    message::{GuestTime, HostTime, Text},
    wire::Message,
};

/// Events in one [`HostInput::Events`]; more are refused as malformed.
pub const MAX_EVENTS: usize = 64;
/// Gamepads, numbered from 0.
pub const MAX_GAMEPADS: u8 = 4;
/// Simultaneous touches, numbered from 0.
pub const MAX_TOUCHES: u8 = 10;
/// Events in a second that the guest takes; what comes faster waits in the connection.
pub const MAX_EVENT_RATE: u32 = 4_000;
/// While anything is held, the host says something at least once in [`HELD_INTERVAL`], an empty
/// batch if there is nothing else; a guest that hears nothing for so long releases all. A host
/// that hangs cannot leave a key pressed.
pub const HELD_SILENCE: Duration = Duration::from_secs(3);
/// See [`HELD_SILENCE`].
pub const HELD_INTERVAL: Duration = Duration::from_secs(1);

/// Host to guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostInput {
    /// What happened since the last batch, in order.
    Events {
        /// Counts batches from 0, to match [`GuestInput::Written`].
        number: u32,
        /// When the relay got the first of them.
        time: HostTime,
        /// At most [`MAX_EVENTS`].
        events: Events,
    },
    /// Releases every key, button and touch, and centres every stick.
    ReleaseAll,
    /// A gamepad appears.
    Plug {
        /// Below [`MAX_GAMEPADS`].
        pad: u8,
    },
    /// A gamepad is gone; what is held on it is released first.
    Unplug {
        /// Which.
        pad: u8,
    },
}

impl Message for HostInput {
    const KINDS: u32 = 4;
}

/// One batch: at most [`MAX_EVENTS`] events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Event>")]
pub struct Events(Vec<Event>);

impl Events {
    /// Cuts a sequence of events into batches.
    pub fn batches(events: &[Event]) -> impl Iterator<Item = Self> {
        events.chunks(MAX_EVENTS).map(|chunk| Self(chunk.to_vec()))
    }

    /// A batch of nothing, to break the silence.
    pub fn none() -> Self {
        Self::default()
    }

    /// The events.
    pub fn as_slice(&self) -> &[Event] {
        &self.0
    }
}

impl TryFrom<Vec<Event>> for Events {
    type Error = &'static str;

    fn try_from(events: Vec<Event>) -> Result<Self, Self::Error> {
        if events.len() > MAX_EVENTS { Err("too many events") } else { Ok(Self(events)) }
    }
}

/// One thing that a viewer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A key of the keyboard.
    Key {
        /// `KEY_*`.
        code: u16,
        /// Pressed or released; the guest's own kernel repeats.
        pressed: bool,
    },
    /// A button of the mouse.
    Button {
        /// `BTN_LEFT` and its neighbours.
        code: u16,
        /// Pressed or released.
        pressed: bool,
    },
    /// The pointer moves by so many pixels of the guest.
    Move {
        /// To the right.
        dx: i16,
        /// Down.
        dy: i16,
    },
    /// The pointer is at this place of the screen.
    Place {
        /// 0 is the left edge, 65535 the right one.
        x: u16,
        /// 0 is the top edge, 65535 the bottom one.
        y: u16,
    },
    /// The wheel turns, in 120ths of a detent (`REL_WHEEL_HI_RES`).
    Wheel {
        /// To the right.
        dx: i16,
        /// Up, away from the user.
        dy: i16,
    },
    /// A finger is at this place of the screen.
    Touch {
        /// Which finger, below [`MAX_TOUCHES`].
        finger: u8,
        /// 0 is the left edge, 65535 the right one.
        x: u16,
        /// 0 is the top edge, 65535 the bottom one.
        y: u16,
    },
    /// A finger is lifted.
    Lift {
        /// Which finger.
        finger: u8,
    },
    /// A button of a gamepad that is plugged in.
    PadButton {
        /// Which gamepad.
        pad: u8,
        /// `BTN_SOUTH` and the like.
        code: u16,
        /// Pressed or released.
        pressed: bool,
    },
    /// A stick, trigger or directional pad of a gamepad that is plugged in.
    PadAxis {
        /// Which gamepad.
        pad: u8,
        /// `ABS_X`, `ABS_Y`, `ABS_RX`, `ABS_RY` (sticks), `ABS_Z`, `ABS_RZ` (triggers),
        /// `ABS_HAT0X`, `ABS_HAT0Y`.
        axis: u8,
        /// Sticks: all of `i16`, right and down positive. Triggers: 0 to 32767. Pad: -1, 0, 1.
        value: i16,
    },
}

/// Guest to host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestInput {
    /// The devices are there.
    Ready,
    /// There are no devices; what comes is thrown away.
    Unusable {
        /// Why, and what helps.
        why: Text,
    },
    /// A batch has been handed to the kernel.
    Written {
        /// Its number.
        number: u32,
        /// When.
        at: GuestTime,
        /// Events ignored on this connection so far: codes that the devices do not have, gamepads
        /// that are not plugged in.
        ignored: u32,
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
    /// A message of this kind is not known to the agent and was skipped.
    Unsupported {
        /// The variant's index.
        kind: u32,
    },
}

impl Message for GuestInput {
    const KINDS: u32 = 5;
}
