//! VPS, SPS, PPS and slice headers that are handed to the driver (ITU-T H.265, 7.3).
//!
//! One reference, nothing out of order; the reference picture set stands in each slice header, as
//! drivers know it from other programs.

use super::Tools;
use crate::encode::screen::bits::Bits;
use crate::encode::vaapi::headers::INITIAL_QP;

/// Bits of `slice_pic_order_cnt_lsb`.
const ORDER_BITS: u32 = 8;

/// Headers of NAL units: their type, layer 0, temporal layer 0.
const NAL_VPS: [u8; 2] = [32 << 1, 1];
const NAL_SPS: [u8; 2] = [33 << 1, 1];
const NAL_PPS: [u8; 2] = [34 << 1, 1];
const NAL_IDR: [u8; 2] = [IDR_W_RADL << 1, 1];
const NAL_TRAIL: [u8; 2] = [TRAIL_R << 1, 1];
/// `nal_unit_type` of an IDR picture: the one of both kinds that all drivers are used to.
pub const IDR_W_RADL: u8 = 19;
/// Of every other picture.
pub const TRAIL_R: u8 = 1;

/// What stays the same for all pictures of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// Even columns and rows.
    pub size: (u32, u32),
    /// `general_level_idc`: thirty times the level.
    pub level: u8,
    /// What it is coded with.
    pub tools: Tools,
}

impl Stream {
    /// Columns and rows that are coded: whole coding blocks.
    pub fn coded(&self) -> (u32, u32) {
        let block = 1 << self.tools.cb;
        (self.size.0.next_multiple_of(block), self.size.1.next_multiple_of(block))
    }

    /// Coding tree blocks of a picture.
    pub fn blocks(&self) -> u32 {
        let (width, height) = self.coded();
        let edge = 1 << self.tools.ctb;
        width.div_ceil(edge) * height.div_ceil(edge)
    }

    /// `profile_tier_level()`, 7.3.3.
    fn profile(&self, bits: &mut Bits) {
        bits.put(8, 1); // general_profile_space, Main tier, Main profile
        bits.put(32, 0x6000_0000); // compatible with Main, and so with Main 10
        bits.put(4, 0b1001); // progressive source, frames only
        bits.put(32, 0);
        bits.put(12, 0);
        bits.put(8, self.level.into());
    }

    /// Shown at once, one picture kept.
    fn ordering(bits: &mut Bits) {
        bits.put(1, 1); // …_sub_layer_ordering_info_present_flag
        bits.ue(1); // …_max_dec_pic_buffering_minus1
        bits.ue(0); // …_max_num_reorder_pics
        bits.ue(0); // …_max_latency_increase_plus1
    }

    /// The video parameter set, as a NAL unit with start code.
    pub fn vps(&self) -> Vec<u8> {
        let (mut bits, mut out) = (Bits::default(), Vec::new());
        bits.put(4, 0); // vps_video_parameter_set_id
        bits.put(2, 3); // the base layer is here
        bits.put(6, 0); // vps_max_layers_minus1
        bits.put(3, 0); // vps_max_sub_layers_minus1
        bits.put(1, 1); // vps_temporal_id_nesting_flag
        bits.put(16, 0xffff);
        self.profile(&mut bits);
        Self::ordering(&mut bits);
        bits.put(6, 0); // vps_max_layer_id
        bits.ue(0); // vps_num_layer_sets_minus1
        bits.put(1, 0); // vps_timing_info_present_flag: frames come when the screen changes
        bits.put(1, 0); // vps_extension_flag
        bits.finish_behind(&NAL_VPS, &mut out);
        out
    }

