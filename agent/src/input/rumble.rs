//! What a game's effects mean for the motors. No input or output.
//!
//! In: effects uploaded, played, stopped and erased. Out: how the motors are to run from now on.
//! The effect that was played last rules; real pads add effects up, which no game was seen to
//! rely on.

use std::collections::BTreeMap;

use crate::sys::uinput::{EFFECTS, Feedback};

/// How the motors are to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rumble {
    /// The heavy motor.
    pub strong: u16,
    /// The light motor.
    pub weak: u16,
    /// Milliseconds; 0 stops them.
    pub duration: u16,
}

/// The effects of one gamepad.
#[derive(Debug)]
pub struct Effects {
    known: BTreeMap<i16, (u16, u16, u16)>,
    playing: Option<i16>,
    gain: u16,
}

impl Default for Effects {
    fn default() -> Self {
        Self { known: BTreeMap::new(), playing: None, gain: u16::MAX }
    }
}

impl Effects {
    /// What a program did; what the motors are to do then, if that changes.
    pub fn handle(&mut self, feedback: Feedback) -> Option<Rumble> {
        const STILL: Rumble = Rumble { strong: 0, weak: 0, duration: 0 };
        match feedback {
            Feedback::Effect { id, strong, weak, length } => {
                // The kernel gives out no more numbers than that.
                if (0..EFFECTS as i16).contains(&id) {
                    self.known.insert(id, (strong, weak, length));
                }
                // An effect may be changed while it plays.
                (self.playing == Some(id)).then(|| self.run(id, 1)).flatten()
            }
            Feedback::Erased(id) => {
                self.known.remove(&id);
                (self.playing == Some(id)).then(|| {
                    self.playing = None;
                    STILL
                })
            }
            Feedback::Play { id, count } if count > 0 => {
                self.playing = Some(id);
                self.run(id, count)
            }
            Feedback::Play { id, .. } => (self.playing == Some(id)).then(|| {
                self.playing = None;
                STILL
            }),
            Feedback::Gain(gain) => {
                self.gain = gain;
                None
            }
        }
    }

    fn run(&self, id: i16, count: i32) -> Option<Rumble> {
        let (strong, weak, length) = *self.known.get(&id)?;
        let weaker = |motor: u16| (u32::from(motor) * u32::from(self.gain) / 0xffff) as u16;
        let duration = match length {
            // Until it is stopped: as long as can be said.
            0 => u16::MAX,
            length => i32::from(length).saturating_mul(count).min(0xffff) as u16,
        };
        Some(Rumble { strong: weaker(strong), weak: weaker(weak), duration })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(id: i16, length: u16) -> Feedback {
        Feedback::Effect { id, strong: 0xffff, weak: 0x8000, length }
    }

    #[test]
    fn effects_are_played_and_stopped() {
        let mut effects = Effects::default();
        assert_eq!(effects.handle(effect(0, 200)), None);
        let run = Rumble { strong: 0xffff, weak: 0x8000, duration: 400 };
        assert_eq!(effects.handle(Feedback::Play { id: 0, count: 2 }), Some(run));
        let still = Rumble { strong: 0, weak: 0, duration: 0 };
        assert_eq!(effects.handle(Feedback::Play { id: 0, count: 0 }), Some(still));
        assert_eq!(effects.handle(Feedback::Play { id: 0, count: 0 }), None, "it is still");
        assert_eq!(effects.handle(Feedback::Play { id: 9, count: 1 }), None, "there is no such");
    }

    #[test]
    fn changes_gain_and_ends_count_while_an_effect_plays() {
        let mut effects = Effects::default();
        effects.handle(effect(3, 0));
        assert_eq!(effects.handle(Feedback::Gain(0x8000)), None);
        let run = Rumble { strong: 0x8000, weak: 0x4000, duration: u16::MAX };
        assert_eq!(effects.handle(Feedback::Play { id: 3, count: 1 }), Some(run));
        let shorter = Some(Rumble { duration: 10, ..run });
        assert_eq!(effects.handle(effect(3, 10)), shorter);
        assert_eq!(effects.handle(Feedback::Erased(2)), None);
        assert_eq!(effects.handle(Feedback::Erased(3)).map(|r| r.duration), Some(0));
        assert_eq!(effects.handle(effect(1000, 1)), None);
        assert!(effects.known.is_empty(), "memory is bounded");
    }
}
