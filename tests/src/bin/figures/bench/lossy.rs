//! A way that loses datagrams and takes its time: seeded, so that each turn loses the same share in
//! the same manner. In user space, for the kernels of small machines have no netem.
//!
//! In: datagrams at one socket. Out: those that are not lost, in order, after a while, from another.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

/// One way: half of the round trip.
const DELAY: Duration = Duration::from_millis(10);
/// Mean length of a burst.
const BURST: f64 = 4.0;

/// What gets lost.
#[derive(Clone, Copy)]
pub struct Loss {
    /// Share of all datagrams.
    pub share: f64,
    /// In bursts of some, as Gilbert's model has them; each by itself otherwise.
    pub bursty: bool,
}

/// Draws which datagrams are lost.
struct Dice {
    loss: Loss,
    state: u64,
    within: bool,
}

impl Dice {
    fn new(loss: Loss, seed: u64) -> Self {
        Self { loss, state: seed | 1, within: false }
    }

    /// From 0 to 1 (xorshift64*).
    fn roll(&mut self) -> f64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn loses(&mut self) -> bool {
        let Loss { share, bursty } = self.loss;
        let roll = self.roll();
        if !bursty {
            return roll < share;
        }
        let leave = 1.0 / BURST;
        let enter = share * leave / (1.0 - share);
        self.within = if self.within { roll >= leave } else { roll < enter };
        self.within
    }
}

/// Whom a way leads to.
#[derive(Clone)]
pub enum To {
    /// Always there.
    Fixed(SocketAddr),
    /// Whoever has sent something at the other way.
    Learned(Arc<Mutex<Option<SocketAddr>>>),
}

/// What is shared by both ways.
#[derive(Default)]
pub struct Gate {
    /// Whether anything is lost yet.
    pub loses: AtomicBool,
    over: AtomicBool,
}

/// One way; dropped means closed.
pub struct Way {
    gate: Arc<Gate>,
    /// Bytes that came in, lost or not.
    bytes: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Way {
    /// Opens it; who sends is noted in `learn`.
    pub fn open(
        from: UdpSocket,
        by: UdpSocket,
        to: To,
        learn: Option<Arc<Mutex<Option<SocketAddr>>>>,
        (loss, seed): (Loss, u64),
        gate: Arc<Gate>,
    ) -> Result<Self> {
        let bytes = Arc::new(AtomicU64::new(0));
        let (passing, counted) = (Arc::clone(&gate), Arc::clone(&bytes));
        let thread = std::thread::spawn(move || {
            let (mut dice, mut queue) = (Dice::new(loss, seed), VecDeque::new());
            let mut buffer = [0; 2048];
            while !passing.over.load(Relaxed) {
                let now = Instant::now();
                while queue.front().is_some_and(|(due, _): &(Instant, Vec<u8>)| *due <= now) {
                    let Some((_, datagram)) = queue.pop_front() else { break };
                    let to = match &to {
                        To::Fixed(address) => Some(*address),
                        To::Learned(address) => {
                            *address.lock().unwrap_or_else(PoisonError::into_inner)
                        }
                    };
                    if let Some(to) = to {
                        let _ = by.send_to(&datagram, to);
                    }
                }
                let wait = queue.front().map_or(DELAY, |(due, _)| *due - now);
                // Zero would be for ever.
                let wait = wait.max(Duration::from_micros(50));
                if from.set_read_timeout(Some(wait)).is_err() {
                    return;
                }
                let Ok((length, source)) = from.recv_from(&mut buffer) else { continue };
                if let Some(learn) = &learn {
                    *learn.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
                }
                counted.fetch_add(length as u64, Relaxed);
                if !(passing.loses.load(Relaxed) && dice.loses()) {
                    queue.push_back((Instant::now() + DELAY, buffer[..length].to_vec()));
                }
            }
        });
        Ok(Self { gate, bytes, thread: Some(thread) })
    }

    /// Bytes that came in so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.gate.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Dice, Loss};

    #[test]
    fn as_much_is_lost_as_was_asked_for_and_bursts_are_bursts() {
        for share in [0.01, 0.1] {
            for bursty in [false, true] {
                let mut dice = Dice::new(Loss { share, bursty }, 7);
                let lost: Vec<bool> = (0..200_000).map(|_| dice.loses()).collect();
                let count = lost.iter().filter(|lost| **lost).count() as f64;
                assert!((count / 200_000.0 - share).abs() < share * 0.1, "{share} {bursty}");
                let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count() as f64;
                let mean = if bursty { 4.0 } else { 1.0 / (1.0 - share) };
                assert!((count / bursts - mean).abs() < 0.3, "{share} {bursty}");
            }
        }
    }
}
