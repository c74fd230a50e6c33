//! Plots for pages of documentation: SVG, written by hand.
//!
//! In: figures with their names. Out: the text of a file. Grey and the colours are of a tone that
//! can be read on white and on black alike, since the page's theme does not reach into an image.

use std::fmt::Write as _;

/// Colours of what is compared: ours, up to two others, and ours again under other circumstances.
pub const COLOURS: [&str; 4] = ["#2f81f7", "#bf8700", "#8b949e", "#79c0ff"];
/// Text, axes and grids.
const GREY: &str = "#768390";
const BAR: f64 = 14.0;
const RIGHT: f64 = 80.0;
const WIDTH: f64 = 500.0;
const TOP: f64 = 56.0;
/// Width of a character of text, about.
const CHARACTER: f64 = 6.2;
/// Height of a panel of lines, and what is between two.
const PANEL: f64 = 130.0;
const GAP: f64 = 34.0;

/// How bars grow with their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From zero on.
    Linear,
    /// By decades; zero has no bar.
    Logarithmic,
}

/// Bars in groups.
#[derive(Debug)]
pub struct Bars<'a> {
    /// What is shown, and in which unit.
    pub title: &'a str,
    /// Of each bar in a group.
    pub names: &'a [&'a str],
    /// Name and values; what was not measured is left out.
    pub groups: &'a [(String, Vec<Option<f64>>)],
    /// How long the bars are.
    pub scale: Scale,
}

/// A picture of lines over time, in panels that share it.
#[derive(Debug)]
pub struct Lines<'a> {
    /// What is shown.
    pub title: &'a str,
    /// Of each line in a panel.
    pub names: &'a [&'a str],
    /// From above to below.
    pub panels: &'a [Panel<'a>],
    /// How many seconds there are.
    pub seconds: f64,
}

/// One of them.
#[derive(Debug)]
pub struct Panel<'a> {
    /// What grows upwards, and in which unit.
    pub title: &'a str,
    /// Where it ends; what is larger is drawn there.
    pub most: f64,
    /// Seconds and value; a gap where there is none.
    pub lines: Vec<Vec<(f64, Option<f64>)>>,
    /// What bounds them: the same as a dashed line.
    pub bound: Vec<(f64, f64)>,
}

/// The text of a file as it grows.
struct Svg(String);

