//! As much of H.264 as a relay needs: the NAL units of an Annex B byte stream, which HEVC's are found
//! by as well. Nothing is decoded.

/// NAL unit types that are told apart here.
pub mod nal {
    /// Coded slice of an IDR picture.
    pub const IDR: u8 = 5;
    /// Sequence parameter set.
    pub const SPS: u8 = 7;
    /// Picture parameter set.
    pub const PPS: u8 = 8;
    /// Access unit delimiter.
    pub const AUD: u8 = 9;

    /// The type of a NAL unit that is not empty.
    pub fn kind(unit: &[u8]) -> u8 {
        unit.first().map_or(0, |header| header & 0x1f)
    }
}

/// Iterates over the NAL units of an Annex B byte stream, without start codes and padding. Bytes
/// before the first start code and empty units are skipped.
pub fn nal_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = find_start_code(stream).map(|at| &stream[at + 3..]);
    std::iter::from_fn(move || {
        let unit = rest?;
        let end = find_start_code(unit);
        rest = end.map(|at| &unit[at + 3..]);
        Some(trim_zeros(&unit[..end.unwrap_or(unit.len())]))
    })
    .filter(|unit| !unit.is_empty())
}

/// Bytes that are looked at together: seven in eight such parts of a coded picture have no zero.
const PART: usize = 32;

/// Position of the next 00 00 01.
fn find_start_code(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        // No start code begins in a part without a zero. The compiler makes vector instructions of
        // this as long as it looks at all of the part.
        while let Some(part) = bytes[at..].first_chunk::<PART>() {
            if part.iter().fold(false, |any, byte| any | (*byte == 0)) {
                break;
            }
            at += PART;
        }
        let end = bytes.len().min(at + PART + 2);
        if let Some(found) = find_nearby(&bytes[at..end]) {
            return Some(at + found);
        }
        if end == bytes.len() {
            return None;
        }
        at += PART;
    }
}

/// The same, looking at every third byte until one may belong to it.
fn find_nearby(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            0 => at += 1,
            1 if bytes[at - 1] == 0 && bytes[at - 2] == 0 => return Some(at - 2),
            _ => at += 3,
        }
    }
    None
}

/// A NAL unit never ends in a zero byte; such bytes belong to the next start code or are padding.
fn trim_zeros(unit: &[u8]) -> &[u8] {
    let end = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &unit[..end]
}

/// profile_idc of High 4:4:4 Predictive (A.2.7).
pub const HIGH_444: u8 = 0xf4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_lie_between_start_codes_of_either_length() {
        let stream = [
            0xff, 0, 0, 0, 1, 0x67, 1, 2, 3, 0, 0, 1, 0x68, 9, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0x65, 7,
            0,
        ];
        let units: Vec<_> = nal_units(&stream).collect();
        assert_eq!(units, [&[0x67, 1, 2, 3][..], &[0x68, 9], &[0x65, 7]]);
        assert_eq!(nal_units(&[]).count(), 0);
        assert_eq!(nal_units(&[0, 0, 1]).count(), 0);
    }

    proptest! {
        #[test]
        fn start_codes_are_where_they_are(
            bytes in prop::collection::vec(prop_oneof![1 => 0u8..3, 9 => 3u8..=255], 0..300),
            codes in prop::collection::vec(0usize..300, 0..3),
        ) {
            let mut bytes = bytes;
            for at in codes {
                if let Some(code) = bytes.get_mut(at..at + 3) {
                    code.copy_from_slice(&[0, 0, 1]);
                }
            }
            let first = bytes.windows(3).position(|code| code == [0, 0, 1]);
            prop_assert_eq!(find_start_code(&bytes), first);
        }

        #[test]
        fn every_unit_that_goes_in_comes_out(
            units in prop::collection::vec((prop::collection::vec(2u8..=255, 1..50), any::<bool>()), 0..10),
        ) {
            let mut stream = Vec::new();
            for (unit, long) in &units {
                stream.extend_from_slice(if *long { &[0, 0, 0, 1] } else { &[0, 0, 1] });
                stream.extend_from_slice(unit);
            }
            let found: Vec<_> = nal_units(&stream).map(<[u8]>::to_vec).collect();
            let given: Vec<_> = units.into_iter().map(|(unit, _)| unit).collect();
            prop_assert_eq!(found, given);
        }
    }
}

/// A receiver's half of RFC 6184, as small as a test can use it. Shared by the crate's tests.
#[cfg(test)]
pub(crate) mod tests_support {
    /// The NAL units in a run of RTP packets.
    ///
    /// # Panics
    ///
    /// On anything that packetization-mode 1 does not allow.
    pub(crate) fn depacketize<'a>(packets: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
        let (mut units, mut partial) = (Vec::new(), None::<Vec<u8>>);
        for packet in packets {
            let payload = &packet[12..];
            match payload[0] & 0x1f {
                28 => {
                    let (start, end) = (payload[1] & 0x80 != 0, payload[1] & 0x40 != 0);
                    assert!(!(start && end), "a whole unit is no fragment");
                    assert_eq!(start, partial.is_none());
                    let unit =
                        partial.get_or_insert_with(|| vec![payload[0] & 0xe0 | payload[1] & 0x1f]);
                    unit.extend_from_slice(&payload[2..]);
                    if end {
                        units.extend(partial.take());
                    }
                }
                24 => {
                    let mut rest = &payload[1..];
                    while let [high, low, behind @ ..] = rest {
                        let (unit, more) =
                            behind.split_at(u16::from_be_bytes([*high, *low]).into());
                        units.push(unit.to_vec());
                        rest = more;
                    }
                }
                _ => units.push(payload.to_vec()),
            }
            assert!(partial.is_none() || payload[0] & 0x1f == 28);
        }
        assert_eq!(partial, None, "the last fragment is missing");
        units
    }
}
