//! The least that forwards frames from a Unix socket as RTP, for `make bench` to compare with: it
//! blocks on one socket, cuts what it reads into one buffer and sends that in one system call.
//!
//!     forwarder SOCKET HOST:PORT
//!
//! In: frames behind their length, 32 bits. Out: RTP with fragments of H.264. It has no state, no
//! clock, no second receiver and no way back.

use std::io::{BufReader, IoSlice, Read};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Longest packet, as the relay's.
const PACKET: usize = 1200;
/// RTP's header and that of a fragment.
const HEADER: usize = 14;
/// Packets in a system call: what fits into the longest datagram before it is cut.
const BATCH: usize = 50;
const LONGEST: usize = 1 << 24;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, target] = &args[..] else { anyhow::bail!("forwarder SOCKET HOST:PORT") };
    // A frame and its length in one call, mostly.
    let mut input = BufReader::with_capacity(1 << 17, UnixStream::connect(path)?);
    let output = UdpSocket::bind("127.0.0.1:0")?;
    output.connect(target).with_context(|| format!("cannot send to {target}"))?;
    let (mut sequence, mut stamp) = (0u16, 0u32);
    let (mut length, mut frame, mut packets) = ([0; 4], Vec::new(), Vec::new());
    while input.read_exact(&mut length).is_ok() {
        let length = u32::from_be_bytes(length) as usize;
        ensure!(length <= LONGEST, "a frame of {length} bytes");
        frame.resize(length, 0);
        input.read_exact(&mut frame)?;
        stamp = stamp.wrapping_add(1500);
        packets.clear();
        let parts = length.div_ceil(PACKET - HEADER);
        for (i, part) in frame.chunks(PACKET - HEADER).enumerate() {
            let marker = if i + 1 == parts { 0x80 } else { 0 };
            packets.extend_from_slice(&[0x80, marker | 96]);
            packets.extend_from_slice(&sequence.to_be_bytes());
            packets.extend_from_slice(&stamp.to_be_bytes());
            packets.extend_from_slice(&[0, 0, 0, 1, 0x7c, 0x41]);
            packets.extend_from_slice(part);
            sequence = sequence.wrapping_add(1);
        }
        for batch in packets.chunks(PACKET * BATCH) {
            let (segment, fd) = (PACKET as u16, output.as_raw_fd());
            let cut = [ControlMessage::UdpGsoSegments(&segment)];
            let cut = if batch.len() > PACKET { &cut[..] } else { &[] };
            sendmsg::<()>(fd, &[IoSlice::new(batch)], cut, MsgFlags::empty(), None)?;
        }
    }
    Ok(())
}
