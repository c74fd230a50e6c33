//! One file into a guest or out of it.
//!
//! A file appears under its name when it is complete, on either side: the guest's agent sees to it
//! there, a temporary file beside the target here.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::NamedTempFile;
use tokio::{sync::mpsc, task::JoinHandle};
use transom_protocol::diagnostics::{
    GuestDiagnostics, HostDiagnostics, Line, MAX_DATA, MAX_LINE, Request,
};

use super::{Client, DiagError, client::OUTBOX};

/// A guest that writes to a slow disk may pause.
const SILENCE: Duration = Duration::from_secs(30);

/// Where from, where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Out of the guest.
    Pull {
        /// A path in the guest.
        from: String,
        /// A path here.
        to: PathBuf,
    },
    /// Into the guest.
    Push {
        /// A path here.
        from: PathBuf,
        /// A path in the guest.
        to: String,
    },
}

impl Way {
    /// Reads two names as scp does: the one with a colon in front is the guest's. A target that
    /// is a folder, or ends like one, gets the source's name.
    ///
    /// # Errors
    ///
    /// Words for a user.
    pub fn of(source: &str, target: &str) -> Result<Self, DiagError> {
        let usage = |text: &str| Err(DiagError::Usage(text.into()));
        match (source.strip_prefix(':'), target.strip_prefix(':')) {
            (Some(from), None) => {
                let from = guest_path(from)?;
                let name = from.rsplit('/').next().unwrap_or_default();
                if name.is_empty() {
                    return usage("name one file of the guest, not a folder");
                }
                let target = Path::new(target);
                let to = if target.is_dir() { target.join(name) } else { target.into() };
                Ok(Self::Pull { from, to })
            }
            (None, Some(to)) => {
                let from = PathBuf::from(source);
                let mut to = guest_path(to)?;
                if to.ends_with('/') {
                    match from.file_name().and_then(|name| name.to_str()) {
                        Some(name) => to.push_str(name),
                        None => {
                            return usage("the file's name is no text: name the target in full");
                        }
                    }
                }
                Ok(Self::Push { from, to: guest_path(&to)? })
            }
            (None, None) => usage(
                "one of the two has to be in the guest: write it as :/path, with a colon in front",
            ),
            (Some(_), Some(_)) => {
                usage("one of the two has to be here: only the guest's path has a colon in front")
            }
        }
    }
}

fn guest_path(path: &str) -> Result<String, DiagError> {
    if !path.starts_with('/') {
        return Err(DiagError::Usage(format!(
            "the guest's path is to begin with a slash: :/{path}"
        )));
    }
    if path.len() > MAX_LINE {
        return Err(DiagError::Usage(format!("the guest's path is longer than {MAX_LINE} bytes")));
    }
    if path.contains('\0') {
        return Err(DiagError::Usage("the guest's path has a NUL in it".into()));
    }
    Ok(path.into())
}

/// Called with the bytes copied so far, and all there are if that is known.
pub type Progress<'a> = &'a mut dyn FnMut(u64, Option<u64>);

/// Copies. Returns the number of bytes.
///
/// # Errors
///
/// See [`DiagError`].
pub async fn copy(client: &Client, way: &Way, progress: Progress<'_>) -> Result<u64, DiagError> {
    match way {
        Way::Pull { from, to } => pull(client, from, to, progress).await,
        Way::Push { from, to } => push(client, from, to, progress).await,
    }
}

async fn pull(
    client: &Client,
    from: &str,
    to: &Path,
    progress: Progress<'_>,
) -> Result<u64, DiagError> {
    let mut answers = client.ask(Request::Pull { path: Line::new(from) }).await?;
    answers.set_silence(Some(SILENCE));
    let failed = |why: io::Error| DiagError::File { path: to.into(), why };
    let mut target: Option<(Writer, u64, u32)> = None;
    let mut done = 0;
    while let Some(answer) = answers.next().await? {
        match (answer.message, &mut target) {
            // Nothing is written before the guest has the file.
            (GuestDiagnostics::File { size, mode }, None) => {
                target = Some((beside(to).and_then(Writer::start).map_err(failed)?, size, mode));
            }
            (GuestDiagnostics::Data, Some((writer, size, _))) => {
                done += answer.bulk.len() as u64;
                if writer.pieces.send(answer.bulk).await.is_err() {
                    // It says why below.
                    break;
                }
                progress(done, Some(*size).filter(|size| *size >= done));
            }
            _ => {}
        }
    }
    let (writer, _, mode) = target.ok_or_else(|| answers.nonsense("no file"))?;
    let file = writer.finish().await.map_err(failed)?;
    set_mode(file.as_file(), mode).map_err(failed)?;
    file.persist(to).map_err(|e| failed(e.error))?;
    Ok(done)
}

