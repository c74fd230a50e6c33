//! Figures of a guest's stream, as its agent measures them: a page of text, JSON lines, or a live
//! view with small graphs ([`view`]).

use std::time::Duration;

use serde_json::{Value, json};
use transom_protocol::diagnostics::{GuestDiagnostics, Percentiles, Request, Sample};

use super::{Answers, Client, DiagError, tell, top::percent};

pub mod live;
pub mod view;

/// Samples under way.
#[derive(Debug)]
pub struct Samples(Answers);

impl Samples {
    /// Asks for `count` samples, or for samples without end where that is 0.
    ///
    /// # Errors
    ///
    /// See [`DiagError`].
    pub async fn open(client: &Client, interval: Duration, count: u32) -> Result<Self, DiagError> {
        let millis = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
        let mut answers = client.ask(Request::Stats { interval: millis, count }).await?;
        // Twice late is silent; no sooner than an emulated guest under load may be late.
        answers.set_silence(Some(interval * 2 + Duration::from_secs(5)));
        Ok(Self(answers))
    }

    /// The agent's name and version.
    pub fn agent(&self) -> String {
        self.0.welcome().software.to_string()
    }

    /// The next one. May be dropped at any time.
    ///
    /// # Errors
    ///
    /// See [`DiagError`].
    pub async fn next(&mut self) -> Result<Option<Sample>, DiagError> {
        while let Some(answer) = self.0.next().await? {
            if let GuestDiagnostics::Sample(sample) = answer.message {
                return Ok(Some(*sample));
            }
        }
        Ok(None)
    }
}

/// The body of a JSON line.
pub fn json(sample: &Sample) -> Value {
    let stage = |p: Percentiles| json!({ "p50": p.p50, "p95": p.p95, "p99": p.p99 });
    json!({
        "uptime_ms": sample.uptime,
        "display": sample.display.to_string(),
        "width": sample.width,
        "height": sample.height,
        "encoder": sample.encoder.to_string(),
        "watched": sample.watched,
        "seen_fps": thousandths(sample.seen_rate),
        "fps": thousandths(sample.encoded_rate),
        "kbps": (sample.bitrate as f64 / 100.0).round() / 10.0,
        "target_kbps": f64::from(sample.target.0) / 1000.0,
        "most_fps": sample.frame_rate,
        "damage_percent": f64::from(sample.damage / 100) / 100.0,
        "latency_us": {
            "convert": stage(sample.convert), "encode": stage(sample.encode), "queue": stage(sample.queue),
        },
        "drops": {
            "slow_host": sample.dropped_slow_host,
            "capture_errors": sample.capture_errors,
            "encode_errors": sample.encode_errors,
        },
        "agent": { "cpu_percent": percent(sample.agent_cpu), "resident_bytes": sample.agent_memory },
        "system": {
            "cpu_percent": percent(sample.guest_cpu),
            "processors": sample.processors,
            "memory_bytes": sample.memory_total,
            "available_bytes": sample.memory_available,
        },
        "stalled": sample.stalled.as_ref().map(|(stage, millis)| {
            json!({ "stage": stage.to_string(), "ms": millis })
        }),
    })
}

/// A page for people.
pub fn text(agent: &str, sample: &Sample) -> String {
    let mut rows = vec![
        ("agent", format!("{agent}, up for {}", tell::span(Duration::from_millis(sample.uptime)))),
        ("display", display(sample)),
        (
            "stream",
            format!(
                "{:.1} fps encoded of {:.1} seen, {} kb/s; target {}, at most {} fps{}",
                thousandths(sample.encoded_rate),
                thousandths(sample.seen_rate),
                sample.bitrate / 1000,
                sample.target,
                sample.frame_rate,
                if sample.watched { "" } else { "; nobody watches" }
            ),
        ),
        ("encoder", sample.encoder.to_string()),
        (
            "damage",
            format!("{:.1} % of the picture per frame", f64::from(sample.damage) / 10_000.0),
        ),
    ];
    for (name, p) in stages(sample) {
        let ms = |micros: u32| f64::from(micros) / 1000.0;
        let text = if p == Percentiles::default() {
            "–".into()
        } else {
            format!("{:.2} / {:.2} / {:.2} ms (p50/p95/p99)", ms(p.p50), ms(p.p95), ms(p.p99))
        };
        rows.push((name, text));
    }
    rows.push((
        "drops",
        format!(
            "{} for a slow host; {} looks and {} encoders failed, since the agent started",
            sample.dropped_slow_host, sample.capture_errors, sample.encode_errors
        ),
    ));
    rows.push((
        "agent uses",
        format!(
            "{:.1} % of a processor, {}",
            percent(sample.agent_cpu),
            tell::bytes(sample.agent_memory)
        ),
    ));
    rows.push((
        "guest uses",
        format!(
            "{:.1} % of {} processor{}; {} of {} memory left",
            percent(sample.guest_cpu),
            sample.processors,
            if sample.processors == 1 { "" } else { "s" },
            tell::bytes(sample.memory_available),
            tell::bytes(sample.memory_total)
        ),
    ));
    if let Some((stage, millis)) = &sample.stalled {
        rows.push((
            "STALLED",
            format!("{stage} has not moved for {:.1} s", *millis as f64 / 1000.0),
        ));
    }
    rows.iter().map(|(name, text)| format!("{name:<11} {text}\n")).collect()
}

