//! The tables of docs/performance.md, written between their markers from what was measured.

mod bench;
mod diagnostics;
mod plots;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use transom_tests::page::{measured_on, replace};
use transom_tests::project_dir;

use crate::latency::STAGES;

/// A table: its marker, the part that it shows, and how.
type Table = (&'static str, &'static str, fn(&Lines) -> Option<String>);

const TABLES: &[Table] = &[
    ("emulated", "emulated", emulated),
    ("sizes", "emulated", sizes),
    ("moving", "moving", moving),
    ("idle", "idle", idle),
    ("latency", "latency", latency),
    ("latency-peer", "latency-peer", latency_peer),
    ("input", "input", input),
    ("diagnostics-trips", "diagnostics-trips", diagnostics::round_trips),
    ("diagnostics-image", "diagnostics-image", diagnostics::round_trips),
    ("diagnostics-copy", "diagnostics-copy", diagnostics::copies),
    ("diagnostics-cost", "diagnostics-cost", diagnostics::costs),
    ("play", "play", play),
    ("vaapi", "vaapi", vaapi),
    ("ring", "ring", ring),
    ("bench-convert", "bench-convert", bench::convert),
    ("bench-latency", "bench-latency", bench::latency),
    ("bench-fan-out", "bench-fan-out", bench::fan_out),
    ("bench-webrtc", "bench-webrtc", bench::webrtc),
    ("bench-scale", "bench-scale", bench::scale),
    ("bench-memory", "bench-memory", bench::memory),
    ("bench-loss", "bench-loss", bench::loss),
    ("bench-capacity", "bench-capacity", bench::capacity),
    ("footprint", "footprint", bench::footprint),
    ("calls", "calls", calls),
];

const SCENES: [(&str, &str); 4] = [
    ("box", "a 64×64 box moves, 60 flips/s"),
    ("screen", "the whole screen moves, 60 flips/s"),
    ("typing", "16×16 pixels change, 5 flips/s"),
    ("scribble", "16×16 pixels change without a flip, 5 times/s"),
];

/// Writes every table whose part was measured here; the others stay as they are.
pub fn rewrite(folder: &Path) -> Result<()> {
    let path = project_dir().join("docs/performance.md");
    let mut page = std::fs::read_to_string(&path).context("no docs/performance.md")?;
    for (marker, part, table) in TABLES.iter().copied() {
        let Some(lines) = Lines::read(folder, part) else { continue };
        let Some(table) = table(&lines) else {
            eprintln!("{part}.jsonl is not of this version: its table stays as it is");
            continue;
        };
        let machine = lines.machine(part).unwrap_or_default();
        let mut content = format!("{}\n\n{machine}\n", table.trim());
        if let Some(image) = plots::draw(&lines, part)? {
            content = format!("{content}\n{image}");
        }
        page = replace(&page, marker, &content)?;
    }
    std::fs::write(&path, page).context("cannot write docs/performance.md")
}

struct Lines(Vec<Value>);

impl Lines {
    /// What a part has measured, if it was.
    fn read(folder: &Path, part: &str) -> Option<Self> {
        let text = std::fs::read_to_string(folder.join(part).with_extension("jsonl")).ok()?;
        Some(Self(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()))
    }

    fn of<'a>(&'a self, what: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |line| line["what"] == what)
    }

    fn one(&self, what: &str, field: &str) -> Option<f64> {
        self.of(what).next()?[field].as_f64()
    }

    fn spread(&self, what: &str, field: &str) -> Option<Spread> {
        let mut values: Vec<f64> = self.of(what).filter_map(|line| line[field].as_f64()).collect();
        Spread::of(&mut values)
    }

    fn machine(&self, part: &str) -> Option<String> {
        let make = if part.starts_with("bench-") { "bench" } else { "figures" };
        measured_on(self.of("machine").next()?, &format!("make {make} PARTS={part}"))
    }
}

struct Spread {
    median: f64,
    first: f64,
    last: f64,
}

impl Spread {
    fn of(values: &mut [f64]) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (first, last) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Self { median, first, last })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.median < 10.0 { 2 } else { 1 };
        write!(f, "{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.first, self.last)
    }
}

