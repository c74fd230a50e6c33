//! The page, WHEP, streams and the API, over HTTP/1.1, encrypted or not ([`tls`]).
//!
//! ```text
//!   GET  /                     the guests to pick from, or the only one's page
//!   GET  /GUEST/               the page that plays
//!   POST /GUEST/whep           WHEP; what it answers with 201 is ended by DELETE   (whep.rs)
//!   GET  /GUEST/stream.ts      MPEG-TS, for players that open an address                 (stream.rs)
//!   GET  /api/guests           what is relayed, as JSON                              (api.rs)
//!   GET  /-/FILE               what pages are made of; no guest can have this name  (assets.rs)
//! ```
//!
//! In: requests of anybody who reaches the port. Out: answers. What this refuses to do: answer
//! under a name that is not its own (DNS rebinding), act for pages of other origins, or read
//! bodies, headers and connections without bounds ([`guard`]).

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Extension, Router,
    extract::DefaultBodyLimit,
    http::{Request, Uri},
    middleware,
    routing::{get, post},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::timeout,
};
use tower_service::Service;

pub mod api;
pub mod assets;
pub mod guard;
pub mod stream;
pub mod tls;
pub mod whep;

use crate::{
    access::store::Store,
    webrtc::{Stage, WebRtc},
};
use guard::Failures;
use tls::Tls;

/// Connections at a time; a browser takes a few, a list of guests one.
const MAX_CONNECTIONS: usize = 512;

/// Longest wait for a request's head, and longest rest between requests.
const HEAD: Duration = Duration::from_secs(15);

/// Longest head of a request.
const MAX_HEAD: usize = 32 * 1024;

/// Kept in the socket for a player that does not keep up. More would be older than what could be
/// shown instead: a second of it at 2 Mb/s.
const SEND_BUFFER: usize = 256 * 1024;

/// Longest body: an offer of a browser that knows every codec has some 10 kB.
pub const MAX_BODY: usize = 64 * 1024;

/// How the server is to behave.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Names under which it may be asked, beside addresses and localhost.
    pub allow_hosts: Vec<String>,
    /// Other origins whose pages may use WHEP and the API.
    pub allow_origins: Vec<String>,
    /// Whether viewing needs a token on loopback too.
    pub require_token: bool,
}

/// What all requests share.
#[derive(Debug)]
pub struct App {
    /// The guests.
    pub stages: Vec<Stage>,
    /// Sessions.
    pub webrtc: Arc<WebRtc>,
    /// Tokens.
    pub store: Arc<Store>,
    /// Ways to behave.
    pub settings: Settings,
    /// Tokens that were wrong.
    pub failures: Mutex<Failures>,
    /// Room for players of streams.
    pub streams: Arc<Semaphore>,
}

impl App {
    /// What will be served.
    pub fn new(
        stages: Vec<Stage>,
        webrtc: Arc<WebRtc>,
        store: Arc<Store>,
        settings: Settings,
    ) -> Self {
        let failures = Mutex::new(Failures::new(Instant::now()));
        let streams = Arc::new(Semaphore::new(stream::MAX_STREAMS));
        Self { stages, webrtc, store, settings, failures, streams }
    }

    /// The guest of this name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.feed.name() == name)
    }
}

/// What is known of a request's connection.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    /// Who asks.
    pub peer: SocketAddr,
    /// Where it was reached.
    pub local: SocketAddr,
}

impl Connection {
    /// Whether both ends are on this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.peer.ip()) && is_loopback(self.local.ip())
    }
}

/// Loopback, also when written as IPv6.
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// All routes with what guards them.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(assets::front))
        .route("/-/{file}", get(assets::file))
        .route("/favicon.ico", get(assets::icon))
        .route("/api/guests", get(api::guests))
        .route("/api/guests/{guest}", get(api::guest))
        .route("/{guest}", get(assets::to_page))
        .route("/{guest}/", get(assets::page))
        .route("/{guest}/stream.ts", get(stream::stream))
        .route("/{guest}/whep", post(whep::offer).options(whep::options))
        .route(
            "/{guest}/whep/{session}",
            axum::routing::delete(whep::end)
                .patch(whep::trickle)
                .get(whep::look)
                .options(whep::options),
        )
        .fallback(guard::not_found)
        .method_not_allowed_fallback(guard::not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}

