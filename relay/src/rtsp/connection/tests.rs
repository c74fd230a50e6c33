use super::*;
use crate::{
    access::{Role, TokenId},
    rtsp::digest::tests::authorization,
};

const ID: u64 = 0xabc;
const UDP: &str = "Transport: RTP/AVP;unicast;client_port=5000-5001";
const TCP: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1";

/// What a link says and proves.
const LINK: (&str, &str) = ("name", "password");
const NONCE: &str = "0123";

/// Guests that show something or not yet, and whether links are still good.
struct House(bool, Result<(), TokenError>);

impl Guests for House {
    fn find(&self, guest: &str) -> Option<Show> {
        let mut sets = ParameterSets::default();
        sets.update(Codec::H264, &[0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0xda, 0, 0, 1, 0x68, 0xce]);
        (guest == "doom" || guest == "desk").then(|| Show {
            sets: self.0.then_some(sets),
            absence: "it is booting".into(),
            id: 7,
            ssrc: 0xfeed,
            ports: (8000, 8001),
        })
    }

    fn names(&self) -> Vec<String> {
        vec!["doom".into(), "desk".into()]
    }

    fn check(
        &self,
        name: &str,
        guest: &str,
        proves: &dyn Fn(&str) -> bool,
    ) -> Result<Grant, TokenError> {
        if name != LINK.0 || !proves(LINK.1) {
            return Err(TokenError::Forged);
        }
        self.1?;
        if guest == "desk" {
            return Err(TokenError::OtherGuest);
        }
        Ok(Grant { id: TokenId([1; 8]), role: Role::View, guest: None, expires: 9 })
    }

    fn still(&self, _grant: &Grant) -> Result<(), TokenError> {
        self.1
    }
}

struct Client {
    connection: Connection,
    house: House,
    now: Instant,
    cseq: u32,
}

impl Client {
    fn new() -> Self {
        Self::before(Door::Open)
    }

    fn before(door: Door) -> Self {
        let now = Instant::now();
        let connection = Connection::new(ID, [127, 0, 0, 1].into(), door, now);
        Self { connection, house: House(true, Ok(())), now, cseq: 0 }
    }

    /// A client that must show a link.
    fn stranger() -> Self {
        Self::before(Door::Locked { nonce: NONCE.into() })
    }

    fn poll(&mut self) -> Output {
        self.connection.poll_output(self.now, &self.house)
    }

    fn send(&mut self, method: &str, path: &str, lines: &[&str]) {
        self.cseq += 1;
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let cseq = self.cseq;
        let request = format!(
            "{method} rtsp://u:secret@h:8554/{path} RTSP/1.0\r\nCSeq: {cseq}\r\n{lines}\r\n"
        );
        self.connection.handle_bytes(request.as_bytes());
    }

    fn answer(&mut self) -> String {
        match self.poll() {
            Output::Send(bytes) => String::from_utf8(bytes).expect("answers are text"),
            other => panic!("no answer but {other:?}"),
        }
    }

    /// Sends a request whose answer must have this status; yields the answer.
    fn ask(&mut self, status: u16, method: &str, path: &str, lines: &[&str]) -> String {
        self.send(method, path, lines);
        let answer = self.answer();
        let cseq = format!("\r\nCSeq: {}\r\n", self.cseq);
        assert!(answer.starts_with(&format!("RTSP/1.0 {status} ")), "{method} {path}: {answer}");
        assert!(answer.contains(&cseq), "{answer}");
        answer
    }

    /// Sets up and plays; yields the session's number.
    fn play(&mut self, transport: &str) -> String {
        let answer = self.ask(200, "SETUP", "doom/video", &[transport]);
        let id = answer.split("Session: ").nth(1).and_then(|rest| rest.split(';').next());
        let session = format!("Session: {}", id.expect("SETUP names a session"));
        self.send("PLAY", "doom/", &[&session]);
        assert!(matches!(self.poll(), Output::Play { guest, .. } if guest == "doom"));
        assert!(matches!(self.poll(), Output::Timeout(_)), "no answer before it is known to work");
        self.connection.handle_played(Ok(()));
        assert!(self.answer().starts_with("RTSP/1.0 200 "));
        session
    }
}

