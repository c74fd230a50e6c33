//! Tells what input devices say, shakes gamepads, and asks SDL what it makes of one. Runs inside
//! the guest, as root.
//!
//!     evlog                              one line for each device and each event, for ever:
//!                                          + NAME
//!                                          - NAME
//!                                          NAME: TYPE CODE VALUE NANOSECONDS   (monotonic clock)
//!     evlog describe NAME                bus, vendor, product, version and what udev made of it
//!     evlog shake NAME STRONG WEAK MS    plays an effect
//!     evlog sdl                          what SDL says of the gamepads, and of their events

// ioctls of evdev and a library that is in the guest alone.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

mod ioctl {
    use nix::libc;

    nix::ioctl_read_buf!(eviocgname, b'E', 0x06, u8);
    nix::ioctl_read!(eviocgid, b'E', 0x02, [u16; 4]);
    nix::ioctl_write_ptr!(eviocsclockid, b'E', 0xa0, libc::c_int);
    nix::ioctl_write_ptr!(eviocsff, b'E', 0x80, libc::ff_effect);
}

/// Between two looks for new devices.
const LOOK: u16 = 20;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => watch(),
        ["describe", name] => describe(name),
        ["shake", name, strong, weak, ms] => {
            shake(name, strong.parse()?, weak.parse()?, ms.parse()?)
        }
        ["sdl"] => sdl(),
        _ => bail!("usage: evlog [describe NAME | shake NAME STRONG WEAK MS | sdl]"),
    }
}

fn nodes() -> Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir("/dev/input") else { return Ok(Vec::new()) };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let is_event = |path: &PathBuf| path.to_string_lossy().contains("/event");
    Ok(paths.into_iter().filter(is_event).collect())
}

fn open(path: &Path) -> Result<(String, File)> {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let mut name = [0; 128];
    // SAFETY: the kernel writes at most as much as the slice has.
    unsafe { ioctl::eviocgname(file.as_raw_fd(), &mut name) }?;
    let name = CStr::from_bytes_until_nul(&name)?.to_string_lossy().into_owned();
    Ok((name, file))
}

fn find(wanted: &str) -> Result<(PathBuf, File)> {
    for path in nodes()? {
        if let Ok((name, file)) = open(&path)
            && name == wanted
        {
            return Ok((path, file));
        }
    }
    bail!("there is no '{wanted}'")
}

