//! The whole machine: QEMU boots the shipped VHDX through its firmware.
//!
//! In: `dist/transom.vhdx` or another image, which is not changed, and a display. Out: a [`Guest`] whose
//! first serial port is the kernel console and whose second is a root shell. KVM where it
//! really boots this kernel, emulation where it does not. For boot, virtio-gpu, bochs and
//! the kernel's own console; all else is faster in [`crate::Uml`].

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guest::{BOOT_DEADLINE, Guest, Machine, other_encoder};
use crate::process::Process;
use crate::qmp::Qmp;
use crate::run::{Test, project_dir};
use crate::shell::Shell;
use crate::transcript::Transcript;
use crate::vsock::VsockDevice;

const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const FIRMWARE_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
const MEMORY_MB: u32 = 1024;
/// With KVM that works the kernel speaks after two seconds.
const KVM_DEADLINE: Duration = Duration::from_secs(30);

/// The unmodified image gets a root shell on its second serial port by credentials that
/// the machine's firmware hands to systemd (`man systemd.system-credentials`): a unit, and
/// a drop-in that pulls it in.
const SHELL_UNIT: &str = "\
[Unit]
Description=Root shell of the machine tests
DefaultDependencies=no
[Service]
ExecStart=/bin/sh -c 'stty -echo -onlcr; echo @@guest ready; PS1= PS2= exec /bin/sh -i 2>/dev/null'
StandardInput=tty-force
StandardOutput=tty
TTYPath=/dev/ttyS1
Restart=always
";
const SHELL_DROPIN: &str = "[Unit]\nWants=transom-test-shell.service\n";

/// The machine's only display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Display {
    /// virtio-gpu without 3D, in its preferred size.
    VirtioGpu {
        /// Pixels per row.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The plain frame buffer of bochs-display.
    Bochs {
        /// Pixels per row.
        width: u32,
        /// Rows.
        height: u32,
    },
}

/// What the image's disk hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk.
    Virtio,
    /// The AHCI controller of the chipset: a disk of SCSI's for Linux, as Hyper-V's are.
    Sata,
    /// NVMe.
    Nvme,
}

/// What a QEMU guest shall be like.
#[derive(Clone)]
pub struct Qemu {
    test: Test,
    name: String,
    display: Display,
    disks: Vec<PathBuf>,
    image: PathBuf,
    bus: Bus,
    adapters: u8,
    kernel: Option<Kernel>,
    forward: Option<(u16, u16)>,
}

/// What boots instead of what the image has.
#[derive(Debug, Clone)]
struct Kernel {
    file: PathBuf,
    initrd: PathBuf,
    command_line: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accelerator {
    Kvm,
    Emulation,
}

impl Qemu {
    /// Two processors, 1 GB, virtio-gpu at 1280x720; the disk is virtio's, and there is no network.
    pub fn new(test: &Test) -> Self {
        let display = Display::VirtioGpu { width: 1280, height: 720 };
        let image = project_dir().join("dist/transom.vhdx");
        Self {
            test: test.clone(),
            name: "guest".into(),
            display,
            disks: Vec::new(),
            image,
            bus: Bus::Virtio,
            adapters: 0,
            kernel: None,
            forward: None,
        }
    }

    /// A name of its own, where there is more than one guest.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Another image than the shipped one.
    pub fn image(mut self, vhdx: &Path) -> Self {
        self.image = vhdx.into();
        self
    }

    /// The display to boot with.
    pub fn display(mut self, display: Display) -> Self {
        self.display = display;
        self
    }

    /// What the image's disk hangs on.
    pub fn bus(mut self, bus: Bus) -> Self {
        self.bus = bus;
        self
    }

    /// So many network adapters, on a network of their own that leads nowhere.
    pub fn adapters(mut self, count: u8) -> Self {
        self.adapters = count;
        self
    }

    /// Has the firmware start this kernel, for images without a boot loader.
    pub fn kernel(mut self, file: &Path, initrd: &Path, command_line: &str) -> Self {
        let command_line = command_line.into();
        self.kernel = Some(Kernel { file: file.into(), initrd: initrd.into(), command_line });
        self
    }

    /// A network adapter on QEMU's user-mode network; a TCP port of the host's loopback leads to one
    /// of the guest's.
    pub fn forward(mut self, host: u16, guest: u16) -> Self {
        self.forward = Some((host, guest));
        self
    }

    /// A further disk, read-only: `/dev/vdb` and so on.
    pub fn disk(mut self, raw: &Path) -> Self {
        self.disks.push(raw.into());
        self
    }

    /// Where a relay will find the guest, known before it boots.
    pub fn address(&self) -> String {
        match vhost_cid() {
            Some(cid) => format!("vsock:{cid}"),
            None => format!("unix:{}", VsockDevice::hybrid_of(&self.test, &self.name).display()),
        }
    }

