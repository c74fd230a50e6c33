//! Notes when the packets of RTP pictures arrive. Runs inside a guest, or anywhere.
//!
//!     rtplog PORT
//!
//! One line for each picture whose last packet has come, on loopback:
//! `TIMESTAMP FIRST LAST`, the two times in nanoseconds of the monotonic clock, taken when the
//! packet was read. Packets are not put in order: on loopback they come in it.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

/// RFC 3550, 5.1: up to the SSRC.
const HEADER: usize = 12;

fn main() -> Result<()> {
    let port: u16 = std::env::args().nth(1).context("usage: rtplog PORT")?.parse()?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    let mut packet = [0; 2048];
    let mut picture: Option<(u32, i64)> = None;
    println!("ready");
    loop {
        let count = socket.recv(&mut packet)?;
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        let now = now.tv_sec() * 1_000_000_000 + now.tv_nsec();
        if count < HEADER || packet[0] >> 6 != 2 {
            continue;
        }
        let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        let (_, first) = *match &mut picture {
            Some(picture) if picture.0 == timestamp => picture,
            other => other.insert((timestamp, now)),
        };
        if packet[1] >> 7 == 1 {
            println!("{timestamp} {first} {now}");
        }
    }
}
