//! The tables of `make bench`: ours, the peer, their ratio, what it is to be and what it could be.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Lines, Spread};

const HEAD: &str = "| | Transom | peer | ratio | target | limit |\n|---|---|---|---|---|---|\n";

impl Lines {
    /// All rounds of one side.
    pub(super) fn side(&self, what: &str, who: &str, field: &str) -> Option<Spread> {
        let mine = self.of(what).filter(|line| line["who"] == who);
        Spread::of(&mut mine.filter_map(|line| line[field].as_f64()).collect::<Vec<_>>())
    }

    /// A row of both sides; the ratio is ours to theirs.
    fn row(
        &self,
        title: &str,
        (what, field): (&str, &str),
        peer: &str,
        [target, limit]: [&str; 2],
    ) -> Option<String> {
        let (ours, theirs) = (self.side(what, "transom", field)?, self.side(what, peer, field)?);
        let ratio = ours.median / theirs.median;
        Some(format!(
            "| {title} | {ours} | {peer} {theirs} | **{ratio:.2}** | {target} | {limit} |\n"
        ))
    }

    /// A row that has no peer.
    fn own(
        &self,
        title: &str,
        (what, field): (&str, &str),
        [target, limit]: [&str; 2],
    ) -> Option<String> {
        let ours = self.side(what, "transom", field)?;
        Some(format!("| {title} | {ours} | | | {target} | {limit} |\n"))
    }
}

pub fn convert(lines: &Lines) -> Option<String> {
    let mut text = HEAD.to_owned();
    for peer in ["swscale", "videoconvert"] {
        let of = ("whole", "ms");
        text += &lines.row("all of it is new, ms of CPU", of, peer, ["≤ 0.05", "0.25 ms"])?;
    }
    text += &lines.own("16×20 pixels are new", ("glyph", "ms"), ["", ""])?;
    text += &lines.own("nothing is new", ("still", "ms"), ["", ""])?;
    Some(text)
}

pub fn latency(lines: &Lines) -> Option<String> {
    let mut text = HEAD.to_owned();
    for load in ["10 %", "80 %"] {
        let what = format!("{load} of 1 Gb/s");
        for (field, title, target) in [("p50_us", "p50", ""), ("p99_us", "p99", "≤ 1.5")] {
            for peer in ["forwarder", "socat"] {
                let target = if peer == "forwarder" { target } else { "" };
                let title = format!("at {what}, {title}, µs");
                let limit = if field == "p50_us" { "20 µs" } else { "" };
                text += &lines.row(&title, (&what, field), peer, [target, limit])?;
            }
        }
        let title = format!("at {what}, % of a core");
        text += &lines.row(&title, (&what, "cpu_percent"), "forwarder", ["", ""])?;
    }
    Some(text)
}

pub fn fan_out(lines: &Lines) -> Option<String> {
    let peer = "multiudpsink";
    let mut text = HEAD.to_owned();
    for rate in ["8 Mb/s", "50 Mb/s"] {
        for count in [1, 16, 64] {
            let what = format!("{rate} to {count}");
            let title = format!("{what}, Gb/s per core");
            text += &lines.row(&title, (&what, "gbps_per_core"), peer, ["≥ 5", "18–24"])?;
        }
    }
    let what = "50 Mb/s to 16";
    let of = (what, "core_percent_for_1_gbps");
    text += &lines.row("1 Gb/s, % of a core", of, peer, ["≤ 6 %", "4–6 %"])?;
    for (what, title) in [
        ("8 Mb/s to 64", "lost of 8 Mb/s to 64, %"),
        (what, "lost of 50 Mb/s to 16, %"),
        ("50 Mb/s to 64", "lost of 50 Mb/s to 64, %"),
    ] {
        let [ours, theirs] = ["transom", peer].map(|who| lines.side(what, who, "loss_percent"));
        let (ours, theirs) = (ours?, theirs?);
        writeln!(text, "| {title} | {ours} | {peer} {theirs} | | < 0.1 | 0 |").ok()?;
    }
    Some(text)
}

