//! A processor for what is measured, another for those who measure it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use transom_tests::Process;

/// The calling thread, and all that it starts, stays on one processor until this is dropped.
pub struct Kept {
    before: CpuSet,
    other: Option<usize>,
}

impl Kept {
    /// Takes the first processor that there is.
    pub fn to_one() -> Result<Self> {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this).context("which processors are there?")?;
        let mut ours = (0..CpuSet::count()).filter(|cpu| before.is_set(*cpu).unwrap_or(false));
        let (first, other) = (ours.next().context("no processor")?, ours.next());
        let mut one = CpuSet::new();
        one.set(first)?;
        if other.is_some() {
            sched_setaffinity(this, &one).context("cannot keep to one processor")?;
        }
        Ok(Self { before, other })
    }

    /// Where such a command line runs, for a thread of ours that belongs to what is measured: it is to
    /// call the function.
    pub fn other(&self) -> impl Fn() + Send + Sync + use<> {
        let other = self.other;
        move || {
            let mut one = CpuSet::new();
            if other.is_some_and(|cpu| one.set(cpu).is_ok()) {
                // Where it fails, what follows is slower and nothing else.
                let _ = sched_setaffinity(Pid::from_raw(0), &one);
            }
        }
    }

    /// A command line that runs on the other one.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        match self.other {
            Some(cpu) => {
                let mut command = Process::command("taskset");
                command.args(["-c", &cpu.to_string()]).arg(program.as_ref());
                command
            }
            None => Process::command(program),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Where it fails, what follows is slower and nothing else.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}
