//! The live view of `stats --watch` on a terminal: figures with a graph of their last minutes.
//!
//! In: samples, keys, the terminal's size. Out: one page, redrawn at each sample. `q`, Esc and
//! Ctrl-C leave; the terminal is put back on every way out.

use std::collections::VecDeque;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Paragraph, Sparkline, Wrap},
};
use transom_protocol::diagnostics::{Percentiles, Sample};

use super::{display, thousandths};
use crate::diag::{tell, top::percent};

/// Samples kept: more than the widest terminal has columns.
const HISTORY: usize = 600;

/// Width of a figure beside its graph.
const LABEL: u16 = 34;

/// Lines of a graph on a tall terminal: more would not be read better.
const TALLEST: u16 = 6;

/// Lines of a notice at most, and what breaking between words may leave of each.
const MOST_NOTICE: u16 = 4;
const WORD: u16 = 12;

/// What is shown, and its past.
#[derive(Debug)]
pub struct View {
    guest: String,
    agent: String,
    history: VecDeque<Sample>,
    /// What the user should know besides, such as a guest that is silent.
    notice: Option<String>,
}

/// A figure with a graph.
struct Row {
    label: String,
    unit: &'static str,
    /// In thousandths.
    graph: Vec<u64>,
    colour: Color,
}

impl View {
    /// A view that has nothing to show yet.
    pub fn new(guest: String, agent: String) -> Self {
        Self { guest, agent, history: VecDeque::with_capacity(HISTORY), notice: None }
    }

    /// Takes a sample.
    pub fn push(&mut self, sample: Sample) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(sample);
        self.notice = None;
    }

    /// Shows a sentence at the bottom until the next sample.
    pub fn notice(&mut self, text: String) {
        self.notice = Some(text);
    }

    /// Draws the page.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        // A remedy stands at the end of a sentence: all of it has to be seen.
        let length = self.notice.as_ref().map_or(0, |text| text.chars().count());
        let lines = length.div_ceil(usize::from(area.width.saturating_sub(WORD)).max(1));
        let lines = u16::try_from(lines).unwrap_or(u16::MAX).clamp(1, MOST_NOTICE);
        let [head, body, bottom] = Layout::vertical([
            Constraint::Length(4),
            Constraint::Min(0),
            Constraint::Length(lines),
        ])
        .areas(area);
        frame.render_widget(self.head(), head);
        frame.render_widget(self.foot().wrap(Wrap { trim: true }), bottom);
        let rows = self.rows();
        // As many lines each as there is room for, one at least: nothing is left out.
        let height = (body.height / rows.len() as u16).clamp(1, TALLEST);
        let areas = Layout::vertical(rows.iter().map(|_| Constraint::Length(height))).split(body);
        for (row, area) in rows.iter().zip(areas.iter()) {
            draw_row(frame, row, *area);
        }
    }

    fn head(&self) -> Paragraph<'_> {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let mut lines = vec![Line::from(vec![
            Span::styled(self.guest.clone(), bold),
            Span::raw(format!("  {}", self.agent)),
        ])];
        match self.history.back() {
            None => lines.push("waiting for the first figures".into()),
            Some(sample) => {
                let up = tell::span(std::time::Duration::from_millis(sample.uptime));
                let watched = if sample.watched { "" } else { "  nobody watches" };
                let (display, encoder) = (display(sample), &sample.encoder);
                lines.push(format!("{display}  {encoder}  up for {up}{watched}").into());
                lines.push(
                    format!(
                        "target {}, at most {} fps; drops {}, failed looks {}, failed encoders {}",
                        sample.target,
                        sample.frame_rate,
                        sample.dropped_slow_host,
                        sample.capture_errors,
                        sample.encode_errors
                    )
                    .into(),
                );
            }
        }
        Paragraph::new(lines)
    }

    fn foot(&self) -> Paragraph<'_> {
        let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        let stalled = self.history.back().and_then(|sample| sample.stalled.as_ref());
        match (&self.notice, stalled) {
            (Some(text), _) => Paragraph::new(Span::styled(text.as_str(), red)),
            (None, Some((stage, millis))) => {
                let seconds = *millis as f64 / 1000.0;
                let text = format!("STALLED: {stage} has not moved for {seconds:.1} s");
                Paragraph::new(Span::styled(text, red))
            }
            (None, None) => {
                Paragraph::new(Span::styled("q leaves", Style::new().add_modifier(Modifier::DIM)))
            }
        }
    }

    fn rows(&self) -> Vec<Row> {
        let row = |name: &str, unit, colour, figure: &dyn Fn(&Sample) -> (f64, String)| Row {
            label: self
                .history
                .back()
                .map_or_else(|| name.into(), |sample| format!("{name:<8} {}", figure(sample).1)),
            unit,
            // Sparklines are of whole numbers: a thousandth is fine enough.
            graph: self.history.iter().map(|sample| (figure(sample).0 * 1000.0) as u64).collect(),
            colour,
        };
        let stage = |name: &str, colour, of: &dyn Fn(&Sample) -> Percentiles| {
            row(name, "ms", colour, &|sample| {
                let p = of(sample);
                let ms = |micros: u32| f64::from(micros) / 1000.0;
                (ms(p.p95), format!("{:.1}/{:.1}/{:.1} ms", ms(p.p50), ms(p.p95), ms(p.p99)))
            })
        };
        vec![
            row("fps", "fps", Color::Green, &|s| {
                let fps = thousandths(s.encoded_rate);
                (fps, format!("{fps:.1} of {:.1}", thousandths(s.seen_rate)))
            }),
            row("bitrate", "kb/s", Color::Cyan, &|s| {
                (s.bitrate as f64 / 1000.0, format!("{} kb/s", s.bitrate / 1000))
            }),
            row("damage", "%", Color::Magenta, &|s| {
                let share = f64::from(s.damage) / 10_000.0;
                (share, format!("{share:.1} %"))
            }),
            stage("convert", Color::Yellow, &|s| s.convert),
            stage("encode", Color::Yellow, &|s| s.encode),
            stage("queue", Color::Yellow, &|s| s.queue),
            row("agent", "%", Color::Blue, &|s| {
                let cpu = percent(s.agent_cpu);
                (cpu, format!("{cpu:.1} % CPU, {}", tell::bytes(s.agent_memory)))
            }),
            row("guest", "%", Color::Blue, &|s| {
                let cpu = percent(s.guest_cpu);
                (cpu, format!("{cpu:.1} % CPU, {} free", tell::bytes(s.memory_available)))
            }),
        ]
    }
}

