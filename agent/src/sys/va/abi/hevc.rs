//! The same for HEVC (`va_enc_hevc.h`).

use super::{Id, c_int};

pub const PROFILE_MAIN: c_int = 17;
pub const ATTRIB_PREDICTION_DIRECTION: c_int = 39;
pub const ATTRIB_FEATURES: c_int = 50;
pub const ATTRIB_BLOCK_SIZES: c_int = 51;
/// `VA_PREDICTION_DIRECTION_BI_NOT_EMPTY`.
pub const BOTH_LISTS: u32 = 4;
/// Of the two bits that `VAConfigAttribValEncHEVCFeatures` has for each feature.
pub const FEATURE_SUPPORTED: u32 = 1;
pub const FEATURE_REQUIRED: u32 = 2;
/// Where they lie.
pub const FEATURE_SCALING_LISTS: u32 = 2;
pub const FEATURE_AMP: u32 = 4;
pub const FEATURE_SAO: u32 = 6;
pub const FEATURE_PCM: u32 = 8;
pub const FEATURE_TEMPORAL_MVP: u32 = 10;
pub const FEATURE_STRONG_INTRA_SMOOTHING: u32 = 12;
pub const FEATURE_DEPENDENT_SLICES: u32 = 14;
pub const FEATURE_SIGN_DATA_HIDING: u32 = 16;
pub const FEATURE_CONSTRAINED_INTRA: u32 = 18;
pub const FEATURE_TRANSFORM_SKIP: u32 = 20;
pub const FEATURE_CU_QP_DELTA: u32 = 22;
pub const FEATURE_WEIGHTED_PREDICTION: u32 = 24;
pub const FEATURE_TRANSQUANT_BYPASS: u32 = 26;
/// `VAConfigAttribValEncHEVCBlockSizes`: where its fields of two bits lie.
pub const SIZE_MAX_CTB: u32 = 0;
pub const SIZE_MIN_CB: u32 = 4;
pub const SIZE_MAX_TB: u32 = 6;
pub const SIZE_MIN_TB: u32 = 8;
pub const SIZE_DEPTH_INTER: u32 = 10;
pub const SIZE_DEPTH_INTRA: u32 = 14;
pub const SIZE_MAX_PCM: u32 = 18;
pub const SIZE_MIN_PCM: u32 = 20;

pub const PICTURE_INVALID: u32 = 1;
pub const PICTURE_BEFORE: u32 = 16;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Picture {
    pub picture_id: Id,
    pub pic_order_cnt: i32,
    pub flags: u32,
    pub reserved: [u32; 4],
}

