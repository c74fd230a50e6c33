//! The screen encoder against x264 and OpenH264, on recorded scenes: `make contest`.
//!
//! In: scenes, by default all of `target/corpus`. Out: a JSON line for each scene in
//! `target/figures/contest.jsonl`; the tables of docs/performance.md and plots in `docs/images` if all
//! of them took part, and the tables on stdout otherwise. The three take turns on the same pictures,
//! several rounds; what counts is CPU time. Ours compares, converts and encodes, on one thread; x264 is
//! given converted pictures and only its encoding counts: that of ffmpeg with it, less that of ffmpeg
//! without. Its quantisers are the two whose luma is on either side of ours, and its figures lie between
//! those. Nothing of x264 is linked here; it is a program of its own.

mod capped;
mod ours;
mod page;
mod peers;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use transom_agent::picture::Picture;
use transom_tests::corpus::Scene;
use transom_tests::release_dir;

use ours::Player;

/// How often each takes its turn.
const ROUNDS: usize = 3;
/// The quantiser of ours.
const QUANTISER: u8 = 26;
/// Pictures of a scene that are used.
const PICTURES: usize = 150;
/// Pictures of a scene that are coded by themselves, to see what an IDR costs.
const IDRS: usize = 16;
/// What a picture at rest costs is seen on the last one of this scene.
const AT_REST: &str = "idle";
/// How often x264 is given it.
const RESTS: usize = 120;

/// What one encoder made of a scene. The first picture is apart: an IDR would hide the others where
/// little moves.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// CPU seconds of all pictures but the first, for each round.
    pub seconds: Vec<f64>,
    /// Bytes of all pictures but the first.
    pub bytes: usize,
    /// Sums of squared errors of Y, U and V, of all pictures.
    pub errors: [u64; 3],
}

impl Run {
    fn psnr(&self, samples: usize) -> [f64; 3] {
        let sizes = [samples, samples / 4, samples / 4];
        std::array::from_fn(|i| {
            let mean = self.errors[i].max(1) as f64 / sizes[i] as f64;
            10.0 * (255.0f64.powi(2) / mean).log10()
        })
    }

    /// Milliseconds of a picture in each round, bytes of a picture, decibels.
    fn report(&self, pictures: usize, samples: usize) -> Value {
        let ms: Vec<f64> = self.seconds.iter().map(|s| s * 1e3 / pictures as f64).collect();
        json!({ "ms": ms, "bytes": self.bytes / pictures, "psnr": self.psnr(samples) })
    }
}

fn main() -> Result<()> {
    let folder = release_dir().parent().context("the target folder")?.to_owned();
    let mut scenes: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    let all = scenes.is_empty();
    if all {
        let recorded = std::fs::read_dir(folder.join("corpus")).context("make corpus first")?;
        scenes = recorded.filter_map(|entry| Some(entry.ok()?.path())).collect();
        scenes.retain(|path| path.extension().is_some_and(|e| e == "scene"));
        scenes.sort();
    }
    let (load, begun) = (page::load()?, Instant::now());
    let mut lines = Vec::new();
    for path in scenes {
        eprintln!("contest: {}", path.display());
        let name = path.file_stem().context("a file")?.to_string_lossy().into_owned();
        let recorded = Scene::read(&path, PICTURES)?;
        lines.push(if name == AT_REST { rest(&recorded)? } else { scene(&name, &recorded)? });
    }
    lines.insert(0, page::machine(load, begun.elapsed())?);
    std::fs::create_dir_all(folder.join("figures"))?;
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.join("figures/contest.jsonl"), text)?;
    let tables = page::tables(&lines).context("a figure is missing")?;
    println!("{tables}");
    if all { page::publish(&tables, &lines) } else { Ok(()) }
}

/// What a picture costs in which nothing has changed.
fn rest(scene: &Scene) -> Result<Value> {
    let frames = ours::converted(scene);
    let resting = vec![frames.last().context("a picture")?.as_slice(); RESTS];
    let size = Picture::new(scene.size).size();
    let (microseconds, bytes) = ours::rest(scene)?;
    let mut ms = Vec::new();
    for _ in 0..ROUNDS {
        let all = peers::x264(&resting, size, QUANTISER, peers::Gop::Endless)?.seconds[0];
        let first = peers::x264(&resting[..IDRS], size, QUANTISER, peers::Gop::Intra)?.seconds[0];
        ms.push((all - first / IDRS as f64).max(0.0) * 1e3 / (RESTS - 1) as f64);
    }
    Ok(json!({ "what": "rest", "ours_us": microseconds, "bytes": bytes, "x264_ms": ms }))
}

fn scene(name: &str, scene: &Scene) -> Result<Value> {
    let count = scene.pictures.len();
    ensure!(count > 1, "{name}: nothing moves");
    let frames = ours::converted(scene);
    let size = Picture::new(scene.size).size();
    let per_picture = (size.0 * size.1) as usize;
    let samples = per_picture * count;

    // IDRs, of pictures from all over the scene.
    let picked: Vec<usize> = (0..IDRS.min(count)).map(|n| n * count / IDRS.min(count)).collect();
    let still: Vec<&[u8]> = picked.iter().map(|&n| frames[n].as_slice()).collect();
    let mut idr = Run::default();
    ours::idrs(scene, &frames, &picked, &mut idr)?;
    let still_samples = per_picture * still.len();
    let alone = |qp| peers::x264(&still, size, qp, peers::Gop::Intra);
    let mut idr_bracket = peers::bracket(idr.psnr(still_samples)[0], still_samples, alone)?;

    let moving: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let x264 = |qp| peers::x264(&moving, size, qp, peers::Gop::Endless);
    let mut own = Run::default();
    ours::play(scene, &frames, &mut own)?;
    let mut told = vec![ours::told(scene)?];
    let mut bracket = peers::bracket(own.psnr(samples)[0], samples, x264)?;
    let mut openh264 = peers::openh264(scene, &frames, own.bytes)?;
    for _ in 1..ROUNDS {
        ours::play(scene, &frames, &mut own)?;
        told.push(ours::told(scene)?);
        bracket.again(x264)?;
        openh264.seconds.extend(peers::openh264(scene, &frames, own.bytes)?.seconds);
        ours::idrs(scene, &frames, &picked, &mut idr)?;
        idr_bracket.again(alone)?;
    }
    let their_idr = idr_bracket.between();
    let mut theirs = bracket.between();
    // Theirs are all pictures, with one IDR among them.
    for (seconds, idrs) in theirs.seconds.iter_mut().zip(&their_idr.seconds) {
        *seconds = (*seconds - idrs / still.len() as f64).max(0.0);
    }
    let told: Vec<f64> = told.iter().map(|s| s * 1e3 / (count - 1) as f64).collect();
    Ok(json!({
        "what": "scene", "scene": name, "pictures": count, "size": [size.0, size.1],
        "quantiser": QUANTISER, "x264_qp": bracket.qp,
        "ours": own.report(count - 1, samples),
        "told": { "ms": told },
        "x264": theirs.report(count - 1, samples),
        "openh264": openh264.report(count - 1, samples),
        "idr": {
            "ours": idr.report(still.len(), still_samples),
            "x264": their_idr.report(still.len(), still_samples),
        },
        "capped": capped::run(scene)?,
    }))
}

/// Seconds of CPU that this thread has used.
fn cpu_time() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}
