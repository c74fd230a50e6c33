//! The relay's paths, and the agent's conversion, side by side with what a user would pick instead:
//! `make bench`.
//!
//! Parts of this program and not one of their own: they keep their measurements as it does, and write
//! to the same page. They need no guest. A recording stands in for it, which is played to a relay as
//! users have it, a process behind a hybrid vsock socket. Everything is sent within a network that
//! this program makes for itself and its children: nobody else is on it, and it has an address beside
//! loopback, without which Janus serves nobody.
//!
//! Ours and the other take turns, and only one of them runs at a time. What is measured has a
//! processor to itself where there are two; this program, which plays and receives, has the other.

mod bottleneck;
pub mod capacity;
pub mod convert;
mod cores;
mod drain;
pub mod fan_out;
mod forward;
mod guest;
mod http;
mod janus;
pub mod latency;
pub mod loss;
mod lossy;
pub mod memory;
mod pictures;
mod recording;
pub mod scale;
mod viewer;
pub mod webrtc;

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How often ours and the other's turn comes.
const ROUNDS: u64 = 3;
/// Between the first packet and the first look at a counter.
const SETTLE: Duration = Duration::from_millis(700);
/// Between two looks at a counter.
const INTERVAL: Duration = Duration::from_secs(2);
/// For what takes moments, on a machine under load.
const SOON: Duration = Duration::from_secs(30);

/// The address of the network's interface, from a range for examples, and its name.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const INTERFACE: &str = "bench0";
/// Set once this program runs in a network of its own.
const ALONE: &str = "TRANSOM_BENCH_ALONE";

/// Goes to a network of its own: runs this program anew in it, unless that was done.
pub fn go_apart() -> Result<()> {
    if std::env::var_os(ALONE).is_none() {
        let mut command = Command::new("unshare");
        command.arg("--net");
        if !nix::unistd::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(ALONE, "1");
        return Err(command.exec()).context("cannot run unshare");
    }
    let address = format!("{ADDRESS}/24");
    for line in [
        "link set lo up",
        &format!("link add {INTERFACE} type veth peer name bench1"),
        &format!("addr add {address} dev {INTERFACE}"),
        &format!("link set {INTERFACE} up"),
        "link set bench1 up",
    ] {
        let status = Command::new("ip").args(line.split(' ')).status().context("cannot run ip")?;
        ensure!(status.success(), "ip {line} failed");
    }
    Ok(())
}

/// Waits for something that can only be looked at.
fn wait(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + SOON;
    while !done()? {
        ensure!(Instant::now() < end, "{what}: not within {SOON:?}");
        // The pause decides nothing but when we look.
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
