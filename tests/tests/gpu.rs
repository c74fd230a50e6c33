//! `transom vm gpu-inject`: a made-up driver of a made-up Windows, in a real guest whose encoder it
//! becomes.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use transom_tests::card::pattern;
use transom_tests::{Guest, Relay, Test, Uml, Viewer, machine_test, va};

const LIMIT: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(60);
/// What a still picture has to reach.
const TRUE: f64 = 35.0;
const OLD: &str = "nv_dispi.inf_amd64_0123456789abcdef";
const NEW: &str = "nv_dispi.inf_amd64_fedcba9876543210";

/// A folder laid out as System32, with what one finds there.
struct System32(PathBuf);

impl System32 {
    fn new(test: &Test) -> Result<Self> {
        let this = Self(test.dir().join("System32"));
        // Real libraries, so that the linker has something to read.
        let libva = va::libraries()?.join("libva.so.2");
        this.put("lxss/lib/libdxcore.so", &std::fs::read(&libva)?)?;
        this.put("lxss/lib/readme.txt", b"no library")?;
        this.put("DriverStore/FileRepository/usb.inf_amd64_1/usb.sys", b"MZ")?;
        // The encoder's driver: VA-API in software.
        let driver = std::fs::read(va::driver()?.join("transom_drv_video.so"))?;
        this.put("lxss/lib/transom_drv_video.so", &driver)?;
        this.install(OLD, "31.0.15.4601")?;
        Ok(this)
    }

    fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().context("below the folder")?)?;
        Ok(std::fs::write(path, bytes)?)
    }

    fn install(&self, folder: &str, version: &str) -> Result<()> {
        let folder = format!("DriverStore/FileRepository/{folder}");
        let inf = format!("[Version]\r\nDriverVer = 01/02/2026,{version}\r\n");
        self.put(&format!("{folder}/nv_dispi.inf"), inf.as_bytes())?;
        self.put(&format!("{folder}/nvwgf2umx.dll"), b"MZ")?;
        let library = [&b"\x7fELF"[..], version.as_bytes()].concat();
        self.put(&format!("{folder}/libnvwgf2umx.so"), &library)
    }

    fn uninstall(&self, folder: &str) -> Result<()> {
        Ok(std::fs::remove_dir_all(self.0.join("DriverStore/FileRepository").join(folder))?)
    }
}

fn inject(guest: &Guest, from: &Path) -> Result<Output> {
    let mut command = Relay::command();
    command.args(["vm", "gpu-inject", &guest.address(), "--json", "--from"]).arg(from);
    Ok(command.output()?)
}

fn injected(guest: &Guest, from: &Path) -> Result<Value> {
    let output = inject(guest, from)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "gpu-inject: {said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn refused(output: &Output, why: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains(why), "it said: {said}");
    Ok(())
}

fn copy(guest: &Guest, from: &Path, to: &str) -> Result<Output> {
    let mut command = Relay::command();
    command.args(["diag", &guest.address(), "cp"]).arg(from).arg(format!(":{to}"));
    Ok(command.output()?)
}

/// Waits until the encoder is one whose name begins so; the picture keeps changing meanwhile.
fn wait_encoder(guest: &Guest, name: &str, mut draw: impl FnMut() -> Result<()>) -> Result<()> {
    let end = Instant::now() + SOON;
    loop {
        draw()?;
        let output =
            Relay::command().args(["diag", &guest.address(), "stats", "--json"]).output()?;
        let sample: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let encoder = sample["encoder"].as_str().unwrap_or_default().to_owned();
        if encoder.starts_with(name) {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("the encoder is {encoder:?}, not {name}: {}", guest.agent_log());
        }
    }
}

