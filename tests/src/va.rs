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
use crate::run::{Test, project_dir, release_dir};

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
        // It writes its number when it is ready, and stays as it is when its last client leaves: the
        // next one would be refused while it starts over.
        let told = test.dir().join("display");
        let script = "exec Xvfb -displayfd 3 -screen 0 64x64x24 -nolisten tcp -noreset 3>\"$0\"";
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

/// The shipped image with libva and the driver laid over it as a package would install them, and the
/// agent's settings: what else is in it, the agent's unit above all, stays as it is.
pub fn image(test: &Test, mode: &str) -> Result<PathBuf> {
    let (peer, driver) = (path_from("tests/peer/build")?, driver()?);
    let tree = test.dir().join("va");
    let (lib, etc) = (tree.join("usr/lib/x86_64-linux-gnu"), tree.join("etc/transom"));
    std::fs::create_dir_all(lib.join("dri"))?;
    std::fs::create_dir_all(&etc)?;
    for name in ["libva.so.2", "libva-drm.so.2"] {
        std::fs::copy(peer.join("root/usr/lib/x86_64-linux-gnu").join(name), lib.join(name))?;
    }
    let name = "transom_drv_video.so";
    std::fs::copy(driver.join(name), lib.join("dri").join(name))?;
    // A file of settings comes before what the machine tells the unit: it is there to use VA-API.
    let settings =
        format!("LIBVA_DRIVER_NAME=transom\nTRANSOM_VA_MODE={mode}\nTRANSOM_ENCODER=auto\n");
    std::fs::write(etc.join("agent"), settings)?;
    let output = Command::new(project_dir().join("image/build"))
        .args(["--output", "transom-va", "--overlay"])
        .arg(&tree)
        .arg("--agent")
        .arg(release_dir().join("transom-agent"))
        .output()
        .context("cannot run image/build")?;
    ensure!(output.status.success(), "image/build: {}", String::from_utf8_lossy(&output.stderr));
    Ok(project_dir().join("dist/transom-va.vhdx"))
}

/// Changes the driver's mode for what is started from here on.
pub fn set_mode(guest: &Guest, mode: &str) -> Result<()> {
    guest.run(&format!("export TRANSOM_VA_MODE={mode}")).map(drop)
}
