//! Runs what `transom diag` was asked for, and says it.

use std::{
    io::{self, IsTerminal},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::sync::mpsc;
use transom_protocol::{
    Chroma,
    diagnostics::{LogSource, Request, Setting, Verdict},
    message::Text,
};
use transom_relay::{
    diag::{
        Client, DiagError, bundle, copy, doctor, heartbeat, info, logs, screenshot, settings,
        shell, stats, tell, top,
    },
    guest,
};

use super::{DiagArgs, LogsArgs, ScreenshotArgs, SetArgs, ShellArgs, StatsArgs, Verb};
use crate::cli::shutdown::shutdown;

/// After Ctrl-C, as shells count.
const INTERRUPTED: u8 = 130;
/// When a shell has no status, as ssh has it.
const NO_STATUS: u8 = 255;
/// A doctor that found a blemish and no failure.
const BLEMISH: u8 = 4;

/// How far a transfer is. Draws on stderr, and only if that is a terminal.
pub fn bytes_bar() -> ProgressBar {
    let template = "{bytes:>10} of {total_bytes} {wide_bar} {binary_bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Asks, and says the answer.
pub fn run(args: DiagArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let client = Client::new(args.guest, args.port);
    let say = Say { client: &client, json: args.json };
    let is_shell = matches!(args.verb, Verb::Shell(_));
    let result = runtime.block_on(async {
        if let Verb::Shell(args) = &args.verb {
            return run_shell(&client, args).await;
        }
        // To follow something has no other end than Ctrl-C.
        let endless = matches!(&args.verb, Verb::Logs(a) if a.follow)
            || matches!(&args.verb, Verb::Stats(a) if a.watch);
        let shutdown = shutdown().map_err(|e| DiagError::Terminal(io::Error::other(e)))?;
        tokio::select! {
            result = say.verb(&args.verb) => result,
            () = shutdown => Ok(if endless { ExitCode::SUCCESS } else { ExitCode::from(INTERRUPTED) }),
        }
    });
    runtime.block_on(guest::settle());
    // A thread that waits for a key must not keep us.
    runtime.shutdown_background();
    match result {
        // Such as `| head`: it has seen enough.
        Err(DiagError::OutputGone) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            if args.json {
                let _ = tell::say(&tell::event(
                    "error",
                    client.guest(),
                    json!({ "text": error.to_string() }),
                ));
            }
            eprintln!("transom: {error}");
            Ok(match error {
                DiagError::Usage(_) => ExitCode::from(2),
                _ if is_shell => ExitCode::from(NO_STATUS),
                _ => ExitCode::FAILURE,
            })
        }
        Ok(code) => Ok(code),
    }
}

struct Say<'a> {
    client: &'a Client,
    json: bool,
}

