//! The agent declares libva's structures itself: a C compiler compares them with libva's headers.
//!
//! Needs `libva-dev` (`tools/setup test` installs it). Sizes, offsets of every field that the
//! agent sets or reads, positions of bit fields, and constants.

use std::io::Write as _;
use std::mem::{offset_of, size_of};
use std::process::{Command, Stdio};

use transom_agent::sys::va::abi::hevc as h265;
use transom_agent::sys::va::abi::*;

macro_rules! sizes {
    ($out:ident, $($ours:ty = $theirs:literal;)*) => {
        $($out.push_str(&format!("SIZE({}, {})\n", $theirs, size_of::<$ours>()));)*
    };
}

macro_rules! offsets {
    ($out:ident, $ours:ident = $theirs:literal: $($field:ident = $name:literal),* $(,)?) => {
        $($out.push_str(&format!("OFFSET({}, {}, {})\n", $theirs, $name, offset_of!($ours, $field)));)*
    };
}

macro_rules! constants {
    ($out:ident, $($ours:expr => $theirs:literal,)*) => {
        $($out.push_str(&format!("EQUAL({}, {})\n", $theirs, $ours as i64));)*
    };
}

fn claims() -> String {
    let mut out = String::from(
        "#include <stddef.h>\n#include <va/va.h>\n#include <va/va_enc_h264.h>\n\
         #include <va/va_enc_hevc.h>\n\
         #include <va/va_vpp.h>\n#include <va/va_drmcommon.h>\n\
         #define SIZE(t, n) _Static_assert(sizeof(t) == (n), #t);\n\
         #define OFFSET(t, f, n) _Static_assert(offsetof(t, f) == (n), #t \".\" #f);\n\
         #define EQUAL(c, n) _Static_assert((long long)(c) == (n), #c);\n",
    );
    sizes! { out,
        ConfigAttrib = "VAConfigAttrib";
        GenericValue = "VAGenericValue";
        SurfaceAttrib = "VASurfaceAttrib";
        ImageFormat = "VAImageFormat";
        Image = "VAImage";
        PrimeSurface = "VADRMPRIMESurfaceDescriptor";
        PictureH264 = "VAPictureH264";
        SequenceH264 = "VAEncSequenceParameterBufferH264";
        PictureParameterH264 = "VAEncPictureParameterBufferH264";
        SliceH264 = "VAEncSliceParameterBufferH264";
        h265::Picture = "VAPictureHEVC";
        h265::Sequence = "VAEncSequenceParameterBufferHEVC";
        h265::PictureParameter = "VAEncPictureParameterBufferHEVC";
        h265::Slice = "VAEncSliceParameterBufferHEVC";
        PackedHeader = "VAEncPackedHeaderParameterBuffer";
        RateControl = "VAEncMiscParameterRateControl";
        FrameRate = "VAEncMiscParameterFrameRate";
        Hrd = "VAEncMiscParameterHRD";
        MaxFrameSize = "VAEncMiscParameterBufferMaxFrameSize";
        Refresh = "VAEncMiscParameterRIR";
        Region = "VAEncROI";
        Regions = "VAEncMiscParameterBufferROI";
        CodedSegment = "VACodedBufferSegment";
        Rectangle = "VARectangle";
        ColorProperties = "VAProcColorProperties";
        Pipeline = "VAProcPipelineParameterBuffer";
        PipelineCaps = "VAProcPipelineCaps";
        Blend = "VABlendState";
    }
    offsets!(out, Image = "VAImage": format = "format", buf = "buf", width = "width",
        data_size = "data_size", num_planes = "num_planes", pitches = "pitches", offsets = "offsets");
    offsets!(out, PrimeSurface = "VADRMPRIMESurfaceDescriptor": num_objects = "num_objects",
        objects = "objects", num_layers = "num_layers", layers = "layers");
    offsets!(out, PrimeLayer = "__typeof__(((VADRMPRIMESurfaceDescriptor *)0)->layers[0])":
        object_index = "object_index", offset = "offset", pitch = "pitch");
    offsets!(out, SequenceH264 = "VAEncSequenceParameterBufferH264": level_idc = "level_idc",
        intra_period = "intra_period", ip_period = "ip_period", bits_per_second = "bits_per_second",
        max_num_ref_frames = "max_num_ref_frames", picture_width_in_mbs = "picture_width_in_mbs",
        seq_fields = "seq_fields", frame_cropping_flag = "frame_cropping_flag",
        frame_crop_right_offset = "frame_crop_right_offset",
        frame_crop_bottom_offset = "frame_crop_bottom_offset",
        vui_parameters_present_flag = "vui_parameters_present_flag", vui_fields = "vui_fields",
        num_units_in_tick = "num_units_in_tick", time_scale = "time_scale");
    offsets!(out, PictureParameterH264 = "VAEncPictureParameterBufferH264":
        reference_frames = "ReferenceFrames", coded_buf = "coded_buf", frame_num = "frame_num",
        pic_init_qp = "pic_init_qp", pic_fields = "pic_fields");
    offsets!(out, SliceH264 = "VAEncSliceParameterBufferH264": num_macroblocks = "num_macroblocks",
        slice_type = "slice_type", idr_pic_id = "idr_pic_id", ref_pic_list0 = "RefPicList0",
        ref_pic_list1 = "RefPicList1", chroma_offset_l1 = "chroma_offset_l1",
        cabac_init_idc = "cabac_init_idc", slice_qp_delta = "slice_qp_delta",
        disable_deblocking_filter_idc = "disable_deblocking_filter_idc");
    hevc_offsets(&mut out);
    offsets!(out, RateControl = "VAEncMiscParameterRateControl": window_size = "window_size",
        initial_qp = "initial_qp", rc_flags = "rc_flags", max_qp = "max_qp",
        target_frame_size = "target_frame_size");
    offsets!(out, Refresh = "VAEncMiscParameterRIR": rir_flags = "rir_flags",
        intra_insertion_location = "intra_insertion_location",
        intra_insert_size = "intra_insert_size",
        qp_delta_for_inserted_intra = "qp_delta_for_inserted_intra");
    offsets!(out, Region = "VAEncROI": roi_value = "roi_value");
    offsets!(out, Regions = "VAEncMiscParameterBufferROI": max_delta_qp = "max_delta_qp",
        min_delta_qp = "min_delta_qp", roi = "roi", roi_flags = "roi_flags");
    // Behind the type at once, even where a pointer is in it.
    let behind = [offset_of!(Misc<Hrd>, data), offset_of!(Misc<Regions>, data)];
    for offset in behind {
        out.push_str(&format!("OFFSET(VAEncMiscParameterBuffer, data, {offset})\n"));
    }
    offsets!(out, CodedSegment = "VACodedBufferSegment": status = "status", buf = "buf", next = "next");
    offsets!(out, Pipeline = "VAProcPipelineParameterBuffer": surface_region = "surface_region",
        surface_color_standard = "surface_color_standard", output_region = "output_region",
        output_color_standard = "output_color_standard", filters = "filters",
        blend_state = "blend_state", input_color_properties = "input_color_properties",
        output_color_properties = "output_color_properties", output_hdr_metadata = "output_hdr_metadata");
    offsets!(out, PipelineCaps = "VAProcPipelineCaps": blend_flags = "blend_flags",
        output_pixel_format = "output_pixel_format", output_sizes = "max_output_width",
        reserved = "va_reserved");
    offsets!(out, ColorProperties = "VAProcColorProperties": color_range = "color_range",
        matrix_coefficients = "matrix_coefficients");
    constants! { out,
        PROFILE_NONE => "VAProfileNone",
        PROFILE_H264_MAIN => "VAProfileH264Main",
        PROFILE_H264_HIGH => "VAProfileH264High",
        PROFILE_H264_CONSTRAINED_BASELINE => "VAProfileH264ConstrainedBaseline",
        ENTRYPOINT_ENC_SLICE => "VAEntrypointEncSlice",
        ENTRYPOINT_ENC_SLICE_LP => "VAEntrypointEncSliceLP",
        ENTRYPOINT_VIDEO_PROC => "VAEntrypointVideoProc",
        ATTRIB_RT_FORMAT => "VAConfigAttribRTFormat",
        ATTRIB_RATE_CONTROL => "VAConfigAttribRateControl",
        ATTRIB_ENC_PACKED_HEADERS => "VAConfigAttribEncPackedHeaders",
        ATTRIB_ENC_MAX_REF_FRAMES => "VAConfigAttribEncMaxRefFrames",
        ATTRIB_MAX_PICTURE_WIDTH => "VAConfigAttribMaxPictureWidth",
        ATTRIB_MAX_PICTURE_HEIGHT => "VAConfigAttribMaxPictureHeight",
        ATTRIB_ENC_INTRA_REFRESH => "VAConfigAttribEncIntraRefresh",
        ATTRIB_ENC_ROI => "VAConfigAttribEncROI",
        REFRESH_COLUMN => "VA_ENC_INTRA_REFRESH_ROLLING_COLUMN",
        REFRESH_ROW => "VA_ENC_INTRA_REFRESH_ROLLING_ROW",
        BLEND_PREMULTIPLIED => "VA_BLEND_PREMULTIPLIED_ALPHA",
        ATTRIB_MAX_FRAME_SIZE => "VAConfigAttribMaxFrameSize",
        RC_CBR => "VA_RC_CBR", RC_VBR => "VA_RC_VBR", RC_CQP => "VA_RC_CQP",
        PACKED_SEQUENCE => "VA_ENC_PACKED_HEADER_SEQUENCE",
        PACKED_PICTURE => "VA_ENC_PACKED_HEADER_PICTURE",
        PACKED_SLICE => "VA_ENC_PACKED_HEADER_SLICE",
        PACKED_RAW => "VA_ENC_PACKED_HEADER_RAW_DATA",
        RT_FORMAT_YUV420 => "VA_RT_FORMAT_YUV420", RT_FORMAT_RGB32 => "VA_RT_FORMAT_RGB32",
        BUFFER_CODED => "VAEncCodedBufferType",
        BUFFER_SEQUENCE => "VAEncSequenceParameterBufferType",
        BUFFER_PICTURE => "VAEncPictureParameterBufferType",
        BUFFER_SLICE => "VAEncSliceParameterBufferType",
        BUFFER_PACKED_PARAMETER => "VAEncPackedHeaderParameterBufferType",
        BUFFER_PACKED_DATA => "VAEncPackedHeaderDataBufferType",
        BUFFER_MISC => "VAEncMiscParameterBufferType",
        BUFFER_PIPELINE => "VAProcPipelineParameterBufferType",
        MISC_FRAME_RATE => "VAEncMiscParameterTypeFrameRate",
        MISC_RATE_CONTROL => "VAEncMiscParameterTypeRateControl",
        MISC_MAX_FRAME_SIZE => "VAEncMiscParameterTypeMaxFrameSize",
        MISC_HRD => "VAEncMiscParameterTypeHRD",
        MISC_REFRESH => "VAEncMiscParameterTypeRIR",
        MISC_ROI => "VAEncMiscParameterTypeROI",
        HEADER_SEQUENCE => "VAEncPackedHeaderSequence",
        HEADER_PICTURE => "VAEncPackedHeaderPicture",
        HEADER_SLICE => "VAEncPackedHeaderSlice",
        HEADER_RAW => "VAEncPackedHeaderRawData",
        SURFACE_PIXEL_FORMAT => "VASurfaceAttribPixelFormat",
        SURFACE_MEMORY_TYPE => "VASurfaceAttribMemoryType",
        SURFACE_EXTERNAL => "VASurfaceAttribExternalBufferDescriptor",
        SETTABLE => "VA_SURFACE_ATTRIB_SETTABLE",
        MEMORY_DRM_PRIME_2 => "VA_SURFACE_ATTRIB_MEM_TYPE_DRM_PRIME_2",
        VALUE_INTEGER => "VAGenericValueTypeInteger", VALUE_POINTER => "VAGenericValueTypePointer",
        PROGRESSIVE => "VA_PROGRESSIVE", FOURCC_NV12 => "VA_FOURCC_NV12",
        INVALID_ID => "VA_INVALID_ID", NOT_SUPPORTED => "VA_ATTRIB_NOT_SUPPORTED",
        PICTURE_INVALID => "VA_PICTURE_H264_INVALID",
        PICTURE_SHORT_TERM => "VA_PICTURE_H264_SHORT_TERM_REFERENCE",
        CODED_OVERFLOW => "VA_CODED_BUF_STATUS_SLICE_OVERFLOW_MASK",
        CODED_BAD => "VA_CODED_BUF_STATUS_BAD_BITSTREAM",
        CODED_QP => "VA_CODED_BUF_STATUS_PICTURE_AVE_QP_MASK",
        COLOR_BT709 => "VAProcColorStandardBT709", COLOR_SRGB => "VAProcColorStandardSRGB",
        RANGE_REDUCED => "VA_SOURCE_RANGE_REDUCED", RANGE_FULL => "VA_SOURCE_RANGE_FULL",
    }
    // Where bits of bit fields lie is only to be seen at run time.
    out.push_str("int main(void) {\n");
    for (ty, word, field, position) in [
        ("VAEncSequenceParameterBufferH264", "seq_fields", "chroma_format_idc", SEQ_CHROMA_FORMAT),
        (
            "VAEncSequenceParameterBufferH264",
            "seq_fields",
            "frame_mbs_only_flag",
            SEQ_FRAME_MBS_ONLY,
        ),
        (
            "VAEncSequenceParameterBufferH264",
            "seq_fields",
            "direct_8x8_inference_flag",
            SEQ_DIRECT_8X8,
        ),
        (
            "VAEncSequenceParameterBufferH264",
            "seq_fields",
            "log2_max_frame_num_minus4",
            SEQ_LOG2_FRAME_NUM,
        ),
        ("VAEncSequenceParameterBufferH264", "seq_fields", "pic_order_cnt_type", SEQ_POC_TYPE),
        (
            "VAEncSequenceParameterBufferH264",
            "vui_fields",
            "bitstream_restriction_flag",
            VUI_BITSTREAM_RESTRICTION,
        ),
        (
            "VAEncSequenceParameterBufferH264",
            "vui_fields",
            "log2_max_mv_length_horizontal",
            VUI_MV_HORIZONTAL,
        ),
        (
            "VAEncSequenceParameterBufferH264",
            "vui_fields",
            "log2_max_mv_length_vertical",
            VUI_MV_VERTICAL,
        ),
        ("VAEncSequenceParameterBufferH264", "vui_fields", "low_delay_hrd_flag", VUI_LOW_DELAY_HRD),
        ("VAEncPictureParameterBufferH264", "pic_fields", "idr_pic_flag", PIC_IDR),
        ("VAEncPictureParameterBufferH264", "pic_fields", "reference_pic_flag", PIC_REFERENCE),
        ("VAEncPictureParameterBufferH264", "pic_fields", "entropy_coding_mode_flag", PIC_CABAC),
        (
            "VAEncPictureParameterBufferH264",
            "pic_fields",
            "deblocking_filter_control_present_flag",
            PIC_DEBLOCKING_CONTROL,
        ),
    ] {
        out.push_str(&format!(
            "{{ {ty} x = {{0}}; x.{word}.bits.{field} = 1; if (x.{word}.value != 1u << {position}) return __LINE__ & 127 | 1; }}\n"
        ));
    }
    for (field, mask) in [
        ("disable_frame_skip", RC_DISABLE_FRAME_SKIP),
        ("disable_bit_stuffing", RC_DISABLE_BIT_STUFFING),
    ] {
        out.push_str(&format!(
            "{{ VAEncMiscParameterRateControl x = {{0}}; x.rc_flags.bits.{field} = 1; if (x.rc_flags.value != {mask}u) return 99; }}\n"
        ));
    }
    for (ty, word, field, mask) in [
        ("VAEncMiscParameterRIR", "rir_flags", "enable_rir_column", REFRESH_COLUMN),
        ("VAEncMiscParameterRIR", "rir_flags", "enable_rir_row", REFRESH_ROW),
        (
            "VAEncMiscParameterBufferROI",
            "roi_flags",
            "roi_value_is_qp_delta",
            ROI_VALUE_IS_QP_DELTA,
        ),
    ] {
        out.push_str(&format!(
            "{{ {ty} x = {{0}}; x.{word}.bits.{field} = 1; if (x.{word}.value != {mask}u) return 98; }}\n"
        ));
    }
    for (field, value, mask) in [
        ("num_roi_regions", 0xff, ROI_REGIONS),
        ("roi_rc_priority_support", 1, ROI_PRIORITY),
        ("roi_rc_qp_delta_support", 1, ROI_QP_DELTA),
    ] {
        out.push_str(&format!(
            "{{ VAConfigAttribValEncROI x = {{0}}; x.bits.{field} = {value}; if (x.value != {mask}u) return 97; }}\n"
        ));
    }
    hevc_bits(&mut out);
    out.push_str("return 0; }\n");
    out
}

