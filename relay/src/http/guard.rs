//! Who may ask what: names, origins, tokens, and what every answer says to browsers.
//!
//! In: each request before its route. Out: the request, or a refusal in words. What this refuses
//! to do: trust a connection from loopback whose request was meant for another name, for it may
//! come from a page whose name leads here only since a second ago (DNS rebinding), or by a proxy.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError},
    time::Instant,
};

use axum::{
    Json,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, AUTHORIZATION,
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, RETRY_AFTER,
            VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{App, Connection, is_loopback};
use crate::access::{Grant, Role, TokenError};

/// Pages load what we serve, and nothing else; nobody frames them.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// A refusal in words.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    text: String,
}

impl Problem {
    /// A refusal.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(json!({ "error": self.text }))).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

/// What is left of the patience with wrong tokens: twenty, and two more each second. Guessing
/// 128 bits is hopeless anyway; this keeps the log and the processor quiet.
#[derive(Debug)]
pub struct Failures {
    left: f64,
    at: Instant,
}

impl Failures {
    const MOST: f64 = 20.0;
    const PER_SECOND: f64 = 2.0;

    /// Full patience.
    pub fn new(now: Instant) -> Self {
        Self { left: Self::MOST, at: now }
    }

    /// One more; `false` when there were too many.
    pub fn count(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + passed * Self::PER_SECOND).min(Self::MOST);
        let patient = self.left >= 1.0;
        if patient {
            self.left -= 1.0;
        }
        patient
    }
}

/// The host of a Host header or an origin, without its port and brackets.
pub fn host_name(authority: &str) -> Option<&str> {
    let host = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            let port = port.strip_prefix(':').unwrap_or(port);
            port.bytes().all(|byte| byte.is_ascii_digit()).then_some(host)?
        }
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            port.bytes().all(|byte| byte.is_ascii_digit()).then_some(host)?
        }
    };
    (!host.is_empty()).then_some(host)
}

/// Whether a name is this machine's own for this machine alone.
fn is_local_name(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(is_loopback)
}

/// Whether a request may be meant for us. An address cannot be rebound; a name must be known.
fn is_our_name(host: &str, allowed: &[String]) -> bool {
    is_local_name(host)
        || host.parse::<IpAddr>().is_ok()
        || allowed.iter().any(|name| name.eq_ignore_ascii_case(host))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What a request's origin may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Our own page, or no page at all.
    Own,
    /// One of those that are allowed.
    Allowed,
    /// Anybody's page.
    Foreign,
}

fn origin(headers: &HeaderMap, host: &str, allowed: &[String]) -> Origin {
    let Some(value) = headers.get(ORIGIN) else {
        // No page, or a page's plain GET.
        let site = text(headers, HeaderName::from_static("sec-fetch-site"));
        let mode = text(headers, HeaderName::from_static("sec-fetch-mode"));
        let foreign = matches!(site, Some("cross-site" | "same-site")) && mode != Some("navigate");
        return if foreign { Origin::Foreign } else { Origin::Own };
    };
    let Ok(value) = value.to_str() else { return Origin::Foreign };
    let authority = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
    if authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
        Origin::Own
    } else if allowed.iter().any(|origin| origin.eq_ignore_ascii_case(value)) {
        Origin::Allowed
    } else {
        Origin::Foreign
    }
}

/// Stands before all routes.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let authority = text(headers, HOST).unwrap_or_default().to_owned();
    let Some(host) = host_name(&authority) else {
        return dress(Problem::new(StatusCode::BAD_REQUEST, "no usable Host header"), None);
    };
    if !is_our_name(host, &app.settings.allow_hosts) {
        let text = format!(
            "this relay does not know itself as {host:?}: open it by its address or as localhost, \
             or start it with --allow-host {host}"
        );
        return dress(Problem::new(StatusCode::MISDIRECTED_REQUEST, text), None);
    }
    let origin = origin(headers, &authority, &app.settings.allow_origins);
    if origin == Origin::Foreign {
        let text = "a page of another origin may not use this relay, unless it was started with \
                    --allow-origin";
        return dress(Problem::new(StatusCode::FORBIDDEN, text), None);
    }
    let allowed =
        (origin == Origin::Allowed).then(|| request.headers().get(ORIGIN).cloned()).flatten();
    dress(next.run(request).await, allowed)
}

/// Adds what every answer says.
fn dress(response: impl IntoResponse, allowed: Option<HeaderValue>) -> Response {
    let mut response = response.into_response();
    let headers = response.headers_mut();
    let mut say = |name, value| headers.insert(name, HeaderValue::from_static(value));
    say(CONTENT_SECURITY_POLICY, POLICY);
    say(X_CONTENT_TYPE_OPTIONS, "nosniff");
    say(REFERRER_POLICY, "no-referrer");
    say(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    say(HeaderName::from_static("x-frame-options"), "DENY");
    say(VARY, "Origin");
    if allowed.is_none() {
        say(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if let Some(origin) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let mut say = |name, value| headers.insert(name, HeaderValue::from_static(value));
        say(ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PATCH, DELETE, OPTIONS");
        say(ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, if-match");
        say(ACCESS_CONTROL_EXPOSE_HEADERS, "location, etag");
    }
    response
}

/// The token of a request.
fn token(headers: &HeaderMap) -> Option<&str> {
    let value = text(headers, AUTHORIZATION)?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// What a request may do with a guest.
///
/// # Errors
///
/// 401 without a good token where one is needed, 403 with one for another guest, 429 after too
/// many wrong ones.
pub fn role(
    app: &App,
    connection: &Connection,
    headers: &HeaderMap,
    guest: &str,
) -> Result<(Role, Option<Grant>), Problem> {
    role_by(app, connection, headers, None, guest)
}

/// The same for a request that may carry its token elsewhere than in a header.
///
/// # Errors
///
/// As of [`role`].
pub fn role_by(
    app: &App,
    connection: &Connection,
    headers: &HeaderMap,
    elsewhere: Option<&str>,
    guest: &str,
) -> Result<(Role, Option<Grant>), Problem> {
    let Some(token) = token(headers).or(elsewhere) else {
        let local = text(headers, HOST).and_then(host_name).is_some_and(is_local_name);
        if connection.is_loopback() && local && !app.settings.require_token {
            return Ok((Role::View, None));
        }
        let text = "watching from here needs a link with a token: `transom link` makes one";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, text));
    };
    app.store.check(token, guest).map(|grant| (grant.role, Some(grant))).map_err(|e| {
        let mut failures = app.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let status = match e {
            _ if !failures.count(Instant::now()) => StatusCode::TOO_MANY_REQUESTS,
            TokenError::OtherGuest => StatusCode::FORBIDDEN,
            TokenError::Forged | TokenError::Expired | TokenError::Revoked => {
                StatusCode::UNAUTHORIZED
            }
        };
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Problem::new(status, "too many wrong tokens: try again in a few seconds");
        }
        Problem::new(status, e.to_string())
    })
}

/// No such path.
pub async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing here: / lists the guests")
}

/// No such method.
pub async fn not_allowed(method: Method) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not for this path"))
}

/// No such guest.
pub fn no_guest(app: &App, name: &str) -> Problem {
    let names: Vec<_> = app.stages.iter().map(|stage| stage.feed.name()).collect();
    let name: String = name.chars().take(64).collect();
    let text = format!("no guest is called {name:?}; there is {}", names.join(", "));
    Problem::new(StatusCode::NOT_FOUND, text)
}
