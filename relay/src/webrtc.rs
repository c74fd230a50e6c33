//! Pictures to browsers and WHEP players: UDP, DTLS-SRTP, and back come input and feedback.
//!
//! ```text
//!   http/whep.rs ─ offer ─▶ WebRtc ─▶ peer.rs ─ answer ─▶
//!                             └─▶ session.rs, one task per viewer ◀─▶ socket.rs ◀─▶ UDP
//! ```
//!
//! In: offers, and the guest's feed. Out: answers; then media until either side ends it. What
//! this refuses to do: hold more sessions than [`MAX_SESSIONS`], or more that wait than
//! [`MAX_HALF_OPEN`].

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use str0m::config::DtlsCert;
use tokio::sync::Notify;
use transom_protocol::{Chroma, message::Codec};

pub mod capacity;
pub mod input;
pub mod packets;
pub mod peer;
pub mod refresh;
pub mod session;
pub mod socket;
pub mod stun;

use crate::{
    access::{Grant, Role, store::Store},
    control::Desk,
    feed::{Feed, News, ViewerId},
    h264::HIGH_444,
};
use packets::Cutter;
use peer::{OfferError, Peer};
use session::Viewing;
use socket::Socket;

/// Sessions of all guests at a time, connected or not.
pub const MAX_SESSIONS: usize = 512;

/// Of them, those that are not connected yet: a browser takes a second, and one that never comes
/// is let go after fifteen.
pub const MAX_HALF_OPEN: usize = 64;

/// The profile that is promised while nothing has come of the guest yet: what the agent's own
/// encoder makes, at a level for screens of any size.
const DEFAULT_PROFILE: [u8; 3] = [0x42, 0xc0, 0x33];

/// A guest, as sessions see it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its pictures and states.
    pub feed: Feed,
    /// Who steers it.
    pub desk: Arc<Desk>,
    /// Its packets.
    pub cutter: Arc<Cutter>,
}

impl Stage {
    /// A guest that nobody watches yet.
    pub fn new(feed: Feed, shared_control: bool) -> Self {
        let desk = Arc::new(Desk::new(feed.clone(), shared_control));
        let cutter = Arc::new(Cutter::new(getrandom::u32().unwrap_or_default()));
        Self { feed, desk, cutter }
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The offer.
    #[error("{0}")]
    Offer(#[from] OfferError),
    /// Too many.
    #[error(
        "the relay has {MAX_SESSIONS} viewers, or {MAX_HALF_OPEN} that are about to join: try again later"
    )]
    Full,
    /// The system has none.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// A session that was answered.
#[derive(Debug)]
pub struct Joined {
    /// Its name in URLs; whoever knows it may end it.
    pub id: String,
    /// The SDP answer.
    pub answer: String,
}

/// All sessions of the relay.
#[derive(Debug)]
pub struct WebRtc {
    socket: Arc<Socket>,
    certificate: DtlsCert,
    store: Arc<Store>,
    epoch: Instant,
    max_bitrate: u64,
    sessions: Mutex<HashMap<String, Arc<Notify>>>,
    half_open: Arc<AtomicUsize>,
}

/// A new certificate for DTLS; the answer tells its fingerprint.
///
/// # Errors
///
/// The system gives no random numbers.
pub fn certificate() -> io::Result<DtlsCert> {
    let provider = str0m::crypto::from_feature_flags().dtls_provider;
    let none = || io::Error::other("no certificate could be made for DTLS");
    provider.generate_certificate().ok_or_else(none)
}

/// Milliseconds since 1970.
fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}

