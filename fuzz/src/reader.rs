//! What a host makes of an agent's answers, verb by verb: over a real socket, up to the text and
//! the files that a user gets.
//!
//! The first byte chooses the verb, the rest is what the agent says behind its welcome, on each
//! connection that the verb opens.

use std::{cell::RefCell, path::Path, time::Duration};

use ratatui::{Terminal, backend::TestBackend};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    runtime::Runtime,
};
use transom_protocol::{
    Capabilities, PORT, VERSION_MAX,
    diagnostics::{GuestDiagnostics, LogLevel, LogSource, Outcome, Request},
    message::{GuestHello, Text},
};
use transom_relay::{
    diag::{
        Client, DiagError, bundle::redact::Redactor, copy, doctor, info, logs, screenshot,
        settings, stats, top,
    },
    guest::GuestAddr,
};

use crate::{diagnostics, encoded};

/// How many verbs there are.
const VERBS: u8 = 8;

/// Where the agent listens, and whatever runs both sides.
struct House {
    runtime: Runtime,
    listener: UnixListener,
    client: Client,
    folder: TempDir,
    welcome: Vec<u8>,
}

thread_local! {
    static HOUSE: RefCell<House> = RefCell::new(House::new());
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("vsock");
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().expect("a runtime");
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(&path).expect("a socket")
        };
        let welcome = GuestHello::Welcome {
            version: VERSION_MAX,
            capabilities: Capabilities::DIAGNOSTICS,
            boot: [7; 16],
            software: Text::new("transom-agent 9.9.9"),
        };
        let welcome = [b"OK 1\n", &encoded(&welcome, &[])[1..]].concat();
        Self {
            runtime,
            listener,
            client: Client::new(GuestAddr::Unix(path), PORT),
            folder,
            welcome,
        }
    }
}

/// Asks, and checks that what comes out is fit for a terminal.
pub fn reader(data: &[u8]) {
    let Some((&verb, said)) = data.split_first() else { return };
    let page = String::from_utf8_lossy(said);
    let check = doctor::viewers::judge(&page, &GuestAddr::Vsock { cid: 3 });
    tame(check.found.as_str());
    HOUSE.with_borrow(|house| {
        house.runtime.block_on(async {
            tokio::select! {
                biased;
                never = agent(house, said) => match never {},
                // Whatever the agent says, a verb ends with it, by an answer or an error.
                result = ask(&house.client, verb % VERBS, house.folder.path()) => match result {
                    Ok(text) => tame(&text),
                    Err(error) => tame(&error.to_string()),
                },
            }
        });
    });
}

async fn agent(house: &House, said: &[u8]) -> std::convert::Infallible {
    // Kept open, so that a client's own words never fail.
    let mut open: Vec<UnixStream> = Vec::new();
    loop {
        let Ok((mut stream, _)) = house.listener.accept().await else { continue };
        // It may leave before it has heard all.
        let _ = stream.write_all(&house.welcome).await;
        let _ = stream.write_all(said).await;
        let _ = stream.shutdown().await;
        open.push(stream);
    }
}

async fn ask(client: &Client, verb: u8, folder: &Path) -> Result<String, DiagError> {
    let mut text = String::new();
    match verb {
        0 => {
            let info = info::info(client).await?;
            text = info.text(false) + &info.json().to_string();
        }
        1 => {
            let (source, level) = (LogSource::Kernel, LogLevel(7));
            let request = Request::Logs { source, level, since: 0, last: 0, follow: false };
            let mut logs = logs::Logs::open(client, request).await?;
            let mut redactor = Redactor::default();
            while let Some(entry) = logs.next().await? {
                text += &redactor.text(&entry.line(false));
                text += &redactor.json(entry.json().1).to_string();
            }
        }
        2 => {
            let shot = screenshot::screenshot(client, None).await?;
            // Of a size that the guest has told, if it has sent all of it.
            assert_eq!(
                shot.pixels.len() as u64,
                u64::from(shot.width) * u64::from(shot.height) * 3
            );
            shot.save(&folder.join("shot.png"))?;
        }
        3 => {
            let processes = top::top(client, 20).await?;
            text = top::text(&processes, 80) + &top::json(&processes).to_string();
        }
        4 => {
            let mut samples = stats::Samples::open(client, Duration::from_secs(1), 0).await?;
            let mut view = stats::view::View::new("vsock:3".into(), samples.agent());
            let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("infallible");
            while let Some(sample) = samples.next().await? {
                text += &stats::text(&samples.agent(), &sample);
                text += &stats::line(&sample);
                text += &stats::json(&sample).to_string();
                view.push(sample);
                terminal.draw(|frame| view.draw(frame)).expect("infallible");
            }
        }
        5 => {
            let report = doctor::examine(client, None, |_| Ok(())).await?;
            text = report.to_string() + &report.json().to_string();
        }
        6 => {
            let to = folder.join("pulled");
            let way = copy::Way::Pull { from: "/etc/passwd".into(), to: to.clone() };
            let result = copy::copy(client, &way, &mut |_, _| {}).await;
            // All of it, or nothing at all.
            assert_eq!(to.exists(), result.is_ok());
            let left = std::fs::read_dir(folder).expect("our folder").count();
            let _ = std::fs::remove_file(&to);
            assert!(left <= 3, "a piece was left");
            result?;
        }
        _ => settings::command(client, Request::RestartCompositor).await?,
    }
    Ok(text)
}

/// Nothing that a terminal would obey.
fn tame(text: &str) {
    let wild = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(wild, None, "{text:?}");
}

/// Every verb, with each kind of message and with all of them.
pub fn seeds() -> Vec<Vec<u8>> {
    let done = encoded(&GuestDiagnostics::End(Outcome::Done), &[]);
    let said: Vec<_> = diagnostics::guest_seeds().iter().map(|seed| seed[1..].to_vec()).collect();
    let all = [said[3..].concat(), done[1..].to_vec()].concat();
    let picture = encoded(&GuestDiagnostics::Picture { width: 2, height: 1 }, &[]);
    let pixels = encoded(&GuestDiagnostics::Data, &[1, 2, 3, 4, 5, 6]);
    let picture = [&[2], &picture[1..], &pixels[1..], &done[1..]].concat();
    let verbs = (0..VERBS).map(|verb| [&[verb], &all[..]].concat());
    let single = (0..VERBS).zip(said.iter().cycle().skip(3));
    let single = single.map(|(verb, said)| [&[verb], &said[..], &done[1..]].concat());
    let metrics = b"\x07transom_up{guest=\"a\",address=\"vsock:3\"} 1\n\
        transom_viewers{guest=\"a\"} 2\ntransom_frames_per_second{guest=\"a\"} 59.5\n";
    verbs.chain(single).chain([picture, metrics.to_vec()]).collect()
}
