//! Any bytes as a script for the screen encoder: what to draw, what damage to tell of it, when to
//! ask for an IDR, another quantiser, rate, size or chroma format, into how many slices to cut.
//!
//! In: bytes, all of which mean something. Out: each access unit together with what the encoder
//! believes that decoders show, for the caller to hold against a decoder. It refuses nothing and
//! ends after so many frames.

use openh264::{decoder::Decoder, formats::YUVSource};
use transom_agent::capture::Frame;
use transom_agent::damage::{Damage, Rect};
use transom_agent::encode::screen::Screen;
use transom_agent::encode::{AccessUnit, Request, Tuning};
use transom_agent::picture::Picture;
use transom_agent::pixels::Pixels;
use transom_protocol::{BitRate, Chroma, GuestTime};
use transom_relay::ts::{Muxer, still::Still};

/// A script has no more frames than this.
const MAX_FRAMES: u32 = 40;

/// The bytes of a script, zeros behind its end.
struct Script<'a>(std::slice::Iter<'a, u8>);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn is_over(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    fn chroma(&mut self, colours: Colours) -> Chroma {
        let odd = self.byte() % 2 == 1;
        if odd && colours == Colours::All { Chroma::Yuv444 } else { Chroma::Yuv420 }
    }

    /// Mostly small, now and then larger.
    fn size(&mut self) -> (u32, u32) {
        let (columns, rows, scale) = (self.byte(), self.byte(), self.byte());
        let scale = if scale > 250 { 4 } else { 1 };
        let edge = |byte: u8| (2 + u32::from(byte) % 100) * scale;
        (edge(columns), edge(rows))
    }

    fn rect(&mut self, (width, height): (u32, u32)) -> Rect {
        let [x, y, w, h] = [self.byte(), self.byte(), self.byte(), self.byte()].map(u32::from);
        let (x, y) = (x * width / 256, y * height / 256);
        Rect {
            x,
            y,
            width: (1 + w * width / 256).min(width - x),
            height: (1 + h * height / 256).min(height - y),
        }
    }
}

/// Chroma formats that a script may ask for; others are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// 4:2:0 and 4:4:4.
    All,
    /// 4:2:0 alone.
    Halved,
}

/// The screen that a script draws on, and the encoder that looks at it.
struct Stage {
    size: (u32, u32),
    pixels: Vec<u8>,
    picture: Picture,
    screen: Screen,
    noise: u32,
}

impl Stage {
    fn new((size, chroma): ((u32, u32), Chroma), slices: u8, tuning: Tuning) -> Self {
        let picture = Picture::with_chroma(size, chroma);
        let mut screen = Screen::new(picture.size(), tuning).expect("a size in range");
        if slices % 2 == 1 {
            screen.fix_slices(1 + usize::from(slices / 2 % 5));
        }
        let pixels = vec![0; (size.0 * size.1 * 4) as usize];
        Self { size, pixels, picture, screen, noise: 1 }
    }

    fn row(&mut self, rect: Rect, y: u32) -> &mut [[u8; 4]] {
        let start = ((rect.y + y) * self.size.0 + rect.x) as usize * 4;
        self.pixels[start..][..rect.width as usize * 4].as_chunks_mut().0
    }

    fn paint(&mut self, rect: Rect, colour: impl Fn(u32, u32) -> [u8; 3]) {
        for y in 0..rect.height {
            for (pixel, x) in self.row(rect, y).iter_mut().zip(0..) {
                let [b, g, r] = colour(x, y);
                *pixel = [b, g, r, 0];
            }
        }
    }

    fn spray(&mut self, rect: Rect) {
        let mut noise = self.noise;
        for y in 0..rect.height {
            for pixel in self.row(rect, y) {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *pixel = (noise >> 8).to_le_bytes();
            }
        }
        self.noise = noise;
    }

    /// Moves everything, with what leaves on one side coming back on the other.
    fn scroll(&mut self, right: u32, down: u32) {
        let row = self.size.0 as usize * 4;
        for line in self.pixels.chunks_exact_mut(row) {
            line.rotate_right(right as usize * 4 % row);
        }
        let all = self.pixels.len();
        self.pixels.rotate_right(down as usize * row % all);
    }

    /// From here on, the picture has so much colour: all of it is drawn anew.
    fn turn(&mut self, chroma: Chroma) {
        self.picture = Picture::with_chroma(self.size, chroma);
    }

