//! A source of frames for programs that know nothing of our protocol: a Unix socket that writes them
//! to whoever connects, as they are or behind their length.

use std::io::{self, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use super::guest::{nanos, write_pieces};

/// The source; dropped means shut down.
pub struct Source {
    path: PathBuf,
    over: Arc<AtomicBool>,
}

/// The way out for frames.
pub struct Out {
    stream: UnixStream,
    over: Arc<AtomicBool>,
    lengths: bool,
    bytes: Vec<u8>,
}

impl Source {
    /// Plays to one who connects; with `lengths` each frame follows its length.
    pub fn start(
        path: PathBuf,
        lengths: bool,
        play: impl FnOnce(&mut Out) -> io::Result<()> + Send + 'static,
    ) -> Result<Self> {
        let listener =
            UnixListener::bind(&path).with_context(|| format!("cannot bind {}", path.display()))?;
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        std::thread::spawn(move || -> io::Result<()> {
            let (stream, _) = listener.accept()?;
            // The other's end is how this ends.
            play(&mut Out { stream, over: ended, lengths, bytes: Vec::new() })
        });
        Ok(Self { path, over })
    }

    /// Its socket.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = UnixStream::connect(&self.path);
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Out {
    /// Writes a frame; yields when its last piece was handed to the system.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<u64> {
        if self.over.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.lengths {
            self.bytes.clear();
            self.bytes.write_all(&(frame.len() as u32).to_be_bytes())?;
            self.bytes.extend_from_slice(frame);
            write_pieces(&mut self.stream, &self.bytes)
        } else {
            // At once, so that a reader of whole datagrams never gets a part of one.
            let at = nanos();
            self.stream.write_all(frame).map(|()| at)
        }
    }
}