fn watch() -> Result<()> {
    let mut devices: BTreeMap<PathBuf, (String, File)> = BTreeMap::new();
    loop {
        for path in nodes()? {
            if devices.contains_key(&path) {
                continue;
            }
            // It may be gone again, or not be ours yet.
            let Ok((name, file)) = open(&path) else { continue };
            // SAFETY: the kernel reads one int.
            unsafe { ioctl::eviocsclockid(file.as_raw_fd(), &libc::CLOCK_MONOTONIC) }?;
            println!("+ {name}");
            devices.insert(path, (name, file));
        }
        let mut fds: Vec<_> = devices
            .values()
            .map(|(_, file)| PollFd::new(file.as_fd(), PollFlags::POLLIN))
            .collect();
        poll(&mut fds, PollTimeout::from(LOOK))?;
        let mut out = String::new();
        devices.retain(|_, (name, file)| {
            let mut bytes = [0; 24 * 256];
            match file.read(&mut bytes) {
                Ok(count) => {
                    for event in bytes[..count].chunks_exact(24) {
                        let word = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
                        let long = |at: usize| {
                            i64::from_ne_bytes(event[at..at + 8].try_into().unwrap_or_default())
                        };
                        let value = i32::from_ne_bytes(event[20..].try_into().unwrap_or_default());
                        let at = long(0) * 1_000_000_000 + long(8) * 1000;
                        out += &format!("{name}: {} {} {value} {at}\n", word(16), word(18));
                    }
                    true
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => true,
                Err(_) => {
                    out += &format!("- {name}\n");
                    false
                }
            }
        });
        print!("{out}");
        std::io::stdout().flush()?;
    }
}

fn describe(name: &str) -> Result<()> {
    let (path, file) = find(name)?;
    let mut id = [0; 4];
    // SAFETY: the kernel writes one `struct input_id`, which is four numbers.
    unsafe { ioctl::eviocgid(file.as_raw_fd(), &mut id) }?;
    let [bus, vendor, product, version] = id;
    println!("{bus:04x}:{vendor:04x}:{product:04x}:{version:04x}");
    let udev = std::process::Command::new("udevadm")
        .args(["info", "--query=property"])
        .arg(format!("--name={}", path.display()))
        .output()?;
    print!("{}", String::from_utf8_lossy(&udev.stdout));
    Ok(())
}

fn shake(name: &str, strong: u16, weak: u16, length: u16) -> Result<()> {
    let (_, mut file) = find(name)?;
    // SAFETY: made of integers, all of which may be zero.
    let mut effect: libc::ff_effect = unsafe { std::mem::zeroed() };
    effect.type_ = 0x50; // FF_RUMBLE
    effect.id = -1;
    effect.replay.length = length;
    effect.u[0] = u64::from(strong) | u64::from(weak) << 16;
    // SAFETY: the kernel reads the effect, and writes its number into it.
    unsafe { ioctl::eviocsff(file.as_raw_fd(), &raw mut effect) }?;
    // SAFETY: the kernel has written to it behind the compiler's back.
    let id = unsafe { std::ptr::read_volatile(&raw const effect.id) };
    for count in [1i32, 0] {
        let mut play = vec![0; 16];
        play.extend_from_slice(&0x15u16.to_ne_bytes());
        play.extend_from_slice(&(id as u16).to_ne_bytes());
        play.extend_from_slice(&count.to_ne_bytes());
        file.write_all(&play)?;
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("shaken");
    Ok(())
}

/// SDL 2, as games have it.
fn sdl() -> Result<()> {
    let library = Library::open(c"libSDL2-2.0.so.0")?;
    // SAFETY: the types are those of SDL_init.h and SDL_gamecontroller.h, and all of these take
    // numbers or pointers that SDL itself returned; `event` has the size of SDL_Event.
    unsafe {
        let init: extern "C" fn(u32) -> c_int = library.get(c"SDL_Init")?;
        let hint: extern "C" fn(*const c_char, *const c_char) -> c_int =
            library.get(c"SDL_SetHint")?;
        let count: extern "C" fn() -> c_int = library.get(c"SDL_NumJoysticks")?;
        let is: extern "C" fn(c_int) -> c_int = library.get(c"SDL_IsGameController")?;
        let name: extern "C" fn(c_int) -> *const c_char =
            library.get(c"SDL_GameControllerNameForIndex")?;
        let kind: extern "C" fn(c_int) -> c_int = library.get(c"SDL_GameControllerTypeForIndex")?;
        let open: extern "C" fn(c_int) -> *mut c_void = library.get(c"SDL_GameControllerOpen")?;
        let rumble: extern "C" fn(*mut c_void, u16, u16, u32) -> c_int =
            library.get(c"SDL_GameControllerRumble")?;
        let poll: extern "C" fn(*mut u8) -> c_int = library.get(c"SDL_PollEvent")?;
        hint(c"SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS".as_ptr(), c"1".as_ptr());
        hint(c"SDL_VIDEODRIVER".as_ptr(), c"dummy".as_ptr());
        anyhow::ensure!(init(0x2000 | 0x20) == 0, "SDL_Init failed");
        for index in 0..count() {
            let called = name(index);
            let called = if called.is_null() {
                "?".into()
            } else {
                CStr::from_ptr(called).to_string_lossy()
            };
            println!("pad {index}: controller {} type {} {called}", is(index), kind(index));
            let pad = open(index);
            anyhow::ensure!(!pad.is_null(), "it cannot be opened");
            println!("rumble {}", rumble(pad, 0xffff, 0x1000, 300));
        }
        std::io::stdout().flush()?;
        let end = Instant::now() + Duration::from_secs(20);
        let mut event = [0u8; 64];
        while Instant::now() < end {
            while poll(event.as_mut_ptr()) != 0 {
                let word = u32::from_ne_bytes(event[..4].try_into()?);
                let value = i16::from_ne_bytes([event[16], event[17]]);
                match word {
                    0x650 => println!("axis {} {value}", event[12]),
                    0x651 | 0x652 => println!("button {} {}", event[12], event[13]),
                    _ => {}
                }
            }
            std::io::stdout().flush()?;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

struct Library(*mut c_void);

impl Library {
    fn open(name: &CStr) -> Result<Self> {
        // SAFETY: loading SDL runs its initialisers, which is what is wanted.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
        anyhow::ensure!(!handle.is_null(), "there is no {name:?} in this guest");
        Ok(Self(handle))
    }

    /// # Safety
    ///
    /// `T` is the type of the function of that name.
    unsafe fn get<T: Copy>(&self, name: &CStr) -> Result<T> {
        // SAFETY: the handle is open for as long as the process lives.
        let symbol = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!symbol.is_null()).then_some(()).with_context(|| format!("SDL has no {name:?}"))?;
        // SAFETY: the caller says so; functions and data pointers have one size here.
        Ok(unsafe { std::mem::transmute_copy::<*mut c_void, T>(&symbol) })
    }
}
