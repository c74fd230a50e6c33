//! What the contest has come to, as tables and plots of the documentation.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;
use transom_tests::page::{measured_on, replace};
use transom_tests::plot::{Bars, Scale};
use transom_tests::project_dir;

pub use transom_tests::page::{load, machine};

/// What the plots show of each scene, and the names that lines have for it.
const PLOTTED: [(&str, &str); 4] = [
    ("Transom", "ours"),
    ("x264 ultrafast", "x264"),
    ("OpenH264", "openh264"),
    ("Transom, damage told", "told"),
];

/// What a scene is to come to: at most so many times x264's CPU time without being told the damage and
/// with it, and at most so many times its bytes.
const TARGETS: [(&str, &str, &str, &str); 5] = [
    ("doom", "≤ 1", "", "≤ 1.1"),
    ("glyph", "≤ 0.125", "≤ 0.01", ""),
    ("scrolling", "≤ 0.25", "", "≤ 0.5"),
    ("typing", "≤ 0.125", "≤ 0.01", ""),
    ("window", "≤ 0.125", "", ""),
];

/// Median, least and most.
fn spread(values: &Value) -> Option<[f64; 3]> {
    let mut all: Vec<f64> = values.as_array()?.iter().filter_map(Value::as_f64).collect();
    all.sort_by(f64::total_cmp);
    Some([*all.get(all.len() / 2)?, *all.first()?, *all.last()?])
}

/// With as many digits as tell something.
fn brief(value: f64) -> String {
    match value {
        ..0.0995 => format!("{value:.4}"),
        ..9.95 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

fn shown(values: &Value) -> Option<String> {
    let [median, least, most] = spread(values)?.map(brief);
    Some(format!("{median} ({least}–{most})"))
}

fn decibels(run: &Value) -> Option<String> {
    let of = |i: usize| run["psnr"][i].as_f64();
    Some(format!("{:.1}, {:.1}, {:.1}", of(0)?, of(1)?, of(2)?))
}

/// What is behind the ratio in its column.
fn ratio(ours: f64, theirs: f64, target: &str) -> String {
    let value = format!("**{}**", brief(ours / theirs));
    if target.is_empty() { value } else { format!("{value} ({target})") }
}

/// All tables, one below the other.
pub fn tables(lines: &[Value]) -> Option<String> {
    let scenes = || lines.iter().filter(|line| line["what"] == "scene");
    let mut text = String::from(
        "| scene | | ours | damage told | x264 ultrafast | ratio | damage told | OpenH264 |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for line in scenes() {
        let name = line["scene"].as_str()?;
        let target = TARGETS.iter().find(|(scene, ..)| *scene == name);
        let &(_, time, hint, bytes) = target.unwrap_or(&("", "", "", ""));
        let [ours, told, x264] =
            [&line["ours"]["ms"], &line["told"]["ms"], &line["x264"]["ms"]].map(spread);
        let (ours, told, x264) = (ours?[0], told?[0], x264?[0]);
        writeln!(
            text,
            "| {name} | CPU of a picture, ms | {} | {} | {} | {} | {} | {} |",
            shown(&line["ours"]["ms"])?,
            shown(&line["told"]["ms"])?,
            shown(&line["x264"]["ms"])?,
            ratio(ours, x264, time),
            ratio(told, x264, hint),
            shown(&line["openh264"]["ms"])?,
        )
        .ok()?;
        let of = |who: &str| line[who]["bytes"].as_f64();
        writeln!(
            text,
            "| {} pictures, {}x{} | bytes of a picture | {} | | {} | {} | | {} |",
            line["pictures"],
            line["size"][0],
            line["size"][1],
            of("ours")?,
            of("x264")?,
            ratio(of("ours")?, of("x264")?, bytes),
            of("openh264")?,
        )
        .ok()?;
        writeln!(
            text,
            "| | PSNR of Y, U, V, dB | {} | | {} | | | {} |",
            decibels(&line["ours"])?,
            decibels(&line["x264"])?,
            decibels(&line["openh264"])?
        )
        .ok()?;
    }
    text += "\nPictures coded by themselves:\n\n\
        | an IDR of | CPU, ms: ours | x264 ultrafast | ratio | bytes: ours | x264 | ratio | PSNR of Y, dB |\n\
        |---|---|---|---|---|---|---|---|\n";
    for line in scenes() {
        let [ours, x264] = ["ours", "x264"].map(|who| &line["idr"][who]);
        let bytes = |run: &Value| run["bytes"].as_f64();
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {:.1}, {:.1} |",
            line["scene"].as_str()?,
            shown(&ours["ms"])?,
            shown(&x264["ms"])?,
            ratio(spread(&ours["ms"])?[0], spread(&x264["ms"])?[0], "≤ 1.2"),
            bytes(ours)?,
            bytes(x264)?,
            ratio(bytes(ours)?, bytes(x264)?, ""),
            ours["psnr"][0].as_f64()?,
            x264["psnr"][0].as_f64()?,
        )
        .ok()?;
    }
    if let Some(rest) = lines.iter().find(|line| line["what"] == "rest") {
        write!(
            text,
            "\nA picture in which nothing has changed takes {} µs (target: 2) and {} bytes; x264 takes \
             {} ms for it.\n",
            shown(&rest["ours_us"])?,
            rest["bytes"],
            shown(&rest["x264_ms"])?,
        )
        .ok()?;
    }
    text += "\nThe same scenes at their own pace under a cap of 5 Mb/s:\n\n\
        | scene | bits of the worst second | PSNR of Y while it moves | 0.5 s after |\n\
        |---|---|---|---|\n";
    for line in scenes() {
        let capped = &line["capped"];
        writeln!(
            text,
            "| {} | {:.2} Mb | {:.1} dB | {:.1} dB |",
            line["scene"].as_str()?,
            capped["worst"].as_f64()? / 1e6,
            capped["moving"].as_f64()?,
            capped["rested"].as_f64()?,
        )
        .ok()?;
    }
    let machine = lines.iter().find(|line| line["what"] == "machine")?;
    write!(text, "\n{}\n", measured_on(machine, "make contest")?).ok()?;
    Some(text)
}

/// Writes them to docs/performance.md, and draws the plots.
pub fn publish(tables: &str, lines: &[Value]) -> Result<()> {
    let path = project_dir().join("docs/performance.md");
    let page = std::fs::read_to_string(&path).context("no docs/performance.md")?;
    std::fs::write(&path, replace(&page, "contest", tables)?)?;
    let images = project_dir().join("docs/images");
    std::fs::create_dir_all(&images)?;
    let draw = |file: &str, title: &str, figure: &dyn Fn(&Value) -> Option<f64>| {
        let scenes = lines.iter().filter(|line| line["what"] == "scene");
        let groups: Vec<_> = scenes
            .map(|line| {
                let values = PLOTTED.iter().map(|(_, who)| figure(&line[who])).collect();
                (line["scene"].as_str().unwrap_or_default().to_owned(), values)
            })
            .collect();
        let names = PLOTTED.map(|(name, _)| name);
        let bars = Bars { title, names: &names, groups: &groups, scale: Scale::Logarithmic };
        std::fs::write(images.join(file), bars.draw())
    };
    draw("contest-time.svg", "CPU of a picture, ms", &|run| Some(spread(&run["ms"])?[0]))?;
    let title = "bytes of a picture, at equal luma PSNR";
    draw("contest-bytes.svg", title, &|run| run["bytes"].as_f64())?;
    Ok(())
}
