//! Colour conversion as [`crate::convert`] specifies it, many pixels at a time.
//!
//! Bytes of two rows enter (of one, in 4:4:4), bytes of three planes leave, the same ones to the
//! bit. There are two ways. With SSE2, words of 16 bits hold one product each, so that all there is
//! to do is to multiply, add and shift them: instructions that emulators pass on to the machine
//! they run on, where sums of products or shuffles would be taken apart byte by byte. AVX2 and
//! AVX-512 are for real processors, and sum the products of a pixel's bytes at once.

use std::arch::x86_64::*;

use crate::convert::{CHROMA_OFFSET, FullPlanes, LUMA, LUMA_OFFSET, Order, Planes, U, V};

/// Constants in both orders: for words (first channel, third) and (second channel, padding), each
/// for luma, and in chroma for U in the lower half and V in the upper.
struct Words {
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

impl Words {
    fn new(order: Order) -> Self {
        let of = |[red, green, blue]: [i16; 3]| match order {
            Order::Bgrx => (pair(blue, red), pair(green, 0)),
            Order::Rgbx => (pair(red, blue), pair(green, 0)),
        };
        let (luma, u, v) = (of(LUMA), of(U), of(V));
        Self { luma: [luma.0, luma.1], chroma: [quad(u.0, v.0), quad(u.1, v.1)] }
    }
}

/// Two rows of 4:2:0; yields how many pixels of the rows it has done.
#[target_feature(enable = "sse2")]
fn sse2(order: Order, rows: [&[u8]; 2], planes: Planes<'_>) -> usize {
    const STEP: usize = 16;
    let factors = Words::new(order);
    let [luma_outer, luma_inner] = factors.luma.map(|c| _mm_set1_epi32(c));
    let [chroma_outer, chroma_inner] = factors.chroma.map(|c| _mm_set1_epi64x(c));
    let low = _mm_set1_epi16(0xff);
    let low32 = _mm_set1_epi32(0xff);
    let luma_offset = _mm_set1_epi32(LUMA_OFFSET.into());
    let chroma_offset = _mm_set1_epi32(CHROMA_OFFSET.into());
    let two = _mm_set1_epi16(2);
    let Planes { y: [y0, y1], u, v } = planes;
    let steps = rows[0]
        .as_chunks::<{ 4 * STEP }>()
        .0
        .iter()
        .zip(rows[1].as_chunks::<{ 4 * STEP }>().0)
        .zip(y0.as_chunks_mut::<STEP>().0.iter_mut().zip(y1.as_chunks_mut::<STEP>().0))
        .zip(u.as_chunks_mut::<{ STEP / 2 }>().0.iter_mut().zip(v.as_chunks_mut().0));
    let mut done = 0;
    for (((top, bottom), (y0, y1)), (u, v)) in steps {
        let mut outer = [_mm_setzero_si128(); 4];
        let mut inner = [_mm_setzero_si128(); 4];
        for (source, y) in [(top, y0), (bottom, y1)] {
            let mut luma = [_mm_setzero_si128(); 4];
            for i in 0..4 {
                let pixels = load128(&source.as_chunks::<16>().0[i]);
                // First and third channel; second channel and padding.
                let (ends, middle) = (_mm_and_si128(pixels, low), _mm_srli_epi16::<8>(pixels));
                outer[i] = _mm_add_epi16(outer[i], ends);
                inner[i] = _mm_add_epi16(inner[i], middle);
                let sum = _mm_add_epi16(
                    _mm_mullo_epi16(ends, luma_outer),
                    _mm_mullo_epi16(middle, luma_inner),
                );
                let sum = _mm_add_epi32(_mm_add_epi32(sum, _mm_srli_epi32::<16>(sum)), luma_offset);
                luma[i] = _mm_and_si128(_mm_srli_epi32::<8>(sum), low32);
            }
            store128(y, bytes128(luma));
        }
        let mut chroma = [_mm_setzero_si128(); 4];
        for i in 0..4 {
            // Pairs of pixels; both halves get the sum.
            let fold = |sum| {
                let right = _mm_add_epi64(sum, _mm_srli_epi64::<32>(sum));
                let both = _mm_add_epi64(right, _mm_slli_epi64::<32>(sum));
                _mm_srli_epi16::<2>(_mm_add_epi16(both, two))
            };
            let sum = _mm_add_epi16(
                _mm_mullo_epi16(fold(outer[i]), chroma_outer),
                _mm_mullo_epi16(fold(inner[i]), chroma_inner),
            );
            let sum = _mm_add_epi16(_mm_add_epi16(sum, _mm_srli_epi32::<16>(sum)), chroma_offset);
            chroma[i] = _mm_and_si128(_mm_srli_epi32::<8>(sum), low32);
        }
        let both = bytes128(chroma);
        let both = _mm_packus_epi16(_mm_and_si128(both, low), _mm_srli_epi16::<8>(both));
        *u = _mm_cvtsi128_si64(both).to_le_bytes();
        *v = _mm_cvtsi128_si64(_mm_unpackhi_epi64(both, both)).to_le_bytes();
        done += STEP;
    }
    done
}

/// A row of 4:4:4; yields how many pixels of it are done.
#[target_feature(enable = "sse2")]
fn full_sse2(order: Order, row: &[u8], planes: FullPlanes<'_>) -> usize {
    const STEP: usize = 16;
    let Words { luma, chroma } = Words::new(order);
    let [u_factors, v_factors] = [0, 32].map(|by| chroma.map(|both| (both >> by) as i32));
    let plan = [(luma, LUMA_OFFSET), (u_factors, CHROMA_OFFSET), (v_factors, CHROMA_OFFSET)].map(
        |([outer, inner], offset)| {
            (_mm_set1_epi32(outer), _mm_set1_epi32(inner), _mm_set1_epi32(offset.into()))
        },
    );
    let (low, low32) = (_mm_set1_epi16(0xff), _mm_set1_epi32(0xff));
    let FullPlanes { y, u, v } = planes;
    let steps = row
        .as_chunks::<{ 4 * STEP }>()
        .0
        .iter()
        .zip(y.as_chunks_mut::<STEP>().0)
        .zip(u.as_chunks_mut::<STEP>().0.iter_mut().zip(v.as_chunks_mut::<STEP>().0));
    let mut done = 0;
    for ((source, y), (u, v)) in steps {
        // First and third channel; second channel and padding.
        let mut parts = [(_mm_setzero_si128(), _mm_setzero_si128()); 4];
        for (part, pixels) in parts.iter_mut().zip(source.as_chunks::<16>().0) {
            let pixels = load128(pixels);
            *part = (_mm_and_si128(pixels, low), _mm_srli_epi16::<8>(pixels));
        }
        for ((outer, inner, offset), out) in plan.into_iter().zip([y, u, v]) {
            let mut samples = [_mm_setzero_si128(); 4];
            for (sample, (ends, middle)) in samples.iter_mut().zip(parts) {
                let sum =
                    _mm_add_epi16(_mm_mullo_epi16(ends, outer), _mm_mullo_epi16(middle, inner));
                let sum = _mm_add_epi32(_mm_add_epi32(sum, _mm_srli_epi32::<16>(sum)), offset);
                *sample = _mm_and_si128(_mm_srli_epi32::<8>(sum), low32);
            }
            store128(out, bytes128(samples));
        }
        done += STEP;
    }
    done
}

#[inline(always)]
fn load128(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: SSE2 is part of the architecture, and the array is as long as the vector.
    #[allow(unsafe_code)]
    unsafe {
        _mm_loadu_si128(bytes.as_ptr().cast())
    }
}

#[inline(always)]
fn store128(bytes: &mut [u8; 16], vector: __m128i) {
    // SAFETY: SSE2 is part of the architecture, and the array is as long as the vector.
    #[allow(unsafe_code)]
    unsafe {
        _mm_storeu_si128(bytes.as_mut_ptr().cast(), vector);
    }
}

/// Sixteen double words of 255 at most as bytes.
#[inline]
#[target_feature(enable = "sse2")]
fn bytes128([a, b, c, d]: [__m128i; 4]) -> __m128i {
    _mm_packus_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d))
}

