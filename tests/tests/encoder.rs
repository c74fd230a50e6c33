//! The screen encoder's streams in a browser's decoder: Chromium shows what the encoder believes that
//! decoders show, sample by sample. Other decoders are held against it by `make conformance` (ffmpeg)
//! and by the agent's own tests (OpenH264).

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use transom_agent::capture::Frame;
use transom_agent::damage::Damage;
use transom_agent::encode::screen::Screen;
use transom_agent::encode::{Request, Tuning};
use transom_agent::picture::Picture;
use transom_agent::pixels::Pixels;
use transom_protocol::{BitRate, Chroma, GuestTime};
use transom_tests::{Browser, machine_test};

const LIMIT: Duration = Duration::from_secs(240);
/// Sizes that the stream goes through; most are no whole macroblocks.
const SIZES: [(u32, u32); 4] = [(320, 180), (640, 362), (98, 50), (256, 256)];
/// Pictures of each size.
const PICTURES: u32 = 16;

/// A stream, and what is to be seen of it.
#[derive(Default)]
struct Sample {
    /// Access units, each behind its length and 1 for an IDR.
    units: Vec<u8>,
    /// Planes of all pictures, one after the other.
    believed: Vec<u8>,
    pictures: u32,
}

/// Shapes and text-like detail that move by a few samples a picture; noise in some of them.
fn draw((width, height): (u32, u32), n: u32) -> Vec<u8> {
    let mut noise = n | 1;
    let mut pixels = Vec::with_capacity((width * height * 4) as usize);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let (u, v) = (x + n * 3, y + n / 2);
        let shape = (u / 20 * 7 + v / 12 * 13) % 5 * 50;
        let detail = if (u * 5 + v * 3) % 11 < 3 { 40 } else { 0 };
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = if n % 5 == 4 && y > height / 2 { noise >> 24 } else { 0 };
        pixels.extend(
            [shape + detail, u * 2 % 200 + noise / 2, shape / 2 + v * 3 % 90, 0].map(|c| c as u8),
        );
    }
    pixels
}

impl Sample {
    /// Adds pictures of one size: with another quantiser each, after a while under a bitrate.
    fn add(&mut self, size: (u32, u32), chroma: Chroma) -> Result<()> {
        let (mut picture, mut damage) = (Picture::with_chroma(size, chroma), Damage::default());
        let tuning = Tuning { bitrate: BitRate(3_000_000), fps: 60 };
        let mut screen = Screen::new(picture.size(), tuning)?;
        for n in 0..PICTURES {
            // One slice to three.
            screen.fix_slices(1 + n as usize / 3 % 3);
            if n < PICTURES / 2 {
                screen.fix_quantiser(10 + (n * 11 % 42) as u8);
            } else if n == PICTURES / 2 {
                screen.tune(Tuning { bitrate: BitRate(400_000), fps: 60 });
            }
            damage.clear();
            picture.update(Pixels::bgrx(&draw(size, n), size.0), None, &mut damage);
            let frame = Frame { picture: &picture, damage: &damage };
            let time = GuestTime(u64::from(self.pictures) * 16_666_667);
            let unit = screen.encode(Request { frame, idr: n % 10 == 0, time })?;
            self.units.extend((unit.bytes.len() as u32).to_le_bytes());
            self.units.extend(u32::from(unit.idr).to_le_bytes());
            self.units.extend(&unit.bytes);
            let (columns, rows) = (size.0 as usize, size.1 as usize);
            let by = if chroma == Chroma::Yuv444 { 1 } else { 2 };
            let sizes = [(columns, rows), (columns / by, rows / by), (columns / by, rows / by)];
            for ((plane, stride), (columns, rows)) in screen.reconstruction().into_iter().zip(sizes)
            {
                for row in plane.chunks(stride).take(rows) {
                    self.believed.extend(&row[..columns]);
                }
            }
            self.pictures += 1;
        }
        Ok(())
    }
}

#[test]
fn chromium_decodes_what_the_encoder_believes() {
    machine_test("chromium decodes what the encoder believes", LIMIT, |test| {
        let (from, to) = (test.dir().join("sample.units"), test.dir().join("sample.yuv"));
        let mut browser = Browser::start(test)?;
        // Constrained Baseline and High 4:4:4 Predictive, level 3.1.
        for (chroma, codec, format) in
            [(Chroma::Yuv420, "avc1.42c01f", "I420"), (Chroma::Yuv444, "avc1.f4001f", "I444")]
        {
            let mut sample = Sample::default();
            SIZES.into_iter().try_for_each(|size| sample.add(size, chroma))?;
            std::fs::write(&from, &sample.units)?;
            let order =
                json!({ "do": "decode", "codec": codec, "from": from, "to": to, "format": format });
            let shown = browser.tell(&order)?;
            ensure!(shown == sample.pictures, "{shown} of {} are shown", sample.pictures);
            let decoded = std::fs::read(&to)?;
            ensure!(decoded.len() == sample.believed.len(), "{format}: other sizes are shown");
            let differs = decoded.iter().zip(&sample.believed).position(|(a, b)| a != b);
            ensure!(differs.is_none(), "{format}: byte {differs:?} of the planes differs");
        }
        Ok(())
    });
}
