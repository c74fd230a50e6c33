//! `transom vm`: the machines that users make, from creation to deletion; and the image in machines
//! that `transom vm` does not make: other disks, network adapters, no Secure Boot.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use transom_tests::{Bus, Qemu, Relay, Test, Viewer, free_udp_port, machine_test, project_dir};

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
        let facts = facts(&address)?;
        ensure!(facts["firmware.secure-boot"] == true, "the guest: {facts}");
        let lockdown = facts["kernel.lockdown"].as_str().unwrap_or_default();
        ensure!(lockdown.contains("[integrity]"), "lockdown is {lockdown}");
        ensure!(facts["disk.vda.bus"] == "virtio" && facts["disk.root"] == "vda", "{facts}");
        ensure!(facts["network.adapters"] == 0 && facts["network.way-out"] == false, "{facts}");
        drop((viewer, relay));

        let stopped = machines.vm(&["stop", "doom"])?;
        let said = text(&stopped.stderr);
        ensure!(stopped.status.success() && !said.contains("switching it off"), "{said}");
        ensure!(machines.console("doom").contains("Power down"), "it was shut down in order");
        let listed: Value = serde_json::from_str(&machines.good(&["list", "--json"])?)?;
        ensure!(listed[0]["name"] == "doom" && listed[0]["running"] == false, "{listed}");
        machines.good(&["delete", "doom"])?;
        machines.refused(&["delete", "doom"], "there is no VM named doom")?;
        ensure!(left_over(&machines.run)?.is_empty(), "nothing is left behind");
        ensure!(Path::new(&image).exists(), "the image stays");
        Ok(())
    });
}

/// What the agent tells of its guest.
fn facts(address: &str) -> Result<Value> {
    let output = Relay::command().args(["diag", address, "info", "--json"]).output()?;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "info: {err}");
    let mut told: Value = serde_json::from_str(&out).with_context(|| out.clone())?;
    Ok(told["facts"].take())
}

/// The same file without Secure Boot, from other disks than virtio's, with one network adapter and
/// with several: the picture streams, and nothing of the guest is on a network.
fn boots_elsewhere(name: &str, bus: Bus, (disk, on): (&str, &str), adapters: u8) {
    machine_test(name, LIMIT, |test| {
        let guest = Qemu::new(test).bus(bus).adapters(adapters).boot()?;
        let relay = Relay::start(test, &guest)?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        viewer.wait_frames(10, BOOT)?;
        let facts = facts(&guest.address())?;
        ensure!(facts["firmware.uefi"] == true, "{facts}");
        ensure!(facts["firmware.secure-boot"] == false, "{facts}");
        ensure!(facts["disk.root"] == disk, "{facts}");
        ensure!(facts[format!("disk.{disk}.bus")] == on, "{facts}");
        ensure!(facts["network.adapters"] == adapters, "{facts}");
        let unused = facts["network.adapter.0"].as_str().unwrap_or_default();
        ensure!(unused == "PCI 8086:10d3, not in use", "{facts}");
        ensure!(facts["network.way-out"] == false, "{facts}");
        let failed = guest.run("systemctl --failed --no-legend --plain")?;
        ensure!(failed.is_empty(), "failed units: {failed}");
        Ok(())
    });
}

#[test]
fn it_boots_from_sata_with_two_network_adapters() {
    boots_elsewhere("it boots from sata with two network adapters", Bus::Sata, ("sda", "SATA"), 2);
}

#[test]
fn it_boots_from_nvme_with_a_network_adapter() {
    boots_elsewhere("it boots from nvme with a network adapter", Bus::Nvme, ("nvme0n1", "NVMe"), 1);
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
