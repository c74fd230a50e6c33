//! The relay's program for Windows, under Wine, and the tunnel by which it reaches a guest.
//!
//! In: `target/windows/transom.exe` and Wine (`tools/wine` finds or fetches one). Out: command
//! lines that run the program with a drive C: of the test's own; a loopback port that is a guest's
//! hybrid socket, since Wine knows neither Unix sockets nor vsock nor Hyper-V.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::Process;
use crate::run::{Test, project_dir};

/// A Windows of the test's own; dropped means that all that runs in it is killed.
pub struct Wine {
    prefix: PathBuf,
}

impl Wine {
    /// Makes a drive C: from nothing, which takes some fifteen seconds.
    pub fn new(test: &Test) -> Result<Self> {
        let wine = Self { prefix: test.dir().join("wine") };
        let exe = exe();
        ensure!(exe.is_file(), "no {}: run `make windows`", exe.display());
        let output = wine.run(&["wineboot", "--init"])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "Wine does not start: {said}");
        Ok(wine)
    }

    /// A command line for anything in it.
    pub fn command(&self) -> Command {
        let mut command = Process::command(project_dir().join("tools/wine"));
        command.env("WINEPREFIX", &self.prefix).stdin(Stdio::null());
        // The test's own environment is Linux'.
        command.env_remove("TRANSOM_STATE").env_remove("RUST_LOG");
        command
    }

    /// A command line of `transom.exe`. The process is the program itself: a signal to it is
    /// Ctrl-C, of which Wine makes the console's event.
    pub fn transom(&self) -> Command {
        let mut command = self.command();
        // A path of Linux' would have Wine start a starter.
        command.arg(format!("Z:{}", exe().display()).replace('/', "\\"));
        command
    }

    /// Runs something to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.command().args(arguments).output().context("tools/wine does not run")
    }

    /// A program that does nothing until it is dropped. Without any, Wine ends its services, and what
    /// they are told in that moment is lost.
    pub fn session(&self, test: &Test) -> Result<Process> {
        let mut command = self.command();
        command.arg("cmd.exe").stdin(Stdio::piped()).stdout(Stdio::null());
        Process::spawn(test, "wine-session", &mut command)
    }

    /// Where drive C: is on this side.
    pub fn drive_c(&self) -> PathBuf {
        self.prefix.join("drive_c")
    }

    /// What runs in this Windows.
    fn processes(&self) -> impl Iterator<Item = Pid> {
        let mark = format!("WINEPREFIX={}", self.prefix.display());
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter_map(move |entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            let ours = environment.split(|b| *b == 0).any(|word| word == mark.as_bytes());
            ours.then(|| Pid::from_raw(pid))
        })
    }
}

impl Drop for Wine {
    fn drop(&mut self) {
        // Wine's server outlives its programs for a while. What is killed may start no more.
        for _ in 0..10 {
            let left: Vec<_> = self.processes().collect();
            if left.is_empty() {
                return;
            }
            for pid in left {
                let _ = kill(pid, Signal::SIGKILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

fn exe() -> PathBuf {
    project_dir().join("target/windows/transom.exe")
}

/// Carries connections to a loopback port on to a hybrid socket, for as long as the process lives;
/// yields the guest's address for a relay.
pub fn tunnel(socket: &Path) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("tcp:{}", listener.local_addr()?);
    let socket = socket.to_owned();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            // A guest that is gone: the relay sees its connection close.
            let Ok(far) = UnixStream::connect(&socket) else { continue };
            let _ = near.set_nodelay(true);
            let _ = carry(near, far);
        }
    });
    Ok(address)
}

fn carry(near: TcpStream, far: UnixStream) -> io::Result<()> {
    let (mut from_near, mut to_far) = (near.try_clone()?, far.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from_near, &mut to_far);
        let _ = to_far.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let (mut far, mut near) = (far, near);
        let _ = io::copy(&mut far, &mut near);
        let _ = near.shutdown(Shutdown::Both);
    });
    Ok(())
}
