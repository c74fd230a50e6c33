//! Finds the libraries on this host.
//!
//! In: folders as Windows has them. Out: every library for Linux in them, with its hash, and the
//! version of each driver. A driver's folder holds a gigabyte of Windows' own: files are told apart
//! by their first bytes, and names that a guest could not have are left out.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use transom_protocol::gpu::{Entry, MAX_DRIVERS, MAX_FILES, Manifest, is_path};

/// Every ELF file begins so.
const ELF: &[u8] = b"\x7fELF";
/// Folders in folders.
const DEPTH: usize = 5;
/// Longest inf file that is read; they have some hundred kilobytes.
const MAX_INF: u64 = 16 << 20;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// WSL's libraries.
    pub libraries: Vec<PathBuf>,
    /// The folder of folders of drivers.
    pub store: PathBuf,
    /// Which of them; all that have libraries for Linux, if none is named.
    pub folders: Vec<String>,
}

impl Sources {
    /// Of a folder that is laid out as `System32`.
    pub fn below(folder: &Path) -> Self {
        Self {
            libraries: vec![folder.join("lxss").join("lib")],
            store: folder.join("DriverStore").join("FileRepository"),
            folders: Vec::new(),
        }
    }

    /// Of this Windows.
    ///
    /// # Errors
    ///
    /// What PowerShell said: it knows which drivers are in use.
    #[cfg(windows)]
    pub fn of_this_host() -> Result<Self, String> {
        let from = |name: &str, otherwise: &str| {
            std::env::var_os(name).map_or_else(|| PathBuf::from(otherwise), PathBuf::from)
        };
        let mut sources = Self::below(&from("SystemRoot", "C:\\Windows").join("System32"));
        sources.libraries.push(from("ProgramFiles", "C:\\Program Files").join("WSL").join("lib"));
        sources.folders = folders(&crate::vm::powershell::run(IN_USE)?);
        Ok(sources)
    }
}

/// Prints the files of each display driver in use.
pub const IN_USE: &str = "\
try { [Console]::OutputEncoding = [Text.Encoding]::UTF8 } catch { }
$ErrorActionPreference = 'Stop'
Get-CimInstance Win32_VideoController | ForEach-Object { $_.InstalledDisplayDrivers -split ',' }
";

/// Folders of the driver store that paths name, each once.
pub fn folders(said: &str) -> Vec<String> {
    let mut folders = Vec::new();
    for line in said.lines() {
        let mut parts = line.trim().split('\\');
        let below = parts.any(|part| part.eq_ignore_ascii_case("FileRepository"));
        if let (true, Some(folder)) = (below, parts.next())
            && !folders.contains(&folder.to_owned())
            && folders.len() < MAX_DRIVERS
        {
            folders.push(folder.to_owned());
        }
    }
    folders
}

/// What is to be brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The list, by path.
    pub manifest: Manifest,
    /// Where each file of it is here.
    pub sources: Vec<PathBuf>,
}

/// Why there is nothing to bring.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// No library for Linux.
    #[error(
        "there are no libraries for Linux in {0}. They come with WSL (wsl --install \
         --no-distribution) and with the newest driver of the GPU's vendor"
    )]
    Nothing(PathBuf),
    /// A file.
    #[error("{0}: {1}")]
    Read(PathBuf, io::Error),
    /// More than any driver has.
    #[error("there are more than {MAX_FILES} libraries in {0}")]
    TooMany(PathBuf),
}

/// Looks, and computes hashes: a second or two.
///
/// # Errors
///
/// See [`CollectError`].
pub fn collect(sources: &Sources) -> Result<Bundle, CollectError> {
    let mut found: Vec<(Entry, PathBuf)> = Vec::new();
    for folder in &sources.libraries {
        // The first place of a library counts.
        for (entry, source) in libraries(folder, "lib")? {
            if !found.iter().any(|(other, _)| other.path == entry.path) {
                found.push((entry, source));
            }
        }
    }
    let mut drivers = Vec::new();
    for name in driver_folders(sources)? {
        let folder = sources.store.join(&name);
        let files = libraries(&folder, &format!("drivers/{name}"))?;
        if files.is_empty() || drivers.len() == MAX_DRIVERS {
            continue;
        }
        drivers.push((name, version(&folder).unwrap_or_else(|| "unknown".into())));
        found.extend(files);
    }
    if found.is_empty() {
        let first = sources.libraries.first().unwrap_or(&sources.store);
        return Err(CollectError::Nothing(first.clone()));
    }
    if found.len() > MAX_FILES {
        return Err(CollectError::TooMany(sources.store.clone()));
    }
    found.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
    let (files, sources) = found.into_iter().unzip();
    Ok(Bundle { manifest: Manifest { drivers, files }, sources })
}

fn driver_folders(sources: &Sources) -> Result<Vec<String>, CollectError> {
    if !sources.folders.is_empty() {
        return Ok(sources.folders.clone());
    }
    let mut names = Vec::new();
    for path in entries(&sources.store)? {
        if let (true, Some(name)) = (path.is_dir(), path.file_name().and_then(|n| n.to_str())) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Sorted; a folder that is not there is an empty one.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, CollectError> {
    let explain = |e| CollectError::Read(folder.into(), e);
    let listed = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(explain)?,
    };
    let paths: Result<Vec<_>, _> = listed.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(explain)?;
    paths.sort();
    Ok(paths)
}

fn libraries(folder: &Path, place: &str) -> Result<Vec<(Entry, PathBuf)>, CollectError> {
    let mut found = Vec::new();
    let mut waiting = vec![(folder.to_path_buf(), place.to_owned(), DEPTH)];
    while let Some((folder, place, depth)) = waiting.pop() {
        for path in entries(&folder)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let below = format!("{place}/{name}");
            if path.is_dir() {
                if depth > 0 {
                    waiting.push((path, below, depth - 1));
                }
            } else if is_path(&below)
                && let Some((sha256, length)) = hash(&path)?
            {
                found.push((Entry { sha256, length, path: below }, path));
            }
            if found.len() > MAX_FILES {
                return Err(CollectError::TooMany(folder));
            }
        }
    }
    Ok(found)
}

