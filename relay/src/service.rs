//! Relays that the system starts and watches: units of systemd, services of Windows.
//!
//! ```text
//!   transom service install ──▶ Service ─┬▶ systemd.rs (Linux)   a unit, systemctl
//!                                        └▶ scm.rs     (Windows) sc.exe, icacls.exe
//! ```
//!
//! What enters: the command line of a relay, and a name. What leaves: a plan, that is files and
//! commands, which is carried out or, with `--dry-run`, printed as a shell takes it. What this refuses
//! to do: run a relay with more rights than it needs, or touch a service that it did not make.
//!
//! Both plans are made by pure functions, so that the one for Windows is tested on Linux.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    process,
    str::FromStr,
};

use crate::vm::{Command, quote};

pub mod log;
#[cfg(windows)]
pub mod manager;
pub mod scm;
pub mod systemd;

/// Longest name; what the system makes of it stays far below its own limits.
const MAX_NAME: usize = 64;

/// What a service is called, without the `transom-` in front that it has for the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceName(String);

/// Why a text is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a service's name has 1 to {MAX_NAME} ASCII letters, digits, '-', '_' or '.', and begins with a \
     letter or digit"
)]
pub struct BadServiceName;

impl FromStr for ServiceName {
    type Err = BadServiceName;

    fn from_str(text: &str) -> Result<Self, BadServiceName> {
        let fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let good = (1..=MAX_NAME).contains(&text.len())
            && text.bytes().all(fit)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            // Windows' folders lose a dot at their end.
            && !text.ends_with('.');
        if good { Ok(Self(text.into())) } else { Err(BadServiceName) }
    }
}

impl fmt::Display for ServiceName {
    /// As the system has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transom-{}", self.0)
    }
}

/// A relay to be started by the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// This program, by its full path.
    pub program: PathBuf,
    /// What stands behind `transom relay`.
    pub relay: Vec<String>,
    /// Where relative paths in that begin.
    pub folder: PathBuf,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a folder, and those that it lies in.
    Folder(PathBuf),
    /// Write a file anew.
    File {
        /// Which.
        path: PathBuf,
        /// What.
        text: String,
    },
    /// Remove a file.
    Remove(PathBuf),
    /// Run a program, which has to succeed.
    Run(Command),
    /// Run a program; what it is to undo may not be there.
    Try(Command),
}

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan(pub Vec<Step>);

/// Who reads a printed plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// sh.
    Posix,
    /// cmd.exe.
    Windows,
}

/// Why a service was not installed or removed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A file or folder.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// A program that does not run.
    #[error("cannot run {program}: {why}")]
    Program {
        /// Which.
        program: String,
        /// Why.
        why: io::Error,
    },
    /// A program that says no.
    #[error("{program}: {said}")]
    Failed {
        /// Which.
        program: String,
        /// What it said, or what its status means.
        said: String,
    },
}

/// Whether a service is there, and runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is not installed.
    Missing,
    /// It runs, as this process.
    Running(u32),
    /// It does not; the system's own word for it.
    Stopped(String),
}

impl Plan {
    /// As a shell takes it.
    pub fn print(&self, shell: Shell) -> String {
        let word = |path: &Path| {
            let text = path.to_string_lossy();
            match shell {
                Shell::Posix => quote::posix(&text),
                Shell::Windows => quote::windows(&text),
            }
        };
        let line = |command: &Command| match shell {
            Shell::Posix => command.to_string(),
            Shell::Windows => {
                let words: Vec<_> = command.words.iter().map(|w| quote::windows(w)).collect();
                words.join(" ")
            }
        };
        let mut text = String::new();
        for step in &self.0 {
            text.push_str(&match (step, shell) {
                (Step::Folder(path), Shell::Posix) => format!("mkdir -p {}\n", word(path)),
                (Step::Folder(path), Shell::Windows) => format!("mkdir {}\n", word(path)),
                (Step::File { path, text }, _) => {
                    format!("cat >{} <<'END'\n{text}END\n", word(path))
                }
                (Step::Remove(path), Shell::Posix) => format!("rm {}\n", word(path)),
                (Step::Remove(path), Shell::Windows) => format!("del {}\n", word(path)),
                (Step::Run(command), _) => format!("{}\n", line(command)),
                (Step::Try(command), Shell::Posix) => format!("{} || true\n", line(command)),
                (Step::Try(command), Shell::Windows) => format!("{}\n", line(command)),
            });
        }
        text
    }