/// Serves until the listener fails for good.
///
/// # Errors
///
/// None at present: an accept that fails is tried again.
pub async fn serve(listener: TcpListener, app: Arc<App>, tls: Option<Tls>) -> io::Result<()> {
    let router = router(app);
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut porter = Porter::default();
    loop {
        // Waiting here leaves newcomers in the system's queue.
        let Ok(permit) = porter.room(&connections).await else { return Ok(()) };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                // Out of file descriptors, for one; accepting at once again would spin.
                log::warn!("cannot accept an HTTP connection: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(local) = stream.local_addr() else { continue };
        let _ = stream.set_nodelay(true);
        let _ = socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
        let (spoke, tls) = (Arc::new(AtomicBool::new(false)), tls.clone());
        let visitor = Visitor {
            router: router.clone().layer(Extension(Connection { peer, local })),
            spoke: Arc::clone(&spoke),
        };
        let task = tokio::spawn(async move {
            let _permit = permit;
            if let Err(e) = visitor.converse(stream, tls).await {
                log::debug!("HTTP connection of {peer}: {e}");
            }
        });
        porter.admit(spoke, task.abort_handle());
    }
}

/// Who is connected, the oldest first, and whether it has asked for something yet.
#[derive(Default)]
struct Porter(VecDeque<(Arc<AtomicBool>, AbortHandle)>);

impl Porter {
    fn admit(&mut self, spoke: Arc<AtomicBool>, task: AbortHandle) {
        if self.0.len() >= 2 * MAX_CONNECTIONS {
            self.0.retain(|(_, task)| !task.is_finished());
        }
        self.0.push_back((spoke, task));
    }

    /// Room for one more. When there is none, the oldest that has said nothing makes some: others
    /// must not wait for it.
    async fn room(
        &mut self,
        connections: &Arc<Semaphore>,
    ) -> Result<OwnedSemaphorePermit, AcquireError> {
        if let Ok(permit) = Arc::clone(connections).try_acquire_owned() {
            return Ok(permit);
        }
        self.0.retain(|(_, task)| !task.is_finished());
        let silent = self.0.iter().position(|(spoke, _)| !spoke.load(Ordering::Relaxed));
        if let Some((_, task)) = silent.and_then(|silent| self.0.remove(silent)) {
            task.abort();
        }
        Arc::clone(connections).acquire_owned().await
    }
}

/// A connection's way to the routes.
struct Visitor {
    router: Router,
    spoke: Arc<AtomicBool>,
}

impl Visitor {
    async fn converse(self, stream: TcpStream, tls: Option<Tls>) -> io::Result<()> {
        let Some(tls) = tls else { return self.serve(stream, false).await };
        let mut first = [0];
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        timeout(HEAD, stream.peek(&mut first)).await.map_err(late)??;
        if !tls::is_handshake(first[0]) {
            return self.serve(stream, true).await;
        }
        let stream = timeout(HEAD, tls.acceptor().accept(stream)).await.map_err(late)??;
        self.serve(stream, false).await
    }

    /// Serves requests, or sends them to HTTPS.
    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        elsewhere: bool,
    ) -> io::Result<()> {
        let service = hyper::service::service_fn(move |mut request: Request<_>| {
            self.spoke.store(true, Ordering::Relaxed);
            tidy(request.uri_mut());
            let away = elsewhere
                .then(|| tls::elsewhere(request.method(), request.uri(), request.headers()));
            let mut router = self.router.clone();
            async move {
                match away {
                    Some(away) => Ok(away),
                    None => router.call(request).await,
                }
            }
        });
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .await
            .map_err(io::Error::other)
    }
}

/// Makes one slash of several at the front: `path` of the API begins with one, and scripts put
/// another before it.
fn tidy(uri: &mut Uri) {
    let whole = uri.path_and_query().map_or("/", |path| path.as_str());
    if whole.starts_with("//") {
        let path = format!("/{}", whole.trim_start_matches('/'));
        if let Ok(path) = path.parse() {
            *uri = path;
        }
    }
}

#[cfg(test)]
mod tests;
