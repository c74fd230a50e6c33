//! What the relay adds: from the last bytes of a frame at its socket to its last RTP packet at a
//! receiver on this machine. The receiver's own wake-up counts, too.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Bench, BenchError, Finding, child::RelayProcess, percentiles, synthetic};
use synthetic::{Frames, Synthetic};

/// 8 Mb/s at 60 pictures a second.
const FRAMES: Frames = Frames { length: 16_800, rate: 60 };
/// For the relay to start, on a machine under load.
const START: Duration = Duration::from_secs(10);
/// Between two looks at whether it is over.
const LOOK: Duration = Duration::from_millis(100);

type Sent = Arc<Mutex<HashMap<u32, Instant>>>;

fn open(sent: &Sent) -> MutexGuard<'_, HashMap<u32, Instant>> {
    // Plain values: there is nothing that a panic elsewhere could have left half done.
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Measures it.
///
/// # Errors
///
/// See [`BenchError`].
pub fn measure(bench: &Bench) -> Result<Vec<Finding>, BenchError> {
    let sent = Sent::default();
    let noting = Arc::clone(&sent);
    let guest = Synthetic::start(FRAMES, move |number, at| {
        open(&noting).insert(number, at);
    })?;
    let receiver = receiver()?;
    receiver.set_read_timeout(Some(LOOK)).map_err(BenchError::system("no time-out"))?;
    let to = receiver.local_addr().map_err(BenchError::system("no address"))?;
    let target = format!("udp://{to}");
    let mut relay = RelayProcess::start(bench, [guest.guest().as_str(), "--rtp", &target])?;
    let mut delays = Vec::new();
    let (mut buffer, started) = ([0; 2048], Instant::now());
    let mut begun = None;
    while begun.is_none_or(|begun: Instant| begun.elapsed() < bench.time) {
        // Its lines are read, so that it never waits for us.
        while relay.next(bench, Instant::now())?.is_some() {}
        let silent = begun.is_none() && started.elapsed() > START;
        if silent {
            return Err(BenchError::Silent(START));
        }
        let Ok(length) = receiver.recv(&mut buffer) else { continue };
        let now = Instant::now();
        let Some(number) = synthetic::number(&buffer[..length]) else { continue };
        if let Some(at) = open(&sent).remove(&number) {
            delays.push(now.saturating_duration_since(at).as_secs_f64() * 1e6);
        }
        begun = begun.or(Some(now));
    }
    let found = percentiles(&mut delays, &[50, 99]).ok_or(BenchError::Silent(bench.time))?;
    let (p50, p99) = (found[0], found[1]);
    Ok(vec![
        Finding::new("the relay adds to a frame, half of them less", p50, "µs"),
        Finding::new("the relay adds to a frame, 99 of 100 less", p99, "µs"),
    ])
}

/// A socket for RTP: at an even port.
pub(super) fn receiver() -> Result<UdpSocket, BenchError> {
    let what = "no UDP port on loopback";
    loop {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(BenchError::system(what))?;
        let address = socket.local_addr().map_err(BenchError::system(what))?;
        if address.port() % 2 == 0 && address.port() < u16::MAX - 1 {
            return Ok(socket);
        }
    }
}
