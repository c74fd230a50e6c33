//! `transom bench`: measures this machine, or a guest.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use clap::{Args, builder::FalseyValueParser};
use serde_json::json;
use transom_protocol::PORT;
use transom_relay::{
    bench::{Bench, BenchError, Finding, Stop, delay, fan_out, real},
    diag::tell,
    guest::{self, GuestAddr},
};

/// Behind `transom bench --help`.
pub const HELP: &str = "\
Without --guest it needs no guest: frames of nothing go through a relay of its own, all on this
machine's loopback. With it, a relay of its own streams the guest for a while. A guest serves one
relay at a time: one that is streamed already is left alone, unless --take-over.

Examples:
  transom bench
  transom bench --seconds 2 --json
  transom bench --guest vsock:3
  transom bench --guest unix:/run/vm/doom.vsock --seconds 10

Figures are for comparing changes on one machine at rest. What other programs make of the same is
measured by `make bench` in the sources.

Exit status: 0 when everything was measured, 1 when not, 130 after Ctrl-C.";

/// What `transom bench` is told.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Measure this guest instead: unix:PATH, vsock:CID or, on Windows, hyperv:NAME.
    #[arg(long, value_name = "GUEST")]
    guest: Option<GuestAddr>,

    /// Cut off who streams that guest now.
    #[arg(long, requires = "guest")]
    take_over: bool,

    /// How long each measurement lasts.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    /// A JSON line for each figure (docs/json.md).
    #[arg(long, env = "TRANSOM_JSON", value_parser = FalseyValueParser::new())]
    json: bool,

    /// The agent's vsock port in the guest.
    #[arg(long, env = "TRANSOM_PORT", default_value_t = PORT, value_parser = clap::value_parser!(u32).range(1..=0x7fff_ffff))]
    port: u32,
}

/// Exit status of who was interrupted, as shells have it.
const INTERRUPTED: u8 = 130;

/// A measurement with what is said while it runs.
type Step = (&'static str, Box<dyn FnOnce(&Bench) -> Result<Vec<Finding>, BenchError> + Send>);

fn step(
    what: &'static str,
    measure: impl FnOnce(&Bench) -> Result<Vec<Finding>, BenchError> + Send + 'static,
) -> Step {
    (what, Box::new(measure))
}

/// Measures, and tells each figure once it is there.
pub fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let BenchArgs { guest, take_over, seconds, json, port } = args;
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let time = Duration::from_secs(seconds);
    let bench = Arc::new(Bench { program, time, stop: Stop::default() });
    let steps: Vec<Step> = match guest {
        Some(guest) => vec![step("a relay that streams the guest", move |bench| {
            real::measure(bench, &guest, port, take_over)
        })],
        None => vec![
            step("what the relay adds to a frame", delay::measure),
            step("plain RTP to many receivers", fan_out::measure),
        ],
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        let mut shutdown = std::pin::pin!(super::shutdown::shutdown()?);
        let count = steps.len();
        for (number, (what, measure)) in (1..).zip(steps) {
            eprintln!("transom: [{number}/{count}] {what}, {seconds} s");
            let measuring = Arc::clone(&bench);
            let mut measured = tokio::task::spawn_blocking(move || measure(&measuring));
            let findings = tokio::select! {
                ended = &mut measured => ended,
                () = shutdown.as_mut() => {
                    // It looks at this several times a second, and takes its relay with it.
                    bench.stop.stop();
                    measured.await
                }
            };
            for finding in findings.context("a measurement failed")?? {
                let text = match json {
                    true => format!("{}\n", json!({ "event": "bench", "figure": finding })),
                    false => format!("{finding}\n"),
                };
                // Whoever has stopped reading has seen enough.
                let _ = tell::say(&text);
            }
        }
        anyhow::Ok(())
    });
    runtime.block_on(guest::settle());
    match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if matches!(error.downcast_ref(), Some(BenchError::Stopped)) => {
            Ok(ExitCode::from(INTERRUPTED))
        }
        Err(error) => Err(error),
    }
}
