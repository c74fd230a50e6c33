//! RTCP, as far as a sender of one video stream needs it: sender reports out, feedback in.
//!
//! Written by hand because it is this small; the crates there are bring whole compound-packet
//! models. Everything that comes in is a stranger's: lengths are checked, nothing is allocated.

/// Sender report.
const SR: u8 = 200;
/// Receiver report.
const RR: u8 = 201;
/// Source description.
const SDES: u8 = 202;
/// Goodbye.
const BYE: u8 = 203;
/// Transport-layer feedback (RFC 4585); format 1 is a NACK.
const RTPFB: u8 = 205;
/// Payload-specific feedback; format 1 is PLI, format 4 is FIR (RFC 5104).
const PSFB: u8 = 206;

/// Seconds from 1900, NTP's epoch, to 1970.
const NTP_OFFSET: u64 = 2_208_988_800;

/// What a receiver told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feedback {
    /// It needs an IDR: a PLI or a FIR.
    NeedsIdr,
    /// What it received.
    Report {
        /// Share of packets lost since its last report, of 256.
        fraction_lost: u8,
    },
    /// It misses packets; there is no retransmission on plain RTP.
    Nack,
}

/// Reads a compound packet. Yields what concerns the stream `ssrc`; stops at the first part that
/// is broken.
pub fn feedback(packet: &[u8], ssrc: u32) -> impl Iterator<Item = Feedback> {
    Parts { rest: packet }.flat_map(move |part| {
        let idr = match (part.kind, part.format) {
            (PSFB, 1) => part.word(1) == Some(ssrc),
            // The media source of a FIR is unused; it stands in each of its entries.
            (PSFB, 4) => (2..part.words()).step_by(2).any(|i| part.word(i) == Some(ssrc)),
            _ => false,
        };
        let nack = (part.kind, part.format) == (RTPFB, 1) && part.word(1) == Some(ssrc);
        let first = match part.kind {
            SR => Some(6),
            RR => Some(1),
            _ => None,
        };
        let reports = first.into_iter().flat_map(move |first| {
            (0..usize::from(part.format)).filter_map(move |i| {
                let at = first + i * 6;
                let lost = (part.word(at)? == ssrc).then_some(part.word(at + 1)?)?;
                Some(Feedback::Report { fraction_lost: (lost >> 24) as u8 })
            })
        });
        idr.then_some(Feedback::NeedsIdr)
            .into_iter()
            .chain(nack.then_some(Feedback::Nack))
            .chain(reports)
    })
}

/// One packet of a compound: its count or format, its type, and the words behind the header.
#[derive(Clone, Copy)]
struct Part<'a> {
    format: u8,
    kind: u8,
    body: &'a [u8],
}

impl Part<'_> {
    fn words(&self) -> usize {
        self.body.len() / 4
    }

    fn word(&self, i: usize) -> Option<u32> {
        self.body.get(i * 4..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }
}

struct Parts<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let (&[flags, kind, high, low], behind) = self.rest.split_first_chunk()?;
        let (body, rest) =
            behind.split_at_checked(usize::from(u16::from_be_bytes([high, low])) * 4)?;
        self.rest = rest;
        // Version 2. Padding stands at the end of a compound and makes no difference here.
        (flags >> 6 == 2).then_some(Part { format: flags & 0x1f, kind, body })
    }
}

/// What a sender report says.
#[derive(Debug, Clone, Copy)]
pub struct SenderReport<'a> {
    /// Who sends.
    pub ssrc: u32,
    /// The wall clock, since 1970 …
    pub wall: std::time::Duration,
    /// … and the RTP timestamp of the same moment.
    pub timestamp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
    /// A name for the sender that outlives its SSRC; at most 255 bytes.
    pub cname: &'a str,
}