/// What is known of a guest, for a page.
pub fn news_json(news: &News) -> serde_json::Value {
    json!({
        "type": "state", "state": news.state.name(), "text": news.state.to_string(),
        "width": news.format.as_ref().map(|format| format.width),
        "height": news.format.as_ref().map(|format| format.height),
        "codec": news.format.map(|format| match format.codec {
            Codec::H264 => "H.264",
            Codec::Hevc => "HEVC",
        }),
        "chroma": news.format.and(news.sets.as_ref()).map(|sets| match sets.chroma() {
            Chroma::Yuv420 => "4:2:0",
            Chroma::Yuv444 => "4:4:4",
        }),
        "agent": news.agent.as_ref().map(|agent| agent.as_str()),
        "boot": news.boot.map(|boot| boot.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    })
}

/// A session that is not connected yet; counted for as long as this lives.
#[derive(Debug)]
pub struct HalfOpen(Arc<AtomicUsize>);

impl HalfOpen {
    fn new(count: &Arc<AtomicUsize>) -> Option<Self> {
        let one = Self(Arc::clone(count));
        (count.fetch_add(1, Ordering::Relaxed) < MAX_HALF_OPEN).then_some(one)
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes a session from the list when it ends, however it ends.
struct Listed(Arc<WebRtc>, String);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.sessions().remove(&self.1);
    }
}

impl WebRtc {
    /// Opens the socket; call it within the runtime. Pictures' times are counted from `epoch`,
    /// and no more than `max_bitrate` is asked of encoders.
    ///
    /// # Errors
    ///
    /// The address cannot be had.
    pub fn bind(
        address: SocketAddr,
        store: Arc<Store>,
        epoch: Instant,
        max_bitrate: u64,
    ) -> io::Result<Arc<Self>> {
        let socket = Arc::new(Socket::bind(address)?);
        // One for all: making a key pair for each session would cost more than the session.
        let certificate = certificate()?;
        let serving = Arc::clone(&socket);
        tokio::spawn(async move { serving.run().await });
        Ok(Arc::new(Self {
            socket,
            certificate,
            store,
            epoch,
            max_bitrate,
            sessions: Mutex::default(),
            half_open: Arc::default(),
        }))
    }

    /// Where the socket is.
    pub fn address(&self) -> SocketAddr {
        self.socket.address()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers an offer and begins a session. `reached` is our address as the viewer's HTTP
    /// request found it: where it reached us once, it does again.
    ///
    /// # Errors
    ///
    /// See [`JoinError`].
    pub fn join(
        self: &Arc<Self>,
        stage: &Stage,
        offer: &str,
        (role, grant): (Role, Option<Grant>),
        reached: IpAddr,
    ) -> Result<Joined, JoinError> {
        let half_open = HalfOpen::new(&self.half_open).ok_or(JoinError::Full)?;
        if self.sessions().len() >= MAX_SESSIONS {
            return Err(JoinError::Full);
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id)?;
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let sets = stage.feed.news().borrow().sets.clone();
        let profile = sets.and_then(|sets| sets.profile_level_id()).unwrap_or(DEFAULT_PROFILE);
        // Every viewer is promised 4:2:0, also while those who are there see 4:4:4.
        let [idc, flags, level] = match profile {
            [HIGH_444, _, level] => [DEFAULT_PROFILE[0], DEFAULT_PROFILE[1], level],
            halved => halved,
        };
        let address = self.socket.address();
        let ip = if address.ip().is_unspecified() { reached } else { address.ip() };
        let local = SocketAddr::new(ip, address.port());
        let profile_level_id = u32::from_be_bytes([0, idc, flags, level]);
        let (peer, answer) =
            Peer::accept(offer, profile_level_id, local, &self.certificate, Instant::now())?;
        let viewing = Viewing {
            feed: stage.feed.clone(),
            desk: Arc::clone(&stage.desk),
            cutter: Arc::clone(&stage.cutter),
            role,
            grant,
            store: Arc::clone(&self.store),
            profile: [idc, flags],
            epoch: self.epoch,
            max_bitrate: self.max_bitrate,
        };
        let stop = Arc::new(Notify::new());
        self.sessions().insert(id.clone(), Arc::clone(&stop));
        let inbox = self.socket.register(peer.fragment());
        let socket = Arc::clone(&self.socket);
        let listed = Listed(Arc::clone(self), id.clone());
        tokio::spawn(async move {
            let _listed = listed;
            let viewer = (ViewerId::next(), half_open);
            session::run(viewing, viewer, peer, (inbox, socket), stop).await;
        });
        Ok(Joined { id, answer })
    }

    /// Ends a session; `false` if there is none of this name.
    pub fn leave(&self, id: &str) -> bool {
        self.sessions().remove(id).is_some_and(|stop| {
            stop.notify_one();
            true
        })
    }

    /// Whether there is a session of this name.
    pub fn is_live(&self, id: &str) -> bool {
        self.sessions().contains_key(id)
    }
}
