//! Answers, and refusals in words: what is wrong, and what there is instead.

use rtsp_types::{HeaderName, Response, StatusCode, Version, headers};

use super::{Guests, SESSION_TIMEOUT, Session};

/// What there is to ask for.
pub(super) const ALLOWED: &str = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, GET_PARAMETER, TEARDOWN";

/// So many guests are named to a client that asks for one there is not.
const MAX_NAMED: usize = 8;

/// Why a request is not granted.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) reason: String,
    pub(super) header: Option<(HeaderName, String)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), header: None }
    }

    pub(super) fn with(self, name: HeaderName, value: impl Into<String>) -> Self {
        Self { header: Some((name, value.into())), ..self }
    }
}

/// What comes of a request.
pub(super) type Answer = Result<rtsp_types::ResponseBuilder, Refusal>;

pub(super) fn ok() -> rtsp_types::ResponseBuilder {
    Response::builder(Version::V1_0, StatusCode::Ok).reason_phrase("OK")
}

pub(super) fn named(session: &Session) -> String {
    format!("{};timeout={}", session.id, SESSION_TIMEOUT.as_secs())
}

pub(super) fn no_address() -> Refusal {
    Refusal::new(StatusCode::NotFound, "the address of a guest is rtsp://HOST:PORT/GUEST")
}

pub(super) fn no_guest(guests: &impl Guests) -> Refusal {
    let mut names = guests.names();
    let more = if names.len() > MAX_NAMED { " and others" } else { "" };
    names.truncate(MAX_NAMED);
    let reason = format!("no guest of that name; there is {}{more}", names.join(", "));
    Refusal::new(StatusCode::NotFound, reason)
}

pub(super) fn no_session() -> Refusal {
    Refusal::new(StatusCode::SessionNotFound, "no such session on this connection")
}

pub(super) fn not_now(reason: &str) -> Refusal {
    Refusal::new(StatusCode::MethodNotValidInThisState, reason)
}

pub(super) fn not_allowed() -> Refusal {
    Refusal::new(StatusCode::MethodNotAllowed, "guests can only be watched")
        .with(headers::ALLOW, ALLOWED)
}
