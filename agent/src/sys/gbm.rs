//! libgbm, loaded at run time: a GPU's driver as what makes a linear view of a tiled buffer.
//!
//! By `dlopen` and not by the crate `gbm`, which links libgbm: the agent has to start in guests
//! that have none. Six functions and one structure are all that is wanted of it. What is behind
//! them is Mesa with a GPU's driver, which may hang or crash: whoever calls it runs in a process of
//! its own (`capture::linear`).
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr;
use std::rc::Rc;

use super::dl::{self, Missing};

/// `GBM_BO_IMPORT_FD_MODIFIER`.
const IMPORT_FD_MODIFIER: u32 = 0x5504;
/// `GBM_BO_TRANSFER_READ`.
const TRANSFER_READ: u32 = 1;
/// Planes of a buffer, as KMS and libgbm have them.
pub const PLANES: usize = 4;

/// `struct gbm_import_fd_modifier_data`.
#[repr(C)]
struct ImportData {
    width: u32,
    height: u32,
    format: u32,
    num_fds: u32,
    fds: [c_int; PLANES],
    strides: [c_int; PLANES],
    offsets: [c_int; PLANES],
    modifier: u64,
}

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no libgbm.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// libgbm or the driver behind it said no.
    #[error("{0}: {1}")]
    Call(&'static str, std::io::Error),
    /// Its answer, or what was asked of it, makes no sense.
    #[error("{0}")]
    Lie(String),
}

struct Library {
    create: unsafe extern "C" fn(c_int) -> *mut c_void,
    destroy: unsafe extern "C" fn(*mut c_void),
    backend: unsafe extern "C" fn(*mut c_void) -> *const c_char,
    import: unsafe extern "C" fn(*mut c_void, u32, *mut c_void, u32) -> *mut c_void,
    forget: unsafe extern "C" fn(*mut c_void),
    map: unsafe extern "C" fn(
        *mut c_void,
        u32,
        u32,
        u32,
        u32,
        u32,
        *mut u32,
        *mut *mut c_void,
    ) -> *mut c_void,
    unmap: unsafe extern "C" fn(*mut c_void, *mut c_void),
}

impl Library {
    fn load() -> Result<Self, Missing> {
        let library = dl::open(c"libgbm.so.1")?;
        // SAFETY: the types are those of `gbm.h`, version 1 of the library.
        unsafe {
            use std::mem::transmute;
            type Map = unsafe extern "C" fn(
                *mut c_void,
                u32,
                u32,
                u32,
                u32,
                u32,
                *mut u32,
                *mut *mut c_void,
            ) -> *mut c_void;
            Ok(Self {
                create: transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> *mut c_void>(
                    dl::find(library, c"gbm_create_device")?,
                ),
                destroy: transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(dl::find(
                    library,
                    c"gbm_device_destroy",
                )?),
                backend: transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void) -> *const c_char>(
                    dl::find(library, c"gbm_device_get_backend_name")?,
                ),
                import: transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*mut c_void, u32, *mut c_void, u32) -> *mut c_void,
                >(dl::find(library, c"gbm_bo_import")?),
                forget: transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(dl::find(
                    library,
                    c"gbm_bo_destroy",
                )?),
                map: transmute::<*mut c_void, Map>(dl::find(library, c"gbm_bo_map")?),
                unmap: transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void, *mut c_void)>(
                    dl::find(library, c"gbm_bo_unmap")?,
                ),
            })
        }
    }
}

/// A GPU.
pub struct Device {
    library: Library,
    handle: *mut c_void,
    _node: OwnedFd,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").finish_non_exhaustive()
    }
}

impl Device {
    /// Loads libgbm, and libgbm the driver of a DRM node.
    ///
    /// # Errors
    ///
    /// There is no libgbm, or it has no driver for this node.
    pub fn open(node: OwnedFd) -> Result<Rc<Self>, Failure> {
        let library = Library::load()?;
        // SAFETY: the descriptor stays open as long as the device.
        let handle = unsafe { (library.create)(node.as_raw_fd()) };
        if handle.is_null() {
            return Err(refused("gbm_create_device"));
        }
        Ok(Rc::new(Self { library, handle, _node: node }))
    }

