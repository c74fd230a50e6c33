//! The conversation between the agent in a guest and the relay on its host.
//!
//! The guest listens on vsock port [`PORT`]; the host connects, once per [`Role`]. Everything on
//! the wire is a *frame* ([`wire`]): an eight-byte prefix, one postcard-encoded message
//! ([`message`]), and bulk bytes behind it that are never copied into a message.
//!
//! ```text
//!    host                                                     guest
//! 1. connect ───────────────────────────────────────────────▶ accept (CID 2 only)
//! 2. HostHello { versions, session, role, … } ──────────────▶
//! 3.   ◀─────────────── GuestHello::Welcome { version, … } or Refused(why), then close
//!
//!    on the connection with Role::CONTROL
//! 4.   ◀────────────────────────── GuestControl::Display, at once and at every change
//! 5. HostControl::Ping ─────────────────────────────────────▶
//!      ◀────────────────────────── GuestControl::Pong (two guest times: offset and round trip)
//! 6. HostControl::RequestIdr, SetBitrate, SetFrameRate,
//!    SetChroma, SetCodec, RequestRefresh ───────────────────▶   take effect with the next frame
//! 7.   ◀────────────────────────── GuestControl::Report, once a second
//!
//!    on the connection with Role::MEDIA, opened second, with the same session
//! 8.   ◀────────────────────────── GuestMedia::StreamStart, then an IDR
//! 9.   ◀────────────────────────── GuestMedia::AccessUnit + bulk, …
//! 10.  ◀────────────────────────── GuestMedia::StreamStop when there is nothing to show
//!
//!    on connections with Role::INPUT and Role::DIAGNOSTICS: see [`input`] and [`diagnostics`]
//!
//!    on control and media
//! 11. HostControl::Goodbye ──▶ / ◀── GuestControl::Goodbye, then close
//! ```
//!
//! A peer that joins late is brought up to date by the same messages (4 and 8). A newer host takes
//! the place of an older one: the older is told [`message::Farewell::Replaced`] and must not fight
//! for it.
//!
//! # Versions
//!
//! Both sides name the range of versions they speak; the guest picks the highest common one.
//! Within a version, enums only ever grow at their end and structs never change. A message whose
//! variant is unknown is answered with [`message::GuestControl::Unsupported`] and skipped. Bytes behind the
//! known fields of a hello are ignored, so that a hello can grow for good.
//!
//! # What this crate refuses to do
//!
//! No sockets, no clocks, no threads. Every limit is a public constant that is checked before
//! memory is set aside.

pub mod diagnostics;
pub mod gpu;
pub mod input;
pub mod message;
pub mod wire;

/// The vsock port on which the agent listens: "tr" in ASCII. On Hyper-V it becomes the service
/// GUID `00007472-facb-11e6-bd58-64006a7986d3`.
pub const PORT: u32 = 0x7472;

/// The oldest protocol version that this crate still speaks.
pub const VERSION_MIN: u16 = 1;

/// The newest protocol version that this crate speaks.
pub const VERSION_MAX: u16 = 1;

/// Longest postcard message in bytes. The longest is a check with two lines of
/// [`diagnostics::MAX_LINE`] in it.
pub const MAX_MESSAGE: u32 = 8 * 1024;

/// Longest bulk in bytes. An IDR of a noisy 2160p screen at the lowest quantiser stays below it.
pub const MAX_BULK: u32 = 8 * 1024 * 1024;

/// Longest text in bytes, unless its type says otherwise (names, versions, reasons); longer ones
/// are cut by the sender and refused by the receiver.
pub const MAX_TEXT: usize = 255;

/// How much one write to a vsock may carry, in bytes. hv_sock chops into 4 KiB packets anyway, and
/// from Linux 6.17 on virtio-vsock turns larger writes into packets of several descriptors that
/// some hosts refuse.
pub const MAX_WRITE: usize = 16 * 1024;

pub use message::{
    BitRate, Capabilities, Chroma, FrameNumber, GuestTime, HostTime, Role, SessionId, StreamId,
};
