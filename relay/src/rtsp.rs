//! RTSP 1.0 (RFC 2326): any number of players, a path for each guest.
//!
//! ```text
//!   player ── TCP ──▶ client.rs ── request.rs ──▶ connection.rs (the conversation, no sockets)
//!          ◀── answers ──┘  └ pictures over TCP, from a seat of its own
//!          ◀── RTP over UDP ── stream.rs: one for all such players of a guest, from shared ports
//!          ─── RTCP over UDP ─▶ here ─▶ stream.rs
//! ```
//!
//! What this refuses to do: show guests beyond loopback to who has no link, unless told that this is
//! meant, send to an address that did not ask, take pictures, keep more than [`MAX_CONNECTIONS`]
//! connections.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use crate::{
    access::{Grant, TokenError, store::Store},
    feed::{Feed, News},
    output::pair::Pair,
    rtp::Packetizer,
};

mod client;
pub mod connection;
pub mod digest;
pub mod request;
pub mod stream;
pub mod transport;

use client::Client;
use connection::{Guests, Show};
use stream::{Sender, Stream};

/// The usual port where one is not root.
pub const PORT: u16 = 8554;

/// Connections at a time. When they are all there, the oldest that plays nothing makes room.
pub const MAX_CONNECTIONS: usize = 512;

/// Before connections are accepted again after the system had none.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Longest RTCP packet that is looked at; those of players have 32 to 100 bytes.
const MAX_RTCP: usize = 1500;

/// Where to listen: `ADDRESS`, `PORT`, `ADDRESS:PORT`, or nothing for loopback and [`PORT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddr(pub SocketAddr);

/// Why a text is no address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an IP address, a port, or both, such as 127.0.0.1:{PORT} or [::1]:{PORT}")]
pub struct ListenAddrError;

impl FromStr for ListenAddr {
    type Err = ListenAddrError;

    fn from_str(text: &str) -> Result<Self, ListenAddrError> {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let named = text.strip_prefix("localhost");
        let address = match (text, named) {
            ("" | "localhost", _) => Some(SocketAddr::new(loopback, PORT)),
            (_, Some(rest)) => rest
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .map(|port| SocketAddr::new(loopback, port)),
            _ => text
                .parse::<SocketAddr>()
                .or_else(|_| bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT)))
                .or_else(|_| text.parse().map(|port| SocketAddr::new(loopback, port)))
                .ok(),
        };
        address.map(Self).ok_or(ListenAddrError)
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why there is no RTSP.
#[derive(Debug, thiserror::Error)]
pub enum RtspError {
    /// There is nothing to check links with.
    #[error(
        "--rtsp {0} is open to the network, where players need links, and there is no secret to check them with: --state names the folder"
    )]
    NoSecret(SocketAddr),
    /// The port is taken, or not ours to take.
    #[error(
        "cannot listen for RTSP on {address}: {why}. Is there another server? Name another port by --rtsp"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        why: io::Error,
    },
    /// No UDP.
    #[error("cannot open UDP sockets on {ip}: {why}")]
    Udp {
        /// Where.
        ip: IpAddr,
        /// Why.
        why: io::Error,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where.
    pub listen: ListenAddr,
    /// Who may watch.
    pub doors: Doors,
    /// Longest RTP packet in bytes.
    pub packet: usize,
    /// Zero of the host's clock.
    pub epoch: Instant,
}

/// Who may watch.
#[derive(Debug, Clone)]
pub enum Doors {
    /// Whoever reaches us, from other machines too.
    Open,
    /// Who is on this machine, and who has a link if there is a secret to check it with.
    Local(Option<Arc<Store>>),
    /// Who has a link, on this machine too.
    Locked(Arc<Store>),
}

/// A server that listens, but does not accept yet.
#[derive(Debug)]
pub struct Rtsp {
    listener: TcpListener,
    server: Arc<Server>,
    senders: Vec<Sender>,
}

/// What all connections share.
#[derive(Debug)]
struct Server {
    streams: Vec<Arc<Stream>>,
    pair: Arc<Pair>,
    ports: (u16, u16),
    /// Our own address is named in packets, since we listen on several.
    several: bool,
    packet: usize,
    id: u32,
    cname: String,
    epoch: Instant,
    doors: Doors,
}