/// One line for people, where a page a second would be too much.
pub fn line(sample: &Sample) -> String {
    let ms = |p: Percentiles| {
        format!("{:.1}/{:.1}", f64::from(p.p50) / 1000.0, f64::from(p.p95) / 1000.0)
    };
    let stalled = sample
        .stalled
        .as_ref()
        .map_or_else(String::new, |(stage, millis)| format!("  STALLED {stage} {millis} ms"));
    format!(
        "{}  {:.1} fps  {} kb/s  damage {:.1} %  convert {}  encode {}  queue {} ms  drops {}  agent {:.1} %  guest {:.1} %{stalled}\n",
        display(sample),
        thousandths(sample.encoded_rate),
        sample.bitrate / 1000,
        f64::from(sample.damage) / 10_000.0,
        ms(sample.convert),
        ms(sample.encode),
        ms(sample.queue),
        sample.dropped_slow_host,
        percent(sample.agent_cpu),
        percent(sample.guest_cpu),
    )
}

/// The stages that the agent measures, in their order.
pub fn stages(sample: &Sample) -> [(&'static str, Percentiles); 3] {
    [("convert", sample.convert), ("encode", sample.encode), ("queue", sample.queue)]
}

fn display(sample: &Sample) -> String {
    if sample.width == 0 && !sample.watched {
        "not looked at, since nobody watches".into()
    } else if sample.width == 0 {
        format!("no picture: {}", sample.display)
    } else {
        format!("{}x{} {}", sample.width, sample.height, sample.display)
    }
}

pub(crate) fn thousandths(rate: u32) -> f64 {
    (f64::from(rate) / 100.0).round() / 10.0
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use transom_protocol::{BitRate, GuestTime, message::Text};

    pub(crate) fn sample() -> Sample {
        Sample {
            at: GuestTime(1),
            uptime: 65_000,
            display: Text::new("lit"),
            width: 1280,
            height: 720,
            encoder: Text::new("screen"),
            watched: true,
            seen_rate: 60_040,
            encoded_rate: 59_960,
            bitrate: 4_210_000,
            target: BitRate(8_000_000),
            frame_rate: 60,
            damage: 12_345,
            convert: Percentiles { p50: 800, p95: 1900, p99: 2500 },
            encode: Percentiles { p50: 5100, p95: 8800, p99: 9900 },
            queue: Percentiles::default(),
            dropped_slow_host: 3,
            capture_errors: 1,
            encode_errors: 0,
            agent_cpu: 351_000,
            agent_memory: 14 << 20,
            guest_cpu: 1_203_000,
            processors: 2,
            memory_total: 1 << 30,
            memory_available: 700 << 20,
            stalled: Some((Text::new("encode"), 2500)),
        }
    }

    #[test]
    fn a_page_says_what_stands_still() {
        let page = text("transom-agent 1", &sample());
        for part in [
            "60.0 fps encoded",
            "4210 kb/s",
            "encode      5.10 / 8.80 / 9.90 ms",
            "queue       –",
            "encode has not moved for 2.5 s",
        ] {
            assert!(page.contains(part), "{part:?} in\n{page}");
        }
        assert!(line(&sample()).contains("STALLED encode 2500 ms"));
    }

    #[test]
    fn json_has_plain_units() {
        let json = json(&sample());
        assert_eq!(json["fps"], 60.0);
        assert_eq!(json["kbps"], 4210.0);
        assert_eq!(json["damage_percent"], 1.23);
        assert_eq!(json["agent"]["cpu_percent"], 35.1);
        assert_eq!(json["stalled"]["stage"], "encode");
    }
}
