//! What a frame costs, stage by stage: converting (and comparing), encoding, for both encoders, and for the
//! screen encoder in 4:4:4, too.
//!
//! Prints medians in milliseconds. `RAW=FILE` names BGRX frames of 1280x720 to use as well.
//! Without `--bench` (that is, in tests) everything runs on a few frames, so that it cannot rot.

use std::time::{Duration, Instant};

use transom_agent::capture::Frame;
use transom_agent::damage::Damage;
use transom_agent::encode::{Choice, Encoder, Request, Tuning};
use transom_agent::picture::Picture;
use transom_agent::pixels::Pixels;
use transom_protocol::{BitRate, Chroma, GuestTime};

const WIDTH: usize = 1280;
const HEIGHT: usize = 720;
const BYTES: usize = WIDTH * HEIGHT * 4;

/// Frame `n` of a kind of content.
type Draw<'a> = Box<dyn Fn(usize, &mut [u8]) + 'a>;

fn fill(pixels: &mut [u8], colour: impl Fn(usize, usize) -> [u8; 3]) {
    for (index, pixel) in pixels.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let [b, g, r] = colour(index % WIDTH, index / WIDTH);
        *pixel = [b, g, r, 0];
    }
}

/// Lines of text-like marks on a light ground.
fn page(x: usize, y: usize) -> [u8; 3] {
    let ink = y % 20 < 12 && (x / 3 * 7 + y / 3 * 5 + x / 60) % 5 < 2 && x % 80 < 70;
    if ink { [30, 30, 30] } else { [240, 240, 235] }
}

/// Textured walls, as games have them.
fn wall(x: usize, y: usize) -> [u8; 3] {
    let brick = (x / 64 + y / 32) % 3 * 40;
    let grain = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)) >> 7 & 31;
    [40 + brick + grain, 60 + brick / 2 + grain, 70 + grain].map(|c| c as u8)
}

fn contents(raw: Option<&[u8]>) -> Vec<(&'static str, Draw<'_>)> {
    let mut contents: Vec<(&'static str, Draw<'_>)> = vec![
        (
            "typing",
            Box::new(|n, pixels| {
                fill(
                    pixels,
                    |x, y| if y / 20 == 10 && x / 10 < n % 100 { [0, 0, 0] } else { page(x, y) },
                );
            }),
        ),
        ("scroll 20 px", Box::new(|n, pixels| fill(pixels, |x, y| page(x, y + 20 * n)))),
        (
            "window moves",
            Box::new(|n, pixels| {
                let (left, top) = (100 + n * 6 % 700, 80 + n * 4 % 300);
                fill(pixels, |x, y| {
                    let inside = (left..left + 400).contains(&x) && (top..top + 300).contains(&y);
                    if inside { wall(x - left, y - top) } else { page(x, y) }
                });
            }),
        ),
        ("full motion", Box::new(|n, pixels| fill(pixels, |x, y| wall(x + 7 * n, y + 3 * n)))),
    ];
    if let Some(raw) = raw {
        contents.push((
            "recording",
            Box::new(|n, pixels| {
                let frames = (raw.len() / BYTES).max(1);
                pixels.copy_from_slice(&raw[n % frames * BYTES..][..BYTES]);
            }),
        ));
    }
    contents
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

fn main() {
    let measure = std::env::args().any(|argument| argument == "--bench");
    let frames = if measure { 120 } else { 3 };
    let raw = std::env::var_os("RAW").map(|path| std::fs::read(path).expect("RAW can be read"));
    let raw = raw.as_deref().filter(|raw| raw.len() >= BYTES);
    println!(
        "{:14} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9}",
        "720p, ms",
        "convert",
        "to 4:4:4",
        "screen",
        "4:4:4",
        "openh264",
        "screen B",
        "4:4:4 B",
        "openh264 B"
    );
    for (name, draw) in contents(raw) {
        let size = (WIDTH as u32, HEIGHT as u32);
        let tuning = Tuning { bitrate: BitRate(12_000_000), fps: 60 };
        let encoder = |choice| Encoder::new(choice, size, tuning).expect("an ordinary size");
        let mut encoders = [
            (encoder(Choice::Screen), Chroma::Yuv420),
            (encoder(Choice::Screen), Chroma::Yuv444),
            (encoder(Choice::OpenH264), Chroma::Yuv420),
        ];
        let mut picture = Picture::new(size);
        let mut full = Picture::with_chroma(size, Chroma::Yuv444);
        let (mut damage, mut pixels) = (Damage::default(), vec![0; BYTES]);
        let mut times: [Vec<Duration>; 5] = Default::default();
        let mut bytes = [0; 3];
        for n in 0..=frames {
            draw(n, &mut pixels);
            damage.clear();
            let begun = Instant::now();
            picture.update(Pixels::bgrx(&pixels, size.0), None, &mut damage);
            let converted = Instant::now();
            full.update(Pixels::bgrx(&pixels, size.0), None, &mut Damage::default());
            let stages = [converted - begun, converted.elapsed()];
            let encoded = encoders.iter_mut().zip(&mut bytes).map(|((encoder, chroma), bytes)| {
                let picture = if *chroma == Chroma::Yuv444 { &full } else { &picture };
                let begun = Instant::now();
                let frame = Frame { picture, damage: &damage };
                let time = GuestTime(n as u64 * 28_571_429);
                let unit = encoder.encode(Request { frame, idr: n == 0, time }).expect("encodes");
                *bytes += if n > 0 { unit.bytes.len() } else { 0 };
                begun.elapsed()
            });
            let all: Vec<Duration> = stages.into_iter().chain(encoded).collect();
            // The first frame is an IDR.
            if n > 0 {
                times.iter_mut().zip(all).for_each(|(times, time)| times.push(time));
            }
        }
        let times = times.each_mut().map(|times| median(times));
        let [convert, widen, screen, full, openh264] = times;
        let [own, own_full, other] = bytes.map(|bytes| bytes / frames);
        println!(
            "{name:14} {convert:8.2} {widen:8.2} {screen:8.2} {full:8.2} \
             {openh264:9.2} {own:9} {own_full:9} {other:9}"
        );
    }
}
