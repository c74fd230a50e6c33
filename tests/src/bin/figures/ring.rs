//! What Hyper-V's socket costs a stream: packets of 4 KiB through a ring of bounded size, against the
//! same stream without a bound. Natively, in one process: no Hyper-V is needed, nor a guest.
//!
//! One thread plays the agent at 1080p60: its messages, its writes, 20 Mb/s with an IDR of 200 kB a
//! second. The other plays the host: takes packets off the ring and cuts them into frames with the
//! relay's decoder. A wait of either side for the other costs [`WAKE`] more, as a signal through a
//! hypervisor does, in all variants.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use transom_protocol::message::{FrameNumber, FrameTimes, GuestMedia, GuestTime};
use transom_protocol::wire::{Decoder, Limits, decode, encode};
use transom_protocol::{MAX_WRITE, StreamId};
use transom_tests::Test;

use crate::latency::percentiles;
use crate::{INTERVAL, ROUNDS};

const FPS: u32 = 60;
const BITS_PER_SECOND: u32 = 20_000_000;
const IDR: usize = 200_000;
/// All others: what is left of a second, in equal parts.
const FRAME: usize = (BITS_PER_SECOND as usize / 8 - IDR) / (FPS as usize - 1);
/// A signal through the hypervisor until the other side runs: an exit, an interrupt, a switch.
const WAKE: Duration = Duration::from_micros(50);

/// A packet's payload, without the eight bytes that say how long it is (net/vmw_vsock,
/// hyperv_transport.c, HVS_SEND_BUF_SIZE).
const PAYLOAD: usize = 4096 - 8;
/// What a packet takes in the ring beside its payload: descriptor, length, trailer.
const OVERHEAD: usize = 16 + 8 + 8;
/// A ring's first page holds its indices.
const INDICES: usize = 4096;

/// What hv_sock gives a listener that asks for all, and one that asks for nothing.
const VARIANTS: [(&str, Shape); 3] = [
    ("unbounded", Shape { capacity: usize::MAX, payload: MAX_WRITE }),
    ("ring of 256 KiB", Shape { capacity: 256 * 1024 - INDICES, payload: PAYLOAD }),
    ("ring of 24 KiB", Shape { capacity: 24 * 1024 - INDICES, payload: PAYLOAD }),
];

#[derive(Clone, Copy)]
struct Shape {
    /// Bytes that it holds.
    capacity: usize,
    /// Bytes of a packet.
    payload: usize,
}

pub fn measure(_: &Test) -> Result<Vec<Value>> {
    let mut lines = Vec::new();
    for round in 1..=ROUNDS {
        for (what, shape) in VARIANTS {
            let (all, idrs) = stream(shape)?;
            let (frames, idr_count) = (all.len(), idrs.len());
            let times = percentiles(all).context("no frame")?;
            let idr = percentiles(idrs).context("no IDR")?;
            lines.push(json!({ "what": what, "round": round, "frames": frames, "idrs": idr_count,
                "p50": times["p50"], "p95": times["p95"], "p99": times["p99"],
                "idr_p50": idr["p50"], "idr_p95": idr["p95"] }));
        }
    }
    Ok(lines)
}

/// Milliseconds from the first byte's write to the whole frame in the host's hands: of all frames,
/// and of IDRs alone.
fn stream(shape: Shape) -> Result<(Vec<f64>, Vec<f64>)> {
    let ring = Arc::new(Ring::new(shape));
    let host = {
        let ring = Arc::clone(&ring);
        thread::spawn(move || receive(&ring))
    };
    let count = (INTERVAL.as_secs_f64() * f64::from(FPS)) as u64;
    let (bytes, begin, then) = (vec![0x55; IDR], Instant::now(), GuestTime(0));
    let mut sent = Vec::new();
    let mut head = Vec::with_capacity(MAX_WRITE);
    for number in 0..count {
        let due = begin + Duration::from_secs(number) / FPS;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let idr = number % u64::from(FPS) == 0;
        let bulk = &bytes[..if idr { IDR } else { FRAME }];
        sent.push((Instant::now(), idr));
        // As the agent's media connection writes a unit.
        let message = GuestMedia::AccessUnit {
            stream: StreamId::VIDEO,
            number: FrameNumber(number),
            idr,
            times: FrameTimes { seen: then, converted: then, encoded: then, sent: then },
            damage: 0,
        };
        head.clear();
        encode(&message, bulk.len() as u32, &mut head);
        let front = bulk.len().min(MAX_WRITE - head.len());
        head.extend_from_slice(&bulk[..front]);
        ring.write(&head);
        for piece in bulk[front..].chunks(MAX_WRITE) {
            ring.write(piece);
        }
    }
    ring.end();
    let received = host.join().map_err(|_| anyhow::anyhow!("the host's thread broke"))??;
    ensure!(received.len() == sent.len(), "{} of {} arrived", received.len(), sent.len());
    let times = sent
        .iter()
        .zip(received)
        .map(|((at, idr), end)| (end.saturating_duration_since(*at).as_secs_f64() * 1e3, *idr));
    let times: Vec<_> = times.collect();
    let idrs = times.iter().filter(|(_, idr)| *idr).map(|(ms, _)| *ms).collect();
    Ok((times.iter().map(|(ms, _)| *ms).collect(), idrs))
}

