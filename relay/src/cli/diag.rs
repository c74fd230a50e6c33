//! `transom diag GUEST …`: what may be asked of a guest. What is done about it stands in `diag/run.rs`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, builder::FalseyValueParser};
use transom_protocol::{BitRate, Chroma, PORT, diagnostics::LogLevel};
use transom_relay::{
    diag::{logs, settings},
    guest::GuestAddr,
};

mod run;

pub use run::{bytes_bar, run};

/// Behind `transom diag --help`.
pub const HELP: &str = "\
Examples:
  What is wrong with this guest?
    transom diag unix:/run/vm/guest.vsock doctor
  Where does the time go?
    transom diag vsock:3 stats --watch
  Look at its screen, its kernel's log, and inside:
    transom diag vsock:3 screenshot now.png
    transom diag vsock:3 logs --kernel -f
    transom diag vsock:3 shell

Exit status: 0 when it was done, 1 when it failed, 2 for a wrong command line, 130 after Ctrl-C.
`doctor` ends with 0 when all is well, 4 when there is a blemish, 1 when something does not work.
`shell` ends with the command's own status, and with 255 when there is none.";

/// What `transom diag` is told.
#[derive(Debug, Args)]
pub struct DiagArgs {
    /// unix:PATH, the guest's hybrid vsock socket, or vsock:CID.
    guest: GuestAddr,

    /// The agent's vsock port in the guest.
    #[arg(long, env = "TRANSOM_PORT", default_value_t = PORT, value_parser = clap::value_parser!(u32).range(1..=0x7fff_ffff))]
    port: u32,

    /// Tell it as JSON lines (docs/json.md).
    #[arg(long, global = true, env = "TRANSOM_JSON", value_parser = FalseyValueParser::new())]
    json: bool,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Kernel, cards, connectors, drivers, devices: what the guest is made of.
    #[command(
        after_help = "Example:\n  transom diag vsock:3 info\n  transom diag vsock:3 info --json | jq .facts"
    )]
    Info,
    /// Checks everything from the socket to the encoder, and says what to do.
    #[command(after_help = DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// Rates, latencies, drops and load of the guest's stream.
    #[command(after_help = STATS_HELP)]
    Stats(StatsArgs),
    /// The agent's own log; or the kernel's, or the journal.
    #[command(after_help = LOGS_HELP)]
    Logs(LogsArgs),
    /// The screen as it is, without loss, as a PNG file.
    #[command(after_help = "Example:\n  transom diag vsock:3 screenshot now.png")]
    Screenshot(ScreenshotArgs),
    /// What runs in the guest, by CPU time.
    #[command(after_help = "Example:\n  transom diag vsock:3 top --count 10")]
    Top(TopArgs),
    /// Restarts the guest.
    #[command(after_help = "Example:\n  transom diag vsock:3 reboot")]
    Reboot,
    /// Restarts the guest's compositor.
    #[command(after_help = "Example:\n  transom diag vsock:3 restart-compositor")]
    RestartCompositor,
    /// Changes a setting of the stream, at once and until the agent restarts.
    #[command(
        subcommand,
        after_help = "Examples:\n  transom diag vsock:3 set bitrate 8M\n  transom diag vsock:3 set fps 30\n  transom diag vsock:3 set encoder openh264\n  transom diag vsock:3 set chroma 420"
    )]
    Set(SetArgs),
    /// Runs a command in the guest, or an interactive shell.
    #[command(after_help = SHELL_HELP)]
    Shell(ShellArgs),
    /// Copies a file into the guest or out of it.
    #[command(
        after_help = "The guest's side has a colon in front. A file appears under its name when it is complete.\n\nExamples:\n  transom diag vsock:3 cp :/var/log/Xorg.0.log .\n  transom diag vsock:3 cp new.conf :/etc/transom/"
    )]
    Cp(CpArgs),
    /// Everything above in one archive, for a bug report; without secrets.
    #[command(
        after_help = "Passwords, tokens and keys that stand beside such a name are taken out. The screenshot shows\nwhat the screen shows: leave it out with --no-screenshot.\n\nExample:\n  transom diag vsock:3 bundle report.tar.zst"
    )]
    Bundle(BundleArgs),
}

const DOCTOR_HELP: &str = "\
The first checks need nothing but this host: they tell a missing socket, a dead hypervisor, a guest
that does not answer, and a missing or stopped agent apart.

