//! Context-adaptive variable-length codes of transform coefficients (ITU-T H.264, 9.2).

use super::bits::Bits;

/// Where the number of coefficients in a block's neighbours leads (table 9-5, columns).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// By `nC`, the neighbours' mean.
    Neighbours(u8),
    /// The four DC coefficients of a chroma plane (`nC` = −1).
    ChromaDc,
}

/// Length and bits of `coeff_token`, `[column][coefficients][trailing ones]` (table 9-5).
type Token = [[(u8, u8); 4]; 17];

const fn tokens(lengths: [[u8; 4]; 17], bits: [[u8; 4]; 17]) -> Token {
    let mut table = [[(0, 0); 4]; 17];
    let mut total = 0;
    while total < 17 {
        let mut ones = 0;
        while ones < 4 {
            table[total][ones] = (lengths[total][ones], bits[total][ones]);
            ones += 1;
        }
        total += 1;
    }
    table
}

#[rustfmt::skip]
static TOKEN: [Token; 3] = [
    tokens(
        [[1,0,0,0],[6,2,0,0],[8,6,3,0],[9,8,7,5],[10,9,8,6],[11,10,9,7],[13,11,10,8],[13,13,11,9],
         [13,13,13,10],[14,14,13,11],[14,14,14,13],[15,15,14,14],[15,15,15,14],[16,15,15,15],
         [16,16,16,15],[16,16,16,16],[16,16,16,16]],
        [[1,0,0,0],[5,1,0,0],[7,4,1,0],[7,6,5,3],[7,6,5,3],[7,6,5,4],[15,6,5,4],[11,14,5,4],
         [8,10,13,4],[15,14,9,4],[11,10,13,12],[15,14,9,12],[11,10,13,8],[15,1,9,12],
         [11,14,13,8],[7,10,9,12],[4,6,5,8]],
    ),
    tokens(
        [[2,0,0,0],[6,2,0,0],[6,5,3,0],[7,6,6,4],[8,6,6,4],[8,7,7,5],[9,8,8,6],[11,9,9,6],
         [11,11,11,7],[12,11,11,9],[12,12,12,11],[12,12,12,11],[13,13,13,12],[13,13,13,13],
         [13,14,13,13],[14,14,14,13],[14,14,14,14]],
        [[3,0,0,0],[11,2,0,0],[7,7,3,0],[7,10,9,5],[7,6,5,4],[4,6,5,6],[7,6,5,8],[15,6,5,4],
         [11,14,13,4],[15,10,9,4],[11,14,13,12],[8,10,9,8],[15,14,13,12],[11,10,9,12],
         [7,11,6,8],[9,8,10,1],[7,6,5,4]],
    ),
    tokens(
        [[4,0,0,0],[6,4,0,0],[6,5,4,0],[6,5,5,4],[7,5,5,4],[7,5,5,4],[7,6,6,4],[7,6,6,4],
         [8,7,7,5],[8,8,7,6],[9,8,8,7],[9,9,8,8],[9,9,9,8],[10,9,9,9],[10,10,10,10],
         [10,10,10,10],[10,10,10,10]],
        [[15,0,0,0],[15,14,0,0],[11,15,13,0],[8,12,14,12],[15,10,11,11],[11,8,9,10],[9,14,13,9],
         [8,10,9,8],[15,14,13,13],[11,14,10,12],[15,10,13,12],[11,14,9,12],[8,10,13,8],
         [13,7,9,12],[9,12,11,10],[5,8,7,6],[1,4,3,2]],
    ),
];

#[rustfmt::skip]
static TOKEN_CHROMA_DC: [[(u8, u8); 4]; 5] = [
    [(2,1),(0,0),(0,0),(0,0)],
    [(6,7),(1,1),(0,0),(0,0)],
    [(6,4),(6,6),(3,1),(0,0)],
    [(6,3),(7,3),(7,2),(6,5)],
    [(6,2),(8,3),(8,2),(7,0)],
];

