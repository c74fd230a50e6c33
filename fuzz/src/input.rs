//! What pages send on the data channel for input.

use transom_protocol::input::{Event, MAX_EVENTS};
use transom_relay::input::channel::{Action, Batch, MAX_BATCH};

/// One message of a page.
pub fn channel(data: &[u8]) {
    match Batch::parse(data) {
        Ok(batch) => {
            assert!(data.len() <= MAX_BATCH && batch.actions.len() <= MAX_EVENTS);
            assert_eq!(batch.encode(), data, "there is one way to write a batch");
        }
        Err(why) => assert!(!why.to_string().contains(char::is_control)),
    }
}

/// Seeds of [`channel`].
pub fn channel_seeds() -> Vec<Vec<u8>> {
    let events = [
        Event::Key { code: 28, pressed: true },
        Event::Button { code: 0x110, pressed: false },
        Event::Move { dx: -1, dy: 300 },
        Event::Place { x: 0, y: 65535 },
        Event::Wheel { dx: -240, dy: 120 },
        Event::Touch { finger: 9, x: 1, y: 258 },
        Event::Lift { finger: 9 },
        Event::PadButton { pad: 3, code: 0x130, pressed: true },
        Event::PadAxis { pad: 3, axis: 16, value: -1 },
    ];
    let others = [Action::Plug(2), Action::Unplug(2), Action::ReleaseAll];
    let actions: Vec<_> = events.into_iter().map(Action::Event).chain(others).collect();
    let mut seeds = vec![Batch { sequence: 7, sent: 8, actions: actions.clone() }.encode()];
    seeds.extend(actions.iter().map(|action| {
        Batch { sequence: u32::MAX, sent: 0, actions: vec![*action; MAX_EVENTS] }.encode()
    }));
    seeds
}
