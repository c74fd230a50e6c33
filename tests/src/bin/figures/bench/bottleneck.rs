//! A way of limited capacity that takes its time: a queue that overflows, a transmitter whose rate
//! changes, and the distance. In user space, for the kernels of small machines have no netem.
//!
//! In: datagrams and the time. Out: the same, in order, when they are through. What finds the queue
//! full is gone. It knows no sockets; [`Link`] has those.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, ppoll};

/// Half of the round trip.
pub const DELAY: Duration = Duration::from_millis(10);
/// How long the queue is where it is full: as a router at home has it.
const QUEUE: Duration = Duration::from_millis(200);
/// Bytes of IPv4 and UDP.
const HEADERS: usize = 28;
/// Between two looks at whether it is over.
const PATIENCE: Duration = Duration::from_millis(50);

/// The way itself.
pub struct Bottleneck {
    /// With the time of their arrival.
    queue: VecDeque<(Instant, Vec<u8>)>,
    queued: usize,
    /// The transmitter is busy until then.
    busy: Instant,
    /// What was sent, with the time at which it comes out.
    flying: VecDeque<(Instant, Vec<u8>)>,
    /// What found the queue full.
    pub overflowed: u64,
}

fn takes(bytes: usize, rate: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64)
}

impl Bottleneck {
    /// An idle one.
    pub fn new(now: Instant) -> Self {
        Self {
            queue: VecDeque::new(),
            queued: 0,
            busy: now,
            flying: VecDeque::new(),
            overflowed: 0,
        }
    }

    /// Takes a datagram; `rate` is in bits per second.
    pub fn push(&mut self, now: Instant, rate: u64, datagram: Vec<u8>) {
        self.transmit(now, rate);
        let size = datagram.len() + HEADERS;
        if takes(self.queued + size, rate) > QUEUE {
            self.overflowed += 1;
            return;
        }
        self.queued += size;
        self.queue.push_back((now, datagram));
        self.transmit(now, rate);
    }

    /// What is through.
    pub fn poll(&mut self, now: Instant, rate: u64) -> Option<Vec<u8>> {
        self.transmit(now, rate);
        let (due, _) = self.flying.front()?;
        if *due > now {
            return None;
        }
        self.flying.pop_front().map(|(_, datagram)| datagram)
    }

    /// When there is something to do.
    pub fn due(&self) -> Option<Instant> {
        let begins = self.queue.front().map(|(arrived, _)| self.busy.max(*arrived));
        let comes = self.flying.front().map(|(due, _)| *due);
        begins.into_iter().chain(comes).min()
    }

    fn transmit(&mut self, now: Instant, rate: u64) {
        while let Some((arrived, datagram)) = self.queue.front() {
            let begins = self.busy.max(*arrived);
            if begins > now {
                return;
            }
            let size = datagram.len() + HEADERS;
            self.busy = begins + takes(size, rate);
            self.queued -= size;
            if let Some((_, datagram)) = self.queue.pop_front() {
                self.flying.push_back((self.busy + DELAY, datagram));
            }
        }
    }
}

/// A bottleneck between two sockets, with a thread of its own; dropped means closed.
pub struct Link {
    over: Arc<AtomicBool>,
    overflowed: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Leads what comes to `from` out of `by` to `to`, and shows it to `see`. The rate, in bits per
    /// second, may change at any time.
    pub fn open(
        from: UdpSocket,
        by: UdpSocket,
        to: impl Fn() -> Option<SocketAddr> + Send + 'static,
        rate: Arc<AtomicU64>,
        see: impl Fn(&[u8]) + Send + 'static,
    ) -> Result<Self> {
        from.set_nonblocking(true)?;
        let (over, overflowed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (ends, counts) = (Arc::clone(&over), Arc::clone(&overflowed));
        let thread = std::thread::spawn(move || {
            let mut way = Bottleneck::new(Instant::now());
            let mut buffer = [0; 2048];
            while !ends.load(Relaxed) {
                while let Ok((length, _)) = from.recv_from(&mut buffer) {
                    way.push(Instant::now(), rate.load(Relaxed), buffer[..length].to_vec());
                }
                while let Some(datagram) = way.poll(Instant::now(), rate.load(Relaxed)) {
                    see(&datagram);
                    if let Some(to) = to() {
                        let _ = by.send_to(&datagram, to);
                    }
                }
                counts.store(way.overflowed, Relaxed);
                let now = Instant::now();
                let wait = way.due().map_or(PATIENCE, |due| due.saturating_duration_since(now));
                let mut ready = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
                // A signal ends it early, which does no harm.
                let _ = ppoll(&mut ready, Some(wait.min(PATIENCE).into()), None);
            }
        });
        Ok(Self { over, overflowed, thread: Some(thread) })
    }

    /// Datagrams that found the queue full.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1000 bytes on the wire: 1 ms at 8 Mb/s.
    const RATE: u64 = 8_000_000;
    const SIZE: usize = 1000 - HEADERS;

    /// When each of them is through, in milliseconds.
    fn run(way: &mut Bottleneck, from: Instant, rate: u64) -> Vec<u128> {
        let mut at = Vec::new();
        let mut now = from;
        while let Some(due) = way.due() {
            now = now.max(due);
            while way.poll(now, rate).is_some() {
                at.push((now - from).as_millis());
            }
        }
        at
    }

    #[test]
    fn a_burst_leaves_at_the_rate_and_comes_after_the_distance() {
        let now = Instant::now();
        let mut way = Bottleneck::new(now);
        (0..3).for_each(|_| way.push(now, RATE, vec![0; SIZE]));
        assert_eq!(run(&mut way, now, RATE), [11, 12, 13]);
    }

    #[test]
    fn what_finds_the_queue_full_is_gone() {
        let now = Instant::now();
        let mut way = Bottleneck::new(now);
        (0..300).for_each(|_| way.push(now, RATE, vec![0; SIZE]));
        // One is being sent, 200 ms wait.
        assert_eq!(way.overflowed, 99);
        assert_eq!(run(&mut way, now, RATE).len(), 201);
    }

    #[test]
    fn another_rate_counts_from_the_next_datagram_on() {
        let now = Instant::now();
        let mut way = Bottleneck::new(now);
        (0..4).for_each(|_| way.push(now, RATE, vec![0; SIZE]));
        assert_eq!(run(&mut way, now, RATE / 4), [11, 15, 19, 23]);
    }

    #[test]
    fn an_idle_link_owes_nothing() {
        let now = Instant::now();
        let mut way = Bottleneck::new(now);
        let later = now + Duration::from_secs(1);
        way.push(later, RATE, vec![0; SIZE]);
        assert_eq!(run(&mut way, later, RATE), [11]);
    }
}