/// HEVC's structures: every field that is not a run of reserved words.
fn hevc_offsets(out: &mut String) {
    use h265::{Picture, PictureParameter, Sequence, Slice};
    macro_rules! same {
        ($ours:ident = $theirs:literal: $($field:ident),* $(,)?) => {
            $(out.push_str(&format!(
                "OFFSET({}, {}, {})\n", $theirs, stringify!($field), offset_of!($ours, $field)
            ));)*
        };
    }
    same!(Picture = "VAPictureHEVC": picture_id, pic_order_cnt, flags);
    same!(Sequence = "VAEncSequenceParameterBufferHEVC": general_profile_idc, general_level_idc,
        general_tier_flag, intra_period, intra_idr_period, ip_period, bits_per_second,
        pic_width_in_luma_samples, pic_height_in_luma_samples, seq_fields,
        log2_min_luma_coding_block_size_minus3, log2_diff_max_min_luma_coding_block_size,
        log2_min_transform_block_size_minus2, log2_diff_max_min_transform_block_size,
        max_transform_hierarchy_depth_inter, max_transform_hierarchy_depth_intra,
        pcm_sample_bit_depth_luma_minus1, pcm_sample_bit_depth_chroma_minus1,
        log2_min_pcm_luma_coding_block_size_minus3, log2_max_pcm_luma_coding_block_size_minus3,
        vui_parameters_present_flag, vui_fields, aspect_ratio_idc, sar_width, sar_height,
        vui_num_units_in_tick, vui_time_scale, min_spatial_segmentation_idc,
        max_bytes_per_pic_denom, max_bits_per_min_cu_denom, scc_fields);
    same!(PictureParameter = "VAEncPictureParameterBufferHEVC": decoded_curr_pic, reference_frames,
        coded_buf, collocated_ref_pic_index, last_picture, pic_init_qp, diff_cu_qp_delta_depth,
        pps_cb_qp_offset, pps_cr_qp_offset, num_tile_columns_minus1, num_tile_rows_minus1,
        column_width_minus1, row_height_minus1, log2_parallel_merge_level_minus2,
        ctu_max_bitsize_allowed, num_ref_idx_l0_default_active_minus1,
        num_ref_idx_l1_default_active_minus1, slice_pic_parameter_set_id, nal_unit_type,
        pic_fields, hierarchical_level_plus1, scc_fields);
    same!(Slice = "VAEncSliceParameterBufferHEVC": slice_segment_address, num_ctu_in_slice,
        slice_type, slice_pic_parameter_set_id, num_ref_idx_l0_active_minus1,
        num_ref_idx_l1_active_minus1, ref_pic_list0, ref_pic_list1, luma_log2_weight_denom,
        delta_chroma_log2_weight_denom, delta_luma_weight_l0, luma_offset_l0,
        delta_chroma_weight_l0, chroma_offset_l0, delta_luma_weight_l1, luma_offset_l1,
        delta_chroma_weight_l1, chroma_offset_l1, max_num_merge_cand, slice_qp_delta,
        slice_cb_qp_offset, slice_cr_qp_offset, slice_beta_offset_div2, slice_tc_offset_div2,
        slice_fields, pred_weight_table_bit_offset, pred_weight_table_bit_length);
    constants! { out,
        h265::PROFILE_MAIN => "VAProfileHEVCMain",
        h265::ATTRIB_PREDICTION_DIRECTION => "VAConfigAttribPredictionDirection",
        h265::ATTRIB_FEATURES => "VAConfigAttribEncHEVCFeatures",
        h265::ATTRIB_BLOCK_SIZES => "VAConfigAttribEncHEVCBlockSizes",
        h265::BOTH_LISTS => "VA_PREDICTION_DIRECTION_BI_NOT_EMPTY",
        h265::FEATURE_SUPPORTED => "VA_FEATURE_SUPPORTED",
        h265::FEATURE_REQUIRED => "VA_FEATURE_REQUIRED",
        h265::PICTURE_INVALID => "VA_PICTURE_HEVC_INVALID",
        h265::PICTURE_BEFORE => "VA_PICTURE_HEVC_RPS_ST_CURR_BEFORE",
    }
}

