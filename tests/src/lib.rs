//! Machine tests: real guests, a real relay, real viewers.
//!
//! A test reads from top to bottom:
//!
//! ```no_run
//! use std::time::Duration;
//! use transom_tests::{Relay, Uml, Viewer, machine_test};
//!
//! machine_test("a still picture arrives", Duration::from_secs(60), |test| {
//!     let guest = Uml::new(test).boot()?;
//!     guest.start_agent(&[])?;
//!     let mut card = guest.testcard()?;
//!     card.tell("mode 1280x720 XRGB8888")?;
//!     card.tell("still 7")?;
//!     let relay = Relay::start(test, &guest)?;
//!     let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
//!     viewer.wait_frames(1, Duration::from_secs(10))
//! });
//! ```
//!
//! Everything a test starts dies with it, even if the test itself is killed; what was
//! said by whom is kept in `target/machine-tests/<name>/` if the test fails. The harness
//! waits for events with deadlines and never for a time to pass.

mod browser;
pub mod card;
pub mod corpus;
mod guest;
mod host;
pub mod page;
mod picture;
mod player;
pub mod plot;
mod process;
mod qemu;
mod qmp;
mod relay;
mod run;
mod shell;
pub mod talk;
mod transcript;
mod uml;
pub mod va;
mod viewer;
mod vsock;
mod web;
pub mod wine;

pub use browser::Browser;
pub use guest::{Guest, Testcard, other_encoder};
pub use host::{EventLog, Host};
pub use picture::Picture;
pub use player::Player;
pub use process::Process;
pub use qemu::{Bus, Display, Qemu};
pub use relay::{Relay, free_udp_port};
pub use run::{Test, cache_dir, machine_test, project_dir, release_dir};
pub use shell::Output;
pub use transcript::Transcript;
pub use uml::Uml;
pub use viewer::Viewer;
pub use vsock::VsockDevice;
pub use web::Web;