    /// One order; whether a frame is due.
    fn act(&mut self, script: &mut Script<'_>, colours: Colours) -> bool {
        let order = script.byte();
        match order % 8 {
            0 => {
                let (rect, colour) = (script.rect(self.size), script.byte());
                self.paint(rect, |_, _| [colour, colour.wrapping_mul(3), !colour]);
            }
            1 => {
                let rect = script.rect(self.size);
                self.spray(rect);
            }
            2 => {
                let (rect, font) = (script.rect(self.size), u32::from(script.byte()) | 1);
                self.paint(rect, |x, y| {
                    let ink = y % 12 < 8 && (x / 2 * font + y / 2 * 5) % 7 < 3;
                    if ink { [20, 20, 30] } else { [240, 235, 240] }
                });
            }
            3 => {
                let (right, down) = (script.byte(), script.byte());
                // Up and to the left as well: a rotation by nearly all of it.
                self.scroll(u32::from(right) % self.size.0, u32::from(down) % self.size.1);
            }
            4 => {
                let (rect, slope) = (script.rect(self.size), u32::from(script.byte()));
                self.paint(rect, |x, y| {
                    [x * slope / 16, y * slope / 16, (x + y) * 3].map(|c| c as u8)
                });
            }
            5 => {
                let qp = script.byte();
                self.screen.fix_quantiser(10 + qp % 42);
            }
            6 => {
                let rates = [0, 40_000, 300_000, 8_000_000, u32::MAX];
                let bitrate = BitRate(rates[usize::from(script.byte()) % rates.len()]);
                self.screen.tune(Tuning { bitrate, fps: 60 });
            }
            7 if order & 0x20 != 0 => self.screen.fix_slices(1 + usize::from(script.byte() % 5)),
            7 if order & 0x80 != 0 => {
                let chroma = script.chroma(colours);
                self.turn(chroma);
            }
            _ => {}
        }
        order & 0x40 == 0
    }

    /// What the encoder is told; the picture itself is always brought up to date.
    fn frame(&mut self, script: &mut Script<'_>, time: u64, first: bool) -> AccessUnit {
        let mut damage = Damage::default();
        self.picture.update(Pixels::bgrx(&self.pixels, self.size.0), None, &mut damage);
        let order = script.byte();
        match order % 16 {
            0 => damage.clear(),
            1 => {
                damage.clear();
                damage.add(script.rect(self.size));
                damage.add(script.rect(self.size));
            }
            2 => damage.add(Rect { x: u32::MAX, y: 3, width: u32::MAX, height: 9 }),
            3 => damage.add(Rect { x: 0, y: 0, width: u32::MAX, height: u32::MAX }),
            _ => {}
        }
        let idr = first || order > 240;
        let frame = Frame { picture: &self.picture, damage: &damage };
        self.screen
            .encode(Request { frame, idr, time: GuestTime(time) })
            .expect("a picture of its size")
    }
}

/// Follows a script. `show` is given each access unit, the size of its picture, and the encoder.
pub fn play(data: &[u8], colours: Colours, mut show: impl FnMut(&AccessUnit, (u32, u32), &Screen)) {
    let mut script = Script(data.iter());
    let tuning = Tuning { bitrate: BitRate(8_000_000), fps: 60 };
    let shape = |script: &mut Script<'_>| (script.size(), script.chroma(colours));
    let mut stage = Stage::new(shape(&mut script), script.byte(), tuning);
    let (mut time, mut frames, mut first) = (0, 0, true);
    while frames < MAX_FRAMES && (first || !script.is_over()) {
        let due = stage.act(&mut script, colours);
        if !due && !script.is_over() {
            continue;
        }
        let unit = stage.frame(&mut script, time, first);
        assert!(unit.idr || !first, "a stream begins with an IDR");
        show(&unit, stage.picture.size(), &stage.screen);
        (frames, first) = (frames + 1, false);
        time += [0, 1, 16_666_667, 200_000_000][usize::from(script.byte() % 4)];
        if script.byte() > 245 {
            stage = Stage::new(shape(&mut script), script.byte(), tuning);
            first = true;
        }
    }
}

/// The visible part of what an encoder believes, plane after plane, without gaps.
pub fn believed(screen: &Screen, (width, height): (u32, u32)) -> Vec<u8> {
    let (width, height) = (width as usize, height as usize);
    let planes = screen.reconstruction();
    let mut out = Vec::with_capacity(width * height * 3);
    for (samples, stride) in planes {
        let by = planes[0].1 / stride;
        let rows = samples.chunks(stride).take(height / by);
        rows.for_each(|row| out.extend_from_slice(&row[..width / by]));
    }
    out
}

