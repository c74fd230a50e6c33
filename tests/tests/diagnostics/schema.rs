//! Real output has the fields that docs/json.md documents, and no others.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use transom_tests::{Uml, machine_test, project_dir};

use crate::LIMIT;
use crate::ask::{diag, transom};

/// Fields of an event as the page has them: those of its own table, and those that all have.
fn documented(page: &str, event: &str) -> Result<BTreeSet<String>> {
    let mut fields: BTreeSet<String> = ["event", "time", "guest"].map(str::to_owned).into();
    let part = page
        .split("\n## ")
        .find(|part| part.lines().next().is_some_and(|head| head.contains(&format!("`{event}`"))));
    let part = part.with_context(|| format!("no heading for {event}"))?;
    // Events that share a heading have a column for their name.
    let shared = part.lines().any(|line| line.starts_with("| event |"));
    for line in part.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let names = match shared {
            true if cells[0] == format!("`{event}`") => cells[1],
            true => continue,
            false => cells[0],
        };
        for name in names.split(", ") {
            fields.insert(name.trim_matches('`').to_owned());
        }
    }
    // The page's own words for nested fields of `bundle` and `stalled`.
    Ok(fields)
}

/// Names of all fields, nested ones with dots; lists are looked into.
fn fields(value: &Value, prefix: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let path =
                    if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                fields(value, &path, into);
                into.insert(path);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| fields(value, prefix, into)),
        _ => {}
    }
}

fn keeps_to(page: &str, line: &Value) -> Result<()> {
    let event = line["event"].as_str().context("no event")?;
    let documented = documented(page, event)?;
    let mut real = BTreeSet::new();
    let mut line = line.clone();
    if event == "info" {
        // An open set by design.
        ensure!(line["facts"].as_object().is_some_and(|facts| facts.len() > 10), "{line:#}");
        line["facts"] = Value::Null;
    }
    fields(&line, "", &mut real);
    // Stages have percentiles, whose names stand in the sentence.
    real.retain(|path| !path.starts_with("latency_us.") || path.matches('.').count() == 1);
    for path in &real {
        let parent = documented.iter().any(|name| name.starts_with(&format!("{path}.")));
        ensure!(documented.contains(path) || parent, "{event}: {path} is not in docs/json.md");
    }
    for name in &documented {
        let optional =
            name.starts_with("missing.") || name.starts_with("checks.") && !real.contains("checks");
        ensure!(
            real.contains(name) || optional,
            "{event}: {name} of docs/json.md is not in {line:#}"
        );
    }
    println!("{event}: {} fields", real.len());
    Ok(())
}

#[test]
fn json_lines_keep_to_their_schema() {
    machine_test("json lines keep to their schema", LIMIT, |test| {
        let page = std::fs::read_to_string(project_dir().join("docs/json.md"))?;
        let (_, page) = page.split_once("\n# What `transom diag").context("no part for diag")?;
        let page = page.split("\n# ").next().unwrap_or(page);
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&["--copy on"])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate box")?;
        guest.run("echo something >/tmp/x")?;
        let file = |name: &str| test.dir().join(name).to_string_lossy().into_owned();
        let (shot, copy, bundle) = (file("shot.png"), file("copy"), file("bundle.tar.zst"));
        for args in [
            &["info"][..],
            &["doctor"],
            &["stats"],
            &["logs", "-n", "3"],
            &["top"],
            &["screenshot", &shot],
            &["cp", ":/tmp/x", &copy],
            &["bundle", &bundle],
            &["set", "fps", "30"],
        ] {
            let said = diag(test, &guest, &[args, &["--json"]].concat())?;
            let lines = said.json()?;
            ensure!(!lines.is_empty(), "{args:?}: {said:?}");
            lines.iter().try_for_each(|line| keeps_to(page, line)).context(format!("{args:?}"))?;
        }
        let list = transom(test, &["list", &guest.address(), "--json"], b"")?.fine()?.json()?;
        list.iter().try_for_each(|line| keeps_to(page, line))?;

        // The machine by itself, and then the guest, which serves nobody else.
        let bench = ["bench", "--json", "--seconds", "2", "--guest", &guest.address()];
        for (args, least) in [(&bench[..4], 4), (&bench[..], 6)] {
            let figures = transom(test, args, b"")?.fine()?.json()?;
            ensure!(figures.len() >= least, "{args:?}: {figures:?}");
            figures.iter().try_for_each(is_figure).with_context(|| format!("{args:?}"))?;
        }
        Ok(())
    });
}

/// What the page says of `transom bench --json`, for each line alike.
fn is_figure(line: &Value) -> Result<()> {
    let figure = line["figure"].as_object().context("no figure")?;
    let names: Vec<&str> = figure.keys().map(String::as_str).collect();
    ensure!(line["event"] == "bench" && names == ["unit", "value", "what"], "{line:#}");
    ensure!(figure["value"].as_f64().is_some_and(|value| value >= 0.0), "{line:#}");
    let units = ["µs", "ms", "s", "Gb/s", "kb/s", "fps", "%", "MB"];
    ensure!(units.iter().any(|unit| figure["unit"] == *unit), "{line:#}");
    Ok(())
}