#[test]
fn a_hosts_gpu_libraries_arrive_and_are_taken_into_use() {
    machine_test("a hosts gpu libraries arrive and are taken into use", LIMIT, |test| {
        let host = System32::new(test)?;
        let guest = Uml::new(test).boot()?;
        // libva is in the guest; a driver for it is not yet.
        va::equip(&guest, "radeonsi")?;
        guest.run("export LIBVA_DRIVERS_PATH=/usr/lib/wsl/lib")?;

        // Off, unless the guest allows it.
        guest.start_agent(&[])?;
        refused(&inject(&guest, &host.0)?, "TRANSOM_GPU=on")?;
        guest.kill_agent("TERM")?;
        guest.run("export TRANSOM_GPU=on")?;
        guest.start_agent(&[])?;

        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("still 1")?;
        // Nothing compresses the pictures of the driver for tests: over UDP, a machine that has
        // little time for the viewer would lose parts of all of them.
        let (relay, url) = Relay::start_rtsp(test, &guest, &[])?;
        let viewer = Viewer::ffmpeg_rtsp(test, &url, "tcp")?;
        viewer.wait_like(&pattern(1, 1280, 720), TRUE, SOON)?;
        wait_encoder(&guest, "screen", || Ok(()))?;

        // Allowed is a place for libraries, and no more.
        let file = host.0.join("lxss/lib/readme.txt");
        refused(&copy(&guest, &file, "/etc/evil")?, "copying files is off")?;
        refused(&copy(&guest, &file, "/usr/lib/wsl/lib/../../../../etc/evil")?, "is off")?;
        refused(&copy(&guest, &file, "/usr/lib/wsl/lib/.hidden")?, "is off")?;
        refused(&inject(&guest, test.dir())?, "no libraries for Linux")?;

        let done = injected(&guest, &host.0)?;
        ensure!(done["sent"] == 3 && done["kept"] == 0, "{done}");
        ensure!(done["drivers"][0]["version"] == "31.0.15.4601", "{done}");
        ensure!(done["facts"]["gpu.files"] == "3" && done["facts"]["gpu.device"] == "no", "{done}");
        guest
            .run(&format!("grep -q ELF31.0.15.4601 /usr/lib/wsl/drivers/{OLD}/libnvwgf2umx.so"))?;
        guest.run(
            "test -f /usr/lib/wsl/lib/libdxcore.so && ! test -e /usr/lib/wsl/lib/readme.txt",
        )?;
        // The linker's cache and links, by the name that the library gives itself.
        guest.run("test -L /usr/lib/wsl/lib/libva.so.2")?;
        guest.run("ldconfig -p | grep -q /usr/lib/wsl/lib/libva.so.2")?;
        guest.run("grep -q ^GALLIUM_DRIVER=d3d12 /etc/transom/gpu")?;

        // The probe ran again, and the stream goes on, by the new encoder.
        let mut n = 1;
        wait_encoder(&guest, "vaapi", || {
            n += 1;
            card.tell(&format!("still {n}")).map(drop)
        })?;
        card.tell("still 7")?;
        viewer.wait_like(&card.expected()?, TRUE, SOON)?;

        // Nothing is sent twice.
        let done = injected(&guest, &host.0)?;
        ensure!(done["sent"] == 0 && done["kept"] == 3 && done["bytes"] == 0, "{done}");

        // Another version: the stale one goes.
        host.uninstall(OLD)?;
        host.install(NEW, "32.0.15.6094")?;
        let done = injected(&guest, &host.0)?;
        ensure!(done["sent"] == 1 && done["kept"] == 2, "{done}");
        ensure!(done["facts"]["gpu.removed"] == "1", "{done}");
        guest.run(&format!(
            "! test -e /usr/lib/wsl/drivers/{OLD} && test -d /usr/lib/wsl/drivers/{NEW}"
        ))?;
        let info = Relay::command().args(["diag", &guest.address(), "info"]).output()?;
        let info = String::from_utf8_lossy(&info.stdout).into_owned();
        ensure!(info.contains("32.0.15.6094") && !info.contains("31.0.15.4601"), "{info}");

        // A relay sees to it when it meets a guest that has none, as after a boot.
        drop((viewer, relay));
        guest.run("rm -r /usr/lib/wsl")?;
        let from = host.0.display().to_string();
        let relay = Relay::start_with(test, &guest, &[("TRANSOM_GPU_FROM", &from)])?;
        relay.wait_log("brought in 3 libraries")?;
        guest.run(&format!("test -f /usr/lib/wsl/drivers/{NEW}/libnvwgf2umx.so"))?;
        Ok(())
    });
}
