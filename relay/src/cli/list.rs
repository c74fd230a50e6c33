//! `transom list`: which guests are there, and how they are.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, builder::FalseyValueParser};
use transom_protocol::PORT;
use transom_relay::{
    diag::tell,
    guest::{self, GuestAddr},
    list,
};

/// Behind `transom list --help`.
pub const HELP: &str = "\
Without a GUEST, guests are looked for in run directories and in the command lines of running
hypervisors (QEMU, vhost-device-vsock, Cloud Hypervisor); on Windows among the machines of Hyper-V.

Examples:
  transom list
  transom list --run-dir /run/vm
  transom list vsock:3 vsock:4 --json

Exit status: 0 when every guest answered, 1 when one did not or none was found.";

/// What `transom list` is told.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// unix:PATH, vsock:CID or, on Windows, hyperv:NAME; those that can be found, if none is given.
    guests: Vec<GuestAddr>,

    /// Look here for vsock sockets; may be given several times. Where `transom vm` keeps them, and
    /// /run/transom, otherwise.
    #[arg(long, value_name = "DIR", env = "TRANSOM_RUN_DIR", value_delimiter = ',')]
    run_dir: Vec<PathBuf>,

    /// A JSON line for each guest (docs/json.md).
    #[arg(long, env = "TRANSOM_JSON", value_parser = FalseyValueParser::new())]
    json: bool,

    /// The agent's vsock port in the guests.
    #[arg(long, env = "TRANSOM_PORT", default_value_t = PORT, value_parser = clap::value_parser!(u32).range(1..=0x7fff_ffff))]
    port: u32,
}

/// Finds guests and says how they are.
pub fn run(args: ListArgs) -> anyhow::Result<ExitCode> {
    let run_dirs = if args.run_dir.is_empty() { list::default_run_dirs() } else { args.run_dir };
    let found = list::find(&args.guests, &run_dirs);
    #[cfg(windows)]
    let found = if args.guests.is_empty() {
        let listed = transom_relay::vm::powershell::list().map_err(anyhow::Error::msg)?;
        list::running(&listed)
    } else {
        found
    };
    if found.is_empty() && !args.json {
        eprintln!(
            "transom: no guest was found. {}",
            if cfg!(windows) {
                "`transom vm list` shows the machines that are there, running or not"
            } else {
                "Name one (vsock:CID, unix:PATH), or where its socket is (--run-dir)"
            }
        );
        return Ok(ExitCode::FAILURE);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let entries = runtime.block_on(list::ask(found, args.port));
    runtime.block_on(guest::settle());
    let text = if args.json {
        entries.iter().map(|entry| tell::event("guest", &entry.guest, entry.json())).collect()
    } else {
        list::text(&entries)
    };
    // Whoever has stopped reading has seen enough.
    let _ = tell::say(&text);
    let fine = !entries.is_empty() && entries.iter().all(|entry| entry.answer.is_ok());
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