pub fn webrtc(lines: &Lines) -> Option<String> {
    let mut text = HEAD.to_owned();
    for (what, limit) in [("16 viewers at 8 Mb/s", "1000"), ("64 viewers at 600 kb/s", "")] {
        let mut row = |title: &str, field: &str, target: &str, limit: &str| {
            text +=
                &lines.row(&format!("{what}: {title}"), (what, field), "janus", [target, limit])?;
            Some(())
        };
        row("viewers per core", "viewers_per_core", "≥ 3", limit)?;
        row("µs of CPU a packet", "us_per_packet", "", "")?;
        row("pictures that came through, %", "pictures_percent", "", "100")?;
    }
    Some(text)
}

pub fn scale(lines: &Lines) -> Option<String> {
    let mut text = String::from(
        "| guests × viewers | % of a core | of that a viewer | memory, MB | of that a viewer, kB | \
         pictures that came through, % |\n|---|---|---|---|---|---|\n",
    );
    let idle = lines.of("idle").next()?["pss_kib"].as_f64()?;
    for line in lines.of("guests") {
        let of = |field: &str| line[field].as_f64();
        let (cpu, pss, viewers) = (of("cpu_percent")?, of("pss_kib")?, of("viewers")?);
        writeln!(
            text,
            "| {} × {:.0} | {cpu:.1} | {:.2} | {:.1} | {:.0} | {:.1} |",
            line["guests"],
            viewers / line["guests"].as_f64()?,
            cpu / viewers,
            pss / 1024.0,
            (pss - idle) / viewers,
            of("pictures_percent")?,
        )
        .ok()?;
    }
    writeln!(text, "\nWith one guest at rest, and no viewer, it takes {:.1} MB.", idle / 1024.0)
        .ok()?;
    text += "\n| a quiet guest's pictures to its viewer, ms | p50 | p99 | relay, % of a core |\n\
             |---|---|---|---|\n";
    for what in ["alone", "beside a flood"] {
        let of = |percentile: &str| {
            let mine = lines.of(what).filter_map(|line| line["ms"][percentile].as_f64());
            Spread::of(&mut mine.collect::<Vec<_>>())
        };
        let (p50, p99, cpu) = (of("p50")?, of("p99")?, lines.spread(what, "cpu_percent")?);
        writeln!(text, "| {what} | {p50} | {p99} | {cpu} |").ok()?;
    }
    Some(text)
}

pub fn loss(lines: &Lines) -> Option<String> {
    let mut text = String::from(
        "| lost | bad pictures, % | GStreamer | ratio | of that late, % | bytes beyond the \
         pictures', % | GStreamer | target | limit |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for kind in ["each by itself", "in bursts"] {
        for share in ["1 %", "2 %", "5 %", "10 %"] {
            let what = format!("{share} {kind}");
            let of = |who: &str, field: &str| {
                let mut mine = lines.of(&what).filter(|line| line["who"] == who);
                mine.next()?[field].as_f64()
            };
            let [ours, theirs] = ["transom", "gstreamer"].map(|who| of(who, "bad_percent"));
            let [extra, their_extra] =
                ["transom", "gstreamer"].map(|who| of(who, "overhead_percent"));
            let (ours, theirs) = (ours?, theirs?);
            let ratio = if theirs > 0.0 { format!("**{:.2}**", ours / theirs) } else { "".into() };
            writeln!(
                text,
                "| {what} | {ours:.2} | {theirs:.2} | {ratio} | {:.2} | {:.1} | {:.1} | ≤ 1 | 0 |",
                of("transom", "late_percent")?,
                extra?,
                their_extra?,
            )
            .ok()?;
        }
    }
    Some(text)
}

/// What each further one takes, by least squares over all counts.
fn slope(lines: &Lines, what: &str, who: &str) -> Option<(f64, f64)> {
    let mine = lines.of(what).filter(|line| line["who"] == who);
    let points: Vec<_> = mine
        .filter_map(|line| Some((line["count"].as_f64()?, line["pss_kib"].as_f64()?)))
        .collect();
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let steep: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let wide: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    (wide > 0.0).then(|| (steep / wide, points.first().map_or(0.0, |point| point.1)))
}

