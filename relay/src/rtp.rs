//! Access units into RTP packets: H.264 by RFC 6184 in packetization-mode 1, HEVC by RFC 7798. Pure:
//! bytes in, bytes out.
//!
//! ```text
//!   0                   1                   2                   3
//!   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!  |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//!  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!  |                     timestamp (90 kHz)                        |
//!  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!  |                             SSRC                              |
//!  +=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+
//!  | one NAL unit                                   | fits, alone
//!  | 24 | size, NAL unit | size, NAL unit | …       | STAP-A: small neighbours
//!  | 28 | S E R type | part of a NAL unit           | FU-A: one too large
//! ```
//!
//! HEVC has a NAL unit header of two bytes, and so have its payloads: an aggregation packet is of
//! type 48, a fragmentation unit of type 49 with a third byte for S, E and the type.
//!
//! The packets of an access unit lie in one buffer, built once and shared by all targets. Those
//! of an FU-A run are equally long, which is what segmentation offload asks for.

use std::ops::Range;

use transom_protocol::message::Codec;

use crate::h264::{nal, nal_units};
use crate::sets::hevc;

/// Payload type of H.264 in RTP and SDP: the first of the dynamic ones.
pub const PAYLOAD_TYPE: u8 = 96;

/// That of HEVC. Another one, so that a receiver that was told of one codec never takes the other
/// for it when a stream changes.
pub const HEVC_PAYLOAD_TYPE: u8 = 97;

/// The payload type of a codec.
pub const fn payload_type(codec: Codec) -> u8 {
    match codec {
        Codec::H264 => PAYLOAD_TYPE,
        Codec::Hevc => HEVC_PAYLOAD_TYPE,
    }
}

/// Ticks of the RTP clock in a second, as RFC 6184 sets it.
pub const CLOCK_RATE: u32 = 90_000;

/// Bytes of the RTP header.
pub const HEADER: usize = 12;

/// Longest RTP packet that fits everywhere: what QUIC counts on too, below any tunnel's MTU.
pub const DEFAULT_PACKET: usize = 1200;

/// Timestamps of pictures are multiples of so many ticks, 2.1 ms. With finer ones ffmpeg takes the
/// first pictures for a steady frame rate, counts in whole frames from there on, and complains of
/// "non monotonically increasing dts" whenever two pictures fall into one. From 181 ticks on it
/// counts in their greatest common divisor, hence exactly; 193 is a prime of which no usual frame
/// interval is close to a multiple, so that the divisor shows within the first pictures.
const STAMP_STEP: u32 = 193;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;
/// HEVC's: aggregation packet and fragmentation unit (RFC 7798, 4.4.2 and 4.4.3).
const AP: u8 = 48;
const FU: u8 = 49;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

/// Where an RTP stream stands. It goes on across reconnects, so that viewers notice nothing.
#[derive(Debug, Clone)]
pub struct Packetizer {
    ssrc: u32,
    sequence: u16,
    /// Of the access unit under way.
    codec: Codec,
    /// Timestamp of the host's time 0.
    base: u32,
    last: Option<u32>,
    /// Longest packet with its header.
    max: usize,
    packets: u32,
    octets: u32,
}

/// The packets of one access unit.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Packets {
    bytes: Vec<u8>,
    /// End of each packet in `bytes`.
    ends: Vec<u32>,
}

impl Packets {
    /// Number of packets.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Each packet.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| &self.bytes[self.span(i)])
    }

    /// The longest run of packets from `first` on, ending before `end` and at most `most` long,
    /// that segmentation offload can cut: all equally long, but for a shorter last one. Yields
    /// its bytes, the length of a segment and the number of packets.
    pub fn run(&self, first: usize, end: usize, most: usize) -> (&[u8], usize, usize) {
        let segment = self.span(first).len();
        let mut count = 1;
        while count < most && first + count < end {
            let next = self.span(first + count).len();
            if next > segment {
                break;
            }
            count += 1;
            if next < segment {
                break;
            }
        }
        let bytes = self.span(first).start..self.span(first + count - 1).end;
        (&self.bytes[bytes], segment, count)
    }

    fn span(&self, i: usize) -> Range<usize> {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        start as usize..self.ends[i] as usize
    }
}

