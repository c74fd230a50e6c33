//! `GET /GUEST/stream.ts`: MPEG-TS over HTTP, for VLC, TVs and whatever else opens an address.
//!
//! ```text
//!   seat ─ picture ─▶ muxer ─ packets ─▶ a place for one chunk ─▶ connection ─▶ player
//!                       ▲ 30 ms without one: the last again (ts/still.rs), twenty times a second
//! ```
//!
//! In: a request that may watch. Out: a stream that begins with an IDR and ends when either side or
//! the link does. A picture is taken from the feed only when the one before has left, so that a
//! player which does not keep up misses pictures up to the next IDR and nobody else notices. What
//! this refuses to do: begin without a picture, or serve more than [`MAX_STREAMS`] players.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{sleep_until, timeout},
};

use super::{
    App, Connection,
    guard::{Problem, no_guest, role_by},
};
use crate::{
    access::{Grant, store::Store},
    feed::{Picture, Seat, ViewerId, colour::Takes},
    ts::{Muxer, still::Still},
    webrtc::refresh::Refresh,
};

/// Players at a time, of all guests: each keeps one of the server's connections.
pub const MAX_STREAMS: usize = 256;

/// What MPEG-TS is called (RFC 3555).
const KIND: &str = "video/mp2t";

/// How long the first picture is waited for. Players give up after 5 to 20 s.
const FIRST: Duration = Duration::from_secs(4);

/// A screen rests when no picture came for so long: nearly two at 60 Hz.
const REST: Duration = Duration::from_millis(30);

/// Between repetitions of the last picture, or clocks alone, while nothing else is sent. H.222.0 wants
/// a clock every 100 ms (2.7.2). VLC keeps a picture back until the next begins, takes it for late
/// when that is longer than its cache, and drops others when that goes on for seconds.
const CLOCK: Duration = Duration::from_millis(50);

/// How long a screen rests before an IDR is asked for where its last picture cannot be repeated.
const RENEW: Duration = Duration::from_millis(500);

/// Between looks at whether the link that let a player in is still good.
const CHECK: Duration = Duration::from_secs(2);

/// The token in a query, where players can carry one.
fn token(uri: &Uri) -> Option<&str> {
    uri.query()?.split('&').find_map(|part| part.strip_prefix("token="))
}

/// `GET /GUEST/stream.ts`.
///
/// # Errors
///
/// 503 when full or while the guest shows nothing, 404, and those of
/// [`role`](super::guard::role).
pub async fn stream(
    State(app): State<Arc<App>>,
    Extension(connection): Extension<Connection>,
    Path(guest): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (_, grant) = role_by(&app, &connection, &headers, token(&uri), &guest)?;
    let stage = app.stage(&guest).ok_or_else(|| no_guest(&app, &guest))?;
    let kind = [(CONTENT_TYPE, KIND)];
    if method == Method::HEAD {
        return Ok(kind.into_response());
    }
    let busy = |text: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, text);
    let permit = Arc::clone(&app.streams)
        .try_acquire_owned()
        .map_err(|_| busy(format!("the relay has {MAX_STREAMS} players already")))?;
    let mut seat =
        stage.feed.watch(ViewerId::next(), Takes::Untold).map_err(|full| busy(full.to_string()))?;
    let first = match timeout(FIRST, seat.next()).await {
        Ok(Some(first)) => first,
        Ok(None) => return Err(busy("the relay ends".into())),
        Err(_) => {
            let state = stage.feed.news().borrow().state.to_string();
            return Err(busy(format!("no picture of {guest} yet: {state}")));
        }
    };
    log::info!("{}: plays {guest} by HTTP", connection.peer);
    // One place: what waits there has been taken from the feed, and would be late.
    let (chunks, body) = mpsc::channel(1);
    let player = Player {
        seat,
        chunks,
        store: Arc::clone(&app.store),
        grant,
        muxer: Muxer::default(),
        still: Still::default(),
        refresh: Refresh::default(),
        skipped: 0,
        last: Last { taken: first.taken, at: Instant::now(), state: Rest::Moves },
        next_clock: Instant::now(),
        next_check: Instant::now() + CHECK,
        _permit: permit,
    };
    let peer = connection.peer;
    tokio::spawn(async move {
        let why = player.play(first).await;
        log::info!("{peer}: plays {guest} by HTTP no more: {why}");
    });
    Ok((kind, Body::new(Chunks(body))).into_response())
}

/// One player.
struct Player {
    seat: Seat,
    chunks: mpsc::Sender<Bytes>,
    store: Arc<Store>,
    grant: Option<Grant>,
    muxer: Muxer,
    still: Still,
    refresh: Refresh,
    /// Pictures missed when it last asked for an IDR because of that.
    skipped: u64,
    last: Last,
    next_clock: Instant,
    next_check: Instant,
    _permit: OwnedSemaphorePermit,
}

