//! Takes the host's GPU libraries into use, without a reboot or another image.
//!
//! In: the files below [`FOLDER`] and their list, both pushed by the host just before. Out: nothing
//! there but what the list has; the linker's cache and links; the environment of programs
//! ([`ENVIRONMENT`]); the kernel's modules. What this refuses to do: touch anything outside, or take
//! a list into use that has files which did not arrive.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use transom_protocol::diagnostics::{Line, Value};
use transom_protocol::gpu::{FOLDER, LIST, MAX_LIST, Manifest, is_place};

use super::conversation::{Answer, Conversation, failed};

/// Read by the unit that shows something, and by shells: Mesa's driver for a Hyper-V host's GPU has
/// to be asked for (its loader knows it by a kernel's name that only WSL's has).
const ENVIRONMENT: &str = "/etc/transom/gpu";
const VARIABLES: &str = "\
# Written when the host brought in its GPU libraries; gone with the next boot.
GALLIUM_DRIVER=d3d12
LIBVA_DRIVER_NAME=d3d12
";
/// Where the linker is told.
const LINKER: &str = "/etc/ld.so.conf.d/transom-wsl.conf";
/// Folders in folders; drivers have one or two.
const DEPTH: usize = 6;
/// The part of the GPU, and the render node that Mesa's driver hangs on.
const MODULES: [&str; 2] = ["dxgkrnl", "vgem"];

/// Folders for a library on its way; for other paths, which have theirs, nothing is done.
pub fn make_room(path: &str) -> Answer {
    match Path::new(path).parent() {
        Some(folder) if is_place(path) => {
            fs::create_dir_all(folder).map_err(|e| failed(format!("{}: {e}", folder.display())))
        }
        _ => Ok(()),
    }
}

/// Takes into use what was pushed.
pub fn take_into_use(talk: &mut Conversation) -> Answer {
    let manifest = read_list(Path::new(LIST))?;
    let kept = arrived(Path::new(FOLDER), &manifest)?;
    let removed = tidy(Path::new(FOLDER), &kept).map_err(|e| failed(format!("{FOLDER}: {e}")))?;
    let explain = |path: &'static str| move |e: io::Error| failed(format!("{path}: {e}"));
    let linker = Path::new(LINKER);
    if let Some(folder) = linker.parent() {
        fs::create_dir_all(folder).map_err(explain(LINKER))?;
    }
    if kept.is_empty() {
        for path in [LINKER, ENVIRONMENT] {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(explain(path)(e)),
                _ => {}
            }
        }
    } else {
        fs::write(linker, format!("{FOLDER}/lib\n")).map_err(explain(LINKER))?;
        fs::write(ENVIRONMENT, VARIABLES).map_err(explain(ENVIRONMENT))?;
    }
    // Links by the names that the libraries give themselves, and the cache.
    run("ldconfig", &[]).map_err(failed)?;
    for (folder, version) in &manifest.drivers {
        talk.fact(format!("gpu.driver.{}", fit(folder)), Value::Text(Line::new(version.clone())))?;
    }
    talk.fact("gpu.files", number(kept.len()))?;
    talk.fact("gpu.removed", number(removed))?;
    for module in MODULES {
        // Some kernels have them built in, and not every guest was given a part of a GPU.
        let value = match run("modprobe", &["-q", "--", module]) {
            Ok(()) => Value::Flag(true),
            Err(_) => Value::Flag(Path::new("/sys/module").join(module).exists()),
        };
        talk.fact(format!("gpu.module.{module}"), value)?;
    }
    talk.fact("gpu.device", Value::Flag(Path::new("/dev/dxg").exists()))
}

fn number(count: usize) -> Value {
    Value::Number(i64::try_from(count).unwrap_or(i64::MAX))
}

/// As a part of a fact's path.
pub fn fit(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    name.chars().map(fit).collect()
}

fn read_list(path: &Path) -> Answer<Manifest> {
    let explain = |e: io::Error| failed(format!("{}: {e}", path.display()));
    let mut text = String::new();
    let file = fs::File::open(path).map_err(explain)?;
    file.take(MAX_LIST as u64 + 1).read_to_string(&mut text).map_err(explain)?;
    Manifest::parse(&text).map_err(|e| failed(format!("{}: {e}", path.display())))
}

/// The files of the list, all of which have to be there.
fn arrived(folder: &Path, manifest: &Manifest) -> Answer<BTreeSet<PathBuf>> {
    let mut kept = BTreeSet::new();
    for entry in &manifest.files {
        let path = folder.join(&entry.path);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() && meta.len() == entry.length => kept.insert(path),
            Ok(_) => return Err(failed(format!("{}: is not what the list says", path.display()))),
            Err(e) => return Err(failed(format!("{}: {e}", path.display()))),
        };
    }
    Ok(kept)
}

/// Removes all but `kept`; links too, which the linker makes anew. Yields how many files.
fn tidy(folder: &Path, kept: &BTreeSet<PathBuf>) -> io::Result<usize> {
    let mut removed = 0;
    for place in ["lib", "drivers"] {
        match tidy_below(&folder.join(place), kept, DEPTH) {
            Ok(count) => removed += count,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(removed)
}

fn tidy_below(folder: &Path, kept: &BTreeSet<PathBuf>, depth: usize) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            if depth > 0 {
                removed += tidy_below(&path, kept, depth - 1)?;
            }
            // Goes if it is empty now.
            let _ = fs::remove_dir(&path);
        } else if !kept.contains(&path) {
            fs::remove_file(&path)?;
            removed += usize::from(!kind.is_symlink());
        }
    }
    Ok(removed)
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        // Where these are, whatever the unit's path.
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{program} does not run: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}", said.trim().lines().last().unwrap_or("it failed")))
}

/// What was brought in, for those who want to know.
pub fn drivers() -> Vec<(String, String)> {
    read_list(Path::new(LIST)).map(|manifest| manifest.drivers).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use transom_protocol::gpu::Entry;

    #[test]
    fn what_the_list_has_stays_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("transom-wsl-{}", std::process::id()));
        let write = |path: &str| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
            fs::write(path, "1234").expect("a file");
        };
        for path in ["transom", "lib/a.so", "lib/old.so", "drivers/new/a.so", "drivers/old/x/b.so"]
        {
            write(path);
        }
        std::os::unix::fs::symlink("/etc/passwd", folder.join("lib/link")).expect("a link");
        std::os::unix::fs::symlink("/etc", folder.join("drivers/link")).expect("a link");
        let entry =
            |path: &str, length| Entry { sha256: "0".repeat(64), length, path: path.into() };
        let files = vec![entry("lib/a.so", 4), entry("drivers/new/a.so", 4)];
        let manifest = Manifest { drivers: Vec::new(), files };
        let kept = arrived(&folder, &manifest).expect("all there");
        assert_eq!(tidy(&folder, &kept).expect("no trouble"), 2);
        let there = |path: &str| folder.join(path).symlink_metadata().is_ok();
        assert!(there("lib/a.so") && there("drivers/new/a.so") && there("transom"));
        assert!(!there("lib/old.so") && !there("lib/link") && !there("drivers/old"));
        assert!(!there("drivers/link") && Path::new("/etc/passwd").exists());
        for wrong in [entry("lib/a.so", 5), entry("lib/gone.so", 4), entry("drivers/new", 4)] {
            let manifest = Manifest { drivers: Vec::new(), files: vec![wrong] };
            assert!(arrived(&folder, &manifest).is_err());
        }
        fs::remove_dir_all(&folder).expect("just made");
    }
}