impl Say<'_> {
    fn event(&self, kind: &str, body: serde_json::Value) -> Result<(), DiagError> {
        tell::say(&tell::event(kind, self.client.guest(), body))
    }

    async fn verb(&self, verb: &Verb) -> Result<ExitCode, DiagError> {
        let client = self.client;
        match verb {
            Verb::Info => {
                let info = info::info(client).await?;
                if self.json {
                    self.event("info", info.json())?;
                } else {
                    tell::say(&info.text(tell::colours()))?;
                }
            }
            Verb::Doctor(args) => return self.doctor(args.relay.as_deref()).await,
            Verb::Stats(args) => self.stats(args).await?,
            Verb::Logs(args) => self.logs(args).await?,
            Verb::Screenshot(args) => self.screenshot(args).await?,
            Verb::Top(args) => {
                let processes = top::top(client, args.count).await?;
                if self.json {
                    self.event("top", top::json(&processes))?;
                } else {
                    let width = terminal_size::terminal_size().map(|(w, _)| usize::from(w.0));
                    tell::say(&top::text(&processes, width.unwrap_or(usize::MAX)))?;
                }
            }
            Verb::Reboot => {
                settings::reboot(client).await?;
                self.done("the guest restarts")?;
            }
            Verb::RestartCompositor => {
                settings::command(client, Request::RestartCompositor).await?;
                self.done("the compositor restarts")?;
            }
            Verb::Set(args) => {
                let (setting, words) = match args {
                    SetArgs::Bitrate { value } => {
                        (Setting::BitRate(*value), format!("the encoder's target is {value}"))
                    }
                    SetArgs::Fps { value } => {
                        (Setting::FrameRate(*value), format!("at most {value} frames per second"))
                    }
                    SetArgs::Encoder { value } => {
                        (Setting::Encoder(Text::new(value)), format!("the encoder is {value}"))
                    }
                    SetArgs::Chroma { value } => {
                        let most = match value {
                            Chroma::Yuv420 => "4:2:0",
                            Chroma::Yuv444 => "4:4:4",
                        };
                        (Setting::Chroma(*value), format!("colour is {most} at most"))
                    }
                };
                settings::command(client, Request::Set(setting)).await?;
                self.done(&words)?;
            }
            Verb::Cp(args) => self.copy(&copy::Way::of(&args.source, &args.target)?).await?,
            Verb::Bundle(args) => self.bundle(&args.file, !args.no_screenshot).await?,
            Verb::Shell(_) => {} // has signals of its own and was run before
        }
        Ok(ExitCode::SUCCESS)
    }

    fn done(&self, words: &str) -> Result<(), DiagError> {
        if self.json {
            self.event("done", json!({ "text": words }))
        } else {
            tell::say(&format!("{words}\n"))
        }
    }

    async fn doctor(&self, relay: Option<&str>) -> Result<ExitCode, DiagError> {
        let colours = tell::colours();
        let report = doctor::examine(self.client, relay, |check| {
            if self.json { Ok(()) } else { tell::say(&doctor::text(check, colours)) }
        })
        .await?;
        if self.json {
            self.event("doctor", report.json())?;
        } else {
            tell::say(&format!("\n{}", report.summary()))?;
        }
        Ok(match report.verdict() {
            Verdict::Fail => ExitCode::FAILURE,
            Verdict::Warn => ExitCode::from(BLEMISH),
            Verdict::Pass | Verdict::Skip => ExitCode::SUCCESS,
        })
    }

    async fn stats(&self, args: &StatsArgs) -> Result<(), DiagError> {
        let terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
        if args.watch && !self.json && terminal && args.count.is_none() {
            return stats::live::run(self.client, args.interval).await;
        }
        let count = args.count.unwrap_or(if args.watch { 0 } else { 1 });
        let mut samples = stats::Samples::open(self.client, args.interval, count).await?;
        let agent = samples.agent();
        while let Some(sample) = samples.next().await? {
            if self.json {
                self.event("sample", stats::json(&sample))?;
            } else if count == 1 {
                tell::say(&stats::text(&agent, &sample))?;
            } else {
                tell::say(&stats::line(&sample))?;
            }
        }
        Ok(())
    }

    async fn logs(&self, args: &LogsArgs) -> Result<(), DiagError> {
        let source = match &args.unit {
            _ if args.kernel => LogSource::Kernel,
            Some(unit) => LogSource::Journal { unit: Some(Text::new(unit)) },
            None if args.journal => LogSource::Journal { unit: None },
            None => LogSource::Agent,
        };
        let since =
            args.since.map_or(0, |since| u32::try_from(since.as_secs()).unwrap_or(u32::MAX));
        let (level, last, follow) = (args.level, args.last, args.follow);
        let request = Request::Logs { source, level, since, last, follow };
        let colours = tell::colours();
        let mut logs = logs::Logs::open(self.client, request).await?;
        let read = async {
            let mut told = false;
            while let Some(entry) = logs.next().await? {
                told = true;
                if self.json {
                    let (kind, body) = entry.json();
                    self.event(kind, body)?;
                } else {
                    tell::say(&entry.line(colours))?;
                }
            }
            if !told && !self.json {
                eprintln!("transom: there is no such record");
            }
            Ok(())
        };
        if !follow {
            return read.await;
        }
        tokio::select! {
            result = read => result,
            never = heartbeat::watch(self.client, |text| eprintln!("transom: {text}")) => match never {},
        }
    }

    async fn screenshot(&self, args: &ScreenshotArgs) -> Result<(), DiagError> {
        let shot = screenshot::screenshot(self.client, args.card).await?;
        let (width, height) = (shot.width, shot.height);
        if args.file == Path::new("-") {
            let png = shot.png().map_err(|e| DiagError::Terminal(io::Error::other(e)))?;
            return tell::say_bytes(&png);
        }
        shot.save(&args.file)?;
        if self.json {
            let path = args.file.to_string_lossy();
            self.event("screenshot", json!({ "path": path, "width": width, "height": height }))
        } else {
            tell::say(&format!("{}: {width}x{height}\n", args.file.display()))
        }
    }

    async fn copy(&self, way: &copy::Way) -> Result<(), DiagError> {
        let bar = bytes_bar();
        let start = Instant::now();
        let result = copy::copy(self.client, way, &mut |done, total| {
            bar.set_length(total.unwrap_or(done));
            bar.set_position(done);
        })
        .await;
        bar.finish_and_clear();
        let (bytes, seconds) = (result?, start.elapsed().as_secs_f64());
        if self.json {
            let seconds = (seconds * 1000.0).round() / 1000.0;
            self.event("copied", json!({ "bytes": bytes, "seconds": seconds }))
        } else {
            tell::say(&format!(
                "{} in {seconds:.1} s, {}/s\n",
                tell::bytes(bytes),
                tell::bytes((bytes as f64 / seconds.max(1e-6)) as u64)
            ))
        }
    }

    async fn bundle(&self, path: &Path, with_screenshot: bool) -> Result<(), DiagError> {
        let spinner = ProgressBar::new_spinner();
        spinner.enable_steady_tick(Duration::from_millis(100));
        let result = bundle::bundle(self.client, path, with_screenshot, |part| {
            spinner.set_message(part.to_owned());
        })
        .await;
        spinner.finish_and_clear();
        let summary = result?;
        if self.json {
            let missing = |(name, why): &(String, String)| json!({ "name": name, "why": why });
            return self.event(
                "bundle",
                json!({
                    "path": path.to_string_lossy(), "bytes": summary.bytes, "files": summary.files,
                    "missing": summary.missing.iter().map(missing).collect::<Vec<_>>(),
                    "redacted": summary.redacted,
                }),
            );
        }
        let mut text = format!(
            "{}: {}, {} files, {} secrets taken out\n",
            path.display(),
            tell::bytes(summary.bytes),
            summary.files.len(),
            summary.redacted
        );
        for (name, why) in &summary.missing {
            text.push_str(&format!("without {name}: {why}\n"));
        }
        if with_screenshot && summary.files.iter().any(|name| name == "screenshot.png") {
            text.push_str(
                "It has a picture of the screen in it: look at it before you pass it on.\n",
            );
        }
        tell::say(&text)
    }
}

