//! What libva is told about a stream and each of its pictures.
//!
//! In: the stream, its rate, and which surfaces are at work. Out: libva's structures. No call of
//! libva is made here.

use super::headers::{FRAME_NUM_BITS, INITIAL_QP, Stream};
use crate::sys::va::abi::{self, Id, PictureH264};

/// The rate is kept over this many frames.
const HRD_FRAMES: u64 = 2;
const FRAME_NUM_MASK: u32 = (1 << FRAME_NUM_BITS) - 1;

/// What the stream wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bits per second.
    pub bitrate: u32,
    /// Most frames per second.
    pub fps: u16,
}

/// A rate, as drivers want to be told.
#[derive(Debug)]
pub struct Rates {
    /// Bits, and what may be done to keep to them.
    pub control: abi::RateControl,
    /// Frames.
    pub frames: abi::FrameRate,
    /// The buffer that no frame may exceed.
    pub hrd: abi::Hrd,
    /// The same bound for drivers that keep an HRD loosely, as most do.
    pub most: abi::MaxFrameSize,
}

impl Rates {
    /// Low delay: all of it within [`HRD_FRAMES`].
    pub fn of(rate: Rate) -> Self {
        let Rate { bitrate, fps } = rate;
        let fps = u32::from(fps.max(1));
        let hrd = (u64::from(bitrate) * HRD_FRAMES / u64::from(fps)).max(1);
        let control = abi::RateControl {
            bits_per_second: bitrate,
            target_percentage: 100,
            window_size: (1000 * HRD_FRAMES as u32 / fps).max(1),
            initial_qp: INITIAL_QP.into(),
            rc_flags: abi::RC_DISABLE_FRAME_SKIP | abi::RC_DISABLE_BIT_STUFFING,
            ..abi::RateControl::default()
        };
        let hrd = abi::Hrd {
            initial_buffer_fullness: hrd as u32,
            buffer_size: hrd as u32,
            reserved: [0; 4],
        };
        let frames = abi::FrameRate { framerate: 1 << 16 | fps, ..abi::FrameRate::default() };
        let most =
            abi::MaxFrameSize { max_frame_size: hrd.buffer_size, ..abi::MaxFrameSize::default() };
        Self { control, frames, hrd, most }
    }
}

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
    /// `idr_pic_id` of the last IDR.
    pub idr_id: u16,
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
    pub fn sequence(&self) -> abi::SequenceH264 {
        let (columns, rows) = self.stream.macroblocks();
        let (right, bottom) = self.stream.crop();
        abi::SequenceH264 {
            seq_parameter_set_id: 0,
            level_idc: self.stream.level,
            // As long as can be said: an IDR comes on request alone.
            intra_period: u32::from(u16::MAX),
            intra_idr_period: u32::from(u16::MAX),
            ip_period: 1,
            bits_per_second: if self.constant { 0 } else { self.rate.bitrate },
            max_num_ref_frames: 1,
            picture_width_in_mbs: columns as u16,
            picture_height_in_mbs: rows as u16,
            seq_fields: 1 << abi::SEQ_CHROMA_FORMAT
                | 1 << abi::SEQ_FRAME_MBS_ONLY
                | 1 << abi::SEQ_DIRECT_8X8
                | (FRAME_NUM_BITS - 4) << abi::SEQ_LOG2_FRAME_NUM
                | (FRAME_NUM_BITS - 4) << (abi::SEQ_POC_TYPE + 2),
            bit_depth_luma_minus8: 0,
            bit_depth_chroma_minus8: 0,
            num_ref_frames_in_pic_order_cnt_cycle: 0,
            offset_for_non_ref_pic: 0,
            offset_for_top_to_bottom_field: 0,
            offset_for_ref_frame: [0; 256],
            frame_cropping_flag: u8::from(right + bottom > 0),
            frame_crop_left_offset: 0,
            frame_crop_right_offset: right,
            frame_crop_top_offset: 0,
            frame_crop_bottom_offset: bottom,
            vui_parameters_present_flag: 1,
            vui_fields: 1 << abi::VUI_BITSTREAM_RESTRICTION
                | 15 << abi::VUI_MV_HORIZONTAL
                | 15 << abi::VUI_MV_VERTICAL
                | 1 << abi::VUI_LOW_DELAY_HRD,
            aspect_ratio_idc: 0,
            sar_width: 0,
            sar_height: 0,
            num_units_in_tick: 1,
            time_scale: 2 * u32::from(self.rate.fps.max(1)),
            reserved: [0; 4],
        }
    }

    fn reference(picture_id: Id, frame: u32, flags: u32) -> PictureH264 {
        let order = frame.wrapping_mul(2) as i32;
        PictureH264 {
            picture_id,
            frame_idx: frame & FRAME_NUM_MASK,
            flags,
            top_field_order_cnt: order,
            bottom_field_order_cnt: order,
            reserved: [0; 4],
        }
    }

    /// The picture before this one.
    fn before(&self) -> PictureH264 {
        Self::reference(self.before, self.frame.wrapping_sub(1), abi::PICTURE_SHORT_TERM)
    }

    /// The picture.
    pub fn picture(&self) -> abi::PictureParameterH264 {
        let mut references = [PictureH264::NONE; 16];
        if !self.idr {
            references[0] = self.before();
        }
        abi::PictureParameterH264 {
            curr_pic: Self::reference(self.current, self.frame, 0),
            reference_frames: references,
            coded_buf: self.coded,
            pic_parameter_set_id: 0,
            seq_parameter_set_id: 0,
            last_picture: 0,
            frame_num: (self.frame & FRAME_NUM_MASK) as u16,
            pic_init_qp: INITIAL_QP,
            num_ref_idx_l0_active_minus1: 0,
            num_ref_idx_l1_active_minus1: 0,
            chroma_qp_index_offset: 0,
            second_chroma_qp_index_offset: 0,
            pic_fields: u32::from(self.idr) << abi::PIC_IDR
                | 1 << abi::PIC_REFERENCE
                | u32::from(self.stream.profile.cabac()) << abi::PIC_CABAC
                | 1 << abi::PIC_DEBLOCKING_CONTROL,
            reserved: [0; 4],
        }
    }

    /// Its only slice.
    pub fn slice(&self) -> abi::SliceH264 {
        let (columns, rows) = self.stream.macroblocks();
        let mut list = [PictureH264::NONE; 32];
        if !self.idr {
            list[0] = self.before();
        }
        abi::SliceH264 {
            macroblock_address: 0,
            num_macroblocks: columns * rows,
            macroblock_info: abi::INVALID_ID,
            slice_type: if self.idr { 2 } else { 0 },
            pic_parameter_set_id: 0,
            idr_pic_id: self.idr_id,
            pic_order_cnt_lsb: (self.frame.wrapping_mul(2) & FRAME_NUM_MASK) as u16,
            delta_pic_order_cnt_bottom: 0,
            delta_pic_order_cnt: [0; 2],
            direct_spatial_mv_pred_flag: 0,
            num_ref_idx_active_override_flag: 0,
            num_ref_idx_l0_active_minus1: 0,
            num_ref_idx_l1_active_minus1: 0,
            ref_pic_list0: list,
            ref_pic_list1: [PictureH264::NONE; 32],
            luma_log2_weight_denom: 0,
            chroma_log2_weight_denom: 0,
            luma_weight_l0_flag: 0,
            luma_weight_l0: [0; 32],
            luma_offset_l0: [0; 32],
            chroma_weight_l0_flag: 0,
            chroma_weight_l0: [[0; 2]; 32],
            chroma_offset_l0: [[0; 2]; 32],
            luma_weight_l1_flag: 0,
            luma_weight_l1: [0; 32],
            luma_offset_l1: [0; 32],
            chroma_weight_l1_flag: 0,
            chroma_weight_l1: [[0; 2]; 32],
            chroma_offset_l1: [[0; 2]; 32],
            cabac_init_idc: 0,
            slice_qp_delta: 0,
            disable_deblocking_filter_idc: 0,
            slice_alpha_c0_offset_div2: 0,
            slice_beta_offset_div2: 0,
            reserved: [0; 4],
        }
    }
}
