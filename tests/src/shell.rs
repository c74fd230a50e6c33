//! A root shell in the guest, driven over one of its consoles.
//!
//! In: a command and a deadline. Out: its exit status and what it printed. Each command
//! is followed by a marker that the typed line itself does not contain, so an echoing
//! terminal cannot be mistaken for the end of the command.

use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::transcript::Transcript;

/// What `uml/init` and the unit in `qemu.rs` print before they become the shell.
const READY: &str = "@@guest ready";
/// What a terminal in canonical mode takes as one line.
const LINE_MAX: usize = 4000;

/// What a command in the guest did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit status.
    pub status: i32,
    /// stdout and stderr, trimmed at the end.
    pub text: String,
}

/// A shell that waits for commands.
pub(crate) struct Shell {
    input: Mutex<(Box<dyn Write + Send>, u32)>,
    output: Transcript,
}

impl Shell {
    /// Takes over a console on which a shell reads `input` and prints to `output`.
    pub(crate) fn on(input: impl Write + Send + 'static, output: Transcript) -> Self {
        Self { input: Mutex::new((Box::new(input), 0)), output }
    }

    /// Waits until the shell says that it waits for commands.
    pub(crate) fn wait_ready(&self, deadline: Duration) -> Result<()> {
        self.output.wait(READY, deadline)
    }

    /// Runs `command`, which may span lines, and waits for its end.
    pub(crate) fn run(&self, command: &str, deadline: Duration) -> Result<Output> {
        ensure!(
            command.lines().all(|l| l.len() < LINE_MAX),
            "a line is too long for the guest's terminal"
        );
        let mut input = self.input.lock().map_err(|_| anyhow::anyhow!("the shell is broken"))?;
        input.1 += 1;
        let n = input.1;
        let start = self.output.len();
        // The braces hold without a subshell, so that `cd` and `exec 9>…` last.
        write!(input.0, "{{ {command}\n}} </dev/null 2>&1; printf '\\n@@%s {n} %d\\n' end $?\n")
            .and_then(|()| input.0.flush())
            .context("the guest's shell is gone")?;
        let begin_mark = format!("\n@@end {n} ");
        let text = self.output.wait_from(start, deadline, command, |text| {
            let at = text.find(&begin_mark)?;
            let (status, _) = text[at + begin_mark.len()..].split_once('\n')?;
            Some((status.to_owned(), text[..at].trim_end().to_owned()))
        });
        match text {
            Ok((status, text)) => {
                let status = status.parse().with_context(|| format!("exit status '{status}'"))?;
                Ok(Output { status, text })
            }
            Err(error) => bail!("`{command}` in the guest: {error:#}"),
        }
    }
}
