//! Helpers: processes of this same program in which a GPU's driver runs. Drivers hang, lie and crash;
//! a helper takes that upon itself, and the agent believes nothing that it says.
//!
//! This is the agent's end of one: it starts the process, talks to it in messages of postcard over a
//! socket that is its standard input, and learns what it died of. What is said, and how long an answer
//! may take, is the business of who starts it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::pair::End;

/// What is started as a helper, if it is not this program itself.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Has another program than this one started as the helper: for tests, which are none.
pub fn set_program(program: PathBuf) {
    // The first one stays.
    let _ = PROGRAM.set(program);
}

/// A helper that is of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// It ended by itself: the driver has crashed it.
    Died(String),
    /// It said what is no message.
    Nonsense,
}

/// One helper; dropped means killed.
#[derive(Debug)]
pub struct Helper {
    child: Option<Child>,
    socket: End,
    started: Instant,
}

impl Helper {
    /// Starts this program with a hidden command and its arguments, and with more in its environment.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn start(
        command: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        environment: &[(String, String)],
    ) -> io::Result<Self> {
        let (socket, theirs) = End::pair()?;
        let program = PROGRAM.get().map_or("/proc/self/exe".as_ref(), |program| program.as_path());
        // Drivers chatter on stderr, some for every frame.
        let chatter =
            if log::log_enabled!(log::Level::Debug) { Stdio::inherit } else { Stdio::null };
        // The child has its own end then; ours of theirs closes with the command.
        let child = Command::new(program)
            .arg(command)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(chatter())
            .spawn()?;
        Ok(Self { child: Some(child), socket, started: Instant::now() })
    }

    /// Whoever is at the other end, as long as that answers.
    pub fn over(socket: End) -> Self {
        Self { child: None, socket, started: Instant::now() }
    }

    /// Its process id, while it lives.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How long it has been there.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Says something, with descriptors.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn say<M: Serialize>(&mut self, message: &M, fds: &[BorrowedFd<'_>]) -> Result<(), Lost> {
        self.socket.send(&encode(message), fds).map_err(|_| self.epitaph())
    }

    /// Waits for an answer; `None` if there is none in time.
    ///
    /// # Errors
    ///
    /// See [`Lost`].
    pub fn hear<M: DeserializeOwned>(&mut self, timeout: Duration) -> Result<Option<M>, Lost> {
        match self.socket.receive(Some(timeout)) {
            Ok(None) => Ok(None),
            Ok(Some(received)) if received.bytes.is_empty() => Err(self.epitaph()),
            Ok(Some(received)) => decode(&received.bytes).map(Some).ok_or(Lost::Nonsense),
            Err(_) => Err(self.epitaph()),
        }
    }

    /// What it died of.
    fn epitaph(&mut self) -> Lost {
        let end = Instant::now() + Duration::from_millis(100);
        while let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(Some(status)) => {
                    self.child = None;
                    return Lost::Died(status.to_string());
                }
                // The socket closes a moment before the process has ended.
                Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(1)),
                _ => break,
            }
        }
        Lost::Died("without a word".into())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            // A process that a stuck driver holds in the kernel cannot be waited for here.
            let waiter = thread::Builder::new().name("reaper".into()).stack_size(64 * 1024);
            let _ = waiter.spawn(move || child.wait());
        }
    }
}

/// A message to bytes.
pub fn encode<M: Serialize>(message: &M) -> Vec<u8> {
    postcard::to_allocvec(message).expect("these messages have no maps and no unsized sequences")
}

/// From bytes; `None` if they are no such message.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Option<M> {
    postcard::from_bytes(bytes).ok()
}

/// A driver's words, for one line of the log.
pub fn plain(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
