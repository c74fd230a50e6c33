//! A Linux host: KVM, vsock, QEMU and its firmware.

use transom_protocol::diagnostics::{Check, Verdict};

use crate::diag::doctor::check;

/// A device of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// It can be used.
    Usable,
    /// It is there, and somebody else's.
    Denied,
    /// It is not there.
    Missing,
}

/// What a host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `/dev/kvm`.
    pub kvm: Device,
    /// Whether it was seen to boot a kernel; nothing if nobody tried.
    pub kvm_works: Option<bool>,
    /// `/dev/vhost-vsock`.
    pub vhost: Device,
    /// The daemon that stands in for it.
    pub daemon: Option<String>,
    /// What `qemu-system-x86_64 --version` says.
    pub qemu: Option<String>,
    /// UEFI firmware, plain and with Microsoft's keys.
    pub firmware: (bool, bool),
}

/// The oldest QEMU that the machine tests have run on.
const QEMU: (u32, u32) = (7, 2);

/// The numbers in what QEMU says of itself.
pub fn qemu_version(said: &str) -> Option<(u32, u32)> {
    let version = said.split_whitespace().skip_while(|word| *word != "version").nth(1)?;
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What the facts mean.
pub fn judge(facts: &Facts) -> Vec<Check> {
    use Verdict::{Fail, Pass, Skip, Warn};
    let kvm = match (facts.kvm, facts.kvm_works) {
        (Device::Usable, Some(false)) => check(
            "kvm",
            Warn,
            "/dev/kvm is there and boots no kernel: machines are emulated",
            "Everything works, slowly. In a virtual machine: have its host allow nested virtualisation",
        ),
        (Device::Usable, Some(true)) => check("kvm", Pass, "boots kernels", ""),
        (Device::Usable, None) => {
            check("kvm", Pass, "/dev/kvm can be used; tried at the first `transom vm start`", "")
        }
        (Device::Denied, _) => check(
            "kvm",
            Warn,
            "/dev/kvm belongs to somebody else: machines are emulated",
            "sudo usermod -aG kvm $USER, then sign in again",
        ),
        (Device::Missing, _) => check(
            "kvm",
            Warn,
            "there is no /dev/kvm: machines are emulated",
            "sudo modprobe kvm_intel (or kvm_amd); switch virtualisation on in this computer's firmware",
        ),
    };
    let vsock = match (facts.vhost, &facts.daemon) {
        (Device::Usable, _) => check("vsock", Pass, "/dev/vhost-vsock can be used", ""),
        (_, Some(daemon)) => check("vsock", Pass, format!("by {daemon}"), ""),
        (Device::Denied, None) => check(
            "vsock",
            Fail,
            "/dev/vhost-vsock belongs to somebody else, and there is no vhost-device-vsock",
            "sudo usermod -aG kvm $USER, then sign in again; or cargo install vhost-device-vsock",
        ),
        (Device::Missing, None) => check(
            "vsock",
            Fail,
            "there is no /dev/vhost-vsock and no vhost-device-vsock: no guest can be reached",
            "sudo modprobe vhost_vsock; or cargo install vhost-device-vsock",
        ),
    };
    let install = "On Debian: sudo apt-get install qemu-system-x86";
    let qemu = match facts.qemu.as_deref().map(|said| (said, qemu_version(said))) {
        None => check("qemu", Fail, "there is no qemu-system-x86_64", install),
        Some((_, Some((major, minor)))) if (major, minor) >= QEMU => {
            check("qemu", Pass, format!("version {major}.{minor}"), "")
        }
        Some((_, Some((major, minor)))) => {
            let found = format!("version {major}.{minor}; nothing older than 7.2 was tried");
            check("qemu", Warn, found, install)
        }
        Some((said, None)) => {
            let said = said.lines().next().unwrap_or_default();
            check("qemu", Warn, format!("does not tell its version: {said}"), install)
        }
    };
    let ovmf = "On Debian: sudo apt-get install ovmf";
    let one = |name, there, without: &str| match there {
        true => check(name, Pass, "is there", ""),
        false => check(name, Fail, format!("is missing: {without}"), ovmf),
    };
    let firmware = one("firmware", facts.firmware.0, "--no-secure-boot cannot be had");
    let signed = one("firmware-secure-boot", facts.firmware.1, "machines need --no-secure-boot");
    // No other hypervisor is looked for: say what was left out.
    let hyperv = check("hyper-v", Skip, "is a matter of Windows hosts", "");
    vec![kvm, vsock, qemu, firmware, signed, hyperv]
}

#[cfg(unix)]
impl Facts {
    /// Looks at this host.
    pub fn gather() -> Self {
        use std::{fs, io::ErrorKind, process::Command};

        use crate::vm::{kvm, qemu::Firmware, run};
        let device = |path| match fs::File::options().read(true).write(true).open(path) {
            Ok(_) => Device::Usable,
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Device::Denied,
            Err(_) => Device::Missing,
        };
        let qemu = Command::new("qemu-system-x86_64").arg("--version").output().ok();
        let firmware = |secure| Firmware::find(secure).is_some();
        Self {
            kvm: device("/dev/kvm"),
            kvm_works: match kvm::verdict() {
                kvm::Verdict::Works => Some(true),
                kvm::Verdict::Useless => Some(false),
                kvm::Verdict::Unknown => None,
            },
            vhost: device("/dev/vhost-vsock"),
            daemon: run::daemon().map(|path| path.display().to_string()),
            qemu: qemu.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()),
            firmware: (firmware(false), firmware(true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            kvm: Device::Usable,
            kvm_works: Some(true),
            vhost: Device::Usable,
            daemon: None,
            qemu: Some("QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u14)\n".into()),
            firmware: (true, true),
        }
    }

    fn verdict(facts: &Facts, name: &str) -> (Verdict, bool) {
        let checks = judge(facts);
        let check = checks.iter().find(|check| check.name.to_string() == name).expect(name);
        (check.verdict, check.remedy.as_str().is_empty())
    }

    #[test]
    fn what_is_missing_has_a_remedy() {
        let (good, fail, warn) =
            ((Verdict::Pass, true), (Verdict::Fail, false), (Verdict::Warn, false));
        for name in ["kvm", "vsock", "qemu", "firmware", "firmware-secure-boot"] {
            assert_eq!(verdict(&facts(), name), good, "{name}");
        }
        for (kvm, kvm_works) in
            [(Device::Usable, Some(false)), (Device::Denied, None), (Device::Missing, None)]
        {
            assert_eq!(verdict(&Facts { kvm, kvm_works, ..facts() }, "kvm"), warn);
        }
        for vhost in [Device::Denied, Device::Missing] {
            let without = Facts { vhost, ..facts() };
            assert_eq!(verdict(&without, "vsock"), fail);
            let daemon = Some("/bin/vhost-device-vsock".into());
            assert_eq!(verdict(&Facts { daemon, ..without }, "vsock"), good);
        }
        assert_eq!(verdict(&Facts { qemu: None, ..facts() }, "qemu"), fail);
        for (said, expected) in [
            ("QEMU emulator version 5.2.0", warn),
            ("QEMU emulator version 10.0.2 (Debian)", good),
            ("", warn),
            ("version x.y", warn),
        ] {
            assert_eq!(verdict(&Facts { qemu: Some(said.into()), ..facts() }, "qemu"), expected);
        }
        let without = Facts { firmware: (true, false), ..facts() };
        assert_eq!(verdict(&without, "firmware-secure-boot"), fail);
    }
}
