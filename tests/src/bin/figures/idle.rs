//! A screen at rest in user-mode Linux: what the agent costs while somebody watches it.
//! Measured from outside as in `moving.rs`: the whole guest, with and without a viewer.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use transom_agent::damage::Damage;
use transom_agent::picture::Picture;
use transom_agent::pixels::Pixels;
use transom_tests::{Test, Uml};

use crate::cpu;
use crate::stream::Stream;

/// A picture at rest is refined for a second, then looked at less and less often.
pub const REST: Duration = Duration::from_secs(5);
/// One tick of the process accounting is 0.05 % of it.
pub const IDLE: Duration = Duration::from_secs(20);
/// By default the relay has the agent send an IDR every two seconds, for viewers who join.
pub const NO_IDRS: (&str, &str) = ("TRANSOM_IDR_INTERVAL", "0");

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let mut guest = Uml::new(test).boot()?;
    let group = guest.process().pid();
    guest.start_agent(&[])?;
    let mut screen = guest.testcard()?;
    screen.tell("mode 1280x720 XRGB8888")?;
    screen.tell("still 1")?;
    let percent = || -> Result<f64> {
        std::thread::sleep(REST);
        let (from, start) = (cpu::of_group(group)?, Instant::now());
        std::thread::sleep(IDLE);
        Ok((cpu::of_group(group)? - from) / start.elapsed().as_secs_f64() * 100.0)
    };
    let alone = percent()?;
    let mut lines = vec![json!({ "what": "alone", "percent": alone })];
    for (what, settings) in [("watched", &[][..]), ("watched without IDRs", &[NO_IDRS])] {
        let stream = Stream::start_with(test, &guest, settings)?;
        lines.push(json!({ "what": what, "percent": percent()? - alone }));
        drop(stream);
    }
    lines.push(json!({ "what": "native", "percent": natively()? }));
    Ok(lines)
}

/// Does on this host what the agent does while it watches a screen at rest, as far as there
/// is no need of a screen for it; percent of a core.
fn natively() -> Result<f64> {
    const GLANCE: Duration = Duration::from_millis(16);
    const GLANCES_PER_SWEEP: u32 = 31;
    let scanout = std::hint::black_box(vec![1_u8; 1280 * 720 * 4]);
    let (mut picture, mut damage) = (Picture::new((1280, 720)), Damage::default());
    let (from, start) = (clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?, Instant::now());
    for glance in 0.. {
        if start.elapsed() >= IDLE {
            break;
        }
        // Each plane's properties are a system call of about this cost.
        for path in ["/dev/null", "/dev/zero"] {
            std::hint::black_box(std::fs::metadata(path)?);
        }
        for _ in 0..8 {
            std::hint::black_box(Instant::now());
        }
        if glance % GLANCES_PER_SWEEP == 0 {
            picture.update(Pixels::bgrx(&scanout, 1280), None, &mut damage);
        }
        std::thread::sleep(GLANCE);
    }
    let used = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)? - from);
    Ok(used.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0)
}
