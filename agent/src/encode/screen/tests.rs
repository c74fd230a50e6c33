//! Bit-exact or not: what a decoder makes of the stream is what the encoder believes it makes.

use openh264::decoder::Decoder;
use openh264::formats::YUVSource as _;
use proptest::prelude::*;
use transom_protocol::{BitRate, GuestTime};

use super::*;
use crate::capture::Frame;
use crate::picture::Picture;
use crate::pixels::Pixels;

mod bad_input;
mod colour;

struct Rig {
    /// Columns of the scanout.
    width: u32,
    picture: Picture,
    damage: Damage,
    screen: Screen,
    decoder: Decoder,
    time: u64,
}

impl Rig {
    fn new(width: u32, height: u32, bitrate: u32) -> Self {
        let picture = Picture::new((width, height));
        let tuning = Tuning { bitrate: BitRate(bitrate), fps: 60 };
        Self {
            width,
            screen: Screen::new(picture.size(), tuning).expect("a size in range"),
            picture,
            damage: Damage::default(),
            decoder: Decoder::new().expect("a decoder"),
            time: 0,
        }
    }

    /// Encodes and decodes a picture and compares every sample with the encoder's own belief.
    fn step(&mut self, pixels: &[u8], idr: bool) -> AccessUnit {
        self.show(pixels);
        self.encode(idr)
    }

    /// Brings the picture up to date.
    fn show(&mut self, pixels: &[u8]) {
        self.damage.clear();
        self.picture.update(Pixels::bgrx(pixels, self.width), None, &mut self.damage);
    }

    /// Encodes it with the damage as it is now, and compares.
    fn encode(&mut self, idr: bool) -> AccessUnit {
        self.time += 16_666_667;
        let frame = Frame { picture: &self.picture, damage: &self.damage };
        let unit = self
            .screen
            .encode(Request { frame, idr, time: GuestTime(self.time) })
            .expect("encodes");
        let decoded =
            self.decoder.decode(&unit.bytes).expect("decodes").expect("a picture at once");
        let (width, height) = self.picture.size();
        let (ys, us, vs) = decoded.strides();
        let believed = &self.screen.reference;
        for (plane, data, stride, w, h) in [
            (&believed.y, decoded.y(), ys, width, height),
            (&believed.uv[0], decoded.u(), us, width / 2, height / 2),
            (&believed.uv[1], decoded.v(), vs, width / 2, height / 2),
        ] {
            for y in 0..h as usize {
                let row = &data[y * stride..][..w as usize];
                assert!(row == &plane.data[y * plane.width..][..w as usize], "row {y} differs");
            }
        }
        unit
    }
}

/// Shapes, text-like detail and noise, moved by (dx, dy).
fn draw(width: u32, height: u32, dx: i32, dy: i32, seed: u32) -> Vec<u8> {
    let mut pixels = Vec::with_capacity((width * height * 4) as usize);
    for y in 0..height as i32 {
        for x in 0..width as i32 {
            let (u, v) = (x + dx, y + dy);
            let shape =
                (u.div_euclid(20) * 7 + v.div_euclid(12) * 13 + seed as i32).rem_euclid(5) * 50;
            let detail = if (u * 5 + v * 3).rem_euclid(11) < 3 { 40 } else { 0 };
            pixels.extend(
                [shape + detail, (u * 2).rem_euclid(200), shape / 2 + (v * 3).rem_euclid(90), 0]
                    .map(|c| c as u8),
            );
        }
    }
    pixels
}

#[test]
fn motion_scrolls_and_stillness_decode_to_what_was_believed() {
    let mut rig = Rig::new(200, 152, 20_000_000);
    assert!(rig.step(&draw(200, 152, 0, 0, 1), true).idr);
    let mut sizes = Vec::new();
    for (dx, dy) in [
        (0, 0),
        (0, 0),
        (1, 0),
        (4, 0),
        (9, 3),
        (9, 20),
        (-7, 21),
        (-7, 21),
        (-40, -30),
        (-41, -31),
    ] {
        let unit = rig.step(&draw(200, 152, dx, dy, 1), false);
        assert!(!unit.idr);
        sizes.push(unit.bytes.len());
    }
    assert!(sizes[1] < 20, "a refined, unchanged picture is a few bytes: {sizes:?}");
}

#[test]
fn a_coarse_picture_at_rest_gets_fine() {
    let mut rig = Rig::new(320, 240, 200_000);
    let pixels = draw(320, 240, 0, 0, 3);
    let mut unit = rig.step(&pixels, true);
    assert!(unit.coarse);
    for _ in 0..200 {
        rig.time += 100_000_000;
        unit = rig.step(&pixels, false);
        if !unit.coarse {
            break;
        }
    }
    assert!(!unit.coarse, "refined at last");
}

