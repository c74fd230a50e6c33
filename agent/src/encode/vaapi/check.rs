//! What came out of a driver as H.264: is it the stream that was asked for?
//!
//! In: bytes that a driver wrote, so that nothing about them is certain. Out: what the SPS among
//! them announces. Slices are not decoded: their headers alone are looked at.

/// The output is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Nothing came out.
    #[error("nothing came out")]
    Empty,
    /// No start code where one has to be, or reserved NAL units.
    #[error("it is not a sequence of NAL units")]
    Syntax,
    /// An IDR picture without parameter sets in front.
    #[error("an IDR picture without all parameter sets")]
    NoParameterSets,
    /// No slice, or of another kind than was asked for.
    #[error("{found} where {wanted} was asked for")]
    Slice {
        /// What is there.
        found: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// The SPS cannot be read.
    #[error("its SPS cannot be read")]
    Sps,
    /// Two that differ.
    #[error("two SPS that differ")]
    Ambiguous,
    /// The SPS announces pictures of another size.
    #[error("its SPS says {}x{}, not {}x{}", found.0, found.1, wanted.0, wanted.1)]
    Size {
        /// What it says.
        found: (u32, u32),
        /// What was asked for.
        wanted: (u32, u32),
    },
    /// Pictures of another kind than any encoder here is asked for.
    #[error("its SPS says profile {0}, which nobody asked for")]
    Profile(u8),
    /// A decoder would wait for frames that never come.
    #[error("its SPS announces frames out of order")]
    Reordering,
}

/// `payloadType` of a recovery point.
const RECOVERY_POINT: u32 = 6;

/// What an SPS announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// `profile_idc`; in HEVC `general_profile_idc`.
    pub profile_idc: u8,
    /// The constraint flags of H.264.
    pub constraints: u8,
    /// `level_idc`; in HEVC `general_level_idc`.
    pub level: u8,
    /// Columns and rows after cropping.
    pub size: (u32, u32),
    /// `pic_order_cnt_type` of H.264; with 2 nothing can be reordered.
    pub order_type: u32,
    /// `max_num_reorder_frames`, if the VUI says so; in HEVC `sps_max_num_reorder_pics`.
    pub reorder: Option<u32>,
    /// The SPS itself, without start code.
    pub sps: Vec<u8>,
}

/// Looks over an access unit. Yields what its SPS announces, if it has one.
///
/// # Errors
///
/// See [`Wrong`].
pub fn access_unit(bytes: &[u8], idr: bool) -> Result<Option<Announced>, Wrong> {
    if bytes.is_empty() {
        return Err(Wrong::Empty);
    }
    if !(bytes.starts_with(&[0, 0, 0, 1]) || bytes.starts_with(&[0, 0, 1])) {
        return Err(Wrong::Syntax);
    }
    let (mut announced, mut pps, mut slices) = (None, false, 0);
    for unit in units(bytes) {
        let header = unit[0];
        if header & 0x80 != 0 {
            return Err(Wrong::Syntax);
        }
        match header & 0x1f {
            // They come first: nobody looks for them behind the bulk of a frame.
            7 | 8 if slices > 0 => return Err(Wrong::Syntax),
            7 => {
                let sps = sps(unit).ok_or(Wrong::Sps)?;
                // Which of two counts is nothing to guess at.
                if announced.replace(sps.clone()).is_some_and(|before| before != sps) {
                    return Err(Wrong::Ambiguous);
                }
            }
            8 => pps = true,
            kind @ (1 | 5) => {
                let wrong = |found| Err(Wrong::Slice { found, wanted: name(idr) });
                if (kind == 5) != idr {
                    return wrong(name(kind == 5));
                }
                let mut bits = Bits::of(unit);
                let first = bits.ue().ok_or(Wrong::Syntax)?;
                if (slices == 0) != (first == 0) {
                    return wrong("a second picture");
                }
                slices += 1;
            }
            6 | 9 | 12 => {} // SEI, access unit delimiter, filler data
            _ => return Err(Wrong::Syntax),
        }
    }
    if slices == 0 {
        return Err(Wrong::Slice { found: "no slice", wanted: name(idr) });
    }
    if idr && (announced.is_none() || !pps) {
        return Err(Wrong::NoParameterSets);
    }
    Ok(announced)
}

/// Whether what is announced is what was asked for.
///
/// # Errors
///
/// Another profile or size, or frames out of order.
pub fn fits(announced: &Announced, size: (u32, u32)) -> Result<(), Wrong> {
    // Which of those three is the driver's to say; others mean other colours or depths.
    if ![66, 77, 100].contains(&announced.profile_idc) {
        return Err(Wrong::Profile(announced.profile_idc));
    }
    if announced.size != size {
        return Err(Wrong::Size { found: announced.size, wanted: size });
    }
    // Without a VUI a decoder has to guess, which most do rightly: B frames are never asked for.
    if announced.order_type != 2 && announced.reorder.is_some_and(|frames| frames > 0) {
        return Err(Wrong::Reordering);
    }
    Ok(())
}

