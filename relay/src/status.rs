//! What the relay tells its user on stdout: a live line on a terminal, plain lines elsewhere, or
//! JSON lines, whose schema stands in docs/json.md. Logs go to stderr.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;
use transom_protocol::message::{DisplayState, Unreadable};

pub mod figures;

use figures::{Figures, line};

/// Between plain lines; a log should be readable.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Whether the cursor stands behind a live line that a log line must not run into.
static LIVE: AtomicBool = AtomicBool::new(false);

/// What the relay is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Trying for the first time.
    Connecting,
    /// The guest cannot be reached, and why; it is tried again.
    Waiting(String),
    /// Connected, but there is no picture, and why.
    NoPicture(String),
    /// Pictures are coming.
    Streaming {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// Another relay took over.
    TakenOver,
    /// The user ended it.
    Ended,
}

impl State {
    /// Its name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Waiting(_) => "waiting",
            Self::NoPicture(_) => "no-picture",
            Self::Streaming { .. } => "streaming",
            Self::TakenOver => "taken-over",
            Self::Ended => "ended",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Waiting(why) => write!(f, "waiting for the guest: {why}"),
            Self::NoPicture(why) => write!(f, "no picture: {why}"),
            Self::Streaming { width, height } => write!(f, "streaming {width}x{height}"),
            Self::TakenOver => f.write_str("another relay has taken over this guest"),
            Self::Ended => f.write_str("ended"),
        }
    }
}

/// A display's state in words, with what to do about it; nothing if it shows a picture.
pub fn no_picture(state: &DisplayState) -> Option<String> {
    Some(match state {
        DisplayState::Lit(_) => return None,
        DisplayState::NoCard { reason } if reason.as_str().is_empty() => {
            "the guest has no display card. Give the VM one, such as virtio-gpu".into()
        }
        DisplayState::NoCard { reason } => {
            format!("the guest's display card cannot be used: {reason}")
        }
        DisplayState::Dark { card } => {
            format!(
                "{card} shows nothing: a VT switch, a compositor that (re)starts, or a blank screen"
            )
        }
        DisplayState::Unreadable { scanout, why } => {
            let code =
                scanout.fourcc.to_le_bytes().map(|b| if b.is_ascii_graphic() { b } else { b'?' });
            let what = format!(
                "{} {}x{} {} modifier {:#x}",
                scanout.card,
                scanout.width,
                scanout.height,
                String::from_utf8_lossy(&code),
                scanout.modifier
            );
            let why = match why {
                Unreadable::Format => {
                    "has a pixel format that is not supported. Make the compositor use XRGB8888"
                        .into()
                }
                Unreadable::Tiled => {
                    "is tiled or compressed, and GBM does not read it: the agent's log says why. Make \
                     the compositor use linear buffers"
                        .into()
                }
                Unreadable::NotPermitted => {
                    "is closed to the agent, which needs CAP_SYS_ADMIN: run it by its systemd unit"
                        .into()
                }
                Unreadable::Map(errno) => format!("cannot be mapped (errno {errno})"),
                Unreadable::Size => {
                    "has a size that the encoder cannot take. Choose another mode".into()
                }
            };
            format!("{what} {why}")
        }
    })
}

/// Where the user is told.
#[derive(Debug)]
pub struct Status {
    mode: Mode,
    /// The guest's name, where several share the output.
    name: Option<String>,
    colour: bool,
    state: State,
    next_plain: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Terminal,
    Plain,
    Json,
}

