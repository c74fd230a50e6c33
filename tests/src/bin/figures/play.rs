//! A page in Chromium: how soon its first picture is there, where the time of each goes, and how long
//! keys take.
//!
//! The guest is user-mode Linux with a screen of 1280x720 that moves as a whole, 60 times a second;
//! the browser, without a GPU, decodes and paints on the same two processors.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use transom_tests::{Browser, Guest, Test, Uml, Web};

use crate::SETTLE;
use crate::latency::percentiles;

const JOINS: usize = 20;
const KEYS: usize = 100;
/// For a first picture on a machine under load.
const SOON: u64 = 60;

pub const STAGES: [&str; 5] = ["guest", "link", "relay", "browser", "total"];

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let guest = Uml::new(test).boot()?;
    guest.start_agent(&[])?;
    let mut card = guest.testcard()?;
    card.tell("mode 1280x720 XRGB8888")?;
    card.tell("animate screen")?;
    at_ease(test, &guest)
}

fn at_ease(test: &Test, guest: &Guest) -> Result<Vec<Value>> {
    let web = Web::start(test, guest, &[])?;
    let mut page = Browser::start(test)?;
    page.tell_to("note")?;
    let url = web.link_as("control")?;
    let join = json!({ "do": "join", "url": url, "seconds": SOON });
    // The first one warms caches and the relay's connection to the guest.
    page.tell(&join)?;
    let joins = (0..JOINS).map(|_| page.tell(&join)).collect::<Result<Vec<_>>>()?;
    let of = |field: &str| {
        percentiles(joins.iter().filter_map(|join| join[field].as_f64()).collect())
            .context("no join")
    };
    let mut lines = vec![json!({
        "what": "join", "count": JOINS, "opened": of("opened")?, "loaded": of("loaded")?,
    })];

    page.wait_text("#badge", "you have control")?;
    page.tell_to("focus")?;
    std::thread::sleep(SETTLE);
    page.tell_to("forget")?;
    for _ in 0..KEYS {
        page.tell(&json!({ "do": "press", "key": "KeyW" }))?;
    }
    let noted = page.tell_to("noted")?;
    let keys = noted["keys"].as_array().context("no keys")?;
    ensure!(keys.len() >= KEYS, "{} keys were answered", keys.len());
    let of = |field: &str| {
        percentiles(keys.iter().filter_map(|key| key[field].as_f64()).collect()).context("no key")
    };
    lines.push(json!({
        "what": "keys", "count": keys.len(), "round": of("round")?, "guest": of("guest")?,
    }));
    lines.push(stages(&noted)?);
    Ok(lines)
}

/// Where the time of the pictures went that were shown.
fn stages(noted: &Value) -> Result<Value> {
    let frames = noted["frames"].as_array().context("no pictures")?;
    let mut line = json!({ "what": "pictures", "count": frames.len() });
    for stage in STAGES {
        let times = frames.iter().filter_map(|frame| frame[stage].as_f64()).collect();
        line[stage] = percentiles(times).context("no picture")?;
    }
    Ok(line)
}
