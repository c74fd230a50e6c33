//! The tables of diagnostics: round trips, copies, cost.

use std::fmt::Write as _;

use super::{Lines, Spread};

pub fn round_trips(lines: &Lines) -> Option<String> {
    let mut text = String::from(
        "| round trip, ms | at rest p50 | p99 | streaming p50 | p99 | p99 against rest | target |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let mut found = false;
    for line in lines.of("round trip") {
        found = true;
        let (guest, request) = (line["guest"].as_str()?, line["request"].as_str()?);
        let words = match request {
            "echo" => "a byte and back",
            _ => "connection, hello, setting",
        };
        let of = |when: &str, percentile: &str| line[when][percentile].as_f64();
        let (rest, load) = (of("rest", "p99")?, of("load", "p99")?);
        writeln!(
            text,
            "| {guest}: {words} ({}) | {:.2} | {rest:.2} | {:.2} | {load:.2} | **{:.1}** | ≤ 2 |",
            line["count"],
            of("rest", "p50")?,
            of("load", "p50")?,
            load / rest,
        )
        .ok()?;
    }
    text.push('\n');
    found.then_some(text)
}

pub fn copies(lines: &Lines) -> Option<String> {
    let mut text = String::from(
        "| 256 MB, MB/s | bare vsock stream | `transom diag cp` | ratio | target |\n\
         |---|---|---|---|---|\n",
    );
    for (way, words) in [("out", "out of the guest"), ("in", "into the guest")] {
        let of = |who| lines.spread(&format!("{who}, {way}"), "mb_per_s");
        let (bare, copy) = (of("bare")?, of("cp")?);
        let ratio = copy.median / bare.median;
        writeln!(text, "| {words} | {bare} | {copy} | **{ratio:.2}** | ≥ 0.7 |").ok()?;
    }
    text.push('\n');
    Some(text)
}

pub fn costs(lines: &Lines) -> Option<String> {
    let of = |who: &str, field: &str| -> Option<Spread> {
        let mut values: Vec<f64> = lines
            .of("cost")
            .filter(|line| line["who"] == who)
            .filter_map(|line| line[field].as_f64())
            .collect();
        Spread::of(&mut values)
    };
    let mut text = String::from(
        "| | frames per second | CPU of the whole guest, % of a core | per frame, ms | more than with nobody |\n\
         |---|---|---|---|---|\n",
    );
    let alone = of("nobody", "ms_per_frame")?.median;
    for who in ["nobody", "logs -f", "stats --watch"] {
        let (fps, cpu) = (of(who, "fps")?, of(who, "guest_cpu_percent")?);
        let frame = of(who, "ms_per_frame")?;
        let more = (frame.median / alone - 1.0) * 100.0;
        let words = if who == "nobody" { "nobody asks".into() } else { format!("`{who}`") };
        writeln!(text, "| {words} | {fps} | {cpu} | {frame} | {more:+.1} % |").ok()?;
    }
    Some(text)
}
