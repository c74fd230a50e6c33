//! The parameter sets that describe a stream to a viewer, of H.264 and of HEVC. Nothing is decoded.

use transom_protocol::{Chroma, message::Codec};

use crate::h264::{HIGH_444, nal, nal_units};

/// NAL unit types of HEVC (ITU-T H.265, table 7-1) that are told apart here.
pub mod hevc {
    /// Video parameter set.
    pub const VPS: u8 = 32;
    /// Sequence parameter set.
    pub const SPS: u8 = 33;
    /// Picture parameter set.
    pub const PPS: u8 = 34;

    /// The type of a NAL unit that is not empty.
    pub fn kind(unit: &[u8]) -> u8 {
        unit.first().map_or(0, |header| header >> 1 & 0x3f)
    }
}

fn nal_kind(codec: Codec, unit: &[u8]) -> u8 {
    match codec {
        Codec::H264 => nal::kind(unit),
        Codec::Hevc => hevc::kind(unit),
    }
}

/// The parameter sets in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParameterSets {
    codec: Option<Codec>,
    /// HEVC's.
    vps: Vec<u8>,
    sps: Vec<u8>,
    pps: Vec<u8>,
}

/// Longest parameter set that is kept. Real ones have 10 to 60 bytes; one that describes scaling
/// lists in full stays below 512.
const MAX_PARAMETER_SET: usize = 1024;

impl ParameterSets {
    /// Looks at an access unit of a codec; `true` if a parameter set is new or changed. Those of
    /// another codec are forgotten.
    pub fn update(&mut self, codec: Codec, access_unit: &[u8]) -> bool {
        let mut changed = false;
        if self.codec != Some(codec) {
            // The codec alone describes nothing yet.
            changed = ![&self.vps, &self.sps, &self.pps].into_iter().all(Vec::is_empty);
            *self = Self { codec: Some(codec), ..Self::default() };
        }
        for unit in nal_units(access_unit) {
            let (place, header) = match (codec, nal_kind(codec, unit)) {
                // Parameter sets come first: the bulk of a frame need not be searched.
                (Codec::H264, 1..=5) | (Codec::Hevc, 0..=31) => break,
                (Codec::H264, nal::SPS) => (&mut self.sps, 4),
                (Codec::H264, nal::PPS) => (&mut self.pps, 2),
                (Codec::Hevc, hevc::VPS) => (&mut self.vps, 3),
                (Codec::Hevc, hevc::SPS) => (&mut self.sps, 3),
                (Codec::Hevc, hevc::PPS) => (&mut self.pps, 3),
                _ => continue,
            };
            if (header..=MAX_PARAMETER_SET).contains(&unit.len()) && *place != unit {
                *place = unit.to_vec();
                changed = true;
            }
        }
        changed
    }

    /// Of which codec they are; H.264 while nothing is known.
    pub fn codec(&self) -> Codec {
        self.codec.unwrap_or(Codec::H264)
    }

    /// Whether a decoder has all that it needs.
    pub fn is_complete(&self) -> bool {
        let vps = self.codec() == Codec::H264 || !self.vps.is_empty();
        vps && !self.sps.is_empty() && !self.pps.is_empty()
    }

    /// VPS, SPS and PPS, once all are known; H.264 has no VPS.
    pub fn get(&self) -> Option<(&[u8], &[u8], &[u8])> {
        self.is_complete().then_some((&self.vps, &self.sps, &self.pps))
    }

    /// How much colour the stream has: 4:4:4 takes a profile of its own.
    pub fn chroma(&self) -> Chroma {
        let full = self.profile_level_id().is_some_and(|[profile, ..]| profile == HIGH_444);
        if full { Chroma::Yuv444 } else { Chroma::Yuv420 }
    }

    /// H.264's profile_idc, constraint flags and level_idc, as `profile-level-id` wants them.
    pub fn profile_level_id(&self) -> Option<[u8; 3]> {
        if self.codec() != Codec::H264 {
            return None;
        }
        self.sps.get(1..4).and_then(|bytes| bytes.try_into().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_are_noticed_when_they_change() {
        let mut sets = ParameterSets::default();
        let unit =
            |level| [&[0, 0, 0, 1, 0x67, 0x42, 0xc0, level, 5][..], &[0, 0, 1, 0x68, 2]].concat();
        assert!(sets.update(Codec::H264, &unit(31)));
        assert!(!sets.update(Codec::H264, &unit(31)));
        assert!(!sets.update(Codec::H264, &[0, 0, 1, 0x41, 5]));
        assert!(sets.update(Codec::H264, &unit(40)));
        assert_eq!(sets.profile_level_id(), Some([0x42, 0xc0, 40]));
        assert_eq!(sets.chroma(), Chroma::Yuv420);
        assert!(sets.update(Codec::H264, &[0, 0, 1, 0x67, 0xf4, 0, 40, 5]));
        assert_eq!(sets.chroma(), Chroma::Yuv444);
        assert!(sets.update(Codec::H264, &unit(40)));
        let none = &[][..];
        assert_eq!(sets.get(), Some((none, &[0x67, 0x42, 0xc0, 40, 5][..], &[0x68, 2][..])));
    }

    #[test]
    fn broken_parameter_sets_are_not_taken() {
        let mut sets = ParameterSets::default();
        let long = [&[0, 0, 1, 0x67][..], &[1; 5000]].concat();
        assert!(!sets.update(Codec::H264, &long));
        assert!(!sets.update(Codec::H264, &[0, 0, 1, 0x67, 1, 0, 0, 1, 0x68]));
        assert_eq!((sets.get(), sets.profile_level_id()), (None, None));
    }

    #[test]
    fn another_codec_forgets_the_parameter_sets_of_the_one_before() {
        let mut sets = ParameterSets::default();
        let h264 = [0, 0, 0, 1, 0x67, 0x42, 0xc0, 31, 5, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 9];
        let hevc =
            [0, 0, 0, 1, 64, 1, 7, 0, 0, 1, 66, 1, 8, 9, 0, 0, 1, 68, 1, 3, 0, 0, 1, 38, 1, 0xaf];
        assert!(sets.update(Codec::H264, &h264) && sets.is_complete());
        assert!(sets.update(Codec::Hevc, &hevc[..8]) && !sets.is_complete(), "a VPS alone");
        assert!(sets.update(Codec::Hevc, &hevc));
        assert_eq!(sets.get(), Some((&[64, 1, 7][..], &[66, 1, 8, 9][..], &[68, 1, 3][..])));
        assert_eq!((sets.codec(), sets.chroma()), (Codec::Hevc, Chroma::Yuv420));
        assert_eq!(sets.profile_level_id(), None);
        assert!(!sets.update(Codec::Hevc, &hevc));
        assert!(sets.update(Codec::H264, &h264));
        assert_eq!(sets.profile_level_id(), Some([0x42, 0xc0, 31]));
    }
}
