//! Two UDP sockets on neighbouring ports, RTP on the even one and RTCP above it, as RFC 3550
//! wants them, so that feedback of a receiver that answers to where packets come from finds us.
//!
//! In: runs of packets and where they go. Out: datagrams, many in one system call where the
//! platform can cut them up itself. Waits for a full socket buffer no longer than it is told.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::Range,
    time::Duration,
};

use quinn_udp::{Transmit, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket, time::timeout};

use crate::rtp::Packets;

/// Datagrams in one system call. More saves little, and a burst this long fits into any buffer.
const BATCH: usize = 32;

/// Tries to find two free neighbouring ports.
const PORT_TRIES: usize = 64;

/// The sockets.
#[derive(Debug)]
pub struct Pair {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    /// Segmentation offload, where the platform has it.
    offload: Option<UdpSocketState>,
}

/// Packets that the system did not take, and why.
#[derive(Debug)]
pub struct Lost {
    /// How many.
    pub packets: u64,
    /// Why the first of them.
    pub why: io::Error,
}

impl Pair {
    /// Binds to `ip` and any two free neighbouring ports; call it within the runtime.
    ///
    /// # Errors
    ///
    /// No sockets to be had.
    pub fn bind(ip: IpAddr) -> io::Result<Self> {
        let (rtp, rtcp) = bind_pair(ip)?;
        let offload = UdpSocketState::new((&rtp).into())
            .inspect_err(|e| log::debug!("no segmentation offload: {e}"))
            .ok();
        Ok(Self { rtp, rtcp, offload })
    }

    /// The socket for RTP.
    pub fn rtp(&self) -> &UdpSocket {
        &self.rtp
    }

    /// The socket for RTCP.
    pub fn rtcp(&self) -> &UdpSocket {
        &self.rtcp
    }

    /// Sends some packets of an access unit to `to`, from our address `from` where we have
    /// several. A full socket buffer is waited for `patience` in each run of packets.
    pub async fn send(
        &self,
        to: SocketAddr,
        from: Option<IpAddr>,
        packets: &Packets,
        range: Range<usize>,
        patience: Duration,
    ) -> Result<(), Lost> {
        let (mut at, mut lost) = (range.start, None::<Lost>);
        while at < range.end {
            let most = self.offload.as_ref().map_or(1, |o| o.max_gso_segments()).clamp(1, BATCH);
            let (bytes, segment, count) = packets.run(at, range.end, most);
            match self.send_run(to, from, bytes, segment, patience).await {
                Ok(()) => at += count,
                // The driver cannot do it after all; quinn-udp has taken note.
                Err(_) if self.offload.as_ref().is_some_and(|o| o.max_gso_segments() < most) => {}
                Err(why) => {
                    let lost = lost.get_or_insert(Lost { packets: 0, why });
                    lost.packets += count as u64;
                    at += count;
                }
            }
        }
        lost.map_or(Ok(()), Err)
    }

    async fn send_run(
        &self,
        to: SocketAddr,
        from: Option<IpAddr>,
        bytes: &[u8],
        segment: usize,
        patience: Duration,
    ) -> io::Result<()> {
        loop {
            let sent = match &self.offload {
                Some(offload) => self.rtp.try_io(Interest::WRITABLE, || {
                    let transmit = Transmit {
                        destination: to,
                        ecn: None,
                        contents: bytes,
                        segment_size: (segment < bytes.len()).then_some(segment),
                        src_ip: from,
                    };
                    offload.try_send((&self.rtp).into(), &transmit)
                }),
                None => self.rtp.try_send_to(bytes, to).map(drop),
            };
            match sent {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && !patience.is_zero() => {
                    timeout(patience, self.rtp.writable()).await??;
                }
                sent => return sent,
            }
        }
    }
}

/// Two sockets on neighbouring ports, the first one even.
fn bind_pair(ip: IpAddr) -> io::Result<(UdpSocket, UdpSocket)> {
    let bind = |port| {
        let socket = std::net::UdpSocket::bind((ip, port))?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    };
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..PORT_TRIES {
        let first = bind(0)?;
        let port = first.local_addr()?.port();
        // The odd one is as good a start: its even neighbour below it completes the pair.
        match bind(port ^ 1) {
            Ok(second) if port % 2 == 0 => return Ok((first, second)),
            Ok(second) => return Ok((second, first)),
            Err(e) => last = e,
        }
    }
    Err(last)
}
