//! Answers diagnostic requests: one connection, one thread, one request.
//!
//! ```text
//!  link ── request ──┬── what the agent may look at itself: info, doctor, stats, screenshot, …
//!                    ├── needs more than its sandbox gives: logs, top, reboot … ─▶ transom-helper
//!                    └── all of the guest: shell, cp (off unless allowed) ───────▶ transom-shell
//! ```
//!
//! The last two are [handed over](helper), connection and all, to units of their own with rights of
//! their own; an agent that runs as root and without systemd, as in tests, serves them itself.
//!
//! What this refuses to do: taking a lock that the pipeline holds for longer than a moment. The
//! answers come while capture or encode is stuck; that is when they are wanted.

mod actions;
mod cards;
mod conversation;
mod copy;
mod doctor;
mod gpu;
mod guest;
pub mod helper;
mod info;
mod logs;
mod measure;
mod screenshot;
mod shell;
mod stats;
mod top;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use transom_protocol::diagnostics::{LogSource, Outcome, Request, Setting};
use transom_protocol::gpu::is_place;

pub use conversation::Conversation;
use conversation::{Answer, Ended};
pub use guest::text;
pub use logs::{journal, kernel};

use crate::capture::linear::Reading;
use crate::encode::Choice;
use crate::hub::Hub;
use crate::records::Records;

/// What the guest's configuration says about diagnostics.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Shells may be opened.
    pub shell: bool,
    /// Files may be copied out and in.
    pub copy: bool,
    /// The libraries of the host's GPU driver may be brought in.
    pub gpu: bool,
    /// The unit that `restart-compositor` restarts.
    pub compositor: String,
    /// The card that capture is confined to.
    pub card: Option<PathBuf>,
    /// The encoder asked for.
    pub encoder: Choice,
    /// How scanouts are read.
    pub scanout: Reading,
}

/// Applies a setting to the stream, or says why not.
pub type Apply = Box<dyn Fn(&Setting) -> Result<(), String> + Send + Sync>;

/// What requests look at.
pub struct Context {
    /// The meeting point of the stages.
    pub hub: Arc<Hub>,
    /// The agent's own log.
    pub records: &'static Records,
    /// The configuration.
    pub settings: Settings,
    /// When the agent started.
    pub started: Instant,
    /// Applies a setting to the stream, or says why not.
    pub apply: Apply,
    once: [Once; 2],
    cards: cards::Cards,
}

impl Context {
    /// For an agent that streams.
    pub fn new(hub: Arc<Hub>, records: &'static Records, settings: Settings, apply: Apply) -> Self {
        Self {
            hub,
            records,
            settings,
            started: Instant::now(),
            apply,
            once: Default::default(),
            cards: cards::Cards::default(),
        }
    }

    /// The cards with a display, and what stands in the way of others.
    fn diag_cards(&self) -> (Vec<Arc<crate::sys::kms::Card>>, Vec<String>) {
        self.cards.all()
    }
}

/// Something of which one at a time is enough.
#[derive(Debug, Default)]
struct Once(AtomicBool);

impl Once {
    fn take(&self) -> Answer<Taken<'_>> {
        if self.0.swap(true, Ordering::Acquire) {
            return Err(Ended::With(Outcome::Busy));
        }
        Ok(Taken(self))
    }
}

struct Taken<'a>(&'a Once);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// Who can answer a request.
fn place(request: &Request) -> Option<helper::Kind> {
    match request {
        Request::Logs { source: LogSource::Kernel | LogSource::Journal { .. }, .. }
        | Request::Top { .. }
        | Request::Reboot
        | Request::RestartCompositor => Some(helper::Kind::Helper),
        Request::Shell { .. } | Request::Pull { .. } | Request::Push { .. } | Request::UseGpu => {
            Some(helper::Kind::Shell)
        }
        _ => None,
    }
}

/// Serves one connection behind its welcome.
pub fn serve(context: &Arc<Context>, mut talk: Conversation) {
    let mut asked_for_gpu = false;
    let answer = talk.request().and_then(|request| {
        asked_for_gpu = request == Request::UseGpu;
        log::info!("diagnostics: {}", name(&request));
        match place(&request) {
            Some(kind) if !nix::unistd::geteuid().is_root() => {
                permitted(&context.settings, &request)?;
                helper::hand_over(kind, &talk)
            }
            Some(_) => privileged(&context.settings, &mut talk, &request),
            None => own(context, &mut talk, &request),
        }
    });
    if asked_for_gpu && !matches!(answer, Err(Ended::With(_))) {
        // Whoever answered: the encoders are ours.
        crate::encode::look_again();
        context.hub.choose(context.hub.choice().unwrap_or(context.settings.encoder));
    }
    match answer {
        Ok(()) | Err(Ended::With(_)) => talk.finish(answer),
        Err(Ended::Gone(error)) if error.kind() == std::io::ErrorKind::Other => {
            log::debug!("diagnostics: {error}");
        }
        gone => talk.finish(gone),
    }
}

