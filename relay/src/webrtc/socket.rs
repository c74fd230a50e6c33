//! One UDP socket for all sessions: a single port to open in a firewall.
//!
//! ```text
//!   datagram ─▶ known address? ─────────▶ that session's inbox
//!              └ STUN: names a session? ─▶ that one's; its answer makes the address known
//!              └ neither ───────────────▶ dropped
//! ```
//!
//! In: datagrams of anybody; what sessions send. Out: each to where it belongs, runs of equal
//! length in one system call. What this refuses to do: wait for a session that does not read, or
//! remember an address that has not proven itself.

use std::{
    collections::HashMap,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket, sync::mpsc, time::timeout};

use super::stun;

/// Datagrams that wait for one session.
const INBOX: usize = 64;

/// How long a full socket buffer is waited for: a third of a frame at 60 Hz.
const PATIENCE: Duration = Duration::from_millis(5);

/// Datagrams in one system call.
const MAX_RUN: usize = 32;

/// Send and receive buffers to ask for: the IDR of a large screen, for several viewers at once.
const BUFFER: usize = 4 << 20;

/// Longest datagram that a viewer has reason to send.
const MAX_DATAGRAM: usize = 2048;

/// A datagram for a session.
#[derive(Debug)]
pub struct Datagram {
    /// When it was read.
    pub at: Instant,
    /// From where.
    pub source: SocketAddr,
    /// To which of our addresses, if the system tells.
    pub destination: Option<IpAddr>,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// A datagram of a session.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// To where.
    pub destination: SocketAddr,
    /// From which of our addresses.
    pub source: SocketAddr,
    /// What it says.
    pub bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Routes {
    inboxes: HashMap<String, mpsc::Sender<Datagram>>,
    /// Addresses that have proven which session they belong to.
    known: HashMap<SocketAddr, String>,
}

/// The socket and who is behind which address.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    /// Runs in one call and addresses of ours, where the platform has them; Wine has not.
    state: Option<UdpSocketState>,
    address: SocketAddr,
    routes: Mutex<Routes>,
    dropped: AtomicU64,
}

impl Socket {
    /// Binds; call it within the runtime.
    ///
    /// # Errors
    ///
    /// The address cannot be had.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        let options = socket2::SockRef::from(&socket);
        // As much of it as the system allows.
        let _ = options.set_send_buffer_size(BUFFER);
        let _ = options.set_recv_buffer_size(BUFFER);
        let socket = UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new((&socket).into())
            .inspect_err(|e| log::debug!("UDP one by one: {e}"))
            .ok();
        let address = socket.local_addr()?;
        Ok(Self { socket, state, address, routes: Mutex::default(), dropped: AtomicU64::new(0) })
    }

    /// Where it is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Datagrams that the system or a session did not take.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        // Nothing in it is ever half done.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An inbox for the session whose user fragment this is.
    pub fn register(&self, fragment: &str) -> mpsc::Receiver<Datagram> {
        let (sender, receiver) = mpsc::channel(INBOX);
        self.routes().inboxes.insert(fragment.into(), sender);
        receiver
    }

    /// The session has proven that this address is its viewer's.
    pub fn learn(&self, address: SocketAddr, fragment: &str) {
        let mut routes = self.routes();
        if routes.inboxes.contains_key(fragment) {
            routes.known.insert(address, fragment.into());
        }
    }

    /// The session is over.
    pub fn forget(&self, fragment: &str) {
        let mut routes = self.routes();
        routes.inboxes.remove(fragment);
        routes.known.retain(|_, session| session != fragment);
    }

    /// Hands out what comes in, for ever.
    pub async fn run(&self) {
        let segments = self.state.as_ref().map_or(1, |state| state.gro_segments());
        let mut buffers = vec![vec![0; MAX_DATAGRAM * segments]; BATCH_SIZE];
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        loop {
            let read = self.socket.async_io(Interest::READABLE, || {
                let Some(state) = &self.state else {
                    let (length, source) = self.socket.try_recv_from(&mut buffers[0])?;
                    (metas[0].addr, metas[0].len, metas[0].stride) = (source, length, length);
                    return Ok(1);
                };
                let mut slices: Vec<_> =
                    buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
                state.recv((&self.socket).into(), &mut slices, &mut metas)
            });
            let count = match read.await {
                Ok(count) => count,
                Err(e) => {
                    // Of this one read, such as an ICMP error; the socket goes on.
                    log::debug!("UDP socket of WebRTC: {e}");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            let at = Instant::now();
            for (buffer, meta) in buffers.iter().zip(&metas).take(count) {
                let bytes = &buffer[..meta.len.min(buffer.len())];
                for bytes in bytes.chunks(meta.stride.max(1)) {
                    self.route(Datagram {
                        at,
                        source: meta.addr,
                        destination: meta.dst_ip,
                        bytes: bytes.to_vec(),
                    });
                }
            }
        }
    }

    fn route(&self, datagram: Datagram) {
        let routes = self.routes();
        // A request to join names its session even from a known address: a viewer that reloads
        // its page may use the same port again.
        let inbox = match stun::receiver(&datagram.bytes) {
            Some(fragment) => routes.inboxes.get(fragment),
            None => {
                let session = routes.known.get(&datagram.source);
                session.and_then(|fragment| routes.inboxes.get(fragment))
            }
        };
        if let Some(inbox) = inbox
            && inbox.try_send(datagram).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends all, and empties `outgoing`.
    pub async fn send(&self, outgoing: &mut Vec<Outgoing>) {
        let most = self.state.as_ref().map_or(1, |s| s.max_gso_segments()).clamp(1, MAX_RUN);
        let mut rest = &outgoing[..];
        let mut joined = Vec::new();
        while let Some(first) = rest.first() {
            let segment = first.bytes.len();
            let mut count = 1;
            while count < most && count < rest.len() {
                let next = &rest[count];
                if next.destination != first.destination || next.bytes.len() > segment {
                    break;
                }
                count += 1;
                if next.bytes.len() < segment {
                    break;
                }
            }
            let (run, behind) = rest.split_at(count);
            rest = behind;
            let contents = if let [one] = run {
                &one.bytes
            } else {
                joined.clear();
                run.iter().for_each(|datagram| joined.extend_from_slice(&datagram.bytes));
                &joined
            };
            let transmit = Transmit {
                destination: first.destination,
                ecn: None,
                contents,
                segment_size: (count > 1).then_some(segment),
                src_ip: self.address.ip().is_unspecified().then(|| first.source.ip()),
            };
            if !self.transmit(&transmit).await {
                self.dropped.fetch_add(count as u64, Ordering::Relaxed);
            }
        }
        outgoing.clear();
    }

    async fn transmit(&self, transmit: &Transmit<'_>) -> bool {
        let send = || match &self.state {
            Some(state) => state.try_send((&self.socket).into(), transmit),
            None => self.socket.try_send_to(transmit.contents, transmit.destination).map(drop),
        };
        let sent = match self.socket.try_io(Interest::WRITABLE, send) {
            // Only now is a timer worth its while.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let sent = timeout(PATIENCE, self.socket.async_io(Interest::WRITABLE, send)).await;
                sent.unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
            }
            sent => sent,
        };
        sent.inspect_err(|e| log::trace!("to {}: {e}", transmit.destination)).is_ok()
    }
}
