//! Vector instructions: colour conversion as [`crate::convert`] specifies it, many pixels at a
//! time, and sums of absolute differences.
//!
//! Bytes of two rows enter (of one, in 4:4:4), bytes of three planes leave, the same ones to the bit. Words of 16
//! bits hold one product each, so that all there is to do is to multiply, add and shift them:
//! instructions that emulators pass on to the machine they run on, where sums of products or
//! shuffles would be taken apart byte by byte. Only packing the results needs some of those.

use std::arch::x86_64::*;

use crate::convert::{FullPlanes, Order, Planes};

/// Constants in both orders: for words (first channel, third) and (second channel, padding), each
/// for luma, and in chroma for U in the lower half and V in the upper.
struct Factors {
    luma: [i32; 2],
    chroma: [i64; 2],
}

/// Two words.
const fn pair(low: i16, high: i16) -> i32 {
    (low as u16 as i32) | (high as i32) << 16
}

const fn quad(low: i32, high: i32) -> i64 {
    (low as u32 as i64) | (high as i64) << 32
}

impl Factors {
    fn new(order: Order) -> Self {
        use crate::convert::{LUMA, U, V};
        let of = |[red, green, blue]: [i16; 3]| match order {
            Order::Bgrx => (pair(blue, red), pair(green, 0)),
            Order::Rgbx => (pair(red, blue), pair(green, 0)),
        };
        let (luma, u, v) = (of(LUMA), of(U), of(V));
        Self { luma: [luma.0, luma.1], chroma: [quad(u.0, v.0), quad(u.1, v.1)] }
    }
}

