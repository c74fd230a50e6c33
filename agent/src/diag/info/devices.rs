//! Facts about disks and network adapters: on which bus is each, and has the guest a way out?
//!
//! In: sysfs, whose root is an argument for tests. Out: names and words. An adapter that nobody uses
//! is told too: the shipped image has no network drivers, so that its network stays shut whatever the
//! host plugs in.

use std::fs;
use std::path::Path;

use transom_protocol::diagnostics::Value;

use super::{number, text};
use crate::diag::conversation::{Answer, Conversation};

/// The partition by which the image's initramfs finds its disk.
const ROOT: &str = "PARTNAME=transom-base";
/// PCI's base class of network controllers.
const PCI_NETWORK: &str = "0x02";
/// Hyper-V's synthetic network adapter, as the VMBus calls its class.
const VMBUS_NETWORK: &str = "f8615163-df3e-46c5-913f-f2d2f965ed0e";
/// `/sys/class/block/*/size` counts in these, whatever the disk's own sectors are.
const SECTOR: u64 = 512;

/// Disks, adapters and interfaces.
pub fn run(talk: &mut Conversation) -> Answer {
    let sys = Path::new("/sys");
    for Disk { name, bus, bytes, root } in disks(sys) {
        talk.fact(format!("disk.{name}.bus"), text(bus))?;
        talk.fact(format!("disk.{name}.bytes"), number(bytes))?;
        if root {
            talk.fact("disk.root", text(name))?;
        }
    }
    let adapters = adapters(sys);
    talk.fact("network.adapters", number(adapters.len()))?;
    for (index, adapter) in adapters.into_iter().enumerate() {
        talk.fact(format!("network.adapter.{index}"), text(adapter))?;
    }
    talk.fact("network.interfaces", text(interfaces(sys).join(", ")))?;
    talk.fact("network.way-out", Value::Flag(!interfaces(sys).is_empty()))
}

#[derive(Debug, PartialEq, Eq)]
struct Disk {
    name: String,
    bus: &'static str,
    bytes: u64,
    /// Whether the image's root is on it.
    root: bool,
}

/// What hangs on a bus; loop devices and the like hang on none.
fn disks(sys: &Path) -> Vec<Disk> {
    let class = sys.join("class/block");
    let all = names(&class);
    let is_root = |name: &str| read(&class.join(name).join("uevent")).lines().any(|l| l == ROOT);
    let roots: Vec<&String> = all.iter().filter(|name| is_root(name)).collect();
    all.iter()
        .filter(|name| class.join(name).join("device").exists())
        .map(|name| Disk {
            name: name.clone(),
            bus: bus(&fs::canonicalize(class.join(name)).unwrap_or_default()),
            bytes: read(&class.join(name).join("size")).parse().unwrap_or(0) * SECTOR,
            // A partition's folder lies in its disk's.
            root: roots.iter().any(|part| class.join(name).join(part).is_dir()),
        })
        .collect()
}

/// By the path on which the kernel found a device, from the outermost bus inwards. The VMBus alone
/// goes by several names there, and is known by what its devices belong to.
fn bus(path: &Path) -> &'static str {
    let parts = || path.iter().filter_map(|part| part.to_str());
    let any = |start: &str| parts().any(|part| part.starts_with(start));
    let of = |device: &Path| fs::read_link(device.join("subsystem")).unwrap_or_default();
    if path.ancestors().any(|device| of(device).ends_with("bus/vmbus")) {
        "Hyper-V"
    } else if any("virtio") {
        "virtio"
    } else if any("usb") {
        "USB"
    } else if any("ata") {
        "SATA"
    } else if any("nvme") {
        "NVMe"
    } else if any("host") {
        "SCSI"
    } else {
        "unknown"
    }
}

/// Network adapters on PCI and on the VMBus: what they are, and which interface each has become.
fn adapters(sys: &Path) -> Vec<String> {
    let used: Vec<_> = interfaces(sys)
        .into_iter()
        .filter_map(|name| {
            let device = sys.join("class/net").join(&name).join("device");
            Some((fs::canonicalize(device).ok()?, name))
        })
        .collect();
    let word = |device: &Path, what: String| {
        // What a virtio adapter's interface hangs on lies below the one on PCI.
        let device = fs::canonicalize(device).unwrap_or_default();
        match used.iter().find(|(path, _)| path.starts_with(&device)) {
            Some((_, name)) => format!("{what}, {name}"),
            None => format!("{what}, not in use"),
        }
    };
    let mut found = Vec::new();
    for name in names(&sys.join("bus/pci/devices")) {
        let device = sys.join("bus/pci/devices").join(&name);
        if read(&device.join("class")).starts_with(PCI_NETWORK) {
            let id = |file: &str| read(&device.join(file)).trim_start_matches("0x").to_owned();
            found.push(word(&device, format!("PCI {}:{}", id("vendor"), id("device"))));
        }
    }
    for name in names(&sys.join("bus/vmbus/devices")) {
        let device = sys.join("bus/vmbus/devices").join(&name);
        if read(&device.join("class_id")).trim_matches(['{', '}']) == VMBUS_NETWORK {
            found.push(word(&device, "Hyper-V".into()));
        }
    }
    found
}

