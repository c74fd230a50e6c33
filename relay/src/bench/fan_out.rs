//! How much RTP one core sends: frames are cut into packets and sent to receivers on this machine as
//! fast as one thread can, which is then busy all the time. On loopback a sender also does what the
//! receiver's network card would, so that a real network takes less of it.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Bench, BenchError, Finding, delay, synthetic};
use crate::{
    output::udp::{Target, UdpOutput},
    rtp::{DEFAULT_PACKET, Packetizer},
};

/// A frame of 50 Mb/s at 60 a second.
const LENGTH: usize = 104_000;
/// Receivers of each try.
const RECEIVERS: [usize; 2] = [1, 16];
/// What a receiver's socket should hold, in bytes.
const BUFFER: usize = 2 << 20;
/// Where nothing has come, until the next look.
const REST: Duration = Duration::from_millis(1);

/// Measures it.
///
/// # Errors
///
/// See [`BenchError`].
pub fn measure(bench: &Bench) -> Result<Vec<Finding>, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(BenchError::system("cannot start the runtime"))?;
    let time = bench.time / RECEIVERS.len() as u32;
    RECEIVERS.into_iter().map(|count| runtime.block_on(send(bench, count, time))).collect()
}

async fn send(bench: &Bench, count: usize, time: Duration) -> Result<Finding, BenchError> {
    let sockets = (0..count).map(|_| delay::receiver()).collect::<Result<Vec<_>, _>>()?;
    let mut outputs = Vec::new();
    for socket in &sockets {
        // Where the system gives less, more is lost and nothing else.
        let _ = socket2::SockRef::from(socket).set_recv_buffer_size(BUFFER);
        let address = socket.local_addr().map_err(BenchError::system("no address"))?;
        let output = UdpOutput::open(Target { address }, 1);
        outputs.push(output.map_err(|error| BenchError::System {
            what: "cannot open sockets",
            why: std::io::Error::other(error),
        })?);
    }
    let _drain = Drain::start(sockets);
    let unit = synthetic::unit(0, LENGTH, true);
    let mut packetizer = Packetizer::new(1, 2, 3, DEFAULT_PACKET);
    let (begun, mut bytes) = (Instant::now(), 0);
    let mut frame = 0;
    while begun.elapsed() < time {
        bench.stop.check()?;
        let packets = packetizer.packetize(transom_protocol::message::Codec::H264, &unit, frame);
        frame += 1_000_000_000 / 60;
        for output in &mut outputs {
            output.send(&packets, 0..packets.len()).await;
            bytes += packets.iter().map(<[u8]>::len).sum::<usize>();
        }
    }
    let dropped: u64 = outputs.iter().map(UdpOutput::dropped).sum();
    // What the system has not taken was not sent.
    let bytes = bytes.saturating_sub(dropped as usize * DEFAULT_PACKET);
    let gigabits = bytes as f64 * 8.0 / begun.elapsed().as_secs_f64() / 1e9;
    let what = match count {
        1 => "of plain RTP one core sends to one receiver".to_owned(),
        count => format!("of plain RTP one core sends to {count} receivers"),
    };
    Ok(Finding::new(what, gigabits, "Gb/s"))
}

/// Reads what comes in, on a thread of its own; dropped means ended.
struct Drain {
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drain {
    fn start(sockets: Vec<UdpSocket>) -> Self {
        let over = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            for socket in &sockets {
                // Without it the first silence would be the end.
                let _ = socket.set_nonblocking(true);
            }
            while !ends.load(Ordering::Relaxed) {
                let mut idle = true;
                for socket in &sockets {
                    while socket.recv(&mut buffer).is_ok() {
                        idle = false;
                    }
                }
                if idle {
                    std::thread::sleep(REST);
                }
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
