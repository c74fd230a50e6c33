//! The screen encoder against x264 and OpenH264, on recorded scenes: `make contest`.
//!
//! In: scenes, by default all of `target/corpus`. Out: tables, and a JSON line for each scene in
//! `target/figures/contest.jsonl`; plots in `docs/images` if all of them took part. The three take
//! turns on the same pictures, several rounds; what counts is CPU time. Ours is told nothing:
//! comparing, converting and encoding count, on one thread. x264 is given converted pictures and only
//! its encoding counts: that of ffmpeg with it, less that of ffmpeg without. Its quantisers are the
//! two whose luma is on either side of ours, and its figures lie between those. Nothing of x264 is
//! linked here; it is a program of its own.

mod capped;
mod peers;
mod plot;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use transom_agent::capture::Frame;
use transom_agent::damage::Damage;
use transom_agent::encode::screen::Screen;
use transom_agent::encode::{Request, Tuning};
use transom_agent::mirror::{Mirror, PixelFormat};
use transom_agent::picture::Picture;
use transom_protocol::{BitRate, GuestTime};
use transom_tests::corpus::Scene;
use transom_tests::release_dir;

/// How often each takes its turn.
const ROUNDS: usize = 5;
/// The quantiser of ours.
const QUANTISER: u8 = 26;
/// Pictures of a scene that are used.
const PICTURES: usize = 300;

/// What one encoder made of a scene.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// CPU seconds, for each round.
    pub seconds: Vec<f64>,
    /// Bytes.
    pub bytes: usize,
    /// Sums of squared errors of Y, U and V.
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

    /// Median, least and most milliseconds of a picture.
    fn cost(&self, pictures: usize) -> [f64; 3] {
        let mut all: Vec<f64> = self.seconds.iter().map(|s| s * 1e3 / pictures as f64).collect();
        all.sort_by(f64::total_cmp);
        [all[all.len() / 2], all[0], all[all.len() - 1]]
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
    let mut lines = Vec::new();
    println!("| scene | | ours | x264 ultrafast | ratio | OpenH264 |\n|---|---|---|---|---|---|");
    for path in scenes {
        lines.push(scene(&path)?);
    }
    std::fs::create_dir_all(folder.join("figures"))?;
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.join("figures/contest.jsonl"), text)?;
    println!(
        "\n| scene | at 5 Mb/s, worst second | PSNR of Y, moving | 0.5 s after |\n|---|---|---|---|"
    );
    for line in &lines {
        let capped = &line["capped"];
        println!(
            "| {} | {:.2} Mb | {:.1} dB | {:.1} dB |",
            line["scene"].as_str().unwrap_or_default(),
            capped["worst"].as_f64().unwrap_or_default() / 1e6,
            capped["moving"].as_f64().unwrap_or_default(),
            capped["rested"].as_f64().unwrap_or_default(),
        );
    }
    if all { draw(&lines) } else { Ok(()) }
}

/// Draws the plots of the documentation.
fn draw(lines: &[Value]) -> Result<()> {
    let images = transom_tests::project_dir().join("docs/images");
    std::fs::create_dir_all(&images)?;
    let of = |figure: &dyn Fn(&Value, f64) -> f64| -> Vec<(String, [f64; 3])> {
        let scene = |line: &Value| {
            let pictures = line["pictures"].as_f64().unwrap_or(1.0);
            let figures = ["ours", "x264", "openh264"].map(|who| figure(&line[who], pictures));
            (line["scene"].as_str().unwrap_or_default().to_owned(), figures)
        };
        lines.iter().map(scene).collect()
    };
    let time = of(&|run, pictures| {
        let seconds = run["seconds"].as_array().into_iter().flatten().filter_map(Value::as_f64);
        let mut all: Vec<f64> = seconds.map(|seconds| seconds * 1e3 / pictures).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    });
    let bytes = of(&|run, pictures| run["bytes"].as_f64().unwrap_or_default() / pictures);
    std::fs::write(images.join("contest-time.svg"), plot::bars("CPU of a picture, ms", &time))?;
    let title = "bytes of a picture, at equal luma PSNR";
    Ok(std::fs::write(images.join("contest-bytes.svg"), plot::bars(title, &bytes))?)
}

