//! What each device says that it is and can do; the compositor and games judge it by that.

use std::ops::RangeInclusive;

use transom_protocol::input::MAX_TOUCHES;

use super::Device;
use super::code::*;
use crate::sys::uinput::{Axis, Description};

const BUS_USB: u16 = 3;
const BUS_VIRTUAL: u16 = 6;
/// No registry gives out vendors of virtual devices: "tr", as the vsock port.
const VENDOR: u16 = 0x7472;
/// `INPUT_PROP_DIRECT`: fingers touch what they point at.
const DIRECT: u16 = 1;
const FF_RUMBLE: u16 = 0x50;
const FF_PERIODIC: u16 = 0x51;
const FF_WAVES: [u16; 3] = [0x58, 0x59, 0x5a];
const FF_GAIN: u16 = 0x60;
/// All of what a viewer may send for a place.
const PLACE: (i32, i32) = (0, 0xffff);

/// `KEY_ESC` to `KEY_MICMUTE`, and of those above the ones that some browser reports
/// (`KEY_SELECT`, `KEY_GOTO`, `KEY_FULL_SCREEN`, `KEY_KEYBOARD`, `KEY_FN`, the telephone's star
/// and hash, `KEY_CONTROLPANEL` to `KEY_ASSISTANT`, `KEY_PRIVACY_SCREEN_TOGGLE`). Not all of
/// them: the kernel writes each into the device's name for module loading, whose length is
/// limited, and with `BTN_*` among them the keyboard would count as a joystick.
pub const KEYS: &[RangeInclusive<u16>] = &[
    1..=248,
    0x161..=0x162,
    0x174..=0x176,
    0x1d0..=0x1d0,
    0x20a..=0x20b,
    0x243..=0x247,
    0x279..=0x279,
];

/// `BTN_LEFT` to `BTN_TASK`.
pub const BUTTONS: &[RangeInclusive<u16>] = &[0x110..=0x117];

/// Those of the wired Xbox 360 pad: `BTN_A`, `BTN_B`, `BTN_X`, `BTN_Y`, `BTN_TL`, `BTN_TR`,
/// `BTN_SELECT`, `BTN_START`, `BTN_MODE`, `BTN_THUMBL`, `BTN_THUMBR`.
pub const PAD_BUTTONS: &[RangeInclusive<u16>] =
    &[0x130..=0x131, 0x133..=0x134, 0x136..=0x137, 0x13a..=0x13e];

const fn stick(code: u16) -> Axis {
    Axis { code, range: (-32768, 32767), fuzz_flat: (16, 128) }
}

const fn axis(code: u16, range: (i32, i32)) -> Axis {
    Axis { code, range, fuzz_flat: (0, 0) }
}

/// Its sticks, triggers and directional pad, with the ranges that its driver gives them.
pub const PAD_AXES: &[Axis] = &[
    stick(ABS_X),
    stick(ABS_Y),
    axis(ABS_Z, (0, 255)),
    stick(ABS_RX),
    stick(ABS_RY),
    axis(ABS_RZ, (0, 255)),
    axis(ABS_HAT0X, (-1, 1)),
    axis(ABS_HAT0Y, (-1, 1)),
];

const TABLET_AXES: &[Axis] = &[axis(ABS_X, PLACE), axis(ABS_Y, PLACE)];

const TOUCH_AXES: &[Axis] = &[
    axis(ABS_X, PLACE),
    axis(ABS_Y, PLACE),
    axis(ABS_MT_SLOT, (0, MAX_TOUCHES as i32 - 1)),
    axis(ABS_MT_POSITION_X, PLACE),
    axis(ABS_MT_POSITION_Y, PLACE),
    axis(ABS_MT_TRACKING_ID, (0, 0xffff)),
];

const NOTHING: Description = Description {
    name: "",
    id: [BUS_VIRTUAL, VENDOR, 0, 1],
    keys: &[],
    repeats: false,
    relative: &[],
    absolute: &[],
    properties: &[],
    effects: &[],
};

/// Whether the ranges have it.
pub fn has(ranges: &[RangeInclusive<u16>], code: u16) -> bool {
    ranges.iter().any(|range| range.contains(&code))
}

/// What the device says of itself.
pub fn describe(device: Device) -> Description {
    match device {
        Device::Keyboard => Description {
            name: "Transom keyboard",
            id: [BUS_VIRTUAL, VENDOR, 1, 1],
            keys: KEYS,
            repeats: true,
            ..NOTHING
        },
        Device::Mouse => Description {
            name: "Transom mouse",
            id: [BUS_VIRTUAL, VENDOR, 2, 1],
            keys: BUTTONS,
            relative: &[REL_X, REL_Y, REL_HWHEEL, REL_WHEEL, REL_WHEEL_HI_RES, REL_HWHEEL_HI_RES],
            ..NOTHING
        },
        // A mouse with places instead of movements, and neither pen nor touch: what QEMU's tablet
        // is, and udev takes it for a pointer.
        Device::Tablet => Description {
            name: "Transom tablet",
            id: [BUS_VIRTUAL, VENDOR, 3, 1],
            keys: BUTTONS,
            absolute: TABLET_AXES,
            ..NOTHING
        },
        Device::Touch => Description {
            name: "Transom touch screen",
            id: [BUS_VIRTUAL, VENDOR, 4, 1],
            keys: &[BTN_TOUCH..=BTN_TOUCH],
            absolute: TOUCH_AXES,
            properties: &[DIRECT],
            ..NOTHING
        },
        // Name and numbers of the wired Xbox 360 pad and its driver: every game's table has them.
        Device::Pad(_) => Description {
            name: "Microsoft X-Box 360 pad",
            id: [BUS_USB, 0x045e, 0x028e, 0x0114],
            keys: PAD_BUTTONS,
            absolute: PAD_AXES,
            effects: &[FF_RUMBLE, FF_PERIODIC, FF_WAVES[0], FF_WAVES[1], FF_WAVES[2], FF_GAIN],
            ..NOTHING
        },
    }
}