impl Status {
    /// Picks the way by what stdout is. Guests that have a `name` share it, line by line.
    pub fn new(json: bool, name: Option<String>) -> Self {
        let env = |name: &str| std::env::var(name).unwrap_or_default();
        let terminal = io::stdout().is_terminal() && env("TERM") != "dumb";
        let mode = match (json, terminal && name.is_none()) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Terminal,
            (false, false) => Mode::Plain,
        };
        Self {
            mode,
            name,
            colour: env("NO_COLOR").is_empty(),
            state: State::Connecting,
            next_plain: None,
        }
    }

    /// Tells a state, if it is another one than before.
    pub fn state(&mut self, state: State) {
        if state == self.state {
            return;
        }
        match self.mode {
            Mode::Json => {
                let size = match state {
                    State::Streaming { width, height } => Some((width, height)),
                    _ => None,
                };
                self.event(
                    "state",
                    json!({
                        "state": state.name(), "text": state.to_string(),
                        "width": size.map(|s| s.0), "height": size.map(|s| s.1),
                    }),
                );
            }
            Mode::Plain => say(&format!("{}{state}\n", self.prefix())),
            // Longer than a line can show, and worth keeping.
            Mode::Terminal => say(&format!("{}{state}\n", clear())),
        }
        self.state = state;
        self.next_plain = None;
    }

    /// Tells the figures of the last second.
    pub fn figures(&mut self, now: Instant, figures: &Figures) {
        match self.mode {
            Mode::Json => self.event("stats", json!(figures)),
            Mode::Plain if self.next_plain.is_none_or(|next| next <= now) => {
                // The first line would tell of a second that has just begun.
                if self.next_plain.is_some() {
                    say(&format!("{}{}\n", self.prefix(), line(figures, usize::MAX, false)));
                }
                self.next_plain = Some(now + PLAIN_INTERVAL);
            }
            Mode::Plain => {}
            Mode::Terminal => {
                let width = terminal_size::terminal_size().map_or(80, |(w, _)| usize::from(w.0));
                // The last column stays free: some terminals wrap when it is written.
                say(&format!("\r{}\x1b[K", line(figures, width.saturating_sub(1), self.colour)));
                LIVE.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Tells that a new session description is there.
    pub fn sdp(&mut self, path: &Path) {
        match self.mode {
            Mode::Json => self.event("sdp", json!({ "path": path.to_string_lossy() })),
            Mode::Plain | Mode::Terminal => {
                say(&format!("{}described in {}\n", clear(), path.display()));
            }
        }
    }

    /// Tells what went wrong and is survived, or ends the run.
    pub fn error(&mut self, text: &str) {
        if self.mode == Mode::Json {
            self.event("error", json!({ "text": text }));
        }
    }

    /// Leaves the terminal as it was found.
    pub fn finish(&mut self) {
        if LIVE.swap(false, Ordering::Relaxed) {
            say("\n");
        }
    }

    fn prefix(&self) -> String {
        self.name.as_ref().map_or_else(String::new, |name| format!("{name}: "))
    }

    fn event(&self, kind: &str, mut body: serde_json::Value) {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        body["event"] = kind.into();
        body["time"] = ((time.as_secs_f64() * 1000.0).round() / 1000.0).into();
        if let Some(name) = &self.name {
            body["guest"] = name.as_str().into();
        }
        say(&format!("{body}\n"));
    }
}

/// Ends a live line before something else is written.
fn clear() -> &'static str {
    if LIVE.swap(false, Ordering::Relaxed) { "\r\x1b[K" } else { "" }
}

/// A reader that went away is no reason to stop the stream.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// stderr for the logger: keeps log lines and the live line apart.
#[derive(Debug, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        say(clear());
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use transom_protocol::message::{Scanout, Text};

    #[test]
    fn displays_without_a_picture_are_put_in_words() {
        let card = Text::new("/dev/dri/card0 (i915)");
        let scanout =
            Scanout { card: card.clone(), width: 8, height: 4, fourcc: 0x3432_5258, modifier: 1 };
        assert_eq!(no_picture(&DisplayState::Lit(scanout.clone())), None);
        let tiled = DisplayState::Unreadable { scanout, why: Unreadable::Tiled };
        let words = no_picture(&tiled).expect("no picture");
        assert!(
            words.starts_with("/dev/dri/card0 (i915) 8x4 XR24 modifier 0x1 is tiled"),
            "{words}"
        );
        assert!(no_picture(&DisplayState::Dark { card }).expect("no picture").contains("card0"));
    }
}
