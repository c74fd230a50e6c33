//! What single frames of the VA-API encoder cost and cover: rate, intra refresh, regions of interest,
//! against the software driver of `tests/va-driver`.

use transom_agent::encode::vaapi::{Access, Coded, Rate, Remote, check};

#[path = "stage/screen.rs"]
mod screen;
mod stage;

use screen::{Screen, decode, decode_any, open};
use stage::RATE;

fn encode(remote: &mut Remote, screen: &Screen, access: impl Into<Access>) -> Coded {
    let rects = screen.damage.rects();
    remote.encode(&screen.picture, rects, access, RATE).expect("encodes")
}

#[test]
fn no_frame_is_larger_than_two_frames_worth_of_the_rate() {
    let size = (640, 480);
    let most = |rate: Rate| rate.bitrate as usize * 2 / usize::from(rate.fps) / 8;
    // A quarter from the second frame on; a whole screen of noise is far more than either.
    let less = Rate { bitrate: RATE.bitrate / 4, ..RATE };
    // The first keeps no HRD, but to the largest frame.
    for mode in ["capped", "radeonsi"] {
        let (mut remote, _) = open(mode, size).expect("opens");
        let mut screen = Screen::new(size);
        for (number, rate) in (0..).zip([RATE, less]) {
            screen.draw(number);
            let coded = remote.encode(&screen.picture, screen.damage.rects(), true, rate);
            let bytes = coded.expect("encodes").bytes.len();
            if mode == "radeonsi" {
                assert!(bytes > 4 * most(RATE), "{mode}: {bytes}");
            } else {
                // What it codes without samples, this driver does not count.
                assert!(bytes <= most(rate) * 5 / 4, "{mode}: {bytes}");
                assert!(bytes > most(rate) / 2, "{mode}: {bytes}");
            }
        }
    }
}

#[test]
fn an_hrd_that_is_kept_holds_for_every_frame() {
    let size = (640, 480);
    let (mut remote, _) = open("paced", size).expect("opens");
    let mut screen = Screen::new(size);
    let frame = f64::from(RATE.bitrate) / f64::from(RATE.fps);
    // Full at first, as the driver is told; it fills with the rate, and no frame may empty it.
    let (mut credit, mut spent) = (2.0 * frame, 0.0);
    let frames = 40;
    for number in 0..frames {
        screen.flood();
        let bits = encode(&mut remote, &screen, number % 20 == 0).bytes.len() as f64 * 8.0;
        // Emulation prevention is not known beforehand.
        assert!(bits <= credit + frame / 10.0, "frame {number}: {bits} of {credit}");
        credit = (credit - bits + frame).min(2.0 * frame);
        spent += bits;
    }
    let share = spent / (frame * f64::from(frames));
    assert!((0.85..1.1).contains(&share), "{share:.2} of the rate");
}

#[test]
fn who_begins_at_a_recovery_point_has_the_picture_when_the_refresh_is_over() {
    // Wide enough for bands of several columns, with a last one that is narrower, and cropped.
    for (mode, size) in [("refresh", (366, 250)), ("refresh,main-high", (62, 130))] {
        let (mut remote, opened) = open(mode, size).expect("opens");
        assert!(opened.refreshes);
        let mut screen = Screen::new(size);
        let band = size.0.div_ceil(16).div_ceil(16);
        let wave = size.0.div_ceil(16).div_ceil(band);
        let (begin, end) = (5, 5 + wave);
        let (mut stream, mut expected, mut joined) = (Vec::new(), Vec::new(), 0);
        for number in 0..end + 4 {
            screen.draw(number);
            let access = match number {
                0 => Access::Idr,
                // Again while it is under way: it does not begin anew.
                n if n == begin || n == begin + 1 => Access::Refresh,
                _ => Access::None,
            };
            let coded = encode(&mut remote, &screen, access);
            let what = format!("{mode}, frame {number}");
            assert_eq!(coded.idr, number == 0, "{what}");
            assert_eq!(coded.refreshing, (begin..end - 1).contains(&number), "{what}");
            assert_eq!(check::has_recovery_point(&coded.bytes), number == begin, "{what}");
            let announced = check::access_unit(&coded.bytes, coded.idr).expect("was checked");
            assert_eq!(announced.is_some(), number == 0 || number == begin, "{what}");
            if number == begin {
                joined = stream.len();
            }
            stream.extend(coded.bytes);
            expected.push(screen.picture.planes().concat());
        }
        // Whoever was there all the time has seen no difference.
        assert!(decode(&stream) == expected.concat(), "{mode}");
        let (late, said) = decode_any(&stream[joined..]);
        let late: Vec<_> = late.chunks_exact(expected[0].len()).collect();
        assert!(late.len() >= 5, "{mode}: {} pictures: {said}", late.len());
        // The picture that ends the refresh, and all behind it.
        let last = &late[late.len() - 5..];
        assert!(last == &expected[expected.len() - 5..], "{mode}: not the whole picture");
    }
}

