//! The way to the guest, measured: round trips, the clocks' offset, throughput.

use std::time::{Duration, Instant, SystemTime};

use tokio::time::timeout;
use transom_protocol::{
    HostTime,
    diagnostics::{Check, GuestDiagnostics, HostDiagnostics, Request, Verdict},
};

use super::check;
use crate::{
    clock::{Estimate, GuestClock},
    diag::{Client, DiagError},
};

/// Round trips that are measured.
const ECHOES: u32 = 32;

/// No round trip takes so long that all of them do not fit in this, or it is worth a failure.
const ECHO_LIMIT: Duration = Duration::from_secs(5);

/// Bytes asked for, and the time after which what has come is enough.
const BYTES: u64 = 64 * 1024 * 1024;
const THROUGHPUT_LIMIT: Duration = Duration::from_secs(2);

/// A click is felt late from here on.
const SLOW_ROUND_TRIP: Duration = Duration::from_millis(10);
const BAD_ROUND_TRIP: Duration = Duration::from_millis(100);

/// Bits in a second below which streams suffer: four times a good 1080p stream, and one poor one.
const SLOW_BITS: f64 = 100e6;
const BAD_BITS: f64 = 4e6;

/// Log lines of guest and host can be laid side by side up to this.
const WALL_OFFSET: Duration = Duration::from_secs(1);

/// What echoes tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Echoes {
    /// Sorted.
    pub round_trips: Vec<Duration>,
    /// Of the monotonic clocks.
    pub clock: Option<Estimate>,
    /// Guest's wall clock minus ours, in microseconds, by the quickest echo.
    pub wall: i64,
}

/// Measures, and judges.
pub async fn checks(client: &Client) -> Vec<Check> {
    let mut checks = match echoes(client, ECHOES, Duration::ZERO).await {
        Ok(echoes) => judge_echoes(&echoes),
        Err(error) => vec![broken("vsock-round-trip", &error)],
    };
    checks.push(match throughput(client, BYTES, THROUGHPUT_LIMIT).await {
        Ok((bytes, time)) => judge_throughput(bytes, time),
        Err(error) => broken("vsock-throughput", &error),
    });
    checks
}

fn broken(name: &str, error: &DiagError) -> Check {
    check(
        name,
        Verdict::Fail,
        error.to_string(),
        "Look at the checks above, and at `logs --kernel` for vsock",
    )
}

