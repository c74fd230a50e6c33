//! A shell, or one command, on a terminal or on pipes.
//!
//! ```text
//!  host ── Data ──▶ pending (bounded) ──▶ terminal or pipe ──▶ child
//!       ◀─ Data, ErrorData ────────────── read when the host has taken the last
//! ```
//!
//! The child leads a session of its own. However this ends, and above all when the host is gone,
//! whatever is left of that session is killed.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs::File, thread};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal as UnixSignal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, tcgetpgrp};
use transom_protocol::diagnostics::{GuestDiagnostics, HostDiagnostics, Line, Signal, Terminal};

use super::conversation::{Answer, Conversation, Ended, Heard, failed, timeout};
use super::guest::{processes, read, text};
use crate::sys::terminal;

/// Input that the child has not taken yet; the host waits behind it.
const MAX_PENDING: usize = 1 << 20;
/// What a pipe or a terminal gives at once, at most.
const PIPE: usize = 64 * 1024;
/// How often to look whether the child has ended, where no end of file tells it.
const LOOK: Duration = Duration::from_millis(100);
/// What is left behind by a child that has ended may write for so long in peace.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Between asking a session to go and killing it.
const GRACE: Duration = Duration::from_millis(500);
/// What ends input on a terminal: the default of `VEOF` (termios(3)).
const END_OF_FILE: u8 = 4;

/// The child and the ends of its files.
struct Running {
    child: Child,
    leader: Pid,
    input: Option<File>,
    output: Option<File>,
    errors: Option<File>,
    terminal: bool,
    pending: Vec<u8>,
    /// Close the input behind what is pending.
    closing: bool,
}

/// Runs it and says how it ended.
pub fn run(talk: &mut Conversation, command: Option<&Line>, on: Option<&Terminal>) -> Answer {
    talk.be_patient()?;
    let mut running = Running::start(command, on)
        .map_err(|error| failed(format!("the shell does not start: {error}")))?;
    let result = running.converse(talk);
    // Before the child is waited for, so that its number is still its own.
    running.kill_session();
    let status = running.child.wait().map_err(failed)?;
    result?;
    talk.say(&GuestDiagnostics::Exited(code(status)))
}

