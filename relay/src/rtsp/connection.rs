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
//! number of a session can do nothing with it elsewhere. So does what a client has proven: behind a
//! [`Door::Locked`] it does so once, and its session ends with the link that let it in. What this
//! refuses to do: send anywhere but to where the client is, name guests to strangers, and go on
//! after bytes that are no RTSP.
//!
//! [`requests`] has what each method does, [`answer`] the words of refusals.

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use rtsp_types::{Response, StatusCode, Url, Version, headers};
use transom_protocol::message::Codec;

use super::{
    request::{Input, Malformed, Reader},
    transport::Transport,
};
use crate::{
    access::{Grant, TokenError},
    sdp,
    sets::ParameterSets,
};

mod answer;
mod requests;

use answer::{Answer, Refusal, named, no_guest, no_session, ok};

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

/// Between looks at whether the link that let a client in is still good.
const CHECK: Duration = Duration::from_secs(2);

/// So many wrong credentials, and the client has to connect again.
const MAX_WRONG: u32 = 4;

/// Whom there is to watch.
pub trait Guests {
    /// What is known of a guest; `None`: there is none of that name.
    fn find(&self, guest: &str) -> Option<Show>;
    /// All their names.
    fn names(&self) -> Vec<String>;
    /// What this name grants with a guest, if the client proves that it knows its password.
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    fn check(
        &self,
        name: &str,
        guest: &str,
        proves: &dyn Fn(&str) -> bool,
    ) -> Result<Grant, TokenError>;
    /// Whether a grant that was good still is.
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    fn still(&self, grant: &Grant) -> Result<(), TokenError>;
}

/// How a client comes to see a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// It asks.
    Open,
    /// It shows that it has a link; this nonce is hard to guess, and of this connection alone.
    Locked {
        /// What its proof is made with.
        nonce: String,
    },
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
    /// The link that let it in is not good any more.
    #[error("{0}")]
    Link(#[from] TokenError),
    /// The client guesses.
    #[error("wrong credentials, {MAX_WRONG} times")]
    Stranger,
    /// What was described to the client is not what the stream is any more.
    #[error("the stream has another codec now")]
    Codec,
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
    door: Door,
    /// The guest that it may see, and by what.
    admitted: Option<(String, Grant)>,
    next_check: Instant,
    /// Credentials that were no good.
    wrong: u32,
    /// A request whose answer takes time.
    pending: Option<Pending>,
    outputs: VecDeque<Output>,
    /// What the client was told that the stream is.
    described: Option<Codec>,
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

impl Connection {
    /// A client that has just connected to our address `local`; `id` should be hard to guess.
    pub fn new(id: u64, local: IpAddr, door: Door, now: Instant) -> Self {
        Self {
            reader: Reader::default(),
            local,
            id,
            sessions: 0,
            session: None,
            door,
            admitted: None,
            next_check: now,
            wrong: 0,
            pending: None,
            outputs: VecDeque::new(),
            described: None,
            ended: None,
            heard: now,
        }
    }

    /// What the client was told that the stream is, if it has asked.
    pub fn described(&self) -> Option<Codec> {
        self.described
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
                Ok(None) => return self.poll_silence(now, guests),
                Err(malformed) => {
                    let refusal = Refusal::new(StatusCode::BadRequest, malformed.to_string());
                    self.answer("", Err(refusal));
                    self.ended = Some(malformed.into());
                }
            }
        }
    }

    fn poll_silence(&mut self, now: Instant, guests: &impl Guests) -> Output {
        let (limit, ending) = match self.session {
            Some(_) => (SESSION_TIMEOUT, Ending::Silent),
            None => (IDLE_TIMEOUT, Ending::Idle),
        };
        let end = self.heard + limit;
        let ending = match self.check_link(now, guests) {
            Err(e) => e.into(),
            Ok(check) if now < end => {
                return Output::Timeout(check.map_or(end, |check| check.min(end)));
            }
            Ok(_) => ending,
        };
        self.ended = Some(ending);
        Output::Close(ending)
    }

    /// Looks after the link that let the client in; tells when to look again.
    fn check_link(
        &mut self,
        now: Instant,
        guests: &impl Guests,
    ) -> Result<Option<Instant>, TokenError> {
        let Some((_, grant)) = &self.admitted else { return Ok(None) };
        if now >= self.next_check {
            guests.still(grant)?;
            self.next_check = now + CHECK;
        }
        Ok(Some(self.next_check))
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
                Some(text) => {
                    self.described = show.sets.as_ref().map(ParameterSets::codec);
                    Ok(ok()
                        .header(headers::CONTENT_BASE, base.as_str())
                        .header(headers::CONTENT_TYPE, "application/sdp")
                        .build(text.into_bytes()))
                }
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

fn describe(show: &Show, origin: IpAddr) -> Option<String> {
    sdp::describe_for_rtsp(show.id, origin, TRACK, show.sets.as_ref()?)
}

#[cfg(test)]
mod tests;