impl Packetizer {
    /// A stream whose identity, first sequence number and timestamp are given (at random, says
    /// RFC 3550); no packet will be longer than `max` with its header.
    ///
    /// # Panics
    ///
    /// If `max` leaves no room for a fragment.
    pub fn new(ssrc: u32, sequence: u16, base: u32, max: usize) -> Self {
        assert!(max > HEADER + 3, "a packet must have room for a fragment's header and a byte");
        Self { ssrc, sequence, codec: Codec::H264, base, last: None, max, packets: 0, octets: 0 }
    }

    /// Cuts an access unit of a codec into packets. `taken` is when its picture was seen, in
    /// nanoseconds of the host's clock.
    pub fn packetize(&mut self, codec: Codec, access_unit: &[u8], taken: i64) -> Packets {
        self.codec = codec;
        let timestamp = self.stamp(taken);
        let room = self.max - HEADER;
        let mut out = Packets {
            bytes: Vec::with_capacity(access_unit.len() + access_unit.len() / room * 16 + 256),
            ends: Vec::with_capacity(access_unit.len() / room + 4),
        };
        // Types 0 and 24 up are not H.264's, those from 48 up not HEVC's: as an RTP payload they would
        // mean something else.
        let own = |unit: &&[u8]| match codec {
            Codec::H264 => (1..STAP_A).contains(&nal::kind(unit)),
            Codec::Hevc => unit.len() > 2 && hevc::kind(unit) < AP,
        };
        let mut units = nal_units(access_unit).filter(own).peekable();
        let mut small: Vec<&[u8]> = Vec::new();
        let header = match codec {
            Codec::H264 => 1,
            Codec::Hevc => 2,
        };
        let mut stap = header;
        while let Some(unit) = units.next() {
            small.push(unit);
            stap += 2 + unit.len();
            if units.peek().is_some_and(|next| stap + 2 + next.len() <= room) {
                continue;
            }
            match small[..] {
                [unit] if unit.len() > room => self.fragment(unit, timestamp, &mut out),
                [unit] => self.packet(timestamp, &mut out, &[unit]),
                _ => self.aggregate(&small, timestamp, &mut out),
            }
            small.clear();
            stap = header;
        }
        if let Some(last) = out.ends.len().checked_sub(1) {
            let at = out.span(last).start;
            out.bytes[at + 1] |= 0x80; // marker: the access unit ends here
        }
        out
    }

    fn aggregate(&mut self, units: &[&[u8]], timestamp: u32, out: &mut Packets) {
        let forbidden = units.iter().fold(0, |f, unit| f | unit[0] & 0x80);
        self.begin(timestamp, out);
        match self.codec {
            Codec::H264 => {
                let importance = units.iter().map(|unit| unit[0] & 0x60).max().unwrap_or(0);
                out.bytes.push(forbidden | importance | STAP_A);
            }
            // Of the lowest layer and temporal layer among them.
            Codec::Hevc => {
                let layers = |unit: &&[u8]| {
                    let both = u16::from_be_bytes([unit[0], unit[1]]);
                    (both >> 3 & 0x3f, both & 7)
                };
                let layer = units.iter().map(|unit| layers(unit).0).min().unwrap_or(0);
                let temporal = units.iter().map(|unit| layers(unit).1).min().unwrap_or(1);
                let header = u16::from(forbidden) << 8 | u16::from(AP) << 9 | layer << 3 | temporal;
                out.bytes.extend_from_slice(&header.to_be_bytes());
            }
        }
        for unit in units {
            // They fit into a packet, whose length is a u16.
            out.bytes.extend_from_slice(&(unit.len() as u16).to_be_bytes());
            out.bytes.extend_from_slice(unit);
        }
        self.end(out);
    }

    fn fragment(&mut self, unit: &[u8], timestamp: u32, out: &mut Packets) {
        let (header, body) = unit.split_at(match self.codec {
            Codec::H264 => 1,
            Codec::Hevc => 2,
        });
        let parts = body.chunks(self.max - HEADER - 1 - header.len());
        let last = parts.len() - 1;
        for (i, part) in parts.enumerate() {
            let start = if i == 0 { FU_START } else { 0 };
            let end = if i == last { FU_END } else { 0 };
            match (self.codec, header) {
                (Codec::Hevc, &[first, second]) => {
                    let fu = [first & 0x81 | FU << 1, second, start | end | first >> 1 & 0x3f];
                    self.packet(timestamp, out, &[&fu, part]);
                }
                _ => {
                    let first = header[0];
                    let fu = [first & 0xe0 | FU_A, start | end | first & 0x1f];
                    self.packet(timestamp, out, &[&fu, part]);
                }
            }
        }
    }