/// Sends bytes and waits for each to come back, with a pause between them.
///
/// # Errors
///
/// See [`DiagError`].
pub async fn echoes(client: &Client, count: u32, pause: Duration) -> Result<Echoes, DiagError> {
    let mut answers = client.ask(Request::Echo).await?;
    answers.set_silence(Some(ECHO_LIMIT));
    let epoch = Instant::now();
    let mut clock = GuestClock::new(epoch);
    let mut trips: Vec<(Duration, i64)> = Vec::new();
    for _ in 0..count {
        let (sent_at, sent) = (Instant::now(), clock.host_time(Instant::now()));
        answers.queue(&HostDiagnostics::Data, &[0; 16]);
        loop {
            let Some(answer) = answers.next().await? else {
                return Err(answers.nonsense("an end of echoes that was not asked for"));
            };
            if let GuestDiagnostics::Echo { received, sent: guest_sent, wall } = answer.message {
                let now = Instant::now();
                clock.handle_pong(now, HostTime(sent.0), received, guest_sent);
                let trip = now.saturating_duration_since(sent_at);
                let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                // The guest looked at its clock half a round trip ago.
                let ours = ours.unwrap_or_default().saturating_sub(trip / 2).as_micros();
                let offset = i128::from(wall) - i128::try_from(ours).unwrap_or(i128::MAX);
                trips.push((trip, offset.clamp(i64::MIN.into(), i64::MAX.into()) as i64));
                break;
            }
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    answers.queue(&HostDiagnostics::EndOfData, &[]);
    while answers.next().await?.is_some() {}
    trips.sort_unstable();
    Ok(Echoes {
        wall: trips.first().map_or(0, |(_, wall)| *wall),
        round_trips: trips.into_iter().map(|(trip, _)| trip).collect(),
        clock: clock.estimate(Instant::now()),
    })
}

/// Has the guest send bytes, for as long as `limit`. Returns how many came, and in what time.
///
/// # Errors
///
/// See [`DiagError`].
pub async fn throughput(
    client: &Client,
    bytes: u64,
    limit: Duration,
) -> Result<(u64, Duration), DiagError> {
    let mut answers = client.ask(Request::Throughput { bytes }).await?;
    answers.set_silence(Some(ECHO_LIMIT));
    let (mut done, mut start, mut end) = (0, None, Instant::now());
    let receive = async {
        while let Some(answer) = answers.next().await? {
            if answer.message == GuestDiagnostics::Data {
                end = Instant::now();
                // The first piece starts the clock and does not count.
                match start {
                    None => start = Some(end),
                    Some(_) => done += answer.bulk.len() as u64,
                }
            }
        }
        Ok::<(), DiagError>(())
    };
    match timeout(limit, receive).await {
        Ok(result) => result?,
        Err(_elapsed) => {}
    }
    let start = start.ok_or_else(|| answers.nonsense("no bytes"))?;
    Ok((done, end.saturating_duration_since(start)))
}

fn judge_echoes(echoes: &Echoes) -> Vec<Check> {
    let trips = &echoes.round_trips;
    let at = |percent: usize| trips[(trips.len() * percent).div_ceil(100).max(1) - 1];
    if trips.is_empty() {
        return vec![];
    }
    let ms = |d: Duration| d.as_secs_f64() * 1000.0;
    let (p50, p99) = (at(50), at(99));
    let found = format!("{:.2} ms, p99 {:.2} ms, of {} echoes", ms(p50), ms(p99), trips.len());
    let (verdict, remedy) = if p50 >= BAD_ROUND_TRIP {
        (Verdict::Fail, "The guest, or this host, is overloaded: look at `transom diag GUEST top`")
    } else if p50 >= SLOW_ROUND_TRIP {
        (
            Verdict::Warn,
            "Slower than a click should be: see what loads the guest (`top`) or this host",
        )
    } else {
        (Verdict::Pass, "")
    };
    let mut checks = vec![check("vsock-round-trip", verdict, found, remedy)];
    checks.push(match echoes.clock {
        Some(clock) => {
            let wall = Duration::from_micros(echoes.wall.unsigned_abs());
            let sign = if echoes.wall < 0 { "behind" } else { "ahead of" };
            let known = format!("monotonic clocks joined to {:.2} ms", ms(clock.uncertainty));
            if wall > WALL_OFFSET {
                check(
                    "clock-offset",
                    Verdict::Warn,
                    format!("{known}; the guest's wall clock is {:.1} s {sign} ours", wall.as_secs_f64()),
                    "Times in logs of guest and host do not match: let the guest take its time from the hypervisor (ptp_kvm, hv_utils) or set it",
                )
            } else {
                let found = format!("{known}; wall clocks differ by {:.1} ms", ms(wall));
                check("clock-offset", Verdict::Pass, found, "")
            }
        }
        None => check(
            "clock-offset",
            Verdict::Warn,
            "the guest's times contradict one another",
            "Latencies of the stream are not to be trusted: look at the guest's clocksource",
        ),
    });
    checks
}

fn judge_throughput(bytes: u64, time: Duration) -> Check {
    let bits = bytes as f64 * 8.0 / time.as_secs_f64().max(1e-6);
    let found = format!("{:.0} Mb/s from the guest", bits / 1e6);
    let (verdict, remedy) = if bits < BAD_BITS {
        (Verdict::Fail, "Too slow for a picture: see what loads the guest (`top`) or this host")
    } else if bits < SLOW_BITS {
        (Verdict::Warn, "Large pictures come late: see what loads the guest (`top`) or this host")
    } else {
        (Verdict::Pass, "")
    };
    check("vsock-throughput", verdict, found, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_ways_are_named() {
        let echoes = |ms: u64, wall| Echoes {
            round_trips: vec![Duration::from_millis(ms); 10],
            clock: Some(Estimate {
                offset: 0,
                uncertainty: Duration::from_millis(ms),
                round_trip: Duration::from_millis(ms),
            }),
            wall,
        };
        let verdicts = |e: &Echoes| judge_echoes(e).iter().map(|c| c.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(&echoes(1, 0)), [Verdict::Pass, Verdict::Pass]);
        assert_eq!(verdicts(&echoes(20, -5_000_000)), [Verdict::Warn, Verdict::Warn]);
        assert_eq!(verdicts(&echoes(200, i64::MIN)), [Verdict::Fail, Verdict::Warn]);
        let second = Duration::from_secs(1);
        let of = |bits: u64| judge_throughput(bits / 8, second).verdict;
        assert_eq!(
            [of(1_000_000), of(50_000_000), of(1_000_000_000)],
            [Verdict::Fail, Verdict::Warn, Verdict::Pass]
        );
        assert_eq!(judge_throughput(1 << 20, Duration::ZERO).verdict, Verdict::Pass);
    }
}
