//! Two 4x4 blocks side by side in the registers of SSE2: their difference, transform, quantiser and
//! the way back, as `encode::screen::transform` specifies them, to the bit.
//!
//! A pair is four vectors; the lower half of each belongs to the left block, the upper one to the
//! right. Samples are in rows; coefficients and levels are *turned*: vector `n` holds column `n`.
//! A transform turns its block once, and since the quantiser knows no difference between rows and
//! columns, nothing ever has to be turned back. No instruction here needs more than SSE2, which
//! every x86-64 has.

use std::arch::x86_64::*;

/// Two 4x4 blocks of 16 bits.
#[derive(Debug, Clone, Copy)]
pub struct Pair([__m128i; 4]);

/// Factors of coefficients: of even columns, then of odd ones, twice four each.
pub type Factors = [[i16; 8]; 2];

#[inline(always)]
fn load(values: &[i16; 8]) -> __m128i {
    // SAFETY: SSE2 is part of the architecture, and the array is as long as the vector.
    #[allow(unsafe_code)]
    unsafe {
        _mm_loadu_si128(values.as_ptr().cast())
    }
}

/// Eight samples as words.
#[inline(always)]
fn widen(samples: &[u8; 8]) -> __m128i {
    // SAFETY: SSE2 is part of the architecture, and the array is as long as what is loaded.
    #[allow(unsafe_code)]
    unsafe {
        _mm_unpacklo_epi8(_mm_loadl_epi64(samples.as_ptr().cast()), _mm_setzero_si128())
    }
}

impl Pair {
    /// Differences of four rows of eight samples.
    #[inline(always)]
    pub fn difference(source: [&[u8; 8]; 4], prediction: [&[u8; 8]; 4]) -> Self {
        // SAFETY: SSE2 is part of the architecture.
        #[allow(unsafe_code)]
        Self(std::array::from_fn(|row| unsafe {
            _mm_sub_epi16(widen(source[row]), widen(prediction[row]))
        }))
    }

    /// The forward transform, turned.
    #[inline(always)]
    pub fn forward(self) -> Self {
        self.down().turn().down()
    }

    /// The transform's pass down the columns.
    #[inline(always)]
    fn down(self) -> Self {
        let Self([a, b, c, d]) = self;
        // SAFETY: SSE2 is part of the architecture.
        #[allow(unsafe_code)]
        unsafe {
            let (s, u) = (_mm_add_epi16(a, d), _mm_sub_epi16(a, d));
            let (m, n) = (_mm_add_epi16(b, c), _mm_sub_epi16(b, c));
            Self([
                _mm_add_epi16(s, m),
                _mm_add_epi16(_mm_add_epi16(u, u), n),
                _mm_sub_epi16(s, m),
                _mm_sub_epi16(u, _mm_add_epi16(n, n)),
            ])
        }
    }

