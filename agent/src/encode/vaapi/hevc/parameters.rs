//! What libva is told about a stream of HEVC and each of its pictures; rates are told as for H.264.

use super::Stream;
use super::headers::{IDR_W_RADL, TRAIL_R};
use crate::encode::vaapi::headers::INITIAL_QP;
use crate::encode::vaapi::parameters::Rate;
use crate::sys::va::abi::Id;
use crate::sys::va::abi::hevc::{self as abi, Picture};

/// One picture of a stream.
#[derive(Debug)]
pub struct Parameters<'a> {
    /// The stream.
    pub stream: &'a Stream,
    /// Its rate.
    pub rate: Rate,
    /// There is no rate but a constant quantiser.
    pub constant: bool,
    /// It is to be decodable by itself.
    pub idr: bool,
    /// Frames since the IDR.
    pub frame: u32,
    /// The surface that is reconstructed to.
    pub current: Id,
    /// The one with the picture before.
    pub before: Id,
    /// The buffer for what comes out.
    pub coded: Id,
}

impl Parameters<'_> {
    /// The sequence, at an IDR.
    pub fn sequence(&self) -> abi::Sequence {
        let (tools, (width, height)) = (&self.stream.tools, self.stream.coded());
        let pcm = tools.pcm.unwrap_or((3, 3));
        let depth = if tools.pcm.is_some() { 7 } else { 0 };
        abi::Sequence {
            general_profile_idc: 1,
            general_level_idc: self.stream.level,
            // As long as can be said: an IDR comes on request alone.
            intra_period: u32::from(u16::MAX),
            intra_idr_period: u32::from(u16::MAX),
            ip_period: 1,
            bits_per_second: if self.constant { 0 } else { self.rate.bitrate },
            pic_width_in_luma_samples: width as u16,
            pic_height_in_luma_samples: height as u16,
            seq_fields: 1 << abi::SEQ_CHROMA_FORMAT
                | u32::from(tools.strong) << abi::SEQ_STRONG_INTRA_SMOOTHING
                | u32::from(tools.amp) << abi::SEQ_AMP
                | u32::from(tools.sao) << abi::SEQ_SAO
                | u32::from(tools.pcm.is_some()) << abi::SEQ_PCM
                | u32::from(tools.pcm.is_some()) << abi::SEQ_PCM_LOOP_FILTER_DISABLED
                | u32::from(tools.temporal) << abi::SEQ_TEMPORAL_MVP
                | 1 << abi::SEQ_LOW_DELAY,
            log2_min_luma_coding_block_size_minus3: (tools.cb - 3) as u8,
            log2_diff_max_min_luma_coding_block_size: (tools.ctb - tools.cb) as u8,
            log2_min_transform_block_size_minus2: (tools.tb.0 - 2) as u8,
            log2_diff_max_min_transform_block_size: (tools.tb.1 - tools.tb.0) as u8,
            max_transform_hierarchy_depth_inter: tools.depth.0 as u8,
            max_transform_hierarchy_depth_intra: tools.depth.1 as u8,
            pcm_sample_bit_depth_luma_minus1: depth,
            pcm_sample_bit_depth_chroma_minus1: depth,
            log2_min_pcm_luma_coding_block_size_minus3: pcm.0 - 3,
            log2_max_pcm_luma_coding_block_size_minus3: pcm.1 - 3,
            vui_parameters_present_flag: 1,
            vui_fields: 1 << abi::VUI_BITSTREAM_RESTRICTION
                | 1 << abi::VUI_MV_OVER_BOUNDARIES
                | 1 << abi::VUI_RESTRICTED_LISTS
                | 15 << abi::VUI_MV_HORIZONTAL
                | 15 << abi::VUI_MV_VERTICAL,
            vui_num_units_in_tick: 1,
            vui_time_scale: u32::from(self.rate.fps.max(1)),
            ..abi::Sequence::default()
        }
    }

    /// The picture before this one.
    fn before(&self) -> Picture {
        Picture {
            picture_id: self.before,
            pic_order_cnt: self.frame.wrapping_sub(1) as i32,
            flags: abi::PICTURE_BEFORE,
            reserved: [0; 4],
        }
    }

    /// The picture.
    pub fn picture(&self) -> abi::PictureParameter {
        let tools = &self.stream.tools;
        let mut references = [Picture::NONE; 15];
        if !self.idr {
            references[0] = self.before();
        }
        // I, P or B (`coding_type`).
        let kind = match self.stream.slice_type(self.idr) {
            2 => 1,
            1 => 2,
            _ => 3,
        };
        abi::PictureParameter {
            decoded_curr_pic: Picture {
                picture_id: self.current,
                pic_order_cnt: self.frame as i32,
                flags: 0,
                reserved: [0; 4],
            },
            reference_frames: references,
            coded_buf: self.coded,
            collocated_ref_pic_index: if tools.temporal && !self.idr { 0 } else { 0xff },
            last_picture: 0,
            pic_init_qp: INITIAL_QP,
            diff_cu_qp_delta_depth: 0,
            pps_cb_qp_offset: 0,
            pps_cr_qp_offset: 0,
            num_tile_columns_minus1: 0,
            num_tile_rows_minus1: 0,
            column_width_minus1: [0; 19],
            row_height_minus1: [0; 21],
            log2_parallel_merge_level_minus2: 0,
            ctu_max_bitsize_allowed: 0,
            num_ref_idx_l0_default_active_minus1: 0,
            num_ref_idx_l1_default_active_minus1: 0,
            slice_pic_parameter_set_id: 0,
            nal_unit_type: if self.idr { IDR_W_RADL } else { TRAIL_R },
            pic_fields: u32::from(self.idr) << abi::PIC_IDR
                | kind << abi::PIC_CODING_TYPE
                | 1 << abi::PIC_REFERENCE
                | u32::from(tools.hidden_signs) << abi::PIC_SIGN_DATA_HIDING
                | u32::from(tools.transform_skip) << abi::PIC_TRANSFORM_SKIP
                | u32::from(tools.cu_qp_delta) << abi::PIC_CU_QP_DELTA
                | 1 << abi::PIC_FILTER_ACROSS_SLICES,
            hierarchical_level_plus1: 0,
            byte_reserved: 0,
            scc_fields: 0,
            reserved: [0; 15],
        }
    }

    /// Its only slice.
    pub fn slice(&self) -> abi::Slice {
        let tools = &self.stream.tools;
        let (mut list0, mut list1) = ([Picture::NONE; 15], [Picture::NONE; 15]);
        if !self.idr {
            list0[0] = self.before();
            if tools.both_lists {
                list1[0] = self.before();
            }
        }
        let temporal = u32::from(tools.temporal && !self.idr);
        abi::Slice {
            slice_segment_address: 0,
            num_ctu_in_slice: self.stream.blocks(),
            slice_type: self.stream.slice_type(self.idr),
            slice_pic_parameter_set_id: 0,
            num_ref_idx_l0_active_minus1: 0,
            num_ref_idx_l1_active_minus1: 0,
            ref_pic_list0: list0,
            ref_pic_list1: list1,
            luma_log2_weight_denom: 0,
            delta_chroma_log2_weight_denom: 0,
            delta_luma_weight_l0: [0; 15],
            luma_offset_l0: [0; 15],
            delta_chroma_weight_l0: [[0; 2]; 15],
            chroma_offset_l0: [[0; 2]; 15],
            delta_luma_weight_l1: [0; 15],
            luma_offset_l1: [0; 15],
            delta_chroma_weight_l1: [[0; 2]; 15],
            chroma_offset_l1: [[0; 2]; 15],
            max_num_merge_cand: 5,
            slice_qp_delta: 0,
            slice_cb_qp_offset: 0,
            slice_cr_qp_offset: 0,
            slice_beta_offset_div2: 0,
            slice_tc_offset_div2: 0,
            slice_fields: 1 << abi::SLICE_LAST_OF_PICTURE
                | temporal << abi::SLICE_TEMPORAL_MVP
                | u32::from(tools.sao) << abi::SLICE_SAO_LUMA
                | u32::from(tools.sao) << abi::SLICE_SAO_CHROMA
                | 1 << abi::SLICE_FILTER_ACROSS_SLICES
                | temporal << abi::SLICE_COLLOCATED_FROM_L0,
            pred_weight_table_bit_offset: 0,
            pred_weight_table_bit_length: 0,
            reserved: [0; 6],
        }
    }
}
