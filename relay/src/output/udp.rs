//! Plain RTP over UDP, to unicast and multicast targets.
//!
//! In: the packets of an access unit, and RTCP to send. Out: datagrams, and what receivers say.
//! Each target has a pair of sockets of its own.
//!
//! A target that cannot be reached loses packets, which are counted; it never holds up another
//! for longer than [`PATIENCE`].

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    ops::Range,
    str::FromStr,
    task::{Context, Poll},
    time::Duration,
};

use crate::{output::pair::Pair, rtp::Packets};

/// How long a full socket buffer is waited for: a third of a frame at 60 Hz.
const PATIENCE: Duration = Duration::from_millis(5);

/// Datagrams of strangers skipped in one go.
const MAX_STRANGERS: usize = 32;

/// `udp://HOST:PORT`, looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// RTP goes here, RTCP to the port above.
    pub address: SocketAddr,
}

/// Why a text names no target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not of the expected form.
    #[error("a target is udp://HOST:PORT, such as udp://127.0.0.1:5004 or udp://[::1]:5004")]
    Form,
    /// No such port, or none left for RTCP.
    #[error("the port must be a number from 1 to 65534 (RTCP takes the one above)")]
    Port,
    /// The name is not known.
    #[error("cannot look up the host {host}: {why}")]
    Lookup {
        /// The name.
        host: String,
        /// Why.
        why: io::Error,
    },
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let rest = text.strip_prefix("udp://").ok_or(TargetError::Form)?;
        let (host, port) = rest.rsplit_once(':').ok_or(TargetError::Form)?;
        let port = match port.parse() {
            Ok(port @ 1..=65534) => port,
            _ => return Err(TargetError::Port),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if host.is_empty() || bare.is_none() && host.contains([':', '/']) {
            return Err(TargetError::Form);
        }
        let host = bare.unwrap_or(host);
        let lookup = |why| TargetError::Lookup { host: host.into(), why };
        let mut found = (host, port).to_socket_addrs().map_err(lookup)?;
        let address = found.next().ok_or_else(|| lookup(io::ErrorKind::NotFound.into()))?;
        Ok(Self { address })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "udp://{}", self.address)
    }
}

impl Target {
    fn rtcp(&self) -> SocketAddr {
        SocketAddr::new(self.address.ip(), self.address.port() + 1)
    }

    /// Whether the ports of two targets get in each other's way.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.address.ip() == other.address.ip()
            && self.address.port().abs_diff(other.address.port()) < 2
    }
}

/// Why a target cannot be sent to.
#[derive(Debug, thiserror::Error)]
#[error("cannot open sockets for {target}: {why}")]
pub struct OpenError {
    target: Target,
    why: io::Error,
}

/// One target with its sockets.
#[derive(Debug)]
pub struct UdpOutput {
    target: Target,
    pair: Pair,
    /// Packets that the system did not take.
    dropped: u64,
}

impl UdpOutput {
    /// Opens the sockets; call it within the runtime.
    ///
    /// # Errors
    ///
    /// No sockets to be had.
    pub fn open(target: Target, ttl: u8) -> Result<Self, OpenError> {
        let open = || {
            let pair = Pair::bind(unspecified(target.address))?;
            for socket in [pair.rtp(), pair.rtcp()] {
                if target.address.ip().is_multicast() {
                    let socket = socket2::SockRef::from(socket);
                    match target.address {
                        SocketAddr::V4(_) => socket.set_multicast_ttl_v4(ttl.into())?,
                        SocketAddr::V6(_) => socket.set_multicast_hops_v6(ttl.into())?,
                    }
                }
            }
            Ok(pair)
        };
        match open() {
            Ok(pair) => Ok(Self { target, pair, dropped: 0 }),
            Err(why) => Err(OpenError { target, why }),
        }
    }

    /// Where it goes.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Our address as the target sees it.
    pub fn origin(&self) -> IpAddr {
        let bind = unspecified(self.target.address);
        std::net::UdpSocket::bind((bind, 0))
            .and_then(|socket| socket.connect(self.target.address).map(|()| socket))
            .and_then(|socket| socket.local_addr())
            .map_or(bind, |address| address.ip())
    }

    /// Packets that the system did not take.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Sends some packets of an access unit.
    pub async fn send(&mut self, packets: &Packets, range: Range<usize>) {
        let to = self.target.address;
        if let Err(lost) = self.pair.send(to, None, packets, range, PATIENCE).await {
            if self.dropped == 0 {
                log::warn!("{}: packets are lost: {}", self.target, lost.why);
            }
            self.dropped += lost.packets;
        }
    }

