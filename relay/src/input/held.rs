//! Who holds what. No input or output.
//!
//! In: events of viewers. Out: what of them is news to the guest, which has one keyboard for all:
//! a key goes down with the first who presses it and up with the last who lets go. Fingers and
//! gamepads have a number with their viewer and another one in the guest. What this refuses to
//! do: grow with what a viewer says; codes that no keyboard has are passed on and not noted.

use std::collections::{BTreeMap, BTreeSet};

use transom_protocol::input::{Event, MAX_GAMEPADS, MAX_TOUCHES};

use crate::feed::ViewerId;

/// The kernel's `KEY_MAX`.
pub const KEY_MAX: u16 = 0x2ff;

/// What all viewers hold.
#[derive(Debug, Default)]
pub struct Held {
    viewers: BTreeMap<ViewerId, Holding>,
}

/// What one viewer holds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Holding {
    keys: BTreeSet<u16>,
    buttons: BTreeSet<u16>,
    /// The viewer's finger → the guest's.
    fingers: BTreeMap<u8, u8>,
    /// By the viewer's number.
    pads: BTreeMap<u8, Pad>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Pad {
    /// Its number in the guest.
    guest: u8,
    buttons: BTreeSet<u16>,
    axes: BTreeSet<u8>,
}

impl Holding {
    fn releases(&mut self) -> Vec<Event> {
        let mut out = Vec::new();
        let fingers = std::mem::take(&mut self.fingers);
        out.extend(fingers.into_values().map(|finger| Event::Lift { finger }));
        for pad in self.pads.values_mut() {
            let (number, pressed, value) = (pad.guest, false, 0);
            let buttons = std::mem::take(&mut pad.buttons);
            let button = |code| Event::PadButton { pad: number, code, pressed };
            out.extend(buttons.into_iter().map(button));
            let axes = std::mem::take(&mut pad.axes);
            out.extend(axes.into_iter().map(|axis| Event::PadAxis { pad: number, axis, value }));
        }
        out
    }
}

impl Held {
    /// Whether anything is.
    pub fn any(&self) -> bool {
        self.viewers.values().any(|holding| {
            let pads = holding.pads.values();
            !(holding.keys.is_empty() && holding.buttons.is_empty() && holding.fingers.is_empty())
                || pads.into_iter().any(|pad| !(pad.buttons.is_empty() && pad.axes.is_empty()))
        })
    }

    /// One event of a viewer, as the guest is to see it; `None`: not at all.
    pub fn handle(&mut self, viewer: ViewerId, event: Event) -> Option<Event> {
        let mine = self.viewers.entry(viewer).or_default();
        let event = match event {
            Event::Key { code, pressed } if code <= KEY_MAX => {
                let changed = hold(&mut mine.keys, code, pressed);
                let others = || self.others(viewer).any(|holding| holding.keys.contains(&code));
                (changed && !others()).then_some(event)
            }
            Event::Button { code, pressed } if code <= KEY_MAX => {
                let changed = hold(&mut mine.buttons, code, pressed);
                let others = || self.others(viewer).any(|holding| holding.buttons.contains(&code));
                (changed && !others()).then_some(event)
            }
            Event::Key { .. } | Event::Button { .. } => Some(event),
            Event::Move { .. } | Event::Place { .. } | Event::Wheel { .. } => Some(event),
            Event::Touch { finger, x, y } => {
                self.finger(viewer, finger).map(|finger| Event::Touch { finger, x, y })
            }
            Event::Lift { finger } => {
                mine.fingers.remove(&finger).map(|finger| Event::Lift { finger })
            }
            Event::PadButton { pad, code, pressed } => mine.pads.get_mut(&pad).and_then(|pad| {
                let news = code > KEY_MAX || hold(&mut pad.buttons, code, pressed);
                news.then_some(Event::PadButton { pad: pad.guest, code, pressed })
            }),
            Event::PadAxis { pad, axis, value } => mine.pads.get_mut(&pad).and_then(|pad| {
                // Back to rest is news once.
                let news = hold(&mut pad.axes, axis, value != 0) || value != 0;
                news.then_some(Event::PadAxis { pad: pad.guest, axis, value })
            }),
        };
        self.forget(viewer);
        event
    }

