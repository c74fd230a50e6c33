use super::*;
use proptest::prelude::*;

/// Type, code and value of each event but the ends of reports.
fn play(translator: &mut Translator, events: &[Event]) -> Vec<(Device, u16, u16, i32)> {
    let mut out = Vec::new();
    events.iter().for_each(|event| translator.handle(*event, &mut out));
    flat(&out)
}

fn flat(reports: &[Report]) -> Vec<(Device, u16, u16, i32)> {
    let events = reports.iter().flat_map(|r| r.events.iter().map(|e| (r.device, *e)));
    events.filter(|(_, e)| e.kind != kind::SYN).map(|(d, e)| (d, e.kind, e.code, e.value)).collect()
}

fn release(translator: &mut Translator) -> Vec<(Device, u16, u16, i32)> {
    let mut out = Vec::new();
    translator.release_all(&mut out);
    flat(&out)
}

#[test]
fn keys_go_down_and_up_once() {
    let mut translator = Translator::default();
    let key = |pressed| Event::Key { code: 30, pressed };
    let down = (Device::Keyboard, kind::KEY, 30, 1);
    let up = (Device::Keyboard, kind::KEY, 30, 0);
    assert_eq!(play(&mut translator, &[key(false), key(true), key(true)]), [down]);
    assert!(translator.holds());
    assert_eq!(play(&mut translator, &[key(false), key(false)]), [up]);
    assert!(!translator.holds());
    assert_eq!(translator.ignored(), 0);
}

#[test]
fn reports_of_one_device_share_a_write_and_each_has_its_end() {
    let mut out = Vec::new();
    let mut translator = Translator::default();
    for event in [
        Event::Key { code: 30, pressed: true },
        Event::Key { code: 31, pressed: true },
        Event::Move { dx: 1, dy: 0 },
        Event::Key { code: 30, pressed: false },
    ] {
        translator.handle(event, &mut out);
    }
    let lengths: Vec<_> = out.iter().map(|r| (r.device, r.events.len())).collect();
    assert_eq!(lengths, [(Device::Keyboard, 4), (Device::Mouse, 2), (Device::Keyboard, 2)]);
    assert!(out.iter().all(|r| r.events.last().is_some_and(|e| e.kind == kind::SYN)));
}

#[test]
fn buttons_follow_the_pointer_and_go_up_where_they_went_down() {
    let mut translator = Translator::default();
    let button = |pressed| Event::Button { code: 0x110, pressed };
    assert_eq!(
        play(
            &mut translator,
            &[
                Event::Place { x: 1, y: 2 },
                button(true),
                Event::Move { dx: -3, dy: 0 },
                button(false),
                button(true),
            ]
        ),
        [
            (Device::Tablet, kind::ABS, code::ABS_X, 1),
            (Device::Tablet, kind::ABS, code::ABS_Y, 2),
            (Device::Tablet, kind::KEY, 0x110, 1),
            (Device::Mouse, kind::REL, code::REL_X, -3),
            (Device::Tablet, kind::KEY, 0x110, 0),
            (Device::Mouse, kind::KEY, 0x110, 1),
        ]
    );
    assert_eq!(release(&mut translator), [(Device::Mouse, kind::KEY, 0x110, 0)]);
}

#[test]
fn the_wheel_tells_small_steps_and_whole_detents() {
    let mut translator = Translator::default();
    let wheel = |dx, dy| Event::Wheel { dx, dy };
    let turned = play(&mut translator, &[wheel(0, 60), wheel(0, 60), wheel(0, 60), wheel(-240, 0)]);
    let mouse = |code, value| (Device::Mouse, kind::REL, code, value);
    assert_eq!(
        turned,
        [
            mouse(code::REL_WHEEL_HI_RES, 60),
            mouse(code::REL_WHEEL_HI_RES, 60),
            mouse(code::REL_WHEEL, 1),
            mouse(code::REL_WHEEL_HI_RES, 60),
            mouse(code::REL_HWHEEL_HI_RES, -240),
            mouse(code::REL_HWHEEL, -2),
        ]
    );
    // 60 were left; the other way is a detent of its own.
    assert_eq!(play(&mut translator, &[wheel(0, -119)]), [mouse(code::REL_WHEEL_HI_RES, -119)]);
}

#[test]
fn fingers_have_slots_and_the_first_is_told_to_old_programs() {
    let mut translator = Translator::default();
    let touch = |finger, x, y| Event::Touch { finger, x, y };
    let slot = |finger| (Device::Touch, kind::ABS, code::ABS_MT_SLOT, finger);
    let abs = |code, value| (Device::Touch, kind::ABS, code, value);
    let one = play(&mut translator, &[touch(1, 5, 6)]);
    assert_eq!(
        one,
        [
            slot(1),
            abs(code::ABS_MT_TRACKING_ID, 1),
            abs(code::ABS_MT_POSITION_X, 5),
            abs(code::ABS_MT_POSITION_Y, 6),
            (Device::Touch, kind::KEY, code::BTN_TOUCH, 1),
            abs(code::ABS_X, 5),
            abs(code::ABS_Y, 6),
        ]
    );
    let two = play(&mut translator, &[touch(0, 7, 8)]);
    assert_eq!(two.len(), 4, "{two:?}");
    let lift = play(&mut translator, &[Event::Lift { finger: 1 }, Event::Lift { finger: 1 }]);
    assert_eq!(lift, [slot(1), abs(code::ABS_MT_TRACKING_ID, -1)]);
    assert_eq!(
        release(&mut translator),
        [
            slot(0),
            abs(code::ABS_MT_TRACKING_ID, -1),
            (Device::Touch, kind::KEY, code::BTN_TOUCH, 0)
        ]
    );
}