    /// Sends RTCP; what gets lost is made up for by the next.
    pub fn send_rtcp(&self, packet: &[u8]) {
        if let Err(e) = self.pair.rtcp().try_send_to(packet, self.target.rtcp()) {
            log::debug!("{}: RTCP not sent: {e}", self.target);
        }
    }

    /// Whether RTCP may have come in; wakes the task when it does.
    pub fn poll_rtcp_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.pair.rtcp().poll_recv_ready(cx).map(|_error_shows_when_reading| ())
    }

    /// Takes one RTCP packet, if it comes from the target. Multicast receivers are strangers.
    pub fn poll_rtcp<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        for _ in 0..MAX_STRANGERS {
            match self.pair.rtcp().try_recv_from(buffer) {
                Ok((length, from)) if from.ip() == self.target.address.ip() => {
                    return Some(&buffer[..length]);
                }
                Ok((_, from)) => log::trace!("{}: RTCP from stranger {from}", self.target),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return None,
                // A port unreachable of an earlier packet, on systems that tell.
                Err(e) => log::trace!("{}: {e}", self.target),
            }
        }
        None
    }
}

fn unspecified(target: SocketAddr) -> IpAddr {
    match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{net::UdpSocket, time::timeout};

    use super::*;
    use crate::rtp::Packetizer;

    fn target(text: &str) -> Result<Target, String> {
        text.parse().map_err(|e: TargetError| e.to_string())
    }

    #[test]
    fn targets_are_read_and_refused_with_a_reason() {
        for text in ["udp://127.0.0.1:5004", "udp://239.1.2.3:5004", "udp://[::1]:1"] {
            assert_eq!(target(text).map(|t| t.to_string()), Ok(text.into()));
        }
        for text in
            ["127.0.0.1:5004", "udp://127.0.0.1", "udp://:5004", "udp://::1:5004", "rtp://a:1"]
        {
            assert!(target(text).is_err_and(|e| e.contains("udp://HOST:PORT")), "{text}");
        }
        for text in ["udp://127.0.0.1:0", "udp://127.0.0.1:65535", "udp://127.0.0.1:x"] {
            assert!(target(text).is_err_and(|e| e.contains("port")), "{text}");
        }
        assert!(
            target("udp://no-such-host.invalid:5004")
                .is_err_and(|e| e.contains("no-such-host.invalid"))
        );
    }

    #[tokio::test(flavor = "current_thread")]
    async fn every_packet_arrives_once_and_from_an_even_port() {
        let viewer = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let to = Target { address: viewer.local_addr().expect("it is bound") };
        let mut output = UdpOutput::open(to, 1).expect("sockets");
        let unit: Vec<u8> =
            [0, 0, 1, 0x65].into_iter().chain((0..50_000).map(|i| i as u8 | 1)).collect();
        let packets = Packetizer::new(1, 0, 0, 1200).packetize(
            transom_protocol::message::Codec::H264,
            &unit,
            0,
        );
        output.send(&packets, 0..packets.len()).await;
        assert_eq!(output.dropped(), 0);
        for packet in packets.iter() {
            let mut buffer = [0; 2000];
            let (n, from) = timeout(Duration::from_secs(10), viewer.recv_from(&mut buffer))
                .await
                .expect("a packet is due")
                .expect("the socket is open");
            assert_eq!(&buffer[..n], packet);
            assert_eq!(from.port() % 2, 0);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn feedback_is_taken_from_the_target_alone() {
        let output = UdpOutput::open(target("udp://127.0.0.1:5004").expect("an address"), 1)
            .expect("sockets");
        let port = output.pair.rtcp().local_addr().expect("it is bound").port();
        assert_eq!(port % 2, 1);
        let mut buffer = [0; 100];
        for (from, taken) in [("127.0.0.2:0", None), ("127.0.0.1:0", Some(&b"x"[..]))] {
            let socket = UdpSocket::bind(from).await.expect("loopback");
            socket.send_to(b"x", ("127.0.0.1", port)).await.expect("loopback");
            let ready = std::future::poll_fn(|cx| output.poll_rtcp_ready(cx));
            timeout(Duration::from_secs(10), ready).await.expect("it was sent");
            assert_eq!(output.poll_rtcp(&mut buffer), taken);
        }
    }
}
