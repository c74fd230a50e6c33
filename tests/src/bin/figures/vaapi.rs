//! VA-API without a GPU: what our side of it costs, what a driver's fault costs, what grows.
//!
//! The driver is the one in software, and told to do no work for the first of these (`idle`), so
//! that all that is left is its client's: the agent's by each way that pictures can take, and
//! ffmpeg's by the same, in turns within one boot. CPU time is taken from outside, as in `moving.rs`.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use transom_tests::va::{self, Display};
use transom_tests::{Guest, Relay, Test, Testcard, Uml, Viewer, release_dir};

use crate::idle::NO_IDRS;
use crate::moving::{Baseline, Span, flips_of_last};
use crate::stream::Stream;
use crate::{ROUNDS, SETTLE, cpu};

/// Between two looks at a counter: there are six ways in each round.
const INTERVAL: Duration = Duration::from_secs(6);
const SOON: Duration = Duration::from_secs(60);
/// Frames until a driver fails: ten seconds' worth, for a viewer takes some to show its first.
const UNTIL: u32 = 600;
/// How long before and after a fault a viewer has to see something: more than a driver's deadline.
const AROUND: Duration = Duration::from_millis(1500);
const FAULTS: [&str; 4] = ["fail", "crash", "garbage", "hang"];

/// A way for pictures: its name, the driver's mode, and how ffmpeg is told to take it.
const WAYS: [(&str, &str, Option<&str>); 3] = [
    ("import", "idle", Some("hwmap=derive_device=vaapi,scale_vaapi=format=nv12")),
    ("upload, derived", "idle,no-import", Some("hwdownload,format=bgr0,format=nv12,hwupload")),
    ("upload, put", "idle,no-import,no-derive", None),
];

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let mut lines = own_code()?;
    lines.extend(paths(test)?);
    lines.extend(gaps(test)?);
    lines.push(growth(test)?);
    Ok(lines)
}

