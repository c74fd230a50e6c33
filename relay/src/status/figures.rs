//! The figures of a second: their shape in JSON, and as a line on a terminal.

use serde::Serialize;

use crate::stats::{Percentiles, Stats};

/// The figures of one second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Size of the picture.
    pub width: u32,
    /// Size of the picture.
    pub height: u32,
    /// Rates and latencies.
    #[serde(flatten)]
    pub stats: Stats,
    /// Frames passed on since the start.
    pub frames: u64,
    /// Frames lost, by cause.
    pub drops: Drops,
    /// How well the guest's clock is known.
    pub clock: Option<ClockFigures>,
    /// The agent's own counters.
    pub agent: Option<AgentFigures>,
}

/// What was lost where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Drops {
    /// In the guest, before encoding, since we had not taken the last frames yet.
    pub slow_host: u64,
    /// In the guest: looks at the screen that failed.
    pub capture_errors: u64,
    /// In the guest: encoder failures.
    pub encode_errors: u64,
    /// Here: frames before the first IDR of a stream.
    pub before_idr: u64,
    /// Here: RTP packets that the system did not take.
    pub rtp_packets: u64,
}

impl Drops {
    fn total(&self) -> u64 {
        self.slow_host
            + self.capture_errors
            + self.encode_errors
            + self.before_idr
            + self.rtp_packets
    }
}

/// The clock's estimate, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ClockFigures {
    /// Guest minus host.
    pub offset_us: i64,
    /// Either way.
    pub uncertainty_us: u64,
    /// Of the best ping.
    pub round_trip_us: u64,
}

/// What the agent reports of itself.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AgentFigures {
    /// Changed pictures seen since its start.
    pub seen: u64,
    /// Encoded since its start.
    pub encoded: u64,
    /// Sent since its start.
    pub sent: u64,
    /// CPU time since its start, in nanoseconds.
    pub cpu_ns: u64,
    /// Of one core, since the last report.
    pub cpu_percent: Option<f64>,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
}

/// One line, as much of it as fits, the more important first.
pub(super) fn line(figures: &Figures, width: usize, colour: bool) -> String {
    let Figures { width: w, height: h, stats, drops, .. } = figures;
    let ms = |p: Percentiles| format!("{:.1}/{:.1}", p.p50 as f64 / 1e3, p.p95 as f64 / 1e3);
    let mut parts = vec![
        format!("{w}x{h}"),
        format!("{:.1} fps", stats.fps),
        format!("{:.0} kb/s", stats.kbps),
    ];
    if let Some(l) = stats.latency_us {
        parts.push(format!("{} ms", ms(l.total)));
        parts.push(format!("drops {}", drops.total()));
        let stages = [
            ("convert", l.convert),
            ("encode", l.encode),
            ("queue", l.queue),
            ("link", l.link),
            ("relay", l.relay),
        ];
        parts.extend(stages.map(|(name, p)| format!("{name} {}", ms(p))));
    } else {
        parts.push(format!("drops {}", drops.total()));
    }
    let mut line = String::new();
    let mut used = 0;
    for (i, part) in parts.iter().enumerate() {
        let gap = if i == 0 { "" } else { "  " };
        if used + gap.len() + part.len() > width {
            break;
        }
        used += gap.len() + part.len();
        line += gap;
        line += &if colour && i == 0 { format!("\x1b[1m{part}\x1b[0m") } else { part.clone() };
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Stages;
    use serde_json::json;

    fn figures() -> Figures {
        Figures {
            width: 1280,
            height: 720,
            stats: Stats { fps: 59.9, kbps: 2100.4, latency_us: Some(Stages::default()) },
            frames: 10,
            drops: Drops { slow_host: 2, rtp_packets: 1, ..Drops::default() },
            clock: None,
            agent: None,
        }
    }

    #[test]
    fn the_line_fits_and_drops_the_least_important_first() {
        let whole = line(&figures(), usize::MAX, false);
        assert!(
            whole
                .starts_with("1280x720  59.9 fps  2100 kb/s  0.0/0.0 ms  drops 3  convert 0.0/0.0")
        );
        assert!(whole.ends_with("relay 0.0/0.0"));
        for width in 0..whole.len() {
            let short = line(&figures(), width, false);
            assert!(short.len() <= width && whole.starts_with(&short));
        }
        assert!(!whole.contains('\x1b') && line(&figures(), 80, true).contains('\x1b'));
    }

    #[test]
    fn figures_are_flat_json() {
        let value = json!(figures());
        assert_eq!(value["fps"], 59.9);
        assert_eq!(value["latency_us"]["total"]["p95"], 0);
        assert_eq!(value["drops"]["slow_host"], 2);
    }
}
