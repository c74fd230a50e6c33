//! What viewers do, on its way to the guest.
//!
//! `channel.rs` reads what a page sends, `keys.rs` knows which key it means; docs/input.md tells
//! both to whoever writes a viewer.

pub mod channel;
pub mod keys;

use std::time::Instant;

use transom_protocol::input::Event;

use crate::feed::ViewerId;

/// Something that a viewer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Events, in order.
    Events {
        /// Whose.
        viewer: ViewerId,
        /// The viewer's own number for them, for the answer.
        number: u32,
        /// When they came in.
        at: Instant,
        /// What happened.
        events: Vec<Event>,
    },
    /// The viewer left or lost control: nothing that it holds stays held.
    ReleaseAll {
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
