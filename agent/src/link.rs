//! The vsock listener and the connections behind it.
//!
//! ```text
//!  accept ── CID 2? ── hello within 5 s ──┬── control: one thread, waits in poll
//!    └─ too many: the oldest without      ├── media: one thread, waits for the hub or in write
//!       a hello makes room                ├── input: one thread, waits in poll
//!                                         └── diagnostics: a thread each, see [`crate::diag`]
//! ```
//!
//! What enters: connections from the host. What leaves: orders to the hub, access units to the
//! host. What this refuses to do: serving processes of the guest (vsock_loopback), waiting for a
//! silent peer, holding more than one access unit for a slow one.

mod connections;
mod control;
mod diagnostics;
mod input;
mod media;
mod socket;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use transom_protocol::message::{GuestHello, Refusal};
use transom_protocol::wire::{Decoder, Limits, encode};
use transom_protocol::{Capabilities, Role};

use crate::diag;
use crate::hub::Hub;
use crate::input::devices::Desk;
use crate::session::{ConnectionId, Sessions};
use crate::sys::sched;
use connections::Connections;
pub use socket::{Address, Listener, Stream};

/// A host that has said nothing for so long is not a relay.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Control messages are small: a host that does not take one for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connection threads decode small messages; the default of 2 MiB would count against
/// memory limits for nothing.
const STACK: usize = 256 * 1024;

/// What all connections share.
struct Shared {
    hub: Arc<Hub>,
    desk: Desk,
    sessions: Arc<Mutex<Sessions>>,
    connections: Connections,
    diag: Arc<diag::Context>,
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts connections for as long as the process lives.
///
/// # Errors
///
/// The listener is broken; a connection never is a reason.
pub fn serve(
    listener: &Listener,
    hub: &Arc<Hub>,
    desk: Desk,
    sessions: Arc<Mutex<Sessions>>,
    diag: diag::Context,
) -> io::Result<()> {
    let shared = Arc::new(Shared {
        hub: Arc::clone(hub),
        desk,
        sessions,
        connections: Connections::default(),
        diag: Arc::new(diag),
    });
    be_prompt();
    let mut complaints = Complaints::default();
    let mut number = 0;
    loop {
        let stream = match listener.accept() {
            Ok(stream) => stream,
            Err(error) if is_passing(&error) => {
                complaints.warn(&format!("a connection could not be accepted: {error}"));
                // Out of descriptors or memory: connections have to end first.
                thread::sleep(Duration::from_millis(100));
                continue;
            }
            Err(error) => return Err(error),
        };
        number += 1;
        let id = ConnectionId(number);
        let shared = Arc::clone(&shared);
        let name = format!("connection {number}");
        let spawned = thread::Builder::new().name(name).stack_size(STACK).spawn(move || {
            be_prompt();
            if let Err(error) = converse(&shared, id, stream) {
                log::debug!("connection {number}: {error}");
            }
        });
        if let Err(error) = spawned {
            complaints.warn(&format!("connection {number} is refused, no thread: {error}"));
        }
    }
}

/// An encoder that has a processor to itself would keep an event or a request waiting for the rest of
/// its slice.
fn be_prompt() {
    if let Err(error) = sched::be_prompt() {
        log::debug!("a connection runs like everything else: {error}");
    }
}

/// Whether the next accept may succeed.
fn is_passing(error: &io::Error) -> bool {
    use nix::libc::{ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM};
    error.raw_os_error().is_some_and(|code| {
        [ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM].contains(&code)
    })
}

/// One connection, from hello to close.
fn converse(shared: &Shared, id: ConnectionId, stream: Stream) -> io::Result<()> {
    let _entry = shared.connections.enter(id, &stream)?;
    let mut stream = stream;
    stream.set_timeouts(Some(HELLO_TIMEOUT), Some(WRITE_TIMEOUT))?;
    let mut decoder = Decoder::new(Limits::MESSAGES);
    let Some(hello) = read_hello(&mut stream, &mut decoder)? else { return Ok(()) };
    let input = shared.desk.is_usable();
    let admission = {
        let mut sessions = shared.sessions();
        if input {
            sessions.offer(Capabilities::INPUT);
        }
        sessions.admit(id, &hello)
    };
    let closed = CloseSession { shared, id };
    if admission.role == Some(Role::INPUT) {
        // Its predecessor has nothing to say, and has to let go of the devices.
        admission.replaced.iter().for_each(|old| shared.connections.shut(*old));
    } else if !admission.replaced.is_empty() {
        log::info!("a newer host takes the place of an older one");
        shared.hub.wake_control();
        shared.connections.retire(&admission.replaced);
    }
    write(&mut stream, &admission.answer)?;
    match admission.role {
        Some(Role::CONTROL) => {
            shared.connections.admitted(id);
            log::info!("connection {}: control", id.0);
            control::run(shared, id, &mut stream, decoder)?;
        }
        Some(Role::MEDIA) => {
            shared.connections.admitted(id);
            log::info!("connection {}: media", id.0);
            media::run(shared, id, &mut stream)?;
        }
        Some(Role::INPUT) => {
            shared.connections.admitted(id);
            log::info!("connection {}: input", id.0);
            input::run(shared, &mut stream, decoder)?;
        }
        Some(Role::DIAGNOSTICS) => {
            shared.connections.admitted(id);
            diagnostics::run(shared, &stream, decoder)?;
        }
        _ => log::warn!("connection {}: refused: {:?}", id.0, admission.answer),
    }
    drop(closed);
    Ok(())
}

/// Leaves the session table when a connection ends, however it ends.
struct CloseSession<'a> {
    shared: &'a Shared,
    id: ConnectionId,
}

impl Drop for CloseSession<'_> {
    fn drop(&mut self) {
        let others = self.shared.sessions().close(self.id);
        for other in others {
            self.shared.connections.shut(other);
            self.shared.hub.detach(other.0);
        }
        log::info!("connection {}: closed", self.id.0);
    }
}

/// The first message, all of which has to come within [`HELLO_TIMEOUT`].
fn read_hello(stream: &mut Stream, decoder: &mut Decoder) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + HELLO_TIMEOUT;
    loop {
        match decoder.poll_frame() {
            Ok(Some(frame)) => return Ok(Some(frame.message)),
            Ok(None) => {}
            Err(error) => {
                write(stream, &GuestHello::Refused(Refusal::Malformed))?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the host said no hello"));
        }
        stream.set_timeouts(Some(left), Some(WRITE_TIMEOUT))?;
        let count = stream.read_some(decoder.space())?;
        if count == 0 {
            return Ok(None);
        }
        decoder.advance(count);
    }
}

/// Sends one message without bulk.
fn write<M: serde::Serialize>(stream: &mut Stream, message: &M) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(64);
    encode(message, 0, &mut bytes);
    stream.write_pieces(&bytes)
}

/// Warnings that a peer can trigger, at most one a second.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
}

impl Complaints {
    fn warn(&mut self, text: &str) {
        if self.last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
            log::warn!("{text}");
            self.last = Some(Instant::now());
        }
    }
}
