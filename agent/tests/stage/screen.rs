//! What goes in and what comes out: a helper, a screen to encode, and ffmpeg to decode.
#![allow(dead_code)] // No test program needs all of it.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use transom_agent::damage::Damage;
use transom_agent::encode::vaapi::check::Announced;
use transom_agent::encode::vaapi::{Opened, Progress, Remote, VaapiError};
use transom_agent::picture::Picture;
use transom_agent::pixels::Pixels;

use transom_protocol::message::Codec;

use crate::stage::{RATE, start};

const SOON: Duration = Duration::from_secs(60);

/// A helper with the driver in a mode, ready to encode.
pub fn open(mode: &str, size: (u32, u32)) -> Result<(Remote, Opened), VaapiError> {
    open_codec(mode, size, Codec::H264)
}

/// The same for a codec.
pub fn open_codec(
    mode: &str,
    size: (u32, u32),
    codec: Codec,
) -> Result<(Remote, Opened), VaapiError> {
    let mut remote = start(mode, size, codec)?;
    match remote.wait_ready(SOON)? {
        Progress::Ready => {}
        Progress::Opening => panic!("not ready after {SOON:?}"),
    }
    let opened = remote.opened().expect("it is ready").clone();
    Ok((remote, opened))
}

/// A stream, and what shall be seen of it.
pub struct Coded {
    /// By what it was made.
    pub opened: Opened,
    /// What its last SPS says.
    pub announced: Announced,
    /// Annex B.
    pub stream: Vec<u8>,
    /// Bytes of each frame.
    pub lengths: Vec<usize>,
    /// I420, one frame behind the other.
    pub expected: Vec<u8>,
}

/// Eight frames that change, but for the one that `rests`; the first and the sixth are IDRs.
pub fn encode(mode: &str, size: (u32, u32), codec: Codec, rests: Option<u32>) -> Coded {
    let (mut remote, opened) = open_codec(mode, size, codec).expect("opens");
    let mut screen = Screen::new(size);
    let (mut announced, mut stream, mut expected) = (None, Vec::new(), Vec::new());
    let mut lengths = Vec::new();
    for number in 0..8 {
        if rests == Some(number) {
            screen.damage.clear();
        } else {
            screen.draw(number);
        }
        let (idr, what) = (number == 0 || number == 5, format!("{mode} {size:?} frame {number}"));
        let coded = remote
            .encode(&screen.picture, screen.damage.rects(), idr, RATE)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        announced = coded.announced.or(announced);
        lengths.push(coded.bytes.len());
        stream.extend(coded.bytes);
        expected.extend(screen.picture.planes().concat());
    }
    let announced = announced.expect("an IDR has an SPS");
    Coded { opened, announced, stream, lengths, expected }
}

/// A screen whose pictures differ in a part.
pub struct Screen {
    size: (u32, u32),
    /// What is shown.
    pub picture: Picture,
    /// What differs from the picture before.
    pub damage: Damage,
    /// BGRX, without gaps.
    pub pixels: Vec<u8>,
}

impl Screen {
    /// Noise.
    pub fn new((width, height): (u32, u32)) -> Self {
        let mut state = 1u32;
        let pixels = (0..width as usize * height as usize * 4).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        Self {
            size: (width, height),
            picture: Picture::new((width, height)),
            damage: Damage::default(),
            pixels: pixels.collect(),
        }
    }

    /// Changes a rectangle, another one for each number.
    pub fn draw(&mut self, number: u32) {
        let (width, height) = self.size;
        for y in (number * 7 % height)..(number * 7 % height + 40).min(height) {
            for x in (number * 13 % width)..(number * 13 % width + 90).min(width) {
                self.pixels[(y * width + x) as usize * 4] ^= number as u8 | 1;
            }
        }
        self.look();
    }

    /// Changes all of it.
    pub fn flood(&mut self) {
        for pixel in self.pixels.chunks_mut(4) {
            pixel[0] = pixel[0].wrapping_mul(5).wrapping_add(pixel[1] | 1);
        }
        self.look();
    }

    fn look(&mut self) {
        self.damage.clear();
        self.picture.update(Pixels::bgrx(&self.pixels, self.size.0), None, &mut self.damage);
    }
}

/// What ffmpeg makes of a stream: all frames as I420, one behind the other.
pub fn decode(stream: &[u8]) -> Vec<u8> {
    let (pictures, said) = decode_any(stream);
    assert!(said.is_empty(), "ffmpeg: {said}");
    pictures
}

/// The same for streams that do not begin with an IDR, and what ffmpeg says of them.
pub fn decode_any(stream: &[u8]) -> (Vec<u8>, String) {
    decode_as("h264", stream)
}

/// The same for a stream of HEVC, all of which ffmpeg has to like.
pub fn decode_hevc(stream: &[u8]) -> Vec<u8> {
    let (pictures, said) = decode_as("hevc", stream);
    assert!(said.is_empty(), "ffmpeg: {said}");
    pictures
}

fn decode_as(codec: &str, stream: &[u8]) -> (Vec<u8>, String) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let unique = format!("transom-vaapi-{}-{number}.h264", std::process::id());
    let file = std::env::temp_dir().join(unique);
    std::fs::write(&file, stream).expect("the temporary folder can be written");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-f", codec, "-i"])
        .arg(&file)
        // Pictures of another size stay as they are.
        .args(["-fps_mode", "passthrough", "-autoscale", "0"])
        .args(["-pix_fmt", "yuv420p", "-f", "rawvideo", "-"])
        .output()
        .expect("ffmpeg starts: `tools/setup test` installs it");
    std::fs::remove_file(file).expect("just made");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ffmpeg: {said}");
    (output.stdout, said.into_owned())
}
