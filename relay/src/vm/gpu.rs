//! The libraries of this host's GPU driver, on their way into a guest: `transom vm gpu-inject`.
//!
//! ```text
//!  collect.rs  System32\lxss\lib, WSL\lib ───────────────────┐
//!              DriverStore\FileRepository\FOLDER (its inf) ──┴─▶ Bundle: files and their list
//!  here        the guest's list ─▶ what differs is pushed ─▶ the new list ─▶ Request::UseGpu
//! ```
//!
//! A Linux guest talks to the part of the GPU that Hyper-V lends it by libraries of Microsoft's and
//! of the GPU's vendor, and they have to be of the very version of the host's driver. None is in the
//! image: the host brings its own. The guest's root is volatile, so that this happens anew at each of
//! its boots, and whatever it still has is not sent again.
//!
//! What this refuses to do: send anything that is no library for Linux.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::watch;
use transom_protocol::{
    diagnostics::{GuestDiagnostics, Outcome, Request, Value},
    gpu::{BadManifest, FOLDER, LIST, MAX_LIST, Manifest},
};

use crate::{
    diag::{Client, DiagError, copy},
    feed::News,
};

pub mod collect;

pub use collect::{Bundle, CollectError, Sources};

/// The guest runs `ldconfig`, and loads modules.
const SILENCE: Duration = Duration::from_secs(60);
/// Most facts that a guest may answer with.
const MAX_FACTS: usize = 100;

