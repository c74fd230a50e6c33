//! Context-adaptive variable-length codes of transform coefficients (ITU-T H.264, 9.2).

use super::bits::{Bits, Burst};
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

/// A row of a table with nothing behind its end.
const fn row<const N: usize>(codes: &[(u8, u8)]) -> [(u8, u8); N] {
    let mut row = [(0, 0); N];
    let mut at = 0;
    while at < codes.len() {
        row[at] = codes[at];
        at += 1;
    }
    row
}

/// Length and bits of `total_zeros`, `[coefficients − 1][zeros]` (tables 9-7 and 9-8).
#[rustfmt::skip]
static TOTAL_ZEROS: [[(u8, u8); 16]; 15] = [
    row(&[(1,1),(3,3),(3,2),(4,3),(4,2),(5,3),(5,2),(6,3),(6,2),(7,3),(7,2),(8,3),(8,2),(9,3),(9,2),(9,1)]),
    row(&[(3,7),(3,6),(3,5),(3,4),(3,3),(4,5),(4,4),(4,3),(4,2),(5,3),(5,2),(6,3),(6,2),(6,1),(6,0)]),
    row(&[(4,5),(3,7),(3,6),(3,5),(4,4),(4,3),(3,4),(3,3),(4,2),(5,3),(5,2),(6,1),(5,1),(6,0)]),
    row(&[(5,3),(3,7),(4,5),(4,4),(3,6),(3,5),(3,4),(4,3),(3,3),(4,2),(5,2),(5,1),(5,0)]),
    row(&[(4,5),(4,4),(4,3),(3,7),(3,6),(3,5),(3,4),(3,3),(4,2),(5,1),(4,1),(5,0)]),
    row(&[(6,1),(5,1),(3,7),(3,6),(3,5),(3,4),(3,3),(3,2),(4,1),(3,1),(6,0)]),
    row(&[(6,1),(5,1),(3,5),(3,4),(3,3),(2,3),(3,2),(4,1),(3,1),(6,0)]),
    row(&[(6,1),(4,1),(5,1),(3,3),(2,3),(2,2),(3,2),(3,1),(6,0)]),
    row(&[(6,1),(6,0),(4,1),(2,3),(2,2),(3,1),(2,1),(5,1)]),
    row(&[(5,1),(5,0),(3,1),(2,3),(2,2),(2,1),(4,1)]),
    row(&[(4,0),(4,1),(3,1),(3,2),(1,1),(3,3)]),
    row(&[(4,0),(4,1),(2,1),(1,1),(3,1)]),
    row(&[(3,0),(3,1),(1,1),(2,1)]),
    row(&[(2,0),(2,1),(1,1)]),
    row(&[(1,0),(1,1)]),
];

/// The same for chroma DC (table 9-9).
static TOTAL_ZEROS_CHROMA_DC: [[(u8, u8); 16]; 3] = [
    row(&[(1, 1), (2, 1), (3, 1), (3, 0)]),
    row(&[(1, 1), (2, 1), (2, 0)]),
    row(&[(1, 1), (1, 0)]),
];

/// Length and bits of `run_before`, `[zeros left − 1][run]` (table 9-10).
#[rustfmt::skip]
static RUN: [[(u8, u8); 15]; 7] = [
    row(&[(1,1),(1,0)]),
    row(&[(1,1),(2,1),(2,0)]),
    row(&[(2,3),(2,2),(2,1),(2,0)]),
    row(&[(2,3),(2,2),(2,1),(3,1),(3,0)]),
    row(&[(2,3),(2,2),(3,3),(3,2),(3,1),(3,0)]),
    row(&[(2,3),(3,0),(3,1),(3,3),(3,2),(3,5),(3,4)]),
    row(&[(3,7),(3,6),(3,5),(3,4),(3,3),(3,2),(3,1),(4,1),(5,1),(6,1),(7,1),(8,1),(9,1),(10,1),(11,1)]),
];

/// Table 9-5's codes for no levels at all and for others, by `nC`.
#[inline(always)]
fn token(nc: u8, count: usize, ones: usize) -> (u8, u8) {
    match TOKEN_TABLE.get(usize::from(nc)) {
        Some(&table) => TOKEN[usize::from(table)][count][ones],
        // Of fixed length: levels − 1 and trailing ones.
        None if count == 0 => (6, 3),
        None => (6, ((count - 1) * 4 + ones) as u8),
    }
}

/// Writes a 4x4 block, `mask` telling in scan order which of its levels are not zero; with `first`
/// 1, its DC is not among them. `nc` is the neighbours' mean number of levels. Yields how many
/// levels there are.
#[inline]
pub fn write_block(bits: &mut Bits, levels: &[i16; 16], mask: u16, first: u32, nc: u8) -> u8 {
    let mask = u32::from(mask) >> first;
    let level = |at: u32| levels[ZIGZAG[(at + first) as usize & 15]];
    // For 15 levels at most the same tables serve: their last columns cannot come up.
    let zeros = |count: usize| (count + (first as usize) < 16).then(|| &TOTAL_ZEROS[count - 1]);
    write(bits, mask, level, |count, ones| token(nc, count, ones), zeros)
}

/// Writes the four DC levels of a chroma plane (`nC` = −1).
pub fn write_chroma_dc(bits: &mut Bits, levels: &[i16; 4]) {
    let mask = levels.iter().rev().fold(0, |mask, &level| mask << 1 | u32::from(level != 0));
    let level = |at: u32| levels[at as usize & 3];
    let zeros = |count: usize| TOTAL_ZEROS_CHROMA_DC.get(count - 1);
    write(bits, mask, level, |count, ones| TOKEN_CHROMA_DC[count][ones], zeros);
}