/// Where HEVC's bits lie.
fn hevc_bits(out: &mut String) {
    let sequence = "VAEncSequenceParameterBufferHEVC x = {0}; x.seq_fields";
    let vui = "VAEncSequenceParameterBufferHEVC x = {0}; x.vui_fields";
    let picture = "VAEncPictureParameterBufferHEVC x = {0}; x.pic_fields";
    let slice = "VAEncSliceParameterBufferHEVC x = {0}; x.slice_fields";
    let features = "union { VAConfigAttribValEncHEVCFeatures y; } x = {0}; x.y";
    let sizes = "union { VAConfigAttribValEncHEVCBlockSizes y; } x = {0}; x.y";
    for (word, field, position) in [
        (sequence, "chroma_format_idc", h265::SEQ_CHROMA_FORMAT),
        (sequence, "strong_intra_smoothing_enabled_flag", h265::SEQ_STRONG_INTRA_SMOOTHING),
        (sequence, "amp_enabled_flag", h265::SEQ_AMP),
        (sequence, "sample_adaptive_offset_enabled_flag", h265::SEQ_SAO),
        (sequence, "pcm_enabled_flag", h265::SEQ_PCM),
        (sequence, "pcm_loop_filter_disabled_flag", h265::SEQ_PCM_LOOP_FILTER_DISABLED),
        (sequence, "sps_temporal_mvp_enabled_flag", h265::SEQ_TEMPORAL_MVP),
        (sequence, "low_delay_seq", h265::SEQ_LOW_DELAY),
        (vui, "bitstream_restriction_flag", h265::VUI_BITSTREAM_RESTRICTION),
        (vui, "motion_vectors_over_pic_boundaries_flag", h265::VUI_MV_OVER_BOUNDARIES),
        (vui, "restricted_ref_pic_lists_flag", h265::VUI_RESTRICTED_LISTS),
        (vui, "log2_max_mv_length_horizontal", h265::VUI_MV_HORIZONTAL),
        (vui, "log2_max_mv_length_vertical", h265::VUI_MV_VERTICAL),
        (picture, "idr_pic_flag", h265::PIC_IDR),
        (picture, "coding_type", h265::PIC_CODING_TYPE),
        (picture, "reference_pic_flag", h265::PIC_REFERENCE),
        (picture, "sign_data_hiding_enabled_flag", h265::PIC_SIGN_DATA_HIDING),
        (picture, "transform_skip_enabled_flag", h265::PIC_TRANSFORM_SKIP),
        (picture, "cu_qp_delta_enabled_flag", h265::PIC_CU_QP_DELTA),
        (picture, "pps_loop_filter_across_slices_enabled_flag", h265::PIC_FILTER_ACROSS_SLICES),
        (slice, "last_slice_of_pic_flag", h265::SLICE_LAST_OF_PICTURE),
        (slice, "slice_temporal_mvp_enabled_flag", h265::SLICE_TEMPORAL_MVP),
        (slice, "slice_sao_luma_flag", h265::SLICE_SAO_LUMA),
        (slice, "slice_sao_chroma_flag", h265::SLICE_SAO_CHROMA),
        (slice, "slice_loop_filter_across_slices_enabled_flag", h265::SLICE_FILTER_ACROSS_SLICES),
        (slice, "collocated_from_l0_flag", h265::SLICE_COLLOCATED_FROM_L0),
        (features, "scaling_lists", h265::FEATURE_SCALING_LISTS),
        (features, "amp", h265::FEATURE_AMP),
        (features, "sao", h265::FEATURE_SAO),
        (features, "pcm", h265::FEATURE_PCM),
        (features, "temporal_mvp", h265::FEATURE_TEMPORAL_MVP),
        (features, "strong_intra_smoothing", h265::FEATURE_STRONG_INTRA_SMOOTHING),
        (features, "dependent_slices", h265::FEATURE_DEPENDENT_SLICES),
        (features, "sign_data_hiding", h265::FEATURE_SIGN_DATA_HIDING),
        (features, "constrained_intra_pred", h265::FEATURE_CONSTRAINED_INTRA),
        (features, "transform_skip", h265::FEATURE_TRANSFORM_SKIP),
        (features, "cu_qp_delta", h265::FEATURE_CU_QP_DELTA),
        (features, "weighted_prediction", h265::FEATURE_WEIGHTED_PREDICTION),
        (features, "transquant_bypass", h265::FEATURE_TRANSQUANT_BYPASS),
        (sizes, "log2_max_coding_tree_block_size_minus3", h265::SIZE_MAX_CTB),
        (sizes, "log2_min_luma_coding_block_size_minus3", h265::SIZE_MIN_CB),
        (sizes, "log2_max_luma_transform_block_size_minus2", h265::SIZE_MAX_TB),
        (sizes, "log2_min_luma_transform_block_size_minus2", h265::SIZE_MIN_TB),
        (sizes, "max_max_transform_hierarchy_depth_inter", h265::SIZE_DEPTH_INTER),
        (sizes, "max_max_transform_hierarchy_depth_intra", h265::SIZE_DEPTH_INTRA),
        (sizes, "log2_max_pcm_coding_block_size_minus3", h265::SIZE_MAX_PCM),
        (sizes, "log2_min_pcm_coding_block_size_minus3", h265::SIZE_MIN_PCM),
    ] {
        let value = word.rsplit(' ').next().unwrap_or_default();
        out.push_str(&format!(
            "{{ {word}.bits.{field} = 1; if ({value}.value != 1u << {position}) return 96; }}\n"
        ));
    }
}

#[test]
fn structures_and_constants_are_those_of_the_headers() {
    let program = std::env::temp_dir().join(format!("transom-va-layout-{}", std::process::id()));
    let mut compiler = Command::new("gcc")
        .args(["-x", "c", "-std=gnu11", "-o"])
        .arg(&program)
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gcc starts");
    let mut input = compiler.stdin.take().expect("stdin was piped");
    input.write_all(claims().as_bytes()).expect("gcc reads");
    drop(input);
    let output = compiler.wait_with_output().expect("gcc ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "no libva-dev, or a declaration is wrong:\n{said}");
    let bits = Command::new(&program).status().expect("the program runs");
    std::fs::remove_file(&program).expect("just made");
    assert!(bits.success(), "a bit field lies elsewhere: {bits}");
}
