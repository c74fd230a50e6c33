//! The host's side of Transom: takes the screen of a guest over vsock and sends it to viewers.
//!
//! ```text
//!   guest ──▶ guest.rs ──▶ session.rs ──▶ video.rs ─┬▶ rtp.rs ──▶ pacer.rs ──▶ output/udp.rs ──▶ viewers
//!   (agent)   connect      what was said            ├▶ rtcp.rs  (and back: feedback)
//!                └─ clock.rs: the guest's clock     └▶ sets.rs ──▶ sdp.rs ──▶ SDP file
//!                                └▶ feed.rs ──▶ all other viewers (and back: wishes, input.rs)
//!                                  ├▶ rtsp.rs ──▶ players
//!                                  ├▶ webrtc.rs ◀── http.rs ◀── browsers (access.rs, control.rs)
//!                                  └▶ ts.rs ──▶ http.rs ──▶ players that open an address
//!             relay.rs supervises; stats.rs measures; status.rs tells the user
//! ```
//!
//! Everything with logic in it takes bytes and `now` and touches no socket.

pub mod access;
pub mod bench;
pub mod clock;
pub mod control;
pub mod diag;
pub mod feed;
pub mod guest;
pub mod h264;
pub mod http;
pub mod input;
pub mod link;
pub mod list;
pub mod metrics;
pub mod output;
pub mod pacer;
pub mod relay;
pub mod rtcp;
pub mod rtp;
pub mod rtsp;
pub mod sdp;
pub mod service;
pub mod session;
pub mod sets;
pub mod stats;
pub mod status;
pub mod ts;
pub mod video;
pub mod vm;
pub mod webrtc;