Examples:
  transom diag unix:/run/vm/guest.vsock doctor
  transom diag vsock:3 doctor --json | jq -r '.checks[] | select(.verdict != \"pass\") | .remedy'

Exit status: 0 all is well, 4 there is a blemish, 1 something does not work.";

#[derive(Debug, Args)]
struct DoctorArgs {
    /// Also ask the relay whose --metrics are at HOST:PORT what its viewers get.
    #[arg(long, value_name = "HOST:PORT", env = "TRANSOM_RELAY")]
    relay: Option<String>,
}

const STATS_HELP: &str = "\
Examples:
  Once:
    transom diag vsock:3 stats
  A live view with graphs; q leaves:
    transom diag vsock:3 stats --watch
  A JSON line every ten seconds:
    transom diag vsock:3 stats --watch --interval 10 --json";

#[derive(Debug, Args)]
struct StatsArgs {
    /// Go on until Ctrl-C: a live view on a terminal, else lines.
    #[arg(short, long)]
    watch: bool,
    /// Seconds between two samples.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// End after so many samples.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
}

const LOGS_HELP: &str = "\
Examples:
  transom diag vsock:3 logs
  transom diag vsock:3 logs --kernel --level warning
  transom diag vsock:3 logs --unit transom-kiosk.service --since 10m -f";

#[derive(Debug, Args)]
struct LogsArgs {
    /// Go on with what is written from now on.
    #[arg(short, long)]
    follow: bool,
    /// The kernel's log.
    #[arg(short, long, conflicts_with_all = ["unit", "journal"])]
    kernel: bool,
    /// The whole journal.
    #[arg(short, long, conflicts_with = "unit")]
    journal: bool,
    /// The journal of one unit.
    #[arg(short, long, value_name = "UNIT")]
    unit: Option<String>,
    /// Not older than this, such as 30s, 10m, 2h or 3d.
    #[arg(short, long, value_name = "TIME", value_parser = logs::since)]
    since: Option<Duration>,
    /// This level and graver ones: emergency, alert, critical, error, warning, notice, info, debug.
    #[arg(short, long, default_value = "debug", value_parser = logs::level)]
    level: LogLevel,
    /// At most so many of the newest.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    last: u32,
}

#[derive(Debug, Args)]
struct ScreenshotArgs {
    /// Where to; - is stdout.
    file: PathBuf,
    /// Of /dev/dri/cardN rather than of the one that is captured.
    #[arg(long, value_name = "N")]
    card: Option<u8>,
}

#[derive(Debug, Args)]
struct TopArgs {
    /// How many processes.
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    count: u16,
}

#[derive(Debug, Subcommand)]
enum SetArgs {
    /// Target of the encoder, such as 8M or 800k bits per second.
    Bitrate {
        #[arg(value_parser = settings::bit_rate)]
        value: BitRate,
    },
    /// Most frames per second.
    Fps {
        #[arg(value_parser = clap::value_parser!(u16).range(1..))]
        value: u16,
    },
    /// Which encoder; `info` names those that the guest has.
    Encoder { value: String },
    /// The most colour: 420, or 444 for streams that all viewers take so.
    Chroma {
        #[arg(value_parser = settings::chroma)]
        value: Chroma,
    },
}

const SHELL_HELP: &str = "\
A single word is a command line for /bin/sh; several are a command and its arguments. The guest has
to allow it; if it does not, the refusal says how.

All keys belong to the guest, Ctrl-C too. Enter, then ~. leaves a guest that hangs.

Examples:
  transom diag vsock:3 shell
  transom diag vsock:3 shell -- systemctl status transom-kiosk
  transom diag vsock:3 shell -- 'dmesg | grep drm'

Exit status: the command's own (128 + n when signal n ended it), 255 when there is none.";

#[derive(Debug, Args)]
struct ShellArgs {
    /// A terminal even for a command.
    #[arg(short, long)]
    tty: bool,
    /// No terminal, even where we have one.
    #[arg(short = 'T', long, conflicts_with = "tty")]
    no_tty: bool,
    /// What to run.
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
struct CpArgs {
    /// A file here, or :/path in the guest.
    source: String,
    /// A place here, or :/path in the guest.
    target: String,
}

#[derive(Debug, Args)]
struct BundleArgs {
    /// The archive to write.
    file: PathBuf,
    /// Leave the screen out.
    #[arg(long)]
    no_screenshot: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("not a number of seconds from 0.1 to 3600".into()),
    }
}