pub fn memory(lines: &Lines) -> Option<String> {
    let mut text = String::from("| | Transom | peer | ratio | limit |\n|---|---|---|---|---|\n");
    let (each, first) = slope(lines, "guests", "transom")?;
    writeln!(text, "| with one guest and one viewer, MB | {:.1} | | | |", first / 1024.0).ok()?;
    writeln!(text, "| each further guest, kB | {each:.0} | | | two buffers of 256 kB |").ok()?;
    let ours = slope(lines, "viewers", "transom")?.0;
    let theirs = slope(lines, "viewers", "janus")?.0;
    writeln!(
        text,
        "| each further viewer, kB | {ours:.0} | janus {theirs:.0} | **{:.2}** | packets of a \
         second, for who asks again: 75 kB |",
        ours / theirs
    )
    .ok()?;
    Some(text)
}

pub fn capacity(lines: &Lines) -> Option<String> {
    let mut text = HEAD.to_owned();
    let least = crate::bench::capacity::least_delay().as_secs_f64() * 1e3;
    for (what, title) in
        [("20 Mb/s", "20 Mb/s"), ("5 Mb/s", "then 5 Mb/s"), ("20 Mb/s again", "then 20 Mb/s again")]
    {
        let rounds = |who: &str, of: fn(&Value) -> Option<f64>| {
            let mine = lines.of(what).filter(|line| line["who"] == who);
            Spread::of(&mut mine.filter_map(of).collect::<Vec<_>>())
        };
        let mut row = |field: &str, of: fn(&Value) -> Option<f64>, target: &str, limit: &str| {
            let (ours, theirs) = (rounds("transom", of)?, rounds("gstreamer", of)?);
            let ratio = ours.median / theirs.median;
            writeln!(
                text,
                "| {title}: {field} | {ours} | GStreamer {theirs} | **{ratio:.2}** | {target} | {limit} |"
            )
            .ok()
        };
        let limit = format!("{least:.0}");
        row("delay of a picture, p50, ms", |line| line["ms"]["p50"].as_f64(), "", &limit)?;
        row("p95, ms", |line| line["ms"]["p95"].as_f64(), "≤ 1", &limit)?;
        row(
            "pictures that fill the link, %",
            |line| line["utilisation_percent"].as_f64(),
            "≥ 1",
            "97",
        )?;
        row("pictures a second", |line| line["per_second"].as_f64(), "", "60")?;
    }
    Some(text)
}

pub fn footprint(lines: &Lines) -> Option<String> {
    let mut text =
        String::from("| | Transom | Debian, wayvnc | ratio | limit |\n|---|---|---|---|---|\n");
    let mut row = |title: &str, what: &str, field: &str, scale: f64, limit: &str| {
        let side = |who: &str| {
            let mine = lines.of(what).filter(|line| line["who"] == who);
            let values = mine.filter_map(|line| Some(line[field].as_f64()? * scale));
            Spread::of(&mut values.collect::<Vec<_>>())
        };
        let (ours, theirs) = (side("transom")?, side("wayvnc")?);
        let ratio = ours.median / theirs.median;
        writeln!(text, "| {title} | {ours} | {theirs} | **{ratio:.2}** | {limit} |").ok()
    };
    let init = lines.side("guest", "transom", "init_begun")?;
    row("power-on to the first picture, s", "guest", "first_picture", 1.0, &format!("{init:.1}"))?;
    row("of that until the kernel has begun, s", "guest", "kernel_begun", 1.0, "")?;
    row("of that until the kernel starts `init`, s", "guest", "init_begun", 1.0, "")?;
    row("agent, wayvnc: memory while watched (PSS), MB", "guest", "pss_kib", 1.0 / 1024.0, "")?;
    row("the whole guest's memory then, MB", "guest", "used_kib", 1.0 / 1024.0, "")?;
    row("image, VHDX, MB", "files", "image_bytes", 1e-6, "")?;
    row("image, compressed, MB", "files", "compressed_bytes", 1e-6, "")?;
    let agent = lines.one("files", "agent_bytes")? / 1e6;
    writeln!(text, "\nThe agent's executable has {agent:.2} MB.").ok()?;
    Some(text)
}
