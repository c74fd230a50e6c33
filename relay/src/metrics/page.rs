//! The page in Prometheus' text format: pure, from what is known to text.
//!
//! Names follow Prometheus' habits: base units, `_total` for what only grows.

use std::fmt::Write;

use transom_protocol::diagnostics::Sample;

use super::is_connected;
use crate::{
    feed::News,
    stats::Percentiles,
    status::{State, figures::Figures},
};

/// One guest at the moment of the request.
#[derive(Debug)]
pub struct View {
    pub name: String,
    pub address: String,
    pub news: News,
    pub figures: Option<Figures>,
    pub sample: Option<Sample>,
    pub viewers: usize,
    pub targets: usize,
}

/// Labels beside the guest's, and a value.
type Values = Vec<(Vec<(&'static str, String)>, f64)>;

/// All metrics of all guests.
pub fn page(guests: &[View]) -> String {
    let mut page = String::new();
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    head(&mut page, "transom_build_info", "gauge", "The relay's version; always 1.");
    line(&mut page, "transom_build_info", &version, 1.0);
    for (name, kind, help, of) in FAMILIES {
        let values: Vec<_> = guests.iter().map(|guest| (guest, of(guest))).collect();
        if values.iter().all(|(_, values)| values.is_empty()) {
            continue;
        }
        head(&mut page, name, kind, help);
        for (guest, values) in values {
            for (mut labels, value) in values {
                labels.insert(0, ("guest", guest.name.clone()));
                line(&mut page, name, &labels, value);
            }
        }
    }
    page
}

type Family = (&'static str, &'static str, &'static str, fn(&View) -> Values);

const FAMILIES: &[Family] = &[
    ("transom_up", "gauge", "Whether the guest's agent is connected.", |g| {
        let labels = vec![("address", g.address.clone())];
        vec![(labels, f64::from(is_connected(&g.news.state)))]
    }),
    ("transom_streaming", "gauge", "Whether the guest shows a picture.", |g| {
        one(f64::from(matches!(g.news.state, State::Streaming { .. })))
    }),
    ("transom_agent_info", "gauge", "The agent's name and version; always 1.", |g| {
        let agent = g.news.agent.as_ref().filter(|_| is_connected(&g.news.state));
        agent.map_or_else(Vec::new, |agent| vec![(vec![("agent", agent.to_string())], 1.0)])
    }),
    ("transom_viewers", "gauge", "Viewers that the relay serves.", |g| one(g.viewers as f64)),
    ("transom_rtp_targets", "gauge", "Addresses that plain RTP is sent to.", |g| {
        one(g.targets as f64)
    }),
    ("transom_frames_total", "counter", "Frames passed on by the relay.", |g| {
        figure(g, |f| f.frames as f64)
    }),
    ("transom_frames_per_second", "gauge", "Frames a second, over the last 5 seconds.", |g| {
        figure(g, |f| f.stats.fps)
    }),
    ("transom_stream_bytes_per_second", "gauge", "H.264 a second, over the last 5 seconds.", |g| {
        figure(g, |f| f.stats.kbps * 1000.0 / 8.0)
    }),
    ("transom_picture_width_pixels", "gauge", "Width of the picture.", |g| {
        figure(g, |f| f64::from(f.width))
    }),
    ("transom_picture_height_pixels", "gauge", "Height of the picture.", |g| {
        figure(g, |f| f64::from(f.height))
    }),
    (
        "transom_latency_seconds",
        "summary",
        "Time that frames spend in each stage, over the last 5 seconds.",
        latency,
    ),
    ("transom_drops_total", "counter", "Frames lost, by cause.", |g| {
        let Some(f) = &g.figures else { return vec![] };
        let drops = f.drops;
        [
            ("slow-host", drops.slow_host),
            ("capture-error", drops.capture_errors),
            ("encode-error", drops.encode_errors),
            ("before-idr", drops.before_idr),
            ("rtp-packet", drops.rtp_packets),
        ]
        .map(|(cause, count)| (vec![("cause", cause.to_owned())], count as f64))
        .into()
    }),
    (
        "transom_clock_uncertainty_seconds",
        "gauge",
        "How far off the guest's clock may be known.",
        |g| {
            let clock = g.figures.as_ref().and_then(|f| f.clock);
            clock.map_or_else(Vec::new, |clock| one(clock.uncertainty_us as f64 / 1e6))
        },
    ),
    ("transom_round_trip_seconds", "gauge", "Best round trip to the agent.", |g| {
        let clock = g.figures.as_ref().and_then(|f| f.clock);
        clock.map_or_else(Vec::new, |clock| one(clock.round_trip_us as f64 / 1e6))
    }),
    ("transom_agent_cpu_seconds_total", "counter", "CPU time of the agent.", |g| {
        let agent = g.figures.as_ref().and_then(|f| f.agent);
        agent.map_or_else(Vec::new, |agent| one(agent.cpu_ns as f64 / 1e9))
    }),
    ("transom_agent_resident_memory_bytes", "gauge", "Resident memory of the agent.", |g| {
        sample(g, |s| s.agent_memory as f64)
    }),
    ("transom_agent_uptime_seconds", "gauge", "How long the agent runs.", |g| {
        sample(g, |s| s.uptime as f64 / 1e3)
    }),
    ("transom_agent_cpu_ratio", "gauge", "Processors that the agent uses.", |g| {
        sample(g, |s| f64::from(s.agent_cpu) / 1e6)
    }),
    ("transom_seen_pictures_per_second", "gauge", "Changed pictures that the agent sees.", |g| {
        sample(g, |s| f64::from(s.seen_rate) / 1e3)
    }),
    ("transom_encoded_frames_per_second", "gauge", "Frames that the agent encodes.", |g| {
        sample(g, |s| f64::from(s.encoded_rate) / 1e3)
    }),
    ("transom_damage_ratio", "gauge", "Share of the picture that changes with a frame.", |g| {
        sample(g, |s| f64::from(s.damage) / 1e6)
    }),
    ("transom_encoder_info", "gauge", "The encoder in use; always 1.", |g| {
        let Some(s) = &g.sample else { return vec![] };
        vec![(vec![("encoder", s.encoder.to_string())], 1.0)]
    }),
    ("transom_encoder_target_bytes_per_second", "gauge", "What the encoder aims at.", |g| {
        sample(g, |s| f64::from(s.target.0) / 8.0)
    }),
    (
        "transom_stalled_seconds",
        "gauge",
        "For how long a stage has not moved; 0 when all do.",
        |g| {
            let Some(s) = &g.sample else { return vec![] };
            match &s.stalled {
                Some((stage, ms)) => vec![(vec![("stage", stage.to_string())], *ms as f64 / 1e3)],
                None => vec![(vec![("stage", String::new())], 0.0)],
            }
        },
    ),
    ("transom_guest_cpu_ratio", "gauge", "Processors of the guest in use.", |g| {
        sample(g, |s| f64::from(s.guest_cpu) / 1e6)
    }),
    ("transom_guest_processors", "gauge", "Processors of the guest.", |g| {
        sample(g, |s| f64::from(s.processors))
    }),
    ("transom_guest_memory_bytes", "gauge", "Memory of the guest.", |g| {
        sample(g, |s| s.memory_total as f64)
    }),
    ("transom_guest_memory_available_bytes", "gauge", "Memory that is left to the guest.", |g| {
        sample(g, |s| s.memory_available as f64)
    }),
];

fn one(value: f64) -> Values {
    vec![(vec![], value)]
}

fn figure(guest: &View, of: impl Fn(&Figures) -> f64) -> Values {
    guest.figures.as_ref().map_or_else(Vec::new, |figures| one(of(figures)))
}

fn sample(guest: &View, of: impl Fn(&Sample) -> f64) -> Values {
    guest.sample.as_ref().map_or_else(Vec::new, |sample| one(of(sample)))
}

fn latency(guest: &View) -> Values {
    let Some(stages) = guest.figures.as_ref().and_then(|f| f.stats.latency_us) else {
        return vec![];
    };
    let stages: [(&str, Percentiles); 6] = [
        ("convert", stages.convert),
        ("encode", stages.encode),
        ("queue", stages.queue),
        ("link", stages.link),
        ("relay", stages.relay),
        ("total", stages.total),
    ];
    let mut values = vec![];
    for (stage, p) in stages {
        for (quantile, micros) in [("0.5", p.p50), ("0.95", p.p95), ("0.99", p.p99)] {
            let labels = vec![("stage", stage.to_owned()), ("quantile", quantile.to_owned())];
            values.push((labels, micros as f64 / 1e6));
        }
    }
    values
}

fn head(page: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(page: &mut String, name: &str, labels: &[(&'static str, String)], value: f64) {
    let labels: Vec<_> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    let _ = writeln!(page, "{name}{{{}}} {value}", labels.join(","));
}

fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::stats::tests::sample;
    use crate::stats::{Stages, Stats};

    fn view(name: &str) -> View {
        let news = News {
            state: State::Streaming { width: 8, height: 4 },
            format: None,
            sets: None,
            agent: Some(transom_protocol::message::Text::new("an \"agent\" \\")),
            boot: None,
            input: crate::input::InputState::Absent,
        };
        let latency_us = Some(Stages {
            encode: Percentiles { p50: 5000, p95: 6000, p99: 7000 },
            ..Stages::default()
        });
        let figures = Figures {
            width: 8,
            height: 4,
            stats: Stats { fps: 59.9, kbps: 800.0, latency_us },
            frames: 77,
            drops: crate::status::figures::Drops { slow_host: 3, ..Default::default() },
            clock: None,
            agent: None,
        };
        View {
            name: name.into(),
            address: "vsock:3".into(),
            news,
            figures: Some(figures),
            sample: Some(sample()),
            viewers: 2,
            targets: 1,
        }
    }

    #[test]
    fn each_family_has_one_head_and_a_line_for_each_guest() {
        let page = page(&[view("a"), view("b")]);
        for part in [
            "transom_up{guest=\"a\",address=\"vsock:3\"} 1\n",
            "transom_frames_total{guest=\"b\"} 77\n",
            "transom_stream_bytes_per_second{guest=\"a\"} 100000\n",
            "transom_latency_seconds{guest=\"a\",stage=\"encode\",quantile=\"0.95\"} 0.006\n",
            "transom_drops_total{guest=\"a\",cause=\"slow-host\"} 3\n",
            "transom_agent_info{guest=\"a\",agent=\"an \\\"agent\\\" \\\\\"} 1\n",
            "transom_stalled_seconds{guest=\"a\",stage=\"encode\"} 2.5\n",
        ] {
            assert!(page.contains(part), "{part} in\n{page}");
        }
        let heads: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let mut unique = heads.clone();
        unique.dedup();
        assert_eq!(heads, unique);
    }

    #[test]
    fn a_guest_that_is_away_has_no_figures() {
        let mut gone = view("a");
        gone.news.state = State::Waiting("it is off".into());
        (gone.figures, gone.sample) = (None, None);
        let page = page(&[gone]);
        assert!(page.contains("transom_up{guest=\"a\",address=\"vsock:3\"} 0\n"));
        assert!(!page.contains("latency") && !page.contains("guest_memory"), "{page}");
    }
}
