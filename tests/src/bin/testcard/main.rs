//! Draws known pictures on the guest's screen, as a compositor would: it becomes DRM
//! master of the VKMS card and shows dumb buffers. Runs inside the guest.
//!
//! In: one order per line on stdin. Out: one line each, `ok …` or `error …`, after a
//! first `ok` when it has the card. What it refuses: to run on a card other than VKMS
//! unless `TESTCARD` names one.
//!
//! | order | what it does |
//! |---|---|
//! | `mode WxH FORMAT [EXTRA]` | sets the mode; rows are EXTRA pixels longer than shown |
//! | `still SEED` | flips to the picture of that seed |
//! | `text SEED` | flips to small text in loud colours |
//! | `animate screen\|box` | flips every vblank, until the next order |
//! | `type N` | flips to the same picture with an N×N box in it |
//! | `scribble N` | draws an N×N box in the front buffer, without a flip |
//! | `cursor X Y` / `cursor off` | shows a 64×64 cursor there |
//! | `flips FILE` | writes number and time of each flip so far, and forgets them |
//! | `expect FILE` | writes what the screen shows as a PPM |
//! | `off` / `on` | switches the display off / on again |
//! | `release` / `acquire` | gives up being master / becomes it again |

// The legacy cursor calls are what an atomic driver maps onto its cursor plane.
#![allow(deprecated)]

mod canvas;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use anyhow::{Context, Result, bail, ensure};
use drm::Device as _;
use drm::control::dumbbuffer::DumbBuffer;
use drm::control::{Device as _, Event, Mode, PageFlipFlags, connector, crtc};
use nix::time::{ClockId, clock_gettime};
use transom_tests::Picture;
use transom_tests::card::{Format, number_blocks, pattern, text};

use crate::canvas::{Canvas, Card};

/// Cursor planes take this size everywhere.
const CURSOR: u32 = 64;
/// The box of `animate box`, and how far it moves per frame.
const BOX: usize = 64;
const STEP: usize = 8;

fn main() -> Result<()> {
    let mut screen = Screen::open()?;
    let orders = read_orders();
    println!("ok");
    while let Some(order) = screen.next_order(&orders)? {
        match screen.obey(&order) {
            Ok(answer) => println!("ok {answer}"),
            Err(error) => println!("error {error:#}"),
        }
    }
    Ok(())
}

/// Lines of stdin on a channel, so that an animation can look for one between frames.
fn read_orders() -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    receive
}

#[derive(Clone, Copy, PartialEq)]
enum Motion {
    None,
    Screen,
    Box,
}

struct Screen {
    card: Card,
    connector: connector::Info,
    crtc: crtc::Handle,
    mode: Option<Mode>,
    /// The shown canvas first.
    canvases: Vec<Canvas>,
    /// The picture that an animation moves.
    moving: Vec<u8>,
    motion: Motion,
    number: u32,
    flips: Vec<(u32, i64)>,
    cursor: Option<(Canvas, (i32, i32))>,
}

impl Screen {
    fn open() -> Result<Self> {
        let card = open_card()?;
        card.acquire_master_lock().context("somebody else is master of the card")?;
        let resources = card.resource_handles()?;
        let connector = resources
            .connectors()
            .iter()
            .filter_map(|c| card.get_connector(*c, true).ok())
            .find(|c| c.state() == connector::State::Connected)
            .context("no connected display")?;
        let crtc = *resources.crtcs().first().context("no CRTC")?;
        Ok(Self {
            card,
            connector,
            crtc,
            mode: None,
            canvases: Vec::new(),
            moving: Vec::new(),
            motion: Motion::None,
            number: 0,
            flips: Vec::new(),
            cursor: None,
        })
    }

    /// Waits for the next order, drawing meanwhile if something shall move.
    fn next_order(&mut self, orders: &Receiver<String>) -> Result<Option<String>> {
        while self.motion != Motion::None {
            match orders.try_recv() {
                Ok(order) => {
                    self.motion = Motion::None;
                    return Ok(Some(order));
                }
                Err(TryRecvError::Empty) => self.step()?,
                Err(TryRecvError::Disconnected) => return Ok(None),
            }
        }
        Ok(orders.recv().ok())
    }