impl Running {
    fn start(command: Option<&Line>, on: Option<&Terminal>) -> io::Result<Self> {
        let (shell, home) = account();
        let mut child = match command {
            Some(line) => {
                let mut child = Command::new("/bin/sh");
                child.arg("-c").arg(line.as_str());
                child
            }
            None => {
                let mut child = Command::new(&shell);
                child.arg("-l");
                child
            }
        };
        child
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &home)
            .env("SHELL", &shell)
            .env("USER", "root")
            .env("LOGNAME", "root")
            .env("LANG", "C.UTF-8")
            .current_dir(if std::path::Path::new(&home).is_dir() { &home } else { "/" });
        let ours = match on {
            Some(Terminal { kind, size }) => {
                let (master, slave) = terminal::open(size.columns, size.rows)?;
                child.env("TERM", kind.as_str());
                child.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
                Some(master)
            }
            None => {
                child.env("TERM", "dumb");
                child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                None
            }
        };
        terminal::lead_session(&mut child, ours.is_some());
        let mut running = child.spawn()?;
        // It holds the child's end of the terminal, which would never read as hung up.
        drop(child);
        let leader = Pid::from_raw(running.id().cast_signed());
        let (input, output, errors) = match ours {
            Some(master) => (Some(File::from(master.try_clone()?)), Some(master.into()), None),
            None => (
                running.stdin.take().map(|pipe| File::from(OwnedFd::from(pipe))),
                running.stdout.take().map(|pipe| File::from(OwnedFd::from(pipe))),
                running.stderr.take().map(|pipe| File::from(OwnedFd::from(pipe))),
            ),
        };
        for file in [&input, &output, &errors].into_iter().flatten() {
            fcntl(file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(Self {
            child: running,
            leader,
            input,
            output,
            errors,
            terminal: on.is_some(),
            pending: Vec::new(),
            closing: false,
        })
    }

    /// Until the child has ended and all that it wrote is said.
    fn converse(&mut self, talk: &mut Conversation) -> Answer {
        let mut buffer = vec![0; PIPE];
        let mut ended: Option<Instant> = None;
        loop {
            let [heard, more, wrote, complained] = self.wait(talk)?;
            if heard {
                self.listen(talk)?;
            }
            if more {
                self.feed();
            }
            let mut said = false;
            if wrote {
                said |= pass(&mut self.output, &mut buffer, talk, &GuestDiagnostics::Data)?;
            }
            if complained {
                said |= pass(&mut self.errors, &mut buffer, talk, &GuestDiagnostics::ErrorData)?;
            }
            if ended.is_none() && self.has_ended() {
                ended = Some(Instant::now());
            }
            let silent = self.output.is_none() && self.errors.is_none();
            if ended.is_some_and(|at| silent || (!said && at.elapsed() > LAST_WORDS)) {
                return Ok(());
            }
        }
    }

    /// Whether the host speaks, input can be passed on, output and errors are there.
    fn wait(&self, talk: &Conversation) -> Answer<[bool; 4]> {
        let room = self.pending.len() < MAX_PENDING;
        let ready = {
            let parts: [(Option<BorrowedFd<'_>>, PollFlags); 4] = [
                (room.then(|| talk.as_fd()), PollFlags::POLLIN),
                (
                    self.input.as_ref().filter(|_| !self.pending.is_empty()).map(AsFd::as_fd),
                    PollFlags::POLLOUT,
                ),
                (self.output.as_ref().map(AsFd::as_fd), PollFlags::POLLIN),
                (self.errors.as_ref().map(AsFd::as_fd), PollFlags::POLLIN),
            ];
            let mut fds: Vec<PollFd<'_>> =
                parts.iter().filter_map(|(fd, flags)| Some(PollFd::new((*fd)?, *flags))).collect();
            match poll(&mut fds, timeout(Some(LOOK))) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(failed(error)),
            }
            let mut fds = fds.iter();
            parts.map(|(fd, _)| fd.is_some() && fds.next().is_some_and(|fd| fd.any() == Some(true)))
        };
        Ok(ready)
    }

    fn listen(&mut self, talk: &mut Conversation) -> Answer {
        loop {
            match talk.hear(Some(Duration::ZERO))? {
                Heard::Nothing => return Ok(()),
                Heard::Closed => return Err(Ended::Gone(io::ErrorKind::UnexpectedEof.into())),
                Heard::Message(message, bulk) => self.handle(message, &bulk),
            }
            if self.pending.len() >= MAX_PENDING {
                return Ok(());
            }
        }
    }

    fn handle(&mut self, message: HostDiagnostics, bulk: &[u8]) {
        match message {
            HostDiagnostics::Data if !self.closing => {
                self.pending.extend_from_slice(bulk);
                self.feed();
            }
            HostDiagnostics::EndOfData => {
                if self.terminal {
                    self.pending.push(END_OF_FILE);
                } else {
                    self.closing = true;
                }
                self.feed();
            }
            HostDiagnostics::Resize(size) if self.terminal => {
                if let Some(output) = &self.output {
                    // Gone is what the next read will tell.
                    let _ = terminal::resize(output.as_fd(), size.columns, size.rows);
                }
            }
            HostDiagnostics::Signal(signal) => self.signal(signal),
            _ => {}
        }
    }

    /// Passes on what the child takes.
    fn feed(&mut self) {
        if let Some(input) = &mut self.input {
            while !self.pending.is_empty() {
                match input.write(&self.pending) {
                    Ok(count) => drop(self.pending.drain(..count)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // It does not want any more; whatever it still says is heard.
                    Err(_) => {
                        self.pending.clear();
                        self.closing = true;
                    }
                }
            }
        }
        if self.closing {
            self.input = None;
        }
    }

    /// To the foreground of the terminal, or to the command's own group.
    fn signal(&self, signal: Signal) {
        let signal = match signal {
            Signal::Interrupt => UnixSignal::SIGINT,
            Signal::Terminate => UnixSignal::SIGTERM,
            Signal::HangUp => UnixSignal::SIGHUP,
            Signal::Kill => UnixSignal::SIGKILL,
            Signal::Quit => UnixSignal::SIGQUIT,
        };
        let foreground = match &self.output {
            Some(output) if self.terminal => tcgetpgrp(output).ok(),
            _ => None,
        };
        // Gone already is what was wanted.
        let _ =
            killpg(foreground.filter(|group| group.as_raw() > 1).unwrap_or(self.leader), signal);
    }

    fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(waitid(Id::Pid(self.leader), flags), Ok(WaitStatus::StillAlive))
    }

    /// Ends every process of the session, politely first.
    fn kill_session(&self) {
        for (signal, grace) in [(UnixSignal::SIGHUP, GRACE), (UnixSignal::SIGKILL, GRACE)] {
            let deadline = Instant::now() + grace;
            loop {
                let left = members(self.leader);
                for pid in &left {
                    let _ = kill(*pid, signal);
                    // One that is stopped does not hear.
                    let _ = kill(*pid, UnixSignal::SIGCONT);
                }
                if left.is_empty() {
                    return;
                }
                if Instant::now() >= deadline {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// What lives of a session; those that only wait to be buried do not.
fn members(leader: Pid) -> Vec<Pid> {
    processes()
        .filter(|pid| {
            let Some(line) = read(&format!("/proc/{pid}/stat")) else { return false };
            let dead = line.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
            !dead && text::process(&line).is_some_and(|stat| stat.session == leader.as_raw())
        })
        .map(Pid::from_raw)
        .collect()
}

/// Passes on what there is; whether there was something. A file that is at its end is closed.
fn pass(
    file: &mut Option<File>,
    buffer: &mut [u8],
    talk: &mut Conversation,
    message: &GuestDiagnostics,
) -> Answer<bool> {
    let Some(open) = file else { return Ok(false) };
    match open.read(buffer) {
        Ok(count @ 1..) => {
            talk.say_with(message, &buffer[..count])?;
            Ok(true)
        }
        Err(error)
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
        {
            Ok(false)
        }
        // EIO: nobody has the terminal open any more.
        Ok(_) | Err(_) => {
            *file = None;
            Ok(false)
        }
    }
}

/// As a shell tells it.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Shell and home of root; one that is no shell is not believed.
fn account() -> (String, String) {
    let users = read("/etc/passwd").unwrap_or_default();
    let root = users.lines().find(|line| line.starts_with("root:"));
    let field = |index| root.and_then(|line| line.split(':').nth(index)).unwrap_or_default();
    let (shell, home) = (field(6), field(5));
    let usable = shell.ends_with("sh") && std::path::Path::new(shell).exists();
    (
        if usable { shell.to_owned() } else { "/bin/sh".into() },
        if home.starts_with('/') { home.to_owned() } else { "/".into() },
    )
}
