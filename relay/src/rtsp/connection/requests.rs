//! What each method does. In: requests, in turn. Out: answers, or refusals in words, and what is to
//! be done with the media.

use std::time::Instant;

use rtsp_types::{HeaderName, Method, Request, StatusCode, Url, Version, headers};

use super::{
    Connection, DESCRIBE_TIMEOUT, Door, Ending, Guests, MAX_WRONG, Output, Pending, Session, TRACK,
    answer::{
        ALLOWED, Answer, Refusal, named, no_address, no_guest, no_session, not_allowed, not_now, ok,
    },
};
use crate::{
    access::TokenError,
    rtsp::{
        digest::{self, Credentials},
        transport::{self, Transport},
    },
};

impl Connection {
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        guests: &impl Guests,
        request: &Request<Vec<u8>>,
    ) {
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

    /// Whether the client may see this guest; before anything else is told of it.
    fn admit(
        &mut self,
        guests: &impl Guests,
        request: &Request<Vec<u8>>,
        guest: &str,
    ) -> Result<(), Refusal> {
        let Door::Locked { nonce } = &self.door else { return Ok(()) };
        if self.admitted.as_ref().is_some_and(|(known, _)| known == guest) {
            return Ok(());
        }
        let ask = |reason: &str| {
            Refusal::new(StatusCode::Unauthorized, reason)
                .with(headers::WWW_AUTHENTICATE, digest::challenge(nonce))
        };
        let shown = header(request, &headers::AUTHORIZATION).and_then(Credentials::parse);
        let Some(shown) = shown else {
            return Err(ask("watching from here needs a link: transom link --rtsp makes one"));
        };
        let method: &str = request.method().into();
        let proves = |password: &str| shown.prove(method, nonce, password);
        match guests.check(&shown.name, guest, &proves) {
            Ok(grant) => {
                self.admitted = Some((guest.to_owned(), grant));
                Ok(())
            }
            Err(e @ TokenError::OtherGuest) => {
                Err(Refusal::new(StatusCode::Forbidden, e.to_string()))
            }
            Err(e) => {
                self.wrong += 1;
                if self.wrong >= MAX_WRONG {
                    self.ended = Some(Ending::Stranger);
                }
                Err(ask(&e.to_string()))
            }
        }
    }

    fn handle_describe(
        &mut self,
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
        self.admit(guests, request, guest)?;
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
        self.admit(guests, request, guest)?;
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
