//! The agent's side: starts a helper, hands it buffers, and waits for no more than it must.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::message::{Answer, Layout, Order};
use crate::helper::{self, Lost, plain};
use crate::sys::dmabuf::Mapping;
use crate::sys::pair::End;
use crate::sys::shared::Shared;

/// Loading a driver takes a tenth of a second, and longer where it compiles shaders: a look does not
/// wait for all of it, …
const PATIENCE: Duration = Duration::from_millis(300);
/// … but after this it will not come.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// The first view may set up what later ones use; …
const FIRST_DEADLINE: Duration = Duration::from_secs(2);
/// … later ones are late when this has passed. Hardware needs a few milliseconds.
const DEADLINE: Duration = Duration::from_millis(500);
/// What failed is tried again after this, then after twice as long, …
const SOON: Duration = Duration::from_secs(2);
/// … at most.
const LATEST: Duration = Duration::from_secs(600);

/// Why there is no linear view of a buffer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoView {
    /// The driver is being loaded.
    #[error("the GPU's driver is being loaded")]
    NotYet,
    /// It is not tried again yet; what it had failed of.
    #[error("{0}")]
    Failed(String),
}

/// Linear views by the driver of one DRM node, whose process is started when the first is wanted.
#[derive(Debug)]
pub struct Linear {
    node: PathBuf,
    environment: Vec<(String, String)>,
    patience: Duration,
    helper: Option<Helper>,
    failure: Option<Failure>,
    /// What was put into words in the log last.
    said: Option<String>,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    /// The layout that was refused, where others may not be.
    layout: Option<Layout>,
    until: Instant,
    wait: Duration,
}

#[derive(Debug)]
struct Helper {
    process: helper::Helper,
    backend: Option<String>,
    /// Where views go, and their mapping.
    view: Option<Mapping>,
    room: usize,
    views: u64,
}

impl Linear {
    /// By the driver of this node.
    pub fn new(node: &Path) -> Self {
        let (environment, patience) = (Vec::new(), PATIENCE);
        let node = node.to_owned();
        Self { node, environment, patience, helper: None, failure: None, said: None }
    }

    /// By whoever is at the other end, as long as that answers.
    pub fn over(socket: End) -> Self {
        let helper = Some(Helper::of(helper::Helper::over(socket)));
        Self { helper, ..Self::new(Path::new("/dev/null")) }
    }

    /// The same for who waits until the driver is loaded.
    pub fn patient(mut self) -> Self {
        self.patience = OPEN_DEADLINE;
        self
    }

    /// The same with more in the helper's environment.
    pub fn with_environment(mut self, environment: Vec<(String, String)>) -> Self {
        self.environment = environment;
        self
    }

    /// For people: what makes the views.
    pub fn describe(&self) -> String {
        let backend = self.helper.as_ref().and_then(|helper| helper.backend.as_deref());
        format!("GBM ({}, backend {})", self.node.display(), backend.unwrap_or("not loaded"))
    }

    /// The view that was made last.
    pub fn last(&self) -> Option<&Mapping> {
        self.helper.as_ref()?.view.as_ref()
    }

    /// The helper's process id, while it lives.
    pub fn pid(&self) -> Option<u32> {
        self.helper.as_ref()?.process.pid()
    }

