//! A plot of what the encoders cost, on a logarithmic scale: SVG, written by hand.
//!
//! In: for each scene, a figure for each encoder. Out: the text of a file. Colours and type suit
//! pages that are light or dark.

use std::fmt::Write as _;

/// Name and colour of each encoder.
const ENCODERS: [(&str, &str); 4] = [
    ("Transom, damage told", "#79c0ff"),
    ("Transom", "#2f81f7"),
    ("x264 ultrafast", "#d29922"),
    ("OpenH264", "#8b949e"),
];
const BAR: f64 = 14.0;
const LEFT: f64 = 110.0;
const WIDTH: f64 = 520.0;
const TOP: f64 = 56.0;

/// Draws one group of bars for each scene.
pub fn bars(title: &str, scenes: &[(String, [f64; 4])]) -> String {
    let all = || scenes.iter().flat_map(|(_, values)| values).copied().filter(|v| *v > 0.0);
    let least = all().fold(f64::MAX, f64::min).log10().floor();
    let most = all().fold(f64::MIN, f64::max).log10().ceil().max(least + 1.0);
    let at = |value: f64| WIDTH * (value.log10() - least) / (most - least);
    let group = BAR * ENCODERS.len() as f64 + 12.0;
    let height = TOP + group * scenes.len() as f64 + 26.0;
    let mut svg = String::new();
    let mut line = |text: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(svg, "{text}");
    };
    line(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#808890\">",
        LEFT + WIDTH + 70.0
    ));
    line(format!("<text x=\"8\" y=\"18\" font-size=\"14\">{title}</text>"));
    for (n, (name, colour)) in ENCODERS.iter().enumerate() {
        let x = 8.0 + n as f64 * 165.0;
        line(format!("<rect x=\"{x}\" y=\"30\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"));
        line(format!("<text x=\"{}\" y=\"40\">{name}</text>", x + 18.0));
    }
    for decade in least as i32..=most as i32 {
        let x = LEFT + at(10f64.powi(decade));
        line(format!(
            "<path d=\"M{x:.1} {TOP}V{:.1}\" stroke=\"#808890\" stroke-opacity=\".35\"/>",
            height - 22.0
        ));
        let label = 10f64.powi(decade);
        line(format!(
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            height - 6.0
        ));
    }
    for (n, (scene, values)) in scenes.iter().enumerate() {
        let y = TOP + 6.0 + group * n as f64;
        line(format!("<text x=\"8\" y=\"{:.1}\">{scene}</text>", y + group / 2.0 - 2.0));
        for (i, (value, (_, colour))) in values.iter().zip(ENCODERS).enumerate() {
            // What costs nothing at all has no place on this scale, and no bar.
            if *value <= 0.0 {
                continue;
            }
            let wide = at(*value).max(1.0);
            let y = y + BAR * i as f64;
            line(format!(
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{}\" fill=\"{colour}\"/>",
                BAR - 2.0
            ));
            let shown = match *value {
                ..0.1 => format!("{value:.4}"),
                ..10.0 => format!("{value:.2}"),
                _ => format!("{value:.0}"),
            };
            line(format!(
                "<text x=\"{:.1}\" y=\"{:.1}\">{shown}</text>",
                LEFT + wide + 5.0,
                y + 10.0
            ));
        }
    }
    line("</svg>".into());
    svg
}
