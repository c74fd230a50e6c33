//! libva, loaded at run time: the agent works without it, and a guest without a GPU has none.
//!
//! By `dlopen` and not by a binding crate: `cros-libva` links libva and wants its version 1.20,
//! and the crate `libva` needs libclang to build.

#![allow(unsafe_code)]
use std::ffi::{c_char, c_int, c_uint, c_void};

use super::abi::{ConfigAttrib, Id, Image, ImageFormat, PipelineCaps, Status, SurfaceAttrib};
pub use crate::sys::dl::Missing;
use crate::sys::dl::{find, open};

/// An opaque `VADisplay`.
pub type Handle = *mut c_void;

macro_rules! functions {
    ($($field:ident = $symbol:literal: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions of libva that the agent calls; loaded for the life of the process.
        pub(super) struct Library {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Library {
            pub(super) fn load() -> Result<Self, Missing> {
                let va = open(c"libva.so.2")?;
                Ok(Self {
                    // SAFETY: the types are those of `va.h`, version 2 of the library.
                    $($field: unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(
                            find(va, $symbol)?,
                        )
                    },)*
                })
            }
        }
    };
}

functions! {
    initialize = c"vaInitialize": fn(Handle, *mut c_int, *mut c_int) -> Status;
    terminate = c"vaTerminate": fn(Handle) -> Status;
    error_text = c"vaErrorStr": fn(Status) -> *const c_char;
    vendor = c"vaQueryVendorString": fn(Handle) -> *const c_char;
    set_info = c"vaSetInfoCallback": fn(Handle, Option<Said>, *mut c_void) -> *const c_void;
    set_error = c"vaSetErrorCallback": fn(Handle, Option<Said>, *mut c_void) -> *const c_void;
    max_profiles = c"vaMaxNumProfiles": fn(Handle) -> c_int;
    max_entrypoints = c"vaMaxNumEntrypoints": fn(Handle) -> c_int;
    profiles = c"vaQueryConfigProfiles": fn(Handle, *mut c_int, *mut c_int) -> Status;
    entrypoints = c"vaQueryConfigEntrypoints": fn(Handle, c_int, *mut c_int, *mut c_int) -> Status;
    attributes = c"vaGetConfigAttributes": fn(Handle, c_int, c_int, *mut ConfigAttrib, c_int) -> Status;
    create_config = c"vaCreateConfig": fn(Handle, c_int, c_int, *mut ConfigAttrib, c_int, *mut Id) -> Status;
    destroy_config = c"vaDestroyConfig": fn(Handle, Id) -> Status;
    create_surfaces = c"vaCreateSurfaces": fn(Handle, c_uint, c_uint, c_uint, *mut Id, c_uint, *mut SurfaceAttrib, c_uint) -> Status;
    destroy_surfaces = c"vaDestroySurfaces": fn(Handle, *mut Id, c_int) -> Status;
    create_context = c"vaCreateContext": fn(Handle, Id, c_int, c_int, c_int, *mut Id, c_int, *mut Id) -> Status;
    destroy_context = c"vaDestroyContext": fn(Handle, Id) -> Status;
    create_buffer = c"vaCreateBuffer": fn(Handle, Id, c_int, c_uint, c_uint, *mut c_void, *mut Id) -> Status;
    map_buffer = c"vaMapBuffer": fn(Handle, Id, *mut *mut c_void) -> Status;
    unmap_buffer = c"vaUnmapBuffer": fn(Handle, Id) -> Status;
    destroy_buffer = c"vaDestroyBuffer": fn(Handle, Id) -> Status;
    begin_picture = c"vaBeginPicture": fn(Handle, Id, Id) -> Status;
    render_picture = c"vaRenderPicture": fn(Handle, Id, *mut Id, c_int) -> Status;
    end_picture = c"vaEndPicture": fn(Handle, Id) -> Status;
    sync_surface = c"vaSyncSurface": fn(Handle, Id) -> Status;
    create_image = c"vaCreateImage": fn(Handle, *mut ImageFormat, c_int, c_int, *mut Image) -> Status;
    derive_image = c"vaDeriveImage": fn(Handle, Id, *mut Image) -> Status;
    destroy_image = c"vaDestroyImage": fn(Handle, Id) -> Status;
    pipeline_caps = c"vaQueryVideoProcPipelineCaps": fn(Handle, Id, *mut Id, c_uint, *mut PipelineCaps) -> Status;
    put_image = c"vaPutImage": fn(Handle, Id, Id, c_int, c_int, c_uint, c_uint, c_int, c_int, c_uint, c_uint) -> Status;
}

/// `VAMessageCallback`.
pub(super) type Said = unsafe extern "C" fn(*mut c_void, *const c_char);

/// Whether libva can be loaded at all: to be asked before anything is paid for it.
///
/// # Errors
///
/// What the dynamic linker says.
pub fn check() -> Result<(), Missing> {
    open(c"libva.so.2").map(drop)
}

/// The display of a DRM device.
pub(super) fn drm_display(fd: c_int) -> Result<Handle, Missing> {
    let library = open(c"libva-drm.so.2")?;
    // SAFETY: `vaGetDisplayDRM` of `va_drm.h` takes a descriptor, which the caller keeps open.
    let display = unsafe {
        let get: unsafe extern "C" fn(c_int) -> Handle =
            std::mem::transmute(find(library, c"vaGetDisplayDRM")?);
        get(fd)
    };
    if display.is_null() {
        Err(Missing("libva takes no such DRM device".into()))
    } else {
        Ok(display)
    }
}

/// The display of the X server that `DISPLAY` names: for machines without any DRM device.
pub(super) fn x11_display() -> Result<Handle, Missing> {
    let (x11, library) = (open(c"libX11.so.6")?, open(c"libva-x11.so.2")?);
    // SAFETY: `XOpenDisplay` takes null for the display that the environment names, and
    // `vaGetDisplay` of `va_x11.h` takes what it yields; both live as long as the process.
    let display = unsafe {
        let connect: unsafe extern "C" fn(*const c_char) -> *mut c_void =
            std::mem::transmute(find(x11, c"XOpenDisplay")?);
        let get: unsafe extern "C" fn(*mut c_void) -> Handle =
            std::mem::transmute(find(library, c"vaGetDisplay")?);
        let display = connect(std::ptr::null());
        if display.is_null() {
            return Err(Missing("no X server at DISPLAY".into()));
        }
        get(display)
    };
    if display.is_null() {
        Err(Missing("libva takes no such X server".into()))
    } else {
        Ok(display)
    }
}
