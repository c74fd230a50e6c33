//! Which profile and entrypoint of a driver's to encode by.

use crate::sys::va::abi;
use crate::sys::va::{Display, Failure};

/// H.264 profiles, the first that a driver has is taken: Constrained Baseline is what the software
/// encoder writes as well, so that nothing has to be negotiated anew when one takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// What every decoder has.
    ConstrainedBaseline,
    /// With arithmetic coding.
    Main,
    /// The same here, for drivers that have nothing else.
    High,
}

impl Profile {
    const ALL: [Self; 3] = [Self::ConstrainedBaseline, Self::Main, Self::High];

    /// libva's number of it.
    pub fn va(self) -> i32 {
        match self {
            Self::ConstrainedBaseline => abi::PROFILE_H264_CONSTRAINED_BASELINE,
            Self::Main => abi::PROFILE_H264_MAIN,
            Self::High => abi::PROFILE_H264_HIGH,
        }
    }

    /// `profile_idc`.
    pub fn idc(self) -> u8 {
        match self {
            Self::ConstrainedBaseline => 66,
            Self::Main => 77,
            Self::High => 100,
        }
    }

    /// The constraint flags.
    pub fn constraints(self) -> u8 {
        match self {
            Self::ConstrainedBaseline => 0xc0,
            Self::Main => 0x40,
            Self::High => 0,
        }
    }

    /// Whether entropy coding is arithmetic.
    pub fn cabac(self) -> bool {
        self != Self::ConstrainedBaseline
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConstrainedBaseline => "Constrained Baseline",
            Self::Main => "Main",
            Self::High => "High",
        }
    }
}

/// By which entrypoint a driver encodes HEVC in the Main profile.
///
/// # Errors
///
/// By none.
pub fn choose_hevc(display: &Display) -> Result<i32, Failure> {
    let profile = abi::hevc::PROFILE_MAIN;
    let found =
        if display.profiles()?.contains(&profile) { entrypoint(display, profile)? } else { None };
    found.ok_or_else(|| Failure::Lie(format!("{} encodes no HEVC", display.vendor())))
}

/// The entrypoint by which a driver encodes a profile that it has, in 4:2:0.
fn entrypoint(display: &Display, profile: i32) -> Result<Option<i32>, Failure> {
    let entrypoints = display.entrypoints(profile)?;
    for entrypoint in [abi::ENTRYPOINT_ENC_SLICE, abi::ENTRYPOINT_ENC_SLICE_LP] {
        let formats = || display.attribute(profile, entrypoint, abi::ATTRIB_RT_FORMAT);
        if entrypoints.contains(&entrypoint)
            && formats()?.is_some_and(|formats| formats & abi::RT_FORMAT_YUV420 != 0)
        {
            return Ok(Some(entrypoint));
        }
    }
    Ok(None)
}

/// How libva names it, for people.
pub fn entrypoint_name(entrypoint: i32) -> &'static str {
    if entrypoint == abi::ENTRYPOINT_ENC_SLICE_LP { "EncSliceLP" } else { "EncSlice" }
}

/// The first profile of H.264 that can be encoded, and by which entrypoint.
///
/// # Errors
///
/// There is none.
pub fn choose(display: &Display) -> Result<(Profile, i32), Failure> {
    let profiles = display.profiles()?;
    for profile in Profile::ALL {
        if !profiles.contains(&profile.va()) {
            continue;
        }
        if let Some(entrypoint) = entrypoint(display, profile.va())? {
            return Ok((profile, entrypoint));
        }
    }
    let h264 = Profile::ALL.iter().any(|profile| profiles.contains(&profile.va()));
    let what = if h264 { "decodes H.264 but does not encode it" } else { "knows no H.264" };
    Err(Failure::Lie(format!("{} {what}", display.vendor())))
}
