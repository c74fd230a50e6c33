//! Framing without input or output: bytes in, frames out, and back.
//!
//! ```text
//!  0               4               8
//! +---------------+---------------+-------------------+----------------+
//! | message bytes | bulk bytes    | message (postcard)| bulk           |
//! | u32, LE       | u32, LE       |                   |                |
//! +---------------+---------------+-------------------+----------------+
//! ```
//!
//! [`encode`] writes prefix and message; the caller sends the bulk behind it from where it lies.
//! [`Decoder`] hands out the place where the next bytes belong, so that a bulk is read straight
//! into its own allocation. Lengths are checked against [`Limits`] before anything is allocated,
//! and a bulk grows with the bytes that really arrive: a peer that only promises costs nothing.

use serde::{Serialize, de::DeserializeOwned};

use crate::{MAX_BULK, MAX_MESSAGE, diagnostics};

/// Bytes before the message: two little-endian lengths.
pub const PREFIX: usize = 8;

/// What a decoder asks for when no frame is under way. Large enough that small messages arrive in
/// one read, small enough that the bulk bytes caught with them are cheap to move.
const READ_AHEAD: usize = 2048;

/// First allocation for a bulk; later ones at most double what has arrived. The longest that a
/// diagnostic message has: these come by the thousand, and copies of them would be most of the cost.
const BULK_STEP: usize = diagnostics::MAX_DATA as usize;

/// Why bytes from the peer could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The prefix announces a message longer than allowed; the connection is beyond repair.
    #[error("a message of {length} bytes was announced, at most {limit} are allowed")]
    MessageTooLong {
        /// Announced bytes.
        length: u32,
        /// Allowed bytes.
        limit: u32,
    },
    /// The prefix announces a bulk longer than allowed here; the connection is beyond repair.
    #[error("{length} bulk bytes were announced, at most {limit} are allowed here")]
    BulkTooLong {
        /// Announced bytes.
        length: u32,
        /// Allowed bytes.
        limit: u32,
    },
    /// The message is of a kind that this side does not know; the next frame can be read.
    #[error("message kind {kind} is not known here")]
    UnknownKind {
        /// The variant's index.
        kind: u32,
    },
    /// The bytes are no message of the expected type.
    #[error("a message of {length} bytes does not parse")]
    Malformed {
        /// Length of the message.
        length: usize,
    },
}

/// What one connection accepts.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes in a message.
    pub message: u32,
    /// Bytes in a bulk.
    pub bulk: u32,
}

impl Limits {
    /// Messages alone: what an agent accepts from its host, and a host on the control connection.
    pub const MESSAGES: Self = Self { message: MAX_MESSAGE, bulk: 0 };
    /// Messages with a little bulk: what both sides accept on a diagnostic connection.
    pub const DIAGNOSTICS: Self = Self { message: MAX_MESSAGE, bulk: diagnostics::MAX_DATA };
    /// Messages with bulk: what a host accepts on the media connection.
    pub const MEDIA: Self = Self { message: MAX_MESSAGE, bulk: MAX_BULK };
}

/// A message type that opens with its kind: an enum whose variants postcard numbers from 0.
pub trait Message: Serialize + DeserializeOwned {
    /// Number of kinds known here; a larger one means a newer peer, not broken bytes.
    const KINDS: u32;
}

/// Appends prefix and message to `out`; `bulk` is the length of what the caller sends behind it.
///
/// # Panics
///
/// Never for the messages of this crate whose texts obey [`crate::MAX_TEXT`]: they are
/// serialisable and shorter than [`MAX_MESSAGE`] by construction.
pub fn encode<M: Serialize>(message: &M, bulk: u32, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    // Serialising into a growing Vec fails only for types that postcard cannot express at all.
    let taken = std::mem::take(out);
    *out = postcard::to_extend(message, taken).expect("messages are made of postcard's own types");
    let length = (out.len() - start - PREFIX) as u32;
    debug_assert!(length <= MAX_MESSAGE);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + PREFIX].copy_from_slice(&bulk.to_le_bytes());
}