impl Rtsp {
    /// Binds the sockets; call it within the runtime.
    ///
    /// # Errors
    ///
    /// See [`RtspError`].
    pub fn bind(config: &Config, feeds: &[Feed]) -> Result<Self, RtspError> {
        let Config { listen: ListenAddr(address), ref doors, packet, epoch } = *config;
        if !address.ip().is_loopback() && matches!(doors, Doors::Local(None)) {
            return Err(RtspError::NoSecret(address));
        }
        let listen = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        let listener = listen().map_err(|why| RtspError::Listen { address, why })?;
        let ip = address.ip();
        let udp = |why| RtspError::Udp { ip, why };
        let pair = Arc::new(Pair::bind(ip).map_err(udp)?);
        let port = |socket: &tokio::net::UdpSocket| socket.local_addr().map(|a| a.port());
        let ports = (port(pair.rtp()).map_err(udp)?, port(pair.rtcp()).map_err(udp)?);
        let cname = format!("{:016x}", getrandom::u64()?);
        let (mut streams, mut senders) = (Vec::new(), Vec::new());
        for feed in feeds {
            let packetizer = new_packetizer(packet)?;
            let stream = Arc::new(Stream::new(feed.clone(), packetizer.ssrc()));
            let (pair, cname) = (Arc::clone(&pair), cname.clone());
            senders.push(Sender::new(Arc::clone(&stream), pair, packetizer, cname, epoch));
            streams.push(stream);
        }
        let several = ip.is_unspecified();
        let id = getrandom::u32()?;
        let doors = doors.clone();
        let server = Server { streams, pair, ports, several, packet, id, cname, epoch, doors };
        Ok(Self { listener, server: Arc::new(server), senders })
    }

    /// What players on this machine are given to see the guests.
    pub fn addresses(&self) -> Vec<String> {
        let address = self.listener.local_addr();
        let host = address.map_or_else(|e| e.to_string(), |address| address.to_string());
        self.server.names().iter().map(|name| format!("rtsp://{host}/{name}")).collect()
    }