impl Picture {
    /// Stands where there is none.
    pub const NONE: Self = Self {
        picture_id: super::INVALID_ID,
        pic_order_cnt: 0,
        flags: PICTURE_INVALID,
        reserved: [0; 4],
    };
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Sequence {
    pub general_profile_idc: u8,
    pub general_level_idc: u8,
    pub general_tier_flag: u8,
    pub intra_period: u32,
    pub intra_idr_period: u32,
    pub ip_period: u32,
    pub bits_per_second: u32,
    pub pic_width_in_luma_samples: u16,
    pub pic_height_in_luma_samples: u16,
    pub seq_fields: u32,
    pub log2_min_luma_coding_block_size_minus3: u8,
    pub log2_diff_max_min_luma_coding_block_size: u8,
    pub log2_min_transform_block_size_minus2: u8,
    pub log2_diff_max_min_transform_block_size: u8,
    pub max_transform_hierarchy_depth_inter: u8,
    pub max_transform_hierarchy_depth_intra: u8,
    pub pcm_sample_bit_depth_luma_minus1: u32,
    pub pcm_sample_bit_depth_chroma_minus1: u32,
    pub log2_min_pcm_luma_coding_block_size_minus3: u32,
    pub log2_max_pcm_luma_coding_block_size_minus3: u32,
    pub vui_parameters_present_flag: u8,
    pub vui_fields: u32,
    pub aspect_ratio_idc: u8,
    pub sar_width: u32,
    pub sar_height: u32,
    pub vui_num_units_in_tick: u32,
    pub vui_time_scale: u32,
    pub min_spatial_segmentation_idc: u16,
    pub max_bytes_per_pic_denom: u8,
    pub max_bits_per_min_cu_denom: u8,
    pub scc_fields: u32,
    pub reserved: [u32; 7],
}

/// `seq_fields`: positions of its bits.
pub const SEQ_CHROMA_FORMAT: u32 = 0;
pub const SEQ_STRONG_INTRA_SMOOTHING: u32 = 10;
pub const SEQ_AMP: u32 = 11;
pub const SEQ_SAO: u32 = 12;
pub const SEQ_PCM: u32 = 13;
pub const SEQ_PCM_LOOP_FILTER_DISABLED: u32 = 14;
pub const SEQ_TEMPORAL_MVP: u32 = 15;
pub const SEQ_LOW_DELAY: u32 = 16;
/// `vui_fields`.
pub const VUI_BITSTREAM_RESTRICTION: u32 = 4;
pub const VUI_MV_OVER_BOUNDARIES: u32 = 6;
pub const VUI_RESTRICTED_LISTS: u32 = 7;
pub const VUI_MV_HORIZONTAL: u32 = 8;
pub const VUI_MV_VERTICAL: u32 = 13;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PictureParameter {
    pub decoded_curr_pic: Picture,
    pub reference_frames: [Picture; 15],
    pub coded_buf: Id,
    pub collocated_ref_pic_index: u8,
    pub last_picture: u8,
    pub pic_init_qp: u8,
    pub diff_cu_qp_delta_depth: u8,
    pub pps_cb_qp_offset: i8,
    pub pps_cr_qp_offset: i8,
    pub num_tile_columns_minus1: u8,
    pub num_tile_rows_minus1: u8,
    pub column_width_minus1: [u8; 19],
    pub row_height_minus1: [u8; 21],
    pub log2_parallel_merge_level_minus2: u8,
    pub ctu_max_bitsize_allowed: u8,
    pub num_ref_idx_l0_default_active_minus1: u8,
    pub num_ref_idx_l1_default_active_minus1: u8,
    pub slice_pic_parameter_set_id: u8,
    pub nal_unit_type: u8,
    pub pic_fields: u32,
    pub hierarchical_level_plus1: u8,
    pub byte_reserved: u8,
    pub scc_fields: u16,
    pub reserved: [u32; 15],
}

/// `pic_fields`.
pub const PIC_IDR: u32 = 0;
pub const PIC_CODING_TYPE: u32 = 1;
pub const PIC_REFERENCE: u32 = 4;
pub const PIC_SIGN_DATA_HIDING: u32 = 6;
pub const PIC_TRANSFORM_SKIP: u32 = 8;
pub const PIC_CU_QP_DELTA: u32 = 9;
pub const PIC_FILTER_ACROSS_SLICES: u32 = 16;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    pub slice_segment_address: u32,
    pub num_ctu_in_slice: u32,
    pub slice_type: u8,
    pub slice_pic_parameter_set_id: u8,
    pub num_ref_idx_l0_active_minus1: u8,
    pub num_ref_idx_l1_active_minus1: u8,
    pub ref_pic_list0: [Picture; 15],
    pub ref_pic_list1: [Picture; 15],
    pub luma_log2_weight_denom: u8,
    pub delta_chroma_log2_weight_denom: i8,
    pub delta_luma_weight_l0: [i8; 15],
    pub luma_offset_l0: [i8; 15],
    pub delta_chroma_weight_l0: [[i8; 2]; 15],
    pub chroma_offset_l0: [[i8; 2]; 15],
    pub delta_luma_weight_l1: [i8; 15],
    pub luma_offset_l1: [i8; 15],
    pub delta_chroma_weight_l1: [[i8; 2]; 15],
    pub chroma_offset_l1: [[i8; 2]; 15],
    pub max_num_merge_cand: u8,
    pub slice_qp_delta: i8,
    pub slice_cb_qp_offset: i8,
    pub slice_cr_qp_offset: i8,
    pub slice_beta_offset_div2: i8,
    pub slice_tc_offset_div2: i8,
    pub slice_fields: u32,
    pub pred_weight_table_bit_offset: u32,
    pub pred_weight_table_bit_length: u32,
    pub reserved: [u32; 6],
}

/// `slice_fields`.
pub const SLICE_LAST_OF_PICTURE: u32 = 0;
pub const SLICE_TEMPORAL_MVP: u32 = 4;
pub const SLICE_SAO_LUMA: u32 = 5;
pub const SLICE_SAO_CHROMA: u32 = 6;
pub const SLICE_FILTER_ACROSS_SLICES: u32 = 12;
pub const SLICE_COLLOCATED_FROM_L0: u32 = 13;