    /// Lets go of all that a viewer holds and nobody else does.
    pub fn release(&mut self, viewer: ViewerId) -> Vec<Event> {
        let Some(mine) = self.viewers.get_mut(&viewer) else { return Vec::new() };
        let mut out = mine.releases();
        let (keys, buttons) = (std::mem::take(&mut mine.keys), std::mem::take(&mut mine.buttons));
        let mine_alone = |code: &u16, of: fn(&Holding) -> &BTreeSet<u16>| {
            !self.others(viewer).any(|holding| of(holding).contains(code))
        };
        let pressed = false;
        let keys = keys.into_iter().filter(|code| mine_alone(code, |holding| &holding.keys));
        out.extend(keys.map(|code| Event::Key { code, pressed }));
        let buttons = buttons.into_iter().filter(|code| mine_alone(code, |h| &h.buttons));
        out.extend(buttons.map(|code| Event::Button { code, pressed }));
        self.forget(viewer);
        out
    }

    /// The guest has released everything by itself; the gamepads stay with their viewers.
    pub fn reset(&mut self) {
        for holding in self.viewers.values_mut() {
            let _told_already = holding.releases();
            holding.keys.clear();
            holding.buttons.clear();
        }
        self.viewers.retain(|_, holding| *holding != Holding::default());
    }

    /// A viewer's gamepad; its number in the guest, unless it has one already or there is no room.
    pub fn plug(&mut self, viewer: ViewerId, pad: u8) -> Option<u8> {
        let taken: BTreeSet<u8> = self.pads().collect();
        let guest = (0..MAX_GAMEPADS).find(|guest| !taken.contains(guest))?;
        let mine = self.viewers.entry(viewer).or_default();
        if mine.pads.contains_key(&pad) {
            return None;
        }
        mine.pads.insert(pad, Pad { guest, ..Pad::default() });
        Some(guest)
    }

    /// A viewer's gamepad is gone; its number in the guest.
    pub fn unplug(&mut self, viewer: ViewerId, pad: u8) -> Option<u8> {
        let gone = self.viewers.get_mut(&viewer)?.pads.remove(&pad)?;
        self.forget(viewer);
        Some(gone.guest)
    }

    /// All of a viewer's gamepads are gone; their numbers in the guest.
    pub fn unplug_all(&mut self, viewer: ViewerId) -> Vec<u8> {
        let Some(mine) = self.viewers.get_mut(&viewer) else { return Vec::new() };
        let gone = std::mem::take(&mut mine.pads).into_values().map(|pad| pad.guest).collect();
        self.forget(viewer);
        gone
    }

    /// The gamepads in the guest.
    pub fn pads(&self) -> impl Iterator<Item = u8> {
        self.viewers.values().flat_map(|holding| holding.pads.values().map(|pad| pad.guest))
    }

    /// Whose a gamepad of the guest is, and its number there.
    pub fn owner(&self, guest: u8) -> Option<(ViewerId, u8)> {
        self.viewers.iter().find_map(|(viewer, holding)| {
            let (pad, _) = holding.pads.iter().find(|(_, pad)| pad.guest == guest)?;
            Some((*viewer, *pad))
        })
    }

    fn others(&self, viewer: ViewerId) -> impl Iterator<Item = &Holding> {
        self.viewers.iter().filter(move |(other, _)| **other != viewer).map(|(_, held)| held)
    }

    fn finger(&mut self, viewer: ViewerId, finger: u8) -> Option<u8> {
        if let Some(guest) = self.viewers.get(&viewer)?.fingers.get(&finger) {
            return Some(*guest);
        }
        let taken: BTreeSet<u8> =
            self.viewers.values().flat_map(|holding| holding.fingers.values().copied()).collect();
        let guest = (0..MAX_TOUCHES).find(|guest| !taken.contains(guest))?;
        self.viewers.get_mut(&viewer)?.fingers.insert(finger, guest);
        Some(guest)
    }

    fn forget(&mut self, viewer: ViewerId) {
        if self.viewers.get(&viewer).is_some_and(|holding| *holding == Holding::default()) {
            self.viewers.remove(&viewer);
        }
    }
}

