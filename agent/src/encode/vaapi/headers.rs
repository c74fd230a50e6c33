//! SPS, PPS and slice headers that are handed to the driver (ITU-T H.264, 7.3).
//!
//! One reference, no reordering, picture order count type 0: the one that every driver is used to.
//! `max_num_reorder_frames` 0 has decoders show each frame at once all the same.

use super::profile::Profile;
use crate::encode::screen::bits::Bits;

/// Bits of `frame_num` and of `pic_order_cnt_lsb`.
pub const FRAME_NUM_BITS: u32 = 8;
/// The quantiser that the picture parameter set starts from.
pub const INITIAL_QP: u8 = 26;

const NAL_SPS: u8 = 0x67;
const NAL_PPS: u8 = 0x68;
const NAL_IDR: u8 = 0x65;
const NAL_SLICE: u8 = 0x61;
const NAL_SEI: u8 = 0x06;
/// `payloadType` of a recovery point.
const RECOVERY_POINT: u32 = 6;

/// What stays the same for all pictures of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// Even columns and rows.
    pub size: (u32, u32),
    /// The profile.
    pub profile: Profile,
    /// `level_idc`.
    pub level: u8,
}

impl Stream {
    /// Macroblocks in a row and in a column.
    pub fn macroblocks(&self) -> (u32, u32) {
        (self.size.0.div_ceil(16), self.size.1.div_ceil(16))
    }

    /// What is cut off to the right and at the bottom, in chroma samples.
    pub fn crop(&self) -> (u32, u32) {
        let (columns, rows) = self.macroblocks();
        ((columns * 16 - self.size.0) / 2, (rows * 16 - self.size.1) / 2)
    }

    /// The sequence parameter set, as a NAL unit with start code.
    pub fn sps(&self) -> Vec<u8> {
        let (mut bits, mut out) = (Bits::default(), Vec::new());
        bits.put(8, self.profile.idc().into());
        bits.put(8, self.profile.constraints().into());
        bits.put(8, self.level.into());
        bits.ue(0); // seq_parameter_set_id
        if self.profile == Profile::High {
            bits.ue(1); // chroma_format_idc: 4:2:0
            bits.ue(0); // bit_depth_luma_minus8
            bits.ue(0); // bit_depth_chroma_minus8
            bits.put(2, 0); // no transform bypass, no scaling matrix
        }
        bits.ue(FRAME_NUM_BITS - 4);
        bits.ue(0); // pic_order_cnt_type
        bits.ue(FRAME_NUM_BITS - 4);
        bits.ue(1); // max_num_ref_frames
        bits.put(1, 0); // gaps_in_frame_num_value_allowed_flag
        let (columns, rows) = self.macroblocks();
        bits.ue(columns - 1);
        bits.ue(rows - 1);
        bits.put(1, 1); // frame_mbs_only_flag
        bits.put(1, 1); // direct_8x8_inference_flag
        let (right, bottom) = self.crop();
        bits.put(1, u32::from(right + bottom > 0));
        if right + bottom > 0 {
            for crop in [0, right, 0, bottom] {
                bits.ue(crop);
            }
        }
        bits.put(1, 1); // vui_parameters_present_flag
        bits.put(2, 0); // no aspect ratio, no overscan information
        bits.put(1, 1); // video_signal_type_present_flag
        bits.put(3, 5); // video_format: unspecified
        bits.put(1, 0); // video_full_range_flag
        bits.put(1, 1); // colour_description_present_flag
        for bt709 in [1, 1, 1] {
            bits.put(8, bt709);
        }
        bits.put(1, 0); // chroma_loc_info_present_flag
        bits.put(1, 0); // timing_info_present_flag: frames come when the screen changes
        bits.put(2, 0); // no HRD parameters
        bits.put(1, 0); // pic_struct_present_flag
        bits.put(1, 1); // bitstream_restriction_flag
        bits.put(1, 1); // motion vectors may point over the edges
        bits.ue(0); // max_bytes_per_pic_denom
        bits.ue(0); // max_bits_per_mb_denom
        bits.ue(15); // log2_max_mv_length_horizontal
        bits.ue(15); // log2_max_mv_length_vertical
        bits.ue(0); // max_num_reorder_frames: show every frame at once
        bits.ue(1); // max_dec_frame_buffering
        bits.finish(NAL_SPS, &mut out);
        out
    }

