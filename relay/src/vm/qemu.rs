//! A machine as QEMU takes it. Arguments only; `run.rs` starts and stops it.
//!
//! What enters: a definition, and where the machine's files and sockets are. What leaves: the
//! commands that make it run.

use std::path::{Path, PathBuf};

use super::{Command, Definition};

/// The firmware's code and the pristine copy of its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// Read-only.
    pub code: PathBuf,
    /// To be copied.
    pub variables: PathBuf,
}

/// Where distributions put OVMF: Debian and Ubuntu, Fedora, Arch; plain, then with Microsoft's
/// keys enrolled.
const FIRMWARE: [(&str, &str, bool); 6] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", false),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd", false),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd", false),
    ("/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd", true),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd",
        true,
    ),
    (
        "/usr/share/edk2/x64/OVMF_CODE.secboot.4m.fd",
        "/usr/share/edk2/x64/OVMF_VARS.secboot.4m.fd",
        true,
    ),
];

impl Firmware {
    /// What this system has of it.
    pub fn find(secure_boot: bool) -> Option<Self> {
        FIRMWARE
            .iter()
            .filter(|(.., secure)| *secure == secure_boot)
            .map(|(code, variables, _)| Self { code: code.into(), variables: variables.into() })
            .find(|firmware| firmware.code.exists() && firmware.variables.exists())
    }
}

/// Who executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU; slowly.
    Emulation,
}

/// How the guest gets its vsock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vsock {
    /// From the host's kernel (`/dev/vhost-vsock`), under this CID.
    Kernel {
        /// From 3 on.
        cid: u32,
    },
    /// From a daemon: `vhost-device-vsock`, or one that takes its arguments.
    Daemon {
        /// The program.
        program: PathBuf,
    },
}

/// The machine's files and sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// What stays: definition, firmware variables, logs.
    pub state: PathBuf,
    /// What is there while it runs: sockets and process ids. Short, for a socket's path is.
    pub run: PathBuf,
}

impl Places {
    /// The hybrid vsock socket, where a relay finds the guest.
    pub fn guest_socket(&self) -> PathBuf {
        self.run.join("guest.vsock")
    }

    /// The monitor's socket.
    pub fn monitor(&self) -> PathBuf {
        self.run.join("qmp")
    }

    /// QEMU's process id.
    pub fn pid_file(&self) -> PathBuf {
        self.run.join("qemu.pid")
    }

    /// The vsock daemon's process id.
    pub fn daemon_pid_file(&self) -> PathBuf {
        self.run.join("vsock.pid")
    }

    /// Where the daemon serves QEMU.
    pub fn vsock_device(&self) -> PathBuf {
        self.run.join("device")
    }

    /// This machine's firmware variables.
    pub fn variables(&self) -> PathBuf {
        self.state.join("efivars.fd")
    }

    /// What the kernel and the guest's services say.
    pub fn console(&self) -> PathBuf {
        self.state.join("console.log")
    }
}

/// The daemon's command line, where a daemon is needed.
pub fn vsock_command(vsock: &Vsock, places: &Places) -> Option<Command> {
    let Vsock::Daemon { program } = vsock else { return None };
    let machine = format!(
        "guest-cid=3,socket={},uds-path={}",
        places.vsock_device().display(),
        places.guest_socket().display()
    );
    Some(Command::new(text(program)).arg("--vm").arg(machine))
}