    /// Makes rows of columns, in each block.
    #[inline(always)]
    fn turn(self) -> Self {
        let Self([a, b, c, d]) = self;
        // SAFETY: SSE2 is part of the architecture.
        #[allow(unsafe_code)]
        unsafe {
            let (left, right) = (_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b));
            let (left2, right2) = (_mm_unpacklo_epi16(c, d), _mm_unpackhi_epi16(c, d));
            let (l01, l23) = (_mm_unpacklo_epi32(left, left2), _mm_unpackhi_epi32(left, left2));
            let (r01, r23) = (_mm_unpacklo_epi32(right, right2), _mm_unpackhi_epi32(right, right2));
            Self([
                _mm_unpacklo_epi64(l01, r01),
                _mm_unpackhi_epi64(l01, r01),
                _mm_unpacklo_epi64(l23, r23),
                _mm_unpackhi_epi64(l23, r23),
            ])
        }
    }

    /// Takes the DC coefficients out and leaves zeros.
    #[inline(always)]
    pub fn take_dc(&mut self) -> [i16; 2] {
        // SAFETY: SSE2 is part of the architecture.
        #[allow(unsafe_code)]
        unsafe {
            let first = self.0[0];
            self.0[0] = _mm_insert_epi16::<4>(_mm_insert_epi16::<0>(first, 0), 0);
            [_mm_extract_epi16::<0>(first) as i16, _mm_extract_epi16::<4>(first) as i16]
        }
    }

    /// Puts them in.
    #[inline(always)]
    pub fn put_dc(&mut self, [left, right]: [i16; 2]) {
        // SAFETY: SSE2 is part of the architecture.
        #[allow(unsafe_code)]
        unsafe {
            let first = _mm_insert_epi16::<0>(self.0[0], left.into());
            self.0[0] = _mm_insert_epi16::<4>(first, right.into());
        }
    }

    /// Levels of coefficients: `(magnitude + bias) * factor / 65536`, with the old sign. They go
    /// into `levels`; for each block there is a bit for each level that is not zero, and whether
    /// one is larger than one.
    #[inline(always)]
    pub fn quantise(
        self,
        bias: &Factors,
        factors: &Factors,
        levels: [&mut [i16; 16]; 2],
    ) -> [(u16, bool); 2] {
        let constants = [(load(&bias[0]), load(&factors[0])), (load(&bias[1]), load(&factors[1]))];
        // SAFETY: SSE2 is part of the architecture, and each array is as long as two vectors.
        #[allow(unsafe_code)]
        unsafe {
            let zero = _mm_setzero_si128();
            let mut column = 0;
            let [a, b, c, d] = self.0.map(|value| {
                let (bias, factor) = constants[column & 1];
                column += 1;
                let magnitude = _mm_max_epi16(value, _mm_sub_epi16(zero, value));
                let magnitude = _mm_mulhi_epu16(_mm_add_epi16(magnitude, bias), factor);
                let sign = _mm_srai_epi16::<15>(value);
                _mm_sub_epi16(_mm_xor_si128(magnitude, sign), sign)
            });
            let blocks = [
                (_mm_unpacklo_epi64(a, b), _mm_unpacklo_epi64(c, d)),
                (_mm_unpackhi_epi64(a, b), _mm_unpackhi_epi64(c, d)),
            ];
            let mut out = [(0, false); 2];
            for ((out, levels), (low, high)) in out.iter_mut().zip(levels).zip(blocks) {
                let to = levels.as_mut_ptr().cast::<__m128i>();
                _mm_storeu_si128(to, low);
                _mm_storeu_si128(to.add(1), high);
                let bytes = _mm_packs_epi16(low, high);
                let nonzero = !_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, zero)) as u16;
                let (one, minus) = (_mm_set1_epi8(1), _mm_set1_epi8(-1));
                let big = _mm_or_si128(_mm_cmpgt_epi8(bytes, one), _mm_cmpgt_epi8(minus, bytes));
                *out = (nonzero, _mm_movemask_epi8(big) != 0);
            }
            out
        }
    }

    /// Coefficients of levels; no levels stand for zeros.
    #[inline(always)]
    pub fn restore([left, right]: [Option<&[i16; 16]>; 2], scale: &Factors) -> Self {
        let (even, odd) = (load(&scale[0]), load(&scale[1]));
        // SAFETY: SSE2 is part of the architecture, and each array is as long as two vectors.
        #[allow(unsafe_code)]
        unsafe {
            let halves = |levels: Option<&[i16; 16]>| match levels {
                Some(levels) => {
                    let from = levels.as_ptr().cast::<__m128i>();
                    (_mm_loadu_si128(from), _mm_loadu_si128(from.add(1)))
                }
                None => (_mm_setzero_si128(), _mm_setzero_si128()),
            };
            let ((l01, l23), (r01, r23)) = (halves(left), halves(right));
            Self([
                _mm_mullo_epi16(_mm_unpacklo_epi64(l01, r01), even),
                _mm_mullo_epi16(_mm_unpackhi_epi64(l01, r01), odd),
                _mm_mullo_epi16(_mm_unpacklo_epi64(l23, r23), even),
                _mm_mullo_epi16(_mm_unpackhi_epi64(l23, r23), odd),
            ])
        }
    }

    /// The inverse transform with its rounding: turned coefficients to rows of residual.
    #[inline(always)]
    pub fn inverse(self) -> Self {
        let Self(rows) = self.inverse_down().turn().inverse_down();
        // SAFETY: SSE2 is part of the architecture.
        #[allow(unsafe_code)]
        unsafe {
            let half = _mm_set1_epi16(32);
            Self(rows.map(|row| _mm_srai_epi16::<6>(_mm_add_epi16(row, half))))
        }
    }

    #[inline(always)]
    fn inverse_down(self) -> Self {
        let Self([a, b, c, d]) = self;
        // SAFETY: SSE2 is part of the architecture.
        #[allow(unsafe_code)]
        unsafe {
            let (e, f) = (_mm_add_epi16(a, c), _mm_sub_epi16(a, c));
            let g = _mm_sub_epi16(_mm_srai_epi16::<1>(b), d);
            let h = _mm_add_epi16(b, _mm_srai_epi16::<1>(d));
            Self([
                _mm_add_epi16(e, h),
                _mm_add_epi16(f, g),
                _mm_sub_epi16(f, g),
                _mm_sub_epi16(e, h),
            ])
        }
    }

    /// Four rows of eight samples with this residual on top.
    #[inline(always)]
    pub fn add_to(self, prediction: [&[u8; 8]; 4]) -> [[u8; 8]; 4] {
        std::array::from_fn(|row| {
            // SAFETY: SSE2 is part of the architecture, and what is stored is as long as the array.
            #[allow(unsafe_code)]
            unsafe {
                let sum = _mm_add_epi16(widen(prediction[row]), self.0[row]);
                let mut out = [0u8; 8];
                _mm_storel_epi64(out.as_mut_ptr().cast(), _mm_packus_epi16(sum, sum));
                out
            }
        })
    }
}
