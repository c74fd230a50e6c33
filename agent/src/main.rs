//! `transom-agent`: reads its settings, builds the stages and joins them.

use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, thread};

use anyhow::Context as _;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};
use transom_agent::capture::Capture;
use transom_agent::capture::linear::{self, Reading};
use transom_agent::diag::{self, Context as Diagnostics};
use transom_agent::encode::vaapi::{self, Rate};
use transom_agent::encode::{Choice, Tuning};
use transom_agent::hub::Hub;
use transom_agent::input::devices::Desk;
use transom_agent::link::{self, Address, Listener};
use transom_agent::pipeline;
use transom_agent::probe::{self, Plan};
use transom_agent::records::Records;
use transom_agent::session::Sessions;
use transom_agent::sys;
use transom_agent::watchdog;
use transom_protocol::diagnostics::Setting;
use transom_protocol::{BitRate, Chroma, PORT};

/// Grabs this guest's screen, encodes it and streams it to the host over vsock.
///
/// Runs as a service in the guest; `transom relay` on the host connects to it. Needs
/// CAP_SYS_ADMIN, for the kernel hands out the framebuffers of others to nobody else.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
    transom-agent\n  \
    transom-agent --bitrate 20000000 --fps 30\n  \
    transom-agent --listen unix:/run/transom.sock --card /dev/dri/card1\n  \
    transom-agent --scanout gbm"
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where to listen: vsock, or unix:PATH to try the agent without a virtual machine
    #[arg(long, env = "TRANSOM_LISTEN", default_value = "vsock", value_name = "ADDRESS")]
    listen: Address,
    /// vsock port
    #[arg(long, env = "TRANSOM_PORT", default_value_t = PORT)]
    port: u32,
    /// Bits per second that a stream starts with; the host may change it
    #[arg(long, env = "TRANSOM_BITRATE", default_value_t = 12_000_000, value_name = "BITS")]
    bitrate: u32,
    /// Most frames per second; the host may change it
    #[arg(long, env = "TRANSOM_FPS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=240))]
    fps: u16,
    /// Encoder: auto (VA-API where a driver works, else screen), vaapi, screen (its cost follows
    /// what changes), openh264
    #[arg(long, env = "TRANSOM_ENCODER", default_value = "auto", value_name = "NAME")]
    encoder: Choice,
    /// Watch this card alone, rather than the first that shows something
    #[arg(long, env = "TRANSOM_CARD", value_name = "PATH")]
    card: Option<PathBuf>,
    /// How the screen is read: auto (mapped where that yields the picture, else by GBM, which
    /// tiled buffers need), map, gbm
    #[arg(long, env = "TRANSOM_SCANOUT", default_value = "auto", value_name = "NAME")]
    scanout: Reading,
    /// Whether the host may open shells in this guest, as root
    #[arg(long, env = "TRANSOM_SHELL", default_value = "off", value_name = "on|off",
        value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    shell: bool,
    /// Whether the host may copy files out of this guest and into it, as root
    #[arg(long, env = "TRANSOM_COPY", default_value = "off", value_name = "on|off",
        value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    copy: bool,
    /// Whether the host may bring in the libraries of its GPU's driver (to /usr/lib/wsl)
    #[arg(long, env = "TRANSOM_GPU", default_value = "off", value_name = "on|off",
        value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    gpu: bool,
    /// The unit that the host restarts when it restarts the compositor
    #[arg(
        long,
        env = "TRANSOM_COMPOSITOR",
        default_value = "transom-kiosk.service",
        value_name = "UNIT"
    )]
    compositor: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answers one request that the agent hands over on standard input; started by systemd
    /// (transom-helper.socket, transom-shell.socket)
    Helper,
    /// Tries every encoder of this machine and tells what each can do
    #[command(after_help = "Examples:\n  \
        transom-agent probe --encode\n  \
        transom-agent probe --encode --json --size 1280x720 --frames 300\n\n\
        Ends with status 1 if no VA-API driver works.")]
    Probe {
        /// Encoders: each VA-API driver encodes a moving picture, in a process of its own
        #[arg(long, required = true)]
        encode: bool,
        /// One JSON object instead of text
        #[arg(long)]
        json: bool,
        /// Columns and rows
        #[arg(long, default_value = "1920x1080", value_parser = size, value_name = "WxH")]
        size: (u32, u32),
        /// Frames for each driver
        #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        frames: u32,
    },
    /// Encodes one stream by VA-API for the agent that started it
    #[command(hide = true)]
    EncodeHelper {
        /// DRM node
        #[arg(long, value_name = "PATH")]
        device: Option<PathBuf>,
        /// libva's X11 display instead of a node
        #[arg(long, conflicts_with = "device")]
        x11: bool,
    },
    /// Makes linear views of buffers by GBM for the agent that started it
    #[command(hide = true)]
    ScanoutHelper {
        /// DRM node
        #[arg(long, value_name = "PATH")]
        device: PathBuf,
    },
}

