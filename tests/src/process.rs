//! A child process that cannot outlive its test.
//!
//! Each child leads a process group of its own, which is killed as a whole when the
//! value is dropped or the test's watchdog fires. Should the test process itself be
//! killed, the kernel kills the child (`setpriv --pdeathsig`): the thread that spawned
//! it counts as the parent, so it has to live as long as the child.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::run::Test;
use crate::transcript::Transcript;

/// A running child; dropped means killed.
pub struct Process {
    name: String,
    child: Child,
    group: Pid,
    killed: bool,
    stderr: Transcript,
    test: Test,
}

impl Process {
    /// A command line whose process dies with the thread that spawns it.
    pub fn command(program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program.as_ref());
        command
    }

    /// Starts `command` (from [`Process::command`]); what it says on stderr goes to
    /// `<name>.log` in the test's folder. The caller sets stdin and stdout beforehand.
    pub fn spawn(test: &Test, name: &str, command: &mut Command) -> Result<Self> {
        let log = test.dir().join(format!("{name}.log"));
        let mut child = command
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        let stderr = child.stderr.take().context("stderr was piped")?;
        let group = Pid::from_raw(child.id().cast_signed());
        test.watch_over(group);
        let stderr = Transcript::of(stderr, &log)?;
        Ok(Self { name: name.into(), child, group, killed: false, stderr, test: test.clone() })
    }

    /// Its process id, which is also the id of its group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said on stderr.
    pub fn stderr(&self) -> &Transcript {
        &self.stderr
    }

    /// The child itself, to take its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to the process alone, not to its group.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        nix::sys::signal::kill(self.group, signal)
            .with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            anyhow::ensure!(Instant::now() < end, "{} still runs after {deadline:?}", self.name);
            // std offers no wait with a deadline; the poll decides nothing but when we look.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the whole group and waits for the process.
    pub fn kill(&mut self) {
        if std::mem::replace(&mut self.killed, true) {
            // The number may belong to somebody else by now.
            return;
        }
        let _ = killpg(self.group, Signal::SIGKILL);
        let _ = self.child.wait();
        self.test.forget(self.group);
    }

    /// CPU time that the process and its threads have used, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let path = PathBuf::from(format!("/proc/{}/stat", self.pid()));
        let stat = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        // The name in brackets may hold spaces; utime and stime are fields 14 and 15.
        let fields: Vec<_> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok());
        let (user, system) = ticks(11).zip(ticks(12)).context("unknown form of /proc stat")?;
        Ok((user + system) / 100.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
