//! VA-API in tests: the software driver of `tests/va-driver`, and guests that have it.
//!
//! In: nothing but what `tools/setup test` installs. Out: environments for programs of this
//! machine (by libva's X11 display) and guests with libva, the driver and a vgem node.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::guest::Guest;
use crate::process::Process;
use crate::run::{Test, project_dir};

/// Runs a script of the project and takes the path that it prints last.
fn path_from(script: &str) -> Result<PathBuf> {
    let script = project_dir().join(script);
    let output = Command::new(&script)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(output.status.success(), "{} failed", script.display());
    let stdout = String::from_utf8(output.stdout)?;
    Ok(stdout.lines().last().context("no path was printed")?.into())
}

/// The folder with the driver, built if need be.
pub fn driver() -> Result<PathBuf> {
    path_from("tests/va-driver/build")
}

/// The folder with libva and what it links, of the guests' system.
pub fn libraries() -> Result<PathBuf> {
    Ok(path_from("tests/peer/build")?.join("root/usr/lib/x86_64-linux-gnu"))
}

/// An X server that shows nothing, for libva on machines without a DRM device.
pub struct Display {
    process: Process,
    name: String,
}

impl Display {
    /// Starts one.
    pub fn start(test: &Test) -> Result<Self> {
        // It writes its number when it is ready.
        let told = test.dir().join("display");
        let script = "exec Xvfb -displayfd 3 -screen 0 64x64x24 -nolisten tcp 3>\"$0\"";
        let mut command = Process::command("bash");
        command.args(["-c", script]).arg(&told).stdin(Stdio::null());
        let mut process = Process::spawn(test, "xvfb", &mut command)?;
        let end = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            let number = std::fs::read_to_string(&told).unwrap_or_default();
            if number.ends_with('\n') {
                return Ok(Self { process, name: format!(":{}", number.trim()) });
            }
            ensure!(process.is_running() && std::time::Instant::now() < end, "Xvfb does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has a program encode with the driver in a mode.
    pub fn lend(&self, command: &mut Command, driver: &Path, mode: &str) {
        command
            .env("DISPLAY", &self.name)
            .env("LIBVA_DRIVER_NAME", "transom")
            .env("LIBVA_DRIVERS_PATH", driver)
            .env("TRANSOM_VA_MODE", mode)
            // GStreamer keeps to drivers that it knows, and remembers what it found.
            .env("GST_VAAPI_ALL_DRIVERS", "1")
            .env("GST_REGISTRY_UPDATE", "yes");
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }
}

/// Gives a guest (user-mode Linux) libva, ffmpeg and the driver in a mode: from here on its shell's
/// environment has whatever is started use them.
pub fn equip(guest: &Guest, mode: &str) -> Result<()> {
    let (peer, driver) = (path_from("tests/peer/build")?, driver()?);
    guest.run(&format!(
        "mkdir -p /run/peer /run/va && \
         mount -t hostfs -o hostfs={}/root hostfs /run/peer && \
         mount -t hostfs -o hostfs={} hostfs /run/va && \
         export LIBVA_DRIVER_NAME=transom LIBVA_DRIVERS_PATH=/run/va \
                LD_LIBRARY_PATH=/run/peer/usr/lib/x86_64-linux-gnu && \
         ls /dev/dri/renderD*",
        peer.display(),
        driver.display()
    ))?;
    set_mode(guest, mode)
}

/// A disk with libva and the driver, for guests that mount no folder of this machine.
pub fn disk(test: &Test) -> Result<PathBuf> {
    let (peer, driver) = (path_from("tests/peer/build")?, driver()?);
    let tree = test.dir().join("va");
    std::fs::create_dir(&tree)?;
    let libraries = peer.join("root/usr/lib/x86_64-linux-gnu");
    for name in ["libva.so.2", "libva-drm.so.2"] {
        std::fs::copy(libraries.join(name), tree.join(name))?;
    }
    let driver_file = "transom_drv_video.so";
    std::fs::copy(driver.join(driver_file), tree.join(driver_file))?;
    let disk = test.dir().join("va.squashfs");
    let output = Process::command("mksquashfs")
        .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
        .arg(&tree)
        .arg(&disk)
        .args(["-quiet", "-no-progress", "-all-root"])
        .output()
        .context("cannot run mksquashfs")?;
    ensure!(output.status.success(), "mksquashfs: {}", String::from_utf8_lossy(&output.stderr));
    Ok(disk)
}

/// Changes the driver's mode for what is started from here on.
pub fn set_mode(guest: &Guest, mode: &str) -> Result<()> {
    guest.run(&format!("export TRANSOM_VA_MODE={mode}")).map(drop)
}