/// Those that lead elsewhere than back here.
fn interfaces(sys: &Path) -> Vec<String> {
    let mut names = names(&sys.join("class/net"));
    names.retain(|name| name != "lo");
    names
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn read(path: &Path) -> String {
    let text = path.to_str().and_then(crate::diag::guest::read).unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// A sysfs of our own.
    struct Sys(PathBuf);

    impl Sys {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("transom-sysfs-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(path.join("class/block")).expect("a folder");
            Self(path)
        }

        fn file(&self, path: &str, content: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, content).expect("a file");
        }

        fn link(&self, path: &str, target: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            symlink(self.0.join(target), path).expect("a link");
        }
    }

    impl Drop for Sys {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn disks_and_adapters_are_told_apart() {
        let sys = Sys::new();
        let sda = "devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda";
        sys.file(&format!("{sda}/size"), "2048\n");
        sys.file(&format!("{sda}/device/type"), "0\n");
        sys.file(&format!("{sda}/sda2/uevent"), "DEVTYPE=partition\nPARTNAME=transom-base\n");
        sys.link("class/block/sda", sda);
        sys.link("class/block/sda2", &format!("{sda}/sda2"));
        let vda = "devices/pci0000:00/0000:00:03.0/virtio1/block/vda";
        sys.file(&format!("{vda}/device/x"), "");
        sys.link("class/block/vda", vda);
        let channel = "devices/ACPI0004:00/MSFT1000:00/f8b3781a";
        let sdb = format!("{channel}/host1/target1:0:0/1:0:0:0/block/sdb");
        sys.file(&format!("{sdb}/device/x"), "");
        sys.link(&format!("{channel}/subsystem"), "bus/vmbus");
        sys.link("class/block/sdb", &sdb);
        sys.file("devices/virtual/block/loop0/size", "0");
        sys.link("class/block/loop0", "devices/virtual/block/loop0");
        let disk = |name: &str, bus, bytes, root| Disk { name: name.into(), bus, bytes, root };
        assert_eq!(
            disks(&sys.0),
            [
                disk("sda", "SATA", 2048 * 512, true),
                disk("sdb", "Hyper-V", 0, false),
                disk("vda", "virtio", 0, false),
            ]
        );

        for (id, class, vendor) in [
            ("0000:00:01.0", "0x030000", "0x1af4"),
            ("0000:00:02.0", "0x020000", "0x8086"),
            ("0000:00:03.0", "0x020000", "0x1af4"),
        ] {
            sys.file(&format!("devices/{id}/class"), class);
            sys.file(&format!("devices/{id}/vendor"), vendor);
            sys.file(&format!("devices/{id}/device"), "0x10d3\n");
            sys.link(&format!("bus/pci/devices/{id}"), &format!("devices/{id}"));
        }
        let net = "bus/vmbus/devices/a";
        sys.file(&format!("{net}/class_id"), &format!("{{{VMBUS_NETWORK}}}\n"));
        sys.file("devices/0000:00:03.0/virtio0/x", "");
        sys.link("class/net/ens3/device", "devices/0000:00:03.0/virtio0");
        assert_eq!(
            adapters(&sys.0),
            ["PCI 8086:10d3, not in use", "PCI 1af4:10d3, ens3", "Hyper-V, not in use"]
        );

        sys.file("class/net/lo/x", "");
        assert_eq!(interfaces(&sys.0), ["ens3"]);
    }

    #[test]
    fn buses_are_known_by_their_paths() {
        for (path, expected) in [
            ("/sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1", "NVMe"),
            (
                "/sys/devices/pci0000:00/0000:00:05.0/virtio3/host2/target2:0:0/2:0:0:0/block/sdb",
                "virtio",
            ),
            (
                "/sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/host6/target6:0:0/6:0:0:0/block/sdc",
                "USB",
            ),
            ("/sys/devices/pci0000:00/0000:00:10.0/host2/target2:0:0/2:0:0:0/block/sda", "SCSI"),
            ("/sys/devices/virtual/block/zram0", "unknown"),
        ] {
            assert_eq!(bus(Path::new(path)), expected, "{path}");
        }
    }
}