/// Frames per second and CPU per frame of both.
fn duel(lines: &Lines, fps_target: &str) -> Option<String> {
    let (fps, other_fps) = (lines.spread("agent", "fps")?, lines.spread("ffmpeg", "fps")?);
    let cost = lines.spread("agent", "cpu_ms_per_frame")?;
    let other_cost = lines.spread("ffmpeg", "cpu_ms_per_frame")?;
    let ratio = cost.median / other_cost.median;
    Some(format!(
        "| | Transom | ffmpeg | ratio | target |\n|---|---|---|---|---|\n\
         | frames per second | {fps} | {other_fps} | {:.1} | {fps_target} |\n\
         | CPU per frame, ms | {cost} | {other_cost} | **{ratio:.2}** | ≤ 0.5 |\n",
        fps.median / other_fps.median,
    ))
}

fn emulated(lines: &Lines) -> Option<String> {
    let mut table = duel(lines, "≥ 20")?;
    let others = lines.of("others").next()?["percent"].as_object()?;
    let others: Vec<_> = others
        .iter()
        .map(|(name, percent)| format!("{name} {:.0} %", percent.as_f64().unwrap_or(f64::NAN)))
        .collect();
    let kvm = lines.of("first picture").next()?["kvm"] == true;
    let how = if kvm { "The guest ran on KVM" } else { "The guest was emulated, without KVM" };
    write!(table, "\n{how}. While nobody watched, the rest took of a core: {}.", others.join(", "))
        .ok()?;
    Some(table)
}

fn sizes(lines: &Lines) -> Option<String> {
    let megabytes = |bytes: f64| bytes / 1e6;
    Some(format!(
        "| | | target |\n|---|---|---|\n\
         | `transom-agent`, stripped | {:.1} MB | ≤ 4 MB |\n\
         | agent, resident at 1280x720 | {:.1} MB | ≤ 40 MB |\n\
         | `dist/transom.vhdx` | {:.0} MB | ≤ 160 MB |\n\
         | start of QEMU to the first decoded frame | {:.1} s | |\n\
         | agent, screen at rest, in this guest | {:.2} % of a core | < 1 % native |\n\
         | of that without the IDRs for viewers who join | {:.2} % of a core | |\n",
        megabytes(lines.one("sizes", "agent_bytes")?),
        megabytes(lines.spread("agent", "resident_bytes")?.last),
        megabytes(lines.one("sizes", "vhdx_bytes")?),
        lines.one("first picture", "seconds")?,
        lines.one("idle", "percent")?,
        lines.one("idle without IDRs", "percent")?,
    ))
}

fn moving(lines: &Lines) -> Option<String> {
    duel(lines, "60")
}

fn idle(lines: &Lines) -> Option<String> {
    Some(format!(
        "| | % of a core | target |\n|---|---|---|\n\
         | agent, watched | **{:.2}** | < 1 |\n\
         | of that without the IDRs for viewers who join | {:.2} | |\n\
         | the guest itself, agent unwatched | {:.2} | |\n\
         | native equivalent | **{:.2}** | < 1 |\n",
        lines.one("watched", "percent")?,
        lines.one("watched without IDRs", "percent")?,
        lines.one("alone", "percent")?,
        lines.one("native", "percent")?,
    ))
}

fn latency(lines: &Lines) -> Option<String> {
    let mut text = String::new();
    for (scene, title) in SCENES {
        let line = lines.of(scene).next()?;
        write!(
            text,
            "\n**{title}** ({} of {} changes became a frame; ms)\n\n|",
            line["frames"], line["flips"]
        )
        .ok()?;
        for stage in STAGES {
            write!(text, " | {}", if stage == "flip" { "flip → seen" } else { stage }).ok()?;
        }
        writeln!(text, " |\n|{}", "---|".repeat(STAGES.len() + 1)).ok()?;
        for percentile in ["p50", "p95", "p99"] {
            write!(text, "| {percentile}").ok()?;
            for stage in STAGES {
                let bold = if stage == "total" { "**" } else { "" };
                let value = line[stage][percentile].as_f64()?;
                write!(text, " | {bold}{value:.2}{bold}").ok()?;
            }
            writeln!(text, " |").ok()?;
        }
    }
    Some(text)
}

