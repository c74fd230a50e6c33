//! `transom vm gpu-inject`: the libraries of the host's GPU driver, into a guest that runs.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::Context;
use clap::{Args, builder::FalseyValueParser};
use serde_json::json;
use transom_protocol::PORT;
use transom_relay::{
    diag::{Client, tell},
    guest::{self, GuestAddr},
    vm::gpu::{self, Sources},
};

use crate::cli::diag::bytes_bar;

/// Behind `transom vm gpu-inject --help`.
pub const HELP: &str = "\
On Windows they are the host's own: WSL's libraries, and those for Linux in the folders of the
display drivers in use. What the guest has of the same version is not sent again; what is of another
goes. The guest takes them into use at once, and looks for encoders again. It has to allow it, by
TRANSOM_GPU=on in its /etc/transom/agent, which the image's flavour with GPU drivers has. A relay of
a Hyper-V guest does the same by itself at each boot of the guest.

Examples:
  transom vm gpu-inject doom
  transom vm gpu-inject hyperv:doom --from D:\\other\\System32
  transom vm gpu-inject vsock:3 --from made-up --json";

/// What it is told.
#[derive(Debug, Args)]
pub struct GpuArgs {
    /// A machine's name, or where its guest is (hyperv:NAME, vsock:CID, unix:PATH).
    guest: String,

    /// Take them from this folder, laid out as System32: lxss/lib, DriverStore/FileRepository.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,

    /// Tell what was done as a JSON line.
    #[arg(long, env = "TRANSOM_JSON", value_parser = FalseyValueParser::new())]
    json: bool,

    /// The agent's vsock port in the guest.
    #[arg(long, env = "TRANSOM_PORT", default_value_t = PORT, value_parser = clap::value_parser!(u32).range(1..=0x7fff_ffff))]
    port: u32,
}

/// What a relay brings into a guest by itself: the host's own into those of Hyper-V.
pub fn sources_for(guest: &GuestAddr, from: Option<&Path>) -> Option<Sources> {
    if let Some(from) = from {
        return Some(Sources::below(from));
    }
    let GuestAddr::HyperV(_) = guest else { return None };
    own().map_err(|e| log::debug!("no GPU libraries: {e}")).ok()
}

#[cfg(windows)]
fn own() -> anyhow::Result<Sources> {
    Sources::of_this_host().map_err(anyhow::Error::msg)
}

#[cfg(not(windows))]
fn own() -> anyhow::Result<Sources> {
    anyhow::bail!(
        "only a Windows host lends its GPU: name a folder laid out as System32 with --from"
    )
}

/// Brings them in.
pub fn run(args: GpuArgs) -> anyhow::Result<ExitCode> {
    let guest: GuestAddr = match args.guest.contains(':') {
        true => args.guest.parse()?,
        false => super::platform::address(&args.guest.parse()?)?.parse()?,
    };
    let sources = match &args.from {
        Some(from) => Sources::below(from),
        None => own()?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let client = Client::new(guest, args.port);
    let bar = bytes_bar();
    let start = Instant::now();
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let result = runtime.block_on(async {
        let shutdown = crate::cli::shutdown::shutdown()?;
        tokio::select! {
            result = gpu::inject(&client, sources, &mut progress) => Ok::<_, anyhow::Error>(Some(result?)),
            () = shutdown => Ok(None),
        }
    });
    bar.finish_and_clear();
    runtime.block_on(guest::settle());
    let Some((bundle, done)) = result? else { return Ok(ExitCode::from(130)) };
    let drivers = &bundle.manifest.drivers;
    if args.json {
        let drivers: Vec<_> = drivers
            .iter()
            .map(|(folder, version)| json!({ "folder": folder, "version": version }))
            .collect();
        let facts: serde_json::Map<_, _> =
            done.facts.into_iter().map(|(path, value)| (path, value.into())).collect();
        let body = json!({
            "sent": done.sent, "kept": done.kept, "bytes": done.bytes, "drivers": drivers,
            "facts": facts,
        });
        tell::say(&tell::event("gpu", client.guest(), body))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for (folder, version) in drivers {
        text.push_str(&format!("{folder}, version {version}\n"));
    }
    text.push_str(&format!(
        "{} files sent ({} in {:.1} s), {} were there\n",
        done.sent,
        tell::bytes(done.bytes),
        start.elapsed().as_secs_f64(),
        done.kept
    ));
    for (path, value) in done.facts {
        text.push_str(&format!("{path:<24} {value}\n"));
    }
    tell::say(&text)?;
    Ok(ExitCode::SUCCESS)
}