/// Hash and length of a library for Linux; nothing for another file.
fn hash(path: &Path) -> Result<Option<(String, u64)>, CollectError> {
    let explain = |e| CollectError::Read(path.into(), e);
    let mut file = fs::File::open(path).map_err(explain)?;
    let (mut hash, mut length, mut piece) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let count = match file.read(&mut piece) {
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(explain(e)),
        };
        if length == 0 && !piece[..count].starts_with(ELF) {
            return Ok(None);
        }
        if count == 0 {
            break;
        }
        hash.update(&piece[..count]);
        length += count as u64;
    }
    let hex = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some((hex, length)))
}

/// `DriverVer = date,version` of the folder's inf file.
fn version(folder: &Path) -> Option<String> {
    let inf = |path: &PathBuf| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("inf"));
    let path = entries(folder).ok()?.into_iter().find(inf)?;
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(MAX_INF).read_to_end(&mut bytes).ok()?;
    inf_version(&bytes)
}

/// Reads an inf file's version, in UTF-16 with its mark as most are, or in bytes.
pub fn inf_version(bytes: &[u8]) -> Option<String> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => {
            let words = rest.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
            char::decode_utf16(words).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        bytes => String::from_utf8_lossy(bytes),
    };
    let line = text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        name.trim().eq_ignore_ascii_case("DriverVer").then_some(value)
    })?;
    let version = line.split(';').next()?.split(',').nth(1)?.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
    (!version.is_empty() && version.len() <= 50 && version.chars().all(plain))
        .then(|| version.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_for_linux_are_told_from_the_rest() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |path: &str, bytes: &[u8]| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("below")).expect("a folder");
            fs::write(path, bytes).expect("a file");
        };
        assert!(matches!(collect(&Sources::below(dir.path())), Err(CollectError::Nothing(_))));
        write("lxss/lib/libd3d12.so", b"\x7fELF one");
        write("lxss/lib/readme.txt", b"words");
        write("lxss/lib/empty.so", b"");
        let store = "DriverStore/FileRepository";
        write(
            &format!("{store}/nv.inf_amd64_1/nv.inf"),
            b"[Version]\r\nDriverVer = 01/02/2026, 32.0.15.1 ; x\r\n",
        );
        write(&format!("{store}/nv.inf_amd64_1/libnv.so.1"), b"\x7fELF two");
        write(&format!("{store}/nv.inf_amd64_1/sub/libx.so"), b"\x7fELF three");
        write(&format!("{store}/nv.inf_amd64_1/nv.dll"), b"MZ");
        write(&format!("{store}/nv.inf_amd64_1/lib mit Leerzeichen.so"), b"\x7fELF");
        write(&format!("{store}/usb.inf_amd64_2/usb.sys"), b"MZ");
        let bundle = collect(&Sources::below(dir.path())).expect("libraries");
        let paths: Vec<_> =
            bundle.manifest.files.iter().map(|e| (e.path.as_str(), e.length)).collect();
        assert_eq!(
            paths,
            [
                ("drivers/nv.inf_amd64_1/libnv.so.1", 8),
                ("drivers/nv.inf_amd64_1/sub/libx.so", 10),
                ("lib/libd3d12.so", 8)
            ]
        );
        assert_eq!(bundle.manifest.drivers, [("nv.inf_amd64_1".into(), "32.0.15.1".into())]);
        assert!(bundle.files().all(|(entry, source)| {
            let bytes = fs::read(source).expect("it is there");
            let hex: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            bytes.len() as u64 == entry.length && hex == entry.sha256
        }));
        let text = bundle.manifest.to_string();
        assert_eq!(Manifest::parse(&text).as_ref(), Ok(&bundle.manifest), "the guest reads it");
        let named =
            Sources { folders: vec!["usb.inf_amd64_2".into()], ..Sources::below(dir.path()) };
        assert_eq!(collect(&named).expect("WSL's").manifest.drivers, []);
    }

    #[test]
    fn versions_are_read_in_both_encodings() {
        let text = "[Version]\r\nClass=Display\r\ndriverver=03/04/2026,31.0.101.5186\r\n";
        assert_eq!(inf_version(text.as_bytes()), Some("31.0.101.5186".into()));
        let wide: Vec<u8> = [0xff, 0xfe]
            .into_iter()
            .chain(text.encode_utf16().flat_map(u16::to_le_bytes))
            .collect();
        assert_eq!(inf_version(&wide), Some("31.0.101.5186".into()));
        for bad in ["", "DriverVer", "DriverVer=1", "DriverVer=1,", "DriverVer=1,a b", "x=1,2"] {
            assert_eq!(inf_version(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn drivers_in_use_are_named_by_their_files() {
        let said = "C:\\Windows\\System32\\DriverStore\\FileRepository\\nv_dispi.inf_amd64_ab\\nvldumdx.dll\r\n\
            C:\\WINDOWS\\system32\\driverstore\\filerepository\\nv_dispi.inf_amd64_ab\\nvwgf2umx.dll\r\n\
            C:\\Windows\\System32\\DriverStore\\FileRepository\\iigd_dch.inf_amd64_cd\\igd.dll\r\n\
            C:\\Windows\\System32\\vm3dum64.dll\r\n\r\n";
        assert_eq!(folders(said), ["nv_dispi.inf_amd64_ab", "iigd_dch.inf_amd64_cd"]);
    }
}
