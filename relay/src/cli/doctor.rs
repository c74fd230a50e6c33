//! `transom doctor --host`: what this host lacks to run guests. `transom diag GUEST doctor` is for
//! guests.

use std::process::ExitCode;

use clap::{Args, builder::FalseyValueParser};
use transom_protocol::diagnostics::Verdict;
use transom_relay::{
    diag::{doctor, tell},
    vm::{Name, host},
};

/// Behind `transom doctor --help`.
pub const HELP: &str = "\
On Windows it asks Hyper-V, about a machine too if one is named; on Linux it looks at KVM, vsock,
QEMU and its firmware. Nothing is changed.

Examples:
  transom doctor --host
  transom doctor --host doom
  transom doctor --host --json | jq -r '.checks[] | select(.verdict != \"pass\") | .remedy'

Exit status: 0 all is well, 4 there is a blemish, 1 something does not work.";

/// What `transom doctor` is told.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Examine this host.
    #[arg(long, required = true)]
    host: bool,

    /// A machine of Hyper-V to examine as well.
    name: Option<Name>,

    /// As a JSON object.
    #[arg(long, env = "TRANSOM_JSON", value_parser = FalseyValueParser::new())]
    json: bool,
}

/// There is a blemish.
const BLEMISH: u8 = 4;

/// Examines and tells.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let report = host::examine(args.name.as_ref());
    if args.json {
        tell::say(&format!("{}\n", report.json()))?;
    } else {
        let colours = tell::colours();
        let text: String = report.checks.iter().map(|check| doctor::text(check, colours)).collect();
        tell::say(&format!("{text}\n{}", report.summary()))?;
    }
    Ok(match report.verdict() {
        Verdict::Fail => ExitCode::FAILURE,
        Verdict::Warn => ExitCode::from(BLEMISH),
        Verdict::Pass | Verdict::Skip => ExitCode::SUCCESS,
    })
}
