//! The open connections: how many there are, and how to end one from outside.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::socket::Stream;
use crate::session::ConnectionId;

/// One session takes three, diagnostics eight; the rest are successors, and room for what is still
/// to say hello.
const MAX: usize = 24;

/// How long a replaced connection may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

struct Open {
    id: ConnectionId,
    stream: Stream,
    admitted: bool,
}

/// All open connections.
#[derive(Default)]
pub struct Connections {
    open: Mutex<Vec<Open>>,
    left: Condvar,
}

/// Leaves [`Connections`] on drop.
pub struct Entry<'a> {
    connections: &'a Connections,
    id: ConnectionId,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.connections.lock().retain(|open| open.id != self.id);
        self.connections.left.notify_all();
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in. When there are too many, the oldest that has not said a valid hello
    /// is ended: whoever opens many and says nothing shuts nobody out.
    pub fn enter(&self, id: ConnectionId, stream: &Stream) -> io::Result<Entry<'_>> {
        let stream = stream.try_clone()?;
        let mut open = self.lock();
        if open.len() >= MAX {
            match open.iter().position(|open| !open.admitted) {
                Some(oldest) => open.remove(oldest).stream.shut(),
                None => return Err(io::Error::other("too many connections are open")),
            }
        }
        open.push(Open { id, stream, admitted: false });
        Ok(Entry { connections: self, id })
    }

    /// The connection has said a valid hello.
    pub fn admitted(&self, id: ConnectionId) {
        self.lock().iter_mut().filter(|open| open.id == id).for_each(|open| open.admitted = true);
    }

    /// Ends a connection.
    pub fn shut(&self, id: ConnectionId) {
        self.lock().iter().filter(|open| open.id == id).for_each(|open| open.stream.shut());
    }

    /// Waits for replaced connections to say goodbye and leave, then ends those that did not.
    /// The first of them is the one that can speak.
    pub fn retire(&self, replaced: &[ConnectionId]) {
        let deadline = Instant::now() + FAREWELL;
        let mut open = self.lock();
        while open.iter().any(|open| Some(&open.id) == replaced.first()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            open = self.left.wait_timeout(open, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        open.iter().filter(|open| replaced.contains(&open.id)).for_each(|open| open.stream.shut());
    }
}
