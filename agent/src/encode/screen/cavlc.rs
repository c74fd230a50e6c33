//! Context-adaptive variable-length codes of transform coefficients (ITU-T H.264, 9.2).

use super::bits::Bits;
use super::transform::ZIGZAG;

/// Which column of table 9-5 goes with a number of levels in the neighbours.
const TOKEN_TABLE: [u8; 8] = [0, 0, 1, 1, 2, 2, 2, 2];

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

/// Levels that are not zero, from the highest frequency down, and the zeros in front of each.
struct Runs {
    levels: [i16; 16],
    runs: [u8; 16],
    count: usize,
    /// Zeros below the highest frequency that has a level.
    zeros: u8,
}

impl Runs {
    /// Of levels at the positions of `mask`; `level` tells them by position.
    #[inline(always)]
    fn new(mut mask: u32, level: impl Fn(usize) -> i16) -> Self {
        let (mut levels, mut runs) = ([0i16; 16], [0u8; 16]);
        let (mut count, mut zeros) = (0, 0);
        while mask != 0 {
            let at = 31 - mask.leading_zeros();
            mask ^= 1 << at;
            let below = 32 - mask.leading_zeros();
            let run = (at - below) as u8;
            levels[count] = level(at as usize);
            runs[count] = run;
            zeros += run;
            count += 1;
        }
        Self { levels, runs, count, zeros }
    }

    fn trailing_ones(&self) -> usize {
        let first = self.levels[..self.count.min(3)].iter();
        first.take_while(|level| level.unsigned_abs() == 1).count()
    }

    /// Everything behind `coeff_token`. `zeros_table`: `total_zeros` for this number of levels,
    /// where there can be any.
    fn write(&self, bits: &mut Bits, ones: usize, zeros_table: Option<&[(u8, u8)]>) {
        let levels = &self.levels[..self.count];
        for &level in &levels[..ones] {
            bits.put(1, u32::from(level < 0));
        }
        write_levels(bits, &levels[ones..], self.count, ones);
        if let Some(table) = zeros_table {
            put(bits, table[usize::from(self.zeros)]);
        }
        let mut left = self.zeros;
        for &run in &self.runs[..self.count - 1] {
            if left == 0 {
                break;
            }
            put(bits, RUN[usize::from(left.min(7)) - 1][usize::from(run)]);
            left -= run;
        }
    }
}

#[inline]
fn put(bits: &mut Bits, (length, code): (u8, u8)) {
    bits.put(u32::from(length), u32::from(code));
}

/// Writes a 4x4 block whose levels are given in rows, `mask` telling in scan order which are not zero; with
/// `first` 1, its DC is not among them. `nc` is the neighbours' mean number of levels. Yields how
/// many levels there are.
pub fn write_block(bits: &mut Bits, levels: &[i16; 16], mask: u16, first: u32, nc: u8) -> u8 {
    if mask == 0 {
        put(
            bits,
            if nc < 8 { TOKEN[usize::from(TOKEN_TABLE[usize::from(nc)])][0][0] } else { (6, 3) },
        );
        return 0;
    }
    let runs = Runs::new(u32::from(mask) >> first, |at| levels[ZIGZAG[(at + first as usize) & 15]]);
    let (count, ones) = (runs.count, runs.trailing_ones());
    put(
        bits,
        match nc {
            0..8 => TOKEN[usize::from(TOKEN_TABLE[usize::from(nc)])][count][ones],
            // A fixed length: levels − 1 and trailing ones.
            _ => (6, ((count - 1) * 4 + ones) as u8),
        },
    );
    // For 15 levels at most the same tables serve: their last columns cannot come up.
    let full = count + first as usize == 16;
    runs.write(bits, ones, (!full).then(|| TOTAL_ZEROS[count - 1]));
    count as u8
}

/// Writes the four DC levels of a chroma plane (`nC` = −1).
pub fn write_chroma_dc(bits: &mut Bits, levels: &[i16; 4]) {
    let mask = levels.iter().rev().fold(0, |mask, &level| mask << 1 | u32::from(level != 0));
    let runs = Runs::new(mask, |at| levels[at]);
    let ones = runs.trailing_ones();
    put(bits, TOKEN_CHROMA_DC[runs.count][ones]);
    if runs.count > 0 {
        runs.write(bits, ones, TOTAL_ZEROS_CHROMA_DC.get(runs.count - 1).copied());
    }
}

/// The levels behind the trailing ones (9.2.2.1), none of them larger than a prefix of 15 can tell.
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
            bits.put(12, code - base);
        }
        suffix = suffix.max(1);
        if magnitude > 3 << (suffix - 1) && suffix < 6 {
            suffix += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::transform::Block;
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
        let mut levels = [0i16; 16];
        for (at, level) in [0, 3, 0, 1, -1, -1, 0, 1].into_iter().enumerate() {
            levels[ZIGZAG[at]] = level;
        }
        let block = Block::new(levels);
        let mut bits = Bits::default();
        assert_eq!(write_block(&mut bits, &block.levels, block.mask, 0, 0), 5);
        let mut out = Vec::new();
        bits.finish(0, &mut out);
        assert_eq!(out[5..], [0b0000_1000, 0b1110_0101, 0b1110_1101, 0b1000_0000][..]);
    }
}
