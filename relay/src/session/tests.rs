//! The session against simulated time.

use super::*;
use transom_protocol::{
    GuestTime, HostTime,
    message::{Codec, Scanout},
    wire::{Decoder, Limits},
};

/// A session and the time it lives in.
struct World {
    session: Session,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self { session: Session::new(SessionId(1), now, now), now }
    }

    /// What the session sends now.
    fn requests(&mut self) -> Vec<HostControl> {
        let mut bytes = Vec::new();
        self.session.poll_request(self.now, &mut bytes).expect("the guest is not silent");
        frames(&bytes).iter().map(|f| wire::decode(&f.message).expect("our own")).collect()
    }

    /// Lives on for a while; pings are answered after `delay` if there is one.
    fn live(&mut self, time: Duration, delay: Option<Duration>) -> Vec<HostControl> {
        let (end, mut others) = (self.now + time, Vec::new());
        loop {
            for request in self.requests() {
                match (request, delay) {
                    (HostControl::Ping { id, sent }, Some(delay)) => {
                        self.now += delay;
                        self.pong(id, sent);
                    }
                    (HostControl::Ping { .. }, None) => {}
                    (other, _) => others.push(other),
                }
            }
            let next = self.session.poll_timeout();
            assert!(next > self.now, "a timeout that lies in the past would spin");
            if next > end {
                self.now = self.now.max(end);
                return others;
            }
            self.now = next;
        }
    }

    fn pong(&mut self, id: u32, sent: HostTime) {
        let guest = GuestTime(sent.0 + 7_000_000_000);
        let pong = GuestControl::Pong { id, host_sent: sent, received: guest, sent: guest };
        assert_eq!(self.control(&pong), Ok(None));
    }

    fn control(&mut self, message: &GuestControl) -> Result<Option<Event>, SessionError> {
        self.session.handle_control(self.now, &frame(message, &[]))
    }

    fn media(&mut self, message: &GuestMedia, bulk: &[u8]) -> Option<Event> {
        self.session.handle_media(frame(message, bulk)).expect("it is well-formed")
    }

    fn start(&mut self) {
        self.start_with(Codec::H264);
    }

    fn start_with(&mut self, codec: Codec) {
        let format = VideoFormat { codec, width: 2, height: 2 };
        let start = GuestMedia::StreamStart { stream: StreamId::VIDEO, format };
        assert_eq!(self.media(&start, &[]), Some(Event::StreamStart(format)));
    }

    /// Whether an access unit is passed on.
    fn unit(&mut self, number: u64, idr: bool) -> bool {
        self.passed(number, idr).is_some()
    }

    fn passed(&mut self, number: u64, idr: bool) -> Option<Event> {
        let t = GuestTime(0);
        let times = FrameTimes { seen: t, converted: t, encoded: t, sent: t };
        let (stream, number) = (StreamId::VIDEO, FrameNumber(number));
        let unit = GuestMedia::AccessUnit { stream, number, idr, times, damage: 3 };
        self.media(&unit, b"bulk")
    }
}

const IDR: HostControl = HostControl::RequestIdr { stream: StreamId::VIDEO };

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let (mut decoder, mut rest, mut frames) = (Decoder::new(Limits::MEDIA), bytes, Vec::new());
    loop {
        while let Some(frame) = decoder.poll_frame().expect("our own") {
            frames.push(frame);
        }
        if rest.is_empty() {
            return frames;
        }
        let count = decoder.space().len().min(rest.len());
        decoder.space()[..count].copy_from_slice(&rest[..count]);
        decoder.advance(count);
        rest = &rest[count..];
    }
}

fn frame<M: serde::Serialize>(message: &M, bulk: &[u8]) -> Frame {
    let mut bytes = Vec::new();
    wire::encode(message, bulk.len() as u32, &mut bytes);
    bytes.extend_from_slice(bulk);
    frames(&bytes).remove(0)
}

