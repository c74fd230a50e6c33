//! A window that is dragged over a page of text, put together from two recordings.
//!
//! In: a scene for the desktop and one for what the window holds. Out: a scene in which a cut of the
//! second one's last picture moves over the first one's, 60 times a second, as a hand would drag it:
//! slowly, fast, and back. It refuses pictures that are smaller than the window.

use std::path::Path;

use anyhow::{Result, ensure};
use transom_agent::damage::Rect;
use transom_tests::corpus::{Recorder, Scene};

/// Columns and rows of the window.
const WINDOW: (u32, u32) = (400, 300);
const PICTURES: u32 = 240;
/// Nanoseconds from one to the next.
const INTERVAL: u64 = 16_666_667;

/// Makes the scene.
pub fn make(desktop: &Path, content: &Path, to: &Path) -> Result<()> {
    let (size, desktop) = last(desktop)?;
    let (content_size, content) = last(content)?;
    for (width, height) in [size, content_size] {
        ensure!(width > WINDOW.0 && height > WINDOW.1, "{width}x{height} has no room for a window");
    }
    let corner = ((content_size.0 - WINDOW.0) / 2, (content_size.1 - WINDOW.1) / 2);
    let window = Rect { x: corner.0, y: corner.1, width: WINDOW.0, height: WINDOW.1 };
    let window = cut(&content, content_size.0, window);
    let mut recorder = Recorder::create(to, size)?;
    let mut before: Option<Rect> = None;
    for n in 0..PICTURES {
        // Twice there and back; fastest in the middle.
        let phase = f64::from(n) / f64::from(PICTURES) * std::f64::consts::TAU * 2.0;
        let part = (1.0 - phase.cos()) / 2.0;
        let at = |room: u32| (f64::from(room) * part) as u32;
        let place = Rect {
            x: at(size.0 - WINDOW.0),
            y: at((size.1 - WINDOW.1) / 2),
            width: WINDOW.0,
            height: WINDOW.1,
        };
        let mut screen = desktop.clone();
        paste(&mut screen, size.0, place, &window);
        let whole = Rect { x: 0, y: 0, width: size.0, height: size.1 };
        let parts: Vec<Rect> = match before {
            None => vec![whole],
            Some(before) if before == place => Vec::new(),
            Some(before) => vec![before, place],
        };
        let parts = parts.into_iter().map(|rect| (rect, cut(&screen, size.0, rect)));
        recorder.picture(u64::from(n) * INTERVAL, parts)?;
        before = Some(place);
    }
    recorder.finish()
}

/// The size and the last picture of a scene.
fn last(path: &Path) -> Result<((u32, u32), Vec<u8>)> {
    let scene = Scene::read(path, usize::MAX)?;
    let mut screen = vec![0; (scene.size.0 * scene.size.1 * 4) as usize];
    scene.pictures.iter().for_each(|picture| picture.draw(&mut screen, scene.size.0));
    Ok((scene.size, screen))
}

fn rows(rect: Rect, width: u32) -> impl Iterator<Item = std::ops::Range<usize>> {
    (rect.y..rect.y + rect.height).map(move |y| {
        let start = (y * width + rect.x) as usize * 4;
        start..start + rect.width as usize * 4
    })
}

fn cut(screen: &[u8], width: u32, rect: Rect) -> Vec<u8> {
    rows(rect, width).flat_map(|row| &screen[row]).copied().collect()
}

fn paste(screen: &mut [u8], width: u32, rect: Rect, pixels: &[u8]) {
    for (row, line) in rows(rect, width).zip(pixels.chunks_exact(rect.width as usize * 4)) {
        screen[row].copy_from_slice(line);
    }
}