/// The same in 4:4:4, where samples of 4:2:0 stand for four pixels each.
pub fn believed_in_full(screen: &Screen, (width, height): (u32, u32)) -> Vec<u8> {
    let (width, height) = (width as usize, height as usize);
    let planes = screen.reconstruction();
    let mut out = Vec::with_capacity(width * height * 3);
    for (samples, stride) in planes {
        let by = planes[0].1 / stride;
        for y in 0..height {
            let row = &samples[y / by * stride..][..stride];
            out.extend((0..width).map(|x| row[x / by]));
        }
    }
    out
}

/// The fuzz target's body: OpenH264's decoder, which knows 4:2:0, has to show what the encoder
/// believes.
pub fn encoder(data: &[u8]) {
    let mut decoder = Decoder::new().expect("a decoder");
    play(data, Colours::Halved, |unit, size, screen| {
        show(&mut decoder, &unit.bytes, size, &believed(screen, size));
    });
}

/// The body of another: what the relay puts behind a picture on a screen at rest shows that picture
/// again, and those that follow do not notice.
pub fn still(data: &[u8]) {
    let (mut decoder, mut still) = (Decoder::new().expect("a decoder"), Still::default());
    play(data, Colours::Halved, |unit, size, screen| {
        let believed = believed(screen, size);
        show(&mut decoder, &unit.bytes, size, &believed);
        still.look(&unit.bytes);
        let repeated = still.repeat().expect("the encoder's pictures can be repeated");
        for _ in 0..3 {
            show(&mut decoder, &repeated, size, &believed);
        }
    });
    // Any bytes, as a guest may send them, on the way to players.
    let (mut still, mut muxer, mut packets) = (Still::default(), Muxer::default(), Vec::new());
    for unit in data.split(|byte| *byte == 0xff) {
        still.look(unit);
        let repeated = still.repeat().unwrap_or_default();
        assert!(repeated.len() < 64);
        muxer.picture(unit, unit.len() % 2 == 0, unit.len() as i64 - 9, &mut packets);
    }
    assert!(packets.len() % 188 == 0 && packets.chunks(188).all(|packet| packet[0] == 0x47));
}

fn show(decoder: &mut Decoder, unit: &[u8], size: (u32, u32), believed: &[u8]) {
    let decoded = decoder.decode(unit).expect("a conforming stream");
    let decoded = decoded.expect("a picture at once");
    assert_eq!(decoded.dimensions(), (size.0 as usize, size.1 as usize));
    let (luma, u, v) = decoded.strides();
    let (columns, rows) = decoded.dimensions();
    let planes = [
        (decoded.y(), luma, columns, rows),
        (decoded.u(), u, columns / 2, rows / 2),
        (decoded.v(), v, columns / 2, rows / 2),
    ];
    let mut rest = believed;
    for (plane, stride, columns, rows) in planes {
        for row in plane.chunks(stride).take(rows) {
            let (line, behind) = rest.split_at(columns);
            assert!(row[..columns] == *line, "decoder and encoder disagree");
            rest = behind;
        }
    }
}

/// Scripts to start from: text that scrolls, noise, a change of size.
pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![
            64, 48, 0, 2, 0, 0, 0, 255, 255, 9, 4, 2, 0, 3, 0, 4, 200, 0, 3, 3, 7, 200, 2, 0, 7, 0,
            0,
        ],
        vec![
            90, 70, 0, 5, 3, 0, 4, 2, 0, 1, 0, 0, 255, 255, 4, 2, 0, 3, 5, 9, 4, 2, 250, 33, 44, 0,
            1,
        ],
        vec![30, 98, 255, 4, 5, 0, 0, 255, 255, 30, 250, 2, 0, 6, 1, 1, 9, 9, 99, 99, 250, 3, 0],
    ]
}

/// Scripts again, and a stream of parameter sets and slices as they are sent.
pub fn still_seeds() -> Vec<Vec<u8>> {
    let mut streams = seeds();
    let mut stream = Vec::new();
    play(&streams[0].clone(), Colours::Halved, |unit, _, _| {
        stream.extend_from_slice(&unit.bytes[..unit.bytes.len().min(200)]);
        stream.push(0xff);
    });
    streams.push(stream);
    streams
}
