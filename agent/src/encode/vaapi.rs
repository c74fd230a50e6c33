//! H.264 and HEVC by VA-API, in a process of its own.
//!
//! ```text
//!   agent ── planes, to be read alone ─────────────────▶ helper ──▶ libva ──▶ driver
//!     ◀───── access unit, checked ──── shared memory ◀──   │
//!     ── what to do, dma-bufs ────── socket ───────────────┘
//! ```
//!
//! Drivers hang, lie and crash; none of that may take the stream along. The helper is this same
//! program (`transom-agent encode-helper`) without any capability, with the driver's environment.
//! Restarting the whole agent by systemd was the alternative: it would cost the connection and a
//! second without a picture, where killing a helper costs one frame's deadline.
//!
//! [`Remote`] is the agent's side, [`serve`] the helper's, [`session`] the encoder itself,
//! [`candidates`] says which drivers are worth a try.

pub mod candidates;
pub mod check;
mod convert;
mod headers;
pub mod hevc;
pub mod message;
mod parameters;
mod profile;
mod refresh;
mod remote;
mod serve;
mod session;

pub use message::{Access, Opened, Source};
pub use parameters::Rate;
pub use remote::{Coded, Progress, Remote};
pub use serve::serve;

/// Why VA-API gave no frame.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VaapiError {
    /// The helper could not be started or talked to.
    #[error("the helper process: {0}")]
    Helper(String),
    /// The helper ended by itself: the driver has crashed it.
    #[error("the driver's process ended: {0}")]
    Died(String),
    /// No answer in time.
    #[error("no answer from the driver in {0} ms")]
    Late(u128),
    /// libva or the driver said no.
    #[error("{0}")]
    Driver(String),
    /// What came out is not the stream that was asked for.
    #[error("the driver's output is wrong: {0}")]
    Output(#[from] check::Wrong),
    /// There is no candidate left.
    #[error("no VA-API driver is usable: {0}")]
    None(String),
}