    fn packet(&mut self, timestamp: u32, out: &mut Packets, payload: &[&[u8]]) {
        self.begin(timestamp, out);
        payload.iter().for_each(|part| out.bytes.extend_from_slice(part));
        self.end(out);
    }

    fn begin(&mut self, timestamp: u32, out: &mut Packets) {
        out.bytes.extend_from_slice(&[0x80, payload_type(self.codec)]);
        out.bytes.extend_from_slice(&self.sequence.to_be_bytes());
        out.bytes.extend_from_slice(&timestamp.to_be_bytes());
        out.bytes.extend_from_slice(&self.ssrc.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
    }

    fn end(&mut self, out: &mut Packets) {
        // An access unit has at most MAX_BULK bytes.
        out.ends.push(out.bytes.len() as u32);
        let payload = out.span(out.ends.len() - 1).len() - HEADER;
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload as u32);
    }

    /// The timestamp of a picture; later than that of the one before, even when the clock's
    /// estimate has moved back a little since.
    fn stamp(&mut self, taken: i64) -> u32 {
        let step = i128::from(STAMP_STEP);
        let steps = (ticks(taken) + step / 2).div_euclid(step);
        let stamp = self.base.wrapping_add((steps * step) as u32);
        let stamp = match self.last {
            // In the half behind `last`: not later.
            Some(last) if stamp.wrapping_sub(last).wrapping_sub(1) >= 1 << 31 => {
                last.wrapping_add(STAMP_STEP)
            }
            _ => stamp,
        };
        self.last = Some(stamp);
        stamp
    }

    /// The RTP timestamp of a time in nanoseconds of the host's clock.
    pub fn timestamp_at(&self, nanos: i64) -> u32 {
        self.base.wrapping_add(ticks(nanos) as u32)
    }

    /// Who sends this stream.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Packets and payload bytes made so far, wrapping as a sender report wants them.
    pub fn sent(&self) -> (u32, u32) {
        (self.packets, self.octets)
    }
}