/// Factors of a pixel's bytes, in their order in memory, and what a sum of products starts from.
struct Bytes {
    /// Without a sign, for channels less 128: 157 does not fit into a byte that has one.
    luma: (i32, i32),
    /// With a sign, for channels as they are.
    chroma: [(i32, i32); 2],
}

impl Bytes {
    fn new(order: Order) -> Self {
        let of = |[red, green, blue]: [i16; 3]| {
            let bytes = match order {
                Order::Bgrx => [blue, green, red, 0],
                Order::Rgbx => [red, green, blue, 0],
            };
            i32::from_le_bytes(bytes.map(|factor| factor as u8))
        };
        let less: i32 = LUMA.iter().map(|&factor| i32::from(factor) * 128).sum();
        let chroma = [U, V].map(|factors| (of(factors), CHROMA_OFFSET.into()));
        Self { luma: (of(LUMA), i32::from(LUMA_OFFSET) + less), chroma }
    }
}

/// Kernels for vectors of `$bytes` bytes that sum products of bytes. Loops and no closures where
/// vectors pass: a function of the library's between them would be built without the instructions.
macro_rules! kernels {
    (
        $feature:literal, $vector:ty, $bytes:literal, rows $rows:ident, row $row:ident,
        load $load:ident, store $store:ident, set8 $set8:ident, set16 $set16:ident,
        set32 $set32:ident, and $and:ident, or $or:ident, xor $xor:ident, sub8 $sub8:ident,
        add32 $add32:ident, mean $mean:ident, products $products:ident, pairs $pairs:ident,
        right32 $right32:ident, right64 $right64:ident, pack32 $pack32:ident,
        pack16 $pack16:ident, order $order:ident, even $even:ident, split $split:ident
    ) => {
        /// Two rows of 4:2:0; yields how many pixels of the rows it has done.
        #[target_feature(enable = $feature)]
        fn $rows(order: Order, rows: [&[u8]; 2], planes: Planes<'_>) -> usize {
            const STEP: usize = $bytes;
            let Bytes { luma, chroma: [u, v] } = Bytes::new(order);
            let (luma, luma_from) = ($set32(luma.0), $set32(luma.1));
            let chroma = [$set32(u.0), $set32(v.0)];
            let chroma_from = $set32(u.1);
            let (sign, one, ones) = ($set8(-128), $set8(1), $set16(1));
            let Planes { y: [y0, y1], u, v } = planes;
            let steps = rows[0]
                .as_chunks::<{ 4 * STEP }>()
                .0
                .iter()
                .zip(rows[1].as_chunks::<{ 4 * STEP }>().0)
                .zip(y0.as_chunks_mut::<STEP>().0.iter_mut().zip(y1.as_chunks_mut::<STEP>().0))
                .zip(u.as_chunks_mut::<{ STEP / 2 }>().0.iter_mut().zip(v.as_chunks_mut().0));
            let mut done = 0;
            for (((top, bottom), (y0, y1)), (u, v)) in steps {
                let mut pixels = [[$set32(0); 4]; 2];
                for (pixels, (row, y)) in pixels.iter_mut().zip([(top, y0), (bottom, y1)]) {
                    let mut samples = [$set32(0); 4];
                    for i in 0..4 {
                        // SAFETY: the row holds four vectors; loads need no alignment.
                        #[allow(unsafe_code)]
                        let four = unsafe { $load(row.as_ptr().cast::<$vector>().add(i)) };
                        let sums = $pairs($products(luma, $xor(four, sign)), ones);
                        samples[i] = $right32::<8>($add32(sums, luma_from));
                        pixels[i] = four;
                    }
                    let [a, b, c, d] = samples;
                    let bytes = $order($pack16($pack32(a, b), $pack32(c, d)));
                    // SAFETY: the array is as long as the vector.
                    #[allow(unsafe_code)]
                    unsafe {
                        $store(y.as_mut_ptr().cast::<$vector>(), bytes)
                    };
                }
                let mut means = [$set32(0); 4];
                for i in 0..4 {
                    // (a + b + c + d + 2) / 4, by means that round up: of rows, then of columns.
                    let (top, bottom) = (pixels[0][i], pixels[1][i]);
                    let (left, odd) = ($mean(top, bottom), $xor(top, bottom));
                    let (right, right_odd) = ($right64::<32>(left), $right64::<32>(odd));
                    let much = $and($and($or(odd, right_odd), $xor(left, right)), one);
                    means[i] = $sub8($mean(left, right), much);
                }
                let means = [$even(means[0], means[1]), $even(means[2], means[3])];
                let mut samples = [$set32(0); 4];
                for i in 0..4 {
                    let sums = $pairs($products(means[i & 1], chroma[i >> 1]), ones);
                    samples[i] = $right32::<8>($add32(sums, chroma_from));
                }
                let [a, b, c, d] = samples;
                [*u, *v] = $split($order($pack16($pack32(a, b), $pack32(c, d))));
                done += STEP;
            }
            done
        }

        /// A row of 4:4:4; yields how many pixels of it are done.
        #[target_feature(enable = $feature)]
        fn $row(order: Order, row: &[u8], planes: FullPlanes<'_>) -> usize {
            const STEP: usize = $bytes;
            let Bytes { luma, chroma: [u, v] } = Bytes::new(order);
            let (luma, luma_from) = ($set32(luma.0), $set32(luma.1));
            let chroma = [$set32(u.0), $set32(v.0)];
            let chroma_from = $set32(u.1);
            let (sign, ones) = ($set8(-128), $set16(1));
            let FullPlanes { y, u, v } = planes;
            let steps = row
                .as_chunks::<{ 4 * STEP }>()
                .0
                .iter()
                .zip(y.as_chunks_mut::<STEP>().0)
                .zip(u.as_chunks_mut::<STEP>().0.iter_mut().zip(v.as_chunks_mut::<STEP>().0));
            let mut done = 0;
            for ((row, y), (u, v)) in steps {
                let mut samples = [[$set32(0); 4]; 3];
                for i in 0..4 {
                    // SAFETY: the row holds four vectors; loads need no alignment.
                    #[allow(unsafe_code)]
                    let four = unsafe { $load(row.as_ptr().cast::<$vector>().add(i)) };
                    let sums = $pairs($products(luma, $xor(four, sign)), ones);
                    samples[0][i] = $right32::<8>($add32(sums, luma_from));
                    for plane in 0..2 {
                        let sums = $pairs($products(four, chroma[plane]), ones);
                        samples[1 + plane][i] = $right32::<8>($add32(sums, chroma_from));
                    }
                }
                for (plane, [a, b, c, d]) in [y, u, v].into_iter().zip(samples) {
                    let bytes = $order($pack16($pack32(a, b), $pack32(c, d)));
                    // SAFETY: the array is as long as the vector.
                    #[allow(unsafe_code)]
                    unsafe {
                        $store(plane.as_mut_ptr().cast::<$vector>(), bytes)
                    };
                }
                done += STEP;
            }
            done
        }
    };
}

