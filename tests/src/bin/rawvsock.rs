//! A vsock stream with nothing on it but bytes: what a copy is measured against. Runs inside a
//! guest.
//!
//!     rawvsock PORT
//!
//! Each connection opens with a letter and a count, eight bytes, little-endian: `r` has so many
//! bytes sent, `w` has so many taken, and one byte told behind them.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail, ensure};
use transom_protocol::MAX_WRITE;
use vsock::{VMADDR_CID_ANY, VsockListener, VsockStream};

/// As much as is read at a time.
const PIECE: usize = 256 * 1024;

fn main() -> Result<()> {
    let port = std::env::args().nth(1).context("usage: rawvsock PORT")?.parse()?;
    let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port)?;
    for stream in listener.incoming() {
        if let Err(error) = serve(stream?) {
            eprintln!("rawvsock: {error:#}");
        }
    }
    Ok(())
}

fn serve(mut stream: VsockStream) -> Result<()> {
    let mut order = [0; 9];
    stream.read_exact(&mut order)?;
    let [way, count @ ..] = order;
    let mut left = u64::from_le_bytes(count);
    let mut piece = vec![7; PIECE];
    while left > 0 {
        let most = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = match way {
            // Larger writes never arrive through some hosts.
            b'r' => stream.write(&piece[..most.min(MAX_WRITE)])?,
            b'w' => stream.read(&mut piece[..most])?,
            other => bail!("{other} is no way"),
        };
        ensure!(count > 0, "the host left");
        left -= count as u64;
    }
    if way == b'w' {
        stream.write_all(&[1])?;
    }
    Ok(())
}
