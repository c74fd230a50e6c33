use super::*;
use transom_protocol::{
    FrameNumber, GuestTime, HostTime,
    input::{Event, HostInput},
    message::FrameTimes,
};

fn picture(number: u64, idr: bool, received: Instant) -> Arc<Picture> {
    let zero = GuestTime(0);
    let times = FrameTimes { seen: zero, converted: zero, encoded: zero, sent: zero };
    let unit = AccessUnit {
        codec: Codec::H264,
        number: FrameNumber(number),
        idr,
        times,
        damage: 0,
        data: vec![],
    };
    Arc::new(Picture { unit, taken: 0, received, chroma: Chroma::Yuv420 })
}

fn new_feed() -> (Source, Feed) {
    let (source, _commands, feed) = feed("vm", &GuestAddr::Vsock { cid: 3 });
    (source, feed)
}

/// What waits for a viewer right now.
fn waiting(seat: &mut Seat) -> Vec<u64> {
    std::iter::from_fn(|| seat.pictures.try_recv().ok()).map(|p| p.unit.number.0).collect()
}

#[test]
fn a_newcomer_asks_for_an_idr_and_starts_with_it() {
    let (source, feed) = new_feed();
    let mut seat = feed.watch(ViewerId::next(), Takes::Halved).expect("a seat");
    assert_eq!(source.take_wishes(), Wishes { idr: true, bitrate: None });
    assert_eq!(source.take_wishes(), Wishes::default());
    let now = Instant::now();
    source.publish(&picture(0, false, now));
    source.publish(&picture(1, true, now));
    source.publish(&picture(2, false, now));
    assert_eq!(waiting(&mut seat), [1, 2]);
    drop(seat);
    assert_eq!(feed.viewers(), 0);
}

#[test]
fn a_slow_viewer_skips_to_an_idr_and_costs_others_one_a_second() {
    let (source, feed) = new_feed();
    let (mut slow, mut fast) = (
        feed.watch(ViewerId::next(), Takes::Halved).expect("a seat"),
        feed.watch(ViewerId::next(), Takes::Halved).expect("a seat"),
    );
    let mut now = Instant::now() + CATCH_UP;
    source.publish(&picture(0, true, now));
    source.take_wishes();
    for number in 1..10 {
        source.publish(&picture(number, false, now));
        assert_eq!(waiting(&mut fast).len(), if number == 1 { 2 } else { 1 });
    }
    assert_eq!(waiting(&mut slow), [0, 1, 2], "a short queue, nothing behind a gap");
    assert!(!source.take_wishes().idr, "it has taken nothing yet: an IDR would be lost on it");
    let mut asked = 0;
    for number in 10..130 {
        now += Duration::from_millis(20);
        source.publish(&picture(number, false, now));
        waiting(&mut fast);
        asked += u32::from(source.take_wishes().idr);
    }
    assert_eq!(asked, 3, "in 2.4 seconds");
    assert!(waiting(&mut slow).is_empty());
    source.publish(&picture(130, true, now));
    assert_eq!(waiting(&mut slow), [130]);
    assert_eq!(slow.skipped(), 127);
    assert_eq!(fast.skipped(), 0);
}

#[test]
fn controllers_rule_the_bitrate_and_the_much_slower_do_not() {
    let demand =
        |mega: u32, controls| Demand { bitrate: Some(BitRate(mega * 1_000_000)), controls };
    let mega = |demands: &[Demand]| target(demands.iter().copied()).map(|rate| rate.0 / 1_000_000);
    assert_eq!(mega(&[]), None);
    assert_eq!(mega(&[Demand::default()]), None);
    assert_eq!(mega(&[demand(10, false), demand(8, false), demand(1, false)]), Some(8));
    assert_eq!(mega(&[demand(10, true), demand(2, true), demand(20, false)]), Some(2));
    assert_eq!(mega(&[demand(1, false), demand(10, true)]), Some(10));
}

#[test]
fn a_target_is_told_once_and_again_to_a_new_session() {
    let (source, feed) = new_feed();
    let seat = feed.watch(ViewerId::next(), Takes::Halved).expect("a seat");
    source.take_wishes();
    let demand = Demand { bitrate: Some(BitRate(5)), controls: false };
    seat.demand(demand);
    seat.demand(demand);
    assert_eq!(source.take_wishes().bitrate, Some(BitRate(5)));
    assert_eq!(source.take_wishes().bitrate, None);
    source.restart();
    assert_eq!(source.take_wishes().bitrate, Some(BitRate(5)));
}

