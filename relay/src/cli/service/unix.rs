//! Services of systemd.

use std::process::Command;

use anyhow::{Context, bail};
use transom_relay::service::{
    Plan, Service, ServiceName, State,
    systemd::{self, Scope},
};

pub(super) fn install(service: &Service, dry_run: bool) -> anyhow::Result<(Plan, String)> {
    let scope = Scope::here().context("neither XDG_CONFIG_HOME nor HOME is set")?;
    if !dry_run {
        state(&service.name)?; // says so where there is no systemd
    }
    let name = &service.name;
    let hint = match &scope {
        Scope::System(_) => format!(
            "its log: journalctl -u {name}; links: transom link GUEST --state {}",
            systemd::state(name).display()
        ),
        Scope::User(_) => format!(
            "its log: journalctl --user -u {name}; it runs while you are signed in, and always after \
             `loginctl enable-linger`"
        ),
    };
    Ok((systemd::install(service, &scope), hint))
}

pub(super) fn uninstall(name: &ServiceName) -> anyhow::Result<Plan> {
    let scope = Scope::here().context("neither XDG_CONFIG_HOME nor HOME is set")?;
    Ok(systemd::uninstall(name, &scope))
}

pub(super) fn state(name: &ServiceName) -> anyhow::Result<State> {
    let scope = Scope::here().context("neither XDG_CONFIG_HOME nor HOME is set")?;
    let ask = systemd::ask(name, &scope);
    let output = Command::new(&ask.words[0]).args(&ask.words[1..]).output();
    let output = output.context("there is no systemctl here: services need systemd")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("systemctl: {}", said.lines().next().unwrap_or("it failed without a word"));
    }
    Ok(systemd::read_state(&String::from_utf8_lossy(&output.stdout)))
}
