//! One control connection: answers pings at once, tells news as they come.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use transom_protocol::StreamId;
use transom_protocol::message::{Chroma, Codec, Farewell, GuestControl};
use transom_protocol::wire::Decoder;

use super::{Shared, Stream, write};
use crate::session::{ConnectionId, Order, Outcome};
use crate::{clock, usage};

/// Time between two reports.
const REPORT: Duration = Duration::from_secs(1);

/// Serves the connection until either side leaves.
pub fn run(
    shared: &Shared,
    id: ConnectionId,
    stream: &mut Stream,
    mut decoder: Decoder,
) -> io::Result<()> {
    let news = shared.hub.subscribe()?;
    // What an earlier relay's viewers could show does not count for this one's.
    shared.hub.colour(|colours| colours.relay = Chroma::Yuv420);
    shared.hub.order_codec(Codec::H264);
    let mut display_told = None;
    let mut next_report = Instant::now();
    loop {
        if !shared.sessions().is_controlled_by(id) {
            return write(stream, &GuestControl::Goodbye(Farewell::Replaced));
        }
        if shared.hub.is_stopping() {
            return write(stream, &GuestControl::Goodbye(Farewell::Stopping));
        }
        let (version, state) = shared.hub.display();
        if display_told != Some(version) {
            write(stream, &GuestControl::Display { stream: StreamId::VIDEO, state })?;
            display_told = Some(version);
        }
        let now = Instant::now();
        if now >= next_report {
            let mut report = shared.hub.report();
            (report.cpu, report.resident) = usage::now();
            write(stream, &GuestControl::Report(report))?;
            next_report = now + REPORT;
        }
        while let Some(frame) = decoder.poll_frame().map_err(invalid)? {
            if !answer(shared, stream, &frame.message)? {
                return Ok(());
            }
        }
        let wait = next_report.saturating_duration_since(Instant::now());
        let mut fds = [
            PollFd::new(stream.as_fd(), PollFlags::POLLIN),
            PollFd::new(news.as_fd(), PollFlags::POLLIN),
        ];
        // Rounded up: a timeout of 0 would spin through the last millisecond.
        let timeout = PollTimeout::try_from(wait.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [readable, woken] = fds.map(|fd| fd.any().unwrap_or(false));
        if woken {
            // Empty means that another look has seen the news already.
            let _ = news.read();
        }
        if readable {
            let count = stream.read_some(decoder.space())?;
            if count == 0 {
                return Ok(());
            }
            decoder.advance(count);
        }
    }
}

/// Handles one message; whether the connection goes on.
fn answer(shared: &Shared, stream: &mut Stream, message: &[u8]) -> io::Result<bool> {
    let received = clock::now();
    let outcome = shared.sessions().handle_control(message, received).map_err(invalid)?;
    match outcome {
        Outcome::Reply(mut reply) => {
            if let GuestControl::Pong { sent, .. } = &mut reply {
                *sent = clock::now();
            }
            write(stream, &reply)?;
        }
        Outcome::Order(Order::Idr) => shared.hub.order(|idr, _| *idr = true),
        Outcome::Order(Order::Join) => shared.hub.order_join(),
        Outcome::Order(Order::Tune(new)) => shared.hub.order(|_, tuning| *tuning = new),
        Outcome::Order(Order::Colour(chroma)) => {
            shared.hub.colour(|colours| colours.relay = chroma);
        }
        Outcome::Order(Order::Codec(codec)) => shared.hub.order_codec(codec),
        Outcome::Ignored => {}
        Outcome::Close => return Ok(false),
    }
    Ok(true)
}

fn invalid(error: transom_protocol::wire::WireError) -> io::Error {
    log::warn!("the host sent what is no control message: {error}");
    io::Error::new(io::ErrorKind::InvalidData, error)
}
