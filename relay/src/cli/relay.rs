//! `transom relay`: what may be given, and the parts that it builds.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{Args, builder::FalseyValueParser};
use tokio::{sync::watch, task::JoinSet};
use transom_protocol::{BitRate, PORT};
use transom_relay::{
    diag::Client,
    feed::{self, codec::Preference, colour::Policy},
    guest::{self, NamedGuest},
    metrics::{Metrics, MetricsAddr},
    output::udp::{Target, UdpOutput},
    relay::{Config, Ending, Relay},
    rtp::DEFAULT_PACKET,
    sdp::SdpFile,
    status::Status,
    video::{self, Video},
    vm::gpu,
};

use super::{rtsp::RtspArgs, shutdown::shutdown, state::StateArgs, web};

/// Behind `transom relay --help`.
pub const HELP: &str = "\
Examples:
  Watch a guest of QEMU with vhost-device-vsock on this machine:
    transom relay unix:/run/vm/guest.vsock --rtp udp://127.0.0.1:5004 --sdp guest.sdp
    ffplay -probesize 32 -analyzeduration 0 -fflags nobuffer -flags low_delay \\
      -protocol_whitelist file,udp,rtp guest.sdp
  Send a guest with CID 3 to a viewer and to everyone on the local network:
    transom relay vsock:3 --rtp udp://192.0.2.7:5004 --rtp udp://239.255.0.1:5004
  The same without a large frame every two seconds, where the guest's GPU can do without:
    transom relay vsock:3 --rtp udp://239.255.0.1:5004 --refresh
  Play it in a browser, on this machine:
    transom relay doom=vsock:3 --http 8889
    transom link doom
  Open it in VLC: with --http as above, http://127.0.0.1:8889/doom/stream.ts
  Serve others, by HTTPS with a certificate that is made for it:
    transom relay doom=vsock:3 --http 0.0.0.0:8889 --allow-host games.example
  Only look at the figures, as JSON lines:
    transom relay vsock:3 --json
  Let players watch at rtsp://127.0.0.1:8554/doom:
    transom relay doom=vsock:3 --rtsp
  Two guests at once, under names of your choice:
    transom relay doom=vsock:3 desk=unix:/run/vm/desk.vsock
  Crisp coloured text for a player that is known to decode 4:4:4:
    transom relay vsock:3 --chroma 444 --rtp udp://127.0.0.1:5004 --sdp guest.sdp
  HEVC for a player that decodes it, where the guest has a GPU that encodes it:
    transom relay vsock:3 --codec hevc --rtp udp://127.0.0.1:5004 --sdp guest.sdp
  Figures for Prometheus at http://127.0.0.1:9998/metrics:
    transom relay vsock:3 --metrics 9998

Exit status: 0 when ended by Ctrl-C or SIGTERM, 1 on failure, 2 for a wrong command line,
3 when another relay has taken over the guest. Set RUST_LOG=debug to see more.";

/// What `transom relay` is told.
#[derive(Debug, Args)]
pub struct RelayArgs {
    /// unix:PATH, the guest's hybrid vsock socket, or vsock:CID; NAME=… in front gives the guest a
    /// name of your choice in links and logs. May be given several times.
    #[arg(required = true, value_name = "GUEST")]
    guests: Vec<NamedGuest>,

    /// Send RTP to udp://HOST:PORT, RTCP to the port above; may be given several times. For one
    /// guest alone.
    #[arg(long, value_name = "URL", env = "TRANSOM_RTP", value_delimiter = ',')]
    rtp: Vec<Target>,

    /// Describe the stream to the first --rtp target in this file, for a viewer to open.
    #[arg(long, value_name = "FILE", env = "TRANSOM_SDP", requires = "rtp")]
    sdp: Option<PathBuf>,

    #[command(flatten)]
    rtsp: RtspArgs,

    /// Tell states and figures as JSON lines (docs/json.md).
    #[arg(long, env = "TRANSOM_JSON", value_parser = FalseyValueParser::new())]
    json: bool,

    /// Ask for an IDR so often while there are --rtp targets; 0 is never. Viewers of plain RTP
    /// cannot ask for one themselves and would wait for a picture.
    #[arg(long, value_name = "SECONDS", env = "TRANSOM_IDR_INTERVAL", default_value = "2", value_parser = seconds)]
    idr_interval: Duration,

    /// Have the guest's encoder refresh the picture a part at a time instead of those IDRs, if it can
    /// (docs/vaapi.md): no large frames, but viewers have to know recovery points, as ffmpeg does.
    #[arg(long, env = "TRANSOM_REFRESH", requires = "rtp", value_parser = FalseyValueParser::new())]
    refresh: bool,

    /// Longest RTP packet in bytes, with its 12 bytes of header.
    #[arg(long, value_name = "BYTES", env = "TRANSOM_PAYLOAD", default_value_t = DEFAULT_PACKET as u16, value_parser = clap::value_parser!(u16).range(200..=8900))]
    payload: u16,

    /// Hops that multicast may take; 1 stays on the local network.
    #[arg(long, value_name = "HOPS", env = "TRANSOM_TTL", default_value = "1")]
    ttl: u8,

    /// Target for the guest's encoder in bits per second; the agent's own default otherwise.
    #[arg(long, value_name = "BITS", env = "TRANSOM_BITRATE", value_parser = clap::value_parser!(u32).range(1..))]
    bitrate: Option<u32>,

    /// How much colour to ask the guest for: 420, 444, or auto for 4:4:4 while all who watch have
    /// said that they take it. With 444, players that cannot say (RTSP, plain RTP) get it, too.
    #[arg(long, value_name = "CHROMA", env = "TRANSOM_CHROMA", default_value = "auto")]
    chroma: Policy,

