//! What the relay knows, put together for its user.

use std::time::{Duration, Instant};

use transom_protocol::message::{Report, VideoFormat};

use super::Relay;
use crate::{
    session::Session,
    status::{
        State,
        figures::{AgentFigures, ClockFigures, Drops, Figures},
        no_picture,
    },
};

impl Relay {
    pub(super) fn set_state(&mut self, state: State) {
        self.source.tell(|news| news.state = state.clone());
        self.status.state(state);
    }

    pub(super) fn handle_report(&mut self, report: Report) {
        let now = Instant::now();
        self.cpu_percent = self.report.and_then(|(then, before)| {
            let spent = report.cpu.checked_sub(before.cpu)? as f64;
            let passed = now.saturating_duration_since(then).as_nanos().max(1) as f64;
            Some((spent / passed * 1000.0).round() / 10.0)
        });
        self.report = Some((now, report));
    }

    /// `settled`: some time has passed since the last change, so that a state on the way to
    /// another is worth telling too.
    pub(super) fn tell_state(&mut self, settled: bool) {
        let state = match (self.display.as_ref().map(no_picture), self.format) {
            (Some(Some(words)), _) => State::NoPicture(words),
            (_, Some(VideoFormat { width, height, .. })) => State::Streaming { width, height },
            (Some(None), None) if settled => State::NoPicture("the first one is on its way".into()),
            (None, None) if settled => {
                State::NoPicture("the agent does not say what it sees".into())
            }
            _ => return,
        };
        self.set_state(state);
    }

    pub(super) fn tell_figures(&mut self, session: &Session, now: Instant) {
        let Some(VideoFormat { width, height, .. }) = self.format else { return };
        let report = self.report.map(|(_, report)| report);
        let guest = report.unwrap_or_default();
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        let figures = Figures {
            width,
            height,
            stats: self.collector.stats(now),
            frames: self.frames,
            drops: Drops {
                slow_host: guest.dropped_slow_host,
                capture_errors: guest.capture_errors,
                encode_errors: guest.encode_errors,
                before_idr: self.skipped + session.skipped(),
                rtp_packets: self.video.dropped(),
            },
            clock: session.clock().estimate(now).map(|clock| ClockFigures {
                offset_us: clock.offset / 1000,
                uncertainty_us: micros(clock.uncertainty),
                round_trip_us: micros(clock.round_trip),
            }),
            agent: report.map(|report| AgentFigures {
                seen: report.seen,
                encoded: report.encoded,
                sent: report.sent,
                cpu_ns: report.cpu,
                cpu_percent: self.cpu_percent,
                resident_bytes: report.resident,
            }),
        };
        self.status.figures(now, &figures);
        self.source.tell_figures(Some(figures));
    }
}