kernels!(
    "avx2", __m256i, 32, rows avx2, row full_avx2,
    load _mm256_loadu_si256, store _mm256_storeu_si256, set8 _mm256_set1_epi8,
    set16 _mm256_set1_epi16, set32 _mm256_set1_epi32, and _mm256_and_si256, or _mm256_or_si256,
    xor _mm256_xor_si256, sub8 _mm256_sub_epi8, add32 _mm256_add_epi32, mean _mm256_avg_epu8,
    products _mm256_maddubs_epi16, pairs _mm256_madd_epi16, right32 _mm256_srli_epi32,
    right64 _mm256_srli_epi64, pack32 _mm256_packs_epi32, pack16 _mm256_packus_epi16,
    order order256, even even256, split split256
);

kernels!(
    "avx512f,avx512bw", __m512i, 64, rows avx512, row full_avx512,
    load _mm512_loadu_si512, store _mm512_storeu_si512, set8 _mm512_set1_epi8,
    set16 _mm512_set1_epi16, set32 _mm512_set1_epi32, and _mm512_and_si512, or _mm512_or_si512,
    xor _mm512_xor_si512, sub8 _mm512_sub_epi8, add32 _mm512_add_epi32, mean _mm512_avg_epu8,
    products _mm512_maddubs_epi16, pairs _mm512_madd_epi16, right32 _mm512_srli_epi32,
    right64 _mm512_srli_epi64, pack32 _mm512_packs_epi32, pack16 _mm512_packus_epi16,
    order order512, even even512, split split512
);

