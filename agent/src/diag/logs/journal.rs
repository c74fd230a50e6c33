//! The system's journal, as `journalctl` exports it (systemd's "Journal Export Format").
//!
//! The journal itself is the buffer: journalctl waits while the host reads slowly, and whoever logs
//! does not.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use transom_protocol::diagnostics::{GuestDiagnostics, Line, LogLevel, MAX_LINE};
use transom_protocol::message::Text;

use super::{Wanted, wait};
use crate::diag::conversation::{Answer, Conversation, failed};

/// Longer fields are cut.
const MAX_FIELD: usize = MAX_LINE;
/// Fields of one entry; more are left out.
const MAX_FIELDS: usize = 16;

/// Cuts a journal export into entries, in whatever pieces it comes.
#[derive(Debug, Default)]
pub struct Export {
    state: State,
    line: Vec<u8>,
    fields: Vec<(String, Vec<u8>)>,
    /// Bytes fed to a binary field's value that are not there yet.
    left: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Line,
    /// Eight bytes of length, little-endian.
    Length,
    Value,
    /// The line break behind a binary value.
    After,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Its fields, in the order that they came.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Entry {
    /// A field as text.
    pub fn text(&self, name: &str) -> Option<String> {
        let (_, value) = self.fields.iter().find(|(field, _)| field == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }
}

impl Export {
    /// Takes more bytes; yields the entries that are complete with them.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        for &byte in bytes {
            match self.state {
                State::Line if byte == b'\n' => self.end_line(&mut entries),
                State::Line => keep(&mut self.line, byte),
                State::Length => {
                    self.line.push(byte);
                    if let Ok(length) = <[u8; 8]>::try_from(&self.line[..]) {
                        self.left = u64::from_le_bytes(length);
                        self.line.clear();
                        self.state = if self.left == 0 { State::After } else { State::Value };
                    }
                }
                State::Value => {
                    keep(&mut self.line, byte);
                    self.left -= 1;
                    if self.left == 0 {
                        self.state = State::After;
                    }
                }
                State::After => {
                    let value = std::mem::take(&mut self.line);
                    if let Some((_, last)) = self.fields.last_mut() {
                        *last = value;
                    }
                    self.state = State::Line;
                }
            }
        }
        entries
    }

    fn end_line(&mut self, entries: &mut Vec<Entry>) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            if !self.fields.is_empty() {
                entries.push(Entry { fields: std::mem::take(&mut self.fields) });
            }
            return;
        }
        let split = line.iter().position(|&byte| byte == b'=');
        let name = String::from_utf8_lossy(&line[..split.unwrap_or(line.len())]).into_owned();
        let value = split.map_or(Vec::new(), |at| line[at + 1..].to_vec());
        if self.fields.len() == MAX_FIELDS {
            self.fields.pop();
        }
        self.fields.push((name, value));
        if split.is_none() {
            self.state = State::Length;
        }
    }
}

fn keep(line: &mut Vec<u8>, byte: u8) {
    if line.len() < MAX_FIELD {
        line.push(byte);
    }
}

/// Ended with the request.
struct Journalctl(Child);

impl Drop for Journalctl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The journal, or one unit's part of it.
pub fn run(talk: &mut Conversation, wanted: Wanted, unit: Option<&Text>) -> Answer {
    talk.be_patient()?;
    let mut command = Command::new("journalctl");
    command
        .args(["--output=export", "--no-pager", "--all", "--quiet"])
        .arg("--output-fields=MESSAGE,PRIORITY,_SYSTEMD_UNIT,SYSLOG_IDENTIFIER,_COMM")
        .arg(format!("--priority={}", wanted.level.0.min(7)));
    if let Some(unit) = unit {
        command.arg(format!("--unit={unit}"));
    }
    if wanted.since > 0 {
        command.arg(format!("--since=-{}s", wanted.since));
    }
    match wanted.last {
        // Following alone would begin with the last ten.
        0 => command.arg("--lines=all"),
        last => command.arg(format!("--lines={last}")),
    };
    if wanted.follow {
        command.arg("--follow");
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("journalctl does not start: {error}; the agent's own records and the kernel's need none")))?;
    let mut child = Journalctl(child);
    let Some(mut output) = child.0.stdout.take() else {
        return Err(failed("journalctl has no output"));
    };
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failed)?;
    let (mut export, mut buffer) = (Export::default(), [0; 8192]);
    let mut told = 0_u64;
    loop {
        match output.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                for entry in export.feed(&buffer[..count]) {
                    told += 1;
                    tell(talk, &entry)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(talk, output.as_fd())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(failed(format!(
                    "journalctl, descriptor {}: {error}",
                    output.as_raw_fd()
                )));
            }
        }
    }
    let status = child.0.wait().map_err(failed)?;
    if status.success() || told > 0 {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(stderr) = child.0.stderr.take() {
        let _ = stderr.take(1000).read_to_string(&mut said);
    }
    let said = said.trim();
    if said.is_empty() {
        // That is how it says that nothing matches.
        return Ok(());
    }
    Err(failed(format!(
        "journalctl: {said}; the agent's own records and the kernel's need no journal"
    )))
}

fn tell(talk: &mut Conversation, entry: &Entry) -> Answer {
    let number = |name| entry.text(name).and_then(|text| text.trim().parse::<u64>().ok());
    let origin =
        ["_SYSTEMD_UNIT", "SYSLOG_IDENTIFIER", "_COMM"].iter().find_map(|name| entry.text(name));
    talk.say(&GuestDiagnostics::Record {
        time: number("__REALTIME_TIMESTAMP").unwrap_or(0),
        level: LogLevel(number("PRIORITY").map_or(6, |level| level.min(7) as u8)),
        origin: Text::new(origin.unwrap_or_default()),
        text: Line::new(entry.text("MESSAGE").unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXPORT: &[u8] = b"__REALTIME_TIMESTAMP=1700000000000000\nMESSAGE=plain\nPRIORITY=4\n\n\
        MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\nPRIORITY=6\n\nMESSAGE\n\0\0\0\0\0\0\0\0\nX=\n\n";

    #[test]
    fn binary_fields_keep_their_line_breaks() {
        let entries = Export::default().feed(EXPORT);
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0].text("MESSAGE").as_deref(), Some("plain"));
        assert_eq!(entries[0].text("PRIORITY").as_deref(), Some("4"));
        assert_eq!(entries[1].text("MESSAGE").as_deref(), Some("two\nlines"));
        assert_eq!(entries[1].text("PRIORITY").as_deref(), Some("6"));
        assert_eq!(entries[2].text("MESSAGE").as_deref(), Some(""));
        assert_eq!(entries[2].text("X").as_deref(), Some(""));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference_and_nothing_swells(
            noise in prop::collection::vec(any::<u8>(), 0..3000), cut in 0usize..3000,
        ) {
            let all = [EXPORT, &noise].concat();
            let (a, b) = all.split_at(cut.min(all.len()));
            let mut export = Export::default();
            let mut entries = export.feed(a);
            entries.extend(export.feed(b));
            prop_assert_eq!(entries, Export::default().feed(&all));
            prop_assert!(export.line.len() <= MAX_FIELD && export.fields.len() <= MAX_FIELDS);
        }
    }
}
