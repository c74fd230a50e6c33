//! What viewers do, as reports of input devices. No input or output.
//!
//! In: the events of [`transom_protocol::input`]. Out: for each device, reports as its driver
//! would make them, and at any time those that let go of all that is held. What this refuses to
//! do: pass on what a device does not have. Such events are counted.
//!
//! ```text
//!   link/input.rs ──▶ Translator ──▶ Report ──▶ devices.rs ──▶ /dev/uinput
//!         ▲                                        │
//!         └────────────── rumble.rs ◀──────────────┘
//! ```

pub mod descriptions;
pub mod devices;
pub mod pace;
pub mod rumble;

use std::collections::{BTreeMap, BTreeSet};

use transom_protocol::input::{Event, MAX_GAMEPADS, MAX_TOUCHES};

use crate::sys::uinput::{Raw, event_type as kind};
use descriptions::{BUTTONS, KEYS, PAD_AXES, PAD_BUTTONS, has};

/// A wheel's detent in the units of `REL_WHEEL_HI_RES`.
const DETENT: i32 = 120;
/// Tracking ids of touches; the kernel's `ABS_MT_TRACKING_ID` ends there.
const TRACKING_IDS: i32 = 0xffff;

pub(crate) mod code {
    //! The codes of `input-event-codes.h` that are more than passed on.
    pub const REL_X: u16 = 0;
    pub const REL_Y: u16 = 1;
    pub const REL_HWHEEL: u16 = 6;
    pub const REL_WHEEL: u16 = 8;
    pub const REL_WHEEL_HI_RES: u16 = 11;
    pub const REL_HWHEEL_HI_RES: u16 = 12;
    pub const ABS_X: u16 = 0;
    pub const ABS_Y: u16 = 1;
    pub const ABS_Z: u16 = 2;
    pub const ABS_RX: u16 = 3;
    pub const ABS_RY: u16 = 4;
    pub const ABS_RZ: u16 = 5;
    pub const ABS_HAT0X: u16 = 16;
    pub const ABS_HAT0Y: u16 = 17;
    pub const ABS_MT_SLOT: u16 = 0x2f;
    pub const ABS_MT_POSITION_X: u16 = 0x35;
    pub const ABS_MT_POSITION_Y: u16 = 0x36;
    pub const ABS_MT_TRACKING_ID: u16 = 0x39;
    pub const BTN_TOUCH: u16 = 0x14a;
}

/// One of the guest's devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Device {
    /// Keys.
    Keyboard,
    /// A pointer that moves.
    Mouse,
    /// A pointer that is somewhere.
    Tablet,
    /// Fingers.
    Touch,
    /// A gamepad, by its number.
    Pad(u8),
}

/// Whole reports for one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub device: Device,
    /// Its events; the last ends a report.
    pub events: Vec<Raw>,
}

/// What is held, and how the next event changes it.
#[derive(Debug, Default)]
pub struct Translator {
    keys: BTreeSet<u16>,
    /// Buttons, and on which pointer each was pressed: the program must see it go up there.
    buttons: BTreeMap<u16, Device>,
    /// Whether the pointer was last placed rather than moved.
    placed: bool,
    /// What the wheels turned since their last whole detent: horizontal, vertical.
    wheel: [i32; 2],
    touches: [bool; MAX_TOUCHES as usize],
    /// The next tracking id.
    tracking: i32,
    pads: [Option<Pad>; MAX_GAMEPADS as usize],
    ignored: u32,
}

#[derive(Debug, Default)]
struct Pad {
    buttons: BTreeSet<u16>,
    /// Axes that are not at rest.
    axes: BTreeSet<u16>,
}

/// Appends a report; reports of one device in a row become one write.
fn push(out: &mut Vec<Report>, device: Device, events: &[(u16, u16, i32)]) {
    let raw = |&(kind, code, value): &(u16, u16, i32)| Raw { kind, code, value };
    let events = events.iter().map(raw).chain([Raw { kind: kind::SYN, code: 0, value: 0 }]);
    match out.last_mut() {
        Some(report) if report.device == device => report.events.extend(events),
        _ => out.push(Report { device, events: events.collect() }),
    }
}

impl Translator {
    /// Events that no device has, so far.
    pub fn ignored(&self) -> u32 {
        self.ignored
    }