/// Packing works in each lane of 128 bits by itself: puts groups of four bytes back in order.
#[target_feature(enable = "avx2")]
fn order256(vector: __m256i) -> __m256i {
    _mm256_permutevar8x32_epi32(vector, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

#[target_feature(enable = "avx512f")]
fn order512(vector: __m512i) -> __m512i {
    let groups = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_epi32(groups, vector)
}

/// The even double words of one vector, then those of the other.
#[target_feature(enable = "avx2")]
fn even256(left: __m256i, right: __m256i) -> __m256i {
    let both =
        _mm256_shuffle_ps::<0b10_00_10_00>(_mm256_castsi256_ps(left), _mm256_castsi256_ps(right));
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_castps_si256(both))
}

#[target_feature(enable = "avx512f")]
fn even512(left: __m512i, right: __m512i) -> __m512i {
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    _mm512_permutex2var_epi32(left, even, right)
}

/// Both halves of a vector.
#[target_feature(enable = "avx2")]
fn split256(vector: __m256i) -> [[u8; 16]; 2] {
    let mut halves = [[0; 16]; 2];
    // SAFETY: the array is as long as the vector.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_storeu_si256(halves.as_mut_ptr().cast(), vector);
    }
    halves
}

#[target_feature(enable = "avx512f")]
fn split512(vector: __m512i) -> [[u8; 32]; 2] {
    let mut halves = [[0; 32]; 2];
    // SAFETY: the array is as long as the vector.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_storeu_si512(halves.as_mut_ptr().cast(), vector);
    }
    halves
}