impl Svg {
    fn new(width: f64, height: f64, title: &str) -> Self {
        let mut svg = Self(String::new());
        svg.line(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" \
             font-family=\"sans-serif\" font-size=\"12\" fill=\"{GREY}\">"
        ));
        let title = escape(title);
        svg.line(format_args!("<title>{title}</title>"));
        svg.line(format_args!("<text x=\"8\" y=\"18\" font-size=\"14\">{title}</text>"));
        svg
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{text}");
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = escape(text);
        self.line(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    fn path(&mut self, path: &str, stroke: &str, more: &str) {
        self.line(format_args!("<path d=\"{path}\" fill=\"none\" stroke=\"{stroke}\"{more}/>"));
    }

    fn legend(&mut self, names: &[&str], left: f64) {
        let mut x = left;
        for (name, colour) in names.iter().zip(COLOURS) {
            self.line(format_args!(
                "<rect x=\"{x:.1}\" y=\"30\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"
            ));
            self.text(x + 18.0, 40.0, "start", name);
            x += 44.0 + CHARACTER * name.chars().count() as f64;
        }
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The next larger of 1, 2 and 5 with noughts.
fn round_up(value: f64) -> f64 {
    let decade = 10f64.powf(value.max(f64::MIN_POSITIVE).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|step| step * decade)
        .into_iter()
        .find(|v| *v >= value)
        .unwrap_or(value)
}

fn shown(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        ..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

impl Bars<'_> {
    /// Draws it.
    pub fn draw(&self) -> String {
        let values = || self.groups.iter().flat_map(|(_, values)| values).flatten().copied();
        let positive = || values().filter(|value| *value > 0.0);
        let longest = self.groups.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let left = 20.0 + CHARACTER * longest as f64;
        let most = positive().fold(f64::MIN_POSITIVE, f64::max);
        let (ticks, length): (Vec<f64>, Box<dyn Fn(f64) -> f64>) = match self.scale {
            Scale::Linear => {
                let step = round_up(most / 5.0);
                let end = (most / step).ceil() * step;
                let ticks = (0..=(end / step).round() as u32).map(|n| f64::from(n) * step);
                (ticks.collect(), Box::new(move |value| value / end))
            }
            Scale::Logarithmic => {
                let least = positive().fold(f64::MAX, f64::min).min(most).log10().floor();
                let decades = (most.log10().ceil() - least).max(1.0);
                let ticks = (0..=decades as i32).map(|n| 10f64.powf(least + f64::from(n)));
                let at = move |value: f64| {
                    if value > 0.0 { (value.log10() - least) / decades } else { 0.0 }
                };
                (ticks.collect(), Box::new(at))
            }
        };
        let at = |value: f64| WIDTH * length(value).clamp(0.0, 1.0);
        let group = BAR * self.names.len() as f64 + 12.0;
        let height = TOP + group * self.groups.len() as f64 + 26.0;
        let mut svg = Svg::new(left + WIDTH + RIGHT, height, self.title);
        svg.legend(self.names, left);
        for tick in ticks {
            let x = left + at(tick);
            svg.path(
                &format!("M{x:.1} {TOP}V{:.1}", height - 22.0),
                GREY,
                " stroke-opacity=\".35\"",
            );
            svg.text(x, height - 6.0, "middle", &format!("{}", (tick * 1e6).round() / 1e6));
        }
        for (n, (name, values)) in self.groups.iter().enumerate() {
            let y = TOP + 6.0 + group * n as f64;
            svg.text(8.0, y + BAR * values.len() as f64 / 2.0 + 3.0, "start", name);
            for (i, (value, colour)) in values.iter().zip(COLOURS).enumerate() {
                let Some(value) = value else { continue };
                let wide = if *value > 0.0 { at(*value).max(1.0) } else { 0.0 };
                let y = y + BAR * i as f64;
                svg.line(format_args!(
                    "<rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{}\" fill=\"{colour}\"/>",
                    BAR - 2.0
                ));
                svg.text(left + wide + 5.0, y + 10.0, "start", &shown(*value));
            }
        }
        svg.end()
    }
}

impl Lines<'_> {
    /// Draws it.
    pub fn draw(&self) -> String {
        let left = 60.0;
        let height = TOP + (PANEL + GAP) * self.panels.len() as f64 + 20.0;
        let mut svg = Svg::new(left + WIDTH + 60.0, height, self.title);
        svg.legend(self.names, left);
        let x = |seconds: f64| left + WIDTH * seconds / self.seconds;
        for (n, panel) in self.panels.iter().enumerate() {
            let top = TOP + 20.0 + (PANEL + GAP) * n as f64;
            let y = |value: f64| top + PANEL * (1.0 - value.clamp(0.0, panel.most) / panel.most);
            svg.text(left, top - 7.0, "start", panel.title);
            let step = round_up(panel.most / 5.0);
            for tick in 0..=(panel.most / step).floor() as u32 {
                let value = f64::from(tick) * step;
                let (y, right) = (y(value), left + WIDTH);
                svg.path(&format!("M{left} {y:.1}H{right}"), GREY, " stroke-opacity=\".25\"");
                svg.text(left - 6.0, y + 4.0, "end", &format!("{value}"));
            }
            let bound = panel.bound.iter().map(|(at, value)| (*at, Some(*value)));
            let dashed = " stroke-dasharray=\"5 4\"";
            svg.path(&polyline(bound, x, y), GREY, dashed);
            for (line, colour) in panel.lines.iter().zip(COLOURS) {
                svg.path(&polyline(line.iter().copied(), x, y), colour, " stroke-width=\"1.6\"");
            }
        }
        let bottom = height - 14.0;
        let step = round_up(self.seconds / 8.0);
        for tick in 0..=(self.seconds / step).floor() as u32 {
            let seconds = f64::from(tick) * step;
            svg.text(x(seconds), bottom, "middle", &format!("{seconds} s"));
        }
        svg.end()
    }
}

fn polyline(
    points: impl Iterator<Item = (f64, Option<f64>)>,
    x: impl Fn(f64) -> f64,
    y: impl Fn(f64) -> f64,
) -> String {
    let (mut path, mut pen) = (String::new(), 'M');
    for (at, value) in points {
        let Some(value) = value else {
            pen = 'M';
            continue;
        };
        // Writing to a string cannot fail.
        let _ = write!(path, "{pen}{:.1} {:.1}", x(at), y(value));
        pen = 'L';
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            [0.3, 1.0, 1.1, 4.0, 5.1, 130.0].map(round_up),
            [0.5, 1.0, 2.0, 5.0, 10.0, 200.0]
        );
    }

    #[test]
    fn bars_are_as_long_as_their_values_and_names_are_escaped() {
        let groups = [("a & b".to_owned(), vec![Some(50.0), Some(100.0), None])];
        let bars =
            Bars { title: "x < y", names: &["p", "q", "r"], groups: &groups, scale: Scale::Linear };
        let svg = bars.draw();
        assert!(svg.contains("width=\"250.0\"") && svg.contains("width=\"500.0\""), "{svg}");
        assert!(svg.contains("a &amp; b") && svg.contains("x &lt; y"), "{svg}");
        assert_eq!(svg.matches("height=\"12\" fill=\"#8b949e\"").count(), 1, "only in the legend");
    }

    #[test]
    fn a_decade_is_a_decade_and_zero_has_no_bar() {
        let groups = [("g".to_owned(), vec![Some(1.0), Some(10.0), Some(0.0)])];
        let bars = Bars {
            title: "t",
            names: &["p", "q", "r"],
            groups: &groups,
            scale: Scale::Logarithmic,
        };
        let svg = bars.draw();
        assert!(svg.contains("width=\"1.0\"") && svg.contains("width=\"500.0\""), "{svg}");
        assert!(svg.contains("width=\"0.0\""), "{svg}");
    }

    #[test]
    fn a_gap_lifts_the_pen() {
        let points = [(0.0, Some(1.0)), (1.0, None), (2.0, Some(3.0)), (3.0, Some(4.0))];
        assert_eq!(polyline(points.into_iter(), |x| x, |y| y), "M0.0 1.0M2.0 3.0L3.0 4.0");
    }
}
