//! The rules of who may ask what, against the real routes.

use std::{future::poll_fn, net::SocketAddr, path::PathBuf, pin::Pin, time::Duration};

use axum::{
    body::{Body, to_bytes},
    http::{Method, StatusCode},
    response::Response,
};

use super::*;
use crate::{
    access::Role,
    feed::{Picture, Source, feed},
    guest::GuestAddr,
    session::AccessUnit,
};
use hyper::body::Body as _;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsConnector, rustls};
use transom_protocol::{
    Chroma, FrameNumber, GuestTime,
    message::{Codec, FrameTimes},
};

/// A relay with two guests that show nothing, and its folder.
struct Relay {
    app: Arc<App>,
    dir: PathBuf,
    sources: Vec<Source>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

const HERE: &str = "127.0.0.1:40000";
const AWAY: &str = "192.0.2.7:40000";
const LONG: Duration = Duration::from_secs(3600);

impl Relay {
    fn new(name: &str, settings: Settings) -> Self {
        let dir = std::env::temp_dir().join(format!("transom-http-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let store = Arc::new(Store::open(&dir).expect("a store"));
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let webrtc = WebRtc::bind(loopback, Arc::clone(&store), Instant::now(), 1_000_000);
        let webrtc = webrtc.expect("a socket");
        let (mut stages, mut sources) = (Vec::new(), Vec::new());
        for (name, cid) in [("doom", 3), ("desk", 4)] {
            let (source, _commands, feed) = feed(name, &GuestAddr::Vsock { cid });
            stages.push(Stage::new(feed, false));
            sources.push(source);
        }
        Self { app: Arc::new(App::new(stages, webrtc, store, settings)), dir, sources }
    }

    fn token(&self, role: Role, guest: Option<&str>) -> String {
        self.app.store.grant(role, guest, LONG).expect("a grant").0
    }

    async fn ask(
        &self,
        peer: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response {
        self.send(peer, method, path, headers, Body::empty()).await
    }

    async fn send(
        &self,
        peer: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Response {
        let peer: SocketAddr = peer.parse().expect("an address");
        let local = if is_loopback(peer.ip()) { "127.0.0.1:8889" } else { "192.0.2.1:8889" };
        let local: SocketAddr = local.parse().expect("an address");
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", local.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body).expect("a request");
        tidy(request.uri_mut());
        let mut router = router(Arc::clone(&self.app)).layer(Extension(Connection { peer, local }));
        let answer = Service::<Request<Body>>::call(&mut router, request).await;
        answer.expect("it never fails")
    }

    async fn status(&self, peer: &str, path: &str, headers: &[(&str, &str)]) -> StatusCode {
        self.ask(peer, Method::GET, path, headers).await.status()
    }

    /// Asks while the first guest's screen moves.
    async fn ask_playing(&self, peer: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        let play = async {
            loop {
                self.sources[0].publish(&picture());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            answer = self.ask(peer, Method::GET, path, headers) => answer,
            () = play => unreachable!("it goes on for ever"),
        }
    }

    async fn offer(&self, peer: &str, headers: &[(&str, &str)], offer: &str) -> Response {
        let headers = [headers, &[("content-type", "application/sdp")]].concat();
        self.send(peer, Method::POST, "/doom/whep", &headers, offer.to_owned().into()).await
    }
}

async fn json(response: Response) -> serde_json::Value {
    let bytes = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// A picture that starts a decoder, as far as it matters here.
fn picture() -> Arc<Picture> {
    let time = GuestTime(0);
    let times = FrameTimes { seen: time, converted: time, encoded: time, sent: time };
    let data = vec![0, 0, 0, 1, 0x65, 1, 2, 3];
    let unit = AccessUnit {
        codec: Codec::H264,
        number: FrameNumber(0),
        idr: true,
        times,
        damage: 0,
        data,
    };
    let received = Instant::now();
    Arc::new(Picture { unit, taken: 0, received, chroma: Chroma::Yuv420 })
}

/// The next piece of an answer that goes on.
async fn piece(body: &mut Body) -> Option<Vec<u8>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.expect("it never fails").into_data().expect("data").to_vec())
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// What a browser offers, as far as it matters here.
const OFFER: &str = include_str!("offer.sdp");

#[tokio::test]
async fn loopback_lists_guests_without_a_token() {
    let relay = Relay::new("list", Settings::default());
    let list = json(relay.ask(HERE, Method::GET, "/api/guests", &[]).await).await;
    let list = list.as_array().expect("a list").clone();
    let names: Vec<_> = list.iter().map(|guest| guest["name"].as_str()).collect();
    assert_eq!(names, [Some("doom"), Some("desk")]);
    let doom = &list[0];
    assert_eq!((&doom["path"], &doom["whep"]), (&"/doom".into(), &"/doom/whep".into()));
    assert_eq!(doom["stream"], "/doom/stream.ts");
    assert_eq!((&doom["state"], &doom["viewers"]), (&"connecting".into(), &0.into()));
    assert_eq!(doom["role"], "view");
    for path in ["//api/guests", "/", "/doom/", "//doom/", "/-/style.css", "/api/guests/doom"] {
        assert_eq!(relay.status(HERE, path, &[]).await, 200, "{path}");
    }
    assert_eq!(relay.status(HERE, "/doom", &[]).await, 303);
    for path in ["/nope/", "/api/guests/nope", "/-/nope", "/-/../key", "/a/b/c/d"] {
        assert_eq!(relay.status(HERE, path, &[]).await, 404, "{path}");
    }
}

#[tokio::test]
async fn beyond_loopback_nothing_is_told_without_a_token() {
    let relay = Relay::new("away", Settings::default());
    for path in ["/api/guests", "/api/guests/doom", "/nope/"] {
        assert_eq!(relay.status(AWAY, path, &[]).await, 401, "{path}");
    }
    assert_eq!(relay.offer(AWAY, &[], OFFER).await.status(), 401);
    let view = bearer(&relay.token(Role::View, Some("doom")));
    let list = relay.ask(AWAY, Method::GET, "/api/guests", &[("authorization", &view)]).await;
    assert_eq!(json(list).await.as_array().map(Vec::len), Some(1), "the other is not its business");
    let answer = relay.offer(AWAY, &[("authorization", &view)], OFFER).await;
    assert_eq!(answer.status(), 201);
    let strict = Settings { require_token: true, ..Settings::default() };
    let relay = Relay::new("strict", strict);
    assert_eq!(relay.status(HERE, "/api/guests", &[]).await, 401);
}

#[tokio::test]
async fn a_proxy_on_loopback_does_not_make_strangers_local() {
    let allow_hosts = vec!["games.example".into()];
    let relay = Relay::new("proxy", Settings { allow_hosts, ..Settings::default() });
    let by_name = [("host", "games.example")];
    assert_eq!(relay.status(HERE, "/api/guests", &by_name).await, 401);
    let all = bearer(&relay.token(Role::View, None));
    let list = relay.status(HERE, "/api/guests", &[by_name[0], ("authorization", &all)]).await;
    assert_eq!(list, 200);
}

#[tokio::test]
async fn wrong_tokens_are_refused_each_for_its_reason() {
    let relay = Relay::new("wrong", Settings::default());
    let good = relay.token(Role::Control, Some("doom"));
    let with = async |token: &str| {
        relay.status(AWAY, "/api/guests/doom", &[("authorization", &bearer(token))]).await
    };
    assert_eq!(with(&good).await, 200);
    assert_eq!(with(&good[1..]).await, 401, "damaged");
    assert_eq!(with("").await, 401);
    assert_eq!(with(&relay.token(Role::Control, Some("desk"))).await, 403, "of another guest");
    let past = relay.app.store.grant(Role::View, Some("doom"), Duration::ZERO).expect("a grant").0;
    assert_eq!(with(&past).await, 401, "expired");
    let (token, grant) = relay.app.store.grant(Role::View, Some("doom"), LONG).expect("a grant");
    relay.app.store.revoke(grant.id, None).expect("revoked");
    assert_eq!(with(&token).await, 401, "revoked, and played again");
    let mut last = StatusCode::OK;
    for _ in 0..30 {
        last = with("forged").await;
    }
    assert_eq!(last, 429, "patience ends");
    assert_eq!(with(&good).await, 200, "not for those with a good one");
}

#[tokio::test]
async fn names_that_are_not_ours_are_not_answered() {
    let relay = Relay::new("hosts", Settings::default());
    for host in
        ["evil.example", "evil.example:8889", "localhost.evil.example", "127.0.0.1.evil.example"]
    {
        assert_eq!(relay.status(HERE, "/api/guests", &[("host", host)]).await, 421, "{host}");
        assert_eq!(relay.status(HERE, "/", &[("host", host)]).await, 421, "{host}");
    }
    for host in ["localhost", "LOCALHOST:1", "a.localhost:8889", "[::1]:8889", "127.0.0.1"] {
        assert_eq!(relay.status(HERE, "/api/guests", &[("host", host)]).await, 200, "{host}");
    }
    // An address cannot be rebound, but it is no name of loopback.
    assert_eq!(relay.status(HERE, "/api/guests", &[("host", "192.0.2.1:8889")]).await, 401);
    for host in ["", ":80", "[::1", "a:b"] {
        assert_eq!(relay.status(HERE, "/", &[("host", host)]).await, 400, "{host:?}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_do_nothing() {
    let relay = Relay::new("origins", Settings::default());
    let host = ("host", "127.0.0.1:8889");
    for origin in ["http://evil.example", "null", "http://127.0.0.1:9999", "https://localhost"] {
        let headers = [host, ("origin", origin)];
        assert_eq!(relay.offer(HERE, &headers, OFFER).await.status(), 403, "{origin}");
        assert_eq!(relay.status(HERE, "/api/guests", &headers).await, 403, "{origin}");
    }
    let own = [host, ("origin", "http://127.0.0.1:8889")];
    assert_eq!(relay.offer(HERE, &own, OFFER).await.status(), 201);
    let quiet = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
    assert_eq!(relay.status(HERE, "/api/guests", &quiet).await, 403);
    let clicked = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    assert_eq!(relay.status(HERE, "/doom/", &clicked).await, 200, "a link elsewhere may lead here");

    let allow_origins = vec!["https://player.example".into()];
    let relay = Relay::new("allowed", Settings { allow_origins, ..Settings::default() });
    let allowed = [host, ("origin", "https://player.example")];
    let asked = relay.ask(HERE, Method::OPTIONS, "/doom/whep", &allowed).await;
    assert_eq!(asked.status(), 204);
    assert_eq!(asked.headers()["access-control-allow-origin"], "https://player.example");
    assert_eq!(relay.offer(HERE, &allowed, OFFER).await.status(), 201);
}

#[tokio::test]
async fn every_answer_is_dressed_for_browsers() {
    let relay = Relay::new("dress", Settings::default());
    for (path, host) in [("/doom/", "localhost"), ("/nope", "localhost"), ("/", "evil.example")] {
        let answer = relay.ask(HERE, Method::GET, path, &[("host", host)]).await;
        let policy = answer.headers()["content-security-policy"].to_str().expect("text");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn whep_answers_with_a_session_that_delete_ends_once() {
    let relay = Relay::new("whep", Settings::default());
    let answer = relay.offer(HERE, &[], OFFER).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.headers()["content-type"], "application/sdp");
    let location = answer.headers()["location"].to_str().expect("text").to_owned();
    assert!(location.starts_with("/doom/whep/"));
    let sdp = to_bytes(answer.into_body(), 1 << 16).await.expect("a body");
    let sdp = String::from_utf8(sdp.to_vec()).expect("text");
    for part in [
        "a=ice-lite",
        "a=sendonly",
        "H264/90000",
        "packetization-mode=1",
        "127.0.0.1",
        "a=candidate",
    ] {
        assert!(sdp.contains(part), "{part} in {sdp}");
    }
    let patched = relay.ask(HERE, Method::PATCH, &location, &[]).await.status();
    assert_eq!(patched, 204);
    assert_eq!(relay.ask(HERE, Method::DELETE, &location, &[]).await.status(), 200);
    assert_eq!(relay.ask(HERE, Method::DELETE, &location, &[]).await.status(), 404);
    assert_eq!(relay.ask(HERE, Method::GET, &location, &[]).await.status(), 405);
}

#[tokio::test]
async fn full_colour_has_a_payload_type_of_its_own_where_it_is_offered() {
    let relay = Relay::new("colour", Settings::default());
    let full = OFFER.replace("102 103", "102 103 104 105")
        + "a=rtpmap:104 H264/90000\r\na=rtcp-fb:104 nack\r\na=rtcp-fb:104 nack pli\r\n\
           a=fmtp:104 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=f4001f\r\n\
           a=rtpmap:105 rtx/90000\r\na=fmtp:105 apt=104\r\n";
    for (offer, taken) in [(OFFER, false), (&full, true)] {
        let answer = relay.offer(HERE, &[], offer).await;
        assert_eq!(answer.status(), 201);
        let sdp = to_bytes(answer.into_body(), 1 << 16).await.expect("a body");
        let sdp = String::from_utf8(sdp.to_vec()).expect("text");
        assert!(sdp.contains("a=fmtp:102 ") && sdp.contains("profile-level-id=42"), "{sdp}");
        assert_eq!(sdp.contains("a=fmtp:104 "), taken, "{sdp}");
        assert_eq!(sdp.contains("profile-level-id=f4"), taken, "{sdp}");
    }
    // Nobody has to take it: what shows 4:4:4 alone could not watch together with others.
    let alone = OFFER.replace("42e01f", "f4001f");
    assert_eq!(relay.offer(HERE, &[], &alone).await.status(), 406);
}

#[tokio::test]
async fn what_is_refused_of_an_offer_is_still_well_formed() {
    let relay = Relay::new("audio", Settings::default());
    let audio = OFFER.split_once("m=video").map(|(_, video)| {
        let audio = video.replace("102 103", "111").replace("a=mid:0", "a=mid:1");
        let lines = audio.lines().filter(|line| !line.contains("102") && !line.contains("103"));
        lines.map(|line| format!("{line}\r\n")).collect::<String>()
    });
    let audio = format!("m=audio{}a=rtpmap:111 opus/48000/2\r\n", audio.expect("a section"));
    let offer = OFFER.replace("BUNDLE 0", "BUNDLE 0 1") + &audio;
    let answer = relay.offer(HERE, &[], &offer).await;
    assert_eq!(answer.status(), 201);
    let sdp = to_bytes(answer.into_body(), 1 << 16).await.expect("a body");
    let sdp = String::from_utf8(sdp.to_vec()).expect("text");
    assert!(sdp.contains("m=audio 0 UDP/TLS/RTP/SAVPF 0\r\n"), "{sdp}");
}

#[tokio::test]
async fn offers_that_are_none_are_refused() {
    let relay = Relay::new("offers", Settings::default());
    for (offer, status) in [
        ("", 400),
        ("v=0", 400),
        ("hello", 400),
        (&OFFER.replace("a=recvonly", "a=sendonly"), 406),
        (&OFFER.replace("H264", "VP8"), 406),
        (&OFFER.replace("packetization-mode=1", "packetization-mode=0"), 406),
        (&OFFER.replace("fingerprint:sha-256", "nothing:"), 400),
    ] {
        let answer = relay.offer(HERE, &[], offer).await;
        assert_eq!(answer.status(), status, "{offer}");
        assert!(json(answer).await["error"].is_string());
    }
    let plain = relay.send(
        HERE,
        Method::POST,
        "/doom/whep",
        &[("content-type", "text/plain")],
        OFFER.into(),
    );
    assert_eq!(plain.await.status(), 415);
    assert_eq!(relay.offer(HERE, &[], &"v".repeat(MAX_BODY + 1)).await.status(), 413);
    assert_eq!(relay.ask(HERE, Method::PUT, "/doom/whep", &[]).await.status(), 405);
}

#[tokio::test]
async fn sessions_that_are_never_joined_are_bounded() {
    let relay = Relay::new("flood", Settings::default());
    let mut refused = 0;
    for _ in 0..1000 {
        let status = relay.offer(HERE, &[], OFFER).await.status();
        refused += u32::from(status == 503);
        assert!(matches!(status.as_u16(), 201 | 503));
    }
    assert_eq!(refused as usize, 1000 - crate::webrtc::MAX_HALF_OPEN);
    assert_eq!(relay.status(HERE, "/api/guests", &[]).await, 200, "and the rest goes on");
}

#[tokio::test]
async fn a_stream_needs_what_watching_needs() {
    let relay = Relay::new("stream", Settings::default());
    let view = relay.token(Role::View, Some("doom"));
    let desk = relay.token(Role::View, Some("desk"));
    let path = |token: &str| format!("/doom/stream.ts?token={token}");
    for (peer, path, headers, status) in [
        (AWAY, "/doom/stream.ts".into(), &[][..], 401),
        (AWAY, path("forged"), &[], 401),
        (AWAY, path(&desk), &[], 403),
        (HERE, path("forged"), &[], 401),
        (HERE, "/nope/stream.ts".into(), &[], 404),
        (HERE, path(&view), &[("host", "evil.example")], 421),
        (HERE, path(&view), &[("origin", "http://evil.example")], 403),
        (
            HERE,
            path(&view),
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
            403,
        ),
    ] {
        assert_eq!(relay.status(peer, &path, headers).await, status, "{peer} {path}");
    }
    let bearer = bearer(&view);
    for (peer, path, headers) in [
        (HERE, "/doom/stream.ts".into(), &[][..]),
        (AWAY, path(&view), &[]),
        (AWAY, format!("/doom/stream.ts?x=1&token={view}"), &[]),
        (AWAY, "/doom/stream.ts".into(), &[("authorization", bearer.as_str())]),
    ] {
        let answer = relay.ask_playing(peer, &path, headers).await;
        assert_eq!(answer.status(), 200, "{peer} {path}");
        assert_eq!(answer.headers()["content-type"], "video/mp2t");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let first = piece(&mut answer.into_body()).await.expect("packets");
        assert!(first.len() % 188 == 0 && first.chunks(188).all(|packet| packet[0] == 0x47));
    }
    let head = relay.ask(HERE, Method::HEAD, "/doom/stream.ts", &[]).await;
    assert_eq!(
        (head.status(), &head.headers()["content-type"]),
        (StatusCode::OK, &"video/mp2t".parse().expect("a value"))
    );
}

#[tokio::test]
async fn a_stream_ends_with_its_link_and_its_seat_with_it() {
    let relay = Relay::new("stream-ends", Settings::default());
    let (token, grant) = relay.app.store.grant(Role::View, Some("doom"), LONG).expect("a grant");
    let path = format!("/doom/stream.ts?token={token}");
    let mut body = relay.ask_playing(AWAY, &path, &[]).await.into_body();
    assert!(piece(&mut body).await.is_some());
    assert_eq!(relay.app.stages[0].feed.viewers(), 1);
    // The clock goes on while the screen rests.
    while piece(&mut body).await.expect("a clock").len() != 188 {}
    relay.app.store.revoke(grant.id, None).expect("revoked");
    while piece(&mut body).await.is_some() {}
    assert_eq!(relay.app.stages[0].feed.viewers(), 0);
    // So is one that the player drops.
    let body = relay.ask_playing(HERE, "/doom/stream.ts", &[]).await.into_body();
    assert_eq!(relay.app.stages[0].feed.viewers(), 1);
    drop(body);
    while relay.app.stages[0].feed.viewers() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(relay.app.streams.available_permits(), stream::MAX_STREAMS);
}

#[tokio::test]
async fn a_guest_that_shows_nothing_has_no_stream_and_says_why() {
    let relay = Relay::new("stream-none", Settings::default());
    let answer = relay.ask(HERE, Method::GET, "/doom/stream.ts", &[]).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let told = json(answer).await["error"].to_string();
    assert!(told.contains("no picture of doom yet"), "{told}");
}

/// Says this to a relay that speaks HTTPS, encrypted or not, and yields the answer.
async fn say(address: SocketAddr, pem: Option<&[u8]>, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let mut answer = Vec::new();
    match pem {
        None => {
            stream.write_all(request.as_bytes()).await.expect("sent");
            stream.read_to_end(&mut answer).await.expect("an answer");
        }
        Some(pem) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(pem).expect("PEM")).expect("a certificate");
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
            let name = ServerName::try_from("games.example").expect("a name");
            let connector = TlsConnector::from(Arc::new(config));
            let mut stream = connector.connect(name, stream).await.expect("a handshake");
            stream.write_all(request.as_bytes()).await.expect("sent");
            stream.read_to_end(&mut answer).await.expect("an answer");
        }
    }
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn https_answers_who_speaks_it_and_shows_the_way_to_who_does_not() {
    let relay = Relay::new("tls", Settings::default());
    let names = ["games.example".to_owned()];
    let tls = Tls::own(&relay.app.store, &names).expect("a certificate");
    let again = Tls::own(&relay.app.store, &[]).expect("the same");
    assert_eq!((tls.fingerprint(), tls.fingerprint().len()), (again.fingerprint(), 95));
    let pem = relay.app.store.secret(tls::FILE).expect("ours").expect("it is kept");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(listener, Arc::clone(&relay.app), Some(tls)));
    let ask = "GET /api/guests?token=x HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n";
    let answer = say(address, Some(&pem), ask).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("doom"), "{answer}");
    let answer = say(address, None, ask).await;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(answer.contains("location: https://localhost:1/api/guests\r\n"), "{answer}");
    for bad in [ask.replace("GET", "POST"), ask.replace("localhost:1", "a:b:c")] {
        let answer = say(address, None, &bad).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("HTTPS"), "{answer}");
    }
    // Whatever else is said first ends that connection alone.
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(&[22, 3, 1, 0, 5, 1, 2, 3, 4, 5]).await.expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    assert!(say(address, Some(&pem), ask).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn certificates_that_do_not_do_are_named() {
    let relay = Relay::new("certificates", Settings::default());
    let file = |name: &str, bytes: &[u8]| {
        let path = relay.dir.join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    };
    Tls::own(&relay.app.store, &[]).expect("one");
    let pem = relay.app.store.secret(tls::FILE).expect("ours").expect("it is kept");
    let good = file("good.pem", &pem);
    assert!(Tls::load(&good, &good).is_ok());
    let other = Relay::new("certificates-other", Settings::default());
    Tls::own(&other.app.store, &[]).expect("another");
    let (text, missing) = (file("text.pem", b"hello"), relay.dir.join("missing.pem"));
    for (chain, key, told) in [
        (&missing, &good, "missing.pem"),
        (&text, &good, "no certificate in PEM form"),
        (&good, &text, "no private key in PEM form"),
        (&good, &other.dir.join(tls::FILE), "good.pem"),
    ] {
        let error = Tls::load(chain, key).expect_err("it does not do").to_string();
        assert!(error.contains(told), "{error}");
    }
    let names = ["no name\u{e9}".to_owned()];
    assert!(matches!(make_for(&names), Err(tls::TlsError::Make(_))));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let kept = relay.dir.join(tls::FILE);
        std::fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o644)).expect("set");
        let error = Tls::own(&relay.app.store, &[]).expect_err("others can read it").to_string();
        assert!(error.contains("tls.pem") && error.contains("remove it"), "{error}");
    }
}

/// A certificate of a relay that has none yet.
fn make_for(names: &[String]) -> Result<Tls, tls::TlsError> {
    Tls::own(&Relay::new("certificates-none", Settings::default()).app.store, names)
}