    /// The sequence parameter set.
    pub fn sps(&self) -> Vec<u8> {
        let (mut bits, mut out) = (Bits::default(), Vec::new());
        let (tools, (width, height)) = (&self.tools, self.coded());
        bits.put(4, 0); // sps_video_parameter_set_id
        bits.put(3, 0); // sps_max_sub_layers_minus1
        bits.put(1, 1); // sps_temporal_id_nesting_flag
        self.profile(&mut bits);
        bits.ue(0); // sps_seq_parameter_set_id
        bits.ue(1); // chroma_format_idc: 4:2:0
        bits.ue(width);
        bits.ue(height);
        let (right, bottom) = ((width - self.size.0) / 2, (height - self.size.1) / 2);
        bits.put(1, u32::from(right + bottom > 0));
        if right + bottom > 0 {
            for edge in [0, right, 0, bottom] {
                bits.ue(edge);
            }
        }
        bits.ue(0); // bit_depth_luma_minus8
        bits.ue(0); // bit_depth_chroma_minus8
        bits.ue(ORDER_BITS - 4);
        Self::ordering(&mut bits);
        bits.ue(tools.cb - 3);
        bits.ue(tools.ctb - tools.cb);
        bits.ue(tools.tb.0 - 2);
        bits.ue(tools.tb.1 - tools.tb.0);
        bits.ue(tools.depth.0);
        bits.ue(tools.depth.1);
        bits.put(1, 0); // scaling_list_enabled_flag
        bits.put(1, tools.amp.into());
        bits.put(1, tools.sao.into());
        bits.put(1, tools.pcm.is_some().into());
        if let Some((least, most)) = tools.pcm {
            bits.put(8, 0x77); // all 8 bits of luma and chroma
            bits.ue(least - 3);
            bits.ue(most - least);
            bits.put(1, 1); // pcm_loop_filter_disabled_flag
        }
        bits.ue(0); // num_short_term_ref_pic_sets
        bits.put(1, 0); // long_term_ref_pics_present_flag
        bits.put(1, tools.temporal.into());
        bits.put(1, tools.strong.into());
        bits.put(1, 1); // vui_parameters_present_flag
        bits.put(2, 0); // no aspect ratio, no overscan information
        bits.put(1, 1); // video_signal_type_present_flag
        bits.put(3, 5); // video_format: unspecified
        bits.put(1, 0); // video_full_range_flag
        bits.put(1, 1); // colour_description_present_flag
        for bt709 in [1, 1, 1] {
            bits.put(8, bt709);
        }
        bits.put(5, 0); // no chroma location, no neutral chroma, frames, nothing of each, no window
        bits.put(1, 0); // vui_timing_info_present_flag
        bits.put(1, 1); // bitstream_restriction_flag
        bits.put(3, 0b011); // vectors may point over the edges, lists are the same in all slices
        bits.ue(0); // min_spatial_segmentation_idc
        bits.ue(0); // max_bytes_per_pic_denom
        bits.ue(0); // max_bits_per_min_cu_denom
        bits.ue(15); // log2_max_mv_length_horizontal
        bits.ue(15); // log2_max_mv_length_vertical
        bits.put(1, 0); // sps_extension_present_flag
        bits.finish_behind(&NAL_SPS, &mut out);
        out
    }

    /// The picture parameter set.
    pub fn pps(&self) -> Vec<u8> {
        let (mut bits, mut out) = (Bits::default(), Vec::new());
        let tools = &self.tools;
        bits.ue(0); // pps_pic_parameter_set_id
        bits.ue(0); // pps_seq_parameter_set_id
        bits.put(5, 0); // no dependent slices, output_flag_present_flag, no extra bits
        bits.put(1, tools.hidden_signs.into());
        bits.put(1, 0); // cabac_init_present_flag
        bits.ue(0); // num_ref_idx_l0_default_active_minus1
        bits.ue(0); // num_ref_idx_l1_default_active_minus1
        bits.se(i32::from(INITIAL_QP) - 26);
        bits.put(1, 0); // constrained_intra_pred_flag
        bits.put(1, tools.transform_skip.into());
        bits.put(1, tools.cu_qp_delta.into());
        if tools.cu_qp_delta {
            bits.ue(0); // diff_cu_qp_delta_depth
        }
        bits.se(0); // pps_cb_qp_offset
        bits.se(0); // pps_cr_qp_offset
        bits.put(6, 0); // no offsets in slices, no weights, no bypass, no tiles, no wavefronts
        bits.put(1, 1); // pps_loop_filter_across_slices_enabled_flag
        bits.put(1, 0); // deblocking_filter_control_present_flag: it is on
        bits.put(2, 0); // no scaling lists, lists_modification_present_flag
        bits.ue(0); // log2_parallel_merge_level_minus2
        bits.put(2, 0); // no extensions
        bits.finish_behind(&NAL_PPS, &mut out);
        out
    }

