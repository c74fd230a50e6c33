//! Intra refresh: a picture that is made new bit by bit, instead of by one large IDR.
//!
//! In: when to begin. Out: which columns or rows of macroblocks each frame has to code without
//! looking back. The first frame of a wave carries a recovery point (ITU-T H.264, D.2.8), and who
//! begins to decode there has the whole picture at its end.

use crate::sys::va::abi;

/// A wave takes so many frames, where the picture has as many columns. An IDR's bits then come as a
/// sixteenth in each, less than what a frame of the rate holds; and a wave is over, on a resting
/// screen as well, before the next is due.
const FRAMES: u32 = 16;

/// Where waves go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From left to right. Preferred: what is new grows at all heights, so that what scrolls or moves
    /// up and down, as most does, finds its reference in the part that is new already.
    Columns,
    /// From top to bottom.
    Rows,
}

impl Direction {
    /// What a driver offers, by `VAConfigAttribEncIntraRefresh`.
    pub fn of(offered: u32) -> Option<Self> {
        if offered & abi::REFRESH_COLUMN != 0 {
            Some(Self::Columns)
        } else {
            (offered & abi::REFRESH_ROW != 0).then_some(Self::Rows)
        }
    }
}

/// The wave of one stream.
#[derive(Debug)]
pub struct Wave {
    direction: Direction,
    /// Columns or rows of macroblocks.
    across: u32,
    /// Where the next band begins; at the end no wave is under way.
    at: u32,
}

impl Wave {
    /// None is under way.
    pub fn new(direction: Direction, (columns, rows): (u32, u32)) -> Self {
        let across = if direction == Direction::Columns { columns } else { rows };
        Self { direction, across, at: across }
    }

    fn band(&self) -> u32 {
        self.across.div_ceil(FRAMES)
    }

    /// Frames of a whole wave.
    pub fn frames(&self) -> u32 {
        self.across.div_ceil(self.band())
    }

    /// Begins one; yields whether it did: one that is under way goes on, for a second one from the
    /// start would have who waits for the first wait longer.
    pub fn begin(&mut self) -> bool {
        let idle = !self.is_under_way();
        if idle {
            self.at = 0;
        }
        idle
    }

    /// Ends it: an IDR makes it pointless.
    pub fn stop(&mut self) {
        self.at = self.across;
    }

    /// Whether the next frame has a part to refresh.
    pub fn is_under_way(&self) -> bool {
        self.at < self.across
    }

    /// What the next frame has to refresh.
    pub fn next_band(&mut self) -> Option<abi::Refresh> {
        if !self.is_under_way() {
            return None;
        }
        let size = self.band().min(self.across - self.at);
        let band = abi::Refresh {
            rir_flags: match self.direction {
                Direction::Columns => abi::REFRESH_COLUMN,
                Direction::Rows => abi::REFRESH_ROW,
            },
            intra_insertion_location: self.at as u16,
            intra_insert_size: size as u16,
            ..abi::Refresh::default()
        };
        self.at += size;
        Some(band)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_covers_all_of_it_once_and_in_as_many_frames_as_announced() {
        assert_eq!(Direction::of(abi::REFRESH_ROW | abi::REFRESH_COLUMN), Some(Direction::Columns));
        assert_eq!(Direction::of(abi::REFRESH_ROW), Some(Direction::Rows));
        assert_eq!(Direction::of(0), None);
        for across in 1..=512 {
            let mut wave = Wave::new(Direction::Rows, (7, across));
            assert_eq!(wave.next_band().map(|band| band.intra_insert_size), None);
            assert!(wave.begin());
            let (mut next, mut frames) = (0, 0);
            while let Some(band) = wave.next_band() {
                assert_eq!(u32::from(band.intra_insertion_location), next);
                assert!(band.intra_insert_size > 0);
                next += u32::from(band.intra_insert_size);
                frames += 1;
                let over = !wave.is_under_way();
                assert_eq!(over, next == across);
                assert_eq!(wave.begin(), over, "{across}: once at a time");
                if over {
                    wave.stop();
                }
            }
            assert_eq!((next, frames), (across, wave.frames()));
            assert!(frames <= FRAMES);
        }
    }
}
