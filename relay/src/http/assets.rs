//! The pages and what they are made of, embedded in the program: `relay/web/`.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
    http::{
        HeaderMap, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Redirect, Response},
};

use super::{
    App, Connection,
    guard::{Problem, no_guest, not_found},
};

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! web {
    ($($file:literal: $kind:expr,)*) => {
        &[$(($file, $kind, include_str!(concat!("../../web/", $file)))),*]
    };
}

/// Served as `/-/FILE`.
const FILES: &[(&str, &str, &str)] = web! {
    "style.css": STYLE,
    "icon.svg": SVG,
    "picker.mjs": SCRIPT,
    "player.mjs": SCRIPT,
    "session.mjs": SCRIPT,
    "overlay.mjs": SCRIPT,
    "capture.mjs": SCRIPT,
    "access.mjs": SCRIPT,
    "input-wire.mjs": SCRIPT,
    "keys.mjs": SCRIPT,
    "gamepad.mjs": SCRIPT,
    "words.mjs": SCRIPT,
};

const PICKER: &str = include_str!("../../web/picker.html");
const PLAYER: &str = include_str!("../../web/player.html");

fn embedded(kind: &'static str, body: &'static str) -> Response {
    // The next build of the relay may have another: asked for each time, from the next room.
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], body).into_response()
}

/// `GET /`: pages hold no secret and need no token; what they ask for does.
pub async fn front(State(app): State<Arc<App>>) -> Response {
    match &app.stages[..] {
        // A fragment with a token stays with the redirect.
        [only] => Redirect::to(&format!("/{}/", only.feed.name())).into_response(),
        _ => embedded(HTML, PICKER),
    }
}

/// `GET /GUEST`.
pub async fn to_page(Path(guest): Path<String>) -> Redirect {
    // What a header cannot carry is no guest's name either.
    let fit = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    Redirect::to(&format!("/{}/", guest.chars().filter(fit).collect::<String>()))
}

/// `GET /GUEST/`.
///
/// # Errors
///
/// 404; on loopback with the names that there are.
pub async fn page(
    State(app): State<Arc<App>>,
    Extension(connection): Extension<Connection>,
    Path(guest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    match app.stage(&guest) {
        Some(_) => Ok(embedded(HTML, PLAYER)),
        None => {
            super::guard::role(&app, &connection, &headers, &guest)?;
            Err(no_guest(&app, &guest))
        }
    }
}

/// `GET /-/FILE`.
pub async fn file(Path(file): Path<String>) -> Response {
    match FILES.iter().find(|(name, _, _)| *name == file) {
        Some((_, kind, body)) => embedded(kind, body),
        None => not_found().await.into_response(),
    }
}

/// What browsers ask for unasked.
pub async fn icon() -> Response {
    (StatusCode::OK, [(CONTENT_TYPE, SVG)], include_str!("../../web/icon.svg")).into_response()
}