    fn obey(&mut self, order: &str) -> Result<String> {
        let words: Vec<_> = order.split_whitespace().collect();
        match words[..] {
            ["mode", size, format] => self.set_mode(size, format, 0)?,
            ["mode", size, format, extra] => self.set_mode(size, format, extra.parse()?)?,
            ["still", seed] => {
                let (w, h) = self.back()?.size;
                let picture = pattern(seed.parse()?, w, h);
                self.back()?.draw(&picture);
                self.flip()?;
            }
            ["text", seed] => {
                let (w, h) = self.back()?.size;
                let picture = text(seed.parse()?, w, h);
                self.back()?.draw(&picture);
                self.flip()?;
            }
            ["animate", what] => self.start(what)?,
            ["type", edge] => {
                let edge = edge.parse()?;
                self.number += 1;
                let (number, shade) = (self.number, (self.number * 40 % 256) as u8);
                let [front, back] = &mut self.canvases[..] else { bail!("no mode is set") };
                back.copy_from(front);
                back.fill((96, 96), (edge, edge), [shade, 255 - shade, 128]);
                stamp(back, number);
                self.flip()?;
            }
            ["scribble", edge] => {
                let edge = edge.parse()?;
                self.number += 1;
                let shade = (self.number * 40 % 256) as u8;
                let number = self.number;
                let front = self.canvases.first_mut().context("no mode is set")?;
                front.fill((96, 96), (edge, edge), [shade, 255 - shade, 128]);
                stamp(front, number);
                self.note_flip()?;
            }
            ["cursor", "off"] => {
                self.card.set_cursor(self.crtc, None::<&DumbBuffer>)?;
                if let Some((canvas, _)) = self.cursor.take() {
                    canvas.free(&self.card)?;
                }
            }
            ["cursor", x, y] => self.set_cursor((x.parse()?, y.parse()?))?,
            ["flips", file] => self.write_flips(Path::new(file))?,
            ["expect", file] => self.expected()?.write_ppm(Path::new(file))?,
            ["off"] => self.card.set_crtc(self.crtc, None, (0, 0), &[], None)?,
            ["on"] => self.light()?,
            ["release"] => self.card.release_master_lock()?,
            ["acquire"] => self.card.acquire_master_lock()?,
            _ => bail!("no such order: {order}"),
        }
        Ok(self.number.to_string())
    }

    fn set_mode(&mut self, size: &str, format: &str, extra: u32) -> Result<()> {
        let (w, h) = size.split_once('x').context("a mode is WxH")?;
        let (w, h): (u16, u16) = (w.parse()?, h.parse()?);
        let modes = self.connector.modes();
        let mode = modes.iter().find(|m| m.size() == (w, h) && m.vrefresh() == 60);
        let mode =
            *mode.or_else(|| modes.iter().find(|m| m.size() == (w, h))).with_context(|| {
                let all: Vec<_> =
                    modes.iter().map(|m| format!("{}x{}", m.size().0, m.size().1)).collect();
                format!("the display has no mode {size}, only {}", all.join(" "))
            })?;
        let format = Format::parse(format)?;
        let size = (u32::from(w), u32::from(h));
        let front = Canvas::new(&self.card, size, format, extra)?;
        let back = Canvas::new(&self.card, size, format, extra)?;
        let old = std::mem::replace(&mut self.canvases, vec![front, back]);
        self.mode = Some(mode);
        self.light()?;
        old.into_iter().try_for_each(|canvas| canvas.free(&self.card))
    }

    fn light(&self) -> Result<()> {
        let front = self.canvases.first().context("no mode is set")?;
        let connectors = [self.connector.handle()];
        Ok(self.card.set_crtc(self.crtc, Some(front.fb), (0, 0), &connectors, self.mode)?)
    }

    fn back(&mut self) -> Result<&mut Canvas> {
        self.canvases.get_mut(1).context("no mode is set")
    }

    /// Shows the back canvas and waits until it is on the screen.
    fn flip(&mut self) -> Result<()> {
        let fb = self.back()?.fb;
        self.note_flip()?;
        self.card.page_flip(self.crtc, fb, PageFlipFlags::EVENT, None).context("no page flip")?;
        while !self.card.receive_events()?.any(|e| matches!(e, Event::PageFlip(_))) {}
        self.canvases.swap(0, 1);
        Ok(())
    }

