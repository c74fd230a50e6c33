//! `transom vm`: the machines that users make, from creation to deletion.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use transom_tests::{Relay, Test, Viewer, free_udp_port, machine_test, project_dir};

/// An emulated boot, twice if KVM is tried first.
const LIMIT: Duration = Duration::from_secs(600);
const BOOT: Duration = Duration::from_secs(300);

/// Machines in a folder of the test's own; those that are left when it ends are switched off.
struct Machines<'a> {
    test: &'a Test,
    run: PathBuf,
}

impl Machines<'_> {
    fn vm(&self, arguments: &[&str]) -> Result<Output> {
        let output = Relay::command()
            .arg("vm")
            .args(arguments)
            .env("XDG_STATE_HOME", self.state())
            .env("XDG_RUNTIME_DIR", &self.run)
            // The cache is where it was: what it holds is no machine's.
            .stdin(Stdio::null())
            .output()?;
        Ok(output)
    }

    fn state(&self) -> PathBuf {
        self.test.dir().join("state")
    }

    fn good(&self, arguments: &[&str]) -> Result<String> {
        let output = self.vm(arguments)?;
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        ensure!(output.status.success(), "vm {arguments:?} failed: {err}");
        Ok(out)
    }

    fn refused(&self, arguments: &[&str], why: &str) -> Result<()> {
        let output = self.vm(arguments)?;
        let err = text(&output.stderr);
        ensure!(output.status.code() == Some(1), "vm {arguments:?}: {:?}", output.status);
        ensure!(err.contains(why) && err.lines().count() == 1, "vm {arguments:?} said: {err}");
        Ok(())
    }

    fn console(&self, name: &str) -> String {
        let path = self.state().join("transom/vms").join(name).join("console.log");
        text(&std::fs::read(path).unwrap_or_default())
    }
}

impl Drop for Machines<'_> {
    fn drop(&mut self) {
        let _ = self.vm(&["stop", "--now", "doom"]);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn image() -> String {
    project_dir().join("dist/transom.vhdx").display().to_string()
}

fn machines(test: &Test) -> Result<Machines<'_>> {
    let run = test.socket("run");
    std::fs::create_dir(&run)?;
    Ok(Machines { test, run })
}

#[test]
fn a_machine_is_made_started_watched_stopped_and_deleted() {
    machine_test("a machine is made started watched stopped and deleted", LIMIT, |test| {
        let machines = machines(test)?;
        let image = image();
        machines.good(&["create", "doom", "--vhdx", &image])?;
        machines.good(&["create", "doom", "--vhdx", &image, "--resolution", "1024x768"])?;
        let address = machines.good(&["start", "doom"])?.trim().to_owned();
        ensure!(machines.good(&["start", "doom"])?.trim() == address, "starting again is no harm");
        ensure!(machines.good(&["address", "doom"])?.trim() == address, "one address");
        machines.refused(&["delete", "doom"], "is running. Stop it first")?;
        machines.refused(&["create", "doom", "--vhdx", &image], "is running. Stop it first")?;

        let relay = Relay::start_at(test, &address, free_udp_port()?)?;
        relay.wait(BOOT, "a picture", |line| {
            (line["state"] == "streaming" && line["width"] == 1024).then_some(())
        })?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        viewer.wait_frames(10, BOOT)?;
        // The whole chain was verified: shim, GRUB and kernel, by keys of the firmware.
        let console = machines.console("doom");
        ensure!(console.contains("Secure boot enabled"), "no Secure Boot:\n{console}");
        drop((viewer, relay));

        let stopped = machines.vm(&["stop", "doom"])?;
        let said = text(&stopped.stderr);
        ensure!(stopped.status.success() && !said.contains("switching it off"), "{said}");
        ensure!(machines.console("doom").contains("Power down"), "it was shut down in order");
        let listed: serde_json::Value = serde_json::from_str(&machines.good(&["list", "--json"])?)?;
        ensure!(listed[0]["name"] == "doom" && listed[0]["running"] == false, "{listed}");
        machines.good(&["delete", "doom"])?;
        machines.refused(&["delete", "doom"], "there is no VM named doom")?;
        ensure!(left_over(&machines.run)?.is_empty(), "nothing is left behind");
        ensure!(Path::new(&image).exists(), "the image stays");
        Ok(())
    });
}

fn left_over(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = std::fs::read_dir(run.join("transom")).context("the folder of machines")?;
    folder.map(|entry| Ok(entry?.path())).collect()
}

#[test]
fn what_cannot_be_is_refused_in_one_sentence() {
    machine_test("what cannot be is refused in one sentence", LIMIT, |test| {
        let machines = machines(test)?;
        machines.refused(&["create", "doom", "--vhdx", "/nowhere.vhdx"], "there is no image")?;
        machines.refused(&["start", "doom"], "there is no VM named doom")?;
        machines.refused(&["create", "d", "--gpu", "--vhdx", &image()], "needs Hyper-V")?;
        let plan = machines.good(&["create", "doom", "--dry-run", "--vhdx", &image()])?;
        ensure!(plan.contains("qemu-system-x86_64 \\\n"), "{plan}");
        ensure!(machines.good(&["list"])?.is_empty(), "a dry run makes nothing");
        // A folder in the way is no machine.
        std::fs::create_dir_all(machines.state().join("transom/vms/odd"))?;
        std::fs::write(machines.state().join("transom/vms/odd/vm.json"), "{]")?;
        machines.refused(&["start", "odd"], "vm.json")?;
        ensure!(machines.good(&["list"])?.is_empty(), "what does not read is left out");
        Ok(())
    });
}
