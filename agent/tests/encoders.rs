//! Every encoder against what the stream promises, read back by OpenH264's decoder.

use openh264::decoder::Decoder;
use openh264::formats::YUVSource as _;
use transom_agent::capture::Frame;
use transom_agent::damage::{Damage, Rect};
use transom_agent::encode::{AccessUnit, Choice, EncodeError, Encoder, Request, Tuning};
use transom_agent::picture::Picture;
use transom_agent::pixels::Pixels;
use transom_protocol::{BitRate, GuestTime};

/// `Auto` finds no driver that works here, and is the screen encoder then.
const ALL: [Choice; 3] = [Choice::Auto, Choice::Screen, Choice::OpenH264];
const TUNING: Tuning = Tuning { bitrate: BitRate(8_000_000), fps: 60 };

/// A screen whose content moves by a few pixels a frame.
struct Screen {
    size: (u32, u32),
    picture: Picture,
    damage: Damage,
    time: u64,
}

impl Screen {
    fn new(width: u32, height: u32) -> Self {
        Self {
            size: (width, height),
            picture: Picture::new((width, height)),
            damage: Damage::default(),
            time: 0,
        }
    }

    fn draw(&mut self, shift: u32) -> Request<'_> {
        let (width, height) = self.size;
        let pixels: Vec<u8> = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x + shift, y)))
            .flat_map(|(x, y)| {
                let box_edge = (x / 24 + y / 24) % 2 * 150;
                [box_edge + x % 24, box_edge + y % 24 * 2, (x + y) / 16 % 200, 0].map(|c| c as u8)
            })
            .collect();
        self.damage.clear();
        self.picture.update(Pixels::bgrx(&pixels, width), None, &mut self.damage);
        self.time += 16_666_667;
        Request {
            frame: Frame { picture: &self.picture, damage: &self.damage },
            idr: false,
            time: GuestTime(self.time),
        }
    }
}

/// Types of the NAL units of an access unit (ITU-T H.264, table 7-1).
fn nal_types(unit: &AccessUnit) -> Vec<u8> {
    openh264::nal_units(&unit.bytes)
        .map(|nal| nal[nal.iter().position(|&b| b == 1).expect("a start code") + 1] & 31)
        .collect()
}

fn luma_psnr(picture: &Picture, decoded: &openh264::decoder::DecodedYUV<'_>) -> f64 {
    let (width, height) = picture.size();
    let (stride, _, _) = decoded.strides();
    let sum: u64 = (0..height as usize)
        .flat_map(|y| (0..width as usize).map(move |x| (x, y)))
        .map(|(x, y)| {
            let source = picture.planes()[0][y * width as usize + x];
            u64::from(source.abs_diff(decoded.y()[y * stride + x])).pow(2)
        })
        .sum();
    10.0 * (255.0f64.powi(2) * f64::from(width * height) / sum.max(1) as f64).log10()
}

#[test]
fn an_idr_comes_first_and_on_request_and_never_else() {
    for choice in ALL {
        let mut screen = Screen::new(320, 240);
        let mut encoder = Encoder::new(choice, (320, 240), TUNING).expect("an ordinary size");
        for shift in 0..200 {
            let request = screen.draw(shift * 3);
            let asked = shift == 0 || shift == 120;
            let unit = encoder.encode(Request { idr: asked, ..request }).expect("encodes");
            assert_eq!(unit.idr, asked, "frame {shift}");
            let types = nal_types(&unit);
            if asked {
                assert_eq!(types, [7, 8, 5], "SPS, PPS and one slice before every IDR");
            } else {
                assert_eq!(types, [1], "one slice");
            }
        }
    }
}

#[test]
fn pictures_survive_at_even_odd_and_extreme_sizes() {
    for choice in ALL {
        for (width, height) in [(1280, 720), (1366, 768), (641, 363), (16, 16), (17, 1000)] {
            let mut screen = Screen::new(width, height);
            let size = screen.picture.size();
            let mut encoder = Encoder::new(choice, size, TUNING).expect("a size in range");
            let mut decoder = Decoder::new().expect("a decoder");
            let mut last = 0.0;
            for shift in 0..4 {
                let request = screen.draw(shift);
                let unit = encoder.encode(Request { idr: shift == 0, ..request }).expect("encodes");
                let decoded =
                    decoder.decode(&unit.bytes).expect("decodes").expect("a picture at once");
                assert_eq!(decoded.dimensions(), (size.0 as usize, size.1 as usize));
                last = luma_psnr(&screen.picture, &decoded);
            }
            assert!(last > 35.0, "{width}x{height}: {last:.1} dB");
        }
    }
}

