//! One archive for a bug report: everything that the other verbs tell, without secrets.
//!
//! In: a guest, reachable or not. Out: a tar packed by zstd, whose `manifest.json` names each file
//! and says which could not be had, and why. Log lines, command lines and settings pass
//! [`redact`] first; a screenshot shows what the screen showed and can be left out.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use transom_protocol::diagnostics::{LogLevel, LogSource, Request};

use super::{Client, DiagError, copy, doctor, info, logs, screenshot, stats, top};

pub mod redact;

use redact::Redactor;

/// What a reader of `manifest.json` can rely on.
const FORMAT: u32 = 1;

/// Records of each log, the newest.
const RECORDS: u32 = 20_000;

/// Bytes of each log.
const MAX_LOG: usize = 16 * 1024 * 1024;

/// Samples of the stream's figures.
const SAMPLES: u32 = 5;

/// No part may hold up the others for longer.
const PART_LIMIT: Duration = Duration::from_secs(60);

/// What a bundle has become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Names of the files in it.
    pub files: Vec<String>,
    /// Parts that are missing, and why.
    pub missing: Vec<(String, String)>,
    /// Secrets that were taken out.
    pub redacted: u64,
    /// Size of the archive.
    pub bytes: u64,
}

/// Files on their way into the archive.
#[derive(Debug, Default)]
struct Parts {
    files: Vec<(String, Vec<u8>)>,
    missing: Vec<(String, String)>,
}

impl Parts {
    fn take(&mut self, name: &str, part: Result<Vec<u8>, DiagError>) {
        match part {
            Ok(bytes) => self.files.push((name.into(), bytes)),
            Err(error) => self.missing.push((name.into(), error.to_string())),
        }
    }
}

/// Collects everything into the file `path`. `tell` is called with what is being collected.
///
/// # Errors
///
/// The archive cannot be written. A guest that does not answer is part of the report.
pub async fn bundle(
    client: &Client,
    path: &Path,
    with_screenshot: bool,
    mut tell: impl FnMut(&str),
) -> Result<Summary, DiagError> {
    // Fails at once if it will fail: what follows takes seconds.
    let file = copy::beside(path).map_err(DiagError::file(path))?;
    let mut redactor = Redactor::default();
    let mut parts = Parts::default();

    tell("doctor");
    let report = doctor::examine(client, None, |_| Ok(())).await?;
    let text = redactor.text(&report.to_string());
    parts.files.push(("doctor.txt".into(), text.into_bytes()));
    parts.files.push(("doctor.json".into(), pretty(&redactor.json(report.json()))));
    let reachable = report.checks.iter().any(|check| {
        check.name.as_str() == "agent-answers"
            && check.verdict == transom_protocol::diagnostics::Verdict::Pass
    });

    let mut agent = None;
    if reachable {
        tell("info");
        let facts = limited(client, info::info(client)).await;
        agent = facts.as_ref().ok().map(|info| info.agent.clone());
        parts.take("info.json", facts.map(|info| pretty(&redactor.json(info.json()))));
        tell("stats");
        parts.take("stats.jsonl", limited(client, samples(client)).await);
        tell("top");
        let processes = limited(client, top::top(client, 1000)).await;
        parts.take(
            "top.txt",
            processes.map(|list| redactor.text(&top::text(&list, usize::MAX)).into_bytes()),
        );
        let sources = [
            ("logs/agent.txt", LogSource::Agent),
            ("logs/kernel.txt", LogSource::Kernel),
            ("logs/journal.txt", LogSource::Journal { unit: None }),
        ];
        for (name, source) in sources {
            tell(name);
            let log = limited(client, log(client, source)).await;
            parts.take(name, log.map(|text| redactor.text(&text).into_bytes()));
        }
        if with_screenshot {
            tell("screenshot");
            let shot = limited(client, screenshot::screenshot(client, None)).await;
            let png = shot.and_then(|shot| {
                shot.png().map_err(|e| DiagError::File {
                    path: "screenshot.png".into(),
                    why: std::io::Error::other(e),
                })
            });
            parts.take("screenshot.png", png);
        }
    } else {
        let why = "the agent was not reached: see doctor.txt".to_owned();
        let names = [
            "info.json",
            "stats.jsonl",
            "top.txt",
            "logs/agent.txt",
            "logs/kernel.txt",
            "logs/journal.txt",
            "screenshot.png",
        ];
        parts.missing.extend(names.map(|name| (name.to_owned(), why.clone())));
    }

    tell("packing");
    parts.missing.iter_mut().for_each(|(_, why)| *why = redactor.text(why));
    let manifest = manifest(client, agent.as_deref(), &parts, redactor.count());
    parts.files.insert(0, ("manifest.json".into(), pretty(&manifest)));
    pack(&file, &parts.files).map_err(DiagError::file(path))?;
    let bytes = file.as_file().metadata().map_err(DiagError::file(path))?.len();
    file.persist(path).map_err(|e| DiagError::File { path: path.into(), why: e.error })?;
    Ok(Summary {
        files: parts.files.into_iter().map(|(name, _)| name).collect(),
        missing: parts.missing,
        redacted: redactor.count(),
        bytes,
    })
}

