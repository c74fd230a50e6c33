//! Which guests can be found from here, and how they are.
//!
//! ```text
//!   given by the user ─────────────────┐
//!   vsock sockets in run directories ──┼─▶ each once ─▶ one sample of figures each, all at a time
//!   command lines of hypervisors ──────┘                (processes.rs)
//! ```
//!
//! What it refuses to do: touch sockets that are not called after vsock. A monitor's socket serves
//! one client, and a stranger's greeting may cost it that one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use transom_protocol::{Role, diagnostics::Sample, message::Refusal};

use crate::{
    diag::{Client, DiagError, stats, tell},
    guest::{GuestAddr, hyperv::VmRef},
    link::LinkError,
    session::SessionError,
};

pub mod processes;

/// Guests that are asked at a time.
const AT_A_TIME: usize = 16;

/// Guests that are looked at; more than this is no run directory.
const MAX_GUESTS: usize = 1000;

/// How a guest was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Named by the user.
    Given,
    /// A socket in a run directory.
    RunDir,
    /// The command line of a hypervisor.
    Process,
    /// The list of a hypervisor.
    Hypervisor,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::RunDir => "run-dir",
            Self::Process => "process",
            Self::Hypervisor => "hypervisor",
        }
    }
}

/// What a guest said, if it did.
#[derive(Debug)]
pub struct Entry {
    /// Where it is.
    pub guest: GuestAddr,
    /// How it was found.
    pub source: Source,
    /// The agent's name and version, and its figures; or why there are none.
    pub answer: Result<(String, Sample), DiagError>,
}

/// Where guests keep their sockets unless a user says otherwise: where `transom vm` puts them, and
/// the system's runtime directory.
pub fn default_run_dirs() -> Vec<PathBuf> {
    #[cfg(unix)]
    let ours = [crate::vm::run::run_folder()];
    #[cfg(not(unix))]
    let ours: [PathBuf; 0] = [];
    ours.into_iter().chain([PathBuf::from("/run/transom")]).collect()
}

/// The machines of Hyper-V that run, of those that it lists: the others have no agent to ask.
pub fn running(listed: &[crate::vm::hyperv::Listed]) -> Vec<(GuestAddr, Source)> {
    let running = listed.iter().filter(|vm| vm.state == "Running");
    // By GUID: names need not be unique. Its own list has no other text there.
    let addresses = running.filter_map(|vm| vm.id.parse().ok().map(VmRef::Id));
    addresses.take(MAX_GUESTS).map(|vm| (GuestAddr::HyperV(vm), Source::Hypervisor)).collect()
}

/// Finds guests: those given, or all that can be found if none is.
pub fn find(given: &[GuestAddr], run_dirs: &[PathBuf]) -> Vec<(GuestAddr, Source)> {
    if !given.is_empty() {
        return given.iter().map(|guest| (guest.clone(), Source::Given)).collect();
    }
    let mut found = BTreeMap::new();
    let mut add = |guest: GuestAddr, source| {
        // One guest, one name, whichever way it was found.
        let guest = match guest {
            GuestAddr::Unix(path) => GuestAddr::Unix(path.canonicalize().unwrap_or(path)),
            other => other,
        };
        if found.len() < MAX_GUESTS {
            found.entry(guest.to_string()).or_insert((guest, source));
        }
    };
    for dir in run_dirs {
        for path in sockets(dir) {
            add(GuestAddr::Unix(path), Source::RunDir);
        }
    }
    for guest in processes::guests() {
        add(guest, Source::Process);
    }
    found.into_values().collect()
}

/// Sockets called after vsock in a folder and the folders in it.
fn sockets(dir: &Path) -> Vec<PathBuf> {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths = Vec::new();
    for entry in entries(dir).take(MAX_GUESTS) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            paths.extend(entries(&entry.path()).take(MAX_GUESTS).map(|entry| entry.path()));
        } else {
            paths.push(entry.path());
        }
    }
    paths.retain(|path| is_vsock_socket(path));
    paths.sort();
    paths
}

fn is_vsock_socket(path: &Path) -> bool {
    // NAME_PORT is where a host listens for its guest.
    let fits = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
        let port = name.rsplit_once('_').is_some_and(|(_, port)| port.parse::<u32>().is_ok());
        !port && (name.contains("vsock") || name == "v.sock")
    });
    #[cfg(unix)]
    let fits = fits
        && std::fs::symlink_metadata(path)
            .is_ok_and(|meta| std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()));
    fits
}

/// Asks all of them how they are. In the order in which they were found.
pub async fn ask(found: Vec<(GuestAddr, Source)>, port: u32) -> Vec<Entry> {
    let mut waiting = found.into_iter().enumerate();
    let mut asking = JoinSet::new();
    let mut entries = Vec::new();
    loop {
        while asking.len() < AT_A_TIME {
            let Some((i, (guest, source))) = waiting.next() else { break };
            asking.spawn(async move {
                let client = Client::new(guest.clone(), port);
                (i, Entry { answer: figures(&client).await, guest, source })
            });
        }
        match asking.join_next().await {
            Some(Ok(entry)) => entries.push(entry),
            Some(Err(e)) => log::error!("a guest's task failed: {e}"),
            None => break,
        }
    }
    entries.sort_by_key(|(i, _)| *i);
    entries.into_iter().map(|(_, entry)| entry).collect()
}

