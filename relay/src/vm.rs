//! Virtual machines for guests: one set of verbs, two hypervisors.
//!
//! ```text
//!   transom vm create, start, stop, delete ──▶ Definition ─┬▶ qemu.rs    (Linux)   processes
//!                                                          └▶ hyperv.rs  (Windows) PowerShell
//! ```
//!
//! What enters: what a user wants of a machine. What leaves: the machine, or with `--dry-run` the
//! exact commands that would make it. What this refuses to do: touch a machine that it did not
//! make, or give a guest a network.
//!
//! Both plans are text made by pure functions, so that the one for Windows is tested on Linux.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

pub mod gpu;
pub mod host;
pub mod hyperv;
#[cfg(unix)]
mod kvm;
#[cfg(windows)]
pub mod powershell;
pub mod qemu;
#[cfg(unix)]
mod qmp;
pub mod quote;
#[cfg(unix)]
pub mod run;

/// Longest name in characters: Hyper-V takes 100, and QEMU's becomes part of a socket's path,
/// which has 108 bytes in all.
const MAX_NAME: usize = 40;

/// A machine's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a VM's name has 1 to {MAX_NAME} letters of any language, digits, spaces, '-', '_' and '.', and \
     begins with a letter or digit"
)]
pub struct BadName;

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let fit = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.');
        let good = text.chars().count() <= MAX_NAME
            && text.chars().all(fit)
            && text.starts_with(char::is_alphanumeric)
            && !text.ends_with(' ');
        if good { Ok(Self(text.into())) } else { Err(BadName) }
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Name {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Size of a screen in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// Pixels per row.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// Why a text is no resolution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a resolution is WIDTHxHEIGHT, from 640x480 to 7680x4320, such as 1920x1080")]
pub struct BadResolution;

impl FromStr for Resolution {
    type Err = BadResolution;

    fn from_str(text: &str) -> Result<Self, BadResolution> {
        let (width, height) = text.split_once('x').ok_or(BadResolution)?;
        match (width.parse(), height.parse()) {
            (Ok(width @ 640..=7680), Ok(height @ 480..=4320)) => Ok(Self { width, height }),
            _ => Err(BadResolution),
        }
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Memory of a machine in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory(pub u32);

/// Why a text is no amount of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("memory is a number with M or G behind it, from 256M to 1024G, such as 2G")]
pub struct BadMemory;

impl FromStr for Memory {
    type Err = BadMemory;

    fn from_str(text: &str) -> Result<Self, BadMemory> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let number: u32 = digits.parse().map_err(|_| BadMemory)?;
        let mib = match &text[digits.len()..] {
            "M" | "MB" | "MiB" => Some(number),
            "G" | "GB" | "GiB" => number.checked_mul(1024),
            _ => None,
        };
        match mib {
            Some(mib @ 256..=1_048_576) => Ok(Self(mib)),
            _ => Err(BadMemory),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            mib if mib % 1024 == 0 => write!(f, "{}G", mib / 1024),
            mib => write!(f, "{mib}M"),
        }
    }
}

/// What a machine shall be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name.
    pub name: Name,
    /// The image that it boots; each machine of Hyper-V gets a copy.
    pub vhdx: PathBuf,
    /// Of its only screen.
    pub resolution: Resolution,
    /// Processors.
    pub cpus: u8,
    /// Memory.
    pub memory: Memory,
    /// Whether it gets a part of the host's GPU (Hyper-V).
    pub gpu: bool,
    /// Whether the firmware runs what Microsoft or Debian signed, and nothing else.
    pub secure_boot: bool,
}

/// One command of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub words: Vec<String>,
}

impl Command {
    /// A command.
    pub fn new(program: impl Into<String>) -> Self {
        Self { words: vec![program.into()] }
    }

    /// With one more argument.
    pub fn arg(mut self, word: impl Into<String>) -> Self {
        self.words.push(word.into());
        self
    }

    /// With more arguments.
    pub fn args<const N: usize>(mut self, words: [&str; N]) -> Self {
        self.words.extend(words.map(String::from));
        self
    }
}

impl fmt::Display for Command {
    /// As a shell takes it, one option a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.words.iter().enumerate() {
            let gap = match i {
                0 => "",
                _ if word.starts_with('-') => " \\\n    ",
                _ => " ",
            };
            write!(f, "{gap}{}", quote::posix(word))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tame() {
        for good in ["doom", "Büro 2", "ゲーム", "a.b-c_d"] {
            assert_eq!(good.parse::<Name>().map(|n| n.to_string()), Ok(good.into()));
        }
        let long = "x".repeat(MAX_NAME + 1);
        for bad in ["", " a", "a ", "..", "-a", "a/b", "a\\b", "a\nb", "a'b", "$x", "a;b", &long] {
            assert_eq!(bad.parse::<Name>(), Err(BadName), "{bad:?}");
        }
    }

    #[test]
    fn sizes_are_read_and_refused() {
        assert_eq!("1920x1080".parse(), Ok(Resolution { width: 1920, height: 1080 }));
        for bad in ["", "x", "1920", "1920x", "10x10", "9999x9999", "-1x2", "1920x1080x2"] {
            assert_eq!(bad.parse::<Resolution>(), Err(BadResolution), "{bad}");
        }
        for (text, mib) in [("512M", 512), ("2G", 2048), ("3GiB", 3072), ("1024G", 1_048_576)] {
            assert_eq!(text.parse(), Ok(Memory(mib)));
        }
        for bad in ["", "2", "G", "2T", "1M", "99999999999G", "1025G", "4194304G", "-1G", "2 G"] {
            assert_eq!(bad.parse::<Memory>(), Err(BadMemory), "{bad}");
        }
        assert_eq!(
            (Memory(2048).to_string(), Memory(1500).to_string()),
            ("2G".into(), "1500M".into())
        );
    }

    #[test]
    fn commands_print_as_a_shell_takes_them() {
        let command = Command::new("qemu").args(["-m", "2G", "-name", "it's me"]).arg("-x");
        assert_eq!(
            command.to_string(),
            "qemu \\\n    -m 2G \\\n    -name 'it'\\''s me' \\\n    -x"
        );
    }
}
