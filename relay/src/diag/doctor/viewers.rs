//! What a relay says about its viewers: read from its metrics, if the user names them.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use transom_protocol::diagnostics::{Check, Verdict};

/// A relay answers at once.
const LIMIT: Duration = Duration::from_secs(3);

/// Metrics of a relay with many guests stay far below.
const MAX_PAGE: u64 = 4 * 1024 * 1024;

/// Asks the relay whose metrics are at `address` (HOST:PORT).
pub async fn ask(address: &str) -> Check {
    let page = match timeout(LIMIT, fetch(address)).await {
        Ok(Ok(page)) => page,
        Ok(Err(e)) => return unreachable(address, &e.to_string()),
        Err(_elapsed) => return unreachable(address, "no answer"),
    };
    judge(&page)
}

fn unreachable(address: &str, why: &str) -> Check {
    super::check(
        "viewer-receives",
        Verdict::Warn,
        format!("the relay at {address} could not be asked: {why}"),
        "Start the relay with --metrics, and name that address",
    )
}

/// One request by hand: an HTTP client would be a large guest for one line.
async fn fetch(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = Vec::new();
    stream.take(MAX_PAGE).read_to_end(&mut page).await?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// The sum of a metric over all guests and labels.
fn sum(page: &str, name: &str) -> Option<f64> {
    let values: Vec<f64> = page
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

fn judge(page: &str) -> Check {
    let say = |verdict, found: String, remedy: &str| {
        super::check("viewer-receives", verdict, found, remedy)
    };
    let Some(fps) = sum(page, "transom_frames_per_second") else {
        let found = "the relay streams nothing at the moment".into();
        return say(Verdict::Warn, found, "See what the relay says; the checks above tell why");
    };
    let viewers = sum(page, "transom_viewers").unwrap_or(0.0)
        + sum(page, "transom_rtp_targets").unwrap_or(0.0);
    let found = format!("the relay passes on {fps:.1} fps to {viewers:.0} viewers and targets");
    if viewers == 0.0 {
        say(Verdict::Warn, found, "Nobody watches: open a viewer, or name it with --rtp")
    } else {
        say(Verdict::Pass, found, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_by_whole_names() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# TYPE transom_viewers gauge\n\
            transom_viewers{guest=\"a b\"} 2\ntransom_viewers{guest=\"c\"} 1\ntransom_viewers_max 9\n\
            transom_frames_per_second{guest=\"a b\"} 59.5\n";
        assert_eq!(sum(page, "transom_viewers"), Some(3.0));
        assert_eq!(sum(page, "transom"), None);
        let check = judge(page);
        assert_eq!(check.verdict, Verdict::Pass, "{check:?}");
        assert!(check.found.as_str().contains("59.5 fps to 3 viewers and targets"), "{check:?}");
        assert_eq!(judge("").verdict, Verdict::Warn);
    }
}
