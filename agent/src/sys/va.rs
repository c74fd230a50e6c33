//! VA-API behind safe calls: displays, configurations, surfaces, contexts, buffers and images that
//! know their display and end with their owner.
//!
//! What a driver says is checked before it is believed: lengths, pitches, offsets, the chain of
//! coded segments. What this cannot guard against is a driver that hangs or corrupts memory:
//! whoever calls it runs in a process of its own (`encode::vaapi`).
#![allow(unsafe_code)]

pub mod abi;
mod coded;
mod context;
mod library;
mod memory;
mod surface;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;
use std::rc::Rc;

use abi::ConfigAttrib;
pub use coded::Buffer;
pub use context::{Config, Context, ConversionBuffer};
use library::Library;
pub use library::{Missing, check};
pub use memory::{Image, ImageLayout, Pixels};
pub use surface::Surface;

/// More than any driver has; what a driver says is not allocated unseen.
const MOST: c_int = 1024;

/// Why a driver's call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The driver or libva answered with a status other than success.
    #[error("{call}: {text} ({status})")]
    Call {
        /// The function.
        call: &'static str,
        /// `VAStatus`.
        status: i32,
        /// What libva calls it.
        text: String,
    },
    /// There is no libva.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The driver's answer makes no sense.
    #[error("{0}")]
    Lie(String),
}

/// Where libva finds its driver.
#[derive(Debug)]
pub enum Device {
    /// A DRM node.
    Drm(OwnedFd),
    /// The X server that `DISPLAY` names.
    X11,
}

/// An initialised display: a driver that is loaded.
pub struct Display {
    library: Library,
    handle: library::Handle,
    /// What libva and the driver complained about meanwhile.
    said: Box<std::cell::RefCell<Vec<String>>>,
    _device: Device,
}

impl std::fmt::Debug for Display {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Display").finish_non_exhaustive()
    }
}

/// Keeps the last few lines that libva says.
unsafe extern "C" fn listen(context: *mut c_void, message: *const c_char) {
    if context.is_null() || message.is_null() {
        return;
    }
    // SAFETY: `context` is the cell that the display owns, and outlives its handle; `message` is a
    // string that libva has just made.
    let (said, message) =
        unsafe { (&*context.cast::<std::cell::RefCell<Vec<String>>>(), CStr::from_ptr(message)) };
    if let Ok(mut said) = said.try_borrow_mut()
        && said.len() < 32
    {
        said.push(message.to_string_lossy().trim_end().to_owned());
    }
}

impl Display {
    /// Loads libva, and libva a driver.
    ///
    /// # Errors
    ///
    /// There is no libva, no driver, or the driver refuses; libva's own words are in the error.
    pub fn open(device: Device) -> Result<Rc<Self>, Failure> {
        let library = Library::load()?;
        let handle = match &device {
            Device::Drm(fd) => library::drm_display(fd.as_raw_fd())?,
            Device::X11 => library::x11_display()?,
        };
        let said = Box::<std::cell::RefCell<Vec<String>>>::default();
        let context = ptr::from_ref(&*said).cast_mut().cast();
        let (mut major, mut minor) = (0, 0);
        // SAFETY: `handle` is a display; the cell lives until after `vaTerminate`.
        let status = unsafe {
            (library.set_info)(handle, None, ptr::null_mut());
            (library.set_error)(handle, Some(listen), context);
            (library.initialize)(handle, &raw mut major, &raw mut minor)
        };
        let this = Self { library, handle, said, _device: device };
        match this.check("vaInitialize", status) {
            Ok(()) => Ok(Rc::new(this)),
            Err(Failure::Call { call, status, text }) => {
                let said = this.said.borrow().join("; ");
                let text = if said.is_empty() { text } else { format!("{text}: {said}") };
                Err(Failure::Call { call, status, text })
            }
            Err(error) => Err(error),
        }
    }

    fn check(&self, call: &'static str, status: abi::Status) -> Result<(), Failure> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: yields a constant string for every number.
        let text = unsafe { CStr::from_ptr((self.library.error_text)(status)) };
        Err(Failure::Call { call, status, text: text.to_string_lossy().into_owned() })
    }

    /// What the driver calls itself.
    pub fn vendor(&self) -> String {
        // SAFETY: yields null or a string of the driver.
        unsafe {
            let text = (self.library.vendor)(self.handle);
            if text.is_null() {
                return String::new();
            }
            CStr::from_ptr(text).to_string_lossy().chars().take(200).collect()
        }
    }

    /// The profiles that the driver has.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn profiles(&self) -> Result<Vec<c_int>, Failure> {
        // SAFETY: no preconditions.
        let most = unsafe { (self.library.max_profiles)(self.handle) };
        // SAFETY: the list has room for as many as the driver announced.
        list("vaMaxNumProfiles", most, |list, count| unsafe {
            (self.library.profiles)(self.handle, list, count)
        })
        .and_then(|(status, list)| self.check("vaQueryConfigProfiles", status).map(|()| list))
    }

    /// The entrypoints of a profile.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn entrypoints(&self, profile: c_int) -> Result<Vec<c_int>, Failure> {
        // SAFETY: no preconditions.
        let most = unsafe { (self.library.max_entrypoints)(self.handle) };
        // SAFETY: as above.
        list("vaMaxNumEntrypoints", most, |list, count| unsafe {
            (self.library.entrypoints)(self.handle, profile, list, count)
        })
        .and_then(|(status, list)| self.check("vaQueryConfigEntrypoints", status).map(|()| list))
    }

    /// An attribute of a profile and entrypoint; `None` where the driver does not know it.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn attribute(
        &self,
        profile: c_int,
        entrypoint: c_int,
        kind: c_int,
    ) -> Result<Option<u32>, Failure> {
        let mut attribute = ConfigAttrib { kind, value: 0 };
        // SAFETY: one attribute is read and written.
        let status = unsafe {
            (self.library.attributes)(self.handle, profile, entrypoint, &raw mut attribute, 1)
        };
        self.check("vaGetConfigAttributes", status)?;
        Ok((attribute.value != abi::NOT_SUPPORTED).then_some(attribute.value))
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        // SAFETY: all objects hold the display, so that none is left.
        unsafe { (self.library.terminate)(self.handle) };
    }
}

/// Calls a function that fills a list whose greatest length the driver has told.
fn list(
    call: &'static str,
    most: c_int,
    fill: impl FnOnce(*mut c_int, *mut c_int) -> abi::Status,
) -> Result<(abi::Status, Vec<c_int>), Failure> {
    if !(0..=MOST).contains(&most) {
        return Err(Failure::Lie(format!("{call} says {most}")));
    }
    let (mut list, mut count) = (vec![0; most as usize], most);
    let status = fill(list.as_mut_ptr(), &raw mut count);
    list.truncate(count.clamp(0, most) as usize);
    Ok((status, list))
}
