//! The command line: one file per subcommand, each with its arguments, its help and its `run`.
//!
//! To add one: a file here, a variant of [`Command`], an arm in [`run`].

use std::{io::Write, process::ExitCode};

use clap::{Parser, Subcommand};
#[cfg(windows)]
use transom_relay::service::log::LogFile;
use transom_relay::status::LogWriter;

mod bench;
mod diag;
mod doctor;
mod link;
mod list;
mod manual;
mod relay;
mod rtsp;
mod service;
mod shutdown;
mod state;
mod vm;
mod web;

/// Brings the screen of a virtual machine to viewers on its host and beyond.
#[derive(Debug, Parser)]
#[command(name = "transom", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one in each run")]
enum Command {
    /// Takes a guest's screen and sends it on as RTP.
    #[command(after_help = relay::HELP)]
    Relay(relay::RelayArgs),
    /// Makes a link that opens a guest in a browser, or takes links back.
    #[command(after_help = link::HELP)]
    Link(link::LinkArgs),
    /// Looks into a guest over vsock, and tells what is wrong with it.
    #[command(after_help = diag::HELP)]
    Diag(diag::DiagArgs),
    /// Examines this host: what does it lack to run guests?
    #[command(after_help = doctor::HELP)]
    Doctor(doctor::DoctorArgs),
    /// Makes, starts, stops and deletes machines that boot the guest image.
    #[command(after_help = vm::HELP)]
    Vm(vm::VmArgs),
    /// Has the system start a relay: installs it as a service.
    #[command(after_help = service::HELP)]
    Service(service::ServiceArgs),
    /// Lists the guests that can be found from here, and how they are.
    #[command(after_help = list::HELP)]
    List(list::ListArgs),
    /// Measures what this machine makes of the relay, or what a guest makes of its screen.
    #[command(after_help = bench::HELP)]
    Bench(bench::BenchArgs),
    /// Writes man pages and completions.
    #[command(hide = true)]
    Manual(manual::ManualArgs),
}

impl Cli {
    /// Where log lines go: to stderr, but a service of Windows has none.
    pub fn log(&self) -> Box<dyn Write + Send> {
        #[cfg(windows)]
        if let Command::Service(args) = &self.command
            && let Some(folder) = args.log()
            && let Ok(file) = LogFile::open(folder)
        {
            return Box::new(file);
        }
        Box::new(LogWriter)
    }
}

/// Does what the command line asks for.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Relay(args) => relay::run(args),
        Command::Link(args) => link::run(&args),
        Command::Diag(args) => diag::run(args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Vm(args) => vm::run(args),
        Command::Service(args) => service::run(args),
        Command::List(args) => list::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Manual(args) => manual::run(args),
    }
}