macro_rules! kernel {
    (
        $(#[$attribute:meta])* $name:ident, $vector:ty, $pixels:literal,
        load $load:ident, store $store:ident, half $half:ident,
        set32 $set32:ident, set64 $set64:ident, set16 $set16:ident,
        and $and:ident, add16 $add16:ident, add32 $add32:ident, add64 $add64:ident,
        mul $mul:ident, right16 $right16:ident, right32 $right32:ident,
        right64 $right64:ident, left64 $left64:ident,
        pack32 $pack32:ident, pack16 $pack16:ident, order $order:ident, split $split:ident
    ) => {
        $(#[$attribute])*
        fn $name(order: Order, rows: [&[u8]; 2], planes: Planes<'_>) -> usize {
            const STEP: usize = $pixels;
            let factors = Factors::new(order);
            let [luma_outer, luma_inner] = factors.luma.map(|c| $set32(c));
            let [chroma_outer, chroma_inner] = factors.chroma.map(|c| $set64(c));
            let low = $set16(0xff);
            let low32 = $set32(0xff);
            let luma_offset = $set32(crate::convert::LUMA_OFFSET as i32);
            let chroma_offset = $set32(crate::convert::CHROMA_OFFSET as i32);
            let two = $set16(2);
            let Planes { y: [y0, y1], u, v } = planes;
            let steps = rows[0]
                .chunks_exact(4 * STEP)
                .zip(rows[1].chunks_exact(4 * STEP))
                .zip(y0.chunks_exact_mut(STEP).zip(y1.chunks_exact_mut(STEP)))
                .zip(u.chunks_exact_mut(STEP / 2).zip(v.chunks_exact_mut(STEP / 2)));
            let mut done = 0;
            for (((top, bottom), (y0, y1)), (u, v)) in steps {
                let mut outer = [$set32(0); 4];
                let mut inner = [$set32(0); 4];
                for (source, y) in [(top, y0), (bottom, y1)] {
                    let mut luma = [$set32(0); 4];
                    for i in 0..4 {
                        // SAFETY: chunks hold four vectors, and the load needs no alignment.
                        #[allow(unsafe_code)]
                        let pixels = unsafe { $load(source.as_ptr().cast::<$vector>().add(i)) };
                        // First and third channel; second channel and padding.
                        let (ends, middle) = ($and(pixels, low), $right16::<8>(pixels));
                        outer[i] = $add16(outer[i], ends);
                        inner[i] = $add16(inner[i], middle);
                        let sum = $add16($mul(ends, luma_outer), $mul(middle, luma_inner));
                        let sum = $add32($add32(sum, $right32::<16>(sum)), luma_offset);
                        luma[i] = $and($right32::<8>(sum), low32);
                    }
                    let [a, b, c, d] = luma;
                    let bytes = $order($pack16($pack32(a, b), $pack32(c, d)));
                    // SAFETY: the chunk is as long as the vector.
                    #[allow(unsafe_code)]
                    unsafe { $store(y.as_mut_ptr().cast::<$vector>(), bytes) };
                }
                let mut chroma = [$set32(0); 4];
                for i in 0..4 {
                    // Pairs of pixels; both halves get the sum.
                    let fold = |sum| {
                        let both = $add64($add64(sum, $right64::<32>(sum)), $left64::<32>(sum));
                        $right16::<2>($add16(both, two))
                    };
                    let sum = $add16(
                        $mul(fold(outer[i]), chroma_outer),
                        $mul(fold(inner[i]), chroma_inner),
                    );
                    let sum = $add16($add16(sum, $right32::<16>(sum)), chroma_offset);
                    chroma[i] = $and($right32::<8>(sum), low32);
                }
                let [a, b, c, d] = chroma;
                let both = $order($pack16($pack32(a, b), $pack32(c, d)));
                let both = $split($pack16($and(both, low), $right16::<8>(both)));
                // SAFETY: each chunk is as long as half a vector.
                #[allow(unsafe_code)]
                unsafe {
                    let halves: [$half; 2] = std::mem::transmute(both);
                    u.as_mut_ptr().cast::<$half>().write_unaligned(halves[0]);
                    v.as_mut_ptr().cast::<$half>().write_unaligned(halves[1]);
                }
                done += STEP;
            }
            done
        }
    };
}

kernel!(
    /// Yields how many pixels of the rows it has done.
    #[target_feature(enable = "sse2")]
    sse2, __m128i, 16,
    load _mm_loadu_si128, store _mm_storeu_si128, half u64,
    set32 _mm_set1_epi32, set64 _mm_set1_epi64x, set16 _mm_set1_epi16,
    and _mm_and_si128, add16 _mm_add_epi16, add32 _mm_add_epi32, add64 _mm_add_epi64,
    mul _mm_mullo_epi16, right16 _mm_srli_epi16, right32 _mm_srli_epi32,
    right64 _mm_srli_epi64, left64 _mm_slli_epi64,
    pack32 _mm_packs_epi32, pack16 _mm_packus_epi16, order keep, split keep
);

kernel!(
    /// Yields how many pixels of the rows it has done.
    #[target_feature(enable = "avx2")]
    avx2, __m256i, 32,
    load _mm256_loadu_si256, store _mm256_storeu_si256, half u128,
    set32 _mm256_set1_epi32, set64 _mm256_set1_epi64x, set16 _mm256_set1_epi16,
    and _mm256_and_si256, add16 _mm256_add_epi16, add32 _mm256_add_epi32, add64 _mm256_add_epi64,
    mul _mm256_mullo_epi16, right16 _mm256_srli_epi16, right32 _mm256_srli_epi32,
    right64 _mm256_srli_epi64, left64 _mm256_slli_epi64,
    pack32 _mm256_packs_epi32, pack16 _mm256_packus_epi16, order in_order, split halves
);

macro_rules! full_kernel {
    (
        $(#[$attribute:meta])* $name:ident, $vector:ty, $pixels:literal,
        load $load:ident, store $store:ident, set32 $set32:ident, set16 $set16:ident,
        and $and:ident, add16 $add16:ident, add32 $add32:ident,
        mul $mul:ident, right16 $right16:ident, right32 $right32:ident,
        pack32 $pack32:ident, pack16 $pack16:ident, order $order:ident
    ) => {
        $(#[$attribute])*
        fn $name(order: Order, row: &[u8], planes: FullPlanes<'_>) -> usize {
            const STEP: usize = $pixels;
            let Factors { luma, chroma } = Factors::new(order);
            let offsets = [crate::convert::LUMA_OFFSET, crate::convert::CHROMA_OFFSET];
            let [luma_offset, chroma_offset] = offsets.map(|offset| $set32(offset.into()));
            let [u_factors, v_factors] = [0, 32].map(|by| chroma.map(|both| (both >> by) as i32));
            let plan = [
                (luma, luma_offset),
                (u_factors, chroma_offset),
                (v_factors, chroma_offset),
            ]
            .map(|([outer, inner], offset)| ($set32(outer), $set32(inner), offset));
            let (low, low32) = ($set16(0xff), $set32(0xff));
            let FullPlanes { y, u, v } = planes;
            let steps = row
                .chunks_exact(4 * STEP)
                .zip(y.chunks_exact_mut(STEP))
                .zip(u.chunks_exact_mut(STEP).zip(v.chunks_exact_mut(STEP)));
            let mut done = 0;
            for ((source, y), (u, v)) in steps {
                // First and third channel; second channel and padding.
                let mut parts = [($set32(0), $set32(0)); 4];
                for (i, part) in parts.iter_mut().enumerate() {
                    // SAFETY: chunks hold four vectors, and the load needs no alignment.
                    #[allow(unsafe_code)]
                    let pixels = unsafe { $load(source.as_ptr().cast::<$vector>().add(i)) };
                    *part = ($and(pixels, low), $right16::<8>(pixels));
                }
                for ((outer, inner, offset), out) in plan.into_iter().zip([y, u, v]) {
                    let mut samples = [$set32(0); 4];
                    for (sample, (ends, middle)) in samples.iter_mut().zip(parts) {
                        let sum = $add16($mul(ends, outer), $mul(middle, inner));
                        let sum = $add32($add32(sum, $right32::<16>(sum)), offset);
                        *sample = $and($right32::<8>(sum), low32);
                    }
                    let [a, b, c, d] = samples;
                    let bytes = $order($pack16($pack32(a, b), $pack32(c, d)));
                    // SAFETY: the chunk is as long as the vector.
                    #[allow(unsafe_code)]
                    unsafe { $store(out.as_mut_ptr().cast::<$vector>(), bytes) };
                }
                done += STEP;
            }
            done
        }
    };
}

full_kernel!(
    /// The same for a row of 4:4:4.
    #[target_feature(enable = "sse2")]
    full_sse2, __m128i, 16,
    load _mm_loadu_si128, store _mm_storeu_si128, set32 _mm_set1_epi32, set16 _mm_set1_epi16,
    and _mm_and_si128, add16 _mm_add_epi16, add32 _mm_add_epi32,
    mul _mm_mullo_epi16, right16 _mm_srli_epi16, right32 _mm_srli_epi32,
    pack32 _mm_packs_epi32, pack16 _mm_packus_epi16, order keep
);

full_kernel!(
    /// The same for a row of 4:4:4.
    #[target_feature(enable = "avx2")]
    full_avx2, __m256i, 32,
    load _mm256_loadu_si256, store _mm256_storeu_si256,
    set32 _mm256_set1_epi32, set16 _mm256_set1_epi16,
    and _mm256_and_si256, add16 _mm256_add_epi16, add32 _mm256_add_epi32,
    mul _mm256_mullo_epi16, right16 _mm256_srli_epi16, right32 _mm256_srli_epi32,
    pack32 _mm256_packs_epi32, pack16 _mm256_packus_epi16, order in_order
);

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

/// Whether this processor has AVX2.
pub fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
}

/// With AVX2 where the processor has it; nothing at all elsewhere. Yields how many pixels of the
/// rows are done.
pub fn with_avx2(order: Order, rows: [&[u8]; 2], planes: Planes<'_>) -> usize {
    if !has_avx2() {
        return 0;
    }
    // SAFETY: the processor has it.
    #[allow(unsafe_code)]
    unsafe {
        avx2(order, rows, planes)
    }
}

/// With SSE2, which every x86-64 has. Yields how many pixels of the rows are done.
pub fn with_sse2(order: Order, rows: [&[u8]; 2], planes: Planes<'_>) -> usize {
    // SAFETY: it is part of the architecture.
    #[allow(unsafe_code)]
    unsafe {
        sse2(order, rows, planes)
    }
}

/// A row of 4:4:4 with AVX2 where the processor has it; nothing at all elsewhere. Yields how many
/// pixels of the row are done.
pub fn full_with_avx2(order: Order, row: &[u8], planes: FullPlanes<'_>) -> usize {
    if !has_avx2() {
        return 0;
    }
    // SAFETY: the processor has it.
    #[allow(unsafe_code)]
    unsafe {
        full_avx2(order, row, planes)
    }
}

/// A row of 4:4:4 with SSE2. Yields how many pixels of the row are done.
pub fn full_with_sse2(order: Order, row: &[u8], planes: FullPlanes<'_>) -> usize {
    // SAFETY: it is part of the architecture.
    #[allow(unsafe_code)]
    unsafe {
        full_sse2(order, row, planes)
    }
}

/// Packing works in one lane of 128 bits here.
#[inline]
fn keep(vector: __m128i) -> __m128i {
    vector
}

/// It works in each lane by itself there: puts groups of four bytes back in order.
#[target_feature(enable = "avx2")]
fn in_order(vector: __m256i) -> __m256i {
    _mm256_permutevar8x32_epi32(vector, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// The same for groups of eight.
#[target_feature(enable = "avx2")]
fn halves(vector: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(vector)
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