/// A file that is written beside the connection: neither waits for the other but when it has to. It is
/// gone when this is dropped, whatever is still being written to it.
struct Writer {
    file: NamedTempFile,
    pieces: mpsc::Sender<Vec<u8>>,
    task: JoinHandle<io::Result<()>>,
}

impl Writer {
    /// Pieces that may wait for the disk, [`MAX_DATA`] each at most.
    const WAITING: usize = 4;

    fn start(file: NamedTempFile) -> io::Result<Self> {
        let mut target = file.as_file().try_clone()?;
        let (pieces, mut come) = mpsc::channel::<Vec<u8>>(Self::WAITING);
        let task = tokio::task::spawn_blocking(move || {
            while let Some(piece) = come.blocking_recv() {
                target.write_all(&piece)?;
            }
            Ok(())
        });
        Ok(Self { file, pieces, task })
    }

    /// The file with all that was sent, or why it could not be written.
    async fn finish(self) -> io::Result<NamedTempFile> {
        drop(self.pieces);
        self.task.await.map_err(io::Error::other)??;
        Ok(self.file)
    }
}

async fn push(
    client: &Client,
    from: &Path,
    to: &str,
    progress: Progress<'_>,
) -> Result<u64, DiagError> {
    let failed = |why: io::Error| DiagError::File { path: from.into(), why };
    let mut file = File::open(from).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(failed(io::Error::other(
            "this is no regular file; one file is copied at a time",
        )));
    }
    let size = meta.len();
    let request = Request::Push { path: Line::new(to), mode: mode_of(&meta), size };
    let mut answers = client.ask(request).await?;
    answers.set_silence(Some(SILENCE));
    let (mut done, mut buffer) = (0, vec![0; MAX_DATA as usize]);
    while done < size {
        let most = buffer.len().min(usize::try_from(size - done).unwrap_or(usize::MAX));
        let count = file.read(&mut buffer[..most]).map_err(failed)?;
        if count == 0 {
            return Err(failed(io::Error::other("the file got shorter while it was copied")));
        }
        answers.queue(&HostDiagnostics::Data, &buffer[..count]);
        done += count as u64;
        while answers.waiting() > OUTBOX {
            answers.drive().await?;
            if answers.has_ended() {
                return Err(answers.nonsense("done, before it had all of the file"));
            }
        }
        progress(done.saturating_sub(answers.waiting() as u64), Some(size));
    }
    answers.queue(&HostDiagnostics::EndOfData, &[]);
    while answers.next().await?.is_some() {}
    progress(size, Some(size));
    Ok(size)
}

/// A temporary file in the folder of `path`, to be renamed to it.
pub(super) fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".transom-");
    // What the user's umask leaves of it, as for any new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

#[cfg(unix)]
fn mode_of(meta: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777
}

#[cfg(not(unix))]
fn mode_of(_: &std::fs::Metadata) -> u32 {
    0o644
}

#[cfg(unix)]
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    // Never set-user-id by a guest's word.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777))
}

#[cfg(not(unix))]
fn set_mode(_: &File, _: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_side_has_a_colon() {
        let folder = std::env::temp_dir();
        assert_eq!(
            Way::of(":/etc/os-release", "x").ok(),
            Some(Way::Pull { from: "/etc/os-release".into(), to: "x".into() })
        );
        assert_eq!(
            Way::of(":/etc/os-release", folder.to_str().expect("text")).ok(),
            Some(Way::Pull { from: "/etc/os-release".into(), to: folder.join("os-release") })
        );
        assert_eq!(
            Way::of("a/b", ":/tmp/").ok(),
            Some(Way::Push { from: "a/b".into(), to: "/tmp/b".into() })
        );
        let long = format!(":/{}", "x".repeat(MAX_LINE));
        for (source, target) in [
            ("a", "b"),
            (":/a", ":/b"),
            (":a", "b"),
            ("a", ":b"),
            (":/etc/", "b"),
            (&long, "b"),
            (":/a\0", "b"),
        ] {
            assert!(
                matches!(Way::of(source, target), Err(DiagError::Usage(_))),
                "{source} {target}"
            );
        }
    }
}
