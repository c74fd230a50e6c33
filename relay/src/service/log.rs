//! The log of a service of Windows, which has no terminal and no journal: a file of bounded size.
//!
//! ```text
//!   transom.log       what is being written
//!   transom.log.old   what was before it, once that was full
//! ```

use std::{
    fs::{File, OpenOptions, rename},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Bytes of one file: days of ordinary running, and quick to send.
const MAX: u64 = 4 << 20;

/// A file that starts anew when it is full.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    length: u64,
    max: u64,
}

impl LogFile {
    /// Goes on with the file `transom.log` in a folder.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Self::with_max(folder, MAX)
    }

    fn with_max(folder: &Path, max: u64) -> io::Result<Self> {
        let path = folder.join("transom.log");
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        let length = file.metadata()?.len();
        Ok(Self { path, file, length, max })
    }

    fn start_anew(&mut self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("")).to_owned();
        // Windows renames what is open by nobody but us: Rust opens files for that.
        rename(&self.path, folder.join("transom.log.old"))?;
        *self = Self::with_max(&folder, self.max)?;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Rather no end to the file than no log.
        if self.length >= self.max && self.start_anew().is_err() {
            self.length = 0;
        }
        let written = self.file.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_anew_and_keeps_what_was_before() {
        let folder = std::env::temp_dir().join(format!("transom-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let mut log = LogFile::with_max(&folder, 10).expect("a file");
        for line in ["first\n", "second\n", "third\n"] {
            log.write_all(line.as_bytes()).expect("written");
        }
        assert_eq!(
            (read("transom.log.old"), read("transom.log")),
            ("first\nsecond\n".into(), "third\n".into())
        );
        drop(log);
        // The next start of the service goes on with it.
        let mut log = LogFile::with_max(&folder, 10).expect("a file");
        log.write_all(b"fourth\n").expect("written");
        assert_eq!(read("transom.log"), "third\nfourth\n");
        let _ = std::fs::remove_dir_all(&folder);
    }
}
