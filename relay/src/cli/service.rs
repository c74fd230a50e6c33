//! `transom service`: relays that the system starts, on Linux by systemd, on Windows as a service.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::json;
use transom_relay::service::{Plan, Service, ServiceName, Shell, State};

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;

/// Behind `transom service --help`.
pub const HELP: &str = "\
Examples:
  A relay that is there whenever this host is; what stands behind -- is for `transom relay`:
    transom service install -- doom=vsock:3 --http 8889
  On Windows, in an elevated terminal:
    transom service install -- hyperv:doom --http 8889
  What that would do:
    transom service install --dry-run -- doom=vsock:3 --http 8889
  A second one beside it:
    transom service install --name desk -- desk=vsock:4 --rtsp
  Is it there, and done with it:
    transom service status
    transom service uninstall

On Linux it is a unit of systemd, this user's own, or the system's if root installs it. On
Windows it runs as an account of its own that is a member of Hyper-V Administrators, and keeps
its secret and its log in %ProgramData%\\transom\\NAME.

Exit status of `status`: 0 it runs, 3 it does not, 4 there is none.";

/// What `transom service` is told.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Installs a relay as a service, and starts it.
    Install(InstallArgs),
    /// Stops it and removes it; the secret behind links stays.
    Uninstall(UninstallArgs),
    /// Tells whether it is there, and runs.
    Status(StatusArgs),
    /// What the service manager of Windows starts.
    #[cfg(windows)]
    #[command(hide = true)]
    Run(windows::RunArgs),
}

#[derive(Debug, Args)]
struct NameArgs {
    /// Which, where there are several.
    #[arg(long, value_name = "NAME", default_value = "relay")]
    name: ServiceName,
}

#[derive(Debug, Args)]
struct InstallArgs {
    #[command(flatten)]
    name: NameArgs,

    /// Print what would be done instead of doing it.
    #[arg(long)]
    dry_run: bool,

    /// What `transom relay` is to be told. Settings in the environment are not taken along.
    #[arg(last = true, required = true, value_name = "RELAY ARGUMENTS")]
    relay: Vec<String>,
}

#[derive(Debug, Args)]
struct UninstallArgs {
    #[command(flatten)]
    name: NameArgs,

    /// Print what would be done instead of doing it.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    name: NameArgs,

    /// As a JSON object.
    #[arg(long)]
    json: bool,
}

/// It does not run, as systemctl and the LSB have it.
const STOPPED: u8 = 3;
/// There is none.
const MISSING: u8 = 4;

/// Does what was asked.
pub fn run(args: ServiceArgs) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Install(InstallArgs { name: NameArgs { name }, dry_run, relay }) => {
            // A service that cannot start is refused where somebody reads why.
            let words = ["transom", "relay"].into_iter().chain(relay.iter().map(String::as_str));
            if let Err(e) = super::Cli::try_parse_from(words) {
                e.exit();
            }
            let program = std::env::current_exe()?;
            let folder = std::env::current_dir()?;
            let service = Service { name, program, relay, folder };
            let (plan, hint) = platform::install(&service, dry_run)?;
            if carry_out(&plan, dry_run)? {
                println!("{} is installed and started", service.name);
                eprintln!("{hint}");
            }
        }
        Verb::Uninstall(UninstallArgs { name: NameArgs { name }, dry_run }) => {
            if !dry_run && platform::state(&name)? == State::Missing {
                anyhow::bail!("there is no service {name}");
            }
            if carry_out(&platform::uninstall(&name)?, dry_run)? {
                println!("{name} is removed");
            }
        }
        Verb::Status(StatusArgs { name: NameArgs { name }, json }) => {
            return Ok(tell(&name, &platform::state(&name)?, json));
        }
        #[cfg(windows)]
        Verb::Run(args) => return windows::run(args),
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether it was done, and not just printed.
fn carry_out(plan: &Plan, dry_run: bool) -> anyhow::Result<bool> {
    if dry_run {
        print!("{}", plan.print(if cfg!(windows) { Shell::Windows } else { Shell::Posix }));
    } else {
        plan.carry_out()?;
    }
    Ok(!dry_run)
}

fn tell(name: &ServiceName, state: &State, json: bool) -> ExitCode {
    let (word, pid, status) = match state {
        State::Running(pid) => ("running", Some(*pid), 0),
        State::Stopped(word) => (word.as_str(), None, STOPPED),
        State::Missing => ("not installed", None, MISSING),
    };
    if json {
        println!("{}", json!({ "name": name.to_string(), "state": word, "pid": pid }));
    } else {
        println!("{name}: {word}{}", pid.map(|pid| format!(", process {pid}")).unwrap_or_default());
    }
    ExitCode::from(status)
}

impl ServiceArgs {
    /// Where this run has to log, other than to the terminal.
    #[cfg(windows)]
    pub fn log(&self) -> Option<&std::path::Path> {
        match &self.verb {
            Verb::Run(args) => Some(args.state()),
            _ => None,
        }
    }
}
