//! The agent in the guest: grabs the scanout, encodes it, streams it to the host.
//!
//! ```text
//!   kernel ──▶ capture ──▶ picture ──▶ encode ──▶ hub ──▶ link ──▶ host
//!              (KMS)     (damage,     (H.264)       ▲
//!                         4:2:0)                    └── orders ── link ◀── host
//! ```
//!
//! Beside it, [`diag`] answers questions about all of this, on connections of their own, and
//! [`watchdog`] names a stage that does not move any more.
//!
//! Plain threads, no runtime: one for the pipeline, one to accept, one for each connection. A
//! module imports from those to its left and from `sys`; only `main.rs` knows all of them.

pub mod allowance;
pub mod capture;
pub mod clock;
pub mod convert;
pub mod damage;
pub mod diag;
pub mod encode;
pub mod helper;
pub mod hub;
pub mod input;
pub mod link;
pub mod meter;
pub mod mirror;
pub mod picture;
pub mod pipeline;
pub mod pixels;
pub mod probe;
pub mod records;
pub mod session;
pub mod sys;
pub mod usage;
pub mod watchdog;
