//! uinput: input devices that this process plays (`include/uapi/linux/uinput.h`).
//!
//! In: what a device can do, and its events. Out: the device, for as long as the value lives, and
//! what games want of its motors. Written here rather than taken from a crate: `evdev` and
//! `input-linux` would each bring a second nix, and `evdev` four more crates, for eight ioctls.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem::size_of;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;

/// Where the kernel makes input devices.
pub const PATH: &str = "/dev/uinput";

/// Event types of `input-event-codes.h`, as far as the devices here have them.
pub mod event_type {
    /// Ends a report.
    pub const SYN: u16 = 0;
    /// Keys and buttons.
    pub const KEY: u16 = 1;
    /// Movements.
    pub const REL: u16 = 2;
    /// Places.
    pub const ABS: u16 = 3;
    /// The kernel repeats what is held.
    pub const REP: u16 = 0x14;
    /// Motors.
    pub const FF: u16 = 0x15;
    /// From the kernel to the player of the device.
    pub const UINPUT: u16 = 0x101;
}

const UI_FF_UPLOAD: u16 = 1;
const UI_FF_ERASE: u16 = 2;
const FF_GAIN: u16 = 0x60;
const FF_RUMBLE: u16 = 0x50;
const FF_PERIODIC: u16 = 0x51;

mod ioctl {
    use nix::libc;

    nix::ioctl_none!(ui_dev_create, b'U', 1);
    nix::ioctl_write_ptr!(ui_dev_setup, b'U', 3, libc::uinput_setup);
    nix::ioctl_write_ptr!(ui_abs_setup, b'U', 4, libc::uinput_abs_setup);
    nix::ioctl_write_int!(ui_set_evbit, b'U', 100);
    nix::ioctl_write_int!(ui_set_keybit, b'U', 101);
    nix::ioctl_write_int!(ui_set_relbit, b'U', 102);
    nix::ioctl_write_int!(ui_set_ffbit, b'U', 107);
    nix::ioctl_write_int!(ui_set_propbit, b'U', 110);
    nix::ioctl_readwrite!(ui_begin_ff_upload, b'U', 200, libc::uinput_ff_upload);
    nix::ioctl_write_ptr!(ui_end_ff_upload, b'U', 201, libc::uinput_ff_upload);
    nix::ioctl_readwrite!(ui_begin_ff_erase, b'U', 202, libc::uinput_ff_erase);
    nix::ioctl_write_ptr!(ui_end_ff_erase, b'U', 203, libc::uinput_ff_erase);
}
use ioctl::*;

/// What a device is and can do.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// Its name, for people and for programs that know it.
    pub name: &'static str,
    /// `BUS_*`, vendor, product, version.
    pub id: [u16; 4],
    /// Keys and buttons.
    pub keys: &'static [RangeInclusive<u16>],
    /// Whether the kernel repeats keys that are held.
    pub repeats: bool,
    /// `REL_*`.
    pub relative: &'static [u16],
    /// `ABS_*`.
    pub absolute: &'static [Axis],
    /// `INPUT_PROP_*`.
    pub properties: &'static [u16],
    /// `FF_*`.
    pub effects: &'static [u16],
}

/// One absolute axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// `ABS_*`.
    pub code: u16,
    /// Least and greatest value.
    pub range: (i32, i32),
    /// Noise around a value, and around the middle, that programs are to ignore.
    pub fuzz_flat: (i32, i32),
}

/// One event, without its time, which the kernel adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw {
    /// See [`event_type`].
    pub kind: u16,
    /// Which key or axis.
    pub code: u16,
    /// Its new value.
    pub value: i32,
}

/// What a program did with the motors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feedback {
    /// It has an effect, to be played later.
    Effect {
        /// Its number.
        id: i16,
        /// The heavy motor.
        strong: u16,
        /// The light motor.
        weak: u16,
        /// For how long, in milliseconds; 0 is until it is stopped.
        length: u16,
    },
    /// It has it no longer.
    Erased(i16),
    /// It plays an effect so many times; 0 stops it.
    Play {
        /// Which.
        id: i16,
        /// How often.
        count: i32,
    },
    /// All effects are weaker from here on, of 65535.
    Gain(u16),
}

/// A device of ours; dropped means unplugged, and the kernel releases what is held on it.
#[derive(Debug)]
pub struct Uinput(File);