fn ticks(nanos: i64) -> i128 {
    i128::from(nanos) * i128::from(CLOCK_RATE) / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h264::tests_support::depacketize;
    use proptest::prelude::*;

    fn annex_b(units: &[Vec<u8>]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&[0, 0, 0, 1][..], unit].concat()).collect()
    }

    proptest! {
        #[test]
        fn a_receiver_gets_back_every_unit(
            units in prop::collection::vec(
                (1u8..24, prop::collection::vec(1u8..=255, 0..5000)).prop_map(|(kind, mut body)| {
                    body.insert(0, 0x60 | kind);
                    body
                }), 1..8),
            max in 64usize..1500,
            sequence in any::<u16>(),
        ) {
            // A body without zeros holds no start code by chance.
            let mut packetizer = Packetizer::new(7, sequence, 0, max);
            let packets = packetizer.packetize(Codec::H264, &annex_b(&units), 2_000_000);
            prop_assert!(packets.iter().all(|p| p.len() <= max));
            prop_assert_eq!(packetizer.sent().0 as usize, packets.len());
            let markers: Vec<_> = packets.iter().map(|p| p[1] >> 7).collect();
            prop_assert_eq!(markers.iter().sum::<u8>(), 1);
            prop_assert_eq!(markers.last(), Some(&1));
            for (i, packet) in packets.iter().enumerate() {
                prop_assert_eq!(u16::from_be_bytes([packet[2], packet[3]]), sequence.wrapping_add(i as u16));
                prop_assert_eq!(&packet[4..12], &[0, 0, 0, STAMP_STEP as u8, 0, 0, 0, 7]);
            }
            prop_assert_eq!(depacketize(packets.iter()), units);
        }

        #[test]
        fn runs_cover_all_packets_and_suit_segmentation(
            sizes in prop::collection::vec(1usize..3000, 1..6), most in 1usize..60,
        ) {
            let units: Vec<_> = sizes.iter().map(|n| vec![0x65; *n]).collect();
            let packets = Packetizer::new(1, 1, 1, 200).packetize(Codec::H264, &annex_b(&units), 0);
            let (mut at, mut cut) = (0, Vec::new());
            while at < packets.len() {
                let (bytes, segment, count) = packets.run(at, packets.len(), most);
                prop_assert!(count <= most);
                prop_assert_eq!(bytes.chunks(segment).count(), count);
                cut.extend(bytes.chunks(segment).map(<[u8]>::to_vec));
                at += count;
            }
            let whole: Vec<_> = packets.iter().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(cut, whole);
        }
    }

    #[test]
    fn hevc_has_headers_of_two_bytes_and_a_payload_type_of_its_own() {
        let header = |kind: u8| [kind << 1, 1];
        let unit = |kind, length| [&header(kind)[..], &vec![9; length]].concat();
        let units = [unit(32, 3), unit(33, 4), unit(34, 2), unit(19, 500)];
        let packets = Packetizer::new(1, 0, 0, 212).packetize(Codec::Hevc, &annex_b(&units), 0);
        let all: Vec<_> = packets.iter().collect();
        assert!(all.iter().all(|p| p[1] & 0x7f == HEVC_PAYLOAD_TYPE && p.len() <= 212));
        // The parameter sets, each behind its length.
        let mut sets = vec![AP << 1, 1];
        for unit in &units[..3] {
            sets.extend([0, unit.len() as u8]);
            sets.extend(unit);
        }
        assert_eq!(&all[0][HEADER..], sets);
        // Three parts of the slice, without its header but with its type, and the marker at the end.
        assert_eq!(all.len(), 4);
        let heads: Vec<_> = all[1..].iter().map(|p| (p[1] >> 7, &p[HEADER..HEADER + 3])).collect();
        let fu = |flags: u8| [FU << 1, 1, flags | 19];
        assert_eq!(heads, [(0, &fu(0x80)[..]), (0, &fu(0)[..]), (1, &fu(0x40)[..])]);
        let body: Vec<u8> = all[1..].iter().flat_map(|p| p[HEADER + 3..].to_vec()).collect();
        assert_eq!(body, units[3][2..]);
        // What RTP itself has a meaning for is left out, and what has no header.
        let strange = [unit(48, 5), unit(49, 5), vec![2], unit(63, 5)];
        let packets = Packetizer::new(1, 0, 0, 212).packetize(Codec::Hevc, &annex_b(&strange), 0);
        assert!(packets.is_empty());
    }

    #[test]
    fn parameter_sets_share_a_packet() {
        let units = [vec![0x67, 1, 2, 3], vec![0x68, 4], vec![0x65; 3000]];
        let packets =
            Packetizer::new(1, 0, 0, DEFAULT_PACKET).packetize(Codec::H264, &annex_b(&units), 0);
        let first = packets.iter().next().expect("not empty");
        assert_eq!(&first[HEADER..], [0x78, 0, 4, 0x67, 1, 2, 3, 0, 2, 0x68, 4]);
        assert_eq!(packets.len(), 4);
    }

    #[test]
    fn what_is_not_h264_is_left_out() {
        let units = [vec![0x78, 1], vec![0x60, 1], vec![0x7c, 0x85]];
        assert!(
            Packetizer::new(1, 0, 0, 100).packetize(Codec::H264, &annex_b(&units), 0).is_empty()
        );
        assert!(Packetizer::new(1, 0, 0, 100).packetize(Codec::H264, &[], 0).is_empty());
    }

    #[test]
    fn timestamps_rise_even_when_the_clock_steps_back_or_wraps() {
        let base = u32::MAX - 100;
        let mut packetizer = Packetizer::new(1, 0, base, 100);
        let first = packetizer.stamp(1_000_000_000);
        assert_eq!(packetizer.stamp(999_000_000), first.wrapping_add(STAMP_STEP));
        assert_eq!(packetizer.stamp(1_000_000_001), first.wrapping_add(2 * STAMP_STEP));
        assert_eq!(packetizer.timestamp_at(-1_000_000_000), base - 90_000);
    }

    #[test]
    fn timestamps_are_steps_close_to_the_truth() {
        let mut packetizer = Packetizer::new(1, 0, 1000, 100);
        for i in 1..10_000 {
            let taken = i * 16_683_350 - 50_000_000;
            let (stamp, truth) = (packetizer.stamp(taken), packetizer.timestamp_at(taken));
            assert_eq!(i64::from(stamp.wrapping_sub(1000) as i32) % i64::from(STAMP_STEP), 0);
            assert!((stamp.wrapping_sub(truth) as i32).unsigned_abs() <= STAMP_STEP / 2 + 1);
        }
    }
}