    /// Serves until `shutdown`.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, server, senders } = self;
        let mut tasks = JoinSet::new();
        let senders: JoinSet<()> = senders.into_iter().map(Sender::run).collect();
        tasks.spawn(take_feedback(Arc::clone(&server)));
        let mut shutdown = std::pin::pin!(shutdown);
        let porter = Porter::default();
        loop {
            tokio::select! {
                () = shutdown.as_mut() => break,
                accepted = listener.accept() => match accepted {
                    Ok((socket, peer)) => {
                        porter.admit(&server, socket, peer, &mut tasks);
                    }
                    Err(e) => {
                        log::warn!("RTSP: cannot accept a connection: {e}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_ended) = tasks.join_next() => {}
            }
        }
        // The last word to players, before their connections end.
        server.streams.iter().for_each(|stream| stream.close());
        senders.join_all().await;
    }
}

/// Who is connected.
#[derive(Debug, Default)]
struct Porter(Mutex<Vec<Player>>);

#[derive(Debug)]
struct Player {
    playing: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Porter {
    fn admit(
        &self,
        server: &Arc<Server>,
        socket: TcpStream,
        peer: SocketAddr,
        tasks: &mut JoinSet<()>,
    ) {
        // Plain values: there is nothing that a panic elsewhere could have left half done.
        let mut players = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        players.retain(|player| !player.task.is_finished());
        if players.len() >= MAX_CONNECTIONS {
            match players.iter().position(|player| !player.playing.load(Ordering::Relaxed)) {
                Some(oldest) => players.remove(oldest).task.abort(),
                None => {
                    return log::warn!("{peer}: RTSP: {MAX_CONNECTIONS} players are here already");
                }
            }
        }
        let playing = Arc::new(AtomicBool::new(false));
        match Client::new(Arc::clone(server), socket, peer, Arc::clone(&playing)) {
            Ok(client) => players.push(Player { playing, task: tasks.spawn(client.run()) }),
            Err(e) => log::debug!("{peer}: RTSP client is gone: {e}"),
        }
    }
}

impl Server {
    fn stream(&self, guest: &str) -> Option<&Arc<Stream>> {
        self.streams.iter().find(|stream| stream.feed().name() == guest)
    }

    fn news(&self, guest: &str) -> Option<watch::Receiver<News>> {
        self.stream(guest).map(|stream| stream.feed().news())
    }

    fn packetizer(&self) -> Result<Packetizer, getrandom::Error> {
        new_packetizer(self.packet)
    }

    /// Whether a client has to show a link.
    fn is_locked_for(&self, peer: IpAddr, local: IpAddr) -> bool {
        match self.doors {
            Doors::Open => false,
            Doors::Local(_) => !(peer.is_loopback() && local.is_loopback()),
            Doors::Locked(_) => true,
        }
    }

    fn store(&self) -> Option<&Store> {
        match &self.doors {
            Doors::Open => None,
            Doors::Local(store) => store.as_deref(),
            Doors::Locked(store) => Some(store),
        }
    }

    /// Our address that packets to this client have to come from.
    fn local_for(&self, socket: &TcpStream) -> Option<IpAddr> {
        socket.local_addr().ok().filter(|_| self.several).map(|address| address.ip())
    }
}

impl Guests for Server {
    fn find(&self, guest: &str) -> Option<Show> {
        let stream = self.stream(guest)?;
        let news = stream.feed().news();
        let news = news.borrow();
        Some(Show {
            sets: news.sets.clone(),
            absence: news.state.to_string(),
            id: self.id,
            ssrc: stream.ssrc(),
            ports: self.ports,
        })
    }

    fn names(&self) -> Vec<String> {
        self.streams.iter().map(|stream| stream.feed().name().to_owned()).collect()
    }

    fn check(
        &self,
        name: &str,
        guest: &str,
        proves: &dyn Fn(&str) -> bool,
    ) -> Result<Grant, TokenError> {
        self.store().ok_or(TokenError::Forged)?.check_proof(name, guest, proves)
    }

    fn still(&self, grant: &Grant) -> Result<(), TokenError> {
        self.store().ok_or(TokenError::Forged)?.still(grant)
    }
}

fn new_packetizer(packet: usize) -> Result<Packetizer, getrandom::Error> {
    let (identity, start) = (getrandom::u64()?, getrandom::u32()?);
    Ok(Packetizer::new(identity as u32, (identity >> 32) as u16, start, packet))
}

/// Hands RTCP to the stream whose viewer it comes from.
async fn take_feedback(server: Arc<Server>) {
    let mut buffer = [0; MAX_RTCP];
    loop {
        match server.pair.rtcp().recv_from(&mut buffer).await {
            Ok((length, from)) => {
                let now = Instant::now();
                let packet = &buffer[..length];
                if !server.streams.iter().any(|s| s.handle_rtcp(now, from, packet)) {
                    log::trace!("RTCP from stranger {from}");
                }
            }
            // A port unreachable of an earlier packet, on systems that tell.
            Err(e) => log::trace!("RTCP: {e}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_be_given_in_part() {
        for (text, address) in [
            ("", "127.0.0.1:8554"),
            ("localhost", "127.0.0.1:8554"),
            ("localhost:1", "127.0.0.1:1"),
            ("9000", "127.0.0.1:9000"),
            ("0.0.0.0", "0.0.0.0:8554"),
            ("192.0.2.1:5", "192.0.2.1:5"),
            ("::1", "[::1]:8554"),
            ("[::1]", "[::1]:8554"),
            ("[::]:7", "[::]:7"),
        ] {
            assert_eq!(
                text.parse::<ListenAddr>().map(|a| a.to_string()),
                Ok(address.into()),
                "{text}"
            );
        }
        for text in ["x", ":8554", "70000", "localhost:", "localhostx", "1.2.3.4:x", "vsock:3"] {
            assert_eq!(text.parse::<ListenAddr>(), Err(ListenAddrError), "{text}");
        }
    }

    fn config(listen: &str, doors: Doors) -> Config {
        let listen = listen.parse().expect("an address");
        Config { listen, doors, packet: 1200, epoch: Instant::now() }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nothing_is_open_to_the_network_by_accident() {
        let refused = Rtsp::bind(&config("0.0.0.0:0", Doors::Local(None)), &[]);
        let refused = refused.expect_err("nobody could watch");
        assert!(refused.to_string().contains("--state"), "{refused}");
        Rtsp::bind(&config("0.0.0.0:0", Doors::Open), &[]).expect("it is meant");
        let taken = Rtsp::bind(&config("127.0.0.1:0", Doors::Local(None)), &[]).expect("a port");
        let port = taken.listener.local_addr().expect("it is bound").port().to_string();
        let refused = Rtsp::bind(&config(&port, Doors::Local(None)), &[]);
        let refused = refused.expect_err("it is taken");
        assert!(refused.to_string().contains("another port by --rtsp"), "{refused}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn only_both_ends_on_this_machine_make_a_player_local() {
        let server = |doors| Rtsp::bind(&config("127.0.0.1:0", doors), &[]).expect("a port").server;
        let [here, there] = [[127, 0, 0, 1], [192, 0, 2, 1]].map(IpAddr::from);
        let local = server(Doors::Local(None));
        assert!(!local.is_locked_for(here, here));
        for (peer, own) in [(there, here), (here, there), (there, there)] {
            assert!(local.is_locked_for(peer, own), "{peer} {own}");
        }
        assert!(!server(Doors::Open).is_locked_for(there, there));
        assert_eq!(local.check("", "doom", &|_| true), Err(TokenError::Forged), "no secret");
    }
}
