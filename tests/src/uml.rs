//! The fast guest: user-mode Linux with VKMS as its screen, vgem, vsock and uinput.
//!
//! In: the image's unpacked root tree, the cached kernel. Out: a [`Guest`] about a second
//! later. There is no VT and no QEMU here: what needs those is tested with [`crate::Qemu`].

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::guest::{Guest, Machine};
use crate::process::Process;
use crate::run::{Test, project_dir, release_dir};
use crate::shell::Shell;
use crate::transcript::Transcript;
use crate::vsock::VsockDevice;

/// The number that virtio gives to a vsock device.
const VIRTIO_ID_VSOCK: u32 = 19;
/// A guest is up in one second; the rest is for a machine under load.
const BOOT_DEADLINE: Duration = Duration::from_secs(30);

/// What a user-mode Linux guest shall be like.
pub struct Uml<'a> {
    test: &'a Test,
    name: String,
    memory_mb: u32,
    cpus: u32,
    cursor_plane: bool,
}

impl<'a> Uml<'a> {
    /// One processor, 1 GB.
    pub fn new(test: &'a Test) -> Self {
        Self { test, name: "guest".into(), memory_mb: 1024, cpus: 1, cursor_plane: true }
    }

    /// A name of its own, where a test has more than one guest.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Memory in MB.
    pub fn memory_mb(mut self, memory_mb: u32) -> Self {
        self.memory_mb = memory_mb;
        self
    }

    /// One or two; with two, each is slower.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// A card with one primary plane alone, in memory that is mapped cached: hyperv_drm's shape, but
    /// for vblanks.
    pub fn without_cursor_plane(mut self) -> Self {
        self.cursor_plane = false;
        self
    }

    /// Boots, once more if it never comes up, and returns when its shell answers.
    pub fn boot(self) -> Result<Guest> {
        let kernel = kernel()?;
        let root = root()?;
        self.boot_once(&kernel, &root).or_else(|error| {
            eprintln!("{}: did not come up, booting it again: {error:#}", self.name);
            self.boot_once(&kernel, &root)
        })
    }

    fn boot_once(&self, kernel: &Path, root: &Path) -> Result<Guest> {
        let (test, name) = (self.test, &self.name);
        let vsock = VsockDevice::start(test, name)?;
        let init = format!(
            "mount -t hostfs -o hostfs={} hostfs /mnt && exec /bin/sh /mnt/init {} {} </dev/tty0 >/dev/tty0 2>&1",
            project_dir().join("tests/uml").display(),
            release_dir().display(),
            test.dir().display(),
        );
        let mut command = Process::command(kernel);
        command
            .arg(format!("mem={}M", self.memory_mb))
            .arg(format!("ncpus={}", self.cpus))
            .args(["rootfstype=hostfs", "ro"])
            .arg(format!("rootflags={}", root.display()))
            // Its control socket, apart from those of other guests and users.
            .arg(format!("uml_dir={}/", test.socket("").display()))
            .arg(format!("umid={name}"))
            .arg(format!("virtio_uml.device={}:{VIRTIO_ID_VSOCK}", vsock.device().display()))
            // The shell has the first console for itself, the kernel talks on stderr.
            .args(["con=null", "con0=fd:0,fd:1", "ssl=null", "ssl0=null,fd:2", "console=ttyS0"])
            .arg(format!("vkms.enable_cursor={}", u8::from(self.cursor_plane)))
            // Twice as fast as ptrace.
            .arg("seccomp=on")
            .args(["panic=1", "init=/bin/sh", "--", "-c"])
            .arg(format!("\"{init}\""))
            // The guest's memory is a file there; sparse, and gone with the guest.
            .env("TMPDIR", "/dev/shm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::spawn(test, &format!("{name}-console"), &mut command)?;
        let input = process.child().stdin.take().context("stdin was piped")?;
        let output = process.child().stdout.take().context("stdout was piped")?;
        let output = Transcript::of(output, &test.dir().join(format!("{name}-shell.log")))?;
        let shell = Shell::on(input, output);
        shell
            .wait_ready(BOOT_DEADLINE)
            .with_context(|| format!("the kernel said:\n{}", tail(&process.stderr().text())))?;
        let console = process.stderr().clone();
        let guest = Guest::new(test, name, Machine::Uml { process }, Some(vsock), shell, console);
        Ok(guest)
    }
}

/// Builds the kernel if the cache has none, and finds it.
fn kernel() -> Result<PathBuf> {
    let script = project_dir().join("tests/uml/build-kernel");
    let output = Command::new(&script)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(output.status.success(), "{} failed", script.display());
    let stdout = String::from_utf8(output.stdout)?;
    Ok(stdout.lines().last().context("build-kernel printed no path")?.into())
}

/// The unpacked root tree that the image was made from.
fn root() -> Result<PathBuf> {
    let root = std::env::var_os("TRANSOM_TEST_ROOT")
        .map_or_else(|| project_dir().join("build/rootfs"), PathBuf::from);
    ensure!(
        root.join("usr/bin/mount").exists(),
        "no root tree at {}: run `make image`",
        root.display()
    );
    Ok(root)
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