    /// Whether anything is held.
    pub fn holds(&self) -> bool {
        !self.keys.is_empty()
            || !self.buttons.is_empty()
            || self.touches.contains(&true)
            || self.pads.iter().flatten().any(|p| !p.buttons.is_empty() || !p.axes.is_empty())
    }

    /// A gamepad is there. Whether it is a new one.
    pub fn plug(&mut self, pad: u8) -> bool {
        match self.pads.get_mut(usize::from(pad)) {
            Some(slot @ None) => {
                *slot = Some(Pad::default());
                true
            }
            Some(Some(_)) => false,
            None => {
                self.ignored = self.ignored.saturating_add(1);
                false
            }
        }
    }

    /// A gamepad goes; what is held on it is released. Whether it was there.
    pub fn unplug(&mut self, pad: u8, out: &mut Vec<Report>) -> bool {
        let Some(held) = self.pads.get_mut(usize::from(pad)).and_then(Option::take) else {
            return false;
        };
        release_pad(pad, held, out);
        true
    }

    /// The gamepads that are plugged in.
    pub fn plugged(&self) -> impl Iterator<Item = u8> {
        (0..MAX_GAMEPADS).filter(|pad| self.pads[usize::from(*pad)].is_some())
    }

    /// One event.
    pub fn handle(&mut self, event: Event, out: &mut Vec<Report>) {
        if self.try_handle(event, out).is_none() {
            self.ignored = self.ignored.saturating_add(1);
        }
    }

    /// `None`: no device has that.
    fn try_handle(&mut self, event: Event, out: &mut Vec<Report>) -> Option<()> {
        match event {
            Event::Key { code, pressed } => {
                has(KEYS, code).then_some(())?;
                // A second press would be a repeat, which the kernel makes itself.
                if hold(&mut self.keys, code, pressed) {
                    push(out, Device::Keyboard, &[(kind::KEY, code, pressed.into())]);
                }
            }
            Event::Button { code, pressed } => {
                has(BUTTONS, code).then_some(())?;
                let pointer = if self.placed { Device::Tablet } else { Device::Mouse };
                let device = match (pressed, self.buttons.get(&code)) {
                    (true, Some(_)) | (false, None) => return Some(()),
                    (true, None) => {
                        self.buttons.insert(code, pointer);
                        pointer
                    }
                    (false, Some(device)) => {
                        let device = *device;
                        self.buttons.remove(&code);
                        device
                    }
                };
                push(out, device, &[(kind::KEY, code, pressed.into())]);
            }
            Event::Move { dx, dy } => {
                self.placed = false;
                let moved = [(code::REL_X, dx), (code::REL_Y, dy)];
                let moved: Vec<_> = moved
                    .into_iter()
                    .filter(|(_, by)| *by != 0)
                    .map(|(code, by)| (kind::REL, code, by.into()))
                    .collect();
                if !moved.is_empty() {
                    push(out, Device::Mouse, &moved);
                }
            }
            Event::Place { x, y } => {
                self.placed = true;
                let place =
                    [(kind::ABS, code::ABS_X, x.into()), (kind::ABS, code::ABS_Y, y.into())];
                push(out, Device::Tablet, &place);
            }
            Event::Wheel { dx, dy } => self.turn(dx, dy, out),
            Event::Touch { finger, x, y } => self.touch(finger, x, y, out)?,
            Event::Lift { finger } => {
                let touches = self.touches.get_mut(usize::from(finger))?;
                if std::mem::take(touches) {
                    self.lift(finger, out);
                }
            }
            Event::PadButton { pad, code, pressed } => {
                has(PAD_BUTTONS, code).then_some(())?;
                let held = self.pads.get_mut(usize::from(pad))?.as_mut()?;
                if hold(&mut held.buttons, code, pressed) {
                    push(out, Device::Pad(pad), &[(kind::KEY, code, pressed.into())]);
                }
            }
            Event::PadAxis { pad, axis, value } => {
                let (code, value) = (u16::from(axis), i32::from(value));
                let axis = PAD_AXES.iter().find(|axis| axis.code == code)?;
                let held = self.pads.get_mut(usize::from(pad))?.as_mut()?;
                let value = match code {
                    // The real pad's triggers have 8 bits.
                    code::ABS_Z | code::ABS_RZ => value.max(0) >> 7,
                    _ => value.clamp(axis.range.0, axis.range.1),
                };
                hold(&mut held.axes, code, value != 0);
                push(out, Device::Pad(pad), &[(kind::ABS, code, value)]);
            }
        }
        Some(())
    }

