//! The program `transom`: logging, and the subcommand that was asked for.

use std::process::ExitCode;

use clap::Parser;

mod cli;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .target(env_logger::Target::Pipe(cli.log()))
        .format_target(false)
        .init();
    cli::run(cli).unwrap_or_else(|e| {
        eprintln!("transom: {e:#}");
        ExitCode::FAILURE
    })
}
