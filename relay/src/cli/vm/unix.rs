//! On the hypervisor of Linux: QEMU.

use serde_json::json;
use transom_relay::vm::{Definition, Name, qemu::Accelerator, run};

fn say(text: &str) {
    eprintln!("vm: {text}");
}

pub(super) fn create(vm: &Definition, dry_run: bool) -> anyhow::Result<()> {
    if dry_run {
        return print(vm);
    }
    run::create(vm)?;
    println!("{} is there. Start it with: transom vm start '{}'", vm.name, vm.name);
    Ok(())
}

/// Creating runs nothing: what it leads to is shown.
fn print(vm: &Definition) -> anyhow::Result<()> {
    let plan = run::plan(vm, Accelerator::Kvm)?;
    println!("# The definition and a copy of the firmware's variables go to");
    println!("#   {}", plan.places.state.display());
    println!(
        "# `transom vm start` then runs this (without KVM: -accel tcg,thread=multi -cpu max):"
    );
    if let Some(daemon) = plan.vsock {
        println!("{daemon} &");
    }
    println!("{}", plan.qemu);
    Ok(())
}

pub(super) fn start(name: &Name, dry_run: bool) -> anyhow::Result<()> {
    if dry_run {
        return print(&run::definition(name)?);
    }
    println!("{}", run::start(name, &mut say)?);
    Ok(())
}

pub(super) fn stop(name: &Name, now: bool, dry_run: bool) -> anyhow::Result<()> {
    if dry_run {
        run::definition(name)?;
        let order = if now { "quit" } else { "system_powerdown, and quit after a minute" };
        println!("# to QEMU's monitor: {order}");
    } else if !run::stop(name, now, &mut say)? {
        say(&format!("{name} was not running"));
    }
    Ok(())
}

pub(super) fn delete(name: &Name, dry_run: bool) -> anyhow::Result<()> {
    let vm = run::definition(name)?;
    if dry_run {
        let plan = run::plan(&vm, Accelerator::Kvm)?;
        println!("rm -r {} {}", plan.places.state.display(), plan.places.run.display());
    } else {
        run::delete(name)?;
    }
    Ok(())
}

pub(super) fn list(json: bool) -> anyhow::Result<()> {
    let machines = run::list();
    if json {
        let machines: Vec<_> = machines
            .iter()
            .map(|m| {
                json!({
                    "name": m.definition.name.as_str(), "running": m.running, "guest": m.guest,
                    "vhdx": m.definition.vhdx, "resolution": m.definition.resolution.to_string(),
                    "cpus": m.definition.cpus, "memory_mib": m.definition.memory.0,
                    "secure_boot": m.definition.secure_boot, "gpu": m.definition.gpu,
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&machines)?);
        return Ok(());
    }
    if machines.is_empty() {
        say("there are none. `transom vm create --help` shows how to make one");
    }
    for m in machines {
        let state = if m.running { "running" } else { "off" };
        let vm = &m.definition;
        println!(
            "{:<20} {state:<8} {:<10} {}",
            vm.name.as_str(),
            vm.resolution.to_string(),
            m.guest
        );
    }
    Ok(())
}

pub(super) fn address(name: &Name) -> anyhow::Result<String> {
    Ok(run::plan(&run::definition(name)?, Accelerator::Kvm)?.guest)
}
