//! `--http` and what belongs to it: the parts behind the page, wired up.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use anyhow::Context;
use clap::{Args, builder::FalseyValueParser};
use tokio::net::TcpListener;
use transom_relay::{
    access::store::{Serving, Store},
    feed::Feed,
    http::{
        self, App, Settings, is_loopback,
        tls::{self, Tls},
    },
    webrtc::{Stage, WebRtc},
};

use super::state::StateArgs;

/// Most bits per second that viewers together may ask an encoder for, unless --bitrate says so:
/// what the agent starts with.
const MAX_BITRATE: u32 = 12_000_000;

/// The options of the page.
#[derive(Debug, Args)]
#[command(next_help_heading = "Browsers")]
pub struct WebArgs {
    /// Serve the page, WHEP, streams for players and the API here: ADDRESS:PORT, or a port of this
    /// machine alone. Beyond loopback it is HTTPS, with a certificate made for it unless --tls-cert.
    #[arg(long, value_name = "ADDR", env = "TRANSOM_HTTP", value_parser = address)]
    http: Option<SocketAddr>,

    /// Send and receive WebRTC here; the address of --http and the same port otherwise.
    #[arg(long, value_name = "ADDR", env = "TRANSOM_WEBRTC_UDP", value_parser = address, requires = "http")]
    webrtc_udp: Option<SocketAddr>,

    /// Serve under this name too; addresses and localhost always go.
    #[arg(
        long,
        value_name = "NAME",
        env = "TRANSOM_ALLOW_HOST",
        value_delimiter = ',',
        requires = "http"
    )]
    allow_host: Vec<String>,

    /// Let pages of this origin use WHEP and the API, such as https://player.example.
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "TRANSOM_ALLOW_ORIGIN",
        value_delimiter = ',',
        requires = "http"
    )]
    allow_origin: Vec<String>,

    /// Ask for a token on loopback too, even to watch, and players by RTSP for a link.
    #[arg(long, env = "TRANSOM_REQUIRE_TOKEN", value_parser = FalseyValueParser::new())]
    pub require_token: bool,

    /// Let all viewers with the role of control use keyboard and mouse at once.
    #[arg(long, env = "TRANSOM_SHARED_CONTROL", value_parser = FalseyValueParser::new(), requires = "http")]
    shared_control: bool,

    /// Serve HTTPS, on loopback too, with this certificate: PEM, its own chain behind it.
    #[arg(long, value_name = "FILE", env = "TRANSOM_TLS_CERT", requires_all = ["http", "tls_key"])]
    tls_cert: Option<PathBuf>,

    /// The key of --tls-cert, as PEM.
    #[arg(long, value_name = "FILE", env = "TRANSOM_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Serve beyond loopback without encryption: who listens on the way can take tokens and the
    /// picture's description. For networks that are trusted, or behind a proxy with TLS.
    #[arg(
        long,
        env = "TRANSOM_INSECURE_HTTP",
        value_parser = FalseyValueParser::new(),
        requires = "http",
        conflicts_with = "tls_cert"
    )]
    insecure_http: bool,
}

impl WebArgs {
    /// What is served encrypted, and how people recognise a certificate of our own.
    fn tls(
        &self,
        wanted: SocketAddr,
        store: &Store,
    ) -> anyhow::Result<(Option<Tls>, Option<String>)> {
        if let (Some(chain), Some(key)) = (&self.tls_cert, &self.tls_key) {
            let tls = Tls::load(chain, key).context("no HTTPS (--tls-cert, --tls-key)")?;
            return Ok((Some(tls), None));
        }
        if is_loopback(wanted.ip()) || self.insecure_http {
            return Ok((None, None));
        }
        let address = (!wanted.ip().is_unspecified()).then(|| wanted.ip().to_string());
        let names: Vec<_> = self.allow_host.iter().cloned().chain(address).collect();
        let tls = Tls::own(store, &names).context("no HTTPS")?;
        let fingerprint = tls.fingerprint().to_owned();
        Ok((Some(tls), Some(fingerprint)))
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| {
        "an address is 127.0.0.1:8889, [::1]:8889, 0.0.0.0:8889, or 8889 for this machine alone"
            .into()
    })
}

/// Starts what was asked for; it runs until the runtime ends.
pub async fn start(
    args: &WebArgs,
    state: &StateArgs,
    feeds: Vec<Feed>,
    bitrate: Option<u32>,
    epoch: Instant,
) -> anyhow::Result<()> {
    let Some(wanted) = args.http else { return Ok(()) };
    let listener = TcpListener::bind(wanted)
        .await
        .with_context(|| format!("cannot serve HTTP on {wanted}"))?;
    let address = listener.local_addr().context("the HTTP socket has no address")?;
    let udp = args.webrtc_udp.unwrap_or(address);
    let store = Arc::new(state.open()?);
    let (tls, fingerprint) = args.tls(wanted, &store)?;
    let webrtc =
        WebRtc::bind(udp, Arc::clone(&store), epoch, bitrate.unwrap_or(MAX_BITRATE).into())
            .with_context(|| format!("cannot open UDP {udp} for WebRTC (--webrtc-udp)"))?;
    let guests: Vec<_> = feeds.iter().map(|feed| feed.name().to_owned()).collect();
    let host = if address.ip().is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
    } else {
        address
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let (url, pid) = (format!("{scheme}://{host}"), std::process::id());
    let serving = Serving { url, guests, pid, fingerprint };
    log::info!(
        "pages at {}, WebRTC on UDP {}; `transom link` makes links",
        serving.url,
        webrtc.address()
    );
    if let Some(fingerprint) = &serving.fingerprint {
        let path = store.path(tls::FILE).display().to_string();
        log::info!("browsers do not know the certificate in {path}; it is SHA-256 {fingerprint}");
    }
    if let Err(e) = store.note_serving(&serving) {
        log::warn!("`transom link` will not find this relay by itself: {e}");
    }
    let stages = feeds.into_iter().map(|feed| Stage::new(feed, args.shared_control)).collect();
    let settings = Settings {
        allow_hosts: args.allow_host.clone(),
        allow_origins: args.allow_origin.clone(),
        require_token: args.require_token,
    };
    let app = Arc::new(App::new(stages, webrtc, store, settings));
    tokio::spawn(http::serve(listener, app, tls));
    Ok(())
}