/// Whether this changes what is held.
fn hold<T: Ord>(held: &mut BTreeSet<T>, what: T, down: bool) -> bool {
    if down { held.insert(what) } else { held.remove(&what) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: ViewerId = ViewerId(1);
    const B: ViewerId = ViewerId(2);

    fn key(code: u16, pressed: bool) -> Event {
        Event::Key { code, pressed }
    }

    #[test]
    fn a_key_is_down_as_long_as_somebody_holds_it() {
        let mut held = Held::default();
        assert_eq!(held.handle(A, key(30, true)), Some(key(30, true)));
        assert_eq!(held.handle(A, key(30, true)), None);
        assert_eq!(held.handle(B, key(30, true)), None);
        assert_eq!(held.handle(A, key(30, false)), None);
        assert_eq!(held.handle(B, key(30, false)), Some(key(30, false)));
        assert!(!held.any() && held.viewers.is_empty());
    }

    #[test]
    fn who_leaves_takes_along_what_nobody_else_holds() {
        let mut held = Held::default();
        for viewer in [A, B] {
            held.handle(viewer, key(30, true));
        }
        held.handle(A, key(31, true));
        held.handle(A, Event::Button { code: 0x110, pressed: true });
        held.handle(A, Event::Touch { finger: 7, x: 1, y: 2 });
        let released = held.release(A);
        let button = Event::Button { code: 0x110, pressed: false };
        assert_eq!(released, [Event::Lift { finger: 0 }, key(31, false), button]);
        assert_eq!(held.release(A), []);
        assert_eq!(held.release(B), [key(30, false)]);
        assert!(held.viewers.is_empty());
    }

    #[test]
    fn fingers_and_gamepads_get_numbers_of_the_guest() {
        let mut held = Held::default();
        let touch = |finger| Event::Touch { finger, x: 1, y: 2 };
        assert_eq!(held.handle(A, touch(0)), Some(touch(0)));
        assert_eq!(held.handle(B, touch(0)), Some(touch(1)));
        assert_eq!(held.handle(B, touch(0)), Some(touch(1)), "it moves");
        assert_eq!(held.handle(A, Event::Lift { finger: 0 }), Some(Event::Lift { finger: 0 }));
        assert_eq!(held.handle(A, Event::Lift { finger: 0 }), None);
        let free = (10..30).filter(|finger| held.handle(A, touch(*finger)).is_some()).count();
        assert_eq!(free, 9, "of ten fingers");

        assert_eq!((held.plug(A, 0), held.plug(B, 0), held.plug(B, 0)), (Some(0), Some(1), None));
        let axis = |pad, value| Event::PadAxis { pad, axis: 0, value };
        assert_eq!(held.handle(B, axis(0, 9)), Some(axis(1, 9)));
        assert_eq!(held.handle(B, axis(1, 9)), None, "it is not there");
        assert_eq!((held.owner(1), held.owner(2)), (Some((B, 0)), None));
        assert!(held.release(B).contains(&axis(1, 0)));
        assert_eq!(held.unplug(B, 0), Some(1));
        assert_eq!((0..9).filter_map(|pad| held.plug(B, pad)).count(), 3, "of four gamepads");
        assert_eq!(held.unplug_all(B), [1, 2, 3]);
    }

    #[test]
    fn codes_of_no_keyboard_are_passed_on_and_not_noted() {
        let mut held = Held::default();
        for code in 0x300..0x9000 {
            assert_eq!(held.handle(A, key(code, true)), Some(key(code, true)));
        }
        assert!(!held.any() && held.viewers.is_empty());
    }

    proptest! {
        /// Whatever two viewers do: once both have left, the guest has seen as many go up as down.
        #[test]
        fn the_guest_ends_with_nothing_held(
            deeds in prop::collection::vec((any::<bool>(), 0u16..6, any::<bool>(), any::<bool>()), 0..200),
        ) {
            let (mut held, mut down) = (Held::default(), BTreeSet::new());
            let mut see = |event: Event| if let Event::Key { code, pressed } = event {
                assert!(hold(&mut down, code, pressed), "the guest is told news only");
            };
            for (a, code, pressed, leaves) in deeds {
                let viewer = if a { A } else { B };
                if leaves && code == 0 {
                    held.release(viewer).into_iter().for_each(&mut see);
                } else {
                    held.handle(viewer, key(code, pressed)).into_iter().for_each(&mut see);
                }
            }
            for viewer in [A, B] {
                held.release(viewer).into_iter().for_each(&mut see);
            }
            prop_assert!(down.is_empty() && held.viewers.is_empty());
        }
    }
}
