//! Files out of the guest and into it. One that goes in appears under its name when it is complete
//! and on the disk, or not at all.
//!
//! What this refuses to do: paths that are not absolute or go through `..`, anything but regular
//! files, following a link at the end of a path that is written to.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::statvfs::{Statvfs, fstatvfs};
use transom_protocol::diagnostics::{GuestDiagnostics, HostDiagnostics};

use super::conversation::{Answer, Conversation, Ended, Heard, failed};
use crate::sys::sched;

/// Larger files have better ways to travel.
const MAX_FILE: u64 = 16 << 30;
/// A host that sends nothing for so long has forgotten about it.
const SILENCE: Duration = Duration::from_secs(30);

/// A file of the guest.
pub fn pull(talk: &mut Conversation, path: &str) -> Answer {
    let path = checked(path)?;
    let explain = |error: io::Error| failed(format!("{}: {error}", path.display()));
    let mut file = OpenOptions::new()
        .read(true)
        // A FIFO would wait for a writer.
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(explain)?;
    let meta = file.metadata().map_err(explain)?;
    if !meta.is_file() {
        return Err(failed(format!("{} is no regular file", path.display())));
    }
    let size = meta.len();
    let mode = meta.permissions().mode() & 0o7777;
    talk.say(&GuestDiagnostics::File { size, mode })?;
    move_bytes();
    let mut sent = 0;
    loop {
        match talk.say_read(&GuestDiagnostics::Data, &mut file)? {
            Ok(0) => break,
            Ok(count) => sent += count as u64,
            Err(error) => return Err(explain(error)),
        }
        if sent > MAX_FILE {
            return Err(failed(format!("{} has more than {MAX_FILE} bytes", path.display())));
        }
    }
    if sent < size {
        let name = path.display();
        return Err(failed(format!(
            "{name} was cut short while it was read: {sent} of {size} bytes"
        )));
    }
    Ok(())
}

/// A file for the guest.
pub fn push(talk: &mut Conversation, path: &str, mode: u32, size: u64) -> Answer {
    let path = checked(path)?;
    if size > MAX_FILE {
        return Err(failed(format!("{size} bytes are more than the {MAX_FILE} that are taken")));
    }
    if fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_symlink()) {
        return Err(failed(format!("{} is there and no regular file", path.display())));
    }
    let mut partial = Partial::create(path)?;
    let explain = |error: io::Error| failed(format!("{}: {error}", path.display()));
    // A disk that is too small says so before anything is sent. Setting the room aside instead would
    // have every page of a file in memory written twice, and others may fill the disk meanwhile
    // anyway where a file system cannot set room aside.
    if fstatvfs(&partial.file).is_ok_and(|disk| size > room(&disk)) {
        return Err(explain(nix::Error::ENOSPC.into()));
    }
    talk.expect_stream(SILENCE)?;
    move_bytes();
    let mut came = 0_u64;
    loop {
        match talk.hear_stream(SILENCE)? {
            Heard::Message(HostDiagnostics::Data, bulk) => {
                came += bulk.len() as u64;
                if came > size {
                    return Err(failed(format!("more than the {size} bytes that were announced")));
                }
                partial.file.write_all(&bulk).map_err(explain)?;
                talk.recycle(bulk);
            }
            Heard::Message(HostDiagnostics::EndOfData, _) => break,
            Heard::Message(..) => {}
            Heard::Nothing => {
                return Err(failed(format!("nothing came for {} seconds", SILENCE.as_secs())));
            }
            Heard::Closed => return Err(Ended::Gone(io::ErrorKind::UnexpectedEof.into())),
        }
    }
    if came < size {
        return Err(failed(format!("only {came} of {size} bytes came")));
    }
    partial.complete(path, mode & 0o7777).map_err(explain)
}

/// Bytes that a file system has left for us; one that does not count them (no blocks at all, as with
/// ramfs) has room until it says otherwise.
fn room(disk: &Statvfs) -> u64 {
    if disk.blocks() == 0 { u64::MAX } else { disk.blocks_available() * disk.fragment_size() }
}

/// What follows is many bytes and no conversation.
fn move_bytes() {
    if let Err(error) = sched::be_batch() {
        log::debug!("a copy runs like everything else: {error}");
    }
}

/// A path that is what it seems.
fn checked(path: &str) -> Answer<&Path> {
    let refuse = |why| Err(failed(format!("the path {path:?} {why}")));
    if path.contains('\0') {
        return refuse("has a NUL in it");
    }
    let path_ref = Path::new(path);
    if !path_ref.is_absolute() {
        return refuse("is not absolute");
    }
    if path_ref.components().any(|part| part == Component::ParentDir) {
        return refuse("goes through '..'");
    }
    if path_ref.file_name().is_none() || path.ends_with('/') {
        return refuse("names no file");
    }
    Ok(path_ref)
}

/// A file that is not complete; gone on drop.
struct Partial {
    file: File,
    path: PathBuf,
}

impl Partial {
    /// Beside its final place, so that a rename is all that is left to do.
    fn create(target: &Path) -> Answer<Self> {
        let explain = |error: io::Error| failed(format!("{}: {error}", target.display()));
        for attempt in 0..16 {
            let mut name = OsString::from(".transom-");
            name.push(format!("{}-{attempt}", std::process::id()));
            name.push(".partial");
            let path = target.with_file_name(name);
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(&path);
            match file {
                Ok(file) => return Ok(Self { file, path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(explain(error)),
            }
        }
        Err(failed(format!("{}: too many copies are under way", target.display())))
    }

    fn complete(self, target: &Path, mode: u32) -> io::Result<()> {
        self.file.set_permissions(fs::Permissions::from_mode(mode))?;
        self.file.sync_all()?;
        fs::rename(&self.path, target)?;
        // The name is on the disk when its folder is.
        if let Some(folder) = target.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename it is gone already.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_absolute_paths_are_taken() {
        for bad in ["", "x", "x/y", "/", "/x/", "/a/../b", "/a/..", "/a\0b", "../x"] {
            assert!(checked(bad).is_err(), "{bad:?}");
        }
        for good in ["/x", "/a/b", "/a/./b", "/a//b", "/..x/y.."] {
            assert!(checked(good).is_ok(), "{good:?}");
        }
    }
}