fn latency_peer(lines: &Lines) -> Option<String> {
    let mut text =
        String::from("| | Transom, ms | ffmpeg, ms | sooner | target |\n|---|---|---|---|---|\n");
    let scenes = [
        ("screen", "the whole screen moves, 60 flips/s", "≥ 3"),
        ("typing", "16×16 pixels change, 5 flips/s", "≥ 10"),
    ];
    for (scene, title, target) in scenes {
        let spread = |who: &str, value: &dyn Fn(&Value) -> Option<f64>| {
            let of = lines.of(scene).filter(|line| line["who"] == who);
            Spread::of(&mut of.filter_map(value).collect::<Vec<_>>())
        };
        for percentile in ["p50", "p99"] {
            let at = |line: &Value| line["total"][percentile].as_f64();
            let (ours, theirs) = (spread("agent", &at)?, spread("ffmpeg", &at)?);
            let times = theirs.median / ours.median;
            writeln!(
                text,
                "| {title}, {percentile} | {ours} | {theirs} | **{times:.1}** | {target} |"
            )
            .ok()?;
        }
        let share = |line: &Value| Some(line["frames"].as_f64()? / line["flips"].as_f64()? * 100.0);
        let (ours, theirs) = (spread("agent", &share)?, spread("ffmpeg", &share)?);
        writeln!(text, "| {title}, % that became a picture | {ours} | {theirs} | | |").ok()?;
    }
    Some(text)
}

fn input(lines: &Lines) -> Option<String> {
    let mut text = String::from(
        "| ms | relay p50 | relay p99 | in the guest p50 | in the guest p99 |\n\
         |---|---|---|---|---|\n",
    );
    for what in ["user-mode Linux", "shipped image, the game running"] {
        let line = lines.of(what).next()?;
        write!(text, "| {what} ({} events) |", line["events"]).ok()?;
        for (stage, percentile) in
            [("relay", "p50"), ("relay", "p99"), ("guest", "p50"), ("guest", "p99")]
        {
            write!(text, " {:.2} |", line[stage][percentile].as_f64()?).ok()?;
        }
        text.push('\n');
    }
    Some(text)
}

fn play(lines: &Lines) -> Option<String> {
    let mut text = String::from("| ms | p50 | p95 | p99 |\n|---|---|---|---|\n");
    let mut row = |what: &str, of: &Value| {
        let at = |percentile: &str| of[percentile].as_f64();
        writeln!(text, "| {what} | {:.1} | {:.1} | {:.1} |", at("p50")?, at("p95")?, at("p99")?)
            .ok()
    };
    let joins = lines.of("join").next()?;
    let count = &joins["count"];
    row(&format!("**join**: link opened to first picture ({count} times)"), &joins["opened"])?;
    row("join, of that since the page was loaded", &joins["loaded"])?;
    let frames = lines.of("pictures").next()?;
    let names = [
        ("guest", "**picture**: in the guest: convert, encode, queue"),
        ("link", "from the guest to the relay"),
        ("relay", "in the relay"),
        ("browser", "from the relay to the screen: network, decode, paint"),
        ("total", "seen in the guest to shown in the browser"),
    ];
    for (stage, name) in names {
        row(name, &frames[stage])?;
    }
    let keys = lines.of("keys").next()?;
    row("**key**: from the relay to the guest's kernel", &keys["guest"])?;
    row("page to guest, and the answer back at the page", &keys["round"])?;
    Some(text)
}