/// Writes levels at the positions of `mask` in scan order, from the highest frequency down (7.3.5.3.2).
/// `zeros` has `total_zeros` for their number, where there can be any.
#[inline(always)]
fn write(
    bits: &mut Bits,
    mask: u32,
    level: impl Fn(u32) -> i16,
    token: impl Fn(usize, usize) -> (u8, u8),
    zeros: impl Fn(usize) -> Option<&'static [(u8, u8); 16]>,
) -> u8 {
    if mask == 0 {
        let (length, code) = token(0, 0);
        bits.put(length.into(), code.into());
        return 0;
    }
    let mut bits = bits.burst();
    let count = mask.count_ones() as usize;
    // Trailing ones: at most three, of which the token tells all but the signs.
    let (mut left, mut ones, mut signs) = (mask, 0, 0);
    while left != 0 && ones < 3 {
        let at = left.ilog2();
        let level = level(at);
        if level.unsigned_abs() != 1 {
            break;
        }
        signs = signs << 1 | u32::from(level < 0);
        left ^= 1 << at;
        ones += 1;
    }
    let (length, code) = token(count, ones);
    bits.put(u32::from(length) + ones as u32, u32::from(code) << ones | signs);
    write_levels(&mut bits, left, level, count, ones);
    if let Some(table) = zeros(count) {
        write_zeros(&mut bits, mask, count, table);
    }
    bits.end();
    count as u8
}

/// The zeros below the highest frequency, and in front of each level but the last (9.2.3).
#[inline(always)]
fn write_zeros(bits: &mut Burst<'_>, mask: u32, count: usize, table: &[(u8, u8); 16]) {
    let mut at = mask.ilog2();
    let mut remaining = at as usize + 1 - count;
    let (length, code) = table[remaining & 15];
    let (mut length, mut code) = (u32::from(length), u32::from(code));
    let mut left = mask;
    while remaining > 0 {
        left ^= 1 << at;
        let Some(next) = left.checked_ilog2() else { break };
        let run = (at - next - 1) as usize;
        let (more, run_code) = RUN[remaining.min(7) - 1][run.min(14)];
        (length, code) = (length + u32::from(more), code << more | u32::from(run_code));
        (at, remaining) = (next, remaining - run);
    }
    // Thirty bits are the most that there can be: nine levels with seven zeros in front of them.
    bits.put(length, code);
}

/// How a level is written.
#[derive(Debug, Clone, Copy)]
struct LevelCode {
    code: u32,
    length: u8,
    /// `suffixLength` for the level after it.
    next: u8,
}

/// Levels down to minus this are looked up.
const COMMON: i32 = 64;

/// Codes by `suffixLength` and level (9.2.2.1).
static LEVEL: [[LevelCode; 2 * COMMON as usize]; 7] = {
    let mut table = [[LevelCode { code: 0, length: 0, next: 0 }; 2 * COMMON as usize]; 7];
    let mut suffix = 0;
    while suffix < 7 {
        let mut at = 0;
        while at < 2 * COMMON {
            if at != COMMON {
                table[suffix][at as usize] = level_code(suffix as u32, at - COMMON);
            }
            at += 1;
        }
        suffix += 1;
    }
    table
};

/// The code of a level that is not zero and that a prefix of 15 can tell.
const fn level_code(suffix: u32, level: i32) -> LevelCode {
    let magnitude = level.unsigned_abs();
    let rest = 2 * magnitude - 2 + (level < 0) as u32;
    let (length, code) = if suffix == 0 && rest < 14 {
        (rest + 1, 1)
    } else if suffix == 0 && rest < 30 {
        (19, 1 << 4 | (rest - 14))
    } else if suffix > 0 && rest < 15 << suffix {
        ((rest >> suffix) + 1 + suffix, 1 << suffix | (rest & ((1 << suffix) - 1)))
    } else {
        let base = if suffix == 0 { 30 } else { 15 << suffix };
        (28, 1 << 12 | (rest - base))
    };
    let at_least_one = if suffix == 0 { 1 } else { suffix };
    let grows = magnitude > 3 << (at_least_one - 1) && at_least_one < 6;
    LevelCode { code, length: length as u8, next: (at_least_one + grows as u32) as u8 }
}

/// The levels behind the trailing ones (9.2.2.1), none of them larger than a prefix of 15 can tell.
#[inline(always)]
fn write_levels(
    bits: &mut Burst<'_>,
    mut left: u32,
    level: impl Fn(u32) -> i16,
    count: usize,
    ones: usize,
) {
    let mut suffix = u8::from(count > 10 && ones < 3);
    // The first one behind less than three ones is larger than one, and told as if by one less.
    let mut known = i32::from(ones < 3);
    while left != 0 {
        let at = left.ilog2();
        left ^= 1 << at;
        let level = i32::from(level(at));
        let told = level - std::mem::take(&mut known) * level.signum();
        let codes = &LEVEL[usize::from(suffix)];
        let find = |level: i32| codes.get((level + COMMON) as usize).copied();
        let (Some(code), Some(LevelCode { next, .. })) = (find(told), find(level)) else {
            let rare = |level| level_code(suffix.into(), level);
            let code = rare(told);
            bits.put(code.length.into(), code.code);
            suffix = rare(level).next;
            continue;
        };
        bits.put(code.length.into(), code.code);
        suffix = next;
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
        for table in TOTAL_ZEROS.iter().chain(&TOTAL_ZEROS_CHROMA_DC) {
            prefix_free(table.iter().copied());
        }
        for table in &RUN {
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
