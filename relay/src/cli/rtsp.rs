//! What `transom relay` may be told about RTSP, and the server that comes of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{Args, builder::FalseyValueParser};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use transom_relay::{
    feed::Feed,
    rtsp::{Config, Doors, ListenAddr, Rtsp},
};

use super::state::StateArgs;

/// How long players may take to be told that it is over.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);

/// Where players are served.
#[derive(Debug, Args)]
pub struct RtspArgs {
    /// Serve players by RTSP on this address, port, or both; 127.0.0.1:8554 if left out. Guests
    /// are at rtsp://ADDR/NAME.
    #[arg(long, value_name = "ADDR", env = "TRANSOM_RTSP", num_args = 0..=1, default_missing_value = "")]
    rtsp: Option<ListenAddr>,

    /// Let everybody watch who reaches the --rtsp address from the network, without a link.
    #[arg(
        long,
        env = "TRANSOM_RTSP_OPEN",
        requires = "rtsp",
        conflicts_with = "require_token",
        value_parser = FalseyValueParser::new()
    )]
    rtsp_open: bool,
}

/// A server that runs.
pub struct Running(Option<JoinHandle<()>>);

impl RtspArgs {
    /// Serves the guests of `feeds` if that is wanted, until `stopped` changes.
    pub fn start(
        &self,
        packet: usize,
        epoch: Instant,
        feeds: &[Feed],
        state: &StateArgs,
        require_token: bool,
        mut stopped: watch::Receiver<()>,
    ) -> anyhow::Result<Running> {
        let Some(listen) = self.rtsp else { return Ok(Running(None)) };
        let secret = || state.open().map(Arc::new).context("no secret to check links with");
        let doors = if self.rtsp_open {
            Doors::Open
        } else if require_token {
            Doors::Locked(secret()?)
        } else if listen.0.ip().is_loopback() {
            Doors::Local(None)
        } else {
            Doors::Local(Some(secret()?))
        };
        let config = Config { listen, doors, packet, epoch };
        let server = Rtsp::bind(&config, feeds)?;
        log::info!("RTSP at {}", server.addresses().join(", "));
        Ok(Running(Some(tokio::spawn(server.run(async move {
            // An error means that the sender is gone, and with it the reason to go on.
            let _ = stopped.changed().await;
        })))))
    }
}

impl Running {
    /// Waits until players know that it is over.
    pub async fn finish(self) {
        if let Running(Some(task)) = self {
            let _ = timeout(FAREWELL_TIMEOUT, task).await;
        }
    }
}