#[test]
fn a_whole_conversation_over_udp() {
    let mut client = Client::new();
    assert!(client.ask(200, "OPTIONS", "doom", &[]).contains("Public: OPTIONS, DESCRIBE, SETUP"));
    let answer = client.ask(200, "DESCRIBE", "doom?token=x", &["Accept: application/sdp"]);
    assert!(answer.contains("\r\nContent-Base: rtsp://h:8554/doom/\r\n"), "{answer}");
    assert!(answer.contains("\r\nContent-Type: application/sdp\r\n"), "{answer}");
    assert!(answer.contains("o=- 7 0 IN IP4 127.0.0.1\r\n"), "{answer}");
    assert!(answer.contains("profile-level-id=42C01F"), "{answer}");
    assert!(!answer.contains("secret") && !answer.contains("token"), "{answer}");
    let answer = client.ask(200, "SETUP", "doom/video", &[UDP]);
    assert!(answer.contains(";client_port=5000-5001;server_port=8000-8001;ssrc=0000FEED\r\n"));
    let session = "Session: 0000000000000abc1";
    assert!(answer.contains(&format!("{session};timeout=60\r\n")), "{answer}");
    client.send("PLAY", "doom/", &[session, "Range: npt=0.000-"]);
    let transport = Transport::Udp { rtp: 5000, rtcp: 5001 };
    assert_eq!(client.poll(), Output::Play { guest: "doom".into(), transport });
    client.connection.handle_played(Ok(()));
    assert!(client.answer().contains("200 OK\r\n"));
    client.ask(200, "PLAY", "doom/", &[session]);
    client.ask(200, "GET_PARAMETER", "doom/", &[session]);
    client.send("PAUSE", "doom/", &[session]);
    assert_eq!(client.poll(), Output::Stop);
    assert!(client.answer().starts_with("RTSP/1.0 200 "));
    client.ask(200, "PAUSE", "doom/", &[session]);
    client.ask(200, "TEARDOWN", "doom/", &[session]);
    client.ask(454, "PLAY", "doom/", &[session]);
    assert!(client.play(UDP).ends_with("abc2"), "a new session has a new number");
    client.send("TEARDOWN", "doom/video", &[]);
    assert_eq!(client.poll(), Output::Stop);
}

#[test]
fn refusals_say_why() {
    let mut client = Client::new();
    let answer = client.ask(404, "DESCRIBE", "quake", &[]);
    assert!(answer.starts_with("RTSP/1.0 404 no guest of that name; there is doom, desk\r\n"));
    client.ask(404, "DESCRIBE", "", &[]);
    client.ask(404, "SETUP", "doom/audio", &[UDP]);
    client.ask(406, "DESCRIBE", "doom", &["Accept: text/html"]);
    client.ask(461, "SETUP", "doom/video", &["Transport: RTP/AVP;multicast"]);
    client.ask(461, "SETUP", "doom/video", &[]);
    client.ask(454, "SETUP", "doom/video", &[UDP, "Session: 1"]);
    for method in ["PLAY", "PAUSE", "TEARDOWN"] {
        client.ask(454, method, "doom", &[]);
    }
    client.ask(454, "GET_PARAMETER", "doom", &["Session: 1"]);
    for method in ["ANNOUNCE", "RECORD", "SET_PARAMETER"] {
        assert!(client.ask(405, method, "doom", &[]).contains("\r\nAllow: OPTIONS, DESCRIBE"));
    }
    client.ask(501, "FLY", "doom", &[]);
    assert!(client.ask(551, "OPTIONS", "doom", &["Require: x.y"]).contains("Unsupported: x.y"));
    let session = client.play(UDP);
    client.ask(455, "SETUP", "doom/video", &[UDP, &session]);
    client.ask(455, "SETUP", "doom/video", &[UDP]);
    client.ask(454, "TEARDOWN", "doom", &["Session: 1"]);
    client.send("PAUSE", "doom", &[&session]);
    assert_eq!(client.poll(), Output::Stop);
    client.answer();
    client.ask(459, "SETUP", "desk/video", &[UDP, &session]);
    client.ask(200, "SETUP", "doom/video", &[TCP, &session]);
    client.connection.handle_bytes(
        b"GET_PARAMETER rtsp://h/doom RTSP/1.0\r\nCSeq: 9\r\nContent-Length: 1\r\n\r\nx",
    );
    assert!(client.answer().starts_with("RTSP/1.0 451 "));
}