/// Vectors that kernels are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Width {
    /// Part of the architecture.
    Sse2,
    /// Since 2013.
    Avx2,
    /// With instructions for bytes: since 2017, on servers above all.
    Avx512,
}

impl Width {
    /// Those that this processor has, narrow ones first.
    pub fn here() -> impl Iterator<Item = Self> {
        [Self::Sse2, Self::Avx2, Self::Avx512].into_iter().filter(|width| width.is_here())
    }

    fn is_here(self) -> bool {
        match self {
            Self::Sse2 => true,
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
            }
        }
    }

    /// Converts the first part of two rows, by whole vectors; yields how many pixels. Nothing at
    /// all if this processor has no such vectors.
    pub fn convert(self, order: Order, rows: [&[u8]; 2], planes: Planes<'_>) -> usize {
        if !self.is_here() {
            return 0;
        }
        // SAFETY: the processor has these instructions.
        #[allow(unsafe_code)]
        unsafe {
            match self {
                Self::Sse2 => sse2(order, rows, planes),
                Self::Avx2 => avx2(order, rows, planes),
                Self::Avx512 => avx512(order, rows, planes),
            }
        }
    }

    /// The same for a row of 4:4:4.
    pub fn convert_full(self, order: Order, row: &[u8], planes: FullPlanes<'_>) -> usize {
        if !self.is_here() {
            return 0;
        }
        // SAFETY: the processor has these instructions.
        #[allow(unsafe_code)]
        unsafe {
            match self {
                Self::Sse2 => full_sse2(order, row, planes),
                Self::Avx2 => full_avx2(order, row, planes),
                Self::Avx512 => full_avx512(order, row, planes),
            }
        }
    }
}