/// Why a guest did not get them.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// There is nothing to bring.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// The guest does not take it.
    #[error(transparent)]
    Guest(#[from] DiagError),
    /// The guest's list is none.
    #[error("the guest's list of GPU libraries ({LIST}): {0}")]
    List(#[from] BadManifest),
    /// A temporary file.
    #[error("cannot write a temporary file: {0}")]
    Temporary(std::io::Error),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// Files that were sent, …
    pub sent: usize,
    /// … their bytes, …
    pub bytes: u64,
    /// … and files that the guest had already.
    pub kept: usize,
    /// What the guest says of itself.
    pub facts: Vec<(String, String)>,
}

/// Tells how far it is: bytes done, bytes in all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// What the guest has of it; nothing, if it was never brought any.
///
/// # Errors
///
/// The guest is not reached, does not allow it, or answers nonsense.
pub async fn known(client: &Client) -> Result<Manifest, GpuError> {
    let mut text = Vec::new();
    let pulled: Result<(), DiagError> = async {
        let path = transom_protocol::diagnostics::Line::new(LIST);
        let mut answers = client.ask(Request::Pull { path }).await?;
        while let Some(answer) = answers.next().await? {
            if answer.message == GuestDiagnostics::Data {
                text.extend_from_slice(&answer.bulk);
            }
            if text.len() > MAX_LIST {
                return Err(answers.nonsense("a list without an end"));
            }
        }
        Ok(())
    }
    .await;
    match pulled {
        Ok(()) => {
            // A list that does not read is as good as none: all is sent again.
            Ok(Manifest::parse(&String::from_utf8_lossy(&text)).unwrap_or_default())
        }
        // Its words are the system's: "No such file or directory". Whatever is wrong with the guest
        // beyond that, the first push will tell.
        Err(DiagError::Ended { outcome: Outcome::Failed { .. }, .. }) => Ok(Manifest::default()),
        Err(e) => Err(e.into()),
    }
}

/// Brings a bundle into a guest that has `known` of it, and has it taken into use.
///
/// # Errors
///
/// See [`GpuError`].
pub async fn bring(
    client: &Client,
    bundle: &Bundle,
    known: &Manifest,
    progress: Progress<'_>,
) -> Result<Done, GpuError> {
    let has: BTreeMap<_, _> = known.files.iter().map(|entry| (&entry.path, entry)).collect();
    let (kept, missing): (Vec<_>, Vec<_>) =
        bundle.files().partition(|(entry, _)| has.get(&entry.path) == Some(entry));
    let mut done = Done { kept: kept.len(), sent: missing.len(), ..Done::default() };
    let total = missing.iter().map(|(entry, _)| entry.length).sum();
    if !missing.is_empty() {
        // Broken off in the middle, the guest's list must claim no file that is half another's.
        let files = kept.iter().map(|(entry, _)| (*entry).clone()).collect();
        put_list(client, &Manifest { drivers: known.drivers.clone(), files }).await?;
    }
    for (entry, source) in missing {
        let (before, to) = (done.bytes, format!("{FOLDER}/{}", entry.path));
        let way = copy::Way::Push { from: source.into(), to };
        copy::copy(client, &way, &mut |bytes, _| progress(before + bytes, total)).await?;
        done.bytes += entry.length;
    }
    if known != &bundle.manifest {
        put_list(client, &bundle.manifest).await?;
    }
    let mut answers = client.ask(Request::UseGpu).await?;
    answers.set_silence(Some(SILENCE));
    while let Some(answer) = answers.next().await? {
        if let GuestDiagnostics::Fact { path, value } = answer.message
            && done.facts.len() < MAX_FACTS
        {
            let value = match value {
                Value::Text(text) => text.to_string(),
                Value::Number(number) => number.to_string(),
                Value::Flag(flag) => if flag { "yes" } else { "no" }.into(),
            };
            done.facts.push((path.to_string(), value));
        }
    }
    Ok(done)
}

async fn put_list(client: &Client, manifest: &Manifest) -> Result<(), GpuError> {
    let file = tempfile::NamedTempFile::new().map_err(GpuError::Temporary)?;
    std::fs::write(file.path(), manifest.to_string()).map_err(GpuError::Temporary)?;
    let way = copy::Way::Push { from: file.path().into(), to: LIST.into() };
    copy::copy(client, &way, &mut |_, _| {}).await?;
    Ok(())
}

/// Brings the libraries into a guest, whatever it has.
///
/// # Errors
///
/// See [`GpuError`].
pub async fn inject(
    client: &Client,
    sources: Sources,
    progress: Progress<'_>,
) -> Result<(Bundle, Done), GpuError> {
    // First, for it costs next to nothing: most refusals come here.
    let known = known(client).await?;
    let bundle = tokio::task::spawn_blocking(move || collect::collect(&sources))
        .await
        .map_err(|e| CollectError::Read(PathBuf::new(), std::io::Error::other(e)))??;
    let done = bring(client, &bundle, &known, progress).await?;
    Ok((bundle, done))
}

/// Sees to it for as long as a relay runs: at each boot of the guest, once it is connected. On a
/// thread of its own: it reads some hundred megabytes, and pictures do not wait for that.
///
/// # Errors
///
/// The system gives no thread.
pub fn keep_up(
    news: watch::Receiver<News>,
    client: Client,
    sources: Sources,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("gpu".into());
    thread.spawn(move || runtime.block_on(keep(news, client, sources))).map(drop)
}

async fn keep(mut news: watch::Receiver<News>, client: Client, sources: Sources) {
    let mut served = None;
    loop {
        let boot = news.borrow_and_update().boot;
        if boot.is_some() && boot != served {
            served = boot;
            let guest = client.guest();
            match inject(&client, sources.clone(), &mut |_, _| {}).await {
                Ok((_, done)) if done.sent > 0 => {
                    log::info!(
                        "{guest}: brought in {} libraries of this host's GPU driver",
                        done.sent
                    );
                }
                Ok(_) => log::debug!("{guest}: has the libraries of this host's GPU driver"),
                Err(GpuError::Guest(DiagError::Ended {
                    outcome: Outcome::Forbidden { .. } | Outcome::Unsupported,
                    ..
                })) => log::debug!("{guest}: takes no GPU libraries"),
                Err(GpuError::Collect(CollectError::Nothing(_))) => {
                    log::debug!("{guest}: this host has no GPU libraries for it");
                }
                Err(e) => log::warn!("no GPU libraries for the guest: {e}"),
            }
        }
        if news.changed().await.is_err() {
            return;
        }
    }
}

impl Bundle {
    /// Entries of the list, each with where it is here.
    pub fn files(&self) -> impl Iterator<Item = (&transom_protocol::gpu::Entry, &Path)> {
        self.manifest.files.iter().zip(self.sources.iter().map(PathBuf::as_path))
    }
}
