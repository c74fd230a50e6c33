//! Measures the way between host and guest: bytes as fast as they go, and echoes.

use transom_protocol::diagnostics::{GuestDiagnostics, HostDiagnostics, MAX_THROUGHPUT};

use super::conversation::{Answer, Conversation, Heard, PIECE, failed};
use crate::{clock, records};

/// Sends so many bytes.
pub fn throughput(talk: &mut Conversation, bytes: u64) -> Answer {
    if bytes > MAX_THROUGHPUT {
        return Err(failed(format!("{bytes} bytes were asked for, {MAX_THROUGHPUT} are the most")));
    }
    // Not all zeros, in case something on the way compresses.
    let piece: Vec<u8> =
        (0..PIECE as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut left = bytes;
    while left > 0 {
        let count = left.min(PIECE as u64);
        talk.say_with(&GuestDiagnostics::Data, &piece[..count as usize])?;
        left -= count;
    }
    Ok(())
}

/// Sends back what comes, with the guest's clocks.
pub fn echo(talk: &mut Conversation) -> Answer {
    loop {
        match talk.hear(None)? {
            Heard::Message(HostDiagnostics::Data, bulk) => {
                let (received, wall) = (clock::now(), records::now());
                let answer = GuestDiagnostics::Echo { received, sent: clock::now(), wall };
                talk.say_with(&answer, &bulk)?;
            }
            Heard::Message(HostDiagnostics::EndOfData, _) | Heard::Closed => return Ok(()),
            Heard::Message(..) | Heard::Nothing => {}
        }
    }
}

/// Throws away what comes.
pub fn sink(talk: &mut Conversation) -> Answer {
    loop {
        match talk.hear(None)? {
            Heard::Message(HostDiagnostics::EndOfData, _) | Heard::Closed => return Ok(()),
            Heard::Message(..) | Heard::Nothing => {}
        }
    }
}