/// What the agent answers by itself.
fn own(context: &Arc<Context>, talk: &mut Conversation, request: &Request) -> Answer {
    match request {
        Request::Info => info::run(context, talk),
        Request::Doctor => {
            let _only = context.once[0].take()?;
            doctor::run(context, talk)
        }
        Request::Stats { interval, count } => stats::run(context, talk, *interval, *count),
        Request::Logs { level, since, last, follow, .. } => {
            let wanted =
                logs::Wanted { level: *level, since: *since, last: *last, follow: *follow };
            logs::own(context.records, talk, wanted)
        }
        Request::Screenshot { card } => {
            let _only = context.once[1].take()?;
            screenshot::run(context, talk, *card)
        }
        Request::Set(setting) => actions::set(context, setting),
        Request::Throughput { bytes } => measure::throughput(talk, *bytes),
        Request::Echo => measure::echo(talk),
        Request::Sink => measure::sink(talk),
        _ => Err(Ended::With(Outcome::Unsupported)),
    }
}

/// What takes rights that the agent's unit does not have.
pub(crate) fn privileged(
    settings: &Settings,
    talk: &mut Conversation,
    request: &Request,
) -> Answer {
    permitted(settings, request)?;
    match request {
        Request::Logs { source, level, since, last, follow } => {
            let wanted =
                logs::Wanted { level: *level, since: *since, last: *last, follow: *follow };
            match source {
                LogSource::Journal { unit } => logs::journal::run(talk, wanted, unit.as_ref()),
                _ => logs::kernel::run(talk, wanted),
            }
        }
        Request::Top { count } => top::run(talk, *count),
        Request::Reboot => actions::reboot(talk),
        Request::RestartCompositor => actions::restart_compositor(&settings.compositor),
        Request::Shell { command, terminal } => {
            shell::run(talk, command.as_ref(), terminal.as_ref())
        }
        Request::Pull { path } => copy::pull(talk, path.as_str()),
        Request::Push { path, mode, size } => {
            gpu::make_room(path.as_str())?;
            copy::push(talk, path.as_str(), *mode, *size)
        }
        Request::UseGpu => gpu::take_into_use(talk),
        _ => Err(Ended::With(Outcome::Unsupported)),
    }
}

/// Whether the configuration allows it.
fn permitted(settings: &Settings, request: &Request) -> Answer {
    match request {
        Request::Shell { .. } if !settings.shell => Err(conversation::forbidden(
            "shells are off in this guest: put the line TRANSOM_SHELL=on into /etc/transom/agent \
             in the guest (image/root/etc/transom/agent for an image of your own), then \
             `systemctl restart transom-agent`",
        )),
        // Code for the guest's video driver, and no more than that: less than a copy to anywhere.
        Request::Pull { path } | Request::Push { path, .. }
            if settings.gpu && is_place(path.as_str()) =>
        {
            Ok(())
        }
        Request::UseGpu if !settings.gpu && !settings.copy => Err(no_gpu()),
        Request::Pull { path } | Request::Push { path, .. }
            if !settings.copy && is_place(path.as_str()) =>
        {
            Err(no_gpu())
        }
        Request::Pull { .. } | Request::Push { .. } if !settings.copy => {
            Err(conversation::forbidden(
                "copying files is off in this guest: put the line TRANSOM_COPY=on into \
                 /etc/transom/agent in the guest (image/root/etc/transom/agent for an image of \
                 your own), then `systemctl restart transom-agent`",
            ))
        }
        _ => Ok(()),
    }
}

fn no_gpu() -> Ended {
    conversation::forbidden(
        "bringing in the host's GPU libraries is off in this guest: put the line TRANSOM_GPU=on \
         into /etc/transom/agent in the guest (the image's flavour with GPU drivers has it), then \
         `systemctl restart transom-agent`",
    )
}

/// For the log: no paths and no commands, which may hold secrets.
fn name(request: &Request) -> &'static str {
    match request {
        Request::Info => "info",
        Request::Doctor => "doctor",
        Request::Stats { .. } => "stats",
        Request::Logs { .. } => "logs",
        Request::Screenshot { .. } => "screenshot",
        Request::Top { .. } => "top",
        Request::Reboot => "reboot",
        Request::RestartCompositor => "restart the compositor",
        Request::Set(_) => "set",
        Request::Shell { .. } => "shell",
        Request::Pull { .. } => "copy out",
        Request::Push { .. } => "copy in",
        Request::Throughput { .. } => "throughput",
        Request::Echo => "echo",
        Request::Sink => "sink",
        Request::UseGpu => "use the host's GPU libraries",
    }
}