    /// A linear view of a buffer, its rows without gaps, as it is now. `fds` has a dma-buf for each
    /// plane.
    ///
    /// # Errors
    ///
    /// See [`NoView`]; the reason is in the log once.
    pub fn view(&mut self, layout: &Layout, fds: &[BorrowedFd<'_>]) -> Result<&Mapping, NoView> {
        let waits = |failure: &Failure| {
            let same = failure.layout.as_ref().is_none_or(|refused| refused == layout);
            same && Instant::now() < failure.until
        };
        if let Some(failure) = self.failure.as_ref().filter(|failure| waits(failure)) {
            return Err(NoView::Failed(failure.reason.clone()));
        }
        match self.attempt(layout, fds) {
            Ok(()) => {
                self.failure = None;
                self.last().ok_or(NoView::NotYet)
            }
            Err(Trouble::NotYet) => Err(NoView::NotYet),
            Err(Trouble::Refused(reason)) => Err(self.give_up(reason, Some(layout.clone()))),
            Err(Trouble::Lost(reason)) => {
                self.helper = None;
                Err(self.give_up(reason, None))
            }
        }
    }

    /// Loads the driver and makes no view yet: for reports.
    ///
    /// # Errors
    ///
    /// See [`NoView`].
    pub fn load(&mut self) -> Result<&str, NoView> {
        let loaded = self.loaded().map(drop);
        match loaded {
            Ok(()) => {
                let helper = self.helper.as_ref().ok_or(NoView::NotYet)?;
                helper.backend.as_deref().ok_or(NoView::NotYet)
            }
            Err(Trouble::NotYet) => Err(NoView::NotYet),
            Err(Trouble::Refused(reason) | Trouble::Lost(reason)) => Err(NoView::Failed(reason)),
        }
    }

    fn give_up(&mut self, reason: String, layout: Option<Layout>) -> NoView {
        let before = self.failure.take().map(|failure| failure.wait);
        let wait = before.map_or(SOON, |wait| (wait * 2).min(LATEST));
        if self.said.as_ref() != Some(&reason) {
            log::warn!("no linear view by GBM of {}: {reason}", self.node.display());
            self.said = Some(reason.clone());
        }
        let until = Instant::now() + wait;
        self.failure = Some(Failure { reason: reason.clone(), layout, until, wait });
        NoView::Failed(reason)
    }

    fn attempt(&mut self, layout: &Layout, fds: &[BorrowedFd<'_>]) -> Result<(), Trouble> {
        self.loaded()?.read(layout, fds)
    }

    /// The helper, with its driver loaded.
    fn loaded(&mut self) -> Result<&mut Helper, Trouble> {
        let helper = match &mut self.helper {
            Some(helper) => helper,
            none => none.insert(
                Helper::start(&self.node, &self.environment)
                    .map_err(|error| Trouble::Lost(format!("its process: {error}")))?,
            ),
        };
        helper.open(self.patience)?;
        Ok(helper)
    }
}

enum Trouble {
    NotYet,
    /// This buffer; others may do.
    Refused(String),
    /// The helper is of no more use.
    Lost(String),
}

impl From<Lost> for Trouble {
    fn from(lost: Lost) -> Self {
        Self::Lost(match lost {
            Lost::Died(how) => format!("the driver's process ended: {how}"),
            Lost::Nonsense => "its process answers nonsense".into(),
        })
    }
}

impl Helper {
    fn start(node: &Path, environment: &[(String, String)]) -> io::Result<Self> {
        let arguments = [OsStr::new("--device"), node.as_os_str()];
        Ok(Self::of(helper::Helper::start("scanout-helper", arguments, environment)?))
    }

    fn of(process: helper::Helper) -> Self {
        Self { process, backend: None, view: None, room: 0, views: 0 }
    }

    fn open(&mut self, patience: Duration) -> Result<(), Trouble> {
        if self.backend.is_some() {
            return Ok(());
        }
        match self.process.hear(patience)? {
            Some(Answer::Opened(backend)) => {
                self.backend = Some(plain(&backend));
                Ok(())
            }
            Some(Answer::Failed(reason)) => Err(Trouble::Lost(plain(&reason))),
            Some(Answer::Read) => Err(Trouble::Lost("its process answers out of turn".into())),
            None if self.process.age() >= OPEN_DEADLINE => Err(Trouble::Lost(late(OPEN_DEADLINE))),
            None => Err(Trouble::NotYet),
        }
    }

    fn read(&mut self, layout: &Layout, fds: &[BorrowedFd<'_>]) -> Result<(), Trouble> {
        let lost = |error: io::Error| Trouble::Lost(format!("its process: {error}"));
        let mut sizes = Vec::new();
        for fd in fds {
            let end = nix::unistd::lseek(fd, 0, nix::unistd::Whence::SeekEnd);
            sizes.push(end.map_err(|error| Trouble::Refused(error.to_string()))? as u64);
        }
        layout.check(&sizes).map_err(Trouble::Refused)?;
        let length = layout.length();
        if self.view.is_none() || self.room < length {
            let memory = Shared::new(length).map_err(lost)?;
            let order = Order::Memory(length as u32);
            self.process.say(&order, &[memory.fd()])?;
            let fd = memory.fd().try_clone_to_owned().map_err(lost)?;
            (self.view, self.room) = (Some(Mapping::of_memory(&fd, length).map_err(lost)?), length);
        }
        self.process.say(&Order::Read(layout.clone()), fds)?;
        let deadline = if self.views == 0 { FIRST_DEADLINE } else { DEADLINE };
        match self.process.hear(deadline)? {
            Some(Answer::Read) => {
                self.views += 1;
                Ok(())
            }
            Some(Answer::Failed(reason)) => Err(Trouble::Refused(plain(&reason))),
            Some(Answer::Opened(_)) => Err(Trouble::Lost("its process answers out of turn".into())),
            None => Err(Trouble::Lost(late(deadline))),
        }
    }
}

fn late(deadline: Duration) -> String {
    format!("no answer from the driver in {} ms", deadline.as_millis())
}
