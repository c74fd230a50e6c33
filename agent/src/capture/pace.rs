//! How often to look.
//!
//! A *glance* asks the kernel which framebuffer a plane shows: two system calls. A *look* compares
//! the picture. Waiting for vblank instead of glancing was rejected: drivers of virtual displays
//! have none (hyperv_drm, virtio-gpu and bochs in Linux 6.12), and where there is one, the new
//! framebuffer can be seen at commit already, up to a frame before the vblank that shows it.

use std::time::Duration;

/// A screen that changed less than this ago is about to change again.
const HOT: Duration = Duration::from_millis(250);
/// Until then it is worth watching closely.
const WARM: Duration = Duration::from_secs(2);

/// Shortest time between two glances.
const GLANCE_HOT: Duration = Duration::from_millis(1);
const GLANCE_WARM: Duration = Duration::from_millis(4);
/// A frame at 60 Hz: a first key press on an idle screen is seen within it.
const GLANCE_COLD: Duration = Duration::from_millis(16);

/// Looking around may cost one in so many parts of a core while the screen moves, …
const SHARE_HOT: u32 = 33;
/// … and when it does not, twice that together: glances and sweeps.
const SHARE_COLD: u32 = 400;

/// Compare now and then even though nothing hints at a change: drawing into the front buffer
/// leaves no other trace in some drivers, …
const SWEEP_BLIND: Duration = Duration::from_millis(50);
/// … and a hint can get lost in the others.
const SWEEP_HINTED: Duration = Duration::from_millis(500);

/// Keeps time for one screen. All times are since the same start.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    changed: Option<Duration>,
    pointed: Option<Duration>,
    looked: Option<Duration>,
    glance_cost: Duration,
    look_cost: Duration,
    hinted: bool,
}

impl Pace {
    /// For a screen never looked at. `hinted`: its driver tells when the front buffer is drawn
    /// into.
    pub fn new(hinted: bool) -> Self {
        Self { hinted, ..Self::default() }
    }

    /// A glance at `now` took `cost`.
    pub fn glanced(&mut self, cost: Duration) {
        self.glance_cost = (self.glance_cost * 7 + cost) / 8;
    }

    /// A look that ended at `now` took `cost` and found a change or not.
    pub fn looked(&mut self, now: Duration, cost: Duration, changed: bool) {
        self.looked = Some(now);
        self.look_cost = (self.look_cost * 3 + cost) / 4;
        if changed {
            self.changed = Some(now);
        }
    }

    /// The pointer, and it alone, was seen to move: worth glancing closely, yet no reason to compare.
    pub fn pointed(&mut self, now: Duration) {
        self.pointed = Some(now);
    }

    /// Whether to compare although no hint says so. While the screen moves, `frame` after the
    /// last look: a compositor with two buffers may have flipped twice since, back to the same
    /// one.
    pub fn is_sweep_due(&self, now: Duration, frame: Duration) -> bool {
        let interval = match self.quiet(now) {
            quiet if quiet < HOT => frame,
            // Slow machines compare less often, rather than doing nothing else.
            _ if self.hinted => SWEEP_HINTED.max(self.look_cost * SHARE_COLD),
            quiet if quiet < WARM => SWEEP_BLIND.max(self.look_cost * SHARE_HOT),
            _ => (2 * SWEEP_BLIND).max(self.look_cost * SHARE_COLD),
        };
        self.is_over(now, interval)
    }

    /// Whether to try again what could not be read. Unlike a sweep's, its interval does not grow
    /// with what looks cost: nobody sees anything until one succeeds.
    pub fn is_retry_due(&self, now: Duration, interval: Duration) -> bool {
        self.is_over(now, interval)
    }

    /// Whether the last look is so long ago.
    fn is_over(&self, now: Duration, interval: Duration) -> bool {
        self.looked.is_none_or(|looked| now.saturating_sub(looked) >= interval)
    }

    /// How long to wait before the next glance.
    pub fn pause(&self, now: Duration) -> Duration {
        let pointed = self.pointed.map_or(Duration::MAX, |pointed| now.saturating_sub(pointed));
        match self.quiet(now).min(pointed) {
            quiet if quiet < HOT => GLANCE_HOT.max(self.glance_cost * SHARE_HOT),
            quiet if quiet < WARM => GLANCE_WARM.max(self.glance_cost * SHARE_HOT),
            _ => GLANCE_COLD.max(self.glance_cost * SHARE_COLD),
        }
        .min(GLANCE_COLD * 2)
    }

    fn quiet(&self, now: Duration) -> Duration {
        self.changed.map_or(Duration::MAX, |changed| now.saturating_sub(changed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_micros(16_667);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_moving_screen_is_compared_every_frame_and_watched_closely() {
        let mut pace = Pace::new(true);
        assert!(pace.is_sweep_due(Duration::ZERO, FRAME), "the first look is always due");
        pace.looked(MS * 100, MS, true);
        assert_eq!(pace.pause(MS * 101), GLANCE_HOT);
        assert!(!pace.is_sweep_due(MS * 110, FRAME));
        assert!(pace.is_sweep_due(MS * 117, FRAME));
    }

    #[test]
    fn an_idle_screen_costs_less_the_longer_it_is_idle() {
        let mut pace = Pace::new(true);
        pace.looked(MS, MS, true);
        pace.looked(MS * 5000, MS, false);
        assert_eq!(pace.pause(MS * 5001), GLANCE_COLD);
        assert!(!pace.is_sweep_due(MS * 5400, FRAME));
        assert!(pace.is_sweep_due(MS * 5500, FRAME));
    }

    #[test]
    fn a_pointer_over_a_screen_at_rest_is_watched_and_nothing_compared() {
        let mut pace = Pace::new(true);
        pace.looked(MS * 5000, MS, false);
        pace.pointed(MS * 5100);
        assert_eq!(pace.pause(MS * 5101), GLANCE_HOT);
        assert!(!pace.is_sweep_due(MS * 5200, FRAME));
        assert!(pace.is_sweep_due(MS * 5500, FRAME), "what was drawn without a trace is found");
    }

    #[test]
    fn slow_machines_look_less_often() {
        let mut pace = Pace::new(false);
        pace.looked(MS, MS, true);
        for _ in 0..50 {
            pace.glanced(MS / 10);
            pace.looked(MS * 9000, MS * 3, false);
        }
        assert!(pace.pause(MS * 9001) > GLANCE_COLD);
        assert!(!pace.is_sweep_due(MS * 10_000, FRAME), "a 3 ms look is not repeated every 100 ms");
        assert!(pace.is_sweep_due(MS * 10_300, FRAME));
    }

    #[test]
    fn what_cannot_be_read_is_tried_again_soon_however_slow_the_machine() {
        let mut pace = Pace::new(true);
        assert!(pace.is_retry_due(Duration::ZERO, MS * 500), "the first look is always due");
        pace.looked(MS * 9000, MS * 400, false);
        assert!(!pace.is_sweep_due(MS * 9600, FRAME));
        assert!(!pace.is_retry_due(MS * 9400, MS * 500));
        assert!(pace.is_retry_due(MS * 9500, MS * 500));
    }
}
