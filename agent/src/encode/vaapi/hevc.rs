//! HEVC (ITU-T H.265), Main profile: what a driver demands of it, and the stream that comes of that.
//!
//! Unlike for H.264, the block sizes and tools of a stream are the hardware's: it codes with those
//! that it has, and parameter sets that say otherwise describe another stream. So drivers are asked
//! (`VAConfigAttribEncHEVCFeatures`, `…BlockSizes`), and what they require is turned on.

pub mod check;
mod headers;
mod parameters;

pub use headers::{Stream, level};
pub use parameters::Parameters;

use crate::sys::va::Failure;
use crate::sys::va::abi::hevc as abi;

/// What the stream is coded with; sizes are binary logarithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tools {
    /// Coding tree blocks.
    pub ctb: u32,
    /// The smallest coding blocks.
    pub cb: u32,
    /// The smallest and largest transform blocks.
    pub tb: (u32, u32),
    /// How often transform blocks are split, of inter and of intra blocks.
    pub depth: (u32, u32),
    /// I_PCM blocks, smallest and largest, where the driver cannot do without.
    pub pcm: Option<(u32, u32)>,
    /// Asymmetric motion partitions.
    pub amp: bool,
    /// Sample adaptive offset.
    pub sao: bool,
    /// Temporal motion vectors; it predicts better without loss, so that only who asks for it has it.
    pub temporal: bool,
    /// Strong intra smoothing.
    pub strong: bool,
    /// Hidden signs.
    pub hidden_signs: bool,
    /// Blocks without a transform, which text likes.
    pub transform_skip: bool,
    /// Quantisers that change inside of a picture.
    pub cu_qp_delta: bool,
    /// Inter pictures are B slices with the same picture in both lists: some hardware knows no P.
    pub both_lists: bool,
}

impl Tools {
    /// By a driver's `features`, `sizes` and prediction `directions`, each if it tells them.
    /// `paced`: there is a rate control, which wants to change the quantiser inside of a picture.
    ///
    /// # Errors
    ///
    /// It requires what nobody here writes headers for, or sizes that HEVC does not have.
    pub fn of(
        features: Option<u32>,
        sizes: Option<u32>,
        directions: Option<u32>,
        paced: bool,
    ) -> Result<Self, Failure> {
        let both_lists = directions.unwrap_or(0) & abi::BOTH_LISTS != 0;
        let (Some(features), Some(sizes)) = (features, sizes) else {
            // Before drivers could be asked (VA 1.13), all hardware was Intel's, and took this.
            return Ok(Self {
                ctb: 5,
                cb: 3,
                tb: (2, 5),
                depth: (3, 3),
                pcm: None,
                amp: true,
                sao: false,
                temporal: false,
                strong: false,
                hidden_signs: false,
                transform_skip: false,
                cu_qp_delta: paced,
                both_lists,
            });
        };
        let feature = |at: u32| features >> at & 3;
        let (has, needs) = (
            |at| feature(at) & (abi::FEATURE_SUPPORTED | abi::FEATURE_REQUIRED) != 0,
            |at| feature(at) & abi::FEATURE_REQUIRED != 0,
        );
        for (at, name) in [
            (abi::FEATURE_SCALING_LISTS, "scaling lists"),
            (abi::FEATURE_DEPENDENT_SLICES, "dependent slices"),
            (abi::FEATURE_CONSTRAINED_INTRA, "constrained intra prediction"),
            (abi::FEATURE_WEIGHTED_PREDICTION, "weighted prediction"),
            (abi::FEATURE_TRANSQUANT_BYPASS, "transquant bypass"),
        ] {
            if needs(at) {
                return Err(Failure::Lie(format!("the driver requires {name} in HEVC")));
            }
        }
        let size = |at: u32| sizes >> at & 3;
        let ctb = size(abi::SIZE_MAX_CTB) + 3;
        let cb = size(abi::SIZE_MIN_CB) + 3;
        let tb = (size(abi::SIZE_MIN_TB) + 2, size(abi::SIZE_MAX_TB) + 2);
        let most = ctb.min(5);
        let pcm = (size(abi::SIZE_MIN_PCM) + 3, (size(abi::SIZE_MAX_PCM) + 3).min(most));
        // 7.4.3.2.1: what the syntax has no values for.
        let odd = ctb < 4 || cb > ctb || tb.0 >= cb || tb.0 > tb.1 || tb.1 > most;
        let pcm_odd = needs(abi::FEATURE_PCM) && (pcm.0 < cb.min(5) || pcm.0 > pcm.1);
        if odd || pcm_odd {
            return Err(Failure::Lie(format!("HEVC has no block sizes {sizes:#x}")));
        }
        // Deeper than from the largest block to the smallest is nowhere (7.4.3.2.1).
        let deepest = ctb - tb.0;
        Ok(Self {
            ctb,
            cb,
            tb,
            depth: (
                size(abi::SIZE_DEPTH_INTER).min(deepest),
                size(abi::SIZE_DEPTH_INTRA).min(deepest),
            ),
            pcm: needs(abi::FEATURE_PCM).then_some(pcm),
            amp: has(abi::FEATURE_AMP),
            sao: has(abi::FEATURE_SAO),
            temporal: needs(abi::FEATURE_TEMPORAL_MVP),
            strong: needs(abi::FEATURE_STRONG_INTRA_SMOOTHING),
            hidden_signs: needs(abi::FEATURE_SIGN_DATA_HIDING),
            transform_skip: has(abi::FEATURE_TRANSFORM_SKIP),
            cu_qp_delta: needs(abi::FEATURE_CU_QP_DELTA) || paced && has(abi::FEATURE_CU_QP_DELTA),
            both_lists,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_requires_is_on_and_what_nobody_writes_is_refused() {
        let plain = 2 | 3 << abi::SIZE_MAX_TB;
        let tools = |features, sizes| Tools::of(Some(features), Some(sizes), None, true);
        let least = tools(0, plain).expect("ordinary");
        assert_eq!((least.ctb, least.cb, least.tb), (5, 3, (2, 5)));
        assert!(!least.amp && !least.sao && least.pcm.is_none() && !least.cu_qp_delta);
        let pcm = tools(2 << abi::FEATURE_PCM, plain | 2 << abi::SIZE_MAX_PCM).expect("I_PCM");
        assert_eq!(pcm.pcm, Some((3, 5)));
        assert_eq!(tools(1 << abi::FEATURE_PCM, plain).expect("may be").pcm, None);
        assert!(tools(2 << abi::FEATURE_TRANSQUANT_BYPASS, plain).is_err());
        assert!(tools(0, 0).is_err(), "coding tree blocks of 8");
        assert!(tools(0, plain | 3 << abi::SIZE_MIN_CB).is_err(), "smallest above largest");
        let unknown = Tools::of(None, None, Some(5), true).expect("an old driver");
        assert!(unknown.both_lists && unknown.cu_qp_delta && unknown.amp);
        // Whatever a driver says, there are headers for it or a reason why not.
        let mut state = 7u32;
        for _ in 0..20_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let features = state & 0x3fff_ffff;
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if let Ok(tools) = Tools::of(Some(features), Some(state >> 8), None, false) {
                let stream = Stream { size: (642, 362), level: 93, tools };
                let sets = [stream.vps(), stream.sps(), stream.pps()].concat();
                let unit = [&sets[..], &[0, 0, 1, 0x26, 1, 0xaf]].concat();
                let announced = check::access_unit(&unit, true).expect("parses").expect("an SPS");
                check::fits(&announced, (642, 362)).expect("as asked for");
            }
        }
    }
}
