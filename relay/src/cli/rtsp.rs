//! What `transom relay` may be told about RTSP, and the server that comes of it.

use std::time::{Duration, Instant};

use clap::{Args, builder::FalseyValueParser};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use transom_relay::{
    feed::Feed,
    rtsp::{Config, ListenAddr, Rtsp, RtspError},
};

/// How long players may take to be told that it is over.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);

/// Where players are served.
#[derive(Debug, Args)]
pub struct RtspArgs {
    /// Serve players by RTSP on this address, port, or both; 127.0.0.1:8554 if left out. Guests
    /// are at rtsp://ADDR/NAME.
    #[arg(long, value_name = "ADDR", env = "TRANSOM_RTSP", num_args = 0..=1, default_missing_value = "")]
    rtsp: Option<ListenAddr>,

    /// Let everybody watch who reaches the --rtsp address from the network.
    #[arg(long, env = "TRANSOM_RTSP_OPEN", requires = "rtsp", value_parser = FalseyValueParser::new())]
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
        mut stopped: watch::Receiver<()>,
    ) -> Result<Running, RtspError> {
        let Some(listen) = self.rtsp else { return Ok(Running(None)) };
        let config = Config { listen, open: self.rtsp_open, packet, epoch };
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