async fn figures(client: &Client) -> Result<(String, Sample), DiagError> {
    let mut samples = stats::Samples::open(client, Duration::from_millis(100), 1).await?;
    let agent = samples.agent();
    match samples.next().await? {
        Some(sample) => Ok((agent, sample)),
        None => {
            Err(DiagError::Nonsense { guest: client.guest().clone(), what: "no figures".into() })
        }
    }
}

impl Entry {
    /// One word for scripts.
    pub fn state(&self) -> &'static str {
        match &self.answer {
            Ok((_, sample)) if sample.stalled.is_some() => "stalled",
            // An agent that nobody watches does not look at the screen.
            Ok((_, sample)) if !sample.watched => "ready",
            Ok((_, sample)) if sample.width == 0 => "no-picture",
            Ok(_) => "streaming",
            Err(DiagError::Link {
                why: LinkError::Session(SessionError::Refused { role, why }),
                ..
            }) if *why == Refusal::Role(Role::DIAGNOSTICS) && *role == Role::DIAGNOSTICS => {
                "old-agent"
            }
            Err(DiagError::Connect(_)) => "unreachable",
            Err(_) => "no-answer",
        }
    }

    /// The body of a JSON line.
    pub fn json(&self) -> Value {
        let mut body = json!({
            "state": self.state(), "found": self.source.name(),
            "text": null, "agent": null, "width": null, "height": null, "encoder": null,
            "fps": null, "uptime_ms": null,
        });
        match &self.answer {
            Ok((agent, sample)) => {
                let figures = stats::json(sample);
                for field in ["width", "height", "encoder", "fps", "uptime_ms"] {
                    body[field] = figures[field].clone();
                }
                body["text"] = figures["display"].clone();
                body["agent"] = json!(agent);
            }
            Err(error) => body["text"] = json!(error.to_string()),
        }
        body
    }
}

/// A table for people; what is wrong with a guest stands below it.
pub fn text(entries: &[Entry]) -> String {
    let head = ["GUEST", "STATE", "SIZE", "FPS", "ENCODER", "AGENT", "UP"].map(str::to_owned);
    let rows = entries.iter().map(|entry| match &entry.answer {
        Ok((agent, sample)) => [
            entry.guest.to_string(),
            entry.state().into(),
            if sample.width == 0 {
                "–".into()
            } else {
                format!("{}x{}", sample.width, sample.height)
            },
            format!("{:.1}", stats::thousandths(sample.encoded_rate)),
            sample.encoder.to_string(),
            agent.clone(),
            tell::span(Duration::from_millis(sample.uptime)),
        ],
        Err(_) => {
            let nothing = || "–".to_owned();
            [
                entry.guest.to_string(),
                entry.state().into(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
            ]
        }
    });
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(rows).collect();
    let widths: Vec<usize> =
        (0..7).map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let line: Vec<_> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    for entry in entries {
        if let Err(error) = &entry.answer {
            text.push_str(&format!("{error}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::stats::tests::sample;

    #[test]
    fn a_table_lines_up_and_says_what_is_wrong() {
        let gone = || DiagError::Silent {
            guest: GuestAddr::Vsock { cid: 7 },
            after: Duration::from_secs(9),
        };
        let fine = Sample { stalled: None, ..sample() };
        let entries = [
            Entry {
                guest: GuestAddr::Vsock { cid: 3 },
                source: Source::Process,
                answer: Ok(("transom-agent 0.1.0".into(), fine)),
            },
            Entry {
                guest: GuestAddr::Vsock { cid: 7 },
                source: Source::Given,
                answer: Err(gone()),
            },
        ];
        let text = text(&entries);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("STATE"), lines[1].find("streaming"));
        assert!(lines[1].contains("1280x720  60.0  screen"), "{text}");
        assert!(lines[2].starts_with("vsock:7  no-answer"), "{text}");
        assert!(lines[3].contains("no answer for 9 s"), "{text}");
        assert_eq!(entries[0].json()["encoder"], "screen");
        assert_eq!(entries[1].json()["width"], Value::Null);
    }

    #[test]
    fn machines_of_hyper_v_are_guests_while_they_run() {
        let guids =
            ["0f3c2a64-92a1-4a8b-8d5b-7a1d2f3e4c5b", "0f3c2a64-92a1-4a8b-8d5b-7a1d2f3e4c5c"];
        let said = format!("{}\tRunning\tBüro\r\n{}\tOff\tdoom\r\nnoise\r\n", guids[0], guids[1]);
        let found = running(&crate::vm::hyperv::parse_list(&said));
        let found: Vec<_> =
            found.iter().map(|(guest, source)| (guest.to_string(), *source)).collect();
        assert_eq!(found, [(format!("hyperv:{}", guids[0]), Source::Hypervisor)]);
    }

    #[cfg(unix)]
    #[test]
    fn run_directories_are_searched_for_vsock_sockets_alone() {
        use std::os::unix::net::UnixListener;
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path().canonicalize().expect("a folder");
        std::fs::create_dir(dir.join("doom")).expect("a folder");
        let names = ["a.vsock", "doom/guest.vsock", "doom/qmp", "doom/guest.vsock_1024", "v.sock"];
        let _sockets: Vec<_> = names
            .iter()
            .map(|name| UnixListener::bind(dir.join(name)).expect("a socket"))
            .collect();
        std::fs::write(dir.join("no.vsock"), "").expect("a file");
        let found: Vec<_> = sockets(&dir);
        assert_eq!(found, ["a.vsock", "doom/guest.vsock", "v.sock"].map(|name| dir.join(name)));
    }
}
