//! Services of Windows.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Args, Parser};
use transom_relay::{
    relay::Ending,
    service::{Plan, Service, ServiceName, State, manager, scm},
};

use crate::cli::{Cli, Command, relay};

/// What the service manager runs: the plan of [`scm`] puts it together.
#[derive(Debug, Args)]
pub struct RunArgs {
    name: ServiceName,

    /// Where relative paths begin: the manager starts everything in System32.
    #[arg(long)]
    folder: PathBuf,

    /// Where its secret and its log lie.
    #[arg(long)]
    state: PathBuf,

    #[arg(last = true, required = true)]
    relay: Vec<String>,
}

impl RunArgs {
    pub(super) fn state(&self) -> &Path {
        &self.state
    }
}

pub(super) fn install(service: &Service, dry_run: bool) -> anyhow::Result<(Plan, String)> {
    let users = std::env::var_os("USERPROFILE").map(PathBuf::from);
    if !dry_run && scm::is_private(&service.program, users.as_deref()) {
        bail!(
            "{} is open to you alone, and a service is not you: put it into a folder such as \
             C:\\Program Files\\Transom, and install it from there",
            service.program.display()
        );
    }
    let state = state_folder(&service.name)?;
    let hint = format!(
        "its log: {}; links: transom link GUEST --state {}",
        state.join("transom.log").display(),
        state.display()
    );
    Ok((scm::install(service, &state), hint))
}

pub(super) fn uninstall(name: &ServiceName) -> anyhow::Result<Plan> {
    Ok(scm::uninstall(name))
}

pub(super) fn state(name: &ServiceName) -> anyhow::Result<State> {
    Ok(manager::state(name)?)
}

fn state_folder(name: &ServiceName) -> anyhow::Result<PathBuf> {
    let data = std::env::var_os("ProgramData").context("ProgramData is not set")?;
    Ok(scm::state(Path::new(&data), name))
}

/// Relays until the manager or the relay itself ends it.
pub(super) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let RunArgs { name, folder, state, relay } = args;
    if let Err(e) = std::env::set_current_dir(&folder) {
        log::warn!("cannot begin in {}: {e}", folder.display());
    }
    let mut words: Vec<OsString> = vec!["transom".into(), "relay".into()];
    if !relay.iter().any(|word| word == "--state" || word.starts_with("--state=")) {
        words.extend(["--state".into(), state.into_os_string()]);
    }
    let parsed = Cli::try_parse_from(words.into_iter().chain(relay.into_iter().map(Into::into)));
    let args = match parsed.map(|cli| cli.command) {
        Ok(Command::Relay(args)) => args,
        Ok(_) => bail!("a service relays, and nothing else"),
        Err(e) => {
            log::error!("{e}");
            bail!("{e}");
        }
    };
    manager::serve(name, move || match relay::relay(args) {
        Ok(Ending::Asked) => 0,
        Ok(Ending::TakenOver) => 3,
        Err(e) => {
            log::error!("{e:#}");
            1
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