    /// Boots, once more if it never comes up, and returns when its root shell answers.
    pub fn boot(self) -> Result<Guest> {
        let image = self.checked_image()?;
        let verdict = Path::new("/dev/kvm").exists().then(KvmVerdict::read).transpose()?;
        let accelerator = match verdict {
            Some(KvmVerdict { works: None, file }) => {
                let booted = self.boot_once(&image, Accelerator::Kvm);
                std::fs::write(&file, if booted.is_ok() { "yes" } else { "no" })?;
                match booted {
                    Ok(guest) => return Ok(guest),
                    Err(error) => eprintln!("KVM boots nothing here, emulating: {error:#}"),
                }
                Accelerator::Emulation
            }
            Some(KvmVerdict { works: Some(true), .. }) => Accelerator::Kvm,
            Some(KvmVerdict { works: Some(false), .. }) | None => Accelerator::Emulation,
        };
        self.boot_once(&image, accelerator).or_else(|error| {
            eprintln!("{}: did not come up, booting it again: {error:#}", self.name);
            self.boot_once(&image, accelerator)
        })
    }

    /// Boots the same machine again, after the old one is gone.
    pub(crate) fn boot_again(&self, accelerator: Accelerator) -> Result<Guest> {
        self.boot_once(&self.checked_image()?, accelerator)
    }

    fn checked_image(&self) -> Result<PathBuf> {
        let image = &self.image;
        ensure!(image.exists(), "no image at {}: run `make image`", image.display());
        Ok(image.clone())
    }

    fn boot_once(&self, image: &Path, accelerator: Accelerator) -> Result<Guest> {
        let (test, name) = (&self.test, &self.name);
        let variables = test.socket(&format!("{name}.efivars"));
        std::fs::copy(FIRMWARE_VARIABLES, &variables)
            .context("no UEFI firmware: apt-get install ovmf")?;
        let shell_socket = test.socket(&format!("{name}.shell"));
        let monitor_socket = test.socket(&format!("{name}.qmp"));
        let cid = vhost_cid();
        let vsock = if cid.is_none() { Some(VsockDevice::start(test, name)?) } else { None };

        let mut command = Process::command("qemu-system-x86_64");
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        match accelerator {
            Accelerator::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
            Accelerator::Emulation => command.args(["-accel", "tcg,thread=multi", "-cpu", "max"]),
        };
        command
            // A guest that reboots ends QEMU, and is started again: see `Guest::reboot`.
            .args(["-action", "reboot=shutdown"])
            .args(["-machine", "q35", "-smp", "2", "-m", &MEMORY_MB.to_string()])
            // Shared, so that the vsock daemon reaches the guest's memory.
            .arg("-object")
            .arg(format!("memory-backend-memfd,id=memory,size={MEMORY_MB}M,share=on"))
            .args(["-numa", "node,memdev=memory", "-drive"])
            .arg(format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}"))
            .arg("-drive")
            .arg(format!("if=pflash,format=raw,file={}", variables.display()))
            // What the guest writes goes to a temporary file: tests share one image.
            .arg("-drive")
            .arg(format!("if=none,id=disk,format=vhdx,snapshot=on,file={}", image.display()))
            .args(["-device", self.bus.device()])
            .args((0..self.adapters).flat_map(|n| {
                // Two kinds in turns. Without a ROM: firmware would try to boot from there.
                let model = if n % 2 == 0 { "e1000e" } else { "virtio-net-pci" };
                let port = format!("hubport,hubid=0,id=net{n}");
                let device = format!("{model},netdev=net{n},romfile=");
                ["-netdev".into(), port, "-device".into(), device]
            }))
            .args(self.kernel.iter().flat_map(|kernel| {
                let path = |path: &Path| path.as_os_str().to_owned();
                let line = kernel.command_line.clone().into();
                let (file, initrd) = (path(&kernel.file), path(&kernel.initrd));
                ["-kernel".into(), file, "-initrd".into(), initrd, "-append".into(), line]
            }))
            .args(self.forward.iter().flat_map(|(host, guest)| {
                let net = format!("user,id=user,restrict=on,hostfwd=tcp:127.0.0.1:{host}-:{guest}");
                let device = "virtio-net-pci,netdev=user,romfile=";
                ["-netdev".into(), net, "-device".into(), device.into()]
            }))
            .args(self.disks.iter().enumerate().flat_map(|(n, disk)| {
                let drive = "if=none,format=raw,readonly=on";
                let drive = format!("{drive},id=disk{n},file={}", disk.display());
                ["-drive".into(), drive, "-device".into(), format!("virtio-blk-pci,drive=disk{n}")]
            }))
            .args(["-device", &self.display.device(), "-device", "virtio-rng-pci"])
            .args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"])
            .arg("-chardev")
            .arg(format!("socket,id=shell,server=on,wait=off,path={}", shell_socket.display()))
            .args(["-serial", "chardev:shell", "-qmp"])
            .arg(format!("unix:{},server=on,wait=off", monitor_socket.display()))
            .args(credential("systemd.extra-unit.transom-test-shell.service", SHELL_UNIT))
            .args(credential("systemd.unit-dropin.basic.target", SHELL_DROPIN));
        if let Some(encoder) = other_encoder()? {
            let dropin = format!("[Service]\nEnvironment=TRANSOM_ENCODER={encoder}\n");
            command.args(credential("systemd.unit-dropin.transom-agent.service", &dropin));
        }
        match (cid, &vsock) {
            (Some(cid), _) => {
                command.args(["-device", &format!("vhost-vsock-pci,guest-cid={cid}")]);
            }
            (None, Some(vsock)) => {
                command.arg("-chardev");
                command.arg(format!("socket,id=vsock,path={}", vsock.device().display()));
                command.args(["-device", "vhost-user-vsock-pci,chardev=vsock"]);
            }
            (None, None) => unreachable!("a daemon was started"),
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());

        let mut process = Process::spawn(test, &format!("{name}-qemu"), &mut command)?;
        let output = process.child().stdout.take().context("stdout was piped")?;
        let console = Transcript::of(output, &test.dir().join(format!("{name}-console.log")))?;
        let up = (|| {
            let shell = connect(&shell_socket, &mut process)?;
            let shell_text = test.dir().join(format!("{name}-shell.log"));
            let shell_text = Transcript::of(shell.try_clone()?, &shell_text)?;
            let qmp = Qmp::greet(connect(&monitor_socket, &mut process)?)?;
            if accelerator == Accelerator::Kvm {
                console.wait("Linux version", KVM_DEADLINE)?;
            }
            let shell = Shell::on(shell, shell_text);
            shell.wait_ready(BOOT_DEADLINE)?;
            Ok((shell, qmp))
        })();
        let (shell, qmp) = up.map_err(|error: anyhow::Error| {
            let said = process.stderr().text();
            if said.is_empty() { error } else { error.context(said.trim().to_owned()) }
        })?;
        let machine =
            Machine::Qemu { process, qmp, cid, accelerator, plan: Box::new(self.clone()) };
        Ok(Guest::new(test, name, machine, vsock, shell, console))
    }
}

impl Bus {
    /// As an argument of `-device`.
    fn device(self) -> &'static str {
        match self {
            Self::Virtio => "virtio-blk-pci,drive=disk",
            Self::Sata => "ide-hd,drive=disk,bus=ide.0",
            Self::Nvme => "nvme,drive=disk,serial=transom",
        }
    }
}

