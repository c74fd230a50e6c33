//! How much colour a stream has: as much as everybody who watches can show.
//!
//! In: what is known of each viewer's decoder, and what `--chroma` says. Out: 4:2:0 or 4:4:4. What
//! this refuses to do: leave a viewer without a picture so that another has a finer one.

use std::str::FromStr;

use transom_protocol::Chroma;

/// What `--chroma` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// 4:4:4 while all who watch have said that they take it.
    #[default]
    Auto,
    /// 4:2:0, always.
    Halved,
    /// 4:4:4 unless somebody has said that it cannot be taken. Those who cannot say take it.
    Full,
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "420" => Ok(Self::Halved),
            "444" => Ok(Self::Full),
            _ => Err("auto, 420 or 444".into()),
        }
    }
}

/// What is known of a viewer's decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// It said that it knows no 4:4:4, or that it does not want it.
    Halved,
    /// It said that it takes 4:4:4, too.
    Full,
    /// It has no way to say: RTSP, plain RTP and MPEG-TS.
    Untold,
}

impl Policy {
    /// Whether such a viewer may be handed 4:4:4.
    pub fn trusts(self, takes: Takes) -> bool {
        match takes {
            Takes::Halved => false,
            Takes::Full => true,
            Takes::Untold => self == Self::Full,
        }
    }

    /// What the guest should send to these viewers.
    pub fn chroma(self, viewers: impl IntoIterator<Item = Takes>) -> Chroma {
        let mut viewers = viewers.into_iter().peekable();
        let full = match self {
            Self::Halved => false,
            // For nobody in particular, the cheaper one.
            Self::Auto => viewers.peek().is_some() && viewers.all(|takes| self.trusts(takes)),
            Self::Full => viewers.all(|takes| self.trusts(takes)),
        };
        if full { Chroma::Yuv444 } else { Chroma::Yuv420 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_cannot_decides_for_all() {
        use Takes::{Full, Halved, Untold};
        for (viewers, auto, full) in [
            (&[][..], false, true),
            (&[Full], true, true),
            (&[Full, Full], true, true),
            (&[Full, Halved], false, false),
            (&[Full, Untold], false, true),
            (&[Untold], false, true),
            (&[Untold, Halved], false, false),
        ] {
            let of = |policy: Policy| policy.chroma(viewers.iter().copied()) == Chroma::Yuv444;
            assert_eq!(of(Policy::Auto), auto, "{viewers:?}");
            assert_eq!(of(Policy::Full), full, "{viewers:?}");
            assert!(!of(Policy::Halved), "{viewers:?}");
        }
    }

    #[test]
    fn the_option_has_three_values() {
        assert_eq!("auto".parse(), Ok(Policy::Auto));
        assert_eq!("420".parse(), Ok(Policy::Halved));
        assert_eq!("444".parse(), Ok(Policy::Full));
        assert!("422".parse::<Policy>().is_err());
    }
}
