//! From a flip in the guest to its last RTP packet, stage by stage, in user-mode Linux.
//!
//! The testcard notes the guest's time of each flip, the relay's trace tells each frame's
//! times, and the relay's estimate of the clocks joins the two: exact to a few dozen
//! microseconds. Each flip is matched with the first frame seen after it and before the next
//! flip; a flip without one was passed over.

pub mod peer;

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use transom_tests::{Guest, Test, Testcard, Uml};

use crate::stream::Stream;
use crate::{INTERVAL, SETTLE};

/// Fast for somebody who types, slow enough for the screen to be at rest in between.
const BETWEEN_KEYS: Duration = Duration::from_millis(200);
/// Percentiles of 75 values are coarse at their end, of fewer worse.
const KEYS: usize = 75;
/// A frame's time is taken before the look at the screen and may be that much too early.
const SLACK: u64 = 200_000;
/// The last frames need time to get through.
const DRAIN: Duration = Duration::from_millis(500);

/// Each frame in the relay's log.
const TRACE: (&str, &str) = ("RUST_LOG", "info,transom_relay::relay=trace");

pub const STAGES: [&str; 7] = ["flip", "convert", "encode", "queue", "link", "relay", "total"];

/// One frame: guest's nanoseconds, then the host's, and how far the guest's are ahead.
struct Frame {
    guest: [i64; 4],
    received: i64,
    out: i64,
    offset: i64,
}

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let guest = Uml::new(test).boot()?;
    guest.start_agent(&[])?;
    let mut screen = guest.testcard()?;
    screen.tell("mode 1280x720 XRGB8888")?;
    let animated = |order: &'static str| {
        move |screen: &mut Testcard<'_>| -> Result<()> {
            screen.tell(order)?;
            std::thread::sleep(INTERVAL);
            Ok(())
        }
    };
    let typed = |order: &'static str| {
        move |screen: &mut Testcard<'_>| -> Result<()> {
            for _ in 0..KEYS {
                std::thread::sleep(BETWEEN_KEYS);
                screen.tell(order)?;
            }
            Ok(())
        }
    };
    Ok(vec![
        scene(test, &guest, &mut screen, "box", animated("animate box"))?,
        scene(test, &guest, &mut screen, "screen", animated("animate screen"))?,
        scene(test, &guest, &mut screen, "typing", typed("type 16"))?,
        scene(test, &guest, &mut screen, "scribble", typed("scribble 16"))?,
    ])
}

fn scene(
    test: &Test,
    guest: &Guest,
    screen: &mut Testcard<'_>,
    name: &str,
    play: impl FnOnce(&mut Testcard<'_>) -> Result<()>,
) -> Result<Value> {
    screen.tell("still 1")?;
    let mut stream = Stream::start_with(test, guest, &[TRACE])?;
    std::thread::sleep(SETTLE);
    screen.flips()?;
    play(screen)?;
    let flips = screen.flips()?;
    std::thread::sleep(DRAIN);
    let log = stream.relay().process().stderr().text();
    let frames = log.lines().filter_map(Frame::parse).collect::<Vec<_>>();
    let matched = matches(&flips, &frames);
    let mut line = json!({ "what": name, "flips": flips.len(), "frames": matched.len() });
    for (i, stage) in STAGES.iter().enumerate() {
        let values = matched.iter().map(|times| times[i] as f64 / 1e6).collect();
        line[stage] = percentiles(values).with_context(|| format!("{name}: no frame"))?;
    }
    Ok(line)
}

/// The stages of each flip that made it, in nanoseconds.
fn matches(flips: &[(u32, u64)], frames: &[Frame]) -> Vec<[i64; STAGES.len()]> {
    let mut frames = frames.iter().peekable();
    let mut matched = Vec::new();
    for (i, (_, flip)) in flips.iter().enumerate() {
        let begin = flip.saturating_sub(SLACK) as i64;
        let end = flips.get(i + 1).map_or(i64::MAX, |(_, at)| at.saturating_sub(SLACK) as i64);
        while frames.next_if(|frame| frame.guest[0] < begin).is_some() {}
        if let Some(frame) = frames.next_if(|frame| frame.guest[0] < end) {
            matched.push(frame.stages(*flip as i64));
        }
    }
    matched
}

impl Frame {
    /// `… frame SEEN CONVERTED ENCODED SENT RECEIVED OUT offset OFFSET`
    fn parse(line: &str) -> Option<Self> {
        let (_, words) = line.split_once("frame ")?;
        let words: Vec<i64> = words
            .split_whitespace()
            .filter(|word| *word != "offset")
            .map(|word| word.parse().ok())
            .collect::<Option<_>>()?;
        let [a, b, c, d, received, out, offset] = words[..] else { return None };
        Some(Self { guest: [a, b, c, d], received, out, offset })
    }

    fn stages(&self, flip: i64) -> [i64; STAGES.len()] {
        let [seen, converted, encoded, sent] = self.guest;
        [
            seen - flip,
            converted - seen,
            encoded - converted,
            sent - encoded,
            self.received - (sent - self.offset),
            self.out - self.received,
            self.out - (flip - self.offset),
        ]
    }
}

/// Nearest ranks: existing values, none in between.
pub fn percentiles(mut values: Vec<f64>) -> Option<Value> {
    values.sort_by(f64::total_cmp);
    let at = |percent: usize| values.get((values.len() * percent).div_ceil(100).max(1) - 1);
    Some(json!({ "p50": at(50)?, "p95": at(95)?, "p99": at(99)? }))
}

#[cfg(test)]
mod tests {
    use super::{Frame, matches};

    fn frame(seen: i64) -> Frame {
        let line =
            format!("t frame {seen} {} {} {} 90 95 offset 1000", seen + 1, seen + 3, seen + 6);
        Frame::parse(&line).expect("whole")
    }

    #[test]
    fn each_flip_takes_its_first_frame_and_stages_add_up() {
        let flips = [(1, 1_000_000), (2, 2_000_000), (3, 3_000_000)];
        // The second flip was passed over; a refinement follows the first frame.
        let frames = [frame(500_000), frame(1_000_040), frame(1_500_000), frame(3_000_010)];
        let matched = matches(&flips, &frames);
        assert_eq!(matched.len(), 2);
        assert_eq!(matched[0][..4], [40, 1, 2, 3]);
        assert_eq!(matched[0][..6].iter().sum::<i64>(), matched[0][6]);
    }
}