#[test]
fn seats_are_limited() {
    let (_source, feed) = new_feed();
    let seats: Vec<_> =
        (0..MAX_VIEWERS).map(|_| feed.watch(ViewerId::next(), Takes::Halved)).collect();
    assert!(seats.iter().all(Result::is_ok));
    assert_eq!(feed.watch(ViewerId::next(), Takes::Halved).err(), Some(Full));
}

#[test]
fn who_leaves_lets_go() {
    let (_source, commands, feed) = feed("vm", &GuestAddr::Vsock { cid: 3 });
    let seat = feed.watch(ViewerId::next(), Takes::Halved).expect("a seat");
    let (viewer, at) = (seat.viewer(), Instant::now());
    let key = |pressed| Event::Key { code: 30, pressed };
    let press = Command::Events { viewer, number: 1, at, events: vec![key(true)] };
    assert_eq!(feed.send_input(press.clone()), Err(InputRefused), "there is no guest yet");
    commands.port().board().connect();
    assert_eq!(feed.send_input(press), Ok(()));
    drop(seat);
    let message = commands.port().board().poll_message(at, |_| HostTime(0));
    let Some(HostInput::Events { events, .. }) = message else { panic!("{message:?}") };
    assert_eq!(events.as_slice(), [key(true), key(false)]);
}

#[test]
fn nobody_is_handed_more_colour_than_they_take() {
    let (source, feed) = new_feed();
    assert_eq!(source.chroma(false), Chroma::Yuv420, "for nobody");
    let mut full = feed.watch(ViewerId::next(), Takes::Full).expect("a seat");
    assert_eq!(source.chroma(false), Chroma::Yuv444);
    assert_eq!(source.chroma(true), Chroma::Yuv420, "players of plain RTP cannot say");
    let mut halved = feed.watch(ViewerId::next(), Takes::Halved).expect("a seat");
    let mut untold = feed.watch(ViewerId::next(), Takes::Untold).expect("a seat");
    assert_eq!(source.chroma(false), Chroma::Yuv420);
    let now = Instant::now();
    let crisp = |number, idr| {
        let plain = Arc::into_inner(picture(number, idr, now)).expect("nobody else has it");
        Arc::new(Picture { chroma: Chroma::Yuv444, ..plain })
    };
    // What is still on its way reaches only the one who takes it; the others begin with the first
    // IDR that they can show.
    source.publish(&crisp(0, true));
    source.publish(&picture(1, false, now));
    source.publish(&picture(2, true, now));
    assert_eq!(waiting(&mut full), [0, 1, 2]);
    assert_eq!((waiting(&mut halved), waiting(&mut untold)), (vec![2], vec![2]));
    source.publish(&crisp(3, true));
    source.publish(&picture(4, false, now));
    assert!(waiting(&mut halved).is_empty(), "what follows refers to what it does not have");
    drop((halved, untold));
    assert_eq!(source.chroma(false), Chroma::Yuv444);
    source.set_policy(Policy::Halved);
    assert_eq!(source.chroma(false), Chroma::Yuv420);
}

#[test]
fn hevc_goes_to_those_alone_who_were_told_of_it() {
    let (source, feed) = new_feed();
    assert_eq!(source.codec(true), Codec::H264, "nobody has asked for more");
    source.set_preference(Preference::Hevc);
    assert_eq!((source.codec(false), source.codec(true)), (Codec::Hevc, Codec::Hevc));
    let described = |feed: &Feed| {
        feed.watch_with(ViewerId::next(), Takes::Untold, Decodes::Described).expect("a seat")
    };
    let mut player = described(&feed);
    assert_eq!(source.codec(true), Codec::Hevc);
    let mut browser = feed.watch(ViewerId::next(), Takes::Full).expect("a seat");
    assert_eq!(source.codec(true), Codec::H264, "for all of them");
    let now = Instant::now();
    let hevc = |number, idr| {
        let mut plain = Arc::into_inner(picture(number, idr, now)).expect("nobody else has it");
        plain.unit.codec = Codec::Hevc;
        Arc::new(plain)
    };
    // What is still on its way reaches only the one who takes it.
    source.publish(&hevc(0, true));
    source.publish(&hevc(1, false));
    source.publish(&picture(2, true, now));
    assert_eq!((waiting(&mut player), waiting(&mut browser)), (vec![0, 1, 2], vec![2]));
    drop(browser);
    assert_eq!(source.codec(true), Codec::Hevc);
}
