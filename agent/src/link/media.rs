//! One media connection: writes what the pipeline makes, and nothing else.

use std::io;
use std::time::{Duration, Instant};

use transom_protocol::message::GuestMedia;
use transom_protocol::wire::encode;
use transom_protocol::{MAX_WRITE, StreamId};

use super::{Shared, Stream, write};
use crate::clock;
use crate::hub::{MediaItem, Unit};
use crate::session::ConnectionId;
use crate::watchdog::Stage;

/// A host that took nothing for so long shows an old picture: it gets a whole one.
const STALL: Duration = Duration::from_secs(1);

/// Serves the connection until it breaks or is replaced.
pub fn run(shared: &Shared, id: ConnectionId, stream: &mut Stream) -> io::Result<()> {
    // A stalled host is waited for; the control connection tells whether it still lives.
    stream.set_timeouts(None, None)?;
    shared.hub.attach(id.0);
    let result = write_items(shared, id, stream);
    shared.hub.watch.media.rest();
    shared.hub.detach(id.0);
    result
}

fn write_items(shared: &Shared, id: ConnectionId, stream: &mut Stream) -> io::Result<()> {
    let mut head = Vec::with_capacity(MAX_WRITE);
    while let Some(item) = shared.hub.next_item(id.0) {
        let begun = Instant::now();
        shared.hub.watch.media.enter(Stage::Send);
        match item {
            MediaItem::Start(format) => {
                write(stream, &GuestMedia::StreamStart { stream: StreamId::VIDEO, format })?;
            }
            MediaItem::Stop => write(stream, &GuestMedia::StreamStop { stream: StreamId::VIDEO })?,
            MediaItem::Unit(unit) => {
                let (mut times, damage, bytes) = (unit.times, unit.damage, unit.bytes.len());
                times.sent = clock::now();
                write_unit(stream, Unit { times, ..unit }, &mut head)?;
                shared.hub.meter.sent(times, damage, bytes);
                shared.hub.count(|report| report.sent += 1);
            }
        }
        shared.hub.watch.media.rest();
        if begun.elapsed() > STALL {
            log::warn!("the host took nothing for {:.1} s", begun.elapsed().as_secs_f32());
            shared.hub.order(|idr, _| *idr = true);
        }
    }
    Ok(())
}

/// The message shares its first write with the front of the access unit; the rest goes from where
/// it lies.
fn write_unit(stream: &mut Stream, unit: Unit, head: &mut Vec<u8>) -> io::Result<()> {
    let Unit { number, idr, times, damage, bytes } = unit;
    let message = GuestMedia::AccessUnit { stream: StreamId::VIDEO, number, idr, times, damage };
    head.clear();
    encode(&message, bytes.len() as u32, head);
    let front = bytes.len().min(MAX_WRITE - head.len());
    head.extend_from_slice(&bytes[..front]);
    stream.write_pieces(head)?;
    stream.write_pieces(&bytes[front..])
}
