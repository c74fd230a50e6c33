//! Who steers a guest: one viewer at a time, and everybody sees who.
//!
//! ```text
//!             ask, free            ask for it (take)
//!   nobody ───────────────▶ A ─────────────────────▶ B      A: all keys released, told "taken"
//!      ▲                    │                        │
//!      └──── leave, release ┴────────────────────────┘      with --shared-control: all at once
//! ```
//!
//! In: what viewers with the role of control want. Out: who may send input, and whose keys are to
//! be released. Without input or output; [`Desk`] adds the guest's feed and tells the viewers.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use crate::{
    feed::{Feed, ViewerId},
    input::Command,
};

/// Who steers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Control {
    /// All may, together.
    shared: bool,
    holder: Option<ViewerId>,
}

/// What a change of hands asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// This viewer's keys are to be released.
    pub release: Option<ViewerId>,
    /// Somebody else steers now, or nobody.
    pub handed: bool,
}

impl Control {
    /// Nobody steers yet.
    pub fn new(shared: bool) -> Self {
        Self { shared, holder: None }
    }

    /// Who steers, if it is one.
    pub fn holder(&self) -> Option<ViewerId> {
        self.holder
    }

    /// Whether all steer together.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Whether input of this viewer counts; it has the role of control.
    pub fn may_send(&self, viewer: ViewerId) -> bool {
        self.shared || self.holder == Some(viewer)
    }

    /// A viewer comes: it gets control if nobody has it.
    pub fn ask(&mut self, viewer: ViewerId) -> Change {
        if self.shared || self.holder.is_some() { Change::default() } else { self.take(viewer) }
    }

    /// A viewer wants control, whoever has it.
    pub fn take(&mut self, viewer: ViewerId) -> Change {
        if self.shared || self.holder == Some(viewer) {
            return Change::default();
        }
        Change { release: self.holder.replace(viewer), handed: true }
    }

    /// A viewer gives control up, or is gone.
    pub fn leave(&mut self, viewer: ViewerId) -> Change {
        let handed = self.holder == Some(viewer);
        if handed {
            self.holder = None;
        }
        Change { release: (handed || self.shared).then_some(viewer), handed }
    }
}

/// Control of one guest, shared by all its sessions.
#[derive(Debug)]
pub struct Desk {
    control: Mutex<Control>,
    feed: Feed,
    holder: watch::Sender<Option<ViewerId>>,
    refused: AtomicU64,
}

impl Desk {
    /// Nobody sits there yet.
    pub fn new(feed: Feed, shared: bool) -> Self {
        let (control, holder) = (Mutex::new(Control::new(shared)), watch::Sender::new(None));
        Self { control, feed, holder, refused: AtomicU64::new(0) }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        // Plain values: a panic elsewhere leaves nothing half done.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, change: impl FnOnce(&mut Control) -> Change) {
        let mut control = self.control();
        let change = change(&mut control);
        let holder = control.holder();
        // With the lock held, so that nobody's next key can come before the release of the last.
        if let Some(viewer) = change.release {
            // What lets go is taken always.
            let _ = self.feed.send_input(Command::Leave { viewer });
        }
        if change.handed {
            self.holder.send_replace(holder);
        }
    }

    /// Who steers, now and at every change.
    pub fn watch(&self) -> watch::Receiver<Option<ViewerId>> {
        self.holder.subscribe()
    }

    /// Whether all steer together.
    pub fn is_shared(&self) -> bool {
        self.control().is_shared()
    }

    /// Whether input of this viewer counts.
    pub fn may_send(&self, viewer: ViewerId) -> bool {
        self.control().may_send(viewer)
    }

    /// Passes a viewer's input on, if it counts; `false` if not.
    pub fn send(&self, viewer: ViewerId, command: Command) -> bool {
        let control = self.control();
        control.may_send(viewer) && self.feed.send_input(command).is_ok()
    }

    /// One more batch of input was thrown away.
    pub fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// So many batches of input were thrown away.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// See [`Control::ask`].
    pub fn ask(&self, viewer: ViewerId) {
        self.apply(|control| control.ask(viewer));
    }

    /// See [`Control::take`].
    pub fn take(&self, viewer: ViewerId) {
        self.apply(|control| control.take(viewer));
    }

    /// See [`Control::leave`].
    pub fn leave(&self, viewer: ViewerId) {
        self.apply(|control| control.leave(viewer));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: ViewerId = ViewerId(1);
    const B: ViewerId = ViewerId(2);

    #[test]
    fn the_first_gets_control_and_later_ones_wait() {
        let mut control = Control::new(false);
        assert_eq!(control.ask(A), Change { release: None, handed: true });
        assert_eq!(control.ask(B), Change::default());
        assert!(control.may_send(A) && !control.may_send(B));
    }

    #[test]
    fn taking_releases_what_the_other_held() {
        let mut control = Control::new(false);
        control.ask(A);
        assert_eq!(control.take(B), Change { release: Some(A), handed: true });
        assert!(!control.may_send(A) && control.may_send(B));
        assert_eq!(control.leave(A), Change::default(), "it has nothing to give up");
        assert_eq!(control.leave(B), Change { release: Some(B), handed: true });
        assert!(!control.may_send(B));
        assert!(control.ask(A).handed);
    }

    #[test]
    fn shared_control_knows_no_holder_but_releases() {
        let mut control = Control::new(true);
        control.ask(A);
        control.take(B);
        assert!(control.may_send(A) && control.may_send(B));
        assert_eq!(control.leave(A), Change { release: Some(A), handed: false });
    }

    proptest! {
        #[test]
        fn at_most_one_steers_and_whoever_loses_it_is_released(
            steps in prop::collection::vec((0u8..3, 0u64..4), 0..50),
        ) {
            let mut control = Control::new(false);
            for (what, viewer) in steps {
                let before = control.holder();
                let viewer = ViewerId(viewer);
                let change = match what {
                    0 => control.ask(viewer),
                    1 => control.take(viewer),
                    _ => control.leave(viewer),
                };
                let lost = before.filter(|&held| control.holder() != Some(held));
                prop_assert_eq!(change.release, lost);
                prop_assert_eq!(change.handed, control.holder() != before);
                prop_assert!((0..4).filter(|&v| control.may_send(ViewerId(v))).count() <= 1);
            }
        }
    }
}
