//! A moving screen in user-mode Linux: frame rate, and CPU per frame against ffmpeg's.
//!
//! One boot; in turns nobody, ours and ffmpeg look at the same animation. That guest counts
//! CPU time by the tick and calls all of it system time, so it is measured from outside: all
//! of the guest's processes, less what they use when idle, less what each flip costs while
//! nobody looks. What is left is all that the capture costs the guest, its kernel included.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use transom_tests::{Guest, Test, Testcard, Uml};

use crate::stream::Stream;
use crate::{INTERVAL, ROUNDS, SETTLE, cpu, peer};

/// Seconds of CPU that the guest uses on its own.
pub struct Baseline {
    /// Per second, with nothing moving.
    pub idle: f64,
    /// Per flip.
    pub flip: f64,
}

/// What happened between two looks at the counters.
pub struct Span {
    pub seconds: f64,
    pub cpu: f64,
    pub flips: f64,
}

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let mut guest = Uml::new(test).boot()?;
    let group = guest.process().pid();
    let guest = guest;
    guest.start_agent(&[])?;
    let card = peer::mount_in_uml(&guest)?;
    let mut screen = guest.testcard()?;
    screen.tell("mode 1280x720 XRGB8888")?;

    std::thread::sleep(SETTLE);
    let (from, start) = (cpu::of_group(group)?, Instant::now());
    std::thread::sleep(INTERVAL);
    let idle = (cpu::of_group(group)? - from) / start.elapsed().as_secs_f64();
    let mut lines = vec![json!({ "what": "still", "cpu_percent": idle * 100.0 })];
    for round in 1..=ROUNDS {
        let span = Span::measure(&mut screen, group)?;
        let baseline = Baseline { idle, flip: (span.cpu - idle * span.seconds) / span.flips };
        lines.push(span.line("nobody", round, &baseline, 0.0));
        lines.push(ours(test, &guest, &mut screen, group, round, &baseline)?);
        lines.push(theirs(&guest, &mut screen, group, round, &baseline, &card)?);
    }
    Ok(lines)
}

fn ours(
    test: &Test,
    guest: &Guest,
    screen: &mut Testcard<'_>,
    group: u32,
    round: u64,
    baseline: &Baseline,
) -> Result<Value> {
    screen.tell("animate screen")?;
    let stream = Stream::start(test, guest)?;
    std::thread::sleep(SETTLE);
    let from = (stream.passed()?, cpu::of_group(group)?);
    std::thread::sleep(INTERVAL);
    let to = (stream.passed()?, cpu::of_group(group)?);
    let seconds = (to.0.at - from.0.at).as_secs_f64();
    let span = Span { seconds, cpu: to.1 - from.1, flips: flips_of_last(screen, seconds)? };
    Ok(span.line("agent", round, baseline, to.0.frames - from.0.frames))
}

fn theirs(
    guest: &Guest,
    screen: &mut Testcard<'_>,
    group: u32,
    round: u64,
    baseline: &Baseline,
    card: &str,
) -> Result<Value> {
    screen.tell("animate screen")?;
    peer::start(guest, card)?;
    std::thread::sleep(SETTLE);
    let from = (peer::encoded(guest)?, cpu::of_group(group)?);
    std::thread::sleep(INTERVAL);
    let to = (peer::encoded(guest)?, cpu::of_group(group)?);
    let seconds = (to.0.at - from.0.at).as_secs_f64();
    let span = Span { seconds, cpu: to.1 - from.1, flips: flips_of_last(screen, seconds)? };
    peer::stop(guest)?;
    Ok(span.line("ffmpeg", round, baseline, to.0.frames - from.0.frames))
}

impl Span {
    /// The animation while nobody looks.
    pub fn measure(screen: &mut Testcard<'_>, group: u32) -> Result<Self> {
        screen.tell("animate screen")?;
        std::thread::sleep(SETTLE);
        let (from, start) = (cpu::of_group(group)?, Instant::now());
        std::thread::sleep(INTERVAL);
        let (cpu, seconds) = (cpu::of_group(group)? - from, start.elapsed().as_secs_f64());
        Ok(Self { seconds, cpu, flips: flips_of_last(screen, seconds)? })
    }

    /// A line of the part's file.
    pub fn line(&self, who: &str, round: u64, baseline: &Baseline, frames: f64) -> Value {
        let own = self.cpu - baseline.idle * self.seconds - baseline.flip * self.flips;
        let per_frame = |v: f64| if frames > 0.0 { json!(v / frames) } else { Value::Null };
        json!({
            "what": who, "round": round, "frames": frames, "seconds": self.seconds,
            "fps": frames / self.seconds, "flips_per_second": self.flips / self.seconds,
            "guest_cpu_percent": self.cpu / self.seconds * 100.0,
            "cpu_ms_per_flip": baseline.flip * 1e3,
            "cpu_ms_per_frame": per_frame(own * 1e3),
        })
    }
}

/// Stops the animation; how many flips its last seconds had.
pub fn flips_of_last(screen: &mut Testcard<'_>, seconds: f64) -> Result<f64> {
    let flips = screen.flips()?;
    let (_, last) = *flips.last().context("nothing moved")?;
    let begin = last.saturating_sub((seconds * 1e9) as u64);
    Ok(flips.iter().filter(|(_, at)| *at > begin).count() as f64)
}