/// The last picture.
struct Last {
    taken: i64,
    at: Instant,
    state: Rest,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Another may follow at once.
    Moves,
    /// It cannot be repeated.
    Stuck,
    /// An IDR was asked for instead.
    Renewed,
    /// It is repeated.
    Shown,
}

impl Player {
    /// Plays until it is over, and says why.
    async fn play(mut self, first: Arc<Picture>) -> String {
        let chunks = self.chunks.clone();
        let mut next = Some(first);
        let mut out = Vec::new();
        loop {
            // A slow player is waited for here, where no picture has been taken yet.
            let place = tokio::select! {
                place = chunks.reserve() => place,
                () = sleep_until(self.next_check.into()) => {
                    if let Err(why) = self.check() {
                        return why;
                    }
                    continue;
                }
            };
            let Ok(place) = place else { return "it is gone".into() };
            let due = self.due();
            let picture = match next.take() {
                Some(picture) => Some(picture),
                None => tokio::select! {
                    biased;
                    picture = self.seat.next() => match picture {
                        Some(picture) => Some(picture),
                        None => return "the relay ends".into(),
                    },
                    () = chunks.closed() => return "it is gone".into(),
                    () = sleep_until(due.into()) => None,
                },
            };
            let now = Instant::now();
            if let Err(why) = self.check() {
                return why;
            }
            match picture {
                Some(picture) => self.send(now, &picture, &mut out),
                None => self.rest(now, &mut out),
            }
            if !out.is_empty() {
                place.send(Bytes::from(std::mem::take(&mut out)));
            }
        }
    }

    /// Whether the link still is good.
    fn check(&mut self) -> Result<(), String> {
        let now = Instant::now();
        if now < self.next_check {
            return Ok(());
        }
        self.next_check = now + CHECK;
        match &self.grant {
            Some(grant) => self.store.still(grant).map_err(|e| e.to_string()),
            None => Ok(()),
        }
    }

    /// When there is something to do although no picture comes.
    fn due(&self) -> Instant {
        let rest = match self.last.state {
            Rest::Moves => self.last.at + REST,
            Rest::Stuck => self.last.at + RENEW,
            Rest::Renewed | Rest::Shown => self.next_clock,
        };
        let due = rest.min(self.next_clock).min(self.next_check);
        self.refresh.poll_timeout().map_or(due, |refresh| refresh.min(due))
    }

    fn send(&mut self, now: Instant, picture: &Picture, out: &mut Vec<u8>) {
        let unit = &picture.unit;
        self.muxer.picture(&unit.data, unit.idr, picture.taken, out);
        self.still.look(&unit.data);
        if unit.idr {
            self.refresh.handle_idr(now);
            self.skipped = self.seat.skipped();
        }
        // The IDR that was asked for has shown what it was asked for.
        let answers = unit.idr && self.last.state == Rest::Renewed;
        let state = if answers { Rest::Renewed } else { Rest::Moves };
        self.last = Last { taken: picture.taken, at: now, state };
        self.next_clock = now + CLOCK;
    }

    /// No picture has come.
    fn rest(&mut self, now: Instant, out: &mut Vec<u8>) {
        let rested = now.saturating_duration_since(self.last.at);
        let nanos = i64::try_from(rested.as_nanos()).unwrap_or(i64::MAX);
        let time = self.last.taken.saturating_add(nanos);
        match self.last.state {
            Rest::Moves if rested >= REST => self.repeat(now, time, out),
            Rest::Shown if now >= self.next_clock => self.repeat(now, time, out),
            Rest::Stuck if rested >= RENEW => {
                self.last.state = Rest::Renewed;
                if self.refresh.handle_request(now) {
                    self.seat.request_idr();
                }
            }
            _ => {}
        }
        // It missed pictures and has caught up: on a screen at rest none would come by to tell.
        if self.seat.skipped() != self.skipped {
            self.skipped = self.seat.skipped();
            if self.refresh.handle_request(now) {
                self.seat.request_idr();
            }
        } else if self.refresh.poll(now) {
            self.seat.request_idr();
        }
        if now >= self.next_clock {
            self.next_clock = now + CLOCK;
            self.muxer.clock(time, out);
        }
    }

    /// Shows the last picture again, if that can be done.
    fn repeat(&mut self, now: Instant, time: i64, out: &mut Vec<u8>) {
        self.last.state = match self.still.repeat() {
            Some(picture) => {
                self.muxer.picture(&picture, false, time, out);
                self.next_clock = now + CLOCK;
                Rest::Shown
            }
            None => Rest::Stuck,
        };
    }
}

/// The body of the answer.
#[derive(Debug)]
struct Chunks(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}