#[test]
fn describe_waits_for_a_picture_but_not_for_ever() {
    let mut client = Client::new();
    client.house = House(false, Ok(()));
    client.send("DESCRIBE", "doom", &[]);
    client.send("OPTIONS", "doom", &[]);
    let until = client.now + DESCRIBE_TIMEOUT;
    assert_eq!(client.poll(), Output::Wait { guest: "doom".into(), until });
    client.house = House(true, Ok(()));
    assert!(client.answer().contains("application/sdp"));
    assert!(client.answer().contains("Public"), "what was asked meanwhile is answered in turn");
    client.house = House(false, Ok(()));
    client.send("DESCRIBE", "doom", &[]);
    assert!(matches!(client.poll(), Output::Wait { .. }));
    client.now += DESCRIBE_TIMEOUT;
    let answer = client.answer();
    assert!(
        answer.starts_with("RTSP/1.0 503 no picture of doom yet: it is booting\r\n"),
        "{answer}"
    );
    assert!(answer.contains("\r\nRetry-After: 2\r\n"), "{answer}");
}

#[test]
fn a_guest_that_is_full_is_no_session_that_plays() {
    let mut client = Client::new();
    client.ask(200, "SETUP", "doom/video", &[UDP]);
    client.send("PLAY", "doom/", &[]);
    assert!(matches!(client.poll(), Output::Play { .. }));
    client.connection.handle_played(Err("too many".into()));
    assert!(client.answer().starts_with("RTSP/1.0 453 too many\r\n"));
    client.ask(200, "TEARDOWN", "doom/", &[]);
    assert!(matches!(client.poll(), Output::Timeout(_)), "there is nothing to stop");
}

#[test]
fn rtcp_between_requests_is_taken_from_its_channel_alone() {
    let mut client = Client::new();
    client.play(TCP);
    client.connection.handle_bytes(b"$\x00\x00\x01a$\x01\x00\x02bc$\x07\x00\x00");
    assert_eq!(client.poll(), Output::Feedback(b"bc".to_vec()));
    assert!(matches!(client.poll(), Output::Timeout(_)));
}

#[test]
fn silent_clients_are_given_up() {
    let mut client = Client::new();
    client.ask(200, "OPTIONS", "doom", &[]);
    let Output::Timeout(end) = client.poll() else { panic!("it may be idle for a while") };
    client.now = end;
    assert_eq!(client.poll(), Output::Close(Ending::Idle));
    assert_eq!(client.poll(), Output::Close(Ending::Idle));

    let mut client = Client::new();
    client.play(UDP);
    for sign in 0..3 {
        let Output::Timeout(end) = client.poll() else { panic!("it plays") };
        assert_eq!(end, client.now + SESSION_TIMEOUT, "after {sign} signs of life");
        client.now = end - Duration::from_secs(1);
        client.connection.handle_sign(client.now);
    }
    client.now += SESSION_TIMEOUT;
    assert_eq!(client.poll(), Output::Close(Ending::Silent));
}