/// QEMU's command line.
pub fn command(
    vm: &Definition,
    places: &Places,
    firmware: &Firmware,
    vsock: &Vsock,
    accelerator: Accelerator,
) -> Command {
    let memory = vm.memory.0;
    let flash =
        |rest: &str, file: &Path| format!("if=pflash,format=raw,{rest}file={}", value(file));
    let command = Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-daemonize"])
        .arg("-name")
        .arg(value_of(vm.name.as_str()))
        .arg("-pidfile")
        .arg(text(&places.pid_file()))
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", value(&places.monitor())));
    let command = match accelerator {
        Accelerator::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
        Accelerator::Emulation => command.args(["-accel", "tcg,thread=multi", "-cpu", "max"]),
    };
    let command = if vm.secure_boot {
        // The variables may be written in system management mode alone, or a guest could enrol
        // keys of its own.
        let guarded = "driver=cfi.pflash01,property=secure,value=on";
        command.args(["-machine", "q35,smm=on", "-global", guarded])
    } else {
        command.args(["-machine", "q35"])
    };
    let command = command
        .args(["-smp", &vm.cpus.to_string(), "-m", &memory.to_string()])
        // Shared, so that a vsock daemon reaches the guest's memory.
        .arg("-object")
        .arg(format!("memory-backend-memfd,id=memory,size={memory}M,share=on"))
        .args(["-numa", "node,memdev=memory", "-drive"])
        .arg(flash("readonly=on,", &firmware.code))
        .arg("-drive")
        .arg(flash("", &places.variables()))
        // The image's root is read-only; what its boot loader writes is thrown away, so that
        // machines can share a file.
        .arg("-drive")
        .arg(format!("if=none,id=disk,format=vhdx,snapshot=on,file={}", value(&vm.vhdx)))
        .args(["-device", "virtio-blk-pci,drive=disk", "-device"])
        .arg(format!("virtio-gpu-pci,xres={},yres={}", vm.resolution.width, vm.resolution.height))
        .args(["-device", "virtio-rng-pci", "-serial"])
        .arg(format!("file:{}", value(&places.console())));
    match vsock {
        Vsock::Kernel { cid } => {
            command.arg("-device").arg(format!("vhost-vsock-pci,guest-cid={cid}"))
        }
        Vsock::Daemon { .. } => command
            .arg("-chardev")
            .arg(format!("socket,id=vsock,path={}", value(&places.vsock_device())))
            .args(["-device", "vhost-user-vsock-pci,chardev=vsock"]),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A path as the value of an option in a list: QEMU takes two commas for one.
fn value(path: &Path) -> String {
    value_of(&path.to_string_lossy())
}

fn value_of(text: &str) -> String {
    text.replace(',', ",,")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::vm::{Memory, Resolution};

    pub fn definition() -> Definition {
        Definition {
            name: "doom".parse().expect("a name"),
            vhdx: "/images/a,b/transom.vhdx".into(),
            resolution: Resolution { width: 1920, height: 1080 },
            cpus: 4,
            memory: Memory(2048),
            gpu: false,
            secure_boot: true,
        }
    }

    #[test]
    #[cfg(unix)]
    fn the_plan_is_pinned() {
        let places = Places { state: "/state/doom".into(), run: "/run/doom".into() };
        let firmware = Firmware { code: "/fw/code.fd".into(), variables: "/fw/vars.fd".into() };
        let daemon = Vsock::Daemon { program: "/bin/vsockd".into() };
        let kernel = Vsock::Kernel { cid: 7 };
        let plan =
            command(&definition(), &places, &firmware, &daemon, Accelerator::Emulation).to_string();
        let expected = r"qemu-system-x86_64 \
    -nodefaults \
    -no-user-config \
    -display none \
    -daemonize \
    -name doom \
    -pidfile /run/doom/qemu.pid \
    -qmp unix:/run/doom/qmp,server=on,wait=off \
    -accel tcg,thread=multi \
    -cpu max \
    -machine q35,smm=on \
    -global driver=cfi.pflash01,property=secure,value=on \
    -smp 4 \
    -m 2048 \
    -object memory-backend-memfd,id=memory,size=2048M,share=on \
    -numa node,memdev=memory \
    -drive if=pflash,format=raw,readonly=on,file=/fw/code.fd \
    -drive if=pflash,format=raw,file=/state/doom/efivars.fd \
    -drive if=none,id=disk,format=vhdx,snapshot=on,file=/images/a,,b/transom.vhdx \
    -device virtio-blk-pci,drive=disk \
    -device virtio-gpu-pci,xres=1920,yres=1080 \
    -device virtio-rng-pci \
    -serial file:/state/doom/console.log \
    -chardev socket,id=vsock,path=/run/doom/device \
    -device vhost-user-vsock-pci,chardev=vsock";
        assert_eq!(plan, expected);
        assert_eq!(
            vsock_command(&daemon, &places).map(|c| c.to_string()),
            Some("/bin/vsockd \\\n    --vm guest-cid=3,socket=/run/doom/device,uds-path=/run/doom/guest.vsock".into())
        );
        assert_eq!(vsock_command(&kernel, &places), None);
        let vm = Definition { secure_boot: false, ..definition() };
        let plan = command(&vm, &places, &firmware, &kernel, Accelerator::Kvm).to_string();
        assert!(plan.contains("-accel kvm \\\n    -cpu host \\\n    -machine q35 \\\n"));
        assert!(plan.ends_with("-device vhost-vsock-pci,guest-cid=7"));
        assert!(!plan.contains("netdev") && !plan.contains("-nic"), "a guest has no network");
    }
}
