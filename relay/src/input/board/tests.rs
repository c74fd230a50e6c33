use super::*;
use transom_protocol::GuestTime;

const A: ViewerId = ViewerId(1);
const B: ViewerId = ViewerId(2);

fn key(code: u16, pressed: bool) -> Event {
    Event::Key { code, pressed }
}

/// A board with a guest, and the time.
fn board() -> (Board, Instant) {
    let mut board = Board::default();
    board.connect();
    (board, Instant::now())
}

fn send(board: &mut Board, viewer: ViewerId, number: u32, at: Instant, events: &[Event]) -> bool {
    board.handle(Command::Events { viewer, number, at, events: events.to_vec() }).is_ok()
}

/// The events of the next message.
fn next(board: &mut Board, now: Instant) -> Option<(u32, Vec<Event>)> {
    match board.poll_message(now, |_| HostTime(0))? {
        HostInput::Events { number, events, .. } => Some((number, events.as_slice().to_vec())),
        other => panic!("{other:?}"),
    }
}

fn written(board: &mut Board, now: Instant, number: u32, ignored: u32) -> Vec<Outcome> {
    let message = GuestInput::Written { number, at: GuestTime(0), ignored };
    board.handle_guest(now, &message, |_, _| Some(Duration::from_millis(3)))
}

#[test]
fn a_batch_goes_through_and_is_answered() {
    let (mut board, now) = board();
    let ms = |ms| now + Duration::from_millis(ms);
    assert!(send(&mut board, A, 7, now, &[key(30, true)]));
    assert!(send(&mut board, B, 8, ms(1), &[key(31, true)]));
    assert_eq!(next(&mut board, ms(2)), Some((0, vec![key(30, true), key(31, true)])));
    assert_eq!(next(&mut board, ms(2)), None);
    board.handle_written(ms(2));
    let outcome = |viewer, number, relay| Outcome::Batch {
        viewer,
        number,
        relay: Duration::from_millis(relay),
        guest: Some(Duration::from_millis(3)),
    };
    assert_eq!(written(&mut board, ms(4), 0, 5), [outcome(A, 7, 2), outcome(B, 8, 1)]);
    assert_eq!(written(&mut board, ms(4), 0, 6), [], "a guest that repeats itself");
    assert_eq!(written(&mut board, ms(4), 99, 6), [], "a guest that makes things up");
    assert_eq!(board.counts(), Counts { ignored: 6, ..Counts::default() });
}

#[test]
fn movements_that_wait_become_one_and_order_is_kept() {
    let (mut board, now) = board();
    let step = |dx, dy| Event::Move { dx, dy };
    let place = |x| Event::Place { x, y: 9 };
    let wheel = |dy| Event::Wheel { dx: 0, dy };
    send(&mut board, A, 1, now, &[step(1, 2)]);
    send(&mut board, A, 2, now, &[step(3, -9), key(30, true), step(1, 0), step(1, 0)]);
    send(&mut board, A, 3, now, &[place(1), place(2), wheel(60), wheel(60), wheel(i16::MAX)]);
    let (_, events) = next(&mut board, now).expect("a message");
    let merged = [step(4, -7), key(30, true), step(2, 0), place(2), wheel(120), wheel(i16::MAX)];
    assert_eq!(events, merged, "what does not fit into one stays two");
    assert_eq!(board.counts().merged, 4);
    board.handle_written(now);
    assert_eq!(written(&mut board, now, 0, 0).len(), 3, "all batches are answered");
}

#[test]
fn a_guest_that_does_not_answer_is_not_flooded_and_releases_are_never_lost() {
    let (mut board, now) = board();
    let mut messages = 0;
    let taken: usize = (0..10_000u32)
        .filter(|i| {
            let event = if i % 2 == 0 { key(30, true) } else { Event::Wheel { dx: 1, dy: 0 } };
            let taken = send(&mut board, A, *i, now, &[event, key(30, false)]);
            messages += usize::from(next(&mut board, now).is_some());
            taken
        })
        .count();
    assert_eq!(messages, WINDOW);
    assert!(taken < 2 * WAITING && board.waiting.len() <= 2 * WAITING, "{taken}");
    assert!(board.counts().refused > 7_000);
    let (mut held, mut number) = (false, 0);
    let mut see = |events: Vec<Event>| {
        for event in events {
            if let Event::Key { pressed, .. } = event {
                held = pressed;
            }
        }
    };
    // The guest answers after all.
    while !board.flights.is_empty() {
        written(&mut board, now, number, 0);
        number += 1;
        if let Some((_, events)) = next(&mut board, now) {
            see(events);
        }
    }
    assert!(!held && !board.held.any() && board.waiting.is_empty());
}

#[test]
fn who_leaves_lets_go_even_when_all_is_full() {
    let (mut board, now) = board();
    send(&mut board, A, 0, now, &[key(30, true)]);
    board.handle(Command::Plug { viewer: A, pad: 0 }).expect("there is room");
    while send(&mut board, B, 0, now, &[key(31, true), key(31, false)]) {}
    assert_eq!(board.handle(Command::Plug { viewer: B, pad: 0 }), Err(InputRefused));
    assert_eq!(board.handle(Command::Leave { viewer: A }), Ok(()));
    let last: Vec<_> = board.waiting.iter().rev().take(2).collect();
    assert!(matches!(last[..], [Item::Unplug(0), Item::Event(Event::Key { code: 30, .. })]));
    let before = board.waiting.len();
    for _ in 0..100 {
        let _ = board.handle(Command::ReleaseAll { viewer: B });
        let _ = send(&mut board, B, 0, now, &[key(40_000, false), Event::Lift { finger: 3 }]);
        let _ = send(&mut board, B, 0, now, &[Event::PadAxis { pad: 0, axis: 0, value: 0 }]);
    }
    assert!(board.waiting.len() <= before + 1, "nothing grows with what is not held");
}

#[test]
fn what_is_held_is_kept_alive_and_a_new_guest_knows_of_none_of_it() {
    let (mut board, now) = board();
    board.handle(Command::Plug { viewer: A, pad: 2 }).expect("there is room");
    assert_eq!(board.poll_message(now, |_| HostTime(0)), Some(HostInput::Plug { pad: 0 }));
    assert_eq!(board.poll_timeout(), None);
    send(&mut board, A, 0, now, &[key(30, true)]);
    assert_eq!(next(&mut board, now), Some((0, vec![key(30, true)])));
    assert_eq!(board.poll_timeout(), Some(now + HELD_INTERVAL));
    assert_eq!(next(&mut board, now + HELD_INTERVAL / 2), None);
    assert_eq!(next(&mut board, now + HELD_INTERVAL), Some((1, vec![])));
    let shake = GuestInput::Rumble { pad: 0, strong: 1, weak: 2, duration: 3 };
    let told = board.handle_guest(now, &shake, |_, _| None);
    let rumble = Outcome::Rumble { viewer: A, pad: 2, strong: 1, weak: 2, duration: 3 };
    assert_eq!(told, [rumble]);

    send(&mut board, A, 1, now, &[key(31, true)]);
    let lost = board.disconnect(now);
    let guest = |o: &Outcome| matches!(o, Outcome::Batch { guest: Some(_), .. });
    assert!(lost.len() == 2 && !lost.iter().any(guest), "{lost:?}");
    assert!(!send(&mut board, A, 2, now, &[key(32, true)]));
    assert_eq!(next(&mut board, now), None);
    board.connect();
    assert_eq!(board.poll_message(now, |_| HostTime(0)), Some(HostInput::Plug { pad: 0 }));
    assert_eq!((board.poll_timeout(), next(&mut board, now)), (None, None));
}