fn draw_row(frame: &mut Frame<'_>, row: &Row, area: Rect) {
    let [label, graph] =
        Layout::horizontal([Constraint::Length(LABEL), Constraint::Min(0)]).areas(area);
    let width = usize::from(graph.width);
    let newest = &row.graph[row.graph.len().saturating_sub(width)..];
    let highest = newest.iter().copied().max().unwrap_or(0);
    let mut lines = vec![Line::from(row.label.as_str())];
    if highest > 0 {
        // What the top of the graph stands for; there is no room for it on a single line.
        let scale = format!("         up to {:.1} {}", highest as f64 / 1000.0, row.unit);
        lines.push(Line::styled(scale, Style::new().add_modifier(Modifier::DIM)));
    }
    frame.render_widget(Paragraph::new(lines), label);
    // A graph on the ground line, apart from the one above where there is room.
    let block = if graph.height > 1 {
        Block::new().padding(ratatui::widgets::Padding::top(1))
    } else {
        Block::new()
    };
    // From zero to the highest in sight; a figure that never moved shows as a line at the ground.
    let most = highest.max(1000);
    frame.render_widget(
        Sparkline::default().block(block).data(newest).max(most).style(Style::new().fg(row.colour)),
        graph,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::{Terminal, backend::TestBackend};

    fn page(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a test terminal");
        terminal.draw(|frame| view.draw(frame)).expect("a page");
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(row).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_figure_is_on_the_page_at_any_size() {
        let mut view = View::new("vsock:3".into(), "transom-agent 1".into());
        assert!(page(&view, 80, 24).contains("waiting for the first figures"));
        for i in 0..2000 {
            view.push(Sample { bitrate: i * 1000, ..crate::diag::stats::tests::sample() });
        }
        for (width, height) in [(80, 24), (200, 60), (80, 13)] {
            let page = page(&view, width, height);
            for part in [
                "vsock:3",
                "1280x720",
                "fps",
                "bitrate  1999 kb/s",
                "damage",
                "convert",
                "encode   5.1/8.8/9.9 ms",
                "queue",
                "agent",
                "guest",
                "STALLED",
            ] {
                assert!(page.contains(part), "{part:?} at {width}x{height} in\n{page}");
            }
            assert!(page.contains('█'), "a graph in\n{page}");
            // The scale, where there is a second line for it.
            assert_eq!(page.contains("up to 1999.0 kb/s"), height > 13, "{page}");
        }
        // Too small to be of use, but no reason to fail.
        for (width, height) in [(1, 1), (20, 3), (34, 5)] {
            page(&view, width, height);
        }
        view.notice("the guest is silent".into());
        assert!(page(&view, 80, 24).contains("the guest is silent"));
        let long = "nobody listens on this socket, which is a long word for it ".repeat(3);
        view.notice(format!("{long}: start the VM"));
        let page = page(&view, 80, 24);
        assert!(page.contains("start the VM") && page.contains("guest "), "{page}");
    }
}