/// Reads one enum message. An unknown variant is told apart from broken bytes.
///
/// # Errors
///
/// [`WireError::UnknownKind`] and [`WireError::Malformed`].
pub fn decode<M: Message>(message: &[u8]) -> Result<M, WireError> {
    match postcard::take_from_bytes::<u32>(message) {
        Ok((kind, _)) if kind >= M::KINDS => Err(WireError::UnknownKind { kind }),
        _ => decode_hello(message),
    }
}

/// Reads a message whose unknown trailing bytes are ignored, so that it can grow.
///
/// # Errors
///
/// [`WireError::Malformed`].
pub fn decode_hello<M: DeserializeOwned>(message: &[u8]) -> Result<M, WireError> {
    match postcard::take_from_bytes(message) {
        Ok((value, _newer_fields)) => Ok(value),
        Err(_) => Err(WireError::Malformed { length: message.len() }),
    }
}

/// One frame as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The encoded message; read it with [`decode`].
    pub message: Vec<u8>,
    /// The bytes behind it.
    pub bulk: Vec<u8>,
}

/// Cuts a stream of bytes into frames.
///
/// Read into [`Decoder::space`], tell the count with [`Decoder::advance`], then drain
/// [`Decoder::poll_frame`] until it yields `None`.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// Prefix, message and whatever was read ahead; valid up to `head_filled`.
    head: Vec<u8>,
    head_filled: usize,
    /// The frame whose bulk is under way: its message, its bulk so far, the bulk's full length.
    body: Option<Body>,
    /// Memory for the next bulk.
    spare: Vec<u8>,
}

#[derive(Debug)]
struct Body {
    message: Vec<u8>,
    bulk: Vec<u8>,
    filled: usize,
    length: usize,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(limits: Limits) -> Self {
        Self { limits, head: vec![0; READ_AHEAD], head_filled: 0, body: None, spare: Vec::new() }
    }

    /// What is accepted from here on: a hello tells what a connection is for. Bytes that were
    /// read ahead are judged by the new limits.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Where the next bytes belong; never empty once [`Decoder::poll_frame`] has yielded `None`.
    pub fn space(&mut self) -> &mut [u8] {
        match &mut self.body {
            Some(body) => {
                if body.filled == body.bulk.len() {
                    let step = body.filled.max(BULK_STEP).min(body.length - body.filled);
                    body.bulk.resize(body.filled + step, 0);
                }
                &mut body.bulk[body.filled..]
            }
            None => {
                if self.head_filled == self.head.len() {
                    // Only a message longer than the read-ahead gets here; its length is checked.
                    let most = PREFIX + self.limits.message as usize;
                    self.head.resize(most.max(self.head_filled + READ_AHEAD), 0);
                }
                &mut self.head[self.head_filled..]
            }
        }
    }

    /// `count` bytes were written to the front of [`Decoder::space`].
    pub fn advance(&mut self, count: usize) {
        match &mut self.body {
            Some(body) => body.filled = (body.filled + count).min(body.bulk.len()),
            None => self.head_filled = (self.head_filled + count).min(self.head.len()),
        }
    }

    /// The next whole frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// A length over the limit. The stream cannot be continued after that.
    pub fn poll_frame(&mut self) -> Result<Option<Frame>, WireError> {
        if self.body.is_none() && !self.begin_body()? {
            return Ok(None);
        }
        match self.body.take() {
            Some(body) if body.filled == body.length => {
                Ok(Some(Frame { message: body.message, bulk: body.bulk }))
            }
            unfinished => {
                self.body = unfinished;
                Ok(None)
            }
        }
    }

    /// Whether a frame has begun whose end has not come yet; then more can be read into
    /// [`Decoder::space`] before the next [`Decoder::poll_frame`].
    pub fn is_within_bulk(&mut self) -> bool {
        // A length over the limit is told by the next poll.
        let begun = self.body.is_some() || self.begin_body().unwrap_or(false);
        begun && self.body.as_ref().is_some_and(|body| body.filled < body.length)
    }

    /// Takes back the memory of a bulk that is done with, for the next.
    pub fn recycle(&mut self, bulk: Vec<u8>) {
        self.spare = bulk;
    }

