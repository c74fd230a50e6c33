//! Receivers of plain RTP that read everything and look at nothing but its header.

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};

/// Receive buffer to ask for: half a second at 50 Mb/s, so that what is lost was lost on the way.
const BUFFER: usize = 3 << 20;
/// Bytes of RTP's header.
const HEADER: usize = 12;

/// What came in, over all receivers.
#[derive(Clone, Copy)]
pub struct Counts {
    /// Receivers that have got something.
    pub reached: u64,
    /// Packets.
    pub packets: u64,
    /// Their bytes, RTP's header included.
    pub bytes: u64,
    /// Gaps in sequence numbers.
    pub lost: u64,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    reached: AtomicU64,
    packets: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
}

/// The receivers; dropped means closed.
pub struct Drain {
    ports: Vec<u16>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Drain {
    /// Opens so many.
    pub fn open(count: usize) -> Result<Self> {
        let mut sockets = Vec::new();
        while sockets.len() < count {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            // RTP's ports are even, and RTCP's above them are free of others.
            if socket.local_addr()?.port() % 2 == 0 {
                // Without the right to more than the system's limit, that is what it is.
                if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
                    setsockopt(&socket, sockopt::RcvBuf, &BUFFER)?;
                }
                sockets.push(socket);
            }
        }
        let ports: Result<Vec<_>, _> =
            sockets.iter().map(|s| s.local_addr().map(|a| a.port())).collect();
        let shared = Arc::new(Shared::default());
        let counted = Arc::clone(&shared);
        let thread = std::thread::spawn(move || drain(&sockets, &counted));
        Ok(Self { ports: ports?, shared, thread: Some(thread) })
    }

    /// Where they are.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// What came in so far.
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        Counts {
            reached: shared.reached.load(Relaxed),
            packets: shared.packets.load(Relaxed),
            bytes: shared.bytes.load(Relaxed),
            lost: shared.lost.load(Relaxed),
        }
    }

    /// Waits until each of them gets something.
    pub fn wait(&self) -> Result<()> {
        super::wait("a packet for every receiver", || {
            Ok(self.counts().reached == self.ports.len() as u64)
        })
        .context("who sends?")
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn drain(sockets: &[UdpSocket], shared: &Shared) {
    let mut expected: Vec<Option<u16>> = vec![None; sockets.len()];
    let mut fds: Vec<_> =
        sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
    let mut header = [0; HEADER];
    while !shared.over.load(Relaxed) {
        if poll(&mut fds, PollTimeout::from(100u8)).is_err() {
            continue;
        }
        for ((socket, fd), expected) in sockets.iter().zip(&fds).zip(&mut expected) {
            if fd.any() != Some(true) {
                continue;
            }
            loop {
                // Of the rest only the length matters.
                let flags = MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
                match recv(socket.as_raw_fd(), &mut header, flags) {
                    Ok(length) => {
                        let number = u16::from_be_bytes([header[2], header[3]]);
                        let gap = expected.map(|expected| number.wrapping_sub(expected));
                        // Larger ones are packets that come late, which loopback does not do.
                        let gap = gap.filter(|gap| *gap < 1 << 15).unwrap_or(0);
                        if expected.replace(number.wrapping_add(1)).is_none() {
                            shared.reached.fetch_add(1, Relaxed);
                        }
                        shared.packets.fetch_add(1, Relaxed);
                        shared.bytes.fetch_add(length as u64, Relaxed);
                        shared.lost.fetch_add(gap.into(), Relaxed);
                    }
                    Err(Errno::EINTR) => {}
                    Err(_) => break,
                }
            }
        }
    }
}
