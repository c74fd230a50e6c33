//! The libraries of the host's GPU driver in a guest of Hyper-V: where they lie, and the list of them.
//!
//! ```text
//!  /usr/lib/wsl/lib/…             WSL's own: libd3d12.so, libdxcore.so, …
//!  /usr/lib/wsl/drivers/FOLDER/…  the vendor's, in the folder's name of Windows' driver store
//!  /usr/lib/wsl/transom           the list: what lies there, of which driver
//!
//!  transom-gpu 1
//!  driver FOLDER VERSION
//!  file SHA256 LENGTH PATH
//! ```
//!
//! They have to be those of the host's driver, version by version: the host brings them, and the list
//! with them, and compares the list next time. In: the text, from the other side. Out: a [`Manifest`]
//! whose every path stays below the folder. Lines of a kind that is not known are skipped.

use std::fmt;

/// Where all of it lies in the guest.
pub const FOLDER: &str = "/usr/lib/wsl";
/// Where the list lies.
pub const LIST: &str = "/usr/lib/wsl/transom";
/// Longest list in bytes.
pub const MAX_LIST: usize = 1 << 20;
/// Most files of a list: drivers have some dozens.
pub const MAX_FILES: usize = 4096;
/// Most drivers of a list.
pub const MAX_DRIVERS: usize = 16;

const HEAD: &str = "transom-gpu 1";
const MAX_PATH: usize = 400;

/// What was brought into a guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// Folder in the driver store, and version, of each driver.
    pub drivers: Vec<(String, String)>,
    /// The files.
    pub files: Vec<Entry>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// In hex; for comparing, the guest does not compute it.
    pub sha256: String,
    /// In bytes.
    pub length: u64,
    /// Below [`FOLDER`].
    pub path: String,
}

/// Why a text is no list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadManifest {
    /// Another beginning.
    #[error("it is no list of GPU libraries, or of a newer kind")]
    Head,
    /// Longer than anything that makes sense.
    #[error("it is too long")]
    TooLong,
    /// A line that is not what it should be.
    #[error("its line {0} is malformed")]
    Line(usize),
}

/// Whether a path below [`FOLDER`] is one that libraries may have: plain names, no way out.
pub fn is_path(path: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b))
    };
    let mut parts = path.split('/');
    let place = matches!(
        (parts.next(), path.split('/').count()),
        (Some("lib"), 2..) | (Some("drivers"), 3..)
    );
    place && path.len() <= MAX_PATH && parts.all(plain)
}

/// Whether an absolute path is the list or a library's place.
pub fn is_place(path: &str) -> bool {
    let below = path.strip_prefix(FOLDER).and_then(|rest| rest.strip_prefix('/'));
    path == LIST || below.is_some_and(is_path)
}

fn is_word(word: &str) -> bool {
    (1..=MAX_PATH).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_graphic())
}

impl Manifest {
    /// Reads a list.
    ///
    /// # Errors
    ///
    /// See [`BadManifest`].
    pub fn parse(text: &str) -> Result<Self, BadManifest> {
        if text.len() > MAX_LIST {
            return Err(BadManifest::TooLong);
        }
        let mut lines = text.lines().enumerate();
        if lines.next().map(|(_, line)| line) != Some(HEAD) {
            return Err(BadManifest::Head);
        }
        let mut this = Self::default();
        for (n, line) in lines {
            let words: Vec<&str> = line.splitn(5, ' ').collect();
            match words[..] {
                ["driver", folder, version] if is_word(folder) && is_word(version) => {
                    this.drivers.push((folder.into(), version.into()));
                }
                ["file", sha256, length, path] => {
                    let hex = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
                    let length = length.parse().map_err(|_| BadManifest::Line(n + 1))?;
                    if !hex || !is_path(path) {
                        return Err(BadManifest::Line(n + 1));
                    }
                    this.files.push(Entry { sha256: sha256.into(), length, path: path.into() });
                }
                ["driver" | "file", ..] => return Err(BadManifest::Line(n + 1)),
                _ => {}
            }
            if this.files.len() > MAX_FILES || this.drivers.len() > MAX_DRIVERS {
                return Err(BadManifest::TooLong);
            }
        }
        Ok(this)
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}")?;
        for (folder, version) in &self.drivers {
            writeln!(f, "driver {folder} {version}")?;
        }
        for Entry { sha256, length, path } in &self.files {
            writeln!(f, "file {sha256} {length} {path}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let entry = |path: &str| Entry { sha256: "0a".repeat(32), length: 7, path: path.into() };
        Manifest {
            drivers: vec![("nv_dispi.inf_amd64_0123456789abcdef".into(), "32.0.15.6094".into())],
            files: vec![
                entry("lib/libd3d12.so"),
                entry("drivers/nv_dispi.inf_amd64_0/libnv++.so.1"),
            ],
        }
    }

    #[test]
    fn lists_read_and_print() {
        let text = manifest().to_string();
        assert_eq!(Manifest::parse(&text), Ok(manifest()));
        assert_eq!(Manifest::parse(&(text + "later things\n\n")), Ok(manifest()));
        assert_eq!(Manifest::parse("transom-gpu 1"), Ok(Manifest::default()));
    }

    #[test]
    fn nothing_leaves_the_folder() {
        for good in ["lib/a", "lib/x/y.so", "drivers/f/a.so.1"] {
            assert!(is_path(good) && is_place(&format!("{FOLDER}/{good}")), "{good}");
        }
        let long = format!("lib/{}", "x".repeat(MAX_PATH));
        for bad in [
            "",
            "lib",
            "lib/",
            "/lib/a",
            "drivers/a",
            "lib/../a",
            "lib/.a",
            "lib//a",
            "lib/a b",
            "etc/a",
            "lib/ä",
            &long,
        ] {
            assert!(!is_path(bad), "{bad}");
            let line = format!("{HEAD}\nfile {} 1 {bad}\n", "0".repeat(64));
            assert_eq!(Manifest::parse(&line), Err(BadManifest::Line(2)), "{bad}");
        }
        for bad in
            ["/etc/passwd", "/usr/lib/wsl", "/usr/lib/wslx/lib/a", "/usr/lib/wsl/lib/../../x"]
        {
            assert!(!is_place(bad), "{bad}");
        }
        assert!(is_place(LIST));
    }

    #[test]
    fn other_texts_are_refused() {
        assert_eq!(Manifest::parse(""), Err(BadManifest::Head));
        assert_eq!(Manifest::parse("transom-gpu 2\n"), Err(BadManifest::Head));
        assert_eq!(Manifest::parse(&"x".repeat(MAX_LIST + 1)), Err(BadManifest::TooLong));
        for line in ["driver x", "driver a b c", "file", "file 0 1 lib/a", "driver ä 1"] {
            assert_eq!(
                Manifest::parse(&format!("{HEAD}\n{line}\n")),
                Err(BadManifest::Line(2)),
                "{line}"
            );
        }
        let many = format!("{HEAD}\n{}", "driver a 1\n".repeat(MAX_DRIVERS + 1));
        assert_eq!(Manifest::parse(&many), Err(BadManifest::TooLong));
    }
}
