//! One more picture for a screen at rest.
//!
//! A player that cuts access units itself knows that one is over when the next begins: it would show
//! what was typed last only once something else is typed. So there is a picture behind it in which
//! nothing changes and to which no other refers: every macroblock skipped, a dozen bytes.
//!
//! In: access units as they are sent. Out: the picture, in Annex B, if the stream allows for one that
//! no decoder could tell from the encoder's own. What this refuses to do: arithmetic coding, fields,
//! slice groups and weights; who needs it there asks for an IDR instead.

use h264_reader::{
    Context,
    nal::{
        Nal, RefNal,
        pps::{PicParamSetId, PicParameterSet},
        slice::{FieldPic, PicOrderCountLsb, SliceHeader},
        sps::{FrameMbsFlags, PicOrderCntType, SeqParameterSet},
    },
};

use crate::h264::{nal, nal_units};

/// As much of an access unit as is looked at: parameter sets and the head of a slice.
const HEAD: usize = 4096;

/// Macroblocks of the largest picture that H.264 knows (table A-1).
const MAX_MACROBLOCKS: u64 = 139_264;

/// What is known of the stream.
#[derive(Debug, Default)]
pub struct Still {
    context: Context,
    last: Option<Last>,
}

/// The last picture.
#[derive(Debug, Clone, Copy)]
struct Last {
    pps: PicParamSetId,
    frame_num: u16,
    order: Option<u32>,
}

impl Still {
    /// Looks at an access unit that is sent.
    pub fn look(&mut self, access_unit: &[u8]) {
        self.last = None;
        for unit in nal_units(&access_unit[..access_unit.len().min(HEAD)]) {
            let kind = nal::kind(unit);
            let unit = RefNal::new(unit, &[], true);
            match kind {
                nal::SPS => {
                    if let Ok(sps) = SeqParameterSet::from_bits(unit.rbsp_bits()) {
                        self.context.put_seq_param_set(sps);
                    }
                }
                nal::PPS => {
                    if let Ok(pps) = PicParameterSet::from_bits(&self.context, unit.rbsp_bits()) {
                        self.context.put_pic_param_set(pps);
                    }
                }
                1 | nal::IDR => {
                    self.last = self.slice(&unit);
                    return;
                }
                2..=4 => return,
                _ => {}
            }
        }
    }

    fn slice(&self, unit: &RefNal<'_>) -> Option<Last> {
        let header = unit.header().ok()?;
        let (slice, _, pps) =
            SliceHeader::from_bits(&self.context, &mut unit.rbsp_bits(), header, None).ok()?;
        // Behind a picture that is no reference another one would not be in order.
        let plain = header.nal_ref_idc() > 0 && matches!(slice.field_pic, FieldPic::Frame);
        let order = match slice.pic_order_cnt_lsb {
            None => None,
            Some(PicOrderCountLsb::Frame(order)) => Some(order),
            Some(_) => return None,
        };
        let (pps, frame_num) = (pps.pic_parameter_set_id, slice.frame_num);
        plain.then_some(Last { pps, frame_num, order })
    }

    /// A picture that shows the last one again; to be sent before any other, as often as wanted.
    ///
    /// Two in a row have the same place in the order of pictures, which decoders that are told not to
    /// reorder do not look at.
    pub fn repeat(&self) -> Option<Vec<u8>> {
        let last = self.last?;
        let pps = self.context.pps_by_id(last.pps)?;
        let sps = self.context.sps_by_id(pps.seq_parameter_set_id)?;
        let plain = !pps.entropy_coding_mode_flag
            && pps.slice_groups.is_none()
            && !pps.weighted_pred_flag
            && !pps.redundant_pic_cnt_present_flag
            && !sps.chroma_info.separate_colour_plane_flag
            && matches!(sps.frame_mbs_flags, FrameMbsFlags::Frames);
        let columns = u64::from(sps.pic_width_in_mbs_minus1) + 1;
        let rows = u64::from(sps.pic_height_in_map_units_minus1) + 1;
        let macroblocks = columns.checked_mul(rows).filter(|&all| all <= MAX_MACROBLOCKS)?;
        if !plain {
            return None;
        }
        // 7.3.3, and 7.3.4 with nothing but a run of skipped macroblocks.
        let mut bits = Bits::default();
        bits.ue(0); // first_mb_in_slice
        bits.ue(5); // slice_type: P, all slices of the picture
        bits.ue(last.pps.id().into());
        let width = u32::from(sps.log2_max_frame_num_minus4) + 4;
        bits.put(width, (u64::from(last.frame_num) + 1) & ((1 << width) - 1));
        match (&sps.pic_order_cnt, last.order) {
            (PicOrderCntType::TypeTwo, None) => {}
            (PicOrderCntType::TypeZero { log2_max_pic_order_cnt_lsb_minus4 }, Some(order)) => {
                // Encoders leave a place for a second field.
                let width = u32::from(*log2_max_pic_order_cnt_lsb_minus4) + 4;
                bits.put(width, (u64::from(order) + 1) & ((1 << width) - 1));
            }
            _ => return None,
        }
        bits.put(1, 0); // num_ref_idx_active_override_flag
        bits.put(1, 0); // ref_pic_list_modification_flag_l0
        bits.ue(0); // slice_qp_delta
        if pps.deblocking_filter_control_present_flag {
            bits.ue(1); // disable_deblocking_filter_idc: there is no edge to smooth
        }
        bits.ue(macroblocks); // mb_skip_run
        Some(bits.finish(1))
    }
}

/// Writes bits, most significant first.
#[derive(Debug, Default)]
struct Bits {
    bytes: Vec<u8>,
    free: u32,
}

impl Bits {
    fn put(&mut self, count: u32, value: u64) {
        for bit in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            if let Some(byte) = self.bytes.last_mut() {
                *byte |= ((value >> bit & 1) as u8) << self.free;
            }
        }
    }

    /// 9.1: as many zeros as bits follow the first one.
    fn ue(&mut self, value: u64) {
        let length = (value + 1).ilog2();
        self.put(length, 0);
        self.put(length + 1, value + 1);
    }

    /// A NAL unit with this header, behind a start code (7.3.1, 7.3.2.11).
    fn finish(mut self, header: u8) -> Vec<u8> {
        self.put(1, 1);
        let mut unit = vec![0, 0, 0, 1, header];
        let mut zeros = 0;
        for byte in self.bytes {
            if zeros == 2 && byte <= 3 {
                unit.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            unit.push(byte);
        }
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_written_as_the_standard_says() {
        let mut bits = Bits::default();
        [0, 1, 2, 3, 7].into_iter().for_each(|value| bits.ue(value));
        // 1 010 011 00100 0001000, and the stop bit.
        assert_eq!(bits.finish(1), [0, 0, 0, 1, 1, 0b1010_0110, 0b0100_0001, 0b0001_0000]);
        let mut bits = Bits::default();
        bits.put(24, 1);
        assert_eq!(bits.finish(1), [0, 0, 0, 1, 1, 0, 0, 3, 1, 0x80], "no start code inside");
    }

    #[test]
    fn there_is_nothing_to_repeat_before_a_picture_or_behind_what_cannot_be_read() {
        let mut still = Still::default();
        assert_eq!(still.repeat(), None);
        for unit in [
            &[][..],
            &[0, 0, 1, 0x67, 66, 0xc0, 32],
            &[0, 0, 1, 0x65],
            &[0, 0, 1, 0x65, 0x88, 0x84],
        ] {
            still.look(unit);
            assert_eq!(still.repeat(), None, "{unit:?}");
        }
    }
}
