//! Notes when the packets of RTP pictures arrive. Runs inside a guest, or anywhere.
//!
//!     rtplog PORT
//!
//! One line for each picture that comes by loopback: when its first packet was read, in nanoseconds
//! of the monotonic clock. Packets are not put in order: on loopback they come in it.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

/// RFC 3550, 5.1: up to the SSRC.
const HEADER: usize = 12;

fn main() -> Result<()> {
    let port: u16 = std::env::args().nth(1).context("usage: rtplog PORT")?.parse()?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    let mut packet = [0; 2048];
    let mut picture = None;
    println!("ready");
    loop {
        let count = socket.recv(&mut packet)?;
        if count < HEADER || packet[0] >> 6 != 2 {
            continue;
        }
        let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        if picture.replace(timestamp) != Some(timestamp) {
            let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
            println!("{}", now.tv_sec() * 1_000_000_000 + now.tv_nsec());
        }
    }
}
