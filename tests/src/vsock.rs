//! The guest's vsock device where the host kernel has none: `vhost-device-vsock`.
//!
//! Gives the machine a vhost-user socket and the host a hybrid Unix socket, on which a
//! client says `CONNECT <port>\n`, reads `OK <n>\n` and is through to the guest.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::Process;
use crate::run::{Test, cache_dir};

/// Only guests that share one daemon could mistake each other's number.
const GUEST_CID: u32 = 3;

/// A running daemon for one guest.
pub struct VsockDevice {
    process: Process,
    device: PathBuf,
    hybrid: PathBuf,
}

impl VsockDevice {
    /// Starts the daemon; `name` keeps the sockets of several guests of a test apart.
    pub(crate) fn start(test: &Test, name: &str) -> Result<Self> {
        let device = test.socket(&format!("{name}.device"));
        let hybrid = Self::hybrid_of(test, name);
        // Left by a daemon that was killed; it would refuse to bind.
        let _ = std::fs::remove_file(&device);
        let _ = std::fs::remove_file(&hybrid);
        let process = Process::spawn(
            test,
            &format!("{name}-vsock"),
            Process::command(program()?)
                .arg("--vm")
                .arg(format!(
                    "guest-cid={GUEST_CID},socket={},uds-path={}",
                    device.display(),
                    hybrid.display()
                ))
                .stdin(Stdio::null())
                .stdout(Stdio::null()),
        )?;
        let mut this = Self { process, device, hybrid };
        let end = Instant::now() + Duration::from_secs(10);
        // The daemon says nothing when it is ready; the socket file is the event.
        while !this.device.exists() {
            ensure!(this.process.is_running(), "{}", this.process.stderr().text().trim());
            ensure!(Instant::now() < end, "vhost-device-vsock made no socket within 10 s");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(this)
    }

    /// Where the socket for clients on the host will be.
    pub(crate) fn hybrid_of(test: &Test, name: &str) -> PathBuf {
        test.socket(&format!("{name}.vsock"))
    }

    /// The socket for the machine.
    pub(crate) fn device(&self) -> &Path {
        &self.device
    }

    /// The socket for clients on the host.
    pub fn hybrid(&self) -> &Path {
        &self.hybrid
    }
}

/// Connects to `port` of the guest behind the hybrid socket `path`.
pub(crate) fn connect(path: &Path, port: u32, deadline: Duration) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(path)
        .with_context(|| format!("no hybrid socket at {}", path.display()))?;
    stream.set_read_timeout(Some(deadline))?;
    // In one write: the daemon takes what the first read yields for the whole line.
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).context("the vsock device hung up")?;
    let mut line = Vec::new();
    let mut byte = [0];
    // Byte by byte: what follows the line belongs to the caller.
    while line.last() != Some(&b'\n') && line.len() < 32 {
        match stream.read(&mut byte) {
            Ok(1) => line.push(byte[0]),
            Ok(_) => bail!("nobody listens on port {port} of the guest"),
            Err(e) => return Err(e).context("no answer from the guest's vsock"),
        }
    }
    ensure!(line.starts_with(b"OK "), "odd answer from the vsock device: {line:?}");
    stream.set_read_timeout(None)?;
    Ok(stream)
}

fn program() -> Result<PathBuf> {
    let root = cache_dir()?.join("vhost-device-vsock");
    let cached = root.join("bin/vhost-device-vsock");
    let in_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|d| d.join("vhost-device-vsock")).find(|p| p.exists())
    });
    [Some(cached), in_path].into_iter().flatten().find(|p| p.exists()).with_context(|| {
        format!(
            "vhost-device-vsock is missing: cargo install --locked --root {} vhost-device-vsock",
            root.display()
        )
    })
}
