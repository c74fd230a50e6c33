//! Parameter sets and slice headers (ITU-T H.264, 7.3.2, 7.3.3 and annex E).

use transom_protocol::message::Chroma;

use super::bits::Bits;

/// NAL unit headers: `nal_ref_idc` 3 and the type (table 7-1).
pub const NAL_IDR: u8 = 0x65;
/// A slice that refers to the frame before.
pub const NAL_SLICE: u8 = 0x61;
const NAL_SPS: u8 = 0x67;
const NAL_PPS: u8 = 0x68;

/// `frame_num` has this many bits.
const FRAME_NUM_BITS: u32 = 8;
/// The quantiser that the picture parameter set starts from.
const INITIAL_QP: i32 = 26;

/// The lowest level that holds pictures of `macroblocks` at 60 frames a second: `level_idc`,
/// macroblocks per second, macroblocks per frame (table A-1).
fn level(macroblocks: u32) -> u8 {
    const LEVELS: [(u8, u32, u32); 10] = [
        (30, 40_500, 1620),
        (31, 108_000, 3600),
        (32, 216_000, 5120),
        (40, 245_760, 8192),
        (42, 522_240, 8704),
        (50, 589_824, 22_080),
        (51, 983_040, 36_864),
        (52, 2_073_600, 36_864),
        (60, 4_177_920, 139_264),
        (61, 8_355_840, 139_264),
    ];
    let fits =
        |(_, rate, size): &&(u8, u32, u32)| *size >= macroblocks && *rate >= macroblocks * 60;
    LEVELS.iter().find(fits).map_or(62, |(level, ..)| *level)
}

/// SPS and PPS: Constrained Baseline for 4:2:0, High 4:4:4 Predictive for 4:4:4, one reference, no
/// reordering, BT.709 limited range. `size` is even.
pub fn parameter_sets(size: (u32, u32), chroma: Chroma, out: &mut Vec<u8>) {
    let bits = &mut Bits::default();
    let (columns, rows) = (size.0.div_ceil(16), size.1.div_ceil(16));
    let (profile, constraints) = match chroma {
        // Baseline, and what Main decoders take, too: Constrained Baseline.
        Chroma::Yuv420 => (66, 0b1100_0000),
        Chroma::Yuv444 => (244, 0),
    };
    bits.put(8, profile);
    bits.put(8, constraints);
    bits.put(8, level(columns * rows).into());
    bits.ue(0); // seq_parameter_set_id
    if chroma == Chroma::Yuv444 {
        bits.ue(3); // chroma_format_idc
        bits.put(1, 0); // separate_colour_plane_flag: one slice holds all three
        bits.ue(0); // bit_depth_luma_minus8
        bits.ue(0); // bit_depth_chroma_minus8
        bits.put(1, 0); // qpprime_y_zero_transform_bypass_flag
        bits.put(1, 0); // seq_scaling_matrix_present_flag
    }
    bits.ue(FRAME_NUM_BITS - 4);
    bits.ue(2); // pic_order_cnt_type: output order is decoding order
    bits.ue(1); // max_num_ref_frames
    bits.put(1, 0); // gaps_in_frame_num_value_allowed_flag
    bits.ue(columns - 1);
    bits.ue(rows - 1);
    bits.put(1, 1); // frame_mbs_only_flag
    bits.put(1, 1); // direct_8x8_inference_flag
    // In samples of chroma (7-19 to 7-22).
    let unit = if chroma == Chroma::Yuv444 { 1 } else { 2 };
    let (right, bottom) = ((columns * 16 - size.0) / unit, (rows * 16 - size.1) / unit);
    bits.put(1, u32::from(right + bottom > 0));
    if right + bottom > 0 {
        for crop in [0, right, 0, bottom] {
            bits.ue(crop);
        }
    }
    bits.put(1, 1); // vui_parameters_present_flag
    bits.put(1, 0); // aspect_ratio_info_present_flag
    bits.put(1, 0); // overscan_info_present_flag
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
    bits.put(1, 0); // motion vectors stay inside the picture
    bits.ue(0); // max_bytes_per_pic_denom: no limit told
    bits.ue(0); // max_bits_per_mb_denom
    bits.ue(10); // log2_max_mv_length_horizontal
    bits.ue(10); // log2_max_mv_length_vertical
    bits.ue(0); // max_num_reorder_frames: show every frame at once
    bits.ue(1); // max_dec_frame_buffering
    bits.finish(NAL_SPS, out);

    bits.ue(0); // pic_parameter_set_id
    bits.ue(0); // seq_parameter_set_id
    bits.put(1, 0); // entropy_coding_mode_flag: CAVLC
    bits.put(1, 0); // bottom_field_pic_order_in_frame_present_flag
    bits.ue(0); // num_slice_groups_minus1
    bits.ue(0); // num_ref_idx_l0_default_active_minus1
    bits.ue(0); // num_ref_idx_l1_default_active_minus1
    bits.put(3, 0); // no weighted prediction
    bits.se(0); // pic_init_qp_minus26
    bits.se(0); // pic_init_qs_minus26
    bits.se(0); // chroma_qp_index_offset
    bits.put(1, 1); // deblocking_filter_control_present_flag
    bits.put(1, 0); // constrained_intra_pred_flag
    bits.put(1, 0); // redundant_pic_cnt_present_flag
    bits.finish(NAL_PPS, out);
}

/// The header of the slice that begins with the `first` macroblock.
pub fn slice(bits: &mut Bits, first: u32, idr: Option<u32>, frame_num: u32, qp: u8) {
    bits.ue(first); // first_mb_in_slice
    bits.ue(if idr.is_some() { 7 } else { 5 }); // slice_type: I or P, all slices of the picture
    bits.ue(0); // pic_parameter_set_id
    bits.put(FRAME_NUM_BITS, frame_num & ((1 << FRAME_NUM_BITS) - 1));
    match idr {
        Some(id) => {
            // Differs from the IDR before, in one bit alone: see `renew_idr`.
            bits.ue(1 + (id & 1));
            bits.put(2, 0); // no_output_of_prior_pics_flag, long_term_reference_flag
        }
        None => {
            bits.put(1, 0); // num_ref_idx_active_override_flag
            bits.put(1, 0); // ref_pic_list_modification_flag_l0
            bits.put(1, 0); // adaptive_ref_pic_marking_mode_flag
        }
    }
    bits.se(i32::from(qp) - INITIAL_QP);
    bits.ue(1); // disable_deblocking_filter_idc: off, or undamaged neighbours would change
}

/// Turns an IDR access unit into the next one of the same picture: only `idr_pic_id` may not stay, in
/// none of its slices. Before it are `first_mb_in_slice` and 16 bits, and no emulation prevention among
/// them: nowhere in a header are there two whole bytes of zeros with a small one behind them.
pub fn renew_idr(access_unit: &mut [u8]) {
    let start = [0, 0, 0, 1, NAL_IDR];
    let mut at = 0;
    while let Some(found) = access_unit[at..].windows(start.len()).position(|bytes| bytes == start)
    {
        at += found + start.len();
        let header = &mut access_unit[at..];
        let word = header.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        // Exp-Golomb: as many bits behind the first one as zeros in front of it.
        let bit = 2 * word.leading_zeros() as usize + 1 + 16 + 2;
        if let Some(byte) = header.get_mut(bit / 8) {
            *byte ^= 0x80 >> (bit % 8);
        }
    }
}