/// Whether there is a recovery point among the supplemental information (7.3.2.3.1).
pub fn has_recovery_point(bytes: &[u8]) -> bool {
    units(bytes).filter(|unit| unit[0] & 0x1f == 6).any(|unit| {
        let mut bits = Bits::of(unit);
        while let Some((kind, size)) = bits.sei_number().zip(bits.sei_number()) {
            if kind == RECOVERY_POINT {
                return true;
            }
            if (0..size).any(|_| bits.take(8).is_none()) {
                break;
            }
        }
        false
    })
}

pub(super) fn name(idr: bool) -> &'static str {
    if idr { "an IDR slice" } else { "a P slice" }
}

/// The NAL units of an Annex B byte stream, none of them empty.
pub(super) fn units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    // Looks at every third byte only, until one may belong to a start code.
    let start = |bytes: &[u8]| {
        let mut at = 2;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                0 => at += 1,
                1 if bytes[at - 1] == 0 && bytes[at - 2] == 0 => return Some((at - 2, at + 1)),
                _ => at += 3,
            }
        }
        None
    };
    let mut rest = start(stream).map(|(_, end)| &stream[end..]);
    std::iter::from_fn(move || {
        let unit = rest?;
        let next = start(unit);
        rest = next.map(|(_, end)| &unit[end..]);
        let unit = &unit[..next.map_or(unit.len(), |(at, _)| at)];
        let end = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        Some(&unit[..end])
    })
    .filter(|unit| !unit.is_empty())
}

