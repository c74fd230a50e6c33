//! The devices themselves.
//!
//! In: reports, and which gamepads are plugged in. Out: events of the kernel's, and how games want
//! gamepads to shake. Keyboard, pointers and touch screen live as long as the agent, so that a
//! compositor that starts later finds them and never sees them go; whoever serves viewers borrows
//! them by [`Desk::lock`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use transom_protocol::input::MAX_GAMEPADS;

use super::descriptions::describe;
use super::rumble::{Effects, Rumble};
use super::{Device, Report};
use crate::sys::uinput::{PATH, Uinput};

/// udev may still be about to give [`PATH`] to us when the agent starts at boot; it takes
/// milliseconds.
const BOOT_WAIT: Duration = Duration::from_millis(500);

/// Why there are no devices.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The kernel has no uinput.
    #[error(
        "the guest has no {PATH}: load it with `modprobe uinput`, and name it in \
         /etc/modules-load.d for later boots"
    )]
    Missing,
    /// It is not ours.
    #[error(
        "the agent may not open {PATH}: a udev rule has to give it to the group 'input' \
         (KERNEL==\"uinput\", GROUP=\"input\", MODE=\"0660\"), and the agent's unit to be in that \
         group and to have DeviceAllow={PATH} rw"
    )]
    Permission,
    /// Anything else.
    #[error("{PATH} makes no {name}: {why}")]
    Kernel {
        /// Of which device.
        name: &'static str,
        /// What the kernel said.
        why: io::Error,
    },
}

fn create(device: Device) -> Result<Uinput, InputError> {
    let description = describe(device);
    Uinput::create(&description).map_err(|why| match why.kind() {
        // ENODEV: the node is there, the module is not.
        io::ErrorKind::NotFound => InputError::Missing,
        _ if why.raw_os_error() == Some(nix::libc::ENODEV) => InputError::Missing,
        io::ErrorKind::PermissionDenied => InputError::Permission,
        _ => InputError::Kernel { name: description.name, why },
    })
}

/// All devices.
#[derive(Debug)]
pub struct Devices {
    keyboard: Uinput,
    mouse: Uinput,
    tablet: Uinput,
    touch: Uinput,
    pads: [Option<(Uinput, Effects)>; MAX_GAMEPADS as usize],
}

impl Devices {
    fn create() -> Result<Self, InputError> {
        Ok(Self {
            keyboard: create(Device::Keyboard)?,
            mouse: create(Device::Mouse)?,
            tablet: create(Device::Tablet)?,
            touch: create(Device::Touch)?,
            pads: Default::default(),
        })
    }

    /// Hands a report to the kernel; one for a gamepad that is gone goes nowhere.
    ///
    /// # Errors
    ///
    /// Those of `write`.
    pub fn write(&mut self, report: &Report) -> io::Result<()> {
        let device = match report.device {
            Device::Keyboard => &mut self.keyboard,
            Device::Mouse => &mut self.mouse,
            Device::Tablet => &mut self.tablet,
            Device::Touch => &mut self.touch,
            Device::Pad(pad) => match self.pads.get_mut(usize::from(pad)) {
                Some(Some((device, _))) => device,
                _ => return Ok(()),
            },
        };
        device.write(&report.events)
    }

    /// Plugs a gamepad in.
    ///
    /// # Errors
    ///
    /// The kernel makes none.
    pub fn plug(&mut self, pad: u8) -> Result<(), InputError> {
        if let Some(slot) = self.pads.get_mut(usize::from(pad)) {
            *slot = Some((create(Device::Pad(pad))?, Effects::default()));
        }
        Ok(())
    }

    /// Takes a gamepad away; the kernel releases what is held on it.
    pub fn unplug(&mut self, pad: u8) {
        if let Some(slot) = self.pads.get_mut(usize::from(pad)) {
            *slot = None;
        }
    }

    /// The gamepads, to be waited for until games want something of them.
    pub fn pads(&self) -> impl Iterator<Item = (u8, BorrowedFd<'_>)> {
        let slots = (0..).zip(&self.pads);
        slots.filter_map(|(pad, slot)| slot.as_ref().map(|(device, _)| (pad, device.as_fd())))
    }

    /// How a gamepad is to shake from now on, if games have changed that.
    pub fn rumble(&mut self, pad: u8) -> Option<Rumble> {
        let (device, effects) = self.pads.get_mut(usize::from(pad))?.as_mut()?;
        let mut last = None;
        loop {
            match device.read_feedback() {
                Ok(Some(feedback)) => last = effects.handle(feedback).or(last),
                Ok(None) => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        log::debug!("gamepad {pad}: {error}");
                    }
                    return last;
                }
            }
        }
    }
}

/// Where the devices are, used or not.
#[derive(Debug)]
pub struct Desk {
    usable: AtomicBool,
    devices: Mutex<Result<Devices, InputError>>,
}

impl Desk {
    /// Makes the devices. It may fail, and succeed later.
    pub fn open() -> Self {
        let deadline = Instant::now() + BOOT_WAIT;
        let devices = loop {
            match Devices::create() {
                Err(InputError::Permission) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => break other,
            }
        };
        match &devices {
            Ok(_) => log::info!("input devices are there"),
            Err(error) => log::warn!("no input: {error}"),
        }
        Self { usable: AtomicBool::new(devices.is_ok()), devices: Mutex::new(devices) }
    }

    /// Whether there are devices; if not, they are tried for again.
    pub fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Acquire) || self.lock().is_ok()
    }

    /// The devices, for one connection alone: waits until another one has let go of them.
    pub fn lock(&self) -> MutexGuard<'_, Result<Devices, InputError>> {
        // Whoever panicked has released what it held, see `link/input.rs`.
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if devices.is_err() {
            *devices = Devices::create();
            self.usable.store(devices.is_ok(), Ordering::Release);
        }
        devices
    }
}
