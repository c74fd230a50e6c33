//! 4:4:4, and changes between it and 4:2:0. OpenH264's decoder knows 4:2:0 alone: here it is
//! ffmpeg's that has to show what the encoder believes.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use transom_protocol::BitRate;

use super::super::*;
use super::draw;
use crate::capture::Frame;
use crate::picture::Picture;
use crate::pixels::Pixels;
use transom_protocol::GuestTime;

/// A stream, and what decoders shall show of it.
struct Film {
    /// Of the scanout.
    size: (u32, u32),
    picture: Picture,
    screen: Screen,
    time: u64,
    stream: Vec<u8>,
    believed: Vec<u8>,
}

impl Film {
    fn new(size: (u32, u32), bitrate: u32, chroma: Chroma) -> Self {
        let picture = Picture::with_chroma(size, chroma);
        let tuning = Tuning { bitrate: BitRate(bitrate), fps: 60 };
        Self {
            size,
            screen: Screen::new(picture.size(), tuning).expect("a size in range"),
            picture,
            time: 0,
            stream: Vec::new(),
            believed: Vec::new(),
        }
    }

    /// The picture has so much colour from here on.
    fn turn(&mut self, chroma: Chroma) {
        self.picture = Picture::with_chroma(self.size, chroma);
    }

    fn step(&mut self, pixels: &[u8], idr: bool) -> AccessUnit {
        let mut damage = Damage::default();
        self.picture.update(Pixels::bgrx(pixels, self.size.0), None, &mut damage);
        self.time += 16_666_667;
        let frame = Frame { picture: &self.picture, damage: &damage };
        let time = GuestTime(self.time);
        let unit = self.screen.encode(Request { frame, idr, time }).expect("encodes");
        self.stream.extend_from_slice(&unit.bytes);
        let (width, height) = self.picture.size();
        for (samples, stride) in self.screen.reconstruction() {
            // Chroma of 4:2:0 is shown two by two, as ffmpeg is told to do.
            let by = self.screen.reference.y.width / stride;
            for y in 0..height as usize {
                let row = &samples[y / by * stride..][..stride];
                self.believed.extend((0..width as usize).map(|x| row[x / by]));
            }
        }
        unit
    }

    fn check(self) {
        let shown = decode(&self.stream);
        assert_eq!(shown.len(), self.believed.len(), "bytes of all pictures");
        let first = shown.iter().zip(&self.believed).position(|(a, b)| a != b);
        assert_eq!(first, None, "the first byte that differs");
    }
}

/// All pictures of a stream, in 4:4:4.
fn decode(stream: &[u8]) -> Vec<u8> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let unique = format!("transom-colour-{}-{number}.h264", std::process::id());
    let file = std::env::temp_dir().join(unique);
    std::fs::write(&file, stream).expect("the temporary folder can be written");
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-threads", "1", "-f", "h264", "-i"])
        .arg(&file)
        .args(["-fps_mode", "passthrough", "-autoscale", "0", "-sws_flags", "neighbor"])
        .args(["-pix_fmt", "yuv444p", "-f", "rawvideo", "-"])
        .stdin(Stdio::null())
        .output()
        .expect("ffmpeg starts: `tools/setup test` installs it");
    std::fs::remove_file(file).expect("just made");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "ffmpeg: {said}");
    output.stdout
}

/// Profile, constraints and the ones behind them, of the SPS that a unit begins with.
fn profile(unit: &AccessUnit) -> [u8; 3] {
    assert_eq!(unit.bytes[..5], [0, 0, 0, 1, 0x67], "an SPS first");
    *unit.bytes[5..].first_chunk().expect("an SPS of more than three bytes")
}

#[test]
fn a_stream_turns_to_full_colour_and_back_by_an_idr() {
    let mut film = Film::new((200, 152), 20_000_000, Chroma::Yuv420);
    let mut profiles = Vec::new();
    for (turn, n) in (0..12).map(|n| ([3, 7, 8].contains(&n), n)) {
        if turn {
            let other = match film.picture.chroma() {
                Chroma::Yuv420 => Chroma::Yuv444,
                Chroma::Yuv444 => Chroma::Yuv420,
            };
            film.turn(other);
        }
        let unit = film.step(&draw(200, 152, n * 3, n, 1), false);
        assert_eq!(unit.idr, turn || n == 0, "frame {n}");
        if unit.idr {
            profiles.push(profile(&unit)[..2].to_vec());
        }
    }
    let (constrained, high) = (vec![66, 0xc0], vec![244, 0]);
    assert_eq!(profiles, [constrained.clone(), high.clone(), constrained, high]);
    film.check();
}

#[test]
fn an_idr_of_a_resting_picture_is_sent_again_in_full_colour() {
    let mut film = Film::new((64, 48), 20_000_000, Chroma::Yuv444);
    let pixels = draw(64, 48, 0, 0, 2);
    let sizes = [true, true, false].map(|idr| film.step(&pixels, idr).bytes.len());
    assert_eq!(sizes[0], sizes[1]);
    film.step(&draw(64, 48, 1, 0, 2), false);
    film.check();
}

#[test]
fn colours_alone_survive() {
    // Red and green of the same luma, one pixel wide: 4:2:0 makes mud of it.
    let (red, green) = ([0u8, 60, 200, 0], [0u8, 119, 0, 0]);
    let stripes = |width: u32, height: u32| -> Vec<u8> {
        (0..width * height)
            .flat_map(|at| if (at % width).is_multiple_of(2) { red } else { green })
            .collect()
    };
    let error = |chroma| -> u64 {
        let mut film = Film::new((64, 64), 50_000_000, chroma);
        film.screen.fix_quantiser(20);
        let pixels = stripes(64, 64);
        film.step(&pixels, true);
        let mut exact = Picture::with_chroma((64, 64), Chroma::Yuv444);
        exact.update(Pixels::bgrx(&pixels, 64), None, &mut Damage::default());
        let apart = exact
            .planes()
            .concat()
            .iter()
            .zip(&film.believed)
            .map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2))
            .sum();
        film.check();
        apart
    };
    let (full, halved) = (error(Chroma::Yuv444), error(Chroma::Yuv420));
    assert!(full * 50 < halved, "squared errors: {full} with all colour, {halved} with half");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_sequence_is_bit_exact(
        width in 2u32..150, height in 2u32..120, bitrate in 10_000u32..40_000_000,
        steps in prop::collection::vec(
            (-30i32..30, -30i32..30, 0u32..4, any::<bool>(), 0u32..10, 9u8..60), 1..8),
        noise in any::<u32>(),
    ) {
        let mut film = Film::new((width, height), bitrate, Chroma::Yuv444);
        let mut state = noise | 1;
        for (dx, dy, seed, noisy, kind, qp) in steps {
            let mut pixels = draw(width, height, dx, dy, seed);
            if noisy {
                let from = pixels.len() / 3;
                for byte in &mut pixels[from..] {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *byte = (state >> 24) as u8;
                }
            }
            match kind {
                1 => film.screen.fix_quantiser(qp),
                2 => film.turn(Chroma::Yuv420),
                3 => film.turn(Chroma::Yuv444),
                _ => {}
            }
            film.step(&pixels, kind == 0);
        }
        film.check();
    }
}
