//! libva's structures and constants, as far as an encoder needs them (`va.h`, `va_enc_h264.h`,
//! `va_vpp.h`, `va_drmcommon.h`; HEVC's are in [`hevc`]). Bit fields are words here, with their bits
//! as constants. `agent/tests/va_layout.rs` has a C compiler compare all of it with the headers.
#![allow(missing_docs)] // The names are libva's, and so is their documentation.

use std::ffi::{c_int, c_void};

pub mod hevc;

pub type Status = c_int;
pub type Id = u32;
/// `VA_INVALID_ID`.
pub const INVALID_ID: Id = u32::MAX;
/// `VA_ATTRIB_NOT_SUPPORTED`.
pub const NOT_SUPPORTED: u32 = 0x8000_0000;

pub const PROFILE_NONE: c_int = -1;
pub const PROFILE_H264_MAIN: c_int = 6;
pub const PROFILE_H264_HIGH: c_int = 7;
pub const PROFILE_H264_CONSTRAINED_BASELINE: c_int = 13;
pub const ENTRYPOINT_ENC_SLICE: c_int = 6;
pub const ENTRYPOINT_ENC_SLICE_LP: c_int = 8;
pub const ENTRYPOINT_VIDEO_PROC: c_int = 10;

pub const ATTRIB_RT_FORMAT: c_int = 0;
pub const ATTRIB_RATE_CONTROL: c_int = 5;
pub const ATTRIB_ENC_PACKED_HEADERS: c_int = 10;
pub const ATTRIB_ENC_MAX_REF_FRAMES: c_int = 13;
pub const ATTRIB_MAX_PICTURE_WIDTH: c_int = 18;
pub const ATTRIB_MAX_PICTURE_HEIGHT: c_int = 19;
pub const ATTRIB_ENC_INTRA_REFRESH: c_int = 23;
pub const ATTRIB_ENC_ROI: c_int = 25;
pub const ATTRIB_MAX_FRAME_SIZE: c_int = 38;
/// Values of `ATTRIB_ENC_INTRA_REFRESH`.
pub const REFRESH_COLUMN: u32 = 1;
pub const REFRESH_ROW: u32 = 2;
/// `VAConfigAttribValEncROI`: regions that a picture may have, and what can be said of each.
pub const ROI_REGIONS: u32 = 0xff;
pub const ROI_PRIORITY: u32 = 0x100;
pub const ROI_QP_DELTA: u32 = 0x200;
pub const RC_CBR: u32 = 2;
pub const RC_VBR: u32 = 4;
pub const RC_CQP: u32 = 16;
pub const PACKED_SEQUENCE: u32 = 1;
pub const PACKED_PICTURE: u32 = 2;
pub const PACKED_SLICE: u32 = 4;
pub const PACKED_RAW: u32 = 16;
pub const RT_FORMAT_YUV420: u32 = 1;
pub const RT_FORMAT_RGB32: u32 = 0x20000;

pub const BUFFER_CODED: c_int = 21;
pub const BUFFER_SEQUENCE: c_int = 22;
pub const BUFFER_PICTURE: c_int = 23;
pub const BUFFER_SLICE: c_int = 24;
pub const BUFFER_PACKED_PARAMETER: c_int = 25;
pub const BUFFER_PACKED_DATA: c_int = 26;
pub const BUFFER_MISC: c_int = 27;
pub const BUFFER_PIPELINE: c_int = 41;
pub const MISC_FRAME_RATE: u32 = 0;
pub const MISC_RATE_CONTROL: u32 = 1;
pub const MISC_MAX_FRAME_SIZE: u32 = 4;
pub const MISC_HRD: u32 = 5;
pub const MISC_REFRESH: u32 = 7;
pub const MISC_ROI: u32 = 10;
pub const HEADER_SEQUENCE: u32 = 1;
pub const HEADER_PICTURE: u32 = 2;
pub const HEADER_SLICE: u32 = 3;
pub const HEADER_RAW: u32 = 4;