    /// Which codec to ask the guest for: h264, or hevc (H.265) for players of plain RTP and RTSP that
    /// decode it. It takes hardware in the guest; without that, and while somebody watches by a browser
    /// or by HTTP, it is H.264.
    #[arg(long, value_name = "CODEC", env = "TRANSOM_CODEC", default_value = "h264")]
    codec: Preference,

    /// Bring libraries of a GPU driver into the guests from this folder, which is laid out as
    /// System32. On Windows, those of Hyper-V get the host's own without it.
    #[arg(long, value_name = "DIR", env = "TRANSOM_GPU_FROM", hide = !cfg!(windows))]
    gpu_from: Option<PathBuf>,

    #[command(flatten)]
    web: web::WebArgs,

    #[command(flatten)]
    state: StateArgs,

    /// Serve figures for Prometheus at http://ADDR/metrics; a port alone is on loopback.
    #[arg(long, value_name = "ADDR", env = "TRANSOM_METRICS")]
    metrics: Option<MetricsAddr>,

    /// The agent's vsock port in the guest.
    #[arg(long, env = "TRANSOM_PORT", default_value_t = PORT, value_parser = clap::value_parser!(u32).range(1..=0x7fff_ffff))]
    port: u32,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("not a number of seconds from 0 to 3600".into()),
    }
}

/// Relays until the user ends it.
pub fn run(args: RelayArgs) -> anyhow::Result<ExitCode> {
    Ok(match relay(args)? {
        Ending::Asked => ExitCode::SUCCESS,
        Ending::TakenOver => ExitCode::from(3),
    })
}

/// The same, for whom an exit code is not enough.
pub fn relay(args: RelayArgs) -> anyhow::Result<Ending> {
    for (i, target) in args.rtp.iter().enumerate() {
        if let Some(other) = args.rtp[..i].iter().find(|other| other.overlaps(target)) {
            anyhow::bail!(
                "{other} and {target} share a port: each takes its own and the one above for RTCP"
            );
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let names = guest::names(&args.guests);
    if args.guests.len() > 1 && !args.rtp.is_empty() {
        anyhow::bail!("--rtp sends the picture of one guest: start a relay for each of them");
    }
    runtime.block_on(async {
        let (stop, stopped) = watch::channel(());
        let shutdown = shutdown()?;
        let epoch = Instant::now();
        let several = args.guests.len() > 1;
        let targets = args.rtp.len();
        let mut metrics = match args.metrics {
            Some(address) => Some(Metrics::bind(address).await?),
            None => None,
        };
        let outputs: Result<Vec<_>, _> =
            args.rtp.into_iter().map(|target| UdpOutput::open(target, args.ttl)).collect();
        let mut video = video::Config {
            outputs: outputs?,
            sdp: args.sdp.as_deref().map(SdpFile::new).transpose()?,
            packet: args.payload.into(),
            ttl: args.ttl,
            idr_interval: (!args.idr_interval.is_zero()).then_some(args.idr_interval),
            entry: if args.refresh { video::Entry::Refresh } else { video::Entry::Idr },
        };
        let mut relays = JoinSet::new();
        let mut feeds = Vec::new();
        for (NamedGuest { guest, .. }, name) in args.guests.into_iter().zip(names) {
            // With several guests there are no targets, so that nothing is lost on the others.
            let without = video.without_outputs();
            let video = Video::new(std::mem::replace(&mut video, without), epoch)
                .context("the system gives no random numbers")?;
            let (source, commands, feed) = feed::feed(&name, &guest);
            if let Some(metrics) = &mut metrics {
                metrics.add(feed.clone(), args.port, targets);
            }
            if let Some(sources) = super::vm::gpu::sources_for(&guest, args.gpu_from.as_deref()) {
                let client = Client::new(guest.clone(), args.port);
                gpu::keep_up(feed.news(), client, sources).context("cannot start a thread")?;
            }
            feeds.push(feed);
            let bitrate = args.bitrate.map(BitRate);
            let config =
                Config { guest, port: args.port, bitrate, chroma: args.chroma, codec: args.codec };
            let status = Status::new(args.json, several.then_some(name));
            let relay = Relay::new(config, video, status, (source, commands), epoch);
            let mut stopped = stopped.clone();
            relays.spawn(relay.run(async move {
                // An error means that the sender is gone, and with it the reason to go on.
                let _ = stopped.changed().await;
            }));
        }
        let (packet, locked) = (args.payload.into(), args.web.require_token);
        let rtsp = args.rtsp.start(packet, epoch, &feeds, &args.state, locked, stopped.clone())?;
        web::start(&args.web, &args.state, feeds, args.bitrate, epoch).await?;
        if let Some(metrics) = metrics {
            tokio::spawn(async {
                if let Err(e) = metrics.serve().await {
                    log::error!("metrics are not served any more: {e}");
                }
            });
        }
        let mut shutdown = std::pin::pin!(shutdown);
        let (mut result, mut asked) = (Ok(Ending::Asked), false);
        loop {
            tokio::select! {
                ended = relays.join_next() => match ended {
                    None => {
                        rtsp.finish().await;
                        guest::settle().await;
                        return result;
                    }
                    Some(Ok(Ok(Ending::Asked))) => {}
                    Some(Ok(Ok(Ending::TakenOver))) => result = result.map(|_| Ending::TakenOver),
                    Some(Ok(Err(e))) => {
                        if several {
                            log::error!("{e}");
                        }
                        result = Err(e.into());
                    }
                    Some(Err(e)) => result = Err(e).context("a guest's task failed"),
                },
                () = shutdown.as_mut(), if !asked => {
                    asked = true;
                    let _ = stop.send(());
                }
            }
        }
    })
}
