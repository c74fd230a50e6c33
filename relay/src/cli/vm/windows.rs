//! On the hypervisor of Windows: Hyper-V, by PowerShell.

use anyhow::{anyhow, bail};
use serde_json::json;
use transom_relay::vm::{Definition, Name, hyperv, powershell};

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
    let machines = powershell::list().map_err(|e| anyhow!(e))?;
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

pub(super) fn address(name: &Name) -> anyhow::Result<String> {
    let machines = powershell::list().map_err(|e| anyhow!(e))?;
    let mut named = machines.iter().filter(|machine| machine.name == name.as_str());
    match (named.next(), named.next()) {
        (Some(machine), None) => Ok(format!("hyperv:{}", machine.id)),
        (None, _) => {
            bail!("there is no VM named {name}. `transom vm list` shows those that are there")
        }
        (Some(_), Some(_)) => bail!("there are several VMs named {name}. Rename one"),
    }
}

fn carry_out(script: &str, dry_run: bool) -> anyhow::Result<()> {
    let said =
        if dry_run { script.into() } else { powershell::run(script).map_err(|e| anyhow!(e))? };
    print!("{said}");
    Ok(())
}