impl SenderReport<'_> {
    /// SR and SDES; with a BYE behind them if this is the last.
    pub fn encode(&self, bye: bool) -> Vec<u8> {
        let seconds = (self.wall.as_secs() + NTP_OFFSET) as u32; // wraps in 2036, as NTP does
        let fraction = ((u64::from(self.wall.subsec_nanos()) << 32) / 1_000_000_000) as u32;
        let mut out = vec![0x80, SR, 0, 6];
        for word in [self.ssrc, seconds, fraction, self.timestamp, self.packets, self.octets] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        let name = &self.cname.as_bytes()[..self.cname.len().min(255)];
        // Item type and length, the name, one to four zeros to end the list on a word.
        let words = 1 + (2 + name.len()) / 4 + 1;
        let end = out.len() + 4 + words * 4;
        out.extend_from_slice(&[0x81, SDES, 0, words as u8]);
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&[1, name.len() as u8]);
        out.extend_from_slice(name);
        out.resize(end, 0);
        if bye {
            out.extend_from_slice(&[0x81, BYE, 0, 1]);
            out.extend_from_slice(&self.ssrc.to_be_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const SSRC: u32 = 0x0102_0304;

    fn told(packet: &[u8]) -> Vec<Feedback> {
        feedback(packet, SSRC).collect()
    }

    /// What GStreamer sends: an empty RR, a source description, then the feedback.
    fn compound(last: &[u8]) -> Vec<u8> {
        let head = [0x80, RR, 0, 1, 9, 9, 9, 9, 0x81, SDES, 0, 2, 9, 9, 9, 9, 1, 1, b'x', 0];
        [&head[..], last].concat()
    }

    #[test]
    fn pli_and_fir_for_our_stream_ask_for_an_idr() {
        let pli = [0x81, PSFB, 0, 2, 9, 9, 9, 9, 1, 2, 3, 4];
        let fir = [0x84, PSFB, 0, 4, 9, 9, 9, 9, 0, 0, 0, 0, 1, 2, 3, 4, 7, 0, 0, 0];
        assert_eq!(told(&compound(&pli)), [Feedback::NeedsIdr]);
        assert_eq!(told(&compound(&fir)), [Feedback::NeedsIdr]);
        assert_eq!(told(&pli), [Feedback::NeedsIdr], "reduced-size RTCP");
        let other = [0x81, PSFB, 0, 2, 9, 9, 9, 9, 1, 2, 3, 5];
        assert_eq!(told(&other), []);
    }

    #[test]
    fn reports_about_our_stream_are_read() {
        let mut report = vec![0x82, RR, 0, 13, 9, 9, 9, 9];
        report.extend_from_slice(&[7; 24]);
        report.extend_from_slice(&[1, 2, 3, 4, 64, 0, 0, 3]);
        report.extend_from_slice(&[0; 16]);
        assert_eq!(told(&report), [Feedback::Report { fraction_lost: 64 }]);
        assert_eq!(
            told(&[0x81, RTPFB, 0, 3, 9, 9, 9, 9, 1, 2, 3, 4, 0, 1, 0, 0]),
            [Feedback::Nack]
        );
    }

    #[test]
    fn truncated_packets_say_nothing() {
        let pli = [0x81, PSFB, 0, 2, 9, 9, 9, 9, 1, 2, 3, 4];
        for end in 0..pli.len() {
            assert_eq!(told(&pli[..end]), []);
        }
        assert_eq!(told(&[0x01, PSFB, 0, 2, 9, 9, 9, 9, 1, 2, 3, 4]), [], "version 0");
    }

    #[test]
    fn a_sender_report_is_laid_out_as_rfc_3550_draws_it() {
        let report = SenderReport {
            ssrc: SSRC,
            wall: Duration::new(1, 500_000_000),
            timestamp: 0x0a0b_0c0d,
            packets: 3,
            octets: 2000,
            cname: "ab",
        };
        let expected = [
            &[0x80, 200, 0, 6, 1, 2, 3, 4, 0x83, 0xaa, 0x7e, 0x81, 0x80, 0, 0, 0][..],
            &[0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0, 3, 0, 0, 0x07, 0xd0],
            &[0x81, 202, 0, 3, 1, 2, 3, 4, 1, 2, b'a', b'b', 0, 0, 0, 0],
            &[0x81, 203, 0, 1, 1, 2, 3, 4],
        ]
        .concat();
        assert_eq!(report.encode(true), expected);
        assert_eq!(report.encode(false), expected[..expected.len() - 8]);
    }

    proptest! {
        #[test]
        fn random_packets_never_panic(packet in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = told(&packet);
        }

        #[test]
        fn names_of_any_length_end_on_a_word(cname in "[a-z]{0,300}") {
            let report = SenderReport {
                ssrc: 1, wall: Duration::ZERO, timestamp: 0, packets: 0, octets: 0, cname: &cname,
            };
            let bytes = report.encode(true);
            let parts: Vec<_> = Parts { rest: &bytes }.map(|part| part.kind).collect();
            prop_assert_eq!(parts, vec![SR, SDES, BYE]);
        }
    }
}