#[test]
fn what_is_no_rtsp_is_answered_once() {
    let mut client = Client::new();
    client.connection.handle_bytes(b"GET / HTTP/1.1\r\n\r\nOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    assert!(client.answer().starts_with("RTSP/1.0 400 this is no RTSP request\r\n"));
    assert_eq!(client.poll(), Output::Close(Malformed::Grammar.into()));

    let mut client = Client::new();
    client.connection.handle_bytes(b"OPTIONS * RTSP/1.0\r\n\r\n");
    assert!(client.answer().starts_with("RTSP/1.0 400 a request needs a CSeq\r\n"));
    client.connection.handle_bytes(b"OPTIONS * RTSP/2.0\r\nCSeq: 5\r\n\r\n");
    assert!(client.answer().starts_with("RTSP/1.0 505 "));
    client.ask(200, "OPTIONS", "", &[]);
}

/// The header by which the link's bearer asks.
fn proof(link: (&str, &str), method: &str, path: &str) -> String {
    authorization(link, method, &format!("rtsp://h:8554/{path}"), NONCE)
}

#[test]
fn a_stranger_learns_nothing_before_it_shows_a_link() {
    let mut client = Client::stranger();
    client.ask(200, "OPTIONS", "doom", &[]);
    for path in ["doom", "desk", "quake"] {
        let answer = client.ask(401, "DESCRIBE", path, &[]);
        let asks =
            "\r\nWWW-Authenticate: Digest realm=\"transom\", nonce=\"0123\", algorithm=MD5\r\n";
        assert!(answer.contains(asks) && answer.contains("transom link"), "{answer}");
        assert!(!answer.contains("there is"), "no guest is named: {answer}");
    }
    client.ask(401, "SETUP", "doom/video", &[UDP]);
    client.ask(454, "PLAY", "doom", &[]);
    client.ask(401, "DESCRIBE", "doom?token=name", &["Authorization: Basic bmFtZTpwYXNzd29yZA=="]);

    let answer = client.ask(200, "DESCRIBE", "doom", &[&proof(LINK, "DESCRIBE", "doom")]);
    assert!(answer.contains("application/sdp"), "{answer}");
    client.ask(403, "DESCRIBE", "desk", &[&proof(LINK, "DESCRIBE", "desk")]);
    client.ask(401, "SETUP", "desk/video", &[UDP]);
    client.ask(404, "DESCRIBE", "quake", &[&proof(LINK, "DESCRIBE", "quake")]);
    client.ask(200, "DESCRIBE", "doom", &[&proof(LINK, "DESCRIBE", "doom")]);
    client.play(UDP);
}

#[test]
fn a_player_that_proves_itself_at_every_step_is_let_in_at_each() {
    let mut client = Client::stranger();
    client.ask(200, "SETUP", "doom/video", &[UDP, &proof(LINK, "SETUP", "doom/video")]);
    client.send("PLAY", "doom/", &[&proof(LINK, "PLAY", "doom/")]);
    assert!(matches!(client.poll(), Output::Play { .. }));
}

#[test]
fn wrong_proofs_are_few() {
    let wrong = [
        proof((LINK.0, "guess"), "DESCRIBE", "doom"),
        proof(("other", LINK.1), "DESCRIBE", "doom"),
        proof(LINK, "SETUP", "doom"),
        authorization(LINK, "DESCRIBE", "rtsp://h:8554/doom", "another connection's nonce"),
    ];
    let mut client = Client::stranger();
    for header in &wrong {
        let answer = client.ask(401, "DESCRIBE", "doom", &[header]);
        assert!(answer.contains("was not made by this relay"), "{answer}");
    }
    assert_eq!(client.poll(), Output::Close(Ending::Stranger));
    for e in [TokenError::Expired, TokenError::Revoked] {
        let mut client = Client::stranger();
        client.house.1 = Err(e);
        let answer = client.ask(401, "DESCRIBE", "doom", &[&proof(LINK, "DESCRIBE", "doom")]);
        assert!(answer.contains(&e.to_string()), "{answer}");
    }
}

#[test]
fn a_session_ends_with_its_link() {
    let mut client = Client::stranger();
    client.ask(200, "DESCRIBE", "doom", &[&proof(LINK, "DESCRIBE", "doom")]);
    client.play(UDP);
    let Output::Timeout(look) = client.poll() else { panic!("it plays") };
    assert!(look <= client.now + CHECK);
    client.now = look;
    assert!(matches!(client.poll(), Output::Timeout(next) if next > look), "the link is good");
    client.house.1 = Err(TokenError::Revoked);
    client.now += CHECK;
    assert_eq!(client.poll(), Output::Close(TokenError::Revoked.into()));
}