fn vaapi(lines: &Lines) -> Option<String> {
    let mut text = String::from(
        "| own code natively, 1080p, µs of CPU a frame | agent | helper | both | target |\n\
         |---|---|---|---|---|\n",
    );
    for line in lines.of("own code") {
        let (name, us) = (line["name"].as_str()?, |field: &str| line[field].as_f64());
        let target = if name.starts_with("import") { "≤ 50" } else { "≤ 600" };
        let (agent, helper, sum) = (us("agent_us")?, us("helper_us")?, us("sum_us")?);
        writeln!(text, "| {name} | {agent:.0} | {helper:.0} | **{sum:.0}** | {target} |").ok()?;
    }
    text.push_str("\n| in a guest, 720p, all that moves | ms of CPU a frame | frames per second |\n|---|---|---|\n");
    for who in [
        "agent, import",
        "ffmpeg, import",
        "agent, upload, derived",
        "agent, upload, put",
        "ffmpeg, upload, derived",
    ] {
        let (cost, fps) = (lines.spread(who, "cpu_ms_per_frame")?, lines.spread(who, "fps")?);
        // ffmpeg makes an image of its own, whatever the driver has.
        let who = if who.starts_with("ffmpeg, up") { "ffmpeg, upload" } else { who };
        writeln!(text, "| {who} | {cost} | {fps} |").ok()?;
    }
    text.push_str("\n| the driver | ms without a new picture | frames lost |\n|---|---|---|\n");
    for (fault, title) in [
        ("fail", "says no"),
        ("crash", "crashes"),
        ("garbage", "writes nonsense"),
        ("hang", "hangs"),
    ] {
        let (gap, lost) = (lines.spread(fault, "gap_ms")?, lines.spread(fault, "frames_lost")?);
        writeln!(text, "| {title} | {gap} | {lost} |").ok()?;
    }
    text.push_str("\n| the driver's process | resident, KiB | open files |\n|---|---|---|\n");
    for held in lines.of("growth").next()?["process"].as_array()? {
        let (frames, files) = (&held["frames"], &held["files"]);
        writeln!(text, "| after {frames} frames | {} | {files} |", held["resident_kib"]).ok()?;
    }
    Some(text)
}

fn ring(lines: &Lines) -> Option<String> {
    let mut text = String::from(
        "| ms | p50 | p95 | p99 | an IDR, p50 | p99 more than unbounded | target |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let unbounded = lines.spread("unbounded", "p99")?.median;
    for (what, target) in [("unbounded", ""), ("ring of 256 KiB", "≤ 2"), ("ring of 24 KiB", "")]
    {
        let of = |field: &str| lines.spread(what, field);
        let (p50, p95, p99, idr) = (of("p50")?, of("p95")?, of("p99")?, of("idr_p50")?);
        let more = match what {
            "unbounded" => String::new(),
            _ => format!("**{:.2}**", p99.median - unbounded),
        };
        writeln!(text, "| {what} | {p50} | {p95} | {p99} | {idr} | {more} | {target} |").ok()?;
    }
    Some(text)
}

/// Calls of a frame that are fewer than that are those of a second, such as reports.
const RARE: f64 = 0.02;

fn calls(lines: &Lines) -> Option<String> {
    let scenes = ["screen", "box", "rest"];
    let of = |scene: &str, field: &str| lines.of(scene).next()?[field].as_f64();
    let mut text = String::from(
        "| | the whole screen moves, a frame | a box moves, a frame | at rest, a second |\n\
         |---|---|---|---|\n",
    );
    let mut row = |title: &str, values: [Option<f64>; 3]| {
        let [a, b, c] = values.map(|value| value.unwrap_or(0.0));
        writeln!(text, "| {title} | {a:.2} | {b:.2} | {c:.2} |").ok()
    };
    for (field, title) in [("faults", "page faults"), ("waits", "waits")] {
        row(title, scenes.map(|scene| of(scene, field)))?;
    }
    let mut names = Vec::new();
    for scene in scenes {
        for (name, calls) in lines.of(scene).next()?["calls"].as_object()? {
            if calls.as_f64()? >= RARE && !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    for name in names {
        let of = |scene| lines.of(scene).next()?["calls"][&name].as_f64();
        row(&format!("`{name}`"), scenes.map(of))?;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page =
            "a\n<!-- figures: x -->\nold\n<!-- end -->\nb\n<!-- figures: y -->\n<!-- end -->\n";
        let page = super::replace(page, "x", "new").expect("has a place");
        assert_eq!(page, super::replace(&page, "x", "new").expect("has a place"), "is stable");
        assert!(page.starts_with("a\n<!-- figures: x -->\n\nnew\n<!-- end -->\nb\n"));
        assert!(super::replace(&page, "z", "new").is_err());
    }
}
