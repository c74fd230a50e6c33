use std::process::Command;

use proptest::prelude::*;

use super::*;

/// One of each kind, in the order of their numbers.
fn all() -> Batch {
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
    let last = [Action::Plug(2), Action::Unplug(2), Action::ReleaseAll];
    let actions = events.into_iter().map(Action::Event).chain(last).collect();
    Batch { sequence: 0x0403_0201, sent: 7, actions }
}

const PINNED: &str = "01 01020304 07000000 011c0001 02100100 03ffff2c01 040000ffff 0510ff7800 \
                      060901000201 0709 0803300101 090310ffff 0a02 0b02 0c";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_are_pinned() {
    let bytes = all().encode();
    assert_eq!(hex(&bytes), PINNED.replace(' ', ""));
    assert_eq!(Batch::parse(&bytes), Ok(all()));
    let echo = Answer::Echo { sequence: 1, sent: 2, relay: 3, guest: Some(260) };
    assert_eq!(hex(&echo.encode()), "0101000000020000000300000004010000");
    let lost = Answer::Echo { sequence: 1, sent: 2, relay: 3, guest: None };
    assert_eq!(hex(&lost.encode()), "01010000000200000003000000ffffffff");
    let rumble = Answer::Rumble { pad: 1, strong: 65535, weak: 2, duration: 300 };
    assert_eq!(hex(&rumble.encode()), "0201ffff02002c01");
}

#[test]
fn what_is_no_batch_is_refused_by_name() {
    let with = |rest: &[u8]| Batch::parse(&[&[1, 0, 0, 0, 0, 0, 0, 0, 0][..], rest].concat());
    assert_eq!(Batch::parse(&[]), Err(BatchError::Short));
    assert_eq!(Batch::parse(&[2]), Err(BatchError::Version(2)));
    assert_eq!(Batch::parse(&[1, 0, 0, 0, 0, 0, 0, 0]), Err(BatchError::Short));
    assert_eq!(Batch::parse(&[1; MAX_BATCH + 1]), Err(BatchError::Long(MAX_BATCH + 1)));
    assert_eq!(with(&[]).map(|batch| batch.actions), Ok(Vec::new()));
    assert_eq!(with(&[0]), Err(BatchError::Kind(0)));
    assert_eq!(with(&[13]), Err(BatchError::Kind(13)));
    assert_eq!(with(&[1, 28, 0]), Err(BatchError::Short));
    assert_eq!(with(&[1, 28, 0, 2]), Err(BatchError::Value(1)));
    assert_eq!(with(&[7, 10]), Err(BatchError::Value(7)));
    assert_eq!(with(&[10, 4]), Err(BatchError::Value(10)));
    assert_eq!(with(&[12; 65]), Err(BatchError::Many));
    assert_eq!(with(&[12; 64]).map(|batch| batch.actions.len()), Ok(64));
}

proptest! {
    #[test]
    fn whatever_is_read_is_written_the_same(
        bytes in prop::collection::vec(0u8..16, 0..64),
    ) {
        let bytes = [&[1][..], &bytes].concat();
        if let Ok(batch) = Batch::parse(&bytes) {
            prop_assert_eq!(batch.encode(), bytes);
        }
    }
}

/// The page's own encoder, run by Node, makes the same bytes and reads the answers.
#[test]
#[cfg(unix)] // Node is no program of Windows where this runs there
fn the_page_speaks_the_same_language() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/input-wire.mjs");
    let node = Command::new("node").arg(script).output();
    let node = node.expect("the page's code is tested with Node: apt-get install nodejs");
    assert!(node.status.success(), "{}", String::from_utf8_lossy(&node.stderr));
    let said = String::from_utf8_lossy(&node.stdout);
    assert_eq!(said.trim(), PINNED.replace(' ', ""));
}
