//! The agent's own records: printed as ever, and kept from the first line on, so that diagnostics
//! can show them where no journal is up.
//!
//! What enters: the records of `log`. What leaves: lines on standard error, and for each reader
//! what it has not seen. What this refuses to do: growing. The oldest records go, and a reader that
//! comes too late is told how many it has missed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Records kept at most, …
const MAX_RECORDS: usize = 2000;
/// … and bytes in them.
const MAX_BYTES: usize = 256 * 1024;
/// What is kept, whatever is printed: normal detail, but not what every frame says.
const KEPT: LevelFilter = LevelFilter::Debug;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// In microseconds since 1970.
    pub time: u64,
    /// How grave.
    pub level: Level,
    /// The module that wrote it.
    pub module: String,
    /// What it says.
    pub text: String,
}

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Records that were gone before they could be read.
    pub lost: u64,
    /// In order.
    pub entries: Vec<Entry>,
    /// Where to go on.
    pub next: u64,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The number of the first of `entries`.
    first: u64,
    wakers: Vec<Arc<EventFd>>,
}

/// The records.
#[derive(Debug, Default)]
pub struct Records {
    ring: Mutex<Ring>,
    printer: OnceLock<env_logger::Logger>,
}

impl Records {
    /// Takes over the process's log: whatever `printer` lets through is printed as well.
    ///
    /// # Errors
    ///
    /// There is a log already.
    pub fn install(printer: env_logger::Logger) -> Result<&'static Self, log::SetLoggerError> {
        static RECORDS: OnceLock<Records> = OnceLock::new();
        let records = RECORDS.get_or_init(Self::default);
        let most = printer.filter().max(KEPT);
        let _ = records.printer.set(printer);
        log::set_logger(records)?;
        log::set_max_level(most);
        Ok(records)
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a record.
    pub fn push(&self, entry: Entry) {
        let mut ring = self.lock();
        ring.bytes += size(&entry);
        ring.entries.push_back(entry);
        while ring.entries.len() > MAX_RECORDS || ring.bytes > MAX_BYTES {
            let Some(oldest) = ring.entries.pop_front() else { break };
            ring.bytes -= size(&oldest);
            ring.first += 1;
        }
        ring.wakers.retain(|waker| Arc::strong_count(waker) > 1);
        for waker in &ring.wakers {
            // Full means that it is awake already.
            let _ = waker.write(1);
        }
    }

    /// At most `count` records from number `from` on.
    pub fn read(&self, from: u64, count: usize) -> Batch {
        let ring = self.lock();
        let from_kept = from.max(ring.first);
        let skip = (from_kept - ring.first) as usize;
        let entries: Vec<_> = ring.entries.iter().skip(skip).take(count).cloned().collect();
        Batch { lost: from_kept - from, next: from_kept + entries.len() as u64, entries }
    }

    /// Readable whenever there is something new, as long as it is held.
    ///
    /// # Errors
    ///
    /// The kernel has no descriptors left.
    pub fn subscribe(&self) -> nix::Result<Arc<EventFd>> {
        let waker = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let waker = Arc::new(waker);
        self.lock().wakers.push(Arc::clone(&waker));
        Ok(waker)
    }
}

impl Log for Records {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= KEPT
            || self.printer.get().is_some_and(|printer| printer.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(printer) = self.printer.get() {
            printer.log(record);
        }
        if record.level() <= KEPT {
            self.push(Entry {
                time: now(),
                level: record.level(),
                module: record.target().to_owned(),
                text: record.args().to_string(),
            });
        }
    }

    fn flush(&self) {}
}

/// Microseconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

fn size(entry: &Entry) -> usize {
    size_of::<Entry>() + entry.module.len() + entry.text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: usize, length: usize) -> Entry {
        let text = format!("{n:0length$}");
        Entry { time: n as u64, level: Level::Info, module: "m".into(), text }
    }

    #[test]
    fn a_late_reader_is_told_what_it_missed() {
        let records = Records::default();
        (0..MAX_RECORDS + 5).for_each(|n| records.push(entry(n, 4)));
        let batch = records.read(2, 10);
        assert_eq!(batch.lost, 3);
        assert_eq!(batch.entries[0].time, 5);
        assert_eq!(batch.next, 15);
        assert_eq!(records.read(batch.next, 1).lost, 0);
        let end = records.read(u64::MAX / 2, 10);
        assert!(end.entries.is_empty());
    }

    #[test]
    fn long_records_push_out_more_of_the_old_ones() {
        let records = Records::default();
        (0..40).for_each(|n| records.push(entry(n, MAX_BYTES / 8)));
        let batch = records.read(0, usize::MAX);
        assert!(batch.entries.len() <= 8 && batch.lost >= 32, "{}", batch.entries.len());
    }

    #[test]
    fn readers_are_woken_and_leave_nothing_behind() {
        let records = Records::default();
        let waker = records.subscribe().expect("a descriptor is left");
        records.push(entry(1, 1));
        assert_eq!(waker.read(), Ok(1));
        drop(waker);
        records.push(entry(2, 1));
        assert!(records.lock().wakers.is_empty());
    }
}