fn scene(path: &Path) -> Result<Value> {
    let name = path.file_stem().context("a file")?.to_string_lossy().into_owned();
    let scene = Scene::read(path, PICTURES)?;
    let count = scene.pictures.len();
    ensure!(count > 1, "{name}: nothing moves");
    let frames = converted(&scene);
    let size = Picture::new(scene.size).size();
    let samples = (size.0 * size.1) as usize * count;

    let mut ours = Run::default();
    own(&scene, &frames, &mut ours)?;
    let wanted = ours.psnr(samples)[0];
    let mut bracket = peers::bracket(wanted, samples, |qp| peers::x264(&frames, size, qp))?;
    let mut openh264 = peers::openh264(&scene, &frames, ours.bytes)?;
    for _ in 1..ROUNDS {
        own(&scene, &frames, &mut ours)?;
        bracket.again(|qp| peers::x264(&frames, size, qp))?;
        openh264.seconds.extend(peers::openh264(&scene, &frames, ours.bytes)?.seconds);
    }
    let x264 = bracket.between();
    let [own_cost, x264_cost, openh264_cost] = [&ours, &x264, &openh264].map(|run| run.cost(count));
    let psnr = [&ours, &x264, &openh264].map(|run| run.psnr(samples));
    let show = |[median, least, most]: [f64; 3]| format!("{median:.2} ({least:.2}–{most:.2})");
    println!(
        "| {name} | CPU of a picture, ms | {} | {} | **{:.2}** | {} |",
        show(own_cost),
        show(x264_cost),
        own_cost[0] / x264_cost[0],
        show(openh264_cost),
    );
    println!(
        "| {count} pictures | bytes of a picture | {} | {} | {:.2} | {} |",
        ours.bytes / count,
        x264.bytes / count,
        ours.bytes as f64 / x264.bytes as f64,
        openh264.bytes / count,
    );
    let decibels = psnr.map(|[y, u, v]| format!("{y:.1}, {u:.1}, {v:.1}"));
    println!("| | PSNR of Y, U, V, dB | {} | {} | | {} |", decibels[0], decibels[1], decibels[2]);
    let of = |run: &Run, psnr: [f64; 3]| json!({ "seconds": run.seconds, "bytes": run.bytes, "psnr": psnr });
    Ok(json!({
        "what": "contest", "scene": name, "pictures": count, "size": [size.0, size.1],
        "quantiser": QUANTISER, "x264_qp": bracket.qp,
        "capped": capped::run(&scene)?,
        "ours": of(&ours, psnr[0]), "x264": of(&x264, psnr[1]), "openh264": of(&openh264, psnr[2]),
    }))
}

/// The scene's pictures in 4:2:0, rows without gaps.
fn converted(scene: &Scene) -> Vec<Vec<u8>> {
    let mut player = Player::new(scene);
    let frame = |_| {
        player.show();
        player.convert();
        player.picture.planes().concat()
    };
    (0..scene.pictures.len()).map(frame).collect()
}

/// Our encoder's turn.
fn own(scene: &Scene, frames: &[Vec<u8>], run: &mut Run) -> Result<()> {
    let mut player = Player::new(scene);
    let tuning = Tuning { bitrate: BitRate(u32::MAX), fps: 60 };
    let mut encoder = Screen::new(player.picture.size(), tuning)?;
    encoder.fix_quantiser(QUANTISER);
    let (mut seconds, mut bytes, mut errors) = (0.0, 0, [0; 3]);
    let first = run.seconds.is_empty();
    for (n, picture) in frames.iter().enumerate() {
        player.show();
        let begun = cpu_time()?;
        player.convert();
        let frame = Frame { picture: &player.picture, damage: &player.damage };
        let time = GuestTime(scene.pictures[n].time);
        let unit = encoder.encode(Request { frame, idr: n == 0, time })?;
        seconds += cpu_time()? - begun;
        bytes += unit.bytes.len();
        if first {
            let (width, height) = player.picture.size();
            let planes = encoder.reconstruction();
            let halved = (width as usize / 2, height as usize / 2);
            let sizes = [(width as usize, height as usize), halved, halved];
            let mut rest = picture.as_slice();
            for (i, ((shown, stride), (columns, rows))) in planes.into_iter().zip(sizes).enumerate()
            {
                for row in shown.chunks(stride).take(rows) {
                    let (line, behind) = rest.split_at(columns);
                    errors[i] += peers::squares(&row[..columns], line);
                    rest = behind;
                }
            }
        }
    }
    run.seconds.push(seconds);
    if first {
        (run.bytes, run.errors) = (bytes, errors);
    }
    Ok(())
}

/// Plays a scene as the agent sees it.
pub struct Player<'a> {
    scene: &'a Scene,
    next: usize,
    pixels: Vec<u8>,
    mirror: Mirror,
    picture: Picture,
    damage: Damage,
}

impl<'a> Player<'a> {
    fn new(scene: &'a Scene) -> Self {
        let (width, height) = scene.size;
        Self {
            scene,
            next: 0,
            pixels: vec![0; (width * height * 4) as usize],
            mirror: Mirror::new(PixelFormat::Bgrx, width, height),
            picture: Picture::new(scene.size),
            damage: Damage::default(),
        }
    }

    fn show(&mut self) {
        self.scene.pictures[self.next].draw(&mut self.pixels, self.scene.size.0);
        self.next += 1;
    }

    fn convert(&mut self) {
        self.damage.clear();
        self.mirror.update(&self.pixels, self.scene.size.0 as usize * 4, &mut self.damage);
        self.picture.update(&self.mirror, &self.damage, None);
    }
}

/// Seconds of CPU that this thread has used.
fn cpu_time() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}
