//! Log records: the agent's own, the kernel's, the journal's.
//!
//! A host that reads slowly is never waited for by those who write: each source is a ring of its
//! own, in which the oldest records give way, and the host is told how many it has missed.

pub mod journal;
pub mod kernel;

use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use transom_protocol::diagnostics::{GuestDiagnostics, Line, LogLevel};
use transom_protocol::message::Text;

use super::conversation::{Answer, Conversation, Ended, Heard, failed, timeout};
use crate::records::{self, Entry, Records};

/// Records taken out of the ring at a time.
const BATCH: usize = 64;

/// Which records.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// This grave and graver.
    pub level: LogLevel,
    /// Not older than so many seconds; 0 is all.
    pub since: u32,
    /// At most so many of the newest; 0 is all.
    pub last: u32,
    /// Go on with new ones.
    pub follow: bool,
}

impl Wanted {
    /// The oldest time that counts, in microseconds since 1970.
    fn oldest(self) -> u64 {
        match self.since {
            0 => 0,
            since => records::now().saturating_sub(u64::from(since) * 1_000_000),
        }
    }

    /// How many of `count` to leave out from the front.
    fn skip(self, count: usize) -> usize {
        match self.last {
            0 => 0,
            last => count.saturating_sub(last as usize),
        }
    }
}

/// The agent's own records.
pub fn own(records: &Records, talk: &mut Conversation, wanted: Wanted) -> Answer {
    talk.be_patient()?;
    let news = records.subscribe().map_err(failed)?;
    let oldest = wanted.oldest();
    let counts = |entry: &Entry| syslog(entry.level) <= wanted.level.0 && entry.time >= oldest;
    let past = records.read(0, usize::MAX);
    let mut next = past.next;
    let past: Vec<_> = past.entries.into_iter().filter(counts).collect();
    let skip = wanted.skip(past.len());
    for entry in past.into_iter().skip(skip) {
        tell(talk, entry)?;
    }
    if !wanted.follow {
        return Ok(());
    }
    loop {
        let batch = records.read(next, BATCH);
        next = batch.next;
        if batch.lost > 0 {
            talk.say(&GuestDiagnostics::RecordsLost(batch.lost))?;
        }
        if batch.entries.is_empty() {
            // Empty means that another look has seen the news already.
            let _ = news.read();
            wait(talk, news.as_fd())?;
        }
        for entry in batch.entries.into_iter().filter(counts) {
            tell(talk, entry)?;
        }
    }
}

fn tell(talk: &mut Conversation, entry: Entry) -> Answer {
    talk.say(&GuestDiagnostics::Record {
        time: entry.time,
        level: LogLevel(syslog(entry.level)),
        origin: Text::new(entry.module),
        text: Line::new(entry.text),
    })
}

/// As syslog(3) counts.
fn syslog(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    }
}

/// Waits until `source` has something, or the host leaves.
fn wait(talk: &mut Conversation, source: BorrowedFd<'_>) -> Answer {
    let [_, heard] = {
        let mut fds =
            [PollFd::new(source, PollFlags::POLLIN), PollFd::new(talk.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout(None)) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(failed(error)),
        }
        fds.map(|fd| fd.any().unwrap_or(false))
    };
    if heard && matches!(talk.hear(Some(Duration::ZERO))?, Heard::Closed) {
        return Err(Ended::Gone(std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}
