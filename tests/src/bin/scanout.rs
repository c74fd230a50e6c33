//! Records a guest's scanout, from inside: `scanout FILE SECONDS`.
//!
//! Looks every millisecond at what the lit screen shows and writes each picture that differs from
//! the one before, as `transom_tests::corpus` has it. It ends after so many seconds, or at the
//! first picture of another size or pixel format: a scene has one of each.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use transom_agent::capture::buffers::Buffers;
use transom_agent::capture::cards::Cards;
use transom_agent::clock;
use transom_agent::damage::Damage;
use transom_agent::mirror::Mirror;
use transom_tests::corpus::Recorder;

const PAUSE: Duration = Duration::from_millis(1);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, file, seconds] = &arguments[..] else { bail!("usage: scanout FILE SECONDS") };
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let mut cards = Cards::new(None);
    cards.refresh();
    let mut screen = cards.find_lit().context("no screen is lit")?;
    let mut buffers = Buffers::default();
    let mut scene: Option<(Mirror, Recorder)> = None;
    let mut damage = Damage::default();
    let mut pixels = Vec::new();
    let mut count = 0u32;
    while Instant::now() < end {
        let Some(shown) = screen.primary.state(&screen.card)? else { break };
        let time = clock::now().0;
        // It may be gone already; the next one is not.
        let Ok(buffer) = buffers.fetch(&screen.card, shown.fb) else { continue };
        let (mirror, recorder) = match &mut scene {
            Some(scene) if (scene.0.size(), scene.0.format()) == (buffer.size, buffer.format) => {
                scene
            }
            Some(_) => break,
            none => none.insert((
                Mirror::new(buffer.format, buffer.size.0, buffer.size.1),
                Recorder::create(Path::new(file), buffer.size)?,
            )),
        };
        damage.clear();
        let source = |bytes: &[u8]| {
            mirror.update(&bytes[buffer.offset..], buffer.pitch, &mut damage);
        };
        buffer.mapping.with_bytes(source);
        if !damage.is_empty() {
            let parts = damage.rects().iter().map(|&rect| {
                mirror.read_bgrx(rect, &mut pixels);
                (rect, pixels.clone())
            });
            recorder.picture(time, parts)?;
            count += 1;
        }
        std::thread::sleep(PAUSE);
    }
    let (_, recorder) = scene.context("nothing was on the screen")?;
    recorder.finish()?;
    println!("{count} pictures");
    Ok(())
}