async fn run_shell(client: &Client, args: &ShellArgs) -> Result<ExitCode, DiagError> {
    let command = shell::command_line(&args.command)?;
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let on_terminal = !args.no_tty && (args.tty || terminal);
    if on_terminal && !io::stdin().is_terminal() {
        return Err(DiagError::Usage("--tty needs a terminal on our side".into()));
    }
    let signals = signals().map_err(DiagError::Terminal)?;
    let input = shell::input();
    match shell::run(client, command, on_terminal, input, signals).await? {
        shell::Ending::Exited(status) => {
            Ok(ExitCode::from(u8::try_from(status & 0xff).unwrap_or(NO_STATUS)))
        }
        shell::Ending::Left => {
            if on_terminal {
                eprintln!("\ntransom: left");
            }
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// Signals to us, for the guest. A second one of a kind that should have ended it means that the
/// user does not want to wait.
#[cfg(unix)]
fn signals() -> io::Result<mpsc::Receiver<shell::Interruption>> {
    use shell::Interruption;
    use tokio::signal::unix::{SignalKind, signal};
    use transom_protocol::diagnostics::Signal;

    let (sender, receiver) = mpsc::channel(4);
    let kinds = [
        (SignalKind::interrupt(), Signal::Interrupt),
        (SignalKind::terminate(), Signal::Terminate),
        (SignalKind::hangup(), Signal::HangUp),
        (SignalKind::quit(), Signal::Quit),
    ];
    for (kind, meaning) in kinds {
        let (mut signals, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move {
            let mut count = 0;
            while signals.recv().await.is_some() {
                count += 1;
                let what = if count > 1 || meaning == Signal::HangUp {
                    Interruption::Leave
                } else {
                    Interruption::Signal(meaning)
                };
                if sender.send(what).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}

/// Ctrl-C, for the guest.
#[cfg(not(unix))]
fn signals() -> io::Result<mpsc::Receiver<shell::Interruption>> {
    use shell::Interruption;
    use transom_protocol::diagnostics::Signal;

    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut count = 0;
        while tokio::signal::ctrl_c().await.is_ok() {
            count += 1;
            let what = if count > 1 {
                Interruption::Leave
            } else {
                Interruption::Signal(Signal::Interrupt)
            };
            if sender.send(what).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