    /// The picture parameter set.
    pub fn pps(&self) -> Vec<u8> {
        let (mut bits, mut out) = (Bits::default(), Vec::new());
        bits.ue(0); // pic_parameter_set_id
        bits.ue(0); // seq_parameter_set_id
        bits.put(1, u32::from(self.profile.cabac()));
        bits.put(1, 0); // bottom_field_pic_order_in_frame_present_flag
        bits.ue(0); // num_slice_groups_minus1
        bits.ue(0); // num_ref_idx_l0_default_active_minus1
        bits.ue(0); // num_ref_idx_l1_default_active_minus1
        bits.put(3, 0); // no weighted prediction
        bits.se(i32::from(INITIAL_QP) - 26);
        bits.se(0); // pic_init_qs_minus26
        bits.se(0); // chroma_qp_index_offset
        bits.put(1, 1); // deblocking_filter_control_present_flag
        bits.put(2, 0); // no constrained intra prediction, no redundant pictures
        bits.finish(NAL_PPS, &mut out);
        out
    }

    /// A recovery point: who begins here has the whole picture after as many `frames`, this one
    /// among them. Not `exact_match_flag`: what a driver predicts a refreshed part from is its own.
    pub fn recovery_point(&self, frames: u32) -> Vec<u8> {
        let count = frames.saturating_sub(1);
        let length = 2 * (32 - (count + 1).leading_zeros()) - 1 + 4;
        let (mut bits, mut out) = (Bits::default(), Vec::new());
        bits.put(8, RECOVERY_POINT);
        bits.put(8, length.div_ceil(8));
        bits.ue(count); // recovery_frame_cnt
        bits.put(2, 0); // exact_match_flag, broken_link_flag
        bits.put(2, 0); // changing_slice_group_idc
        if !length.is_multiple_of(8) {
            // What fills the last byte begins with a one (D.1.1).
            let fill = 8 - length % 8;
            bits.put(fill, 1 << (fill - 1));
        }
        bits.finish(NAL_SEI, &mut out);
        out
    }

    /// The header of a picture's only slice, without trailing bits, and its length in bits.
    pub fn slice(&self, idr: Option<u16>, frame: u32) -> (Vec<u8>, u32) {
        let (mut bits, mut out) = (Bits::default(), Vec::new());
        let mask = (1 << FRAME_NUM_BITS) - 1;
        bits.ue(0); // first_mb_in_slice
        bits.ue(if idr.is_some() { 7 } else { 5 }); // slice_type: I or P
        bits.ue(0); // pic_parameter_set_id
        bits.put(FRAME_NUM_BITS, frame & mask); // frame_num
        if let Some(id) = idr {
            bits.ue(id.into());
        }
        bits.put(FRAME_NUM_BITS, frame.wrapping_mul(2) & mask); // pic_order_cnt_lsb
        if idr.is_some() {
            bits.put(2, 0); // no_output_of_prior_pics_flag, long_term_reference_flag
        } else {
            bits.put(1, 0); // num_ref_idx_active_override_flag
            bits.put(1, 0); // ref_pic_list_modification_flag_l0
            bits.put(1, 0); // adaptive_ref_pic_marking_mode_flag
            if self.profile.cabac() {
                bits.ue(0); // cabac_init_idc
            }
        }
        bits.se(0); // slice_qp_delta: the driver's rate control puts its own there
        bits.ue(0); // disable_deblocking_filter_idc
        bits.se(0); // slice_alpha_c0_offset_div2
        bits.se(0); // slice_beta_offset_div2
        let length = bits.len() as u32;
        bits.finish(if idr.is_some() { NAL_IDR } else { NAL_SLICE }, &mut out);
        // Start code and header byte are five bytes; emulation prevention would show as more than
        // the stop bit needs, and is counted as the driver is told that it is in there.
        let escapes = out.len() as u32 - 5 - (length + 1).div_ceil(8);
        (out, 40 + length + 8 * escapes)
    }
}