#[test]
fn a_refresh_that_the_rate_has_no_room_for_is_made_up_for() {
    let size = (320, 240);
    let (mut remote, _) = open("paced,refresh", size).expect("opens");
    let mut screen = Screen::new(size);
    screen.draw(0);
    let rate = Rate { bitrate: RATE.bitrate / 6, ..RATE };
    let (mut stream, mut joined) = (Vec::new(), 0);
    for number in 0..160 {
        let access = match number {
            0 => Access::Idr,
            80 => Access::Refresh,
            _ => Access::None,
        };
        if number == 80 {
            joined = stream.len();
        }
        let coded = remote.encode(&screen.picture, &[], access, rate).expect("encodes");
        stream.extend(coded.bytes);
    }
    let shown = screen.picture.planes().concat();
    for (who, stream) in [("from the start", &stream[..]), ("late", &stream[joined..])] {
        let (pictures, said) = decode_any(stream);
        let last = pictures.chunks_exact(shown.len()).next_back();
        assert!(last == Some(&shown[..]), "{who}: not the whole picture: {said}");
    }
}

#[test]
fn an_idr_ends_a_refresh_and_comes_where_there_is_none() {
    let size = (320, 240);
    let mut screen = Screen::new(size);
    let mut stream = |mode: &str, asked: &[Access]| -> Vec<bool> {
        let (mut remote, _) = open(mode, size).expect("opens");
        let mut idrs = Vec::new();
        for (number, access) in (0..).zip(asked) {
            screen.draw(number);
            let coded = encode(&mut remote, &screen, *access);
            assert!(!(coded.idr && coded.refreshing), "{mode}, frame {number}");
            idrs.push(coded.idr);
        }
        idrs
    };
    let (idr, refresh, none) = (Access::Idr, Access::Refresh, Access::None);
    let asked = [idr, none, refresh, none, refresh, none, idr, refresh];
    // The driver of a GPU that is lent has none, nor has one that takes no headers of ours.
    for mode in ["radeonsi", "d3d12", "d3d12,refresh"] {
        let idrs = stream(mode, &asked);
        assert_eq!(idrs, [true, false, true, false, true, false, true, true], "{mode}");
    }
    let idrs = stream("refresh", &asked);
    assert_eq!(idrs, [true, false, false, false, false, false, true, false]);
    // One that forgets the recovery point is found out: the next frame is the IDR instead.
    let idrs = stream("refresh,drops-sei", &asked);
    assert_eq!(idrs, [true, false, false, true, true, false, true, true]);
}

#[test]
fn what_changes_comes_before_what_the_rate_has_left_over() {
    let size = (640, 480);
    // How much of what changed is shown as it is, in the frame after an IDR that the rate had far
    // too little room for.
    let crisp = |mode: &str| {
        let (mut remote, opened) = open(mode, size).expect("opens");
        let mut screen = Screen::new(size);
        screen.draw(0);
        let mut stream = encode(&mut remote, &screen, true).bytes;
        screen.draw(30);
        let rects = screen.damage.rects().to_vec();
        stream.extend(encode(&mut remote, &screen, false).bytes);
        let (decoded, lumas) = (decode(&stream), 640 * 480);
        let (shown, meant) = (&decoded[lumas * 3 / 2..][..lumas], &screen.picture.planes()[0]);
        let inside = |x: usize, y: usize| {
            rects.iter().any(|rect| {
                (rect.x..rect.x + rect.width).contains(&(x as u32))
                    && (rect.y..rect.y + rect.height).contains(&(y as u32))
            })
        };
        let part = (0..lumas).filter(|at| inside(at % 640, at / 640));
        let same = part.clone().filter(|&at| shown[at] == meant[at]).count();
        (opened.regions, same as f64 / part.count() as f64)
    };
    let (regions, share) = crisp("paced,roi");
    assert!(regions == 8 && share == 1.0, "{regions} regions: {share:.2}");
    let (regions, share) = crisp("paced");
    assert!(regions == 0 && share < 0.5, "without regions: {share:.2}");
}
