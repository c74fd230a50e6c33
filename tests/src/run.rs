//! The frame around one machine test: its lock, its log folder and its watchdog.
//!
//! In: a name, a time limit and a body. Out: the body's verdict. Machine tests never run
//! beside each other, in whatever processes they live: two cores cannot carry two guests
//! and still meet a deadline. A test that cannot run fails; it is never skipped.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// After its children were killed a test body has this long to notice.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// Where a running test keeps its things; clones share it.
#[derive(Clone)]
pub struct Test(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    sockets: PathBuf,
    groups: Mutex<Vec<Pid>>,
    expired: AtomicBool,
}

/// Runs `body` as the machine test `name`, which may take `limit`.
///
/// # Panics
/// If the body fails, panics or takes too long; the message names the log folder.
pub fn machine_test(name: &str, limit: Duration, body: impl FnOnce(&Test) -> Result<()>) {
    let slug: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let (test, _lock) = match Test::begin(&slug) {
        Ok(begun) => begun,
        Err(error) => panic!("{name}: {error:#}"),
    };
    let (finished, watch) = channel::<()>();
    let watched = test.clone();
    let what = name.to_owned();
    let watchdog = std::thread::spawn(move || {
        if watch.recv_timeout(limit) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        eprintln!("{what}: not done after {limit:?}, killing what it runs");
        watched.0.expired.store(true, Ordering::Relaxed);
        watched.kill_all();
        if watch.recv_timeout(LAST_WORDS) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{what}: does not end, aborting; logs in {}", watched.dir().display());
            std::process::abort();
        }
    });
    let verdict = catch_unwind(AssertUnwindSafe(|| body(&test)));
    drop(finished);
    let _ = watchdog.join();
    test.kill_all();
    let _ = std::fs::remove_dir_all(&test.0.sockets);
    let late = test.0.expired.load(Ordering::Relaxed);
    let logs = test.dir().display();
    match verdict {
        Ok(Ok(())) if !late => {
            let _ = std::fs::remove_dir_all(test.dir());
        }
        Ok(Ok(())) => panic!("{name}: took longer than {limit:?}; logs in {logs}"),
        Ok(Err(error)) => panic!("{name}: {error:?}\nlogs in {logs}"),
        Err(panic) => {
            eprintln!("{name}: logs in {logs}");
            resume_unwind(panic)
        }
    }
}

/// The project's root folder.
pub fn project_dir() -> &'static Path {
    // The crate sits one level below the root.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// The folder with `transom`, `transom-agent` and the guest-side helpers.
pub fn release_dir() -> PathBuf {
    target_dir().join("release")
}

/// The project's cache, which outlives a clone.
pub fn cache_dir() -> Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from);
    from("TRANSOM_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|d| d.join("transom")))
        .or_else(|| from("HOME").map(|d| d.join(".cache/transom")))
        .context("no cache folder: neither TRANSOM_CACHE nor XDG_CACHE_HOME nor HOME is set")
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project_dir().join("target"), PathBuf::from)
}

impl Test {
    fn begin(slug: &str) -> Result<(Self, Flock<File>)> {
        let all = target_dir().join("machine-tests");
        std::fs::create_dir_all(&all)?;
        let lock = File::create(all.join("lock")).context("cannot create the tests' lock")?;
        let lock = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, e)| e)
            .context("cannot take the tests' lock")?;
        let dir = all.join(slug);
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot empty {}", dir.display()));
            }
            _ => std::fs::create_dir(&dir)?,
        }
        // Not in the log folder: the path of a Unix socket ends at 107 bytes.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let sockets = loop {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let unique = format!("transom-{}-{next}", std::process::id());
            let sockets = std::env::temp_dir().join(unique);
            match std::fs::DirBuilder::new().mode(0o700).create(&sockets) {
                Ok(()) => break sockets,
                // Left behind by a process that was killed and had this number.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => {
                    return Err(e).with_context(|| {
                        format!("cannot create {} for sockets", sockets.display())
                    });
                }
            }
        };
        let inner =
            Inner { dir, sockets, groups: Mutex::default(), expired: AtomicBool::new(false) };
        Ok((Self(Arc::new(inner)), lock))
    }

    /// The log folder; kept if the test fails.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// A path that no other test uses and that is short enough for a Unix socket.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.0.sockets.join(name)
    }

    /// Has the watchdog kill this process group with the rest.
    pub(crate) fn watch_over(&self, group: Pid) {
        self.groups().push(group);
    }

    /// The group is gone; its number may soon be somebody else's.
    pub(crate) fn forget(&self, group: Pid) {
        self.groups().retain(|g| *g != group);
    }

    fn kill_all(&self) {
        for group in self.groups().drain(..) {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    fn groups(&self) -> std::sync::MutexGuard<'_, Vec<Pid>> {
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
