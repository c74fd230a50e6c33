//! One client's side of the conversation (RFC 2326). Sans-IO: bytes and `now` in; answers, and
//! what is to be done with the media, out.
//!
//! ```text
//!             DESCRIBE (waits for parameter sets, but not for ever)
//!                │
//!   no session ──┴─ SETUP ─▶ ready ── PLAY ──▶ playing
//!        ▲                   │  ▲                │  │
//!        └──── TEARDOWN ─────┘  └──── PAUSE ─────┘  │
//!        └──── TEARDOWN ────────────────────────────┘
//! ```
//!
//! A session lives and dies with its connection: players keep theirs, and whoever knows the
//! number of a session can do nothing with it elsewhere. What this refuses to do: send anywhere
//! but to where the client is, and go on after bytes that are no RTSP.

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use rtsp_types::{HeaderName, Method, Request, Response, StatusCode, Url, Version, headers};

use super::{
    request::{Input, Malformed, Reader},
    transport::{self, Transport},
};
use crate::{h264::ParameterSets, sdp};

/// A session ends when nothing was heard for so long; clients are told, and come back in half of
/// it. The usual value.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a client may be connected without a session.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long DESCRIBE waits for the first IDR. Players give up after 5 to 20 s.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(4);

/// When a client may ask again that came too early, in seconds.
const RETRY_AFTER: &str = "2";

/// What a track is called behind the path of its guest.
const TRACK: &str = "video";

/// So many guests are named to a client that asks for one there is not.
const MAX_NAMED: usize = 8;

const ALLOWED: &str = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, GET_PARAMETER, TEARDOWN";

/// Whom there is to watch.
pub trait Guests {
    /// What is known of a guest; `None`: there is none of that name.
    fn find(&self, guest: &str) -> Option<Show>;
    /// All their names.
    fn names(&self) -> Vec<String>;
}

/// What a client must know of a guest.
#[derive(Debug, Clone)]
pub struct Show {
    /// Parameter sets, once an IDR has come.
    pub sets: Option<ParameterSets>,
    /// What keeps it from showing something, in words.
    pub absence: String,
    /// Tells this stream from others.
    pub id: u32,
    /// Who sends it over UDP.
    pub ssrc: u32,
    /// Our ports for RTP and RTCP over UDP.
    pub ports: (u16, u16),
}

/// What the owner of the connection is to do.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// These bytes are for the client.
    Send(Vec<u8>),
    /// The client wants to see this guest; tell how it went by [`Connection::handle_played`].
    Play {
        /// Which guest.
        guest: String,
        /// On which way.
        transport: Transport,
    },
    /// The client wants to see no more for now.
    Stop,
    /// RTCP that came over the connection.
    Feedback(Vec<u8>),
    /// Poll again when something is known of this guest that was not, and at this time.
    Wait {
        /// Which guest.
        guest: String,
        /// At the latest.
        until: Instant,
    },
    /// Poll again at this time.
    Timeout(Instant),
    /// The conversation is over.
    Close(Ending),
}

/// How a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// The client said something else than RTSP.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The client went silent.
    #[error("nothing was heard for {} s", SESSION_TIMEOUT.as_secs())]
    Silent,
    /// The client wanted nothing.
    #[error("no session after {} s", IDLE_TIMEOUT.as_secs())]
    Idle,
}

/// A client.
#[derive(Debug)]
pub struct Connection {
    reader: Reader,
    local: IpAddr,
    /// Its sessions are called after it.
    id: u64,
    sessions: u32,
    session: Option<Session>,
    /// A request whose answer takes time.
    pending: Option<Pending>,
    outputs: VecDeque<Output>,
    ended: Option<Ending>,
    heard: Instant,
}

#[derive(Debug)]
struct Session {
    id: String,
    guest: String,
    transport: Transport,
    playing: bool,
}

#[derive(Debug)]
enum Pending {
    Describe { cseq: String, guest: String, base: Url, until: Instant },
    Play { cseq: String },
}

/// Why a request is not granted.
struct Refusal {
    status: StatusCode,
    reason: String,
    header: Option<(HeaderName, String)>,
}

impl Refusal {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), header: None }
    }

    fn with(self, name: HeaderName, value: impl Into<String>) -> Self {
        Self { header: Some((name, value.into())), ..self }
    }
}

type Answer = Result<rtsp_types::ResponseBuilder, Refusal>;

impl Connection {
    /// A client that has just connected to our address `local`; `id` should be hard to guess.
    pub fn new(id: u64, local: IpAddr, now: Instant) -> Self {
        Self {
            reader: Reader::default(),
            local,
            id,
            sessions: 0,
            session: None,
            pending: None,
            outputs: VecDeque::new(),
            ended: None,
            heard: now,
        }
    }