    /// Does it all, up to the first step that fails.
    ///
    /// # Errors
    ///
    /// Which step, and why.
    pub fn carry_out(&self) -> Result<(), ServiceError> {
        for step in &self.0 {
            let file = |path: &Path| {
                let path = path.to_owned();
                |why| ServiceError::File { path, why }
            };
            match step {
                Step::Folder(path) => fs::create_dir_all(path).map_err(file(path))?,
                Step::File { path, text } => fs::write(path, text).map_err(file(path))?,
                Step::Remove(path) => fs::remove_file(path).map_err(file(path))?,
                Step::Run(command) => run(command)?,
                Step::Try(command) => {
                    let _ = run(command);
                }
            }
        }
        Ok(())
    }
}

fn run(command: &Command) -> Result<(), ServiceError> {
    let program = command.words[0].clone();
    let output = match process::Command::new(&program).args(&command.words[1..]).output() {
        Ok(output) => output,
        Err(why) => return Err(ServiceError::Program { program, why }),
    };
    if output.status.success() {
        return Ok(());
    }
    // It does several things, which fail for reasons of their own.
    let program = match command.words.get(1) {
        Some(verb) if program == scm::SC => format!("{program} {verb}"),
        _ => program,
    };
    let known =
        output.status.code().filter(|_| program.starts_with(scm::SC)).and_then(scm::meaning);
    let said = known.map(str::to_owned).unwrap_or_else(|| {
        let text = [output.stderr, output.stdout].map(|b| String::from_utf8_lossy(&b).into_owned());
        let line = text.iter().flat_map(|t| t.lines()).find(|line| !line.trim().is_empty());
        line.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned())
    });
    Err(ServiceError::Failed { program, said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    pub fn service() -> Service {
        Service {
            name: "relay".parse().expect("a name"),
            program: "/opt/my tools/transom".into(),
            relay: ["doom=vsock:3", "--http", "8889", "--sdp", "100% \"it\".sdp"]
                .map(String::from)
                .to_vec(),
            folder: "/home/me".into(),
        }
    }

    #[test]
    fn names_are_tame() {
        for good in ["relay", "a.b-c_d", "9"] {
            let name = good.parse::<ServiceName>().map(|name| name.to_string());
            assert_eq!(name, Ok(format!("transom-{good}")));
        }
        let long = "x".repeat(MAX_NAME + 1);
        for bad in ["", "-a", "a b", "a/b", "..", "a.", "ä", "a\n", "a'b", &long] {
            assert_eq!(bad.parse::<ServiceName>(), Err(BadServiceName), "{bad:?}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_plan_does_what_its_print_says() {
        let base = std::env::temp_dir().join(format!("transom-plan-{}", process::id()));
        for printed in [false, true] {
            let _ = fs::remove_dir_all(&base);
            let (file, gone) = (base.join("it's/a"), base.join("gone"));
            let plan = Plan(vec![
                Step::Folder(base.join("it's")),
                Step::File { path: file.clone(), text: "$x `y`\n".into() },
                Step::File { path: gone.clone(), text: "z\n".into() },
                Step::Try(Command::new("false")),
                Step::Remove(gone.clone()),
                Step::Run(Command::new("test").arg("-f").arg(file.to_string_lossy())),
            ]);
            if printed {
                let script = format!("set -e\n{}", plan.print(Shell::Posix));
                let status = process::Command::new("sh").args(["-c", &script]).status();
                assert!(status.expect("there is a shell").success(), "{script}");
            } else {
                plan.carry_out().expect("it works");
            }
            assert_eq!(fs::read_to_string(&file).expect("a file"), "$x `y`\n");
            assert!(!gone.exists());
        }
        let _ = fs::remove_dir_all(&base);
        let fails = Plan(vec![Step::Run(Command::new("sh").args(["-c", "echo no; exit 3"]))]);
        assert_eq!(fails.carry_out().expect_err("it fails").to_string(), "sh: no");
        let missing = Plan(vec![Step::Run(Command::new("/nowhere/x"))]);
        assert!(missing.carry_out().expect_err("it fails").to_string().contains("/nowhere/x"));
    }
}