    /// The time is taken before the call: the new buffer can be seen from within it.
    fn note_flip(&mut self) -> Result<()> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        self.flips.push((self.number, now.tv_sec() * 1_000_000_000 + now.tv_nsec()));
        Ok(())
    }

    fn start(&mut self, what: &str) -> Result<()> {
        self.motion = match what {
            "screen" => Motion::Screen,
            "box" => Motion::Box,
            _ => bail!("animate screen or box, not {what}"),
        };
        let (w, h) = self.back()?.size;
        let picture = pattern(1, w, h);
        for canvas in &mut self.canvases {
            canvas.draw(&picture);
        }
        let back = self.back()?;
        let rows = (0..h).flat_map(|y| back.row(y).to_vec()).collect();
        self.moving = rows;
        Ok(())
    }

    /// One frame of an animation: drawn in the back canvas, then flipped.
    fn step(&mut self) -> Result<()> {
        self.number += 1;
        let (number, motion) = (self.number, self.motion);
        let moving = std::mem::take(&mut self.moving);
        let back = self.back()?;
        let (w, h) = back.size;
        let line = w * back.format.bytes();
        let n = number as usize;
        match motion {
            Motion::None => {}
            Motion::Screen => {
                for y in 0..h {
                    let from = (y + n * 2) % h * line;
                    back.row(y).copy_from_slice(&moving[from..from + line]);
                }
            }
            Motion::Box => {
                // The back canvas still has the box of two frames ago.
                let old = place(n.saturating_sub(2), (w, h));
                for y in old.1..old.1 + BOX {
                    back.row(y).copy_from_slice(&moving[y * line..(y + 1) * line]);
                }
                back.fill(place(n, (w, h)), (BOX, BOX), [250, 240, 20]);
            }
        }
        stamp(back, number);
        self.moving = moving;
        self.flip()
    }

    fn set_cursor(&mut self, position: (i32, i32)) -> Result<()> {
        if self.cursor.is_none() {
            let mut canvas = Canvas::new(&self.card, (CURSOR, CURSOR), Format::Argb8888, 0)?;
            for y in 0..CURSOR as usize {
                // An opaque triangle; outside of it alpha and colour are zero.
                let row = canvas.row(y);
                row.fill(0);
                row[..y * 4].as_chunks_mut().0.fill([40, 60, 255, 255]);
            }
            self.card.set_cursor(self.crtc, Some(&canvas.buffer))?;
            self.cursor = Some((canvas, position));
        }
        self.card.move_cursor(self.crtc, position)?;
        if let Some((_, at)) = &mut self.cursor {
            *at = position;
        }
        Ok(())
    }

    fn expected(&mut self) -> Result<Picture> {
        let mut picture = self.canvases.first_mut().context("no mode is set")?.read();
        if let Some((canvas, (x, y))) = &mut self.cursor {
            for i in 0..(CURSOR * CURSOR) as usize {
                let (cx, cy) = (i % CURSOR as usize, i / CURSOR as usize);
                let (px, py) = (cx as i32 + *x, cy as i32 + *y);
                let inside = |v: i32, max| usize::try_from(v).ok().filter(|v| *v < max);
                let at = inside(px, picture.width).zip(inside(py, picture.height));
                let pixel: [u8; 4] = canvas.row(cy).as_chunks().0[cx];
                if let (Some((px, py)), [b, g, r, 255]) = (at, pixel) {
                    let i = (py * picture.width + px) * 3;
                    picture.rgb[i..i + 3].copy_from_slice(&[r, g, b]);
                }
            }
        }
        Ok(picture)
    }

    fn write_flips(&mut self, file: &Path) -> Result<()> {
        let mut text = String::new();
        for (number, at) in self.flips.drain(..) {
            text += &format!("{number} {at}\n");
        }
        let mut file = File::create(file)?;
        Ok(file.write_all(text.as_bytes())?)
    }
}

/// Where the box of frame `n` is: on a path that fills the screen below the number.
fn place(n: usize, (w, h): (usize, usize)) -> (usize, usize) {
    let columns = (w - BOX) / STEP;
    (n % columns * STEP, 32 + n / columns * STEP % (h - BOX - 32))
}

fn stamp(canvas: &mut Canvas, number: u32) {
    for (x, edge, white) in number_blocks(number) {
        canvas.fill((x, 0), (edge, edge), [if white { 255 } else { 0 }; 3]);
    }
}

/// The card that `TESTCARD` names, or the one that VKMS drives.
fn open_card() -> Result<Card> {
    let open = |path: &Path| -> Result<Card> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        Ok(Card(file.with_context(|| format!("cannot open {}", path.display()))?))
    };
    if let Some(path) = std::env::var_os("TESTCARD") {
        return open(Path::new(&path));
    }
    for entry in std::fs::read_dir("/dev/dri").context("no DRM devices")? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with("card") {
            continue;
        }
        let card = open(&entry.path())?;
        if card.get_driver()?.name() == "vkms" {
            return Ok(card);
        }
    }
    ensure!(false, "no card is driven by vkms");
    unreachable!("ensured")
}
