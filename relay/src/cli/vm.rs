//! `transom vm`: makes machines that boot the guest image, on the hypervisor of this system.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use transom_relay::vm::{Definition, Memory, Name, Resolution};

pub mod gpu;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;

/// Behind `transom vm --help`.
pub const HELP: &str = "\
Examples:
  A machine at 1920x1080 that boots the image built here, and its screen:
    transom vm create doom --vhdx dist/transom.vhdx --resolution 1920x1080
    transom vm start doom
    transom relay doom=\"$(transom vm address doom)\" --rtp udp://127.0.0.1:5004 --sdp doom.sdp
  What would be run for that:
    transom vm create doom --vhdx dist/transom.vhdx --dry-run
  Done with it:
    transom vm stop doom && transom vm delete doom

Machines are QEMU's on Linux and Hyper-V's on Windows. None has a network adapter: the screen
leaves by vsock.";

/// What `transom vm` is told.
#[derive(Debug, Args)]
pub struct VmArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes a machine, or makes an existing one what it should be.
    Create(CreateArgs),
    /// Starts a machine, unless it runs; says where a relay finds it.
    Start(NameArgs),
    /// Asks the guest to shut down, and switches it off if it does not.
    Stop(StopArgs),
    /// Deletes a machine that does not run; the image stays.
    Delete(NameArgs),
    /// Shows the machines that are there.
    List(ListArgs),
    /// Says where a relay finds a machine.
    Address(AddressArgs),
    /// Brings the libraries of this host's GPU driver into a guest that runs.
    #[command(name = "gpu-inject", after_help = gpu::HELP)]
    GpuInject(gpu::GpuArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// What to call it.
    name: Name,

    /// The image that it boots.
    #[arg(long, value_name = "FILE")]
    vhdx: PathBuf,

    /// Size of its screen.
    #[arg(long, value_name = "WxH", default_value = "1280x720")]
    resolution: Resolution,

    /// Processors.
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u8).range(1..=240))]
    cpus: u8,

    /// Memory, such as 1500M or 2G.
    #[arg(long, value_name = "M", default_value = "1G")]
    memory: Memory,

    /// Give it a part of the host's GPU (Hyper-V); turns Secure Boot off, for the guest's driver of
    /// it is not signed.
    #[arg(long)]
    gpu: bool,

    /// Let the firmware start what nobody signed. The image does not need that.
    #[arg(long)]
    no_secure_boot: bool,

    /// Print the commands instead of running them.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct NameArgs {
    /// Which machine.
    name: Name,

    /// Print the commands instead of running them.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct StopArgs {
    /// Which machine.
    name: Name,

    /// Switch it off without asking the guest.
    #[arg(long)]
    now: bool,

    /// Print the commands instead of running them.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// As a JSON array.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct AddressArgs {
    /// Which machine.
    name: Name,
}

/// Does what was asked.
pub fn run(args: VmArgs) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Create(args) => {
            let CreateArgs { name, vhdx, resolution, cpus, memory, gpu, no_secure_boot, dry_run } =
                args;
            let secure_boot = !no_secure_boot && !gpu;
            let vm = Definition { name, vhdx, resolution, cpus, memory, gpu, secure_boot };
            platform::create(&vm, dry_run)?;
        }
        Verb::Start(NameArgs { name, dry_run }) => platform::start(&name, dry_run)?,
        Verb::Stop(StopArgs { name, now, dry_run }) => platform::stop(&name, now, dry_run)?,
        Verb::Delete(NameArgs { name, dry_run }) => platform::delete(&name, dry_run)?,
        Verb::List(ListArgs { json }) => platform::list(json)?,
        Verb::Address(AddressArgs { name }) => println!("{}", platform::address(&name)?),
        Verb::GpuInject(args) => return gpu::run(args),
    }
    Ok(ExitCode::SUCCESS)
}