#[test]
fn a_lower_bitrate_takes_effect_without_an_idr() {
    for choice in ALL {
        let mut screen = Screen::new(640, 480);
        let mut encoder = Encoder::new(choice, (640, 480), TUNING).expect("an ordinary size");
        let mut bytes = |encoder: &mut Encoder, frames: std::ops::Range<u32>| -> usize {
            frames
                .map(|shift| {
                    let request = screen.draw(shift * 37);
                    let unit =
                        encoder.encode(Request { idr: shift == 0, ..request }).expect("encodes");
                    assert_eq!(unit.idr, shift == 0);
                    unit.bytes.len()
                })
                .sum()
        };
        let before = bytes(&mut encoder, 0..60);
        encoder.tune(Tuning { bitrate: BitRate(500_000), ..TUNING }).expect("in range");
        bytes(&mut encoder, 60..90);
        let after = bytes(&mut encoder, 90..150);
        assert!(after * 2 < before, "{before} bytes in 60 frames before, {after} after");
    }
}

#[test]
fn sizes_out_of_range_are_refused_and_rates_out_of_range_clamped() {
    for choice in ALL {
        let sizes = match choice {
            Choice::Auto | Choice::Vaapi | Choice::Screen => [(0, 720), (8194, 16), (8192, 8192)],
            Choice::OpenH264 => [(8, 720), (4096, 2160), (3840, 3840)],
        };
        for size in sizes {
            let refused = Encoder::new(choice, size, TUNING);
            assert!(matches!(refused, Err(EncodeError::Size(..))), "{size:?}");
        }
        for (bitrate, fps) in [(0, 0), (u32::MAX, u16::MAX)] {
            let tuning = Tuning { bitrate: BitRate(bitrate), fps };
            let mut encoder = Encoder::new(choice, (64, 64), tuning).expect("clamped");
            encoder.tune(TUNING).expect("in range");
            encoder.tune(tuning).expect("clamped");
            let mut screen = Screen::new(64, 64);
            encoder.encode(screen.draw(0)).expect("encodes");
        }
    }
}

#[test]
fn a_picture_of_another_size_is_an_error_and_not_a_crash() {
    for choice in ALL {
        let mut encoder = Encoder::new(choice, (64, 64), TUNING).expect("an ordinary size");
        let mut screen = Screen::new(32, 32);
        assert!(matches!(encoder.encode(screen.draw(0)), Err(EncodeError::Size(32, 32))));
    }
}

#[test]
fn the_colours_are_signalled() {
    for choice in ALL {
        // ITU-T H.264, annex E: video_signal_type 5 (unspecified), limited range, colour description
        // 1, 1, 1 (BT.709) are 28 bits in a row in the SPS.
        let mut screen = Screen::new(64, 64);
        let mut encoder = Encoder::new(choice, (64, 64), TUNING).expect("an ordinary size");
        let unit = encoder.encode(screen.draw(0)).expect("encodes");
        let sps = openh264::nal_units(&unit.bytes).next().expect("SPS first").to_vec();
        let bits: String = sps.iter().map(|byte| format!("{byte:08b}")).collect();
        let signal = ["1", "101", "0", "1", "00000001", "00000001", "00000001"].concat();
        assert!(bits.contains(&signal), "{bits}");
    }
}

#[test]
fn damage_may_be_empty_and_may_overlap() {
    for choice in ALL {
        let mut screen = Screen::new(64, 64);
        let mut encoder = Encoder::new(choice, (64, 64), TUNING).expect("an ordinary size");
        encoder.encode(screen.draw(0)).expect("encodes");
        let picture = &screen.picture;
        for damage in [Damage::default(), {
            let mut damage = Damage::default();
            damage.add(Rect { x: 0, y: 0, width: 64, height: 64 });
            damage.add(Rect { x: 0, y: 0, width: 64, height: 64 });
            damage
        }] {
            let frame = Frame { picture, damage: &damage };
            encoder
                .encode(Request { frame, idr: false, time: GuestTime(1 << 40) })
                .expect("encodes");
        }
    }
}