#[test]
fn gamepads_are_played_while_they_are_plugged_in() {
    let mut translator = Translator::default();
    let button = |pressed| Event::PadButton { pad: 2, code: 0x130, pressed };
    let axis = |axis, value| Event::PadAxis { pad: 2, axis, value };
    assert_eq!(play(&mut translator, &[button(true), axis(0, 5)]), []);
    assert_eq!(translator.ignored(), 2);
    assert!(translator.plug(2) && !translator.plug(2) && !translator.plug(4));
    assert_eq!(translator.plugged().collect::<Vec<_>>(), [2]);
    let pad = |kind, code, value| (Device::Pad(2), kind, code, value);
    assert_eq!(
        play(
            &mut translator,
            &[button(true), axis(1, i16::MIN), axis(2, i16::MAX), axis(5, -1), axis(17, -9)]
        ),
        [
            pad(kind::KEY, 0x130, 1),
            pad(kind::ABS, code::ABS_Y, -32768),
            pad(kind::ABS, code::ABS_Z, 255),
            pad(kind::ABS, code::ABS_RZ, 0),
            pad(kind::ABS, code::ABS_HAT0Y, -1),
        ]
    );
    let mut out = Vec::new();
    assert!(translator.unplug(2, &mut out));
    assert_eq!(
        flat(&out),
        [
            pad(kind::KEY, 0x130, 0),
            pad(kind::ABS, code::ABS_Y, 0),
            pad(kind::ABS, code::ABS_Z, 0),
            pad(kind::ABS, code::ABS_HAT0Y, 0),
        ]
    );
    assert!(
        !translator.holds() && !translator.unplug(2, &mut out) && !translator.unplug(9, &mut out)
    );
}

#[test]
fn what_no_device_has_is_counted_and_nothing_more() {
    let mut translator = Translator::default();
    translator.plug(0);
    let odd = [
        Event::Key { code: 0, pressed: true },
        Event::Key { code: 0x110, pressed: true },
        Event::Key { code: u16::MAX, pressed: true },
        Event::Button { code: 30, pressed: true },
        Event::Button { code: 0x14a, pressed: true },
        Event::Touch { finger: 10, x: 0, y: 0 },
        Event::Lift { finger: 255 },
        Event::PadButton { pad: 0, code: 30, pressed: true },
        Event::PadButton { pad: 4, code: 0x130, pressed: true },
        Event::PadAxis { pad: 0, axis: 6, value: 1 },
        Event::PadAxis { pad: 1, axis: 0, value: 1 },
    ];
    assert_eq!(play(&mut translator, &odd), []);
    assert_eq!(translator.ignored(), odd.len() as u32);
    assert!(!translator.holds());
}

fn any_event() -> impl Strategy<Value = Event> {
    let small = 0u16..0x300;
    prop_oneof![
        (small.clone(), any::<bool>()).prop_map(|(code, pressed)| Event::Key { code, pressed }),
        (0x10cu16..0x11a, any::<bool>())
            .prop_map(|(code, pressed)| Event::Button { code, pressed }),
        (any::<i16>(), any::<i16>()).prop_map(|(dx, dy)| Event::Move { dx, dy }),
        (any::<u16>(), any::<u16>()).prop_map(|(x, y)| Event::Place { x, y }),
        (any::<i16>(), any::<i16>()).prop_map(|(dx, dy)| Event::Wheel { dx, dy }),
        (0u8..12, any::<u16>(), any::<u16>()).prop_map(|(finger, x, y)| Event::Touch {
            finger,
            x,
            y
        }),
        (0u8..12).prop_map(|finger| Event::Lift { finger }),
        (0u8..5, 0x12eu16..0x140, any::<bool>())
            .prop_map(|(pad, code, pressed)| Event::PadButton { pad, code, pressed }),
        (0u8..5, 0u8..20, any::<i16>()).prop_map(|(pad, axis, value)| Event::PadAxis {
            pad,
            axis,
            value
        }),
    ]
}

proptest! {
    /// Whatever happened, the kernel's own idea of what is held ends empty.
    #[test]
    fn nothing_stays_held(events in prop::collection::vec(any_event(), 0..200)) {
        let mut translator = Translator::default();
        translator.plug(1);
        let mut out = Vec::new();
        events.iter().for_each(|event| translator.handle(*event, &mut out));
        translator.release_all(&mut out);
        prop_assert!(!translator.holds());
        let (mut held, mut slot) = (BTreeMap::new(), 0);
        for (device, kind, code, value) in flat(&out) {
            match (kind, code) {
                (kind::KEY, _) => held.insert((device, kind, code, 0), value),
                (kind::ABS, code::ABS_MT_SLOT) => { slot = value; None }
                (kind::ABS, code::ABS_MT_TRACKING_ID) => {
                    held.insert((device, kind, code, slot), value + 1)
                }
                (kind::ABS, _) if matches!(device, Device::Pad(_)) => {
                    held.insert((device, kind, code, 0), value)
                }
                _ => None,
            };
        }
        let still: Vec<_> = held.into_iter().filter(|(_, value)| *value != 0).collect();
        prop_assert!(still.is_empty(), "{:?}", still);
    }
}
