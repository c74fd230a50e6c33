//! On the hypervisor of Windows: Hyper-V, by PowerShell.

use std::{fs, process::Command};

use anyhow::{Context as _, bail};
use serde_json::json;
use transom_relay::vm::{Definition, Name, hyperv};

pub(super) fn create(vm: &Definition, dry_run: bool) -> anyhow::Result<()> {
    carry_out(&hyperv::create(vm), dry_run)
}

pub(super) fn start(name: &Name, dry_run: bool) -> anyhow::Result<()> {
    carry_out(&hyperv::start(name), dry_run)
}

pub(super) fn stop(name: &Name, now: bool, dry_run: bool) -> anyhow::Result<()> {
    carry_out(&hyperv::stop(name, now), dry_run)
}

pub(super) fn delete(name: &Name, dry_run: bool) -> anyhow::Result<()> {
    carry_out(&hyperv::delete(name), dry_run)
}

pub(super) fn list(json: bool) -> anyhow::Result<()> {
    let machines = hyperv::parse_list(&powershell(&hyperv::list())?);
    if json {
        let machines: Vec<_> = machines
            .iter()
            .map(|m| {
                json!({
                    "name": m.name, "running": m.state == "Running",
                    "guest": format!("hyperv:{}", m.id),
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&machines)?);
        return Ok(());
    }
    for m in machines {
        println!("{:<20} {:<8} hyperv:{}", m.name, m.state.to_lowercase(), m.id);
    }
    Ok(())
}

pub(super) fn address(name: &Name) -> anyhow::Result<()> {
    let machines = hyperv::parse_list(&powershell(&hyperv::list())?);
    let mut named = machines.iter().filter(|machine| machine.name == name.as_str());
    match (named.next(), named.next()) {
        (Some(machine), None) => println!("hyperv:{}", machine.id),
        (None, _) => {
            bail!("there is no VM named {name}. `transom vm list` shows those that are there")
        }
        (Some(_), Some(_)) => bail!("there are several VMs named {name}. Rename one"),
    }
    Ok(())
}

fn carry_out(script: &str, dry_run: bool) -> anyhow::Result<()> {
    print!("{}", if dry_run { script.to_owned() } else { powershell(script)? });
    Ok(())
}

/// Runs a script and yields what it printed; what went wrong is in the error.
fn powershell(script: &str) -> anyhow::Result<String> {
    let file = std::env::temp_dir().join(format!("transom-{}.ps1", std::process::id()));
    // Windows PowerShell takes a file without this mark for one in the system's old code page.
    fs::write(&file, format!("\u{feff}{script}")).context("cannot write a script to run")?;
    let output = Command::new("powershell.exe")
        .args(["-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-File"])
        .arg(&file)
        .output();
    let _ = fs::remove_file(&file);
    let output = output.context("cannot run powershell.exe")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    bail!("{}", String::from_utf8_lossy(&output.stderr).trim())
}