#[test]
fn a_cap_holds_in_every_second_of_motion_and_rest_is_fine_at_once() {
    const CAP: usize = 2_000_000;
    let mut rig = Rig::new(400, 300, CAP as u32);
    // Everything moves in each frame, and twice a second everything is new.
    let screens = (0..150u32).map(|n| draw(400, 300, n as i32 * 3, n as i32 / 2, n / 30));
    let bits: Vec<usize> =
        screens.enumerate().map(|(n, s)| rig.step(&s, n == 0).bytes.len() * 8).collect();
    let worst = bits.windows(60).map(|second| second.iter().sum::<usize>()).max();
    assert!(worst.is_some_and(|bits| bits * 10 <= CAP * 11), "{worst:?} bits in a second");
    let total: usize = bits.iter().sum();
    assert!(total > CAP, "a cap that nothing reaches proves nothing: {total}");
    let last = draw(400, 300, 149 * 3, 149 / 2, 149 / 30);
    let begun = rig.time;
    let mut unit = rig.step(&last, false);
    while unit.coarse && rig.time - begun < 1_000_000_000 {
        rig.time += 50_000_000;
        unit = rig.step(&last, false);
    }
    assert!(!unit.coarse, "still coarse after {} ns", rig.time - begun);
}

#[test]
fn an_idr_of_a_resting_picture_is_sent_again_and_goes_on() {
    for slices in [1, 3, 8] {
        resting_idrs(slices);
    }
}

fn resting_idrs(slices: usize) {
    let mut rig = Rig::new(160, 128, 20_000_000);
    rig.screen.fix_slices(slices);
    let pixels = draw(160, 128, 0, 0, 2);
    let first = rig.step(&pixels, true);
    let second = rig.step(&pixels, true);
    let third = rig.step(&pixels, true);
    let differing = |a: &AccessUnit, b: &AccessUnit| -> u32 {
        assert_eq!(a.bytes.len(), b.bytes.len());
        a.bytes.iter().zip(&b.bytes).map(|(a, b)| (a ^ b).count_ones()).sum()
    };
    let bits = slices as u32;
    assert_eq!((differing(&first, &second), differing(&first, &third)), (bits, 0));
    rig.step(&draw(160, 128, 3, 0, 2), false);
    assert_ne!(rig.step(&draw(160, 128, 3, 0, 2), true).bytes.len(), first.bytes.len());
}

#[test]
fn odd_and_small_sizes() {
    for (width, height) in [(2, 2), (16, 16), (18, 34), (641, 363), (1366, 768)] {
        let mut rig = Rig::new(width, height, 8_000_000);
        for step in 0..3 {
            rig.step(&draw(width, height, step * 5, step, 9), step == 0);
        }
    }
}

#[test]
fn the_largest_size_is_taken_and_rests_cheaply() {
    let size = (8192, 4320);
    let (mut picture, mut damage) = (Picture::new(size), Damage::default());
    picture.update(Pixels::bgrx(&vec![90; 8192 * 4320 * 4], size.0), None, &mut damage);
    let tuning = Tuning { bitrate: BitRate(0), fps: 60 };
    let mut screen = Screen::new(size, tuning).expect("level 6 takes it");
    let mut encode = |damage: &Damage, idr| {
        let frame = Frame { picture: &picture, damage };
        screen.encode(Request { frame, idr, time: GuestTime(0) }).expect("encodes").bytes
    };
    assert_eq!(encode(&damage, true)[7], 61, "level 6.1, at 60 frames a second");
    let mut dot = Damage::default();
    dot.add(crate::damage::Rect { x: 8000, y: 4300, width: 1, height: 1 });
    assert!(encode(&dot, false).len() < 40);
}

#[test]
fn slices_have_as_much_to_code_and_leave_no_row_out() {
    let frame = |rows: &[usize]| -> Vec<bool> {
        rows.iter().flat_map(|&count| (0..10).map(move |n| n < count)).collect()
    };
    assert_eq!(cut(&frame(&[10; 6]), 10, 3), [2, 2, 2]);
    assert_eq!(cut(&frame(&[0, 0, 0, 10, 10, 0]), 10, 2), [4, 2]);
    assert_eq!(cut(&frame(&[10, 0, 0, 0, 0]), 10, 3), [1, 1, 3]);
    assert_eq!(cut(&frame(&[0, 0, 0, 0, 10]), 10, 3), [3, 1, 1]);
    assert_eq!(cut(&frame(&[3, 3]), 10, 9), [1, 1]);
    assert_eq!(cut(&frame(&[3, 3]), 10, 1), [2]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_sequence_is_bit_exact(
        width in 2u32..150, height in 2u32..120, bitrate in 10_000u32..40_000_000,
        steps in prop::collection::vec((-30i32..30, -30i32..30, 0u32..4, any::<bool>(), 0u32..10), 1..8),
        noise in any::<u32>(), slices in 0usize..6,
    ) {
        let mut rig = Rig::new(width, height, bitrate);
        if slices > 0 {
            rig.screen.fix_slices(slices);
        }
        let mut state = noise | 1;
        for (dx, dy, seed, noisy, kind) in steps {
            let mut pixels = draw(width, height, dx, dy, seed);
            if noisy {
                let from = pixels.len() / 3;
                for byte in &mut pixels[from..] {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *byte = (state >> 24) as u8;
                }
            }
            rig.step(&pixels, kind == 0);
        }
    }
}
