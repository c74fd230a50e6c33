//! Log records of a guest: of the agent, the kernel, the journal.

use std::time::Duration;

use serde_json::{Value, json};
use transom_protocol::diagnostics::{GuestDiagnostics, LogLevel, Request};

use super::{Answers, Client, DiagError, tell};

/// Names of the levels, gravest first, as syslog counts.
pub const LEVELS: [&str; 8] =
    ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];

/// The same, short enough for a column.
const SHORT: [&str; 8] = ["emerg", "alert", "crit", "error", "warn", "note", "info", "debug"];

/// One record, or a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A record.
    Record {
        /// Microseconds since 1970 by the guest's clock.
        time: u64,
        /// How grave.
        level: LogLevel,
        /// Who wrote it.
        origin: String,
        /// What it says.
        text: String,
    },
    /// So many are missing here, since we read too slowly.
    Lost(u64),
}

/// Records under way.
#[derive(Debug)]
pub struct Logs(Answers);

impl Logs {
    /// Asks for records; `request` is a [`Request::Logs`].
    ///
    /// # Errors
    ///
    /// See [`DiagError`].
    pub async fn open(client: &Client, request: Request) -> Result<Self, DiagError> {
        let follow = matches!(request, Request::Logs { follow: true, .. });
        let mut answers = client.ask(request).await?;
        if follow {
            // A quiet log is a good sign; heartbeat.rs watches the guest meanwhile.
            answers.set_silence(None);
        }
        Ok(Self(answers))
    }

    /// The next one. May be dropped at any time.
    ///
    /// # Errors
    ///
    /// See [`DiagError`].
    pub async fn next(&mut self) -> Result<Option<Entry>, DiagError> {
        while let Some(answer) = self.0.next().await? {
            match answer.message {
                GuestDiagnostics::Record { time, level, origin, text } => {
                    let (origin, text) = (origin.to_string(), text.to_string());
                    return Ok(Some(Entry::Record { time, level, origin, text }));
                }
                GuestDiagnostics::RecordsLost(count) => return Ok(Some(Entry::Lost(count))),
                _ => {}
            }
        }
        Ok(None)
    }
}

impl Entry {
    /// The event's name in JSON, and its body.
    pub fn json(&self) -> (&'static str, Value) {
        match self {
            Self::Record { time, level, origin, text } => (
                "record",
                json!({
                    "at": *time as f64 / 1e6, "level": level_name(*level), "origin": origin, "text": text,
                }),
            ),
            Self::Lost(count) => ("records-lost", json!({ "count": count })),
        }
    }

    /// A line for people, in their time zone.
    pub fn line(&self, colours: bool) -> String {
        let paint = |sgr| if colours { sgr } else { tell::PLAIN };
        match self {
            Self::Record { time, level, origin, text } => {
                let sgr = match level.0 {
                    0..=3 => tell::RED,
                    4 => tell::YELLOW,
                    7 => tell::DIM,
                    _ => tell::PLAIN,
                };
                let short = SHORT.get(usize::from(level.0)).copied().unwrap_or("debug");
                format!(
                    "{} {:<5} {} {}\n",
                    tell::Paint(&local(*time), paint(tell::DIM)),
                    short,
                    tell::Paint(origin, paint(tell::BOLD)),
                    tell::Paint(text, paint(sgr))
                )
            }
            Self::Lost(count) => {
                let text = format!(
                    "… {count} records are missing here: they were written faster than read"
                );
                format!("{}\n", tell::Paint(&text, paint(tell::YELLOW)))
            }
        }
    }
}

/// The name of a level.
pub fn level_name(level: LogLevel) -> &'static str {
    LEVELS.get(usize::from(level.0)).copied().unwrap_or("debug")
}

/// Reads a level: its name, the start of its name, or syslog's number.
///
/// # Errors
///
/// Words for a user.
pub fn level(text: &str) -> Result<LogLevel, String> {
    let text = text.to_ascii_lowercase();
    if let Ok(number @ 0..=7) = text.parse() {
        return Ok(LogLevel(number));
    }
    let found = LEVELS.iter().position(|name| text.len() >= 3 && name.starts_with(&text));
    match found.or((text == "panic").then_some(0)) {
        Some(number) => Ok(LogLevel(number as u8)),
        None => Err(format!("one of {}, or 0 to 7", LEVELS.join(", "))),
    }
}

/// Reads a span such as `90s`, `10m`, `2h`, `3d`; seconds without a unit.
///
/// # Errors
///
/// Words for a user.
pub fn since(text: &str) -> Result<Duration, String> {
    let wrong = || "a span back from now, such as 30s, 10m, 2h or 3d".to_owned();
    let units = [("s", 1.0), ("min", 60.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
        .unwrap_or((text, 1.0));
    let seconds = number.trim().parse::<f64>().map_err(|_| wrong())? * factor;
    if (1.0..=f64::from(u32::MAX)).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(wrong())
    }
}

fn local(micros: u64) -> String {
    let time = i64::try_from(micros).ok().and_then(|t| jiff::Timestamp::from_microsecond(t).ok());
    match time {
        Some(time) => {
            let zoned = time.to_zoned_datetime(jiff::tz::TimeZone::system());
            zoned.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
        }
        None => "(no time)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_spans_read() {
        assert_eq!(
            ["err", "WARNING", "warn", "7", "emerg"].map(level),
            [3, 4, 4, 7, 0].map(|l| Ok(LogLevel(l)))
        );
        assert!(["", "e", "8", "loud"].iter().all(|text| level(text).is_err()));
        assert_eq!(
            ["45", "10m", "1.5h", "2d"].map(|t| since(t).map(|d| d.as_secs())),
            [45, 600, 5400, 172_800].map(Ok)
        );
        assert!(["", "0", "m", "-1h", "1e20d", "nan"].iter().all(|text| since(text).is_err()));
    }

    #[test]
    fn lines_have_colours_on_request_alone() {
        let (origin, text) = ("kernel".to_owned(), "it broke".to_owned());
        let entry = Entry::Record { time: 1_700_000_000_123_456, level: LogLevel(3), origin, text };
        assert!(entry.line(true).contains("\x1b[31mit broke\x1b[0m"));
        let plain = entry.line(false);
        assert!(plain.ends_with(".123 error kernel it broke\n"), "{plain}");
        assert!(Entry::Lost(7).line(false).contains("7 records are missing"));
        let wild = Entry::Record {
            time: u64::MAX,
            level: LogLevel(200),
            origin: String::new(),
            text: String::new(),
        };
        assert!(wild.line(false).contains("(no time)"));
    }
}
