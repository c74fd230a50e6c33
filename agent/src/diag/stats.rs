//! Figures of the stream: rates between two looks, percentiles of the last seconds.

use std::time::{Duration, Instant};

use transom_protocol::diagnostics::{GuestDiagnostics, Sample};
use transom_protocol::message::{DisplayState, Report, Text};

use super::conversation::{Answer, Conversation};
use super::{Context, guest};
use crate::{clock, usage};

/// Shorter intervals would measure the measuring.
const MIN_INTERVAL: u32 = 100;

/// What counts up.
struct Look {
    at: Instant,
    report: Report,
    bytes: u64,
    /// CPU time of the agent in nanoseconds.
    agent: u64,
    /// CPU time of the guest in ticks.
    guest: u64,
}

impl Look {
    fn now(context: &Context) -> Self {
        Self {
            at: Instant::now(),
            report: context.hub.report(),
            bytes: context.hub.meter.bytes(),
            agent: usage::now().0,
            guest: guest::cpu().map_or(0, |(busy, _)| busy),
        }
    }
}

/// A sample after each interval.
pub fn run(context: &Context, talk: &mut Conversation, interval: u32, count: u32) -> Answer {
    talk.be_patient()?;
    let interval = Duration::from_millis(interval.max(MIN_INTERVAL).into());
    let (mut before, mut told) = (Look::now(context), 0);
    while count == 0 || told < count {
        talk.pause(interval)?;
        let after = Look::now(context);
        let sample = sample(context, &before, &after);
        talk.say(&GuestDiagnostics::Sample(Box::new(sample)))?;
        (before, told) = (after, told.saturating_add(1));
    }
    Ok(())
}

fn sample(context: &Context, before: &Look, after: &Look) -> Sample {
    let hub = &context.hub;
    let micros = after.at.duration_since(before.at).as_micros().max(1);
    // Per second, in `unit`ths.
    let rate = |from: u64, to: u64, unit: u128| {
        u128::from(to.saturating_sub(from)) * unit * 1_000_000 / micros
    };
    let small = |value: u128| u32::try_from(value).unwrap_or(u32::MAX);
    let (_, display) = hub.display();
    let (width, height) = match &display {
        DisplayState::Lit(scanout) | DisplayState::Unreadable { scanout, .. } => {
            (scanout.width, scanout.height)
        }
        _ => (0, 0),
    };
    let now = clock::now();
    let figures = hub.meter.figures(now);
    let pixels = (u64::from(width) * u64::from(height)).max(1);
    let encoder = hub.encoder();
    let name = match (encoder.name.as_str(), encoder.driver.as_str()) {
        ("", _) => {
            format!("{:?}", context.hub.choice().unwrap_or(context.settings.encoder)).to_lowercase()
        }
        (name, "") => name.to_owned(),
        (name, driver) => format!("{name} ({driver})"),
    };
    let (watched, tuning) = hub.stream();
    let (memory_total, memory_available) = guest::memory().unwrap_or((0, 0));
    Sample {
        at: now,
        uptime: u64::try_from(context.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        display: Text::new(words(&display)),
        width,
        height,
        encoder: Text::new(name),
        watched,
        seen_rate: small(rate(before.report.seen, after.report.seen, 1000)),
        encoded_rate: small(rate(before.report.encoded, after.report.encoded, 1000)),
        bitrate: u64::try_from(rate(before.bytes, after.bytes, 8)).unwrap_or(u64::MAX),
        target: tuning.bitrate,
        frame_rate: tuning.fps,
        damage: small(u128::from(figures.damage) * 1_000_000 / u128::from(pixels)),
        convert: figures.convert,
        encode: figures.encode,
        queue: figures.queue,
        dropped_slow_host: after.report.dropped_slow_host,
        capture_errors: after.report.capture_errors,
        encode_errors: after.report.encode_errors,
        // Nanoseconds in a second are thousandths of a millionth.
        agent_cpu: small(rate(before.agent, after.agent, 1) / 1000),
        agent_memory: usage::now().1,
        guest_cpu: small(rate(before.guest, after.guest, 1_000_000) / u128::from(guest::ticks())),
        processors: guest::cpu().map_or(0, |(_, processors)| processors),
        memory_total,
        memory_available,
        stalled: hub.watch.stalled().map(|(stage, elapsed)| {
            (Text::new(stage.name()), u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
        }),
    }
}

/// A display's state for people.
pub fn words(display: &DisplayState) -> String {
    match display {
        DisplayState::NoCard { reason } => format!("no card: {reason}"),
        DisplayState::Dark { card } => format!("dark: {card}"),
        DisplayState::Lit(_) => "lit".into(),
        DisplayState::Unreadable { why, .. } => format!("unreadable: {why:?}"),
    }
}