impl Display {
    /// As an argument of `-device`.
    fn device(self) -> String {
        match self {
            Self::VirtioGpu { width, height } => {
                format!("virtio-gpu-pci,xres={width},yres={height}")
            }
            Self::Bochs { width, height } => format!("bochs-display,xres={width},yres={height}"),
        }
    }
}

/// Whether KVM boots this kernel, found out once per boot of the host.
struct KvmVerdict {
    works: Option<bool>,
    file: PathBuf,
}

impl KvmVerdict {
    fn read() -> Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let file = std::env::temp_dir().join(format!("transom-kvm-{}", boot.trim()));
        let works = std::fs::read_to_string(&file).ok().map(|verdict| verdict == "yes");
        Ok(Self { works, file })
    }
}

/// The guest's number where the host's kernel has vsock.
fn vhost_cid() -> Option<u32> {
    let device = std::fs::File::options().read(true).write(true).open("/dev/vhost-vsock");
    device.is_ok().then(|| 0x1_0000 + std::process::id())
}

fn credential(name: &str, content: &str) -> [String; 2] {
    let value = base64(content.as_bytes());
    ["-smbios".into(), format!("type=11,value=io.systemd.credential.binary:{name}={value}")]
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let word = chunk.iter().fold(0, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        (0..4).map(move |i| match i <= chunk.len() {
            true => char::from(DIGITS[(word >> (18 - 6 * i)) as usize & 63]),
            false => '=',
        })
    });
    digits.collect()
}

/// Connects to a socket that QEMU makes a moment after its start.
fn connect(path: &Path, qemu: &mut Process) -> Result<UnixStream> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                ensure!(qemu.is_running(), "QEMU has ended: {}", qemu.stderr().text().trim());
                ensure!(Instant::now() < end, "QEMU made no {}: {error}", path.display());
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_base64() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(super::base64(plain.as_bytes()), coded);
        }
    }
}
