//! How often a viewer's picture loss indications bring an IDR. Pure: time in, verdicts out.
//!
//! A receiver asks again and again until it has what it wants, and some ask on a still screen
//! only because nothing has come for a while. The first request counts at once, for it may be a
//! real loss; each further one within a while counts after twice the time.

use std::time::{Duration, Instant};

/// After an IDR, the next one at the earliest; about what a lost IDR takes to be noticed.
const FIRST: Duration = Duration::from_millis(400);
/// The longest wait.
const LAST: Duration = Duration::from_secs(8);

/// Decides about requests of one viewer.
#[derive(Debug)]
pub struct Refresh {
    granted: Option<Instant>,
    wait: Duration,
    /// A request that came too early; kept, for the receiver may not repeat it.
    pending: bool,
}

impl Default for Refresh {
    fn default() -> Self {
        Self { granted: None, wait: FIRST, pending: false }
    }
}

impl Refresh {
    /// A request; whether to ask the guest for an IDR now.
    pub fn handle_request(&mut self, now: Instant) -> bool {
        self.pending = true;
        self.poll(now)
    }

    /// An IDR is on its way to this viewer, whoever asked for it.
    pub fn handle_idr(&mut self, now: Instant) {
        self.pending = false;
        self.granted.get_or_insert(now);
    }

    /// Whether a request that waited is due.
    pub fn poll(&mut self, now: Instant) -> bool {
        if !self.pending || self.poll_timeout().is_some_and(|due| now < due) {
            return false;
        }
        self.wait = match self.granted {
            Some(last) if now.saturating_duration_since(last) < 2 * self.wait.max(FIRST * 4) => {
                (self.wait * 2).min(LAST)
            }
            _ => FIRST,
        };
        (self.granted, self.pending) = (Some(now), false);
        true
    }

    /// When [`Refresh::poll`] is due, if a request waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.granted.filter(|_| self.pending).map(|granted| granted + self.wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_request_counts_at_once_and_so_does_one_after_a_long_time() {
        let (mut refresh, start) = (Refresh::default(), Instant::now());
        assert!(refresh.handle_request(start));
        assert!(refresh.handle_request(start + Duration::from_secs(60)));
    }

    #[test]
    fn a_request_that_came_too_early_is_not_forgotten() {
        let (mut refresh, start) = (Refresh::default(), Instant::now());
        assert!(refresh.handle_request(start));
        assert!(!refresh.handle_request(start + 100 * MS));
        let due = refresh.poll_timeout().expect("it waits");
        assert!(!refresh.poll(due - MS));
        assert!(refresh.poll(due));
        assert_eq!(refresh.poll_timeout(), None);
    }

    #[test]
    fn an_idr_that_came_meanwhile_settles_it() {
        let (mut refresh, start) = (Refresh::default(), Instant::now());
        assert!(refresh.handle_request(start));
        assert!(!refresh.handle_request(start + 100 * MS));
        refresh.handle_idr(start + 200 * MS);
        assert_eq!(refresh.poll_timeout(), None);
    }

    #[test]
    fn a_receiver_that_keeps_asking_gets_an_idr_every_eight_seconds() {
        let (mut refresh, start) = (Refresh::default(), Instant::now());
        let granted = (0..120_000u32).step_by(100).filter(|&ms| {
            let now = start + ms * MS;
            refresh.handle_request(now)
        });
        assert!(granted.count() < 22);
    }
}
