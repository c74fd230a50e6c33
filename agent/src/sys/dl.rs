//! Libraries that are loaded at run time, for the agent works without them.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};

use nix::libc;

/// A library or one of its functions is not there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub String);

/// A library that is never closed.
#[derive(Debug, Clone, Copy)]
pub struct Library(*mut c_void);

/// Opens a library for the life of the process; opening it again is cheap.
///
/// # Errors
///
/// What the dynamic linker says.
pub fn open(name: &CStr) -> Result<Library, Missing> {
    // SAFETY: `name` ends in a zero; the constructors of system libraries may run.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() { Err(Missing(complaint(name))) } else { Ok(Library(handle)) }
}

/// The address of a function of a library that [`open`] opened.
///
/// # Errors
///
/// What the dynamic linker says.
pub fn find(library: Library, symbol: &CStr) -> Result<*mut c_void, Missing> {
    // SAFETY: `library` was opened and is never closed.
    let address = unsafe { libc::dlsym(library.0, symbol.as_ptr()) };
    if address.is_null() { Err(Missing(complaint(symbol))) } else { Ok(address) }
}

fn complaint(name: &CStr) -> String {
    // SAFETY: yields null or a string that stays until the next call of this family.
    let said = unsafe {
        let text = libc::dlerror();
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    said.unwrap_or_else(|| format!("{} cannot be loaded", name.to_string_lossy()))
}
