//! Guests by the command lines of the hypervisors, and of the daemons, that run them.
//!
//! ```text
//!   qemu-system-x86_64 … -device vhost-vsock-pci,guest-cid=3       vsock:3
//!   vhost-device-vsock --vm guest-cid=4,socket=…,uds-path=P        unix:P
//!   cloud-hypervisor … --vsock cid=3,socket=P                      unix:P
//! ```
//!
//! Linux alone keeps them where others can read them; elsewhere this finds nothing.

use std::path::{Path, PathBuf};

use crate::guest::GuestAddr;

/// Guests of all processes that we may look at.
pub fn guests() -> Vec<GuestAddr> {
    let mut guests = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let words: Vec<_> = line.split(|&b| b == 0).map(String::from_utf8_lossy).collect();
        let folder = || std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        guests.extend(of_command_line(words.iter().map(AsRef::as_ref), folder));
    }
    guests
}

/// Guests of one command line; relative paths count from `folder`.
pub fn of_command_line<'a>(
    mut words: impl Iterator<Item = &'a str>,
    folder: impl Fn() -> PathBuf,
) -> Vec<GuestAddr> {
    let program = words.next().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
    let key = match program {
        "vhost-device-vsock" => "uds-path",
        "cloud-hypervisor" => "socket",
        _ if program.starts_with("qemu") => "guest-cid",
        _ => return Vec::new(),
    };
    let mut guests = Vec::new();
    let mut before = "";
    for word in words {
        // The value of an option may be a word of its own or stand behind an equals sign.
        let value = word.strip_prefix("--vm=").or(word.strip_prefix("--vsock=")).unwrap_or(word);
        let wanted = match program {
            "cloud-hypervisor" => before == "--vsock" || value.len() < word.len(),
            _ => true,
        };
        before = word;
        if !wanted {
            continue;
        }
        let field = value.split(',').find_map(|field| {
            field.split_once('=').filter(|(name, _)| *name == key).map(|(_, value)| value)
        });
        // The daemon also takes its options one by one.
        let alone = word.strip_prefix("--uds-path=").filter(|_| key == "uds-path");
        guests.extend(field.or(alone).and_then(|value| address(key, value, &folder)));
    }
    guests
}

fn address(key: &str, value: &str, folder: &impl Fn() -> PathBuf) -> Option<GuestAddr> {
    if key == "guest-cid" {
        // The address knows which numbers are a guest's.
        return format!("vsock:{value}").parse().ok();
    }
    let path = Path::new(value);
    Some(GuestAddr::Unix(if path.is_absolute() { path.into() } else { folder().join(path) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vec<String> {
        of_command_line(line.split(' '), || "/home".into())
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    #[cfg(unix)]
    fn hypervisors_name_their_guests() {
        assert_eq!(
            of("/usr/bin/qemu-system-x86_64 -m 1G -device vhost-vsock-pci,id=v,guest-cid=7"),
            ["vsock:7"]
        );
        assert_eq!(
            of(
                "vhost-device-vsock --vm guest-cid=3,socket=/s,uds-path=/run/a.vsock --vm guest-cid=4,uds-path=b"
            ),
            ["unix:/run/a.vsock", "unix:/home/b"]
        );
        assert_eq!(
            of("cloud-hypervisor --api-socket path=/api --vsock cid=3,socket=/tmp/ch.vsock"),
            ["unix:/tmp/ch.vsock"]
        );
        assert_eq!(of("cloud-hypervisor --net tap=x,socket=/tmp/net"), [""; 0]);
        assert_eq!(of("vim guest-cid=3,uds-path=/x"), [""; 0]);
        assert_eq!(of("qemu-system-x86_64 -device vhost-vsock-pci,guest-cid=1"), [""; 0]);
        assert_eq!(of(""), [""; 0]);
    }
}
