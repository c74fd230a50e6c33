//! When pictures were shown, and when all of their packets had come.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::guest::nanos;
use crate::latency::percentiles;

/// More packets than a picture can have.
const MEMORY: u64 = 8192;

/// A packet that came: its picture by RTP time, whether it is the last one, and its bytes.
#[derive(Clone, Copy)]
struct Came {
    timestamp: u32,
    last: bool,
    bytes: usize,
}

/// A picture that was whole.
struct Whole {
    name: u64,
    at: u64,
    bytes: usize,
}

/// The times, in nanoseconds since 1970.
#[derive(Default)]
pub struct Diary {
    shown: HashMap<u64, u64>,
    packets: HashMap<u64, Came>,
    whole: Vec<Whole>,
    /// Pictures that were whole, by RTP time: what comes twice is no picture more.
    done: HashSet<u32>,
    /// Bits per second that the encoder was told, and when.
    told: Vec<(u64, u32)>,
    /// Names of pictures that are told by one of their packets.
    names: HashMap<u32, u64>,
}

/// Opens it, whatever became of others who had it open.
pub fn open(diary: &Mutex<Diary>) -> MutexGuard<'_, Diary> {
    diary.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Diary {
    /// A picture of this name enters.
    pub fn show(&mut self, name: u64, at: u64) {
        self.shown.insert(name, at);
    }

    /// The encoder is told a bitrate.
    pub fn tell(&mut self, at: u64, bitrate: u32) {
        self.told.push((at, bitrate));
    }

    /// What it was told: seconds since the beginning, megabits a second.
    pub fn told(&self, from: u64) -> Vec<(f64, f64)> {
        let told = self.told.iter();
        told.map(|(at, rate)| (at.saturating_sub(from) as f64 / 1e9, f64::from(*rate) / 1e6))
            .collect()
    }

    /// A packet comes. `key` is its RTP time and, if it tells that, the picture's name; the RTP time
    /// is the name otherwise.
    pub fn note(&mut self, sequence: u64, key: (u32, Option<u64>), last: bool, bytes: usize) {
        let (timestamp, name) = key;
        self.packets.insert(sequence, Came { timestamp, last, bytes });
        self.packets.remove(&sequence.wrapping_sub(MEMORY));
        if let Some(name) = name {
            self.names.insert(timestamp, name);
        }
        if self.done.contains(&timestamp) {
            return;
        }
        if let Some(bytes) = self.whole_with(sequence, timestamp) {
            self.done.insert(timestamp);
            let name = self.names.remove(&timestamp).unwrap_or(timestamp.into());
            self.whole.push(Whole { name, at: nanos(), bytes });
        }
    }

    /// The bytes of the picture that this packet belongs to, if it was the last one missing. Where a
    /// picture begins is known by the packet before.
    fn whole_with(&self, sequence: u64, timestamp: u32) -> Option<usize> {
        let mut first = sequence;
        loop {
            let before = first.checked_sub(1)?;
            if self.packets.get(&before)?.timestamp != timestamp {
                break;
            }
            first = before;
        }
        let mut bytes = 0;
        for number in first.. {
            let came = self.packets.get(&number).filter(|came| came.timestamp == timestamp)?;
            bytes += came.bytes;
            if came.last {
                return Some(bytes);
            }
        }
        None
    }

    /// Whether any picture has come whole.
    pub fn has_any(&self) -> bool {
        !self.whole.is_empty()
    }

    /// What became of the pictures that were shown in this time.
    pub fn judge(&self, from: u64, to: u64, capacity: u64) -> Value {
        let seconds = (to - from) as f64 / 1e9;
        let shown = self.shown.values().filter(|at| (from..to).contains(*at)).count();
        let whole: Vec<_> = self.aged().filter(|(at, ..)| (from..to).contains(at)).collect();
        let bits: usize = whole.iter().map(|(_, _, bytes)| bytes * 8).sum();
        let count = whole.len();
        let ages = whole.iter().map(|(_, age, _)| *age).collect();
        json!({
            "shown": shown, "whole": count, "per_second": count as f64 / seconds,
            "ms": percentiles(ages), "utilisation_percent":
                bits as f64 / seconds / capacity as f64 * 100.0,
        })
    }

    /// For each while: seconds since the beginning, the age of the oldest picture that was whole in
    /// it in milliseconds, and megabits a second.
    pub fn series(&self, from: u64, to: u64, bin: Duration) -> Vec<(f64, Option<f64>, f64)> {
        let bin = bin.as_nanos() as u64;
        let of = |begin: u64| {
            let inside = |whole: &Whole| (begin..begin + bin).contains(&whole.at);
            let mut oldest = None::<f64>;
            let mut bits = 0;
            for whole in self.whole.iter().filter(|whole| inside(whole)) {
                let shown = self.shown.get(&whole.name);
                let age = shown.map(|shown| whole.at.saturating_sub(*shown) as f64 / 1e6);
                oldest = [oldest, age].into_iter().flatten().reduce(f64::max);
                bits += whole.bytes * 8;
            }
            ((begin - from) as f64 / 1e9, oldest, bits as f64 / bin as f64 * 1e3)
        };
        (from..to).step_by(bin as usize).map(of).collect()
    }

    /// When pictures were shown, their age in milliseconds once whole, and their bytes.
    fn aged(&self) -> impl Iterator<Item = (u64, f64, usize)> {
        self.whole.iter().filter_map(|whole| {
            let shown = *self.shown.get(&whole.name)?;
            Some((shown, whole.at.saturating_sub(shown) as f64 / 1e6, whole.bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Diary;

    #[test]
    fn a_picture_is_whole_with_the_packet_that_was_missing() {
        let mut diary = Diary::default();
        let mut note = |sequence, timestamp, last| {
            diary.note(sequence, (timestamp, None), last, 10);
            diary.whole.len()
        };
        // Nobody knows where the first one begins.
        assert_eq!(note(10, 1, true), 0);
        assert_eq!(note(11, 2, false), 0);
        assert_eq!(note(13, 2, true), 0);
        assert_eq!(note(14, 3, true), 1);
        assert_eq!(note(12, 2, false), 2);
        assert_eq!(note(12, 2, false), 2, "once is enough");
        let whole: Vec<_> = diary.whole.iter().map(|w| (w.name, w.bytes)).collect();
        assert_eq!(whole, [(3, 10), (2, 30)]);
    }

    #[test]
    fn a_name_that_a_packet_tells_is_the_pictures() {
        let mut diary = Diary::default();
        diary.show(77, 5);
        diary.note(1, (1, None), true, 10);
        diary.note(2, (2, None), false, 10);
        diary.note(3, (2, Some(77)), true, 10);
        assert_eq!(
            diary.aged().map(|(shown, _, bytes)| (shown, bytes)).collect::<Vec<_>>(),
            [(5, 20)]
        );
    }
}