/// Length and bits of `total_zeros`, `[coefficients − 1][zeros]` (tables 9-7 and 9-8).
#[rustfmt::skip]
static TOTAL_ZEROS: [&[(u8, u8)]; 15] = [
    &[(1,1),(3,3),(3,2),(4,3),(4,2),(5,3),(5,2),(6,3),(6,2),(7,3),(7,2),(8,3),(8,2),(9,3),(9,2),(9,1)],
    &[(3,7),(3,6),(3,5),(3,4),(3,3),(4,5),(4,4),(4,3),(4,2),(5,3),(5,2),(6,3),(6,2),(6,1),(6,0)],
    &[(4,5),(3,7),(3,6),(3,5),(4,4),(4,3),(3,4),(3,3),(4,2),(5,3),(5,2),(6,1),(5,1),(6,0)],
    &[(5,3),(3,7),(4,5),(4,4),(3,6),(3,5),(3,4),(4,3),(3,3),(4,2),(5,2),(5,1),(5,0)],
    &[(4,5),(4,4),(4,3),(3,7),(3,6),(3,5),(3,4),(3,3),(4,2),(5,1),(4,1),(5,0)],
    &[(6,1),(5,1),(3,7),(3,6),(3,5),(3,4),(3,3),(3,2),(4,1),(3,1),(6,0)],
    &[(6,1),(5,1),(3,5),(3,4),(3,3),(2,3),(3,2),(4,1),(3,1),(6,0)],
    &[(6,1),(4,1),(5,1),(3,3),(2,3),(2,2),(3,2),(3,1),(6,0)],
    &[(6,1),(6,0),(4,1),(2,3),(2,2),(3,1),(2,1),(5,1)],
    &[(5,1),(5,0),(3,1),(2,3),(2,2),(2,1),(4,1)],
    &[(4,0),(4,1),(3,1),(3,2),(1,1),(3,3)],
    &[(4,0),(4,1),(2,1),(1,1),(3,1)],
    &[(3,0),(3,1),(1,1),(2,1)],
    &[(2,0),(2,1),(1,1)],
    &[(1,0),(1,1)],
];

/// The same for chroma DC (table 9-9).
static TOTAL_ZEROS_CHROMA_DC: [&[(u8, u8)]; 3] =
    [&[(1, 1), (2, 1), (3, 1), (3, 0)], &[(1, 1), (2, 1), (2, 0)], &[(1, 1), (1, 0)]];

/// Length and bits of `run_before`, `[zeros left − 1][run]` (table 9-10).
#[rustfmt::skip]
static RUN: [&[(u8, u8)]; 7] = [
    &[(1,1),(1,0)],
    &[(1,1),(2,1),(2,0)],
    &[(2,3),(2,2),(2,1),(2,0)],
    &[(2,3),(2,2),(2,1),(3,1),(3,0)],
    &[(2,3),(2,2),(3,3),(3,2),(3,1),(3,0)],
    &[(2,3),(3,0),(3,1),(3,3),(3,2),(3,5),(3,4)],
    &[(3,7),(3,6),(3,5),(3,4),(3,3),(3,2),(3,1),(4,1),(5,1),(6,1),(7,1),(8,1),(9,1),(10,1),(11,1)],
];

/// Writes one block of coefficients, given in scan order; 4, 15 or 16 of them. Yields how many
/// are not zero.
pub fn write_block(bits: &mut Bits, coefficients: &[i16], context: Context) -> u8 {
    // From the highest frequency down: levels, and the zeros in front of each.
    let (mut levels, mut runs) = ([0i16; 16], [0u8; 16]);
    let mut count = 0;
    let mut zeros = 0u8;
    for &level in coefficients.iter().rev() {
        if level == 0 {
            zeros += u8::from(count > 0);
            if count > 0 {
                runs[count - 1] += 1;
            }
        } else {
            levels[count] = level;
            count += 1;
        }
    }
    let levels = &levels[..count];
    let ones = levels.iter().take(3).take_while(|level| level.unsigned_abs() == 1).count();
    let (length, code) = match context {
        Context::ChromaDc => TOKEN_CHROMA_DC[count][ones],
        Context::Neighbours(0 | 1) => TOKEN[0][count][ones],
        Context::Neighbours(2 | 3) => TOKEN[1][count][ones],
        Context::Neighbours(4..8) => TOKEN[2][count][ones],
        // A fixed length: coefficients − 1 and trailing ones, with 3 for none at all.
        Context::Neighbours(_) if count == 0 => (6, 3),
        Context::Neighbours(_) => (6, ((count - 1) * 4 + ones) as u8),
    };
    bits.put(u32::from(length), u32::from(code));
    if count == 0 {
        return 0;
    }
    for &level in &levels[..ones] {
        bits.put(1, u32::from(level < 0));
    }
    write_levels(bits, &levels[ones..], count, ones);
    if count < coefficients.len() {
        let table = match context {
            Context::ChromaDc => TOTAL_ZEROS_CHROMA_DC[count - 1],
            // For 15 coefficients the same table serves: its last column cannot come up.
            Context::Neighbours(_) => TOTAL_ZEROS[count - 1],
        };
        let (length, code) = table[usize::from(zeros)];
        bits.put(u32::from(length), u32::from(code));
    }
    let mut left = zeros;
    for &run in &runs[..count - 1] {
        if left == 0 {
            break;
        }
        let (length, code) = RUN[usize::from(left.min(7)) - 1][usize::from(run)];
        bits.put(u32::from(length), u32::from(code));
        left -= run;
    }
    count as u8
}

