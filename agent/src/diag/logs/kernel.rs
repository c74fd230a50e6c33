//! The kernel's ring buffer, from /dev/kmsg (`Documentation/ABI/testing/dev-kmsg`).

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use transom_protocol::diagnostics::{GuestDiagnostics, Line, LogLevel};
use transom_protocol::message::Text;

use super::{Wanted, wait};
use crate::clock;
use crate::diag::conversation::{Answer, Conversation, failed};
use crate::records;

/// Longest record (`CONSOLE_EXT_LOG_MAX`).
const MAX_RECORD: usize = 8192;
/// Kept while the newest are sought; the ring of a usual kernel holds fewer.
const MAX_KEPT: usize = 16 * 1024;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kmsg {
    /// As syslog(3) counts.
    pub level: u8,
    /// 0 is the kernel, others wrote to /dev/kmsg.
    pub facility: u32,
    /// Counts records.
    pub number: u64,
    /// Microseconds since boot.
    pub time: u64,
    /// What it says.
    pub text: String,
}

/// Reads a record; `None` if it is none.
pub fn parse(bytes: &[u8]) -> Option<Kmsg> {
    let text = String::from_utf8_lossy(bytes);
    let (head, rest) = text.split_once(';')?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let number = fields.next()?.parse().ok()?;
    let time = fields.next()?.parse().ok()?;
    // Further lines are key-value pairs about devices.
    let text = rest.lines().next().unwrap_or_default().to_owned();
    Some(Kmsg { level: (priority & 7) as u8, facility: priority >> 3, number, time, text })
}

/// All of it, or the end of it, and what comes.
pub fn run(talk: &mut Conversation, wanted: Wanted) -> Answer {
    talk.be_patient()?;
    let mut kmsg = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open("/dev/kmsg")
        .map_err(|error| {
            failed(format!(
                "/dev/kmsg: {error}: reading it takes CAP_SYSLOG, see transom-helper@.service"
            ))
        })?;
    let oldest = wanted.oldest();
    // What the wall clock said at boot, as far as it is known now.
    let boot = records::now().saturating_sub(clock::now().0 / 1000);
    let counts = |record: &Kmsg| {
        record.level <= wanted.level.0 && boot.saturating_add(record.time) >= oldest
    };
    let mut expected = None;
    let most = if wanted.last == 0 { MAX_KEPT } else { MAX_KEPT.min(wanted.last as usize) };
    let mut past = VecDeque::new();
    while let Some(record) = next(&mut kmsg)? {
        expected = Some(record.number + 1);
        if counts(&record) {
            if past.len() == most {
                past.pop_front();
            }
            past.push_back(record);
        }
    }
    for record in past {
        tell(talk, boot, record)?;
    }
    if !wanted.follow {
        return Ok(());
    }
    loop {
        let Some(record) = next(&mut kmsg)? else {
            wait(talk, kmsg.as_fd())?;
            continue;
        };
        let lost = record.number.saturating_sub(expected.unwrap_or(record.number));
        expected = Some(record.number + 1);
        if lost > 0 {
            talk.say(&GuestDiagnostics::RecordsLost(lost))?;
        }
        if counts(&record) {
            tell(talk, boot, record)?;
        }
    }
}

/// The next record that can be read; `None` when there is no newer one.
fn next(kmsg: &mut File) -> Answer<Option<Kmsg>> {
    let mut bytes = [0; MAX_RECORD];
    loop {
        match kmsg.read(&mut bytes) {
            Ok(0) => return Ok(None),
            Ok(count) => {
                if let Some(record) = parse(&bytes[..count]) {
                    return Ok(Some(record));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            // EPIPE: overwritten before it was read; the numbers tell how many.
            Err(error)
                if error.kind() == io::ErrorKind::Interrupted
                    || error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(failed(format!("/dev/kmsg: {error}"))),
        }
    }
}

fn tell(talk: &mut Conversation, boot: u64, record: Kmsg) -> Answer {
    let origin = if record.facility == 0 { "kernel" } else { "user" };
    talk.say(&GuestDiagnostics::Record {
        time: boot.saturating_add(record.time),
        level: LogLevel(record.level),
        origin: Text::new(origin),
        text: Line::new(record.text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nonsense_is_no_record_or_a_tame_one(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(record) = parse(&bytes) {
                prop_assert!(record.level < 8);
            }
            let cut = [b"6,12,99,-;", &bytes[..]].concat();
            prop_assert_eq!(parse(&cut).map(|record| record.number), Some(12));
        }
    }

    #[test]
    fn records_are_read_as_documented() {
        let record = parse(b"7,160,424069,-;pci_root PNP0A03:00: host bridge\n SUBSYSTEM=acpi\n");
        let record = record.expect("a record");
        assert_eq!((record.level, record.facility, record.number), (7, 0, 160));
        assert_eq!(
            (record.time, record.text.as_str()),
            (424_069, "pci_root PNP0A03:00: host bridge")
        );
        assert_eq!(parse(b"12,1,2,-;from user space").map(|r| (r.level, r.facility)), Some((4, 1)));
        assert_eq!(parse(b"nonsense"), None);
        assert_eq!(parse(b"1,2;x"), None);
    }
}
