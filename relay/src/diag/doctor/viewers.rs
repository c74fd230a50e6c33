//! What a relay says about its viewers: read from its metrics, if the user names them.

use std::{path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use transom_protocol::diagnostics::{Check, Verdict};

use crate::guest::GuestAddr;

/// A relay answers at once.
const LIMIT: Duration = Duration::from_secs(3);

/// Metrics of a relay with many guests stay far below.
const MAX_PAGE: u64 = 4 * 1024 * 1024;

/// Without a relay to ask there is nothing to judge.
pub fn unasked() -> Check {
    let found = "not looked at: --relay HOST:PORT names the relay whose --metrics tell";
    super::check("viewer-receives", Verdict::Skip, found, "")
}

/// Asks the relay whose metrics are at `address` (HOST:PORT) about one guest.
pub async fn ask(address: &str, guest: &GuestAddr) -> Check {
    let page = match timeout(LIMIT, fetch(address)).await {
        Ok(Ok(page)) => page,
        Ok(Err(e)) => return unreachable(address, &e.to_string()),
        Err(_elapsed) => return unreachable(address, "no answer"),
    };
    judge(&page, guest)
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

/// A line of the page: its labels, and its value.
type Point<'a> = (Vec<(&'a str, String)>, f64);

/// The points of a metric.
fn points<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = Point<'a>> {
    page.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?.strip_prefix('{')?;
        let (labels, value) = labels(rest)?;
        Some((labels, value.trim().parse().ok()?))
    })
}

/// Labels up to the closing bracket, and what is behind it.
fn labels(mut rest: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        if let Some(value) = rest.strip_prefix('}') {
            return Some((labels, value));
        }
        let (name, quoted) = rest.trim_start_matches(',').split_once("=\"")?;
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((name, value));
        rest = &quoted[end..];
    }
}

fn label<'a>(point: &'a Point<'_>, name: &str) -> Option<&'a str> {
    point.0.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_str())
}

/// Whether two addresses mean the same guest, however their paths are written.
fn same(one: &GuestAddr, other: &str) -> bool {
    match (one, other.parse()) {
        (GuestAddr::Unix(one), Ok(GuestAddr::Unix(other))) => {
            let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
            real(one) == real(&other)
        }
        (one, Ok(other)) => *one == other,
        (one, Err(_)) => one.to_string() == other,
    }
}

/// What a page of metrics says of one guest.
pub fn judge(page: &str, guest: &GuestAddr) -> Check {
    let say = |verdict, found: String, remedy: &str| {
        super::check("viewer-receives", verdict, found, remedy)
    };
    let ours = points(page, "transom_up")
        .find(|point| label(point, "address").is_some_and(|address| same(guest, address)));
    let Some(up) = ours else {
        let found = "that relay does not serve this guest".into();
        return say(
            Verdict::Warn,
            found,
            "Name the relay that does: `transom relay GUEST --metrics`",
        );
    };
    if up.1 == 0.0 {
        let found = "the relay is not connected to the guest".into();
        return say(Verdict::Fail, found, "See what the relay says on its terminal");
    }
    let name = label(&up, "guest");
    let value = |metric| {
        points(page, metric).find(|point| label(point, "guest") == name).map(|(_, value)| value)
    };
    let Some(fps) = value("transom_frames_per_second") else {
        let found = "the relay has no picture to pass on".into();
        return say(
            Verdict::Fail,
            found,
            "The checks above tell why; else see what the relay says",
        );
    };
    let viewers = value("transom_viewers").unwrap_or(0.0);
    let targets = value("transom_rtp_targets").unwrap_or(0.0);
    let found = format!("{viewers:.0} viewers and {targets:.0} RTP targets get {fps:.1} fps");
    if viewers + targets == 0.0 {
        say(Verdict::Warn, found, "Nobody watches: open a viewer, or name it with --rtp")
    } else {
        say(Verdict::Pass, found, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "HTTP/1.0 200 OK\r\n\r\n# TYPE transom_up gauge\n\
        transom_up{guest=\"a b\",address=\"vsock:3\"} 1\n\
        transom_up{guest=\"c\",address=\"unix:/a\\\"b\\\\c,}\"} 1\n\
        transom_up{guest=\"d\",address=\"vsock:5\"} 0\n\
        transom_up{guest=\"e\",address=\"vsock:6\"} 1\n\
        transom_viewers{guest=\"a b\"} 2\ntransom_viewers{guest=\"c\"} 0\n\
        transom_viewers_max{guest=\"a b\"} 9\n\
        transom_frames_per_second{guest=\"a b\"} 59.5\n\
        transom_frames_per_second{guest=\"c\"} 30\n";

    #[test]
    fn each_guest_is_judged_by_its_own_figures() {
        let of = |guest: &str| judge(PAGE, &guest.parse().expect("an address"));
        let check = of("vsock:3");
        assert_eq!(check.verdict, Verdict::Pass, "{check:?}");
        assert!(check.found.as_str().contains("2 viewers and 0 RTP targets get 59.5 fps"));
        let check = of("unix:/a\"b\\c,}");
        assert_eq!(check.verdict, Verdict::Warn, "{check:?}");
        assert!(check.remedy.as_str().contains("Nobody watches"), "{check:?}");
        assert_eq!(of("vsock:5").verdict, Verdict::Fail);
        assert!(of("vsock:6").found.as_str().contains("no picture"));
        assert!(of("vsock:9").found.as_str().contains("does not serve"));
    }

    #[test]
    fn a_page_that_is_none_is_no_panic() {
        for page in [
            "",
            "transom_up",
            "transom_up{",
            "transom_up{a=\"",
            "transom_up{a=\"\\",
            "transom_up{} x",
        ] {
            assert_eq!(judge(page, &GuestAddr::Vsock { cid: 3 }).verdict, Verdict::Warn, "{page}");
        }
    }
}
