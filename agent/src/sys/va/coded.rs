//! Buffers: parameters for a driver, and what it has encoded.
//!
//! A coded buffer is a chain of segments that the driver describes: no length of it is believed
//! that the buffer has no room for, and no chain is followed for ever.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::rc::Rc;

use super::abi::{self, Id};
use super::{Context, Display, Failure};

/// Segments of a coded buffer.
const SEGMENTS: usize = 256;

/// A buffer of parameters, or of what was encoded.
#[derive(Debug)]
pub struct Buffer {
    display: Rc<Display>,
    id: Id,
    size: usize,
    /// What its parameters point to.
    kept: Option<Box<[abi::Region]>>,
}

impl Buffer {
    pub(super) fn new(
        context: &Context,
        kind: c_int,
        size: usize,
        data: *const c_void,
    ) -> Result<Self, Failure> {
        let (display, mut id) = (context.display(), abi::INVALID_ID);
        // SAFETY: `data` is null or has `size` bytes, which libva copies.
        let status = unsafe {
            (display.library.create_buffer)(
                display.handle,
                context.id,
                kind,
                size as u32,
                1,
                data.cast_mut(),
                &raw mut id,
            )
        };
        display.check("vaCreateBuffer", status)?;
        Ok(Self { display: Rc::clone(display), id, size, kept: None })
    }

    /// Has what its parameters point to live as long as it does.
    pub(super) fn keep(&mut self, regions: Box<[abi::Region]>) {
        self.kept = Some(regions);
    }

    /// libva's number of it.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Copies what was encoded to `out`; yields the status word of the last segment.
    ///
    /// # Errors
    ///
    /// The driver's, or it describes more than the buffer can hold.
    pub fn read_coded(&self, out: &mut Vec<u8>) -> Result<u32, Failure> {
        let (library, handle) = (&self.display.library, self.display.handle);
        let mut data = ptr::null_mut();
        // SAFETY: maps the buffer; one pointer is written.
        self.display.check("vaMapBuffer", unsafe {
            (library.map_buffer)(handle, self.id, &raw mut data)
        })?;
        // SAFETY: the driver yields a chain of segments, valid until the buffer is unmapped; each
        // length is checked against the size of the buffer that they lie in.
        let result = unsafe { read_segments(data.cast(), self.size, out) };
        // SAFETY: mapped above.
        self.display.check("vaUnmapBuffer", unsafe { (library.unmap_buffer)(handle, self.id) })?;
        result
    }
}

/// # Safety
///
/// `segment` is null or the first of a chain of segments, all of which stay meanwhile.
unsafe fn read_segments(
    mut segment: *const abi::CodedSegment,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<u32, Failure> {
    let mut status = 0;
    for _ in 0..SEGMENTS {
        if segment.is_null() {
            return Ok(status);
        }
        // SAFETY: not null, so it is a segment (see above).
        let this = unsafe { *segment };
        let size = this.size as usize;
        if size > limit.saturating_sub(out.len()) || (size > 0 && this.buf.is_null()) {
            return Err(Failure::Lie(format!(
                "a coded segment of {size} bytes in a buffer of {limit}"
            )));
        }
        if size > 0 {
            // SAFETY: the driver says that so many bytes are there, and the buffer can hold them.
            out.extend_from_slice(unsafe { std::slice::from_raw_parts(this.buf.cast(), size) });
        }
        status |= this.status;
        segment = this.next.cast();
    }
    Err(Failure::Lie("a chain of coded segments without an end".into()))
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: made by this display and not used afterwards.
        unsafe { (self.display.library.destroy_buffer)(self.display.handle, self.id) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(bytes: &[u8], next: *const abi::CodedSegment) -> abi::CodedSegment {
        abi::CodedSegment {
            size: bytes.len() as u32,
            bit_offset: 0,
            status: 0,
            reserved: 0,
            buf: bytes.as_ptr().cast_mut().cast(),
            next: next.cast_mut().cast(),
            padding: [0; 4],
        }
    }

    fn read(first: &abi::CodedSegment, limit: usize) -> Result<(u32, Vec<u8>), Failure> {
        let mut out = Vec::new();
        // SAFETY: every test builds its chain of segments that live until its end.
        let status = unsafe { read_segments(first, limit, &mut out) }?;
        Ok((status, out))
    }

    #[test]
    fn segments_are_joined_and_their_marks_too() {
        let mut last = segment(b"world", ptr::null());
        last.status = abi::CODED_OVERFLOW;
        let empty = segment(b"", &raw const last);
        let mut first = segment(b"hello ", &raw const empty);
        first.status = 30;
        let (status, out) = read(&first, 11).expect("fits");
        assert_eq!((status, out.as_slice()), (abi::CODED_OVERFLOW | 30, &b"hello world"[..]));
    }

    #[test]
    fn a_chain_that_lies_is_not_followed() {
        let last = segment(b"world", ptr::null());
        let first = segment(b"hello ", &raw const last);
        assert!(matches!(read(&first, 10), Err(Failure::Lie(_))), "more than there is room for");
        let mut nowhere = segment(b"hello", ptr::null());
        nowhere.buf = ptr::null_mut();
        assert!(matches!(read(&nowhere, 10), Err(Failure::Lie(_))), "bytes at no address");
        let mut huge = segment(b"hello", ptr::null());
        huge.size = u32::MAX;
        assert!(matches!(read(&huge, 10), Err(Failure::Lie(_))), "the whole address space");
        let mut circle = segment(b"", ptr::null());
        circle.next = (&raw mut circle).cast();
        assert!(matches!(read(&circle, 10), Err(Failure::Lie(_))), "no end");
    }
}
