//! `transom-agent`: reads its settings, builds the stages and joins them.

use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};
use transom_agent::capture::Capture;
use transom_agent::encode::{Choice, Tuning, vaapi};
use transom_agent::hub::Hub;
use transom_agent::input::devices::Desk;
use transom_agent::link::{self, Address, Listener};
use transom_agent::pipeline;
use transom_agent::session::Sessions;
use transom_agent::sys;
use transom_protocol::{BitRate, PORT};

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
    transom-agent --listen unix:/run/transom.sock --card /dev/dri/card1"
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
}

#[derive(Debug, Subcommand)]
enum Command {
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
}

fn main() -> ExitCode {
    sys::memory::map_pictures_apart();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_timestamp(None)
        .init();
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Some(Command::EncodeHelper { device, .. }) => vaapi::serve(device).map_err(Into::into),
        None => run(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { listen, port, bitrate, fps, encoder, card, .. } = arguments;
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
    let sessions = Sessions::new(boot_id(), tuning);
    {
        let hub = Arc::clone(&hub);
        thread::Builder::new().name("link".into()).spawn(move || {
            let ended = link::serve(&listener, &hub, desk, sessions);
            log::error!("the listener ended: {ended:?}");
            std::process::exit(1);
        })?;
    }
    let pipeline = {
        let hub = Arc::clone(&hub);
        thread::Builder::new().name("pipeline".into()).spawn(move || {
            let mut capture = Capture::new(card);
            let run = AssertUnwindSafe(|| pipeline::run(&hub, &mut capture, encoder));
            // A panic is a bug, and it has been printed; systemd starts a fresh agent.
            if panic::catch_unwind(run).is_err() {
                std::process::exit(1);
            }
        })?
    };
    log::info!("transom-agent {} listens on {listen:?}, port {port}", env!("CARGO_PKG_VERSION"));
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
