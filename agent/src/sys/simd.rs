//! Vector instructions for the encoder: sums of absolute differences.

use std::arch::x86_64::*;

/// Which of the 4x4 blocks of `N` by `N` samples, 16 or 8, have a sum of absolute differences above
/// `dead`, in rows of blocks from bit 0 on; and the sum of all. No instruction in the loop but those
/// that emulators pass on.
#[inline(always)]
pub fn lively<const N: usize>(a: &[[u8; N]; N], b: &[[u8; N]; N], dead: u32) -> (u16, u32) {
    const { assert!(N == 16 || N == 8) };
    // Sixteen bytes at a time: a row, or two rows of chroma.
    let per_band = N / 4;
    let parts =
        a.as_flattened().as_chunks::<16>().0.iter().zip(b.as_flattened().as_chunks::<16>().0);
    let (mut alive, mut total) = (0, [0u32; 4]);
    // SAFETY: SSE2 is part of the architecture, and loads and stores are as long as the arrays.
    #[allow(unsafe_code)]
    unsafe {
        let (low, dead) = (_mm_set1_epi16(0xff), _mm_set1_epi32(dead as i32));
        let (mut words, mut all) = (_mm_setzero_si128(), _mm_setzero_si128());
        for (index, (a, b)) in parts.enumerate() {
            let (a, b) = (_mm_loadu_si128(a.as_ptr().cast()), _mm_loadu_si128(b.as_ptr().cast()));
            let apart = _mm_sub_epi8(_mm_max_epu8(a, b), _mm_min_epu8(a, b));
            words = _mm_add_epi16(words, _mm_and_si128(apart, low));
            words = _mm_add_epi16(words, _mm_srli_epi16::<8>(apart));
            if index % per_band == per_band - 1 {
                let blocks = _mm_add_epi16(words, _mm_srli_epi32::<16>(words));
                let mut blocks = _mm_and_si128(blocks, _mm_set1_epi32(0xffff));
                all = _mm_add_epi32(all, blocks);
                if N == 8 {
                    // Each band has its even rows in one half and its odd rows in the other.
                    let swapped = _mm_shuffle_epi32::<0b01_00_11_10>(blocks);
                    blocks = _mm_add_epi32(blocks, swapped);
                }
                let above = _mm_movemask_ps(_mm_castsi128_ps(_mm_cmpgt_epi32(blocks, dead)));
                let in_band = above as u16 & ((1 << per_band) - 1);
                alive |= in_band << (index / per_band * per_band);
                words = _mm_setzero_si128();
            }
        }
        _mm_storeu_si128(total.as_mut_ptr().cast(), all);
    }
    (alive, total.iter().sum())
}

/// Sum of absolute differences of a macroblock and what lies in `there`, whose rows are `stride`
/// bytes apart; or at least `limit`, if half of it is that much already.
///
/// # Panics
///
/// `there` ends before the last row does.
#[inline(always)]
pub fn sad(macroblock: &[[u8; 16]; 16], there: &[u8], stride: usize, limit: u32) -> u32 {
    assert!(there.len() >= 15 * stride + 16, "a macroblock lies inside of its plane");
    let mut sum = 0;
    for half in 0..2 {
        // SAFETY: SSE2 is part of the architecture, and the last row was found to lie inside.
        #[allow(unsafe_code)]
        unsafe {
            let mut sums = _mm_setzero_si128();
            for (row, samples) in (half * 8..).zip(&macroblock[half * 8..half * 8 + 8]) {
                let a = _mm_loadu_si128(samples.as_ptr().cast());
                let b = _mm_loadu_si128(there.as_ptr().add(row * stride).cast());
                sums = _mm_add_epi64(sums, _mm_sad_epu8(a, b));
            }
            let sums = _mm_add_epi64(sums, _mm_unpackhi_epi64(sums, sums));
            sum += _mm_cvtsi128_si32(sums) as u32;
        }
        if sum >= limit {
            break;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reference<const N: usize>(a: &[[u8; N]; N], b: &[[u8; N]; N], dead: u32) -> (u16, u32) {
        let mut sums = [0; 16];
        for (y, x) in (0..N).flat_map(|y| (0..N).map(move |x| (y, x))) {
            sums[y / 4 * (N / 4) + x / 4] += u32::from(a[y][x].abs_diff(b[y][x]));
        }
        let alive = (0..16).filter(|&n| sums[n] > dead).map(|n| 1 << n).sum();
        (alive, sums.iter().sum())
    }

    proptest! {
        #[test]
        fn blocks_are_as_lively_as_plain_loops_find_them(
            a in prop::array::uniform16(prop::array::uniform16(any::<u8>())),
            b in prop::array::uniform16(prop::array::uniform16(any::<u8>())),
            dead in 0u32..3000,
        ) {
            prop_assert_eq!(lively(&a, &b, dead), reference(&a, &b, dead));
            let corner = |block: &[[u8; 16]; 16]| -> [[u8; 8]; 8] {
                std::array::from_fn(|y| std::array::from_fn(|x| block[y][x]))
            };
            let (a, b) = (corner(&a), corner(&b));
            prop_assert_eq!(lively(&a, &b, dead), reference(&a, &b, dead));
        }

        #[test]
        fn a_sum_is_that_of_plain_loops_or_beyond_the_limit(
            macroblock in prop::array::uniform16(prop::array::uniform16(any::<u8>())),
            there in prop::collection::vec(any::<u8>(), 15 * 20 + 16), limit in 0u32..60_000,
        ) {
            for stride in [0, 16, 20] {
                let apart = |y: usize, x: usize| macroblock[y][x].abs_diff(there[y * stride + x]);
                let plain: u32 =
                    (0..256).map(|at| u32::from(apart(at / 16, at % 16))).sum();
                let sum = sad(&macroblock, &there, stride, limit);
                prop_assert!(sum == plain || (limit <= sum && sum <= plain));
            }
        }
    }
}
