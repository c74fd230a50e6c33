//! Bits of a NAL unit (ITU-T H.264, 7.2, 9.1 and annex B).

/// Writes bits, most significant first.
#[derive(Debug, Default)]
pub struct Bits {
    bytes: Vec<u8>,
    /// The last `held` bits, not yet in `bytes`.
    hold: u64,
    held: u32,
}

/// A place in the bits.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    bytes: usize,
    hold: u64,
    held: u32,
}

/// Many codes in a row, with the bits under way in registers.
#[derive(Debug)]
pub struct Burst<'a> {
    bits: &'a mut Bits,
    hold: u64,
    held: u32,
}

impl Burst<'_> {
    /// As [`Bits::put`].
    #[inline(always)]
    pub fn put(&mut self, count: u32, value: u32) {
        debug_assert!(count <= 32 && u64::from(value) >> count == 0);
        self.hold = self.hold << count | u64::from(value);
        self.held += count;
        if self.held >= 32 {
            self.held -= 32;
            let word = (self.hold >> self.held) as u32;
            self.bits.bytes.extend_from_slice(&word.to_be_bytes());
        }
    }

    /// Hands the rest over.
    #[inline(always)]
    pub fn end(self) {
        (self.bits.hold, self.bits.held) = (self.hold, self.held);
    }
}

impl Bits {
    /// For many codes in a row; what it is given counts from its end on.
    #[inline(always)]
    pub fn burst(&mut self) -> Burst<'_> {
        Burst { hold: self.hold, held: self.held, bits: self }
    }

    /// Starts over and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        (self.hold, self.held) = (0, 0);
    }

    /// The lowest `count` bits of `value`, at most 32; the bits above are zero.
    #[inline]
    pub fn put(&mut self, count: u32, value: u32) {
        debug_assert!(count <= 32 && u64::from(value) >> count == 0);
        self.hold = self.hold << count | u64::from(value);
        self.held += count;
        if self.held >= 32 {
            self.held -= 32;
            self.bytes.extend_from_slice(&((self.hold >> self.held) as u32).to_be_bytes());
        }
    }

    /// `ue(v)`: unsigned Exp-Golomb.
    #[inline]
    pub fn ue(&mut self, value: u32) {
        let length = 32 - (value + 1).leading_zeros();
        if length > 16 {
            self.put(length - 1, 0);
            self.put(length, value + 1);
        } else {
            self.put(2 * length - 1, value + 1);
        }
    }

    /// `se(v)`: signed Exp-Golomb.
    #[inline]
    pub fn se(&mut self, value: i32) {
        self.ue(if value > 0 { 2 * value as u32 - 1 } else { 2 * value.unsigned_abs() });
    }

    /// Where writing stands, for [`Bits::rewind`].
    pub fn mark(&self) -> Mark {
        Mark { bytes: self.bytes.len(), hold: self.hold, held: self.held }
    }

    /// Forgets everything written since `mark`.
    pub fn rewind(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        (self.hold, self.held) = (mark.hold, mark.held);
    }

    /// Zeros up to the next byte, and then whole bytes (`pcm_alignment_zero_bit` and what follows).
    pub fn aligned(&mut self, samples: &[u8]) {
        self.put(self.len().wrapping_neg() as u32 % 8, 0);
        for &sample in samples {
            self.put(8, u32::from(sample));
        }
    }

    /// Bits written so far.
    pub fn len(&self) -> usize {
        self.bytes.len() * 8 + self.held as usize
    }

    /// Ends the payload with its stop bit and appends it to `out` as a NAL unit with a start code.
    pub fn finish(&mut self, header: u8, out: &mut Vec<u8>) {
        self.finish_behind(&[header], out);
    }

    /// The same behind a header of any length: that of HEVC has two bytes.
    pub fn finish_behind(&mut self, header: &[u8], out: &mut Vec<u8>) {
        self.put(1, 1);
        while !self.held.is_multiple_of(8) {
            self.put(1, 0);
        }
        while self.held > 0 {
            self.held -= 8;
            self.bytes.push((self.hold >> self.held) as u8);
        }
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(header);
        escape(&self.bytes, out);
        self.clear();
    }
}

/// Puts emulation prevention bytes in (7.4.1.1).
fn escape(payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(payload.len() + payload.len() / 64);
    let (mut start, mut zeros) = (0, 0);
    for (index, &byte) in payload.iter().enumerate() {
        if zeros >= 2 && byte <= 3 {
            out.extend_from_slice(&payload[start..index]);
            out.push(3);
            (start, zeros) = (index, 0);
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
    }
    out.extend_from_slice(&payload[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_and_escapes() {
        let mut bits = Bits::default();
        for value in [0, 1, 2, 3, 70_000] {
            bits.ue(value);
        }
        for value in [1, -1, 2] {
            bits.se(value);
        }
        // 1 010 011 00100 | 16 zeros, 17 bits of 70 001 | 010 011 00100, then the stop bit.
        assert_eq!(bits.len(), 1 + 3 + 3 + 5 + 33 + 3 + 3 + 5);
        let mut out = Vec::new();
        bits.finish(0x67, &mut out);
        assert_eq!(out[..5], [0, 0, 0, 1, 0x67]);
        assert_eq!(out[5], 0b1010_0110);
        let mut out = Vec::new();
        escape(&[0, 0, 0, 0, 0, 1, 9, 0, 0, 3], &mut out);
        assert_eq!(out, [0, 0, 3, 0, 0, 3, 0, 1, 9, 0, 0, 3, 3]);
    }
}