#[test]
fn a_hello_names_what_we_speak() {
    let hello = &frames(&World::new().session.hello(Role::MEDIA))[0];
    let hello: HostHello = wire::decode_hello(&hello.message).expect("our own");
    assert_eq!((hello.magic, hello.role, hello.session), (MAGIC, Role::MEDIA, SessionId(1)));
}

#[test]
fn answers_to_a_hello_are_told_apart() {
    let session = World::new().session;
    let answer = |hello: &GuestHello| session.handle_welcome(Role::CONTROL, &frame(hello, &[]));
    let welcome = |version| GuestHello::Welcome {
        version,
        capabilities: Capabilities::H264,
        boot: [7; 16],
        software: Text::new("agent"),
    };
    assert_eq!(answer(&welcome(VERSION_MAX)).map(|w| w.boot), Ok([7; 16]));
    assert_eq!(answer(&welcome(VERSION_MAX + 1)), Err(SessionError::Version(VERSION_MAX + 1)));
    let refused = answer(&GuestHello::Refused(Refusal::Busy)).expect_err("refused");
    assert_eq!(
        refused.to_string(),
        "the control connection refused: the agent has too many connections open"
    );
    let garbage = Frame { message: vec![9; 9], bulk: Vec::new() };
    assert!(matches!(
        session.handle_welcome(Role::CONTROL, &garbage),
        Err(SessionError::Wire { .. })
    ));
}

#[test]
fn the_clock_is_known_after_a_burst_of_pings() {
    let mut world = World::new();
    world.live(BURST_INTERVAL * BURST, Some(Duration::from_micros(100)));
    assert_eq!(world.session.pings, BURST);
    let estimate = world.session.clock().estimate(world.now).expect("pings were answered");
    assert_eq!(estimate.round_trip, Duration::from_micros(100));
    assert!((estimate.offset - 7_000_000_000).unsigned_abs() <= 50_000);
    world.live(Duration::from_secs(10), Some(Duration::from_micros(100)));
    assert!((BURST + 9..=BURST + 11).contains(&world.session.pings));
}

#[test]
fn a_guest_that_says_nothing_is_given_up() {
    let mut world = World::new();
    world.live(Duration::from_secs(3), Some(Duration::from_millis(1)));
    world.live(SILENCE - Duration::from_millis(1), None);
    world.now += PING_INTERVAL;
    let mut bytes = Vec::new();
    assert_eq!(world.session.poll_request(world.now, &mut bytes), Err(SessionError::Silent));
}

#[test]
fn a_guest_that_talks_but_answers_late_is_alive() {
    let mut world = World::new();
    for _ in 0..10 {
        world.live(Duration::from_secs(3), None);
        let lit = DisplayState::Dark { card: Text::new("card0") };
        let display = GuestControl::Display { stream: StreamId::VIDEO, state: lit.clone() };
        assert_eq!(world.control(&display), Ok(Some(Event::Display(lit))));
    }
}

#[test]
fn many_wishes_make_one_request() {
    let mut world = World::new();
    world.live(Duration::from_secs(1), Some(Duration::from_millis(1)));
    for _ in 0..100 {
        world.session.request_idr();
    }
    assert_eq!(world.requests(), [IDR]);
    // Wishes while one is on its way wait, and an IDR that comes meanwhile fulfils them.
    world.session.request_idr();
    assert_eq!(world.requests(), []);
    world.start();
    assert!(world.unit(0, true));
    assert_eq!(world.live(Duration::from_secs(1), Some(Duration::from_millis(1))), []);
    // Ten viewers that ask at every frame get four a second.
    let mut requests = 0;
    for _ in 0..60 {
        world.session.request_idr();
        requests += world.live(Duration::from_millis(16), Some(Duration::from_micros(10))).len();
    }
    assert!((4..=5).contains(&requests), "{requests}");
}

