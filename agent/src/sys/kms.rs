//! A DRM card as an observer sees it (`include/uapi/drm/drm.h`, `drm_mode.h`).
//!
//! Opening a card while nobody is master makes the opener master, and then no compositor can
//! start: [`Card::open`] gives it up at once. What this file refuses to do: change anything that
//! the card shows.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use drm::control::{Device as ControlDevice, RawResourceHandle, property};
use drm::{ClientCapability, Device};
use nix::fcntl::OFlag;

/// An open primary node, never its master.
#[derive(Debug)]
pub struct Card {
    file: File,
    /// Device path.
    pub path: PathBuf,
    /// Name of the kernel driver, such as `virtio_gpu`.
    pub driver: String,
    /// Whether plane and CRTC state can be read as properties.
    pub atomic: bool,
}

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Device for Card {}
impl ControlDevice for Card {}

impl Card {
    /// Opens a card as an observer.
    ///
    /// # Errors
    ///
    /// Those of `open`; a card that refuses to let go of master is reported too, for keeping it
    /// would lock the compositor out.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags((OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits())
            .open(path)?;
        let mut card = Self { file, path: path.to_owned(), driver: String::new(), atomic: false };
        match card.release_master_lock() {
            Ok(()) => {}
            // Not master: somebody else is, which is how it should be.
            Err(error)
                if matches!(error.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::EACCES)) => {}
            Err(error) => return Err(error),
        }
        card.driver = card
            .get_driver()
            .map(|driver| driver.name().to_string_lossy().into_owned())
            .unwrap_or_else(|_| "unknown driver".into());
        card.set_client_capability(ClientCapability::UniversalPlanes, true)?;
        card.atomic = card.set_client_capability(ClientCapability::Atomic, true).is_ok();
        if card.atomic {
            // Drivers whose cursor has a hotspot (virtio-gpu, vmwgfx) hide the cursor plane from
            // atomic clients that do not know hotspots. Older kernels do not know the capability.
            let _ = card.set_client_capability(ClientCapability::CursorPlaneHotspot, true);
        }
        Ok(card)
    }

    /// Device and driver, for people.
    pub fn describe(&self) -> String {
        format!("{} ({})", self.path.display(), self.driver)
    }

    /// The node by which its GPU is used: its render node, or the card itself where it has none.
    pub fn renderer(&self) -> PathBuf {
        let Some(name) = self.path.file_name() else { return self.path.clone() };
        let nodes = std::fs::read_dir(Path::new("/sys/class/drm").join(name).join("device/drm"));
        let render = nodes.into_iter().flatten().filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.starts_with("renderD").then(|| Path::new("/dev/dri").join(name))
        });
        render.min().unwrap_or_else(|| self.path.clone())
    }

    /// Exports a buffer handle as a dma-buf, readable.
    ///
    /// # Errors
    ///
    /// The driver has no PRIME export, or the handle is gone.
    pub fn export(&self, handle: drm::buffer::Handle) -> io::Result<OwnedFd> {
        self.buffer_to_prime_fd(handle, nix::libc::O_CLOEXEC as u32)
    }

    /// Offset at which a dumb buffer can be mapped through the card itself.
    ///
    /// # Errors
    ///
    /// The buffer is imported from elsewhere (EINVAL), or the driver has no dumb buffers.
    pub fn dumb_offset(&self, handle: drm::buffer::Handle) -> io::Result<u64> {
        Ok(drm_ffi::mode::dumbbuffer::map(self.as_fd(), handle.into(), 0, 0)?.offset)
    }
}

mod ioctl {
    use nix::ioctl_readwrite;

    /// `struct drm_mode_obj_get_properties`.
    #[repr(C)]
    pub struct ObjGetProperties {
        pub props_ptr: u64,
        pub prop_values_ptr: u64,
        pub count_props: u32,
        pub obj_id: u32,
        pub obj_type: u32,
    }

    ioctl_readwrite!(
        /// `DRM_IOCTL_MODE_OBJ_GETPROPERTIES`.
        obj_get_properties, b'd', 0xB9, ObjGetProperties
    );
}

/// The properties of one KMS object, re-read by one system call without allocating: this is what
/// a look at an idle screen costs.
#[derive(Debug)]
pub struct Properties {
    object: u32,
    kind: u32,
    ids: Vec<u32>,
    values: Vec<u64>,
}

impl Properties {
    /// `kind` is one of `DRM_MODE_OBJECT_*`, as `drm::control::ResourceHandle::FFI_TYPE` gives it.
    ///
    /// # Errors
    ///
    /// As [`Properties::refresh`].
    pub fn read(card: &Card, object: u32, kind: u32) -> io::Result<Self> {
        let mut this = Self { object, kind, ids: Vec::new(), values: Vec::new() };
        this.refresh(card)?;
        Ok(this)
    }

    /// Reads all values anew.
    ///
    /// # Errors
    ///
    /// The object or the card is gone.
    pub fn refresh(&mut self, card: &Card) -> io::Result<()> {
        // A second round only when the object has more properties than there was room for.
        for _ in 0..4 {
            let room = self.ids.len();
            let mut request = ioctl::ObjGetProperties {
                props_ptr: self.ids.as_mut_ptr() as u64,
                prop_values_ptr: self.values.as_mut_ptr() as u64,
                count_props: room as u32,
                obj_id: self.object,
                obj_type: self.kind,
            };
            // SAFETY: both vectors hold `count_props` elements of the width that the kernel
            // writes, and outlive the call.
            #[allow(unsafe_code)]
            unsafe {
                ioctl::obj_get_properties(card.as_fd().as_raw_fd(), &mut request)?;
            }
            let count = request.count_props as usize;
            if count <= room {
                self.ids.truncate(count);
                self.values.truncate(count);
                return Ok(());
            }
            self.ids.resize(count, 0);
            self.values.resize(count, 0);
        }
        Err(io::Error::other("the properties of a KMS object keep growing"))
    }

    /// Position of the property called `name`, for [`Properties::value`].
    pub fn find(&self, card: &Card, name: &str) -> Option<usize> {
        self.ids.iter().position(|&id| {
            RawResourceHandle::new(id)
                .and_then(|raw| card.get_property(property::Handle::from(raw)).ok())
                .is_some_and(|info| info.name().to_bytes() == name.as_bytes())
        })
    }

    /// The value at a position that [`Properties::find`] gave.
    pub fn value(&self, index: usize) -> Option<u64> {
        self.values.get(index).copied()
    }
}