    fn turn(&mut self, dx: i16, dy: i16, out: &mut Vec<Report>) {
        let wheels = [
            (i32::from(dx), code::REL_HWHEEL_HI_RES, code::REL_HWHEEL),
            (i32::from(dy), code::REL_WHEEL_HI_RES, code::REL_WHEEL),
        ];
        let mut events = Vec::new();
        for (turned, (by, fine, coarse)) in self.wheel.iter_mut().zip(wheels) {
            if by == 0 {
                continue;
            }
            // Back the other way starts a detent of its own, as with a real wheel.
            if turned.signum() != by.signum() {
                *turned = 0;
            }
            *turned += by;
            events.push((kind::REL, fine, by));
            if *turned / DETENT != 0 {
                events.push((kind::REL, coarse, *turned / DETENT));
                *turned %= DETENT;
            }
        }
        if !events.is_empty() {
            push(out, Device::Mouse, &events);
        }
    }

    fn touch(&mut self, finger: u8, x: u16, y: u16, out: &mut Vec<Report>) -> Option<()> {
        let touches = self.touches.get_mut(usize::from(finger))?;
        let new = !std::mem::replace(touches, true);
        let (x, y) = (i32::from(x), i32::from(y));
        let mut events = vec![(kind::ABS, code::ABS_MT_SLOT, i32::from(finger))];
        if new {
            self.tracking = (self.tracking + 1) % TRACKING_IDS;
            events.push((kind::ABS, code::ABS_MT_TRACKING_ID, self.tracking));
        }
        events.push((kind::ABS, code::ABS_MT_POSITION_X, x));
        events.push((kind::ABS, code::ABS_MT_POSITION_Y, y));
        // Programs that know of one finger alone follow the first.
        let others = self.touches.iter().enumerate().any(|(i, t)| *t && i != usize::from(finger));
        if !others {
            if new {
                events.push((kind::KEY, code::BTN_TOUCH, 1));
            }
            events.push((kind::ABS, code::ABS_X, x));
            events.push((kind::ABS, code::ABS_Y, y));
        }
        push(out, Device::Touch, &events);
        Some(())
    }

    /// `finger` is no longer among the touches.
    fn lift(&mut self, finger: u8, out: &mut Vec<Report>) {
        let mut events = vec![
            (kind::ABS, code::ABS_MT_SLOT, i32::from(finger)),
            (kind::ABS, code::ABS_MT_TRACKING_ID, -1),
        ];
        if !self.touches.contains(&true) {
            events.push((kind::KEY, code::BTN_TOUCH, 0));
        }
        push(out, Device::Touch, &events);
    }

    /// Lets go of everything; the gamepads stay.
    pub fn release_all(&mut self, out: &mut Vec<Report>) {
        for key in std::mem::take(&mut self.keys) {
            push(out, Device::Keyboard, &[(kind::KEY, key, 0)]);
        }
        for (button, device) in std::mem::take(&mut self.buttons) {
            push(out, device, &[(kind::KEY, button, 0)]);
        }
        for finger in 0..MAX_TOUCHES {
            if std::mem::take(&mut self.touches[usize::from(finger)]) {
                self.lift(finger, out);
            }
        }
        for (pad, slot) in (0..).zip(&mut self.pads) {
            if let Some(held) = slot {
                release_pad(pad, std::mem::take(held), out);
            }
        }
        self.wheel = [0; 2];
    }
}

/// Whether this changes what is held.
fn hold(held: &mut BTreeSet<u16>, code: u16, down: bool) -> bool {
    if down { held.insert(code) } else { held.remove(&code) }
}

fn release_pad(pad: u8, held: Pad, out: &mut Vec<Report>) {
    for button in held.buttons {
        push(out, Device::Pad(pad), &[(kind::KEY, button, 0)]);
    }
    for axis in held.axes {
        push(out, Device::Pad(pad), &[(kind::ABS, axis, 0)]);
    }
}

#[cfg(test)]
mod tests;
