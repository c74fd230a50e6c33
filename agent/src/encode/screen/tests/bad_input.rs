//! Pictures that no encoder likes, and damage that is not true: no panic, and nothing that a decoder
//! sees otherwise.

use super::*;
use crate::damage::Rect;

fn noise(width: u32, height: u32, mut state: u32) -> Vec<u8> {
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..width * height * 4).map(next).collect()
}

/// The largest difference of luma between the picture and what decoders show.
fn apart(rig: &Rig) -> u8 {
    let (plane, width) = (rig.picture.planes()[0], rig.picture.strides()[0]);
    let rows =
        plane.chunks(width).zip(rig.screen.reference.y.data.chunks(rig.screen.reference.y.width));
    let differences = rows.flat_map(|(a, b)| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)));
    differences.max().unwrap_or_default()
}

#[test]
fn a_change_that_damage_leaves_out_is_found_within_two_seconds() {
    for (moving, idrs) in [(false, false), (true, false), (false, true)] {
        let mut rig = Rig::new(320, 240, 20_000_000);
        rig.step(&draw(320, 240, 0, 0, 3), true);
        // Until it is fine, which takes no time here.
        while rig.encode(false).coarse {
            rig.damage.clear();
        }
        assert!(apart(&rig) < 30, "{}", apart(&rig));
        let mut pixels = draw(320, 240, 0, 0, 3);
        for y in 150..160 {
            for x in 200..203 {
                let at = (y * 320 + x) * 4;
                let inverse = if pixels[at + 1] > 128 { 0 } else { 255 };
                pixels[at..at + 3].fill(inverse);
            }
        }
        rig.show(&pixels);
        assert!(apart(&rig) > 60, "the picture has changed");
        let begun = rig.time;
        let mut n = 0u8;
        while apart(&rig) > 40 {
            assert!(rig.time - begun < 2_000_000_000, "still not found");
            rig.damage.clear();
            if moving {
                n = n.wrapping_add(40);
                pixels[..16 * 4].fill(n);
                rig.show(&pixels);
            }
            // A stream at rest: a frame now and then.
            rig.time += 100_000_000;
            rig.encode(idrs);
        }
    }
}

#[test]
fn damage_outside_empty_and_doubled_is_taken_as_far_as_it_makes_sense() {
    let mut rig = Rig::new(176, 144, 8_000_000);
    rig.step(&draw(176, 144, 0, 0, 1), true);
    let rect = |x, y, width, height| Rect { x, y, width, height };
    for rects in [
        vec![rect(u32::MAX, u32::MAX, u32::MAX, u32::MAX)],
        vec![rect(0, 0, u32::MAX, u32::MAX), rect(3, 3, u32::MAX, 1)],
        vec![rect(176, 144, 1, 1), rect(175, 143, 1, 1)],
        vec![rect(5, 5, 0, 0), rect(5, 5, 0, 9), rect(5, 5, 9, 0)],
        vec![rect(10, 10, 50, 50); 40],
        vec![rect(10, 10, 50, 50), rect(20, 20, 60, 60), rect(0, 30, 176, 4)],
    ] {
        rig.show(&draw(176, 144, rig.time as i32 / 5_000_000, 2, 1));
        rig.damage.clear();
        rects.into_iter().for_each(|rect| rig.damage.add(rect));
        rig.encode(false);
    }
}

#[test]
fn noise_at_the_finest_quantiser_and_black_are_pictures_like_others() {
    for (width, height) in [(16, 16), (130, 98)] {
        for slices in [1, 3] {
            let mut rig = Rig::new(width, height, 8_000_000);
            rig.screen.fix_quantiser(0);
            rig.screen.fix_slices(slices);
            let black = vec![0; (width * height * 4) as usize];
            for (n, pixels) in
                [noise(width, height, 5), noise(width, height, 6), black.clone(), black]
                    .iter()
                    .enumerate()
            {
                rig.step(pixels, n == 0);
            }
            rig.step(&noise(width, height, 7), false);
            rig.step(&noise(width, height, 7), true);
        }
    }
}

#[test]
fn a_bitrate_of_zero_still_shows_something() {
    let mut rig = Rig::new(160, 96, 0);
    for n in 0..8 {
        rig.step(&draw(160, 96, n * 4, n, 2), n == 0);
    }
    rig.time += 1_000_000_000;
    let unit = rig.step(&draw(160, 96, 28, 7, 2), false);
    assert!(!unit.bytes.is_empty());
    assert!(apart(&rig) < 200, "{}", apart(&rig));
}

#[test]
fn a_picture_of_another_size_is_refused_and_the_next_one_taken() {
    let mut rig = Rig::new(64, 48, 8_000_000);
    rig.step(&draw(64, 48, 0, 0, 1), true);
    let (other, damage) = (Picture::new((66, 48)), Damage::default());
    let frame = Frame { picture: &other, damage: &damage };
    let refused = rig.screen.encode(Request { frame, idr: false, time: GuestTime(rig.time) });
    assert!(matches!(refused, Err(EncodeError::Size(66, 48))), "{refused:?}");
    rig.step(&draw(64, 48, 3, 0, 1), false);
    for size in [(0, 0), (1, 16), (15, 16), (8194, 16), (8192, 8192)] {
        assert!(Screen::new(size, Tuning { bitrate: BitRate(1), fps: 60 }).is_err(), "{size:?}");
    }
}