    /// Takes bytes of the client.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
    }

    /// Whether more bytes can be taken.
    pub fn has_room(&self) -> bool {
        self.reader.has_room()
    }

    /// The client lives: RTCP has come, or it takes what it is sent.
    pub fn handle_sign(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Whether [`Output::Play`] could be done.
    pub fn handle_played(&mut self, result: Result<(), String>) {
        let Some(Pending::Play { cseq }) = self.pending.take() else { return };
        let answer = match (result, &mut self.session) {
            (Ok(()), Some(session)) => {
                session.playing = true;
                Ok(ok().header(headers::RANGE, "npt=now-").header(headers::SESSION, named(session)))
            }
            (Ok(()), None) => Err(no_session()),
            (Err(reason), _) => Err(Refusal::new(StatusCode::NotEnoughBandwidth, reason)),
        };
        self.answer(&cseq, answer);
    }

    /// The next thing to do; to be called until it says [`Output::Wait`], [`Output::Timeout`] or
    /// [`Output::Close`].
    pub fn poll_output(&mut self, now: Instant, guests: &impl Guests) -> Output {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return output;
            }
            if let Some(ending) = self.ended {
                return Output::Close(ending);
            }
            if let Some(pending) = self.pending.take()
                && let Some(output) = self.poll_pending(now, guests, pending)
            {
                return output;
            }
            if !self.outputs.is_empty() {
                continue;
            }
            match self.reader.poll() {
                Ok(Some(Input::Request(request))) => {
                    self.heard = now;
                    self.handle_request(now, guests, &request);
                }
                Ok(Some(Input::Data { channel, packet })) => {
                    self.heard = now;
                    self.handle_data(channel, packet);
                }
                Ok(None) => return self.poll_silence(now),
                Err(malformed) => {
                    let refusal = Refusal::new(StatusCode::BadRequest, malformed.to_string());
                    self.answer("", Err(refusal));
                    self.ended = Some(malformed.into());
                }
            }
        }
    }

    fn poll_silence(&mut self, now: Instant) -> Output {
        let (limit, ending) = match self.session {
            Some(_) => (SESSION_TIMEOUT, Ending::Silent),
            None => (IDLE_TIMEOUT, Ending::Idle),
        };
        let end = self.heard + limit;
        if now < end {
            return Output::Timeout(end);
        }
        self.ended = Some(ending);
        Output::Close(ending)
    }

    fn poll_pending(
        &mut self,
        now: Instant,
        guests: &impl Guests,
        pending: Pending,
    ) -> Option<Output> {
        let Pending::Describe { cseq, guest, base, until } = pending else {
            // PLAY's answer is the owner's to give: nothing happens before it.
            self.pending = Some(pending);
            return Some(Output::Timeout(self.heard + SESSION_TIMEOUT));
        };
        let answer = match guests.find(&guest) {
            None => Err(no_guest(guests)),
            Some(show) => match describe(&show, self.local) {
                Some(text) => Ok(ok()
                    .header(headers::CONTENT_BASE, base.as_str())
                    .header(headers::CONTENT_TYPE, "application/sdp")
                    .build(text.into_bytes())),
                None if now < until => {
                    let wait = Output::Wait { guest: guest.clone(), until };
                    self.pending = Some(Pending::Describe { cseq, guest, base, until });
                    return Some(wait);
                }
                None => Err(Refusal::new(
                    StatusCode::ServiceUnavailable,
                    format!("no picture of {guest} yet: {}", show.absence),
                )
                .with(headers::RETRY_AFTER, RETRY_AFTER)),
            },
        };
        match answer {
            Ok(response) => self.respond(&cseq, response),
            Err(refusal) => self.answer(&cseq, Err(refusal)),
        }
        None
    }

    fn handle_data(&mut self, channel: u8, packet: Vec<u8>) {
        if let Some(Session { transport: Transport::Tcp { rtcp, .. }, .. }) = self.session
            && rtcp == channel
        {
            self.outputs.push_back(Output::Feedback(packet));
        }
    }

    fn handle_request(&mut self, now: Instant, guests: &impl Guests, request: &Request<Vec<u8>>) {
        let Some(cseq) = header(request, &headers::CSEQ).map(str::to_owned) else {
            let refusal = Refusal::new(StatusCode::BadRequest, "a request needs a CSeq");
            return self.answer("", Err(refusal));
        };
        let answer = match (request.version(), header(request, &headers::REQUIRE)) {
            (Version::V2_0, _) => {
                Err(Refusal::new(StatusCode::RTSPVersionNotSupported, "RTSP/1.0 is spoken here"))
            }
            (_, Some(feature)) => {
                Err(Refusal::new(StatusCode::OptionNotSupported, "no extensions here")
                    .with(headers::UNSUPPORTED, feature))
            }
            _ => match request.method() {
                Method::Options => Ok(ok().header(headers::PUBLIC, ALLOWED)),
                Method::Describe => match self.handle_describe(guests, request) {
                    Ok((guest, base)) => {
                        let until = now + DESCRIBE_TIMEOUT;
                        self.pending = Some(Pending::Describe { cseq, guest, base, until });
                        return;
                    }
                    Err(refusal) => Err(refusal),
                },
                Method::Setup => self.handle_setup(guests, request),
                Method::Play => match self.handle_play(request) {
                    Ok(None) => {
                        self.pending = Some(Pending::Play { cseq });
                        return;
                    }
                    Ok(Some(again)) => Ok(again),
                    Err(refusal) => Err(refusal),
                },
                Method::Pause => self.handle_pause(request),
                Method::Teardown => self.handle_teardown(request),
                Method::GetParameter => self.handle_get_parameter(request),
                Method::Announce
                | Method::Record
                | Method::Redirect
                | Method::PlayNotify
                | Method::SetParameter => Err(not_allowed()),
                Method::Extension(_) => {
                    Err(Refusal::new(StatusCode::NotImplemented, "no such method here"))
                }
            },
        };
        self.answer(&cseq, answer);
    }

    fn handle_describe(
        &self,
        guests: &impl Guests,
        request: &Request<Vec<u8>>,
    ) -> Result<(String, Url), Refusal> {
        if let Some(accept) = header(request, &headers::ACCEPT)
            && !accept.contains("application/sdp")
            && !accept.contains('*')
        {
            let reason = "descriptions come as application/sdp";
            return Err(Refusal::new(StatusCode::NotAcceptable, reason));
        }
        let (guest, _) = address(request)?;
        if guests.find(guest).is_none() {
            return Err(no_guest(guests));
        }
        let mut base = request.request_uri().cloned().ok_or_else(no_address)?;
        base.set_path(&format!("/{guest}/"));
        base.set_query(None);
        base.set_fragment(None);
        // Of an address without a host there is nothing to take away.
        let _ = base.set_username("");
        let _ = base.set_password(None);
        Ok((guest.to_owned(), base))
    }

    fn handle_setup(&mut self, guests: &impl Guests, request: &Request<Vec<u8>>) -> Answer {
        let (guest, track) = address(request)?;
        let show = guests.find(guest).ok_or_else(|| no_guest(guests))?;
        if !track.is_empty() && track != TRACK {
            let reason = format!("the one stream of a guest is called {TRACK}");
            return Err(Refusal::new(StatusCode::NotFound, reason));
        }
        let known = header(request, &headers::SESSION).is_some();
        match &self.session {
            Some(session) if known => {
                check_session(Some(session), request)?;
                if session.playing {
                    return Err(not_now("PAUSE before you change the transport"));
                }
                if session.guest != guest {
                    let reason = format!("this session watches {}", session.guest);
                    return Err(Refusal::new(StatusCode::AggregateOperationNotAllowed, reason));
                }
            }
            Some(_) => return Err(not_now("a connection carries one session at a time")),
            None if known => return Err(no_session()),
            None => {}
        }
        let wanted = header(request, &headers::TRANSPORT).unwrap_or_default();
        let transport = transport::choose(wanted).ok_or_else(|| {
            let reason = "there is RTP/AVP;unicast;client_port= and RTP/AVP/TCP;interleaved=";
            Refusal::new(StatusCode::UnsupportedTransport, reason)
        })?;
        let ssrc = matches!(transport, Transport::Udp { .. }).then_some(show.ssrc);
        let id = match self.session.take() {
            Some(session) => session.id,
            None => {
                self.sessions += 1;
                format!("{:016x}{:x}", self.id, self.sessions)
            }
        };
        let session = Session { id, guest: guest.to_owned(), transport, playing: false };
        let named = named(&session);
        self.session = Some(session);
        Ok(ok()
            .header(headers::TRANSPORT, transport.answer(show.ports, ssrc))
            .header(headers::SESSION, named)
            .header(headers::CACHE_CONTROL, "no-cache"))
    }

    /// Yields an answer if the client plays already.
    fn handle_play(
        &mut self,
        request: &Request<Vec<u8>>,
    ) -> Result<Option<rtsp_types::ResponseBuilder>, Refusal> {
        let session = check_session(self.session.as_ref(), request)?;
        if session.playing {
            return Ok(Some(ok().header(headers::SESSION, named(session))));
        }
        let (guest, transport) = (session.guest.clone(), session.transport);
        self.outputs.push_back(Output::Play { guest, transport });
        Ok(None)
    }

    fn handle_pause(&mut self, request: &Request<Vec<u8>>) -> Answer {
        let answer = check_session(self.session.as_ref(), request).map(named)?;
        if let Some(session) = &mut self.session
            && std::mem::take(&mut session.playing)
        {
            self.outputs.push_back(Output::Stop);
        }
        Ok(ok().header(headers::SESSION, answer))
    }

    fn handle_teardown(&mut self, request: &Request<Vec<u8>>) -> Answer {
        check_session(self.session.as_ref(), request)?;
        if self.session.take().is_some_and(|session| session.playing) {
            self.outputs.push_back(Output::Stop);
        }
        Ok(ok())
    }

    /// Keeps a session alive; there are no parameters.
    fn handle_get_parameter(&self, request: &Request<Vec<u8>>) -> Answer {
        if header(request, &headers::SESSION).is_some() {
            check_session(self.session.as_ref(), request)?;
        }
        if !request.body().is_empty() {
            let reason = "there are no parameters here";
            return Err(Refusal::new(StatusCode::ParameterNotUnderstood, reason));
        }
        Ok(match &self.session {
            Some(session) => ok().header(headers::SESSION, named(session)),
            None => ok(),
        })
    }

    fn answer(&mut self, cseq: &str, answer: Answer) {
        let builder = answer.unwrap_or_else(|Refusal { status, reason, header }| {
            log::debug!("refused with {}: {reason}", u16::from(status));
            let builder = Response::builder(Version::V1_0, status).reason_phrase(reason);
            match header {
                Some((name, value)) => builder.header(name, value),
                None => builder,
            }
        });
        self.respond(cseq, builder.build(Vec::new()));
    }

    fn respond(&mut self, cseq: &str, mut response: Response<Vec<u8>>) {
        if !cseq.is_empty() {
            response.insert_header(headers::CSEQ, cseq);
        }
        response.insert_header(headers::SERVER, concat!("Transom/", env!("CARGO_PKG_VERSION")));
        let mut bytes = Vec::new();
        match response.write(&mut bytes) {
            Ok(()) => self.outputs.push_back(Output::Send(bytes)),
            Err(e) => log::error!("an answer cannot be written: {e:?}"),
        }
    }
}

