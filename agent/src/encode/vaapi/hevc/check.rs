//! What came out of a driver as HEVC: is it the stream that was asked for?
//!
//! In: bytes that a driver wrote, so that nothing about them is certain. Out: what the SPS among
//! them announces. Of slices, no more than the first bit is looked at.

use crate::encode::vaapi::check::{Announced, Bits, Wrong, name, units};

/// `nal_unit_type`: the first that is no slice of a picture.
const NO_SLICE: u8 = 32;
/// IDR pictures, with and without leading ones, of which there are none.
const IDR: [u8; 2] = [19, 20];
/// The first of the random access types: IDR and others, that nobody asks for.
const RANDOM_ACCESS: u8 = 16;

/// Looks over an access unit. Yields what its SPS announces, if it has one.
///
/// # Errors
///
/// See [`Wrong`].
pub fn access_unit(bytes: &[u8], idr: bool) -> Result<Option<Announced>, Wrong> {
    if bytes.is_empty() {
        return Err(Wrong::Empty);
    }
    if !(bytes.starts_with(&[0, 0, 0, 1]) || bytes.starts_with(&[0, 0, 1])) {
        return Err(Wrong::Syntax);
    }
    let (mut announced, mut vps, mut pps, mut slices) = (None, false, false, 0);
    for unit in units(bytes) {
        // forbidden_zero_bit, nal_unit_type, nuh_layer_id 0, nuh_temporal_id_plus1 1.
        let &[header, layers, ..] = unit else { return Err(Wrong::Syntax) };
        if header & 0x81 != 0 || layers != 1 {
            return Err(Wrong::Syntax);
        }
        match header >> 1 {
            // They come first: nobody looks for them behind the bulk of a frame.
            32..=34 if slices > 0 => return Err(Wrong::Syntax),
            32 => vps = true,
            33 => {
                let sps = sps(unit).ok_or(Wrong::Sps)?;
                if announced.replace(sps.clone()).is_some_and(|before| before != sps) {
                    return Err(Wrong::Ambiguous);
                }
            }
            34 => pps = true,
            kind if kind < NO_SLICE => {
                let is_idr = IDR.contains(&kind);
                let wrong = |found| Err(Wrong::Slice { found, wanted: name(idr) });
                if is_idr != idr {
                    return wrong(name(is_idr));
                }
                if !is_idr && kind >= RANDOM_ACCESS {
                    return wrong("another random access picture");
                }
                let first = unit.get(2).is_some_and(|byte| byte & 0x80 != 0);
                if (slices == 0) != first {
                    return wrong("a second picture");
                }
                slices += 1;
            }
            35 | 38..=40 => {} // access unit delimiter, filler data, SEI before and behind
            _ => return Err(Wrong::Syntax),
        }
    }
    if slices == 0 {
        return Err(Wrong::Slice { found: "no slice", wanted: name(idr) });
    }
    if idr && (announced.is_none() || !vps || !pps) {
        return Err(Wrong::NoParameterSets);
    }
    Ok(announced)
}

/// Whether what is announced is what was asked for.
///
/// # Errors
///
/// Another profile or size, or frames out of order.
pub fn fits(announced: &Announced, size: (u32, u32)) -> Result<(), Wrong> {
    if announced.profile_idc != 1 {
        return Err(Wrong::Profile(announced.profile_idc));
    }
    if announced.size != size {
        return Err(Wrong::Size { found: announced.size, wanted: size });
    }
    if announced.reorder.is_none_or(|frames| frames > 0) {
        return Err(Wrong::Reordering);
    }
    Ok(())
}

/// Reads an SPS as far as the order of pictures (7.3.2.2.1).
fn sps(unit: &[u8]) -> Option<Announced> {
    if unit.len() > 1024 {
        return None;
    }
    let mut bits = Bits::behind(unit, 2);
    bits.take(4)?; // sps_video_parameter_set_id
    let sub_layers = bits.take(3)?;
    bits.take(1)?; // sps_temporal_id_nesting_flag
    let (space, _tier, profile) = (bits.take(2)?, bits.take(1)?, bits.take(5)?);
    let compatible = bits.take(32)?;
    bits.take(24)?;
    bits.take(24)?;
    let level = bits.take(8)?;
    // Nobody asks for sub-layers, and what their profiles are made of is a page of its own.
    if sub_layers > 0 || space > 0 {
        return None;
    }
    bits.ue()?; // sps_seq_parameter_set_id
    let chroma = bits.ue()?;
    let (width, height) = (bits.ue()?, bits.ue()?);
    let mut window = [0; 4];
    if bits.take(1)? == 1 {
        for edge in &mut window {
            *edge = bits.ue()?;
        }
    }
    let depth = (bits.ue()?, bits.ue()?);
    // The colours and the depth that Main has.
    if chroma != 1 || depth != (0, 0) {
        return None;
    }
    bits.ue()?; // log2_max_pic_order_cnt_lsb_minus4
    bits.take(1)?; // sps_sub_layer_ordering_info_present_flag
    bits.ue()?; // sps_max_dec_pic_buffering_minus1
    let reorder = bits.ue()?;
    let edge = |samples: u32, both: [u32; 2]| {
        let cut = both[0].checked_add(both[1])?.checked_mul(2)?;
        samples.checked_sub(cut).filter(|&edge| edge > 0)
    };
    let main = profile == 1 || compatible >> 30 & 1 == 1;
    Some(Announced {
        profile_idc: if main { 1 } else { profile as u8 },
        constraints: 0,
        level: level as u8,
        size: (edge(width, [window[0], window[1]])?, edge(height, [window[2], window[3]])?),
        order_type: 0,
        reorder: Some(reorder),
        sps: unit.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_wrong_is_named() {
        let slice = |kind: u8| [0, 0, 1, kind << 1, 1, 0x80];
        assert_eq!(access_unit(&[], true), Err(Wrong::Empty));
        assert_eq!(access_unit(&[1, 2, 3], true), Err(Wrong::Syntax));
        assert_eq!(access_unit(&slice(19), true), Err(Wrong::NoParameterSets));
        assert!(matches!(access_unit(&slice(1), true), Err(Wrong::Slice { .. })));
        assert!(matches!(access_unit(&slice(19), false), Err(Wrong::Slice { .. })));
        assert!(matches!(access_unit(&slice(21), false), Err(Wrong::Slice { .. })));
        assert_eq!(access_unit(&slice(1), false), Ok(None));
        let two = [slice(1), slice(1)].concat();
        assert!(matches!(access_unit(&two, false), Err(Wrong::Slice { .. })), "two pictures");
        assert_eq!(access_unit(&[0, 0, 1, 2, 9, 0x80], false), Err(Wrong::Syntax), "a layer");
        assert_eq!(access_unit(&[0, 0, 1, 66, 1, 9], true), Err(Wrong::Sps));
        // H.264 is none of it.
        let h264 = [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0, 0, 0, 1, 0x65, 0x88];
        assert!(access_unit(&h264, true).is_err());
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), idr: bool) {
            let _ = access_unit(&bytes, idr);
            let _ = access_unit(&[&[0, 0, 1, 66, 1][..], &bytes].concat(), idr);
        }
    }
}