fn sps(unit: &[u8]) -> Option<Announced> {
    if unit.len() > 1024 {
        return None;
    }
    let mut bits = Bits::of(unit);
    let [profile_idc, constraints, level] = [0; 3].map(|_| bits.take(8));
    bits.ue()?; // seq_parameter_set_id
    let mut chroma = 1;
    if [100, 110, 122, 244, 44, 83, 86, 118, 128].contains(&profile_idc?) {
        chroma = bits.ue()?;
        if chroma == 3 {
            bits.take(1)?;
        }
        bits.ue()?;
        bits.ue()?;
        bits.take(1)?;
        if bits.take(1)? == 1 {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if bits.take(1)? == 1 {
                    bits.skip_scaling_list(if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.ue()?; // log2_max_frame_num_minus4
    let order_type = bits.ue()?;
    match order_type {
        0 => drop(bits.ue()?),
        1 => {
            bits.take(1)?;
            bits.ue()?;
            bits.ue()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.ue()?;
            }
        }
        2 => {}
        _ => return None,
    }
    bits.ue()?; // max_num_ref_frames
    bits.take(1)?;
    let (columns, rows) = (bits.ue()?.checked_add(1)?, bits.ue()?.checked_add(1)?);
    let frames = bits.take(1)?;
    if frames == 0 {
        bits.take(1)?;
    }
    bits.take(1)?; // direct_8x8_inference_flag
    let mut crop = [0; 4];
    if bits.take(1)? == 1 {
        for edge in &mut crop {
            *edge = bits.ue()?;
        }
    }
    let (unit_x, unit_y) = match chroma {
        1 => (2, 2 * (2 - frames)),
        2 => (2, 2 - frames),
        _ => (1, 2 - frames),
    };
    let edge = |blocks: u32, both: [u32; 2], unit: u32| {
        let cut = both[0].checked_add(both[1])?.checked_mul(unit)?;
        blocks.checked_mul(16)?.checked_sub(cut).filter(|&edge| edge > 0)
    };
    let width = edge(columns, [crop[0], crop[1]], unit_x)?;
    let height = edge(rows.checked_mul(2 - frames)?, [crop[2], crop[3]], unit_y)?;
    let reorder = if bits.take(1)? == 1 { bits.reordering() } else { None };
    Some(Announced {
        profile_idc: profile_idc? as u8,
        constraints: constraints? as u8,
        level: level? as u8,
        size: (width, height),
        order_type,
        reorder,
        sps: unit.to_vec(),
    })
}

/// Reads the payload of a NAL unit, past emulation prevention.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    bit: u32,
    zeros: u32,
}

impl<'a> Bits<'a> {
    fn of(unit: &'a [u8]) -> Self {
        Self::behind(unit, 1)
    }

    /// Behind a header of so many bytes, the last of which is no zero.
    pub(super) fn behind(unit: &'a [u8], header: usize) -> Self {
        Self { bytes: unit, at: header, bit: 0, zeros: 0 }
    }

    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at)?;
            value = value << 1 | u32::from(byte >> (7 - self.bit) & 1);
            self.bit += 1;
            if self.bit == 8 {
                self.zeros = if byte == 0 { self.zeros + 1 } else { 0 };
                (self.at, self.bit) = (self.at + 1, 0);
                if self.zeros >= 2 && self.bytes.get(self.at) == Some(&3) {
                    (self.at, self.zeros) = (self.at + 1, 0);
                }
            }
        }
        Some(value)
    }

    pub(super) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.take(zeros)?)
    }

    /// `payloadType` or `payloadSize`: a sum of bytes, of which all but the last are 255.
    fn sei_number(&mut self) -> Option<u32> {
        let mut sum = 0;
        loop {
            let byte = self.take(8)?;
            sum += byte;
            if byte != 255 {
                return Some(sum);
            }
        }
    }

    fn skip_scaling_list(&mut self, size: u32) -> Option<()> {
        let (mut last, mut next) = (8i32, 8i32);
        for _ in 0..size {
            if next != 0 {
                let code = self.ue()? as i32;
                let delta = if code & 1 == 1 { code / 2 + 1 } else { -(code / 2) };
                next = (last + delta).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
        Some(())
    }

    /// Reads a VUI up to `max_num_reorder_frames`.
    fn reordering(&mut self) -> Option<u32> {
        if self.take(1)? == 1 && self.take(8)? == 255 {
            self.take(32)?;
        }
        if self.take(1)? == 1 {
            self.take(1)?;
        }
        if self.take(1)? == 1 {
            self.take(4)?;
            if self.take(1)? == 1 {
                self.take(24)?;
            }
        }
        if self.take(1)? == 1 {
            self.ue()?;
            self.ue()?;
        }
        if self.take(1)? == 1 {
            self.take(32)?;
            self.take(32)?;
            self.take(1)?;
        }
        let mut hrd = false;
        for _ in 0..2 {
            if self.take(1)? == 1 {
                hrd = true;
                let count = self.ue()?.min(31);
                self.take(8)?;
                for _ in 0..=count {
                    self.ue()?;
                    self.ue()?;
                    self.take(1)?;
                }
                self.take(20)?;
            }
        }
        if hrd {
            self.take(1)?;
        }
        self.take(1)?;
        if self.take(1)? == 0 {
            return None;
        }
        self.take(1)?;
        for _ in 0..4 {
            self.ue()?;
        }
        self.ue()
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers;
    use super::super::profile::Profile;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(access_unit(&[], true), Err(Wrong::Empty));
        assert_eq!(access_unit(&[1, 2, 3], true), Err(Wrong::Syntax));
        assert_eq!(access_unit(&[0, 0, 1, 0x65, 0x88], true), Err(Wrong::NoParameterSets));
        assert!(matches!(access_unit(&[0, 0, 1, 0x61, 0x88], true), Err(Wrong::Slice { .. })));
        assert!(matches!(access_unit(&[0, 0, 1, 0x65, 0x88], false), Err(Wrong::Slice { .. })));
        assert!(matches!(access_unit(&[0, 0, 1, 0x09, 0x10], false), Err(Wrong::Slice { .. })));
        assert_eq!(access_unit(&[0, 0, 1, 0x61, 0x88, 0, 0, 1, 0xe1], false), Err(Wrong::Syntax));
        assert_eq!(access_unit(&[0, 0, 1, 0x61, 0x88], false), Ok(None));
        assert_eq!(access_unit(&[0, 0, 1, 0x67, 0x42], true), Err(Wrong::Sps));
        let sets = |profile| {
            let stream = headers::Stream { size: (64, 64), profile, level: 30 };
            [stream.sps(), stream.pps()].concat()
        };
        let slice = [0, 0, 1, 0x65, 0x88];
        let (one, other) = (sets(Profile::Main), sets(Profile::High));
        let twice = |again: &[u8]| access_unit(&[&one[..], again, &slice[..]].concat(), true);
        assert!(twice(&one).is_ok(), "the same again is no harm");
        assert_eq!(twice(&other), Err(Wrong::Ambiguous));
        let late = [&one[..], &slice[..], &one[..]].concat();
        assert_eq!(access_unit(&late, true), Err(Wrong::Syntax));
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), idr: bool) {
            let _ = access_unit(&bytes, idr);
            let _ = access_unit(&[&[0, 0, 1, 0x67][..], &bytes].concat(), idr);
            let _ = has_recovery_point(&[&[0, 0, 1, 6][..], &bytes].concat());
        }
    }
}
