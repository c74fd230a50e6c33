//! Figures for Prometheus: `GET /metrics` on an address of its own, off unless asked for.
//!
//! ```text
//!   Feed (state, figures of the relay) ─┐
//!                                       ├─▶ page.rs ─▶ text, at each request
//!   Sample (figures of the agent) ──────┘
//!      └─ one diagnostic connection for each guest, while it can be reached
//! ```
//!
//! What it refuses to do: hold up a stream. It reads what was published last, and a guest that
//! does not answer is missing from the page.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use tokio::{net::TcpListener, sync::watch};
use transom_protocol::diagnostics::Sample;

use crate::{
    diag::{Client, stats::Samples},
    feed::Feed,
    status,
};

mod page;

/// Between two samples of a guest: Prometheus comes every 15 seconds unless told otherwise.
const INTERVAL: Duration = Duration::from_secs(2);

/// Between two attempts to get samples.
const RETRY: Duration = Duration::from_secs(5);

/// The media type of Prometheus' text format.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where to listen: an address and a port, or a port alone, which is on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsAddr(pub SocketAddr);

impl FromStr for MetricsAddr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(port) = text.parse::<u16>() {
            return Ok(Self((Ipv4Addr::LOCALHOST, port).into()));
        }
        text.parse()
            .map(Self)
            .map_err(|_| "a port such as 9998, or ADDRESS:PORT such as 0.0.0.0:9998")
    }
}

impl fmt::Display for MetricsAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One guest, and what is known of it.
#[derive(Debug)]
struct Guest {
    feed: Feed,
    /// Addresses of plain RTP that it is sent to.
    targets: usize,
    sample: watch::Receiver<Option<Sample>>,
}

/// A listener whose guests are not known yet.
#[derive(Debug)]
pub struct Metrics {
    listener: TcpListener,
    guests: Vec<Guest>,
}

impl Metrics {
    /// Listens, so that a port that is taken is known before anything starts.
    ///
    /// # Errors
    ///
    /// The port is taken, or the address is none of this host.
    pub async fn bind(address: MetricsAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address.0).await.map_err(|e| {
            io::Error::new(e.kind(), format!("cannot serve metrics at {address}: {e}"))
        })?;
        log::info!("metrics at http://{}/metrics", listener.local_addr()?);
        Ok(Self { listener, guests: Vec::new() })
    }

    /// Adds a guest and begins to ask its agent for figures. Needs a runtime.
    pub fn add(&mut self, feed: Feed, port: u32, targets: usize) {
        let (sender, sample) = watch::channel(None);
        tokio::spawn(sampling(feed.clone(), port, sender));
        self.guests.push(Guest { feed, targets, sample });
    }

    /// Answers for as long as it is polled.
    ///
    /// # Errors
    ///
    /// The listener fails.
    pub async fn serve(self) -> io::Result<()> {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/", get(|| async { "transom relay: figures for Prometheus are at /metrics\n" }))
            .with_state(Arc::new(self.guests));
        axum::serve(self.listener, router).await
    }
}

async fn metrics(State(guests): State<Arc<Vec<Guest>>>) -> impl IntoResponse {
    let views: Vec<page::View> = guests
        .iter()
        .map(|guest| page::View {
            name: guest.feed.name().to_owned(),
            address: guest.feed.guest().to_string(),
            news: guest.feed.news().borrow().clone(),
            figures: guest.feed.figures().borrow().clone(),
            sample: guest.sample.borrow().clone(),
            viewers: guest.feed.viewers(),
            targets: guest.targets,
        })
        .collect();
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], page::page(&views))
}

/// Keeps the newest sample of a guest, while the relay has a connection to it.
async fn sampling(feed: Feed, port: u32, sender: watch::Sender<Option<Sample>>) {
    let client = Client::new(feed.guest().clone(), port);
    let mut news = feed.news();
    loop {
        let connected = |news: &crate::feed::News| is_connected(&news.state);
        if news.wait_for(connected).await.is_err() {
            return; // the relay of this guest has ended
        }
        let error = async {
            let mut samples = Samples::open(&client, INTERVAL, 0).await?;
            while let Some(sample) = samples.next().await? {
                sender.send_replace(Some(sample));
            }
            Ok::<_, crate::diag::DiagError>(())
        };
        if let Err(e) = error.await {
            log::debug!("no figures of the agent: {e}");
        }
        sender.send_replace(None);
        if sender.is_closed() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn is_connected(state: &status::State) -> bool {
    matches!(state, status::State::Streaming { .. } | status::State::NoPicture(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_on_loopback() {
        let parse = |text: &str| text.parse::<MetricsAddr>().map(|address| address.to_string());
        assert_eq!(parse("9998"), Ok("127.0.0.1:9998".into()));
        assert_eq!(parse("0.0.0.0:80"), Ok("0.0.0.0:80".into()));
        assert_eq!(parse("[::1]:80"), Ok("[::1]:80".into()));
        for text in ["", ":9998", "here:1", "70000", "127.0.0.1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
