//! The plots of docs/performance.md, drawn from the same lines as its tables.

use anyhow::{Context, Result};
use serde_json::Value;
use transom_tests::plot::{Bars, Lines as Curves, Panel, Scale};
use transom_tests::project_dir;

use super::Lines;

/// A plot: the part that it shows, for whom cannot see it, and how it is drawn.
type Plot = (&'static str, &'static str, fn(&Lines) -> Option<String>);

const PLOTS: &[Plot] = &[
    ("bench-latency", "What the relay adds to a frame, beside a bare forwarder and socat", latency),
    ("bench-fan-out", "Plain RTP that a core sends, beside GStreamer", fan_out),
    ("bench-webrtc", "WebRTC viewers that a core serves, beside Janus", webrtc),
    ("bench-loss", "Pictures lost or late where packets are lost, beside GStreamer", loss),
    (
        "bench-capacity",
        "Pictures and their delay on a link that steps from 20 to 5 Mb/s and back",
        capacity,
    ),
];

/// Draws what a part has measured, if there is a plot of it; how the page shows that.
pub fn draw(lines: &Lines, part: &str) -> Result<Option<String>> {
    let Some((_, alt, plot)) = PLOTS.iter().find(|(of, ..)| *of == part) else { return Ok(None) };
    let Some(svg) = plot(lines) else { return Ok(None) };
    let path = project_dir().join("docs/images").join(part).with_extension("svg");
    std::fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(format!("![{alt}](images/{part}.svg)\n")))
}

/// One group of bars: the medians of each side.
fn group(
    lines: &Lines,
    title: impl Into<String>,
    (what, field): (&str, &str),
    sides: &[&str],
) -> (String, Vec<Option<f64>>) {
    let median = |who: &&str| Some(lines.side(what, who, field)?.median);
    (title.into(), sides.iter().map(median).collect())
}

fn bars(
    title: &str,
    names: &[&str],
    groups: &[(String, Vec<Option<f64>>)],
    scale: Scale,
) -> Option<String> {
    let measured = groups.iter().all(|(_, values)| values.iter().all(Option::is_some));
    measured.then(|| Bars { title, names, groups, scale }.draw())
}

fn latency(lines: &Lines) -> Option<String> {
    let sides = ["transom", "forwarder", "socat"];
    let mut groups = Vec::new();
    for load in ["10 %", "80 %"] {
        let what = format!("{load} of 1 Gb/s");
        for (field, name) in [("p50_us", "p50"), ("p99_us", "p99")] {
            groups.push(group(lines, format!("{load} load, {name}"), (&what, field), &sides));
        }
    }
    let title = "What the relay adds, µs: shorter is better";
    bars(title, &["Transom", "bare forwarder", "socat"], &groups, Scale::Logarithmic)
}

fn fan_out(lines: &Lines) -> Option<String> {
    let sides = ["transom", "multiudpsink"];
    let mut groups = Vec::new();
    for rate in ["8 Mb/s", "50 Mb/s"] {
        for count in [1, 16, 64] {
            let what = format!("{rate} to {count}");
            groups.push(group(lines, &what, (&what, "gbps_per_core"), &sides));
        }
    }
    let title = "Plain RTP, Gb/s that a core sends: longer is better";
    bars(title, &["Transom", "GStreamer multiudpsink"], &groups, Scale::Linear)
}

fn webrtc(lines: &Lines) -> Option<String> {
    let groups = ["16 viewers at 8 Mb/s", "64 viewers at 600 kb/s"].map(|what| {
        let (_, rate) = what.split_once(" at ").unwrap_or_default();
        group(lines, rate, (what, "viewers_per_core"), &["transom", "janus"])
    });
    let title = "WebRTC, viewers that a core serves: longer is better";
    bars(title, &["Transom", "Janus"], &groups, Scale::Linear)
}

fn loss(lines: &Lines) -> Option<String> {
    let mut groups = Vec::new();
    for kind in ["each by itself", "in bursts"] {
        for share in ["1 %", "2 %", "5 %", "10 %"] {
            let what = format!("{share} {kind}");
            groups.push(group(lines, &what, (&what, "bad_percent"), &["transom", "gstreamer"]));
        }
    }
    let title = "Pictures lost or later than 100 ms, %: shorter is better";
    bars(title, &["Transom", "GStreamer with RTX"], &groups, Scale::Linear)
}

/// The first round of each.
fn capacity(lines: &Lines) -> Option<String> {
    let of = |who: &str| lines.of("series").find(|line| line["who"] == who);
    let (ours, theirs) = (of("transom")?, of("gstreamer")?);
    let curve = |line: &Value, column: usize| -> Option<Vec<(f64, Option<f64>)>> {
        let points = line["points"].as_array()?.iter();
        points.map(|point| Some((point[0].as_f64()?, point[column].as_f64()))).collect()
    };
    let mut at = 0.0;
    let mut bound = Vec::new();
    for phase in ours["capacity"].as_array()? {
        let megabits = phase[0].as_f64()? / 1e6;
        bound.push((at, megabits));
        at += phase[1].as_f64()?;
        bound.push((at, megabits));
    }
    let panels = [
        Panel {
            title: "Pictures that came whole, Mb/s; dashed: the link",
            most: 25.0,
            lines: vec![curve(ours, 2)?, curve(theirs, 2)?],
            bound,
        },
        Panel {
            title: "Oldest picture, ms",
            most: 400.0,
            lines: vec![curve(ours, 1)?, curve(theirs, 1)?],
            bound: Vec::new(),
        },
    ];
    let names = ["Transom", "GStreamer, rtpgccbwe"];
    let title = "A link that steps from 20 to 5 Mb/s and back";
    Some(Curves { title, names: &names, panels: &panels, seconds: at }.draw())
}