/// The bench of the agent's crate: 1080p, natively.
fn own_code() -> Result<Vec<Value>> {
    let output = Command::new("cargo")
        .args(["bench", "--quiet", "--locked", "-p", "transom-agent", "--bench", "vaapi"])
        .current_dir(transom_tests::project_dir())
        .output()
        .context("cannot run cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "cargo bench: {}", String::from_utf8_lossy(&output.stderr));
    let row = |line: &str| -> Option<Value> {
        let (name, figures) = line.split_at_checked(34)?;
        let figures: Vec<f64> =
            figures.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let [agent, helper, sum] = figures[..] else { return None };
        Some(json!({ "what": "own code", "name": name.trim(), "agent_us": agent,
                     "helper_us": helper, "sum_us": sum }))
    };
    let rows: Vec<_> = text.lines().filter_map(row).collect();
    ensure!(!rows.is_empty(), "the bench tells nothing:\n{text}");
    Ok(rows)
}

fn paths(test: &Test) -> Result<Vec<Value>> {
    let mut guest = Uml::new(test).boot()?;
    let group = guest.process().pid();
    let guest = guest;
    va::equip(&guest, "idle")?;
    guest.run("export RUST_LOG=info; mkdir -p /run/ffmpeg; busybox ifconfig lo up")?;
    let card = guest.run("ls -d /sys/devices/*/vkms/drm/card* | head -n 1")?;
    let card = card.rsplit('/').next().context("no VKMS")?;
    let mut screen = guest.testcard()?;
    screen.tell("mode 1280x720 XRGB8888")?;
    std::thread::sleep(SETTLE);
    let (from, start) = (cpu::of_group(group)?, Instant::now());
    std::thread::sleep(INTERVAL);
    let idle = (cpu::of_group(group)? - from) / start.elapsed().as_secs_f64();
    let mut lines = Vec::new();
    for round in 1..=ROUNDS {
        let span = Span::measure(&mut screen, group)?;
        let baseline = Baseline { idle, flip: (span.cpu - idle * span.seconds) / span.flips };
        for (way, mode, filter) in WAYS {
            va::set_mode(&guest, mode)?;
            let what = format!("agent, {way}");
            lines.push(ours(test, &guest, &mut screen, group, (&what, round), &baseline)?);
            if let Some(filter) = filter {
                let what = format!("ffmpeg, {way}");
                let told = (what.as_str(), round);
                lines.push(theirs(&guest, &mut screen, group, told, &baseline, (card, filter))?);
            }
        }
    }
    Ok(lines)
}

fn ours(
    test: &Test,
    guest: &Guest,
    screen: &mut Testcard<'_>,
    group: u32,
    (what, round): (&str, u64),
    baseline: &Baseline,
) -> Result<Value> {
    let mark = guest.agent_log().len();
    guest.start_agent(&["--encoder", "vaapi"])?;
    screen.tell("animate screen")?;
    let stream = Stream::start_with(test, guest, &[NO_IDRS])?;
    std::thread::sleep(SETTLE);
    let from = (stream.passed()?, cpu::of_group(group)?);
    std::thread::sleep(INTERVAL);
    let to = (stream.passed()?, cpu::of_group(group)?);
    let seconds = (to.0.at - from.0.at).as_secs_f64();
    let span = Span { seconds, cpu: to.1 - from.1, flips: flips_of_last(screen, seconds)? };
    drop(stream);
    guest.kill_agent("TERM")?;
    let log = &guest.agent_log()[mark..];
    ensure!(log.contains("VA-API, Transom") && !log.contains("given up"), "{what}: {log}");
    Ok(span.line(what, round, baseline, to.0.frames - from.0.frames))
}

fn theirs(
    guest: &Guest,
    screen: &mut Testcard<'_>,
    group: u32,
    (what, round): (&str, u64),
    baseline: &Baseline,
    (card, filter): (&str, &str),
) -> Result<Value> {
    screen.tell("animate screen")?;
    guest.run(&format!(
        "rm -f /run/ffmpeg/progress; setsid /run/peer/lib64/ld-linux-x86-64.so.2 \
         /run/peer/usr/bin/ffmpeg -nostdin -hide_banner -loglevel warning -nostats \
         -stats_period 0.2 -progress /run/ffmpeg/progress \
         -init_hw_device vaapi=va:$(ls /dev/dri/renderD* | head -n 1) -filter_hw_device va \
         -device /dev/dri/{card} -framerate 60 -f kmsgrab -i - -vf {filter} \
         -fps_mode passthrough -c:v h264_vaapi -profile:v constrained_baseline -g 100000 \
         -b:v 12M -f rtp rtp://127.0.0.1:5004 </dev/null >/run/ffmpeg/log 2>&1 & \
         echo $! >/run/ffmpeg/pid"
    ))?;
    let frames = || -> Result<(f64, Instant)> {
        let text = guest.run("sed -n 's/^frame=//p' /run/ffmpeg/progress | tail -n 1")?;
        Ok((text.trim().parse()?, Instant::now()))
    };
    let end = Instant::now() + SOON;
    while !frames().is_ok_and(|(frames, _)| frames >= 3.0) {
        ensure!(Instant::now() < end, "ffmpeg: {}", guest.run("cat /run/ffmpeg/log")?);
        std::thread::sleep(Duration::from_millis(200));
    }
    std::thread::sleep(SETTLE);
    let from = (frames()?, cpu::of_group(group)?);
    std::thread::sleep(INTERVAL);
    let to = (frames()?, cpu::of_group(group)?);
    let seconds = (to.0.1 - from.0.1).as_secs_f64();
    let span = Span { seconds, cpu: to.1 - from.1, flips: flips_of_last(screen, seconds)? };
    guest.run(
        "p=$(cat /run/ffmpeg/pid); kill -9 $p; while kill -0 $p 2>/dev/null; do sleep 0.1; done",
    )?;
    Ok(span.line(what, round, baseline, to.0.0 - from.0.0))
}

/// How long a viewer of 60 changes a second sees none of them when the driver fails.
fn gaps(test: &Test) -> Result<Vec<Value>> {
    let guest = Uml::new(test).name("gaps").boot()?;
    va::equip(&guest, "paced")?;
    let mut card = guest.testcard()?;
    card.tell("mode 800x600 XRGB8888")?;
    let mut lines = Vec::new();
    for round in 1..=ROUNDS {
        for fault in FAULTS {
            let mark = guest.agent_log().len();
            let said = |words: &str| -> Result<Instant> {
                let end = Instant::now() + SOON;
                loop {
                    let log = guest.agent_log();
                    if log[mark..].contains(words) {
                        return Ok(Instant::now());
                    }
                    ensure!(Instant::now() < end, "{fault}: no '{words}' in {}", &log[mark..]);
                    std::thread::sleep(Duration::from_millis(5));
                }
            };
            // By upload: the driver's own conversion is slow, and in this guest it would be seen.
            va::set_mode(&guest, &format!("paced,no-import,{fault}-after={UNTIL}"))?;
            guest.start_agent(&[])?;
            card.tell("animate box")?;
            // With an IDR every two seconds, or the viewer would have none to begin with.
            let relay = Relay::start(test, &guest)?;
            let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
            viewer.wait_frames(1, SOON)?;
            let working = said("VA-API, Transom")?.max(Instant::now());
            let lost = said("given up")?;
            ensure!(lost > working + AROUND, "{fault}: lost before anybody watched");
            // A driver that waited for its deadline was lost before the log said so.
            let window = lost - AROUND..lost + AROUND;
            std::thread::sleep(AROUND);
            let arrivals = viewer.arrivals();
            let inside: Vec<_> = arrivals.iter().filter(|at| window.contains(*at)).collect();
            let gap = inside.windows(2).map(|pair| *pair[1] - *pair[0]).max();
            let gap = gap.with_context(|| format!("{fault}: nothing to see"))?.as_secs_f64();
            lines.push(json!({ "what": fault, "round": round, "gap_ms": gap * 1e3,
                               "frames_lost": (gap * 60.0).round() - 1.0 }));
            drop((viewer, relay));
            guest.kill_agent("TERM")?;
        }
    }
    Ok(lines)
}

/// Encodes 100 000 small frames on this host and asks what the driver's process holds.
fn growth(test: &Test) -> Result<Value> {
    let (driver, display) = (va::driver()?, Display::start(test)?);
    let mut command = Command::new(release_dir().join("transom-agent"));
    command.args(["probe", "--encode", "--json", "--size", "128x128", "--frames", "100000"]);
    display.lend(&mut command, &driver, "paced");
    let output = command.env("TRANSOM_VA_DISPLAY", "x11").output().context("no agent")?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let tried = &report["candidates"][0];
    ensure!(tried["error"].is_null(), "{tried}");
    Ok(json!({ "what": "growth", "process": tried["process"] }))
}
