//! What comes in on a viewer's input channel, on its way to the desk.
//!
//! In: messages of the channel, and what became of them. Out: commands, and answers. What
//! this refuses to do: pass on more than the guest takes. A viewer that sends faster loses the
//! batch, and everything it holds is released, so that no key can hang on what was lost. It is told
//! so, once a second at most, and the guest's desk counts.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use transom_protocol::input::MAX_EVENT_RATE;

use crate::{
    control::Desk,
    feed::ViewerId,
    input::{
        Command, Outcome,
        channel::{Action, Answer, Batch},
    },
};

/// Events that may come in one burst: a quarter of a second's.
const BURST: f64 = MAX_EVENT_RATE as f64 / 4.0;

/// Batches whose answer is awaited; the guest answers within milliseconds.
const AWAITED: usize = 64;

/// Between two words about input that was lost.
const NOTICE: Duration = Duration::from_secs(1);

/// Input of one viewer.
#[derive(Debug)]
pub struct Input {
    viewer: ViewerId,
    /// Events that may come now.
    budget: f64,
    filled: Instant,
    /// Messages that were thrown away.
    refused: u64,
    /// Why the last one was, until the viewer is told.
    notice: Option<String>,
    may_tell: Instant,
    /// Number and time of batches that were passed on.
    awaited: VecDeque<(u32, u32)>,
}

impl Input {
    /// Nothing came yet.
    pub fn new(viewer: ViewerId, now: Instant) -> Self {
        Self {
            viewer,
            budget: BURST,
            filled: now,
            refused: 0,
            notice: None,
            may_tell: now,
            awaited: VecDeque::new(),
        }
    }

