//! WHEP (draft-ietf-wish-whep): an offer comes by POST, the answer goes back with 201 and the
//! URL of the session, which DELETE ends.
//!
//! The answer has all candidates, and ours is the one address that viewers reach; what a client
//! trickles by PATCH is not needed and taken without effect.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::{
        HeaderMap, HeaderName, StatusCode,
        header::{ALLOW, CONTENT_TYPE, LOCATION},
    },
    response::{IntoResponse, Response},
};

use super::{
    App, Connection,
    guard::{Problem, no_guest, role},
};
use crate::webrtc::JoinError;

const SDP: &str = "application/sdp";
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// Whether a Content-Type says SDP, whatever its parameters.
pub fn is_sdp(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(SDP)
}

/// `POST /GUEST/whep`.
///
/// # Errors
///
/// 400 for what is no offer, 406 for one without a codec in common, 413, 415, 503 when full, and
/// those of [`role`].
pub async fn offer(
    State(app): State<Arc<App>>,
    Extension(connection): Extension<Connection>,
    Path(guest): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let may = role(&app, &connection, &headers, &guest)?;
    let stage = app.stage(&guest).ok_or_else(|| no_guest(&app, &guest))?;
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(is_sdp) {
        let text = format!("an offer is {SDP}");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let body = body.map_err(|e| Problem::new(e.status(), e.body_text()))?;
    let Ok(offer) = std::str::from_utf8(&body) else {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "the offer is not UTF-8"));
    };
    let joined = app.webrtc.join(stage, offer, may, connection.local.ip()).map_err(|e| {
        use crate::webrtc::peer::OfferError;
        let status = match e {
            JoinError::Offer(OfferError::Malformed(_)) => StatusCode::BAD_REQUEST,
            JoinError::Offer(_) => StatusCode::NOT_ACCEPTABLE,
            JoinError::Full | JoinError::Random(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, e.to_string())
    })?;
    let location = format!("/{guest}/whep/{}", joined.id);
    let headers = [(CONTENT_TYPE, SDP.to_owned()), (LOCATION, location)];
    Ok((StatusCode::CREATED, headers, joined.answer).into_response())
}

/// `DELETE /GUEST/whep/SESSION`: nobody can guess the name of a session, so that it is proof
/// enough.
///
/// # Errors
///
/// 404.
pub async fn end(
    State(app): State<Arc<App>>,
    Path((_, session)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    if app.webrtc.leave(&session) { Ok(StatusCode::OK) } else { Err(no_session()) }
}

/// `PATCH /GUEST/whep/SESSION`.
///
/// # Errors
///
/// 404.
pub async fn trickle(
    State(app): State<Arc<App>>,
    Path((_, session)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    if app.webrtc.is_live(&session) { Ok(StatusCode::NO_CONTENT) } else { Err(no_session()) }
}

/// `GET /GUEST/whep/SESSION`: the draft reserves it.
pub async fn look() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "a session is ended by DELETE")
}

/// `OPTIONS`, for other origins' pages that may come here: the guard adds what they are allowed.
pub async fn options() -> Response {
    let headers = [(ALLOW, "OPTIONS, POST, PATCH, DELETE"), (ACCEPT_POST, SDP)];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn no_session() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such session, or it has ended")
}