/// When each frame was whole, in order.
fn receive(ring: &Ring) -> Result<Vec<Instant>> {
    let mut decoder = Decoder::new(Limits::MEDIA);
    let mut whole = Vec::new();
    loop {
        let count = ring.read(decoder.space());
        if count == 0 {
            return Ok(whole);
        }
        decoder.advance(count);
        while let Some(frame) = decoder.poll_frame()? {
            let now = Instant::now();
            let GuestMedia::AccessUnit { number, .. } = decode(&frame.message)? else { continue };
            ensure!(number.0 == whole.len() as u64, "{number:?} came out of turn");
            whole.push(now);
        }
    }
}

/// A ring of packets between two threads.
struct Ring {
    shape: Shape,
    state: Mutex<State>,
    filled: Condvar,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    packets: VecDeque<Vec<u8>>,
    /// Of the first packet, taken already.
    taken: usize,
    bytes: usize,
    ended: bool,
}

impl Ring {
    fn new(shape: Shape) -> Self {
        Self { shape, state: Mutex::default(), filled: Condvar::new(), freed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts all of it in, and waits for room where there is none.
    fn write(&self, bytes: &[u8]) {
        for piece in bytes.chunks(self.shape.payload) {
            let size = size(piece);
            let mut state = self.state();
            while state.bytes + size > self.shape.capacity {
                state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
                drop(state);
                thread::sleep(WAKE);
                state = self.state();
            }
            state.bytes += size;
            state.packets.push_back(piece.to_vec());
            // Who finds something to read needs no signal.
            if state.packets.len() == 1 {
                self.filled.notify_one();
            }
        }
    }

    /// Takes what there is of the first packet; 0 at the end.
    fn read(&self, into: &mut [u8]) -> usize {
        let mut state = self.state();
        while state.packets.is_empty() {
            if state.ended {
                return 0;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            drop(state);
            thread::sleep(WAKE);
            state = self.state();
        }
        let State { packets, taken, bytes, .. } = &mut *state;
        let packet = &packets[0];
        let count = into.len().min(packet.len() - *taken);
        into[..count].copy_from_slice(&packet[*taken..*taken + count]);
        *taken += count;
        if *taken == packet.len() {
            *bytes -= size(packet);
            *taken = 0;
            packets.pop_front();
            self.freed.notify_one();
        }
        count
    }

    fn end(&self) {
        self.state().ended = true;
        self.filled.notify_one();
    }
}

/// What a packet takes of the ring, which is counted in eights.
fn size(payload: &[u8]) -> usize {
    payload.len().next_multiple_of(8) + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_and_no_more_than_fit_are_inside() {
        let shape = Shape { capacity: 3 * (64 + OVERHEAD), payload: 64 };
        let ring = Arc::new(Ring::new(shape));
        let sent: Vec<u8> = (0..10_000_u32).map(|i| i as u8).collect();
        let writer = {
            let (ring, sent) = (Arc::clone(&ring), sent.clone());
            thread::spawn(move || {
                for piece in sent.chunks(333) {
                    ring.write(piece);
                }
                ring.end();
            })
        };
        let (mut all, mut piece) = (Vec::new(), [0; 50]);
        loop {
            assert!(ring.state().bytes <= shape.capacity);
            match ring.read(&mut piece) {
                0 => break,
                count => all.extend_from_slice(&piece[..count]),
            }
        }
        writer.join().expect("it ends");
        assert_eq!(all, sent);
    }

    #[test]
    fn the_stream_is_of_the_rate_that_it_claims() {
        assert_eq!((IDR + FRAME * 59) * 8 / 1_000_000, 19);
        assert!(BITS_PER_SECOND as usize / 8 - IDR - FRAME * 59 < 59);
    }
}
