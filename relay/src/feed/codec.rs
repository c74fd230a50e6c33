//! Which codec a stream has: one that everybody who watches takes.
//!
//! In: what each viewer can be sent, and what `--codec` says. Out: H.264 or HEVC. What this refuses to
//! do: leave a viewer without a picture so that others need fewer bits.

use std::str::FromStr;

use transom_protocol::message::Codec;

/// What `--codec` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// H.264, always.
    #[default]
    H264,
    /// HEVC where the guest has hardware for it and all who watch take it.
    Hevc,
}

impl FromStr for Preference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "h264" => Ok(Self::H264),
            "hevc" => Ok(Self::Hevc),
            _ => Err("h264 or hevc".into()),
        }
    }
}

/// What a viewer can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decodes {
    /// H.264 alone: browsers, and players that open an address by HTTP.
    H264,
    /// What its SDP names: players of RTSP and plain RTP.
    Described,
}

impl Preference {
    /// Whether such a viewer may be handed a picture of this codec.
    pub fn trusts(self, decodes: Decodes, codec: Codec) -> bool {
        match codec {
            Codec::H264 => true,
            Codec::Hevc => self == Self::Hevc && decodes == Decodes::Described,
        }
    }

    /// What the guest should send to these viewers.
    pub fn codec(self, viewers: impl IntoIterator<Item = Decodes>) -> Codec {
        let all = viewers.into_iter().all(|decodes| self.trusts(decodes, Codec::Hevc));
        if self == Self::Hevc && all { Codec::Hevc } else { Codec::H264 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_cannot_decides_for_all() {
        use Decodes::{Described, H264};
        for (viewers, hevc) in [
            (&[][..], true),
            (&[Described], true),
            (&[Described, Described], true),
            (&[H264], false),
            (&[Described, H264], false),
        ] {
            let of = |preference: Preference| preference.codec(viewers.iter().copied());
            let expected = if hevc { Codec::Hevc } else { Codec::H264 };
            assert_eq!(of(Preference::Hevc), expected, "{viewers:?}");
            assert_eq!(of(Preference::H264), Codec::H264, "{viewers:?}");
        }
        assert!(Preference::H264.trusts(H264, Codec::H264));
        assert!(!Preference::H264.trusts(Described, Codec::Hevc), "nobody asked for it");
    }

    #[test]
    fn the_option_has_two_values() {
        assert_eq!("h264".parse(), Ok(Preference::H264));
        assert_eq!("hevc".parse(), Ok(Preference::Hevc));
        assert!("h265".parse::<Preference>().is_err());
    }
}
