//! Recordings of a real guest's scanout: what changed, when, in the pixels that the screen had.
//!
//! A file holds one scene. It begins with `MAGIC`, columns and rows; then, for each picture, the
//! time in nanoseconds, a number of rectangles, and for each of these its place, its size and its
//! BGRX pixels. All numbers are little-endian. The first picture is whole, so that a screen at
//! rest costs a few bytes and two minutes of typing fit in memory.
//!
//! In: pictures with their damage. Out: the same again. It refuses files that are cut short,
//! rectangles outside of the picture and sizes that no screen has.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use transom_agent::damage::Rect;

const MAGIC: &[u8; 8] = b"SCENE\0\0\x01";
/// Longest edge believed.
const MAX_EDGE: u32 = 16_384;

/// Writes a scene.
pub struct Recorder {
    file: BufWriter<File>,
}

impl Recorder {
    /// Begins a scene of pictures of this size.
    pub fn create(path: &Path, (width, height): (u32, u32)) -> Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(MAGIC)?;
        file.write_all(&width.to_le_bytes())?;
        file.write_all(&height.to_le_bytes())?;
        Ok(Self { file })
    }

    /// Adds a picture: its rectangles, the pixels of each in rows without gaps.
    pub fn picture<'a>(
        &mut self,
        time: u64,
        parts: impl ExactSizeIterator<Item = (Rect, Vec<u8>)> + 'a,
    ) -> Result<()> {
        self.file.write_all(&time.to_le_bytes())?;
        self.file.write_all(&u32::try_from(parts.len())?.to_le_bytes())?;
        for (rect, pixels) in parts {
            for number in [rect.x, rect.y, rect.width, rect.height] {
                self.file.write_all(&number.to_le_bytes())?;
            }
            self.file.write_all(&pixels)?;
        }
        Ok(())
    }

    /// Ends the scene.
    pub fn finish(mut self) -> Result<()> {
        self.file.flush().context("the scene could not be written to its end")
    }
}

/// A picture of a scene: when it was seen, and what was new in it.
pub struct Picture {
    /// Nanoseconds of the recording machine's clock.
    pub time: u64,
    parts: Vec<(Rect, Vec<u8>)>,
}

impl Picture {
    /// What changed, as the recorder's comparison found it.
    pub fn damage(&self) -> impl Iterator<Item = Rect> + '_ {
        self.parts.iter().map(|(rect, _)| *rect)
    }

    /// Brings `screen`, BGRX rows without gaps of `width` pixels, up to date.
    pub fn draw(&self, screen: &mut [u8], width: u32) {
        for (rect, pixels) in &self.parts {
            let row = rect.width as usize * 4;
            for (y, line) in pixels.chunks_exact(row).enumerate() {
                let at = ((rect.y as usize + y) * width as usize + rect.x as usize) * 4;
                screen[at..at + row].copy_from_slice(line);
            }
        }
    }
}

/// A recorded scene.
pub struct Scene {
    /// Columns and rows.
    pub size: (u32, u32),
    /// Its pictures in order; the first is whole.
    pub pictures: Vec<Picture>,
}

impl Scene {
    /// Reads at most `limit` pictures of a file.
    pub fn read(path: &Path, limit: usize) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Self::parse(BufReader::with_capacity(1 << 20, file), limit)
            .with_context(|| format!("{} is no whole scene", path.display()))
    }

    fn parse(mut input: impl Read, limit: usize) -> Result<Self> {
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        ensure!(&magic == MAGIC, "it begins with other bytes");
        let size = (number(&mut input)?, number(&mut input)?);
        ensure!(size.0.max(size.1) <= MAX_EDGE && size.0.min(size.1) > 0, "a size of {size:?}");
        let mut pictures = Vec::new();
        let mut time = [0; 8];
        while pictures.len() < limit && begins(&mut input, &mut time)? {
            let count = number(&mut input)?;
            let mut parts = Vec::new();
            for _ in 0..count {
                let rect = Rect {
                    x: number(&mut input)?,
                    y: number(&mut input)?,
                    width: number(&mut input)?,
                    height: number(&mut input)?,
                };
                let inside =
                    Rect::clipped(rect.x.into(), rect.y.into(), rect.width, rect.height, size);
                ensure!(inside == Some(rect), "{rect:?} lies outside of the picture");
                let mut pixels = vec![0; rect.area() as usize * 4];
                input.read_exact(&mut pixels)?;
                parts.push((rect, pixels));
            }
            pictures.push(Picture { time: u64::from_le_bytes(time), parts });
        }
        Ok(Self { size, pictures })
    }
}

/// Whether there is another picture; its time.
fn begins(input: &mut impl Read, time: &mut [u8; 8]) -> Result<bool> {
    if input.read(&mut time[..1])? == 0 {
        return Ok(false);
    }
    input.read_exact(&mut time[1..])?;
    Ok(true)
}

fn number(input: &mut impl Read) -> Result<u32> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_read_and_a_cut_file_is_refused() {
        let path = std::env::temp_dir().join(format!("transom-scene-{}", std::process::id()));
        let mut recorder = Recorder::create(&path, (4, 2)).expect("writes");
        let whole = Rect { x: 0, y: 0, width: 4, height: 2 };
        let dot = Rect { x: 3, y: 1, width: 1, height: 1 };
        recorder.picture(5, [(whole, vec![7; 32])].into_iter()).expect("writes");
        recorder.picture(9, [(dot, vec![1, 2, 3, 4])].into_iter()).expect("writes");
        recorder.finish().expect("writes");
        let bytes = std::fs::read(&path).expect("reads");
        let scene = Scene::read(&path, usize::MAX).expect("whole");
        std::fs::remove_file(&path).expect("is there");
        let mut screen = vec![0; 32];
        scene.pictures.iter().for_each(|picture| picture.draw(&mut screen, scene.size.0));
        assert_eq!((scene.pictures[1].time, &screen[24..]), (9, &[7, 7, 7, 7, 1, 2, 3, 4][..]));
        for cut in [0, 7, 15, 20, 40, bytes.len() - 1] {
            assert!(Scene::parse(&bytes[..cut], usize::MAX).is_err(), "{cut} bytes");
        }
    }
}