#[test]
fn a_refresh_is_asked_for_once_and_not_beside_an_idr() {
    let mut world = World::new();
    world.live(Duration::from_secs(1), Some(Duration::from_millis(1)));
    let refresh = HostControl::RequestRefresh { stream: StreamId::VIDEO };
    world.session.request_refresh();
    world.session.request_refresh();
    assert_eq!(world.requests(), [refresh]);
    assert_eq!(world.requests(), []);
    world.session.request_refresh();
    world.session.request_idr();
    assert_eq!(world.requests(), [IDR]);
    // Nor beside one that has to wait for its turn.
    world.session.request_idr();
    world.session.request_refresh();
    assert_eq!(world.requests(), []);
}

#[test]
fn nothing_is_passed_on_before_an_idr() {
    let mut world = World::new();
    world.start();
    assert!(!world.unit(4, false) && !world.unit(5, false));
    assert!(world.requests().contains(&IDR));
    assert!(world.unit(6, true) && world.unit(7, false));
    world.start();
    assert!(!world.unit(8, false));
    assert_eq!(world.session.skipped(), 3);
}

#[test]
fn a_gap_asks_for_an_idr() {
    let mut world = World::new();
    world.start();
    assert!(world.unit(0, true) && world.unit(1, false));
    assert!(!world.requests().contains(&IDR));
    assert!(world.unit(3, false), "a decoder can make something of it");
    assert!(world.requests().contains(&IDR));
}

#[test]
fn what_newer_agents_say_is_skipped_and_garbage_is_named() {
    let mut world = World::new();
    let newer = Frame { message: vec![77, 1, 2], bulk: Vec::new() };
    assert_eq!(world.session.handle_control(world.now, &newer), Ok(None));
    assert_eq!(world.session.handle_media(newer), Ok(None));
    let broken = Frame { message: vec![0], bulk: Vec::new() };
    let error = world.session.handle_media(broken).expect_err("it is cut short");
    assert!(error.to_string().starts_with("the media connection sent"), "{error}");
    let scanout = Scanout { card: Text::new(""), width: 1, height: 1, fourcc: 0, modifier: 0 };
    let other = GuestControl::Display { stream: StreamId(3), state: DisplayState::Lit(scanout) };
    assert_eq!(world.control(&other), Ok(None), "a display that we do not show");
}

#[test]
fn colour_is_asked_for_when_it_changes_and_only_then() {
    let mut world = World::new();
    let soon = Duration::from_millis(100);
    let asked = |world: &mut World, chroma| {
        world.session.set_chroma(chroma);
        world.live(soon, Some(Duration::ZERO))
    };
    assert_eq!(asked(&mut world, Chroma::Yuv420), [], "what a session begins with");
    let set = |chroma| [HostControl::SetChroma { stream: StreamId::VIDEO, chroma }];
    assert_eq!(asked(&mut world, Chroma::Yuv444), set(Chroma::Yuv444));
    assert_eq!(asked(&mut world, Chroma::Yuv444), []);
    assert_eq!(asked(&mut world, Chroma::Yuv420), set(Chroma::Yuv420));
}

#[test]
fn a_codec_is_asked_for_when_it_changes_and_pictures_know_theirs() {
    let mut world = World::new();
    let soon = Duration::from_millis(100);
    let asked = |world: &mut World, codec| {
        world.session.set_codec(codec);
        world.live(soon, Some(Duration::ZERO))
    };
    assert_eq!(asked(&mut world, Codec::H264), [], "what a session begins with");
    let set = |codec| [HostControl::SetCodec { stream: StreamId::VIDEO, codec }];
    assert_eq!(asked(&mut world, Codec::Hevc), set(Codec::Hevc));
    assert_eq!(asked(&mut world, Codec::Hevc), []);
    assert_eq!(asked(&mut world, Codec::H264), set(Codec::H264));
    for (codec, number) in [(Codec::Hevc, 1), (Codec::H264, 2)] {
        world.start_with(codec);
        let Some(Event::AccessUnit(unit)) = world.passed(number, true) else { panic!("an IDR") };
        assert_eq!(unit.codec, codec);
    }
}