    /// The header of a picture's only slice, with the alignment that is a part of it: whole bytes.
    pub fn slice(&self, idr: bool, frame: u32) -> Vec<u8> {
        let (mut bits, mut out) = (Bits::default(), Vec::new());
        let tools = &self.tools;
        bits.put(1, 1); // first_slice_segment_in_pic_flag
        if idr {
            bits.put(1, 0); // no_output_of_prior_pics_flag
        }
        bits.ue(0); // slice_pic_parameter_set_id
        bits.ue(self.slice_type(idr).into());
        if !idr {
            bits.put(ORDER_BITS, frame & ((1 << ORDER_BITS) - 1));
            bits.put(1, 0); // short_term_ref_pic_set_sps_flag: here it is
            bits.ue(1); // num_negative_pics
            bits.ue(0); // num_positive_pics
            bits.ue(0); // delta_poc_s0_minus1: the picture before
            bits.put(1, 1); // used_by_curr_pic_s0_flag
            if tools.temporal {
                bits.put(1, 1); // slice_temporal_mvp_enabled_flag
            }
        }
        if tools.sao {
            bits.put(2, 3); // luma and chroma
        }
        if !idr {
            bits.put(1, 0); // num_ref_idx_active_override_flag
            if tools.both_lists {
                bits.put(1, 0); // mvd_l1_zero_flag
            }
            if tools.temporal && tools.both_lists {
                bits.put(1, 1); // collocated_from_l0_flag
            }
            bits.ue(0); // five_minus_max_num_merge_cand
        }
        bits.se(0); // slice_qp_delta: the driver's rate control puts its own there
        bits.put(1, 1); // slice_loop_filter_across_slices_enabled_flag
        bits.finish_behind(if idr { &NAL_IDR } else { &NAL_TRAIL }, &mut out);
        out
    }

    /// `slice_type`: I, or P, or B in its place.
    pub fn slice_type(&self, idr: bool) -> u8 {
        match (idr, self.tools.both_lists) {
            (true, _) => 2,
            (false, false) => 1,
            (false, true) => 0,
        }
    }
}

/// The lowest level for pictures of `samples` at `fps` and `bitrate` (tables A.8 and A.9):
/// `general_level_idc`, luma samples of a picture and in a second, kilobits per second of Main tier.
pub fn level(samples: u32, fps: u32, bitrate: u32) -> u8 {
    const LEVELS: [(u8, u32, u64, u32); 10] = [
        (90, 552_960, 16_588_800, 6000),
        (93, 983_040, 33_177_600, 10_000),
        (120, 2_228_224, 66_846_720, 12_000),
        (123, 2_228_224, 133_693_440, 20_000),
        (150, 8_912_896, 267_386_880, 25_000),
        (153, 8_912_896, 534_773_760, 40_000),
        (156, 8_912_896, 1_069_547_520, 60_000),
        (180, 35_651_584, 1_069_547_520, 60_000),
        (183, 35_651_584, 2_139_095_040, 120_000),
        (186, 35_651_584, 4_278_190_080, 240_000),
    ];
    LEVELS
        .iter()
        .find(|(_, size, rate, kilobits)| {
            *size >= samples
                && *rate >= u64::from(samples) * u64::from(fps)
                && *kilobits >= bitrate / 1000
        })
        .map_or(186, |(level, ..)| *level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::vaapi::hevc::check;

    fn stream(size: (u32, u32)) -> Stream {
        let tools = Tools::of(None, None, None, true).expect("an old driver's");
        Stream { size, level: level(size.0 * size.1, 60, 12_000_000), tools }
    }

    #[test]
    fn our_own_headers_say_what_we_mean() {
        for size in [(1366, 768), (1920, 1080), (64, 64), (16, 18)] {
            let stream = stream(size);
            let sets = [stream.vps(), stream.sps(), stream.pps()].concat();
            let unit = [sets, stream.slice(true, 0)].concat();
            let announced = check::access_unit(&unit, true).expect("parses").expect("an SPS");
            assert_eq!((announced.size, announced.level), (size, stream.level));
            assert_eq!((announced.profile_idc, announced.reorder), (1, Some(0)));
            check::fits(&announced, size).expect("as asked for");
            for frame in 1..600 {
                check::access_unit(&stream.slice(false, frame), false).expect("parses");
            }
        }
    }

    #[test]
    fn levels_follow_size_rate_and_bits() {
        assert_eq!(level(1280 * 720, 30, 8_000_000), 93);
        assert_eq!(level(1920 * 1080, 60, 12_000_000), 123);
        assert_eq!(level(1920 * 1080, 60, 24_000_000), 150);
        assert_eq!(level(3840 * 2160, 60, 12_000_000), 153);
        assert_eq!(level(1 << 31, 240, u32::MAX), 186);
    }
}