/// The lowest level for pictures of `macroblocks` at `fps` and `bitrate` (table A-1): `level_idc`,
/// macroblocks per second, per frame, and kilobits per second in the Baseline and Main profiles.
pub fn level(macroblocks: u32, fps: u32, bitrate: u32) -> u8 {
    const LEVELS: [(u8, u32, u32, u32); 11] = [
        (30, 40_500, 1620, 10_000),
        (31, 108_000, 3600, 14_000),
        (32, 216_000, 5120, 20_000),
        (40, 245_760, 8192, 20_000),
        (42, 522_240, 8704, 50_000),
        (50, 589_824, 22_080, 135_000),
        (51, 983_040, 36_864, 240_000),
        (52, 2_073_600, 36_864, 240_000),
        (60, 4_177_920, 139_264, 240_000),
        (61, 8_355_840, 139_264, 480_000),
        (62, 16_711_680, 139_264, 800_000),
    ];
    LEVELS
        .iter()
        .find(|(_, rate, size, kilobits)| {
            *size >= macroblocks
                && u64::from(*rate) >= u64::from(macroblocks) * u64::from(fps)
                && *kilobits >= bitrate / 1000
        })
        .map_or(62, |(level, ..)| *level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::vaapi::check;

    #[test]
    fn our_own_headers_say_what_we_mean() {
        for profile in [Profile::ConstrainedBaseline, Profile::Main, Profile::High] {
            for size in [(1366, 768), (1920, 1080), (64, 64), (16, 18)] {
                let stream = Stream { size, profile, level: 40 };
                let mut unit = stream.sps();
                unit.extend(stream.pps());
                unit.extend([0, 0, 0, 1, 0x65, 0x88, 0x84]);
                let announced = check::access_unit(&unit, true).expect("parses").expect("an SPS");
                assert_eq!((announced.size, announced.level), (size, 40));
                assert_eq!(announced.profile_idc, profile.idc());
                assert_eq!(announced.reorder, Some(0));
                check::fits(&announced, size).expect("as asked for");
            }
        }
    }

    #[test]
    fn recovery_points_tell_their_frames() {
        let stream = Stream { size: (64, 64), profile: Profile::Main, level: 30 };
        // Five bits and three that fill the byte, thirteen and three.
        assert_eq!(stream.recovery_point(1), [0, 0, 0, 1, 6, 6, 1, 0b1000_0100, 0x80]);
        assert_eq!(
            stream.recovery_point(16),
            [0, 0, 0, 1, 6, 6, 2, 0b0000_1000, 0b0000_0100, 0x80]
        );
        for frames in 1..=255 {
            assert!(check::has_recovery_point(&stream.recovery_point(frames)));
        }
    }

    #[test]
    fn slice_headers_count_their_bits() {
        let stream = Stream { size: (64, 64), profile: Profile::Main, level: 30 };
        for frame_num in 0..600 {
            for idr in [None, Some(0), Some(1)] {
                let (bytes, bits) = stream.slice(idr, frame_num);
                // All that is told, and behind it nothing but the stop bit.
                assert_eq!(bytes.len() as u32, (bits + 1).div_ceil(8));
                let last = bytes[bytes.len() - 1];
                assert_eq!(
                    u32::from(last.trailing_zeros() as u8),
                    bytes.len() as u32 * 8 - bits - 1
                );
            }
        }
    }

    #[test]
    fn levels_follow_size_rate_and_bits() {
        assert_eq!(level(80 * 45, 30, 12_000_000), 31);
        assert_eq!(level(80 * 45, 60, 12_000_000), 32);
        assert_eq!(level(120 * 68, 60, 12_000_000), 42);
        assert_eq!(level(120 * 68, 30, 50_000_000), 42);
        assert_eq!(level(240 * 135, 60, 12_000_000), 52);
        assert_eq!(level(1 << 20, 240, u32::MAX), 62);
    }
}