fn main() -> ExitCode {
    sys::memory::map_pictures_apart();
    let printer =
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
            .format_timestamp(None)
            .build();
    let records = match Records::install(printer) {
        Ok(records) => records,
        Err(error) => {
            eprintln!("transom-agent: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Panics as well: they are what one looks for in a log.
    panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Some(Command::EncodeHelper { device, .. }) => vaapi::serve(device).map_err(Into::into),
        Some(Command::ScanoutHelper { device }) => linear::serve(&device).map_err(Into::into),
        Some(Command::Helper) => {
            diag::helper::run(&settings(&arguments)).context("cannot answer the agent's request")
        }
        Some(Command::Probe { json, size, frames, .. }) => {
            let rate = Rate { bitrate: arguments.bitrate, fps: arguments.fps };
            let report = probe::encode(Plan { size, frames, rate }, |name| {
                if !json {
                    eprintln!("trying {name}");
                }
            });
            let text = if json { report.json() + "\n" } else { report.text() };
            print!("{text}");
            return if report.works() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        None => run(arguments, records),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the configuration says about diagnostics.
fn settings(arguments: &Arguments) -> diag::Settings {
    let Arguments { shell, copy, gpu, encoder, scanout, .. } = *arguments;
    let (compositor, card) = (arguments.compositor.clone(), arguments.card.clone());
    diag::Settings { shell, copy, gpu, compositor, card, encoder, scanout }
}

fn run(arguments: Arguments, records: &'static Records) -> anyhow::Result<()> {
    let settings = settings(&arguments);
    let Arguments { listen, port, bitrate, fps, encoder, card, scanout, .. } = arguments;
    let tuning = Tuning { bitrate: BitRate(bitrate), fps };
    let hub = Arc::new(Hub::new(tuning));
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;

    // Before the compositor looks for devices, and before a host asks whether there are any.
    let desk = Desk::open();
    let listener = Listener::bind(&listen, port).with_context(|| match &listen {
        Address::Vsock => format!(
            "cannot listen on vsock port {port}: is a vsock transport loaded (hv_sock, \
             vmw_vsock_virtio_transport), and no other agent running?"
        ),
        Address::Unix(path) => format!("cannot listen on {}", path.display()),
    })?;
    // Before anybody is answered: who asks for the log finds it there.
    log::info!("transom-agent {} listens on {listen:?}, port {port}", env!("CARGO_PKG_VERSION"));
    let sessions = Arc::new(Mutex::new(Sessions::new(boot_id(), tuning)));
    let diagnostics = {
        let apply = apply(Arc::clone(&hub), Arc::clone(&sessions));
        Diagnostics::new(Arc::clone(&hub), records, settings, Box::new(apply))
    };
    {
        let hub = Arc::clone(&hub);
        thread::Builder::new().name("link".into()).spawn(move || {
            let ended = link::serve(&listener, &hub, desk, sessions, diagnostics);
            log::error!("the listener ended: {ended:?}");
            std::process::exit(1);
        })?;
    }
    let pipeline = {
        let hub = Arc::clone(&hub);
        thread::Builder::new().name("pipeline".into()).spawn(move || {
            let mut capture = Capture::new(card, scanout);
            let run = AssertUnwindSafe(|| pipeline::run(&hub, &mut capture, encoder));
            // A panic is a bug, and it has been printed; systemd starts a fresh agent.
            if panic::catch_unwind(run).is_err() {
                std::process::exit(1);
            }
        })?
    };
    {
        let hub = Arc::clone(&hub);
        let stack = 128 * 1024;
        let thread = thread::Builder::new().name("watchdog".into()).stack_size(stack);
        thread.spawn(move || watchdog::run(&hub))?;
    }
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    if let Some(signal) = signals.forever().next() {
        log::info!("signal {signal}: stopping");
    }
    hub.stop();
    // The connections say goodbye meanwhile; a stalled one is not waited for.
    let _ = pipeline.join();
    thread::sleep(Duration::from_millis(50));
    if let Address::Unix(path) = &listen {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// Settings that come in by diagnostics: in force at once, and for later sessions, too.
fn apply(
    hub: Arc<Hub>,
    sessions: Arc<Mutex<Sessions>>,
) -> impl Fn(&Setting) -> Result<(), String> + Send + Sync {
    move |setting| {
        let retune = |change: &dyn Fn(&mut Tuning)| {
            let mut sessions = sessions.lock().unwrap_or_else(PoisonError::into_inner);
            let new = sessions.retune(change);
            hub.order(|_, tuning| *tuning = new);
        };
        match setting {
            Setting::BitRate(BitRate(0)) => return Err("no bits in a second are too few".into()),
            Setting::BitRate(bitrate) => retune(&|tuning| tuning.bitrate = *bitrate),
            Setting::FrameRate(fps @ 1..=240) => retune(&|tuning| tuning.fps = *fps),
            Setting::FrameRate(fps) => {
                return Err(format!("{fps} frames per second: 1 to 240 are possible"));
            }
            Setting::Encoder(name) => hub.choose(name.as_str().parse()?),
            Setting::Chroma(most) => {
                hub.colour(|colours| colours.halved = *most == Chroma::Yuv420);
            }
        }
        Ok(())
    }
}

/// `WIDTHxHEIGHT`, within what any encoder takes.
fn size(text: &str) -> Result<(u32, u32), String> {
    let (width, height) = text.split_once('x').ok_or("WIDTHxHEIGHT, such as 1920x1080")?;
    let edge = |text: &str| match text.parse() {
        Ok(edge @ 16..=8192) => Ok(edge),
        _ => Err(format!("'{text}' is not between 16 and 8192")),
    };
    Ok((edge(width)?, edge(height)?))
}

/// The kernel's random id of this boot (`random(4)`); zeros where there is none.
fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let mut id = [0; 16];
    for (byte, index) in id.iter_mut().zip((0..).step_by(2)) {
        *byte = hex.get(index..index + 2).and_then(|h| u8::from_str_radix(h, 16).ok()).unwrap_or(0);
    }
    id
}