    /// The backend's name.
    pub fn backend(&self) -> String {
        // SAFETY: yields null or a string that lives as long as the device.
        unsafe {
            let name = (self.library.backend)(self.handle);
            if name.is_null() {
                return String::new();
            }
            CStr::from_ptr(name).to_string_lossy().chars().take(100).collect()
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: made above; buffers keep their device, so that none is left.
        unsafe { (self.library.destroy)(self.handle) }
    }
}

/// One plane of a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    /// The dma-buf that it lies in.
    pub fd: BorrowedFd<'a>,
    /// Bytes from one row to the next, in the sense of the buffer's modifier.
    pub pitch: u32,
    /// Bytes in front of it.
    pub offset: u32,
}

/// A buffer of somebody else.
#[derive(Debug)]
pub struct Buffer {
    device: Rc<Device>,
    handle: *mut c_void,
    size: (u32, u32),
}

impl Buffer {
    /// Imports one; the driver duplicates its descriptors.
    ///
    /// # Errors
    ///
    /// The driver takes no such buffer.
    pub fn import(
        device: &Rc<Device>,
        planes: &[Plane<'_>],
        fourcc: u32,
        modifier: u64,
        size: (u32, u32),
    ) -> Result<Self, Failure> {
        if planes.is_empty() || planes.len() > PLANES {
            return Err(Failure::Lie(format!("a buffer of {} planes", planes.len())));
        }
        let mut data = ImportData {
            width: size.0,
            height: size.1,
            format: fourcc,
            num_fds: planes.len() as u32,
            fds: [-1; PLANES],
            strides: [0; PLANES],
            offsets: [0; PLANES],
            modifier,
        };
        for (index, plane) in planes.iter().enumerate() {
            let signed = |bytes: u32| {
                c_int::try_from(bytes).map_err(|_| Failure::Lie(format!("{plane:?} is absurd")))
            };
            data.fds[index] = plane.fd.as_raw_fd();
            data.strides[index] = signed(plane.pitch)?;
            data.offsets[index] = signed(plane.offset)?;
        }
        // SAFETY: the structure is the one that this kind of import wants, and outlives the call.
        let handle = unsafe {
            (device.library.import)(
                device.handle,
                IMPORT_FD_MODIFIER,
                (&raw mut data).cast(),
                // No use: what the buffer was made for is not known, nor what this is asked for.
                0,
            )
        };
        if handle.is_null() {
            return Err(refused("gbm_bo_import"));
        }
        Ok(Self { device: Rc::clone(device), handle, size })
    }

    /// Has the driver lay the whole picture out linearly, and lets `take` see each row of so many
    /// bytes.
    ///
    /// # Errors
    ///
    /// The driver's, or rows that it says are shorter.
    pub fn read(&self, row: usize, mut take: impl FnMut(usize, &[u8])) -> Result<(), Failure> {
        let library = &self.device.library;
        let (width, height) = self.size;
        let (mut stride, mut mapped) = (0, ptr::null_mut());
        // SAFETY: the buffer is alive; a stride and what unmapping wants are written. It wants to
        // find null there.
        let pixels = unsafe {
            let (stride, mapped) = (&raw mut stride, &raw mut mapped);
            (library.map)(self.handle, 0, 0, width, height, TRANSFER_READ, stride, mapped)
        };
        if pixels.is_null() {
            return Err(refused("gbm_bo_map"));
        }
        let stride = stride as usize;
        let fits = stride >= row;
        if fits {
            for y in 0..height as usize {
                // SAFETY: the driver has mapped all rows, at the stride that it tells, until they
                // are unmapped.
                let bytes =
                    unsafe { std::slice::from_raw_parts(pixels.cast::<u8>().add(y * stride), row) };
                take(y, bytes);
            }
        }
        // SAFETY: mapped above.
        unsafe { (library.unmap)(self.handle, mapped) };
        if fits {
            Ok(())
        } else {
            Err(Failure::Lie(format!("the driver's rows of {stride} bytes hold no {row}")))
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: imported above and not used afterwards.
        unsafe { (self.device.library.forget)(self.handle) }
    }
}

fn refused(call: &'static str) -> Failure {
    Failure::Call(call, std::io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_structure_is_laid_out_as_gbm_h_has_it() {
        assert_eq!(size_of::<ImportData>(), 72);
        assert_eq!(offset_of!(ImportData, fds), 16);
        assert_eq!(offset_of!(ImportData, strides), 32);
        assert_eq!(offset_of!(ImportData, offsets), 48);
        assert_eq!(offset_of!(ImportData, modifier), 64);
    }
}