    fn spend(&mut self, now: Instant, events: usize) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.budget = (self.budget + passed * f64::from(MAX_EVENT_RATE)).min(BURST);
        let fits = self.budget >= events as f64;
        if fits {
            self.budget -= events as f64;
        }
        fits
    }

    /// Takes a message; whether it was passed on. Takes control if nobody has it.
    pub fn handle(&mut self, now: Instant, message: &[u8], desk: &Desk) -> bool {
        let batch = match Batch::parse(message) {
            Ok(batch) => batch,
            Err(e) => {
                self.refuse(now, desk, &e);
                return false;
            }
        };
        if !self.spend(now, batch.actions.len()) {
            self.refuse(now, desk, &"more events than the guest takes");
            return false;
        }
        let viewer = self.viewer;
        if !batch.actions.is_empty() {
            desk.ask(viewer);
        }
        let mut taken = true;
        let mut events = Vec::new();
        let mut flush = |events: &mut Vec<_>, then: Option<Command>| {
            if !events.is_empty() {
                let (number, events) = (batch.sequence, std::mem::take(events));
                taken &= desk.send(viewer, Command::Events { viewer, number, at: now, events });
            }
            if let Some(command) = then {
                taken &= desk.send(viewer, command);
            }
        };
        for action in &batch.actions {
            match *action {
                Action::Event(event) => events.push(event),
                Action::Plug(pad) => flush(&mut events, Some(Command::Plug { viewer, pad })),
                Action::Unplug(pad) => flush(&mut events, Some(Command::Unplug { viewer, pad })),
                Action::ReleaseAll => flush(&mut events, Some(Command::ReleaseAll { viewer })),
            }
        }
        flush(&mut events, None);
        if !taken && desk.may_send(viewer) {
            self.refuse(now, desk, &"the guest takes no input at the moment");
        }
        if taken {
            if self.awaited.len() == AWAITED {
                self.awaited.pop_front();
            }
            self.awaited.push_back((batch.sequence, batch.sent));
        }
        taken
    }

    /// What to tell the page of an outcome, if it is this viewer's.
    pub fn answer(&mut self, outcome: &Outcome) -> Option<Vec<u8>> {
        let micros = |time: Duration| time.as_micros().min(u128::from(u32::MAX - 1)) as u32;
        let answer = match *outcome {
            Outcome::Batch { viewer, number, relay, guest } if viewer == self.viewer => {
                let at = self.awaited.iter().position(|(sequence, _)| *sequence == number)?;
                let (sequence, sent) = self.awaited.remove(at)?;
                Answer::Echo { sequence, sent, relay: micros(relay), guest: guest.map(micros) }
            }
            Outcome::Rumble { viewer, pad, strong, weak, duration } if viewer == self.viewer => {
                Answer::Rumble { pad, strong, weak, duration }
            }
            _ => return None,
        };
        Some(answer.encode())
    }

    /// What to tell the page of input that was thrown away, if it is time for it.
    pub fn poll_notice(&mut self, now: Instant) -> Option<Value> {
        let why = self.notice.take()?;
        self.may_tell = now + NOTICE;
        Some(json!({ "type": "input", "refused": self.refused, "why": why }))
    }

    fn refuse(&mut self, now: Instant, desk: &Desk, why: &dyn std::fmt::Display) {
        self.refused += 1;
        desk.count_refused();
        if now >= self.may_tell {
            self.notice = Some(why.to_string());
        }
        desk.send(self.viewer, Command::ReleaseAll { viewer: self.viewer });
        // The first says what is wrong; a flood of them says nothing more.
        if self.refused.is_power_of_two() {
            log::warn!(
                "viewer {}: {} batches of input ignored: {why}",
                self.viewer.0,
                self.refused
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use transom_protocol::{
        HostTime,
        input::{Event, HostInput},
    };

    use super::*;
    use crate::{
        feed::{Commands, feed},
        guest::GuestAddr,
    };

    const A: ViewerId = ViewerId(1);
    const B: ViewerId = ViewerId(2);

    /// A guest that takes input, and its desk.
    fn desk() -> (Commands, Desk) {
        let (_source, commands, feed) = feed("doom", &GuestAddr::Vsock { cid: 3 });
        commands.port().board().connect();
        (commands, Desk::new(feed, false))
    }

    fn batch(actions: Vec<Action>) -> Vec<u8> {
        Batch { sequence: 5, sent: 6, actions }.encode()
    }

    fn key(code: u16, pressed: bool) -> Action {
        Action::Event(Event::Key { code, pressed })
    }

    /// The keys that reach the guest now.
    fn keys(commands: &Commands) -> Vec<(u16, bool)> {
        let mut keys = Vec::new();
        let mut board = commands.port().board();
        while let Some(message) = board.poll_message(Instant::now(), |_| HostTime(0)) {
            if let HostInput::Events { events, .. } = message {
                keys.extend(events.as_slice().iter().filter_map(|event| match event {
                    Event::Key { code, pressed } => Some((*code, *pressed)),
                    _ => None,
                }));
            }
        }
        keys
    }

    #[test]
    fn only_who_has_control_is_heard_and_who_loses_it_holds_nothing() {
        let (commands, desk) = desk();
        let now = Instant::now();
        let (mut a, mut b) = (Input::new(A, now), Input::new(B, now));
        assert!(a.handle(now, &batch(vec![key(30, true)]), &desk), "nobody had control");
        assert!(!b.handle(now, &batch(vec![key(31, true)]), &desk));
        assert_eq!(keys(&commands), [(30, true)]);
        desk.take(B);
        assert_eq!(keys(&commands), [(30, false)]);
        assert!(b.handle(now, &batch(vec![key(31, true)]), &desk));
        assert!(!a.handle(now, &batch(vec![key(32, true)]), &desk));
        assert_eq!(keys(&commands), [(31, true)]);
        desk.leave(B);
        assert_eq!(keys(&commands), [(31, false)]);
    }

    #[test]
    fn an_answer_finds_its_batch_once() {
        let (_commands, desk) = desk();
        let now = Instant::now();
        let mut input = Input::new(A, now);
        assert!(input.handle(now, &batch(vec![key(30, true)]), &desk));
        let (relay, guest) = (Duration::from_micros(9), None);
        let of = |viewer| Outcome::Batch { viewer, number: 5, relay, guest };
        assert_eq!(input.answer(&of(B)), None);
        let echo = Answer::Echo { sequence: 5, sent: 6, relay: 9, guest: None };
        assert_eq!(input.answer(&of(A)), Some(echo.encode()));
        assert_eq!(input.answer(&of(A)), None);
    }

    #[test]
    fn a_flood_is_cut_and_recovers() {
        let (commands, desk) = desk();
        let now = Instant::now();
        let mut input = Input::new(A, now);
        assert!(input.handle(now, &batch(vec![key(30, true)]), &desk));
        assert_eq!((keys(&commands), input.poll_notice(now)), (vec![(30, true)], None));
        assert!(!input.handle(now, b"no batch", &desk));
        assert_eq!(keys(&commands), [(30, false)], "what is held is released");
        let mut notices = u32::from(input.poll_notice(now).is_some_and(|n| n["refused"] == 1));
        let full = batch(vec![Action::Event(Event::Move { dx: 1, dy: 1 }); 64]);
        for _ in 0..10_000 / 64 {
            input.handle(now, &full, &desk);
            notices += u32::from(input.poll_notice(now).is_some());
        }
        assert!(input.refused > 100, "{}", input.refused);
        assert_eq!((desk.refused(), notices), (input.refused, 1), "it is told once in a moment");
        let later = now + NOTICE;
        assert!(!input.handle(later, b"no batch", &desk));
        let notice = input.poll_notice(later).expect("a second has passed");
        assert_eq!(notice["refused"], input.refused);
        assert!(input.spend(now + Duration::from_secs(1), 64), "it recovers");
    }
}