    /// Takes bytes that somebody else has read, at the start of a stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.head.truncate(self.head_filled);
        self.head.extend_from_slice(bytes);
        self.head_filled = self.head.len();
        self.head.resize(self.head_filled.max(READ_AHEAD), 0);
    }

    /// Appends what was read and not yet yielded as a frame: for somebody else to [`feed`].
    ///
    /// [`feed`]: Decoder::feed
    pub fn unread(&self, out: &mut Vec<u8>) {
        if let Some(body) = &self.body {
            out.extend_from_slice(&(body.message.len() as u32).to_le_bytes());
            out.extend_from_slice(&(body.length as u32).to_le_bytes());
            out.extend_from_slice(&body.message);
            out.extend_from_slice(&body.bulk[..body.filled]);
        }
        out.extend_from_slice(&self.head[..self.head_filled]);
    }

    /// Whether the stream may end here without cutting a frame in two.
    pub fn is_between_frames(&self) -> bool {
        self.body.is_none() && self.head_filled == 0
    }

    /// Moves a complete message out of the head, with the bulk bytes read ahead behind it.
    fn begin_body(&mut self) -> Result<bool, WireError> {
        let Some((prefix, _)) = self.head[..self.head_filled].split_first_chunk::<PREFIX>() else {
            return Ok(false);
        };
        let [a, b, c, d, e, f, g, h] = *prefix;
        let (message, bulk) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if message > self.limits.message {
            return Err(WireError::MessageTooLong { length: message, limit: self.limits.message });
        }
        if bulk > self.limits.bulk {
            return Err(WireError::BulkTooLong { length: bulk, limit: self.limits.bulk });
        }
        let (message_end, length) = (PREFIX + message as usize, bulk as usize);
        if self.head_filled < message_end {
            return Ok(false);
        }
        let ahead = (self.head_filled - message_end).min(length);
        let mut bulk = std::mem::take(&mut self.spare);
        bulk.clear();
        bulk.extend_from_slice(&self.head[message_end..message_end + ahead]);
        self.body = Some(Body {
            message: self.head[PREFIX..message_end].to_vec(),
            bulk,
            filled: ahead,
            length,
        });
        self.head.copy_within(message_end + ahead..self.head_filled, 0);
        self.head_filled -= message_end + ahead;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{GuestMedia, HostControl, StreamId};
    use proptest::prelude::*;

    /// Feeds `bytes` in pieces of the given sizes and collects the frames.
    fn run(
        bytes: &[u8],
        mut pieces: impl Iterator<Item = usize>,
        limits: Limits,
    ) -> Result<Vec<Frame>, WireError> {
        let (mut decoder, mut rest, mut frames) = (Decoder::new(limits), bytes, Vec::new());
        loop {
            while let Some(frame) = decoder.poll_frame()? {
                frames.push(frame);
            }
            if rest.is_empty() {
                return Ok(frames);
            }
            let space = decoder.space();
            assert!(!space.is_empty(), "a decoder that wants bytes must have room for them");
            let n = pieces.next().unwrap_or(1).clamp(1, space.len().min(rest.len()));
            space[..n].copy_from_slice(&rest[..n]);
            decoder.advance(n);
            rest = &rest[n..];
        }
    }

    #[test]
    fn a_bulk_can_be_read_to_its_end_without_a_poll() {
        let mut bytes = Vec::new();
        encode(&HostControl::RequestIdr { stream: StreamId(1) }, 10_000, &mut bytes);
        bytes.resize(bytes.len() + 10_000, 7);
        let (mut decoder, mut rest) = (Decoder::new(Limits::MEDIA), &bytes[..]);
        assert!(!decoder.is_within_bulk());
        loop {
            let space = decoder.space();
            let n = space.len().min(rest.len()).min(3000);
            space[..n].copy_from_slice(&rest[..n]);
            decoder.advance(n);
            rest = &rest[n..];
            if !decoder.is_within_bulk() {
                break;
            }
        }
        assert!(rest.is_empty());
        let frame = decoder.poll_frame().expect("within limits").expect("it is whole");
        assert_eq!(frame.bulk, [7; 10_000]);
        assert!(!decoder.is_within_bulk() && decoder.is_between_frames());
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            bulks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 1..8),
            cuts in prop::collection::vec(1usize..4000, 1..64),
        ) {
            let mut bytes = Vec::new();
            for (i, bulk) in bulks.iter().enumerate() {
                encode(&HostControl::RequestIdr { stream: StreamId(i as u8) }, bulk.len() as u32, &mut bytes);
                bytes.extend_from_slice(bulk);
            }
            let frames = run(&bytes, cuts.into_iter().cycle(), Limits::MEDIA).expect("all is within limits");
            prop_assert_eq!(frames.len(), bulks.len());
            for (i, (frame, bulk)) in frames.iter().zip(&bulks).enumerate() {
                prop_assert_eq!(&frame.bulk, bulk);
                prop_assert_eq!(
                    decode::<HostControl>(&frame.message),
                    Ok(HostControl::RequestIdr { stream: StreamId(i as u8) })
                );
            }
        }

        #[test]
        fn another_decoder_goes_on_anywhere(
            bulks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 1..6),
            cut in any::<prop::sample::Index>(), drained in any::<bool>(),
        ) {
            let mut bytes = Vec::new();
            for bulk in &bulks {
                encode(&HostControl::Goodbye, bulk.len() as u32, &mut bytes);
                bytes.extend_from_slice(bulk);
            }
            let (before, after) = bytes.split_at(cut.index(bytes.len()));
            let (mut first, mut second) = (Decoder::new(Limits::MEDIA), Decoder::new(Limits::MEDIA));
            first.feed(before);
            let mut frames = Vec::new();
            // Whether nothing was taken out yet, or all that is whole.
            while let Some(frame) = if drained { first.poll_frame().expect("limits") } else { None } {
                frames.push(frame.bulk);
            }
            let mut unread = Vec::new();
            first.unread(&mut unread);
            unread.extend_from_slice(after);
            second.feed(&unread);
            while let Some(frame) = second.poll_frame().expect("limits") {
                frames.push(frame.bulk);
            }
            prop_assert_eq!(frames, bulks);
            prop_assert!(second.is_between_frames());
        }

        #[test]
        fn random_bytes_never_panic_nor_swell(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let _ = run(&bytes, [7, 300].into_iter().cycle(), Limits::MEDIA);
            let _ = decode::<HostControl>(&bytes);
            let _ = decode::<GuestMedia>(&bytes);
        }
    }

    #[test]
    fn long_messages_outgrow_the_read_ahead() {
        let mut bytes = (3000u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&[9; 3000]);
        let frames = run(&bytes, std::iter::repeat(5000), Limits::MESSAGES).expect("within limits");
        assert_eq!(frames[0].message, vec![9; 3000]);
    }

    #[test]
    fn lengths_over_the_limit_are_refused_before_allocation() {
        let prefix = |m: u32, b: u32| [m.to_le_bytes(), b.to_le_bytes()].concat();
        let refused = |m, b, limits| {
            run(&prefix(m, b), std::iter::repeat(8), limits).expect_err("over the limit")
        };
        assert_eq!(
            refused(MAX_MESSAGE + 1, 0, Limits::MEDIA),
            WireError::MessageTooLong { length: MAX_MESSAGE + 1, limit: MAX_MESSAGE }
        );
        assert_eq!(refused(4, 1, Limits::MESSAGES), WireError::BulkTooLong { length: 1, limit: 0 });
        assert_eq!(
            refused(4, u32::MAX, Limits::MEDIA),
            WireError::BulkTooLong { length: u32::MAX, limit: MAX_BULK }
        );
    }

    #[test]
    fn a_promised_bulk_costs_no_memory_until_it_arrives() {
        let mut decoder = Decoder::new(Limits::MEDIA);
        let mut bytes = Vec::new();
        encode(&HostControl::Goodbye, MAX_BULK, &mut bytes);
        decoder.space()[..bytes.len()].copy_from_slice(&bytes);
        decoder.advance(bytes.len());
        assert_eq!(decoder.poll_frame(), Ok(None));
        assert_eq!(decoder.space().len(), BULK_STEP);
        assert!(!decoder.is_between_frames());
    }

    #[test]
    fn unknown_kinds_are_told_apart_from_broken_bytes() {
        assert_eq!(decode::<HostControl>(&[99]), Err(WireError::UnknownKind { kind: 99 }));
        assert_eq!(decode::<HostControl>(&[]), Err(WireError::Malformed { length: 0 }));
        assert_eq!(decode::<HostControl>(&[1]), Err(WireError::Malformed { length: 1 }));
    }
}
