//! A scanout buffer in this process's address space (`include/uapi/linux/dma-buf.h`).
//!
//! Mapped once and kept: in virtual machines, page faults of a fresh mapping cost more than
//! reading the picture. The descriptor stays at hand for a GPU encoder.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use memmap2::{Mmap, MmapOptions};

mod ioctl {
    use nix::ioctl_write_ptr;

    /// `struct dma_buf_sync`.
    #[repr(C)]
    pub struct Sync {
        pub flags: u64,
    }

    pub const READ: u64 = 1;
    pub const END: u64 = 1 << 2;

    ioctl_write_ptr!(
        /// `DMA_BUF_IOCTL_SYNC`.
        sync, b'b', 0, Sync
    );
}

/// A readable mapping of a dma-buf or, for drivers that cannot export, of the card itself.
#[derive(Debug)]
pub struct Mapping {
    bytes: Mmap,
    dmabuf: Option<OwnedFd>,
}

impl Mapping {
    /// Maps the first `length` bytes of a dma-buf.
    ///
    /// # Errors
    ///
    /// The buffer is smaller, or its exporter refuses `mmap`.
    pub fn of_dmabuf(dmabuf: OwnedFd, length: usize) -> io::Result<Self> {
        // A dma-buf tells its size by seeking; a mapping longer than it would fault on access.
        let size = nix::unistd::lseek(&dmabuf, 0, nix::unistd::Whence::SeekEnd)?;
        if (size as u64) < length as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a framebuffer of {length} bytes lies in a buffer of {size}"),
            ));
        }
        let bytes = map(&dmabuf, 0, length)?;
        Ok(Self { bytes, dmabuf: Some(dmabuf) })
    }

    /// Maps `length` bytes of a card at the offset of a dumb buffer.
    ///
    /// # Errors
    ///
    /// Those of `mmap`.
    pub fn of_card(card: BorrowedFd<'_>, offset: u64, length: usize) -> io::Result<Self> {
        Ok(Self { bytes: map(&card, offset, length)?, dmabuf: None })
    }

    /// Maps `length` bytes of a sealed memfd that another process writes to.
    ///
    /// # Errors
    ///
    /// Those of `mmap`.
    pub fn of_memory(memory: &OwnedFd, length: usize) -> io::Result<Self> {
        Ok(Self { bytes: map(memory, 0, length)?, dmabuf: None })
    }

    /// The buffer for a GPU, where it has a descriptor of its own.
    pub fn dmabuf(&self) -> Option<BorrowedFd<'_>> {
        self.dmabuf.as_ref().map(AsFd::as_fd)
    }

    /// Lets `read` see the bytes between the two halves of DMA_BUF_IOCTL_SYNC, which waits for a
    /// GPU that still draws and makes its writes visible. Failing to sync is no reason not to
    /// look: the exporter then has nothing to wait for.
    pub fn with_bytes<T>(&self, read: impl FnOnce(&[u8]) -> T) -> T {
        self.sync(ioctl::READ);
        let result = read(&self.bytes);
        self.sync(ioctl::READ | ioctl::END);
        result
    }

    fn sync(&self, flags: u64) {
        if let Some(dmabuf) = &self.dmabuf {
            let request = ioctl::Sync { flags };
            // SAFETY: the descriptor is open and the request outlives the call, which only reads
            // it.
            #[allow(unsafe_code)]
            let _ = unsafe { ioctl::sync(dmabuf.as_raw_fd(), &request) };
        }
    }
}

/// Other processes draw into this memory while it is read. All that is ever done with it is
/// comparing and copying bytes, for which every value is valid: a torn read shows a torn picture,
/// and the next look heals it.
fn map(fd: &impl AsFd, offset: u64, length: usize) -> io::Result<Mmap> {
    // SAFETY: see above; the length was checked against the buffer's, which cannot shrink.
    #[allow(unsafe_code)]
    unsafe {
        MmapOptions::new().offset(offset).len(length).map(fd.as_fd().as_raw_fd())
    }
}