/// The levels behind the trailing ones (9.2.2.1). Quantisers of 12 and more keep levels below what
/// a prefix of 15 can tell, the longest that this profile allows.
fn write_levels(bits: &mut Bits, levels: &[i16], count: usize, ones: usize) {
    let mut suffix = u32::from(count > 10 && ones < 3);
    for (index, &level) in levels.iter().enumerate() {
        let magnitude = u32::from(level.unsigned_abs());
        let mut code = 2 * magnitude - if level > 0 { 2 } else { 1 };
        if index == 0 && ones < 3 {
            code -= 2;
        }
        if suffix == 0 && code < 14 {
            bits.put(code + 1, 1);
        } else if suffix == 0 && code < 30 {
            bits.put(15, 1);
            bits.put(4, code - 14);
        } else if suffix > 0 && code < 15 << suffix {
            bits.put((code >> suffix) + 1, 1);
            bits.put(suffix, code & ((1 << suffix) - 1));
        } else {
            let base = if suffix == 0 { 30 } else { 15 << suffix };
            bits.put(16, 1);
            bits.put(12, (code - base).min(4095));
        }
        suffix = suffix.max(1);
        if magnitude > 3 << (suffix - 1) && suffix < 6 {
            suffix += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes of one table must be told apart: no one begins with another (Kraft's sum and more).
    fn prefix_free(codes: impl Iterator<Item = (u8, u8)>) {
        let codes: Vec<(u8, u8)> = codes.filter(|(length, _)| *length > 0).collect();
        for (i, a) in codes.iter().enumerate() {
            for (j, b) in codes.iter().enumerate() {
                let begins = a.0 <= b.0 && u16::from(b.1) >> (b.0 - a.0) == u16::from(a.1);
                assert!(i == j || !begins, "{a:?} begins {b:?}");
            }
        }
    }

    #[test]
    fn every_table_is_a_prefix_code() {
        for table in &TOKEN {
            prefix_free(table.iter().flatten().copied());
        }
        prefix_free(TOKEN_CHROMA_DC.iter().flatten().copied());
        for table in TOTAL_ZEROS.iter().chain(&TOTAL_ZEROS_CHROMA_DC).chain(&RUN) {
            prefix_free(table.iter().copied());
        }
    }

    #[test]
    fn a_worked_example() {
        // Coefficients 0, 3, 0, 1, −1, −1, 0, 1, 0 … in scan order, nC = 0:
        // 0000100 (5 coefficients, 3 ones), 0 1 1, 1 (+1), 0010 (+3), 111, 10, 1, 1, 01 → see 9.2.
        let mut block = [0i16; 16];
        block[..8].copy_from_slice(&[0, 3, 0, 1, -1, -1, 0, 1]);
        let mut bits = Bits::default();
        assert_eq!(write_block(&mut bits, &block, Context::Neighbours(0)), 5);
        let mut out = Vec::new();
        bits.finish(0, &mut out);
        assert_eq!(out[5..], [0b0000_1000, 0b1110_0101, 0b1110_1101, 0b1000_0000][..]);
    }
}