fn ok() -> rtsp_types::ResponseBuilder {
    Response::builder(Version::V1_0, StatusCode::Ok).reason_phrase("OK")
}

fn named(session: &Session) -> String {
    format!("{};timeout={}", session.id, SESSION_TIMEOUT.as_secs())
}

fn header<'a>(request: &'a Request<Vec<u8>>, name: &HeaderName) -> Option<&'a str> {
    request.header(name).map(|value| value.as_str())
}

/// The guest and the track that a request is about.
fn address(request: &Request<Vec<u8>>) -> Result<(&str, &str), Refusal> {
    let url = request.request_uri().ok_or_else(no_address)?;
    let path = url.path().trim_start_matches('/');
    let (guest, track) = path.split_once('/').unwrap_or((path, ""));
    if guest.is_empty() { Err(no_address()) } else { Ok((guest, track.trim_end_matches('/'))) }
}

/// The session that a request belongs to. Players that leave its number out mean their only one.
fn check_session<'a>(
    session: Option<&'a Session>,
    request: &Request<Vec<u8>>,
) -> Result<&'a Session, Refusal> {
    let session = session.ok_or_else(no_session)?;
    match header(request, &headers::SESSION) {
        Some(given) if given.split(';').next().map(str::trim) != Some(&session.id) => {
            Err(no_session())
        }
        _ => Ok(session),
    }
}

fn describe(show: &Show, origin: IpAddr) -> Option<String> {
    sdp::describe_for_rtsp(show.id, origin, TRACK, show.sets.as_ref()?)
}

fn no_address() -> Refusal {
    Refusal::new(StatusCode::NotFound, "the address of a guest is rtsp://HOST:PORT/GUEST")
}

fn no_guest(guests: &impl Guests) -> Refusal {
    let mut names = guests.names();
    let more = if names.len() > MAX_NAMED { " and others" } else { "" };
    names.truncate(MAX_NAMED);
    let reason = format!("no guest of that name; there is {}{more}", names.join(", "));
    Refusal::new(StatusCode::NotFound, reason)
}

fn no_session() -> Refusal {
    Refusal::new(StatusCode::SessionNotFound, "no such session on this connection")
}

fn not_now(reason: &str) -> Refusal {
    Refusal::new(StatusCode::MethodNotValidInThisState, reason)
}

fn not_allowed() -> Refusal {
    Refusal::new(StatusCode::MethodNotAllowed, "guests can only be watched")
        .with(headers::ALLOW, ALLOWED)
}

#[cfg(test)]
mod tests;