/// A part that hangs is a finding, not a reason to have no bundle.
async fn limited<T>(
    client: &Client,
    part: impl Future<Output = Result<T, DiagError>>,
) -> Result<T, DiagError> {
    tokio::time::timeout(PART_LIMIT, part).await.unwrap_or_else(|_| {
        Err(DiagError::Silent { guest: client.guest().clone(), after: PART_LIMIT })
    })
}

async fn samples(client: &Client) -> Result<Vec<u8>, DiagError> {
    let mut samples = stats::Samples::open(client, Duration::from_millis(500), SAMPLES).await?;
    let mut lines = String::new();
    while let Some(sample) = samples.next().await? {
        lines.push_str(&format!("{}\n", stats::json(&sample)));
    }
    Ok(lines.into_bytes())
}

async fn log(client: &Client, source: LogSource) -> Result<String, DiagError> {
    let request =
        Request::Logs { source, level: LogLevel(7), since: 0, last: RECORDS, follow: false };
    let mut logs = logs::Logs::open(client, request).await?;
    let mut text = String::new();
    while let Some(entry) = logs.next().await? {
        text.push_str(&entry.line(false));
        if text.len() > MAX_LOG {
            text.push_str("… cut here\n");
            break;
        }
    }
    Ok(text)
}

fn manifest(client: &Client, agent: Option<&str>, parts: &Parts, redacted: u64) -> Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let file = |(name, bytes): &(String, Vec<u8>)| json!({ "name": name, "bytes": bytes.len() });
    let missing = |(name, why): &(String, String)| json!({ "name": name, "why": why });
    json!({
        "format": FORMAT,
        "created": now.as_secs(),
        "guest": client.guest().to_string(),
        "transom": env!("CARGO_PKG_VERSION"),
        "agent": agent,
        "host": { "system": std::env::consts::OS, "architecture": std::env::consts::ARCH },
        "files": parts.files.iter().map(file).collect::<Vec<_>>(),
        "missing": parts.missing.iter().map(missing).collect::<Vec<_>>(),
        "redacted": redacted,
    })
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

fn pack(file: &tempfile::NamedTempFile, files: &[(String, Vec<u8>)]) -> std::io::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let packer =
        zstd::stream::write::Encoder::new(file.as_file(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
    let mut archive = tar::Builder::new(packer);
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(now.as_secs());
        archive.append_data(&mut header, format!("transom-bundle/{name}"), bytes.as_slice())?;
    }
    archive.into_inner()?.finish()?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn an_archive_can_be_unpacked() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let files = vec![
            ("a.txt".to_owned(), b"one".to_vec()),
            ("logs/b.txt".to_owned(), vec![7; 100_000]),
        ];
        pack(&file, &files).expect("a disk with room");
        let unpacked =
            zstd::stream::read::Decoder::new(file.reopen().expect("a file")).expect("zstd");
        let mut archive = tar::Archive::new(unpacked);
        let mut back = Vec::new();
        for entry in archive.entries().expect("a tar") {
            let mut entry = entry.expect("an entry");
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("its bytes");
            let path = entry.path().expect("a path").to_string_lossy().into_owned();
            back.push((path.trim_start_matches("transom-bundle/").to_owned(), bytes));
        }
        assert_eq!(back, files);
    }
}