pub const SURFACE_PIXEL_FORMAT: c_int = 1;
pub const SURFACE_MEMORY_TYPE: c_int = 6;
pub const SURFACE_EXTERNAL: c_int = 7;
pub const SETTABLE: u32 = 2;
pub const MEMORY_DRM_PRIME_2: i32 = 0x4000_0000;
pub const VALUE_INTEGER: c_int = 1;
pub const VALUE_POINTER: c_int = 3;
pub const PROGRESSIVE: c_int = 1;
pub const FOURCC_NV12: u32 = u32::from_le_bytes(*b"NV12");
pub const FOURCC_BGRA: u32 = u32::from_le_bytes(*b"BGRA");

pub const PICTURE_INVALID: u32 = 1;
pub const PICTURE_SHORT_TERM: u32 = 8;
pub const CODED_OVERFLOW: u32 = 0x200;
pub const CODED_BAD: u32 = 0x8000;
pub const CODED_QP: u32 = 0xff;
pub const COLOR_BT709: c_int = 2;
pub const COLOR_SRGB: c_int = 8;
pub const RANGE_REDUCED: u8 = 1;
pub const RANGE_FULL: u8 = 2;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ConfigAttrib {
    pub kind: c_int,
    pub value: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union GenericUnion {
    pub i: i32,
    pub p: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct GenericValue {
    pub kind: c_int,
    pub value: GenericUnion,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct SurfaceAttrib {
    pub kind: c_int,
    pub flags: u32,
    pub value: GenericValue,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ImageFormat {
    pub fourcc: u32,
    pub byte_order: u32,
    pub bits_per_pixel: u32,
    pub depth: u32,
    pub red_mask: u32,
    pub green_mask: u32,
    pub blue_mask: u32,
    pub alpha_mask: u32,
    pub reserved: [u32; 4],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Image {
    pub image_id: Id,
    pub format: ImageFormat,
    pub buf: Id,
    pub width: u16,
    pub height: u16,
    pub data_size: u32,
    pub num_planes: u32,
    pub pitches: [u32; 3],
    pub offsets: [u32; 3],
    pub num_palette_entries: i32,
    pub entry_bytes: i32,
    pub component_order: [i8; 4],
    pub reserved: [u32; 4],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct PrimeObject {
    pub fd: c_int,
    pub size: u32,
    pub drm_format_modifier: u64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct PrimeLayer {
    pub drm_format: u32,
    pub num_planes: u32,
    pub object_index: [u32; 4],
    pub offset: [u32; 4],
    pub pitch: [u32; 4],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct PrimeSurface {
    pub fourcc: u32,
    pub width: u32,
    pub height: u32,
    pub num_objects: u32,
    pub objects: [PrimeObject; 4],
    pub num_layers: u32,
    pub layers: [PrimeLayer; 4],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct PictureH264 {
    pub picture_id: Id,
    pub frame_idx: u32,
    pub flags: u32,
    pub top_field_order_cnt: i32,
    pub bottom_field_order_cnt: i32,
    pub reserved: [u32; 4],
}

impl PictureH264 {
    /// Stands where there is none.
    pub const NONE: Self = Self {
        picture_id: INVALID_ID,
        frame_idx: 0,
        flags: PICTURE_INVALID,
        top_field_order_cnt: 0,
        bottom_field_order_cnt: 0,
        reserved: [0; 4],
    };
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SequenceH264 {
    pub seq_parameter_set_id: u8,
    pub level_idc: u8,
    pub intra_period: u32,
    pub intra_idr_period: u32,
    pub ip_period: u32,
    pub bits_per_second: u32,
    pub max_num_ref_frames: u32,
    pub picture_width_in_mbs: u16,
    pub picture_height_in_mbs: u16,
    pub seq_fields: u32,
    pub bit_depth_luma_minus8: u8,
    pub bit_depth_chroma_minus8: u8,
    pub num_ref_frames_in_pic_order_cnt_cycle: u8,
    pub offset_for_non_ref_pic: i32,
    pub offset_for_top_to_bottom_field: i32,
    pub offset_for_ref_frame: [i32; 256],
    pub frame_cropping_flag: u8,
    pub frame_crop_left_offset: u32,
    pub frame_crop_right_offset: u32,
    pub frame_crop_top_offset: u32,
    pub frame_crop_bottom_offset: u32,
    pub vui_parameters_present_flag: u8,
    pub vui_fields: u32,
    pub aspect_ratio_idc: u8,
    pub sar_width: u32,
    pub sar_height: u32,
    pub num_units_in_tick: u32,
    pub time_scale: u32,
    pub reserved: [u32; 4],
}

/// `seq_fields`: positions of its bits.
pub const SEQ_CHROMA_FORMAT: u32 = 0;
pub const SEQ_FRAME_MBS_ONLY: u32 = 2;
pub const SEQ_DIRECT_8X8: u32 = 5;
pub const SEQ_LOG2_FRAME_NUM: u32 = 6;
pub const SEQ_POC_TYPE: u32 = 10;
/// `vui_fields`.
pub const VUI_BITSTREAM_RESTRICTION: u32 = 2;
pub const VUI_MV_HORIZONTAL: u32 = 3;
pub const VUI_MV_VERTICAL: u32 = 8;
pub const VUI_LOW_DELAY_HRD: u32 = 14;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PictureParameterH264 {
    pub curr_pic: PictureH264,
    pub reference_frames: [PictureH264; 16],
    pub coded_buf: Id,
    pub pic_parameter_set_id: u8,
    pub seq_parameter_set_id: u8,
    pub last_picture: u8,
    pub frame_num: u16,
    pub pic_init_qp: u8,
    pub num_ref_idx_l0_active_minus1: u8,
    pub num_ref_idx_l1_active_minus1: u8,
    pub chroma_qp_index_offset: i8,
    pub second_chroma_qp_index_offset: i8,
    pub pic_fields: u32,
    pub reserved: [u32; 4],
}

/// `pic_fields`.
pub const PIC_IDR: u32 = 0;
pub const PIC_REFERENCE: u32 = 1;
pub const PIC_CABAC: u32 = 3;
pub const PIC_DEBLOCKING_CONTROL: u32 = 9;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SliceH264 {
    pub macroblock_address: u32,
    pub num_macroblocks: u32,
    pub macroblock_info: Id,
    pub slice_type: u8,
    pub pic_parameter_set_id: u8,
    pub idr_pic_id: u16,
    pub pic_order_cnt_lsb: u16,
    pub delta_pic_order_cnt_bottom: i32,
    pub delta_pic_order_cnt: [i32; 2],
    pub direct_spatial_mv_pred_flag: u8,
    pub num_ref_idx_active_override_flag: u8,
    pub num_ref_idx_l0_active_minus1: u8,
    pub num_ref_idx_l1_active_minus1: u8,
    pub ref_pic_list0: [PictureH264; 32],
    pub ref_pic_list1: [PictureH264; 32],
    pub luma_log2_weight_denom: u8,
    pub chroma_log2_weight_denom: u8,
    pub luma_weight_l0_flag: u8,
    pub luma_weight_l0: [i16; 32],
    pub luma_offset_l0: [i16; 32],
    pub chroma_weight_l0_flag: u8,
    pub chroma_weight_l0: [[i16; 2]; 32],
    pub chroma_offset_l0: [[i16; 2]; 32],
    pub luma_weight_l1_flag: u8,
    pub luma_weight_l1: [i16; 32],
    pub luma_offset_l1: [i16; 32],
    pub chroma_weight_l1_flag: u8,
    pub chroma_weight_l1: [[i16; 2]; 32],
    pub chroma_offset_l1: [[i16; 2]; 32],
    pub cabac_init_idc: u8,
    pub slice_qp_delta: i8,
    pub disable_deblocking_filter_idc: u8,
    pub slice_alpha_c0_offset_div2: i8,
    pub slice_beta_offset_div2: i8,
    pub reserved: [u32; 4],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct PackedHeader {
    pub kind: u32,
    pub bit_length: u32,
    pub has_emulation_bytes: u8,
    pub reserved: [u32; 4],
}

/// A `VAEncMiscParameterBuffer` with what follows its type: at once, whatever it holds.
#[repr(C, packed(4))]
#[derive(Clone, Copy)]
pub struct Misc<T> {
    pub kind: u32,
    pub data: T,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct RateControl {
    pub bits_per_second: u32,
    pub target_percentage: u32,
    pub window_size: u32,
    pub initial_qp: u32,
    pub min_qp: u32,
    pub basic_unit_size: u32,
    pub rc_flags: u32,
    pub icq_quality_factor: u32,
    pub max_qp: u32,
    pub quality_factor: u32,
    pub target_frame_size: u32,
    pub reserved: [u32; 4],
}

/// `rc_flags`.
pub const RC_DISABLE_FRAME_SKIP: u32 = 2;
pub const RC_DISABLE_BIT_STUFFING: u32 = 4;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameRate {
    pub framerate: u32,
    pub framerate_flags: u32,
    pub reserved: [u32; 4],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Hrd {
    pub initial_buffer_fullness: u32,
    pub buffer_size: u32,
    pub reserved: [u32; 4],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct MaxFrameSize {
    pub deprecated: u32,
    pub max_frame_size: u32,
    pub reserved: [u32; 4],
}

/// `VAEncMiscParameterRIR`: columns or rows of macroblocks that shall be intra.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Refresh {
    pub rir_flags: u32,
    pub intra_insertion_location: u16,
    pub intra_insert_size: u16,
    pub qp_delta_for_inserted_intra: u8,
    pub reserved: [u32; 4],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Region {
    pub roi_rectangle: Rectangle,
    pub roi_value: i8,
}

/// `VAEncMiscParameterBufferROI`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Regions {
    pub num_roi: u32,
    pub max_delta_qp: i8,
    pub min_delta_qp: i8,
    pub roi: *const Region,
    pub roi_flags: u32,
    pub reserved: [u32; 4],
}

/// How far rate control may go from a picture's quantiser for a region; all it has.
pub const MOST_QP_DELTA: i8 = 51;
/// `roi_flags`.
pub const ROI_VALUE_IS_QP_DELTA: u32 = 1;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CodedSegment {
    pub size: u32,
    pub bit_offset: u32,
    pub status: u32,
    pub reserved: u32,
    pub buf: *mut c_void,
    pub next: *mut c_void,
    pub padding: [u32; 4],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Rectangle {
    pub x: i16,
    pub y: i16,
    pub width: u16,
    pub height: u16,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ColorProperties {
    pub chroma_sample_location: u8,
    pub color_range: u8,
    pub colour_primaries: u8,
    pub transfer_characteristics: u8,
    pub matrix_coefficients: u8,
    pub reserved: [u8; 3],
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Pipeline {
    pub surface: Id,
    pub surface_region: *const Rectangle,
    pub surface_color_standard: c_int,
    pub output_region: *const Rectangle,
    pub output_background_color: u32,
    pub output_color_standard: c_int,
    pub pipeline_flags: u32,
    pub filter_flags: u32,
    pub filters: *mut Id,
    pub num_filters: u32,
    pub forward_references: *mut Id,
    pub num_forward_references: u32,
    pub backward_references: *mut Id,
    pub num_backward_references: u32,
    pub rotation_state: u32,
    pub blend_state: *const c_void,
    pub mirror_state: u32,
    pub additional_outputs: *mut Id,
    pub num_additional_outputs: u32,
    pub input_surface_flag: u32,
    pub output_surface_flag: u32,
    pub input_color_properties: ColorProperties,
    pub output_color_properties: ColorProperties,
    pub processing_mode: c_int,
    pub output_hdr_metadata: *mut c_void,
    pub reserved: [u32; 16],
}

/// Premultiplied alpha, of RGB surfaces.
pub const BLEND_PREMULTIPLIED: u32 = 2;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Blend {
    pub flags: u32,
    pub global_alpha: f32,
    pub min_luma: f32,
    pub max_luma: f32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PipelineCaps {
    pub pipeline_flags: u32,
    pub filter_flags: u32,
    pub num_forward_references: u32,
    pub num_backward_references: u32,
    pub input_color_standards: *mut c_int,
    pub num_input_color_standards: u32,
    pub output_color_standards: *mut c_int,
    pub num_output_color_standards: u32,
    pub rotation_flags: u32,
    pub blend_flags: u32,
    pub mirror_flags: u32,
    pub num_additional_outputs: u32,
    pub num_input_pixel_formats: u32,
    pub input_pixel_format: *mut u32,
    pub num_output_pixel_formats: u32,
    pub output_pixel_format: *mut u32,
    pub input_sizes: [u32; 4],
    pub output_sizes: [u32; 4],
    pub reserved: [u32; 14],
}
