//! What the diagnostic verbs say on stdout: text for people, JSON lines for programs
//! (docs/json.md). Colours only where a person looks.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::DiagError;
use crate::guest::GuestAddr;

/// Writes to stdout.
///
/// # Errors
///
/// [`DiagError::OutputGone`] when its reader has gone.
pub fn say(text: &str) -> Result<(), DiagError> {
    say_bytes(text.as_bytes())
}

/// The same for bytes that are none of ours.
///
/// # Errors
///
/// [`DiagError::OutputGone`] when its reader has gone.
pub fn say_bytes(bytes: &[u8]) -> Result<(), DiagError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| match e.kind() {
        io::ErrorKind::BrokenPipe => DiagError::OutputGone,
        _ => DiagError::Terminal(e),
    })
}

/// One JSON line about a guest.
pub fn event(kind: &str, guest: &GuestAddr, mut body: Value) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    body["event"] = kind.into();
    body["guest"] = guest.to_string().into();
    body["time"] = json!((now.as_secs_f64() * 1000.0).round() / 1000.0);
    format!("{body}\n")
}

/// Whether colours are welcome on stdout.
pub fn colours() -> bool {
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    io::stdout().is_terminal() && env("NO_COLOR").is_empty() && env("TERM") != "dumb"
}

/// A text in a colour, if colours are welcome.
#[derive(Debug, Clone, Copy)]
pub struct Paint<'a>(pub &'a str, pub &'static str);

/// SGR parameters.
pub const RED: &str = "31";
/// SGR parameters.
pub const GREEN: &str = "32";
/// SGR parameters.
pub const YELLOW: &str = "33";
/// SGR parameters.
pub const DIM: &str = "2";
/// SGR parameters.
pub const BOLD: &str = "1";
/// SGR parameters.
pub const PLAIN: &str = "";

impl fmt::Display for Paint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text, sgr) = self;
        if sgr.is_empty() { f.pad(text) } else { write!(f, "\x1b[{sgr}m{text}\x1b[0m") }
    }
}

/// A number of bytes for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    match unit {
        0 => format!("{count} B"),
        _ if value < 10.0 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// A time span for people: `3 d 4 h`, `12 min 5 s`, `40 s`.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (d, h, m, s) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, _) => format!("{m} min {s} s"),
        (0, _, _) => format!("{h} h {m} min"),
        _ => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_are_short() {
        assert_eq!([0, 1023, 1024, 300 << 20].map(bytes), ["0 B", "1023 B", "1.0 KiB", "300 MiB"]);
        let spans = [40, 725, 7260, 273_600].map(|s| span(Duration::from_secs(s)));
        assert_eq!(spans, ["40 s", "12 min 5 s", "2 h 1 min", "3 d 4 h"]);
    }

    #[test]
    fn an_event_has_its_kind_and_its_guest() {
        let line = event("x", &GuestAddr::Vsock { cid: 3 }, json!({ "a": 1 }));
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            (&value["event"], &value["guest"], &value["a"]),
            (&json!("x"), &json!("vsock:3"), &json!(1))
        );
        assert!(line.ends_with("}\n") && value["time"].as_f64().is_some_and(|t| t > 1e9));
    }
}