impl AsFd for Uinput {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Uinput {
    /// Plugs a device in.
    ///
    /// # Errors
    ///
    /// There is no [`PATH`], it is not ours to open, or the kernel does not like the device.
    pub fn create(description: &Description) -> io::Result<Self> {
        let Description { name, id, keys, repeats, relative, absolute, properties, effects } =
            description;
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(PATH)?;
        let fd = file.as_raw_fd();
        let types = [
            (event_type::KEY, !keys.is_empty()),
            (event_type::REL, !relative.is_empty()),
            (event_type::ABS, !absolute.is_empty()),
            (event_type::REP, *repeats),
            (event_type::FF, !effects.is_empty()),
        ];
        // SAFETY: these ioctls take numbers, which the kernel checks; the descriptor is open.
        unsafe {
            for (kind, _) in types.iter().filter(|(_, has)| *has) {
                ui_set_evbit(fd, (*kind).into())?;
            }
            for key in keys.iter().cloned().flatten() {
                ui_set_keybit(fd, key.into())?;
            }
            for code in *relative {
                ui_set_relbit(fd, (*code).into())?;
            }
            for property in *properties {
                ui_set_propbit(fd, (*property).into())?;
            }
            for effect in *effects {
                ui_set_ffbit(fd, (*effect).into())?;
            }
        }
        for Axis { code, range: (minimum, maximum), fuzz_flat: (fuzz, flat) } in *absolute {
            let (minimum, maximum, fuzz, flat) = (*minimum, *maximum, *fuzz, *flat);
            let absinfo =
                libc::input_absinfo { value: 0, minimum, maximum, fuzz, flat, resolution: 0 };
            let setup = libc::uinput_abs_setup { code: *code, absinfo };
            // SAFETY: the kernel reads one `uinput_abs_setup`, which lives through the call.
            unsafe { ui_abs_setup(fd, &setup) }?;
        }
        let [bustype, vendor, product, version] = *id;
        let mut setup = libc::uinput_setup {
            id: libc::input_id { bustype, vendor, product, version },
            name: [0; libc::UINPUT_MAX_NAME_SIZE],
            ff_effects_max: if effects.is_empty() { 0 } else { EFFECTS },
        };
        // One byte stays 0: it ends the name.
        let room = setup.name.len() - 1;
        for (to, from) in setup.name[..room].iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: the kernel reads one `uinput_setup`, which lives through the call; then it makes
        // the device of what it was told.
        unsafe {
            ui_dev_setup(fd, &setup)?;
            ui_dev_create(fd)?;
        }
        Ok(Self(file))
    }

    /// Plays events; whole reports, each with its end.
    ///
    /// # Errors
    ///
    /// Those of `write`.
    pub fn write(&mut self, events: &[Raw]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(events.len() * size_of::<libc::input_event>());
        for Raw { kind, code, value } in events {
            // struct input_event: a time, which the kernel fills in, then these.
            bytes.resize(bytes.len() + size_of::<libc::timeval>(), 0);
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(&code.to_ne_bytes());
            bytes.extend_from_slice(&value.to_ne_bytes());
        }
        // The kernel takes whole events, as many as there are.
        self.0.write_all(&bytes)
    }

    /// The next thing that a program did with the motors; `None` for now, or for something else.
    /// A program that uploads an effect waits until this was called.
    ///
    /// # Errors
    ///
    /// Those of `read` and of the answers to uploads; `WouldBlock` when there is nothing more.
    pub fn read_feedback(&mut self) -> io::Result<Option<Feedback>> {
        let mut bytes = [0; size_of::<libc::input_event>()];
        if self.0.read(&mut bytes)? != bytes.len() {
            return Ok(None);
        }
        let [.., k0, k1, c0, c1, v0, v1, v2, v3] = bytes;
        let (kind, code) = (u16::from_ne_bytes([k0, k1]), u16::from_ne_bytes([c0, c1]));
        let value = i32::from_ne_bytes([v0, v1, v2, v3]);
        match (kind, code) {
            (event_type::UINPUT, UI_FF_UPLOAD) => self.take_upload(value as u32).map(Some),
            (event_type::UINPUT, UI_FF_ERASE) => self.take_erase(value as u32).map(Some),
            (event_type::FF, FF_GAIN) => Ok(Some(Feedback::Gain(value.clamp(0, 0xffff) as u16))),
            (event_type::FF, id) => {
                Ok(i16::try_from(id).ok().map(|id| Feedback::Play { id, count: value }))
            }
            _ => Ok(None),
        }
    }

    fn take_upload(&mut self, request_id: u32) -> io::Result<Feedback> {
        // SAFETY: made of integers, all of which may be zero.
        let mut upload: libc::uinput_ff_upload = unsafe { std::mem::zeroed() };
        upload.request_id = request_id;
        let fd = self.0.as_raw_fd();
        // SAFETY: the kernel fills in the one `uinput_ff_upload` that it is given.
        unsafe { ui_begin_ff_upload(fd, &mut upload) }?;
        let effect = &upload.effect;
        // The union in `ff_effect`, as far as rumble and waves have it: 16-bit numbers.
        let bytes: Vec<u8> = effect.u.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let word = |at: usize| u16::from_ne_bytes([bytes[2 * at], bytes[2 * at + 1]]);
        let (strong, weak) = match effect.type_ {
            FF_RUMBLE => (word(0), word(1)),
            // waveform, period, magnitude: both motors, as the driver of the real pad does.
            FF_PERIODIC => [(word(2) as i16).unsigned_abs().saturating_mul(2); 2].into(),
            _ => (0, 0),
        };
        let feedback =
            Feedback::Effect { id: effect.id, strong, weak, length: effect.replay.length };
        upload.retval = 0;
        // SAFETY: the kernel reads the one `uinput_ff_upload` that it is given.
        unsafe { ui_end_ff_upload(fd, &upload) }?;
        Ok(feedback)
    }

    fn take_erase(&mut self, request_id: u32) -> io::Result<Feedback> {
        let mut erase = libc::uinput_ff_erase { request_id, retval: 0, effect_id: 0 };
        let fd = self.0.as_raw_fd();
        // SAFETY: the kernel fills in the one `uinput_ff_erase` that it is given.
        unsafe { ui_begin_ff_erase(fd, &mut erase) }?;
        let id = i16::try_from(erase.effect_id).unwrap_or(-1);
        erase.retval = 0;
        // SAFETY: the kernel reads the one `uinput_ff_erase` that it is given.
        unsafe { ui_end_ff_erase(fd, &erase) }?;
        Ok(Feedback::Erased(id))
    }
}

/// Effects that programs may have on a device; the real pad has as many.
pub const EFFECTS: u32 = 16;
