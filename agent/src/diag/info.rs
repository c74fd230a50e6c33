//! Facts about the guest, by dotted paths.

mod devices;
mod display;

use std::path::Path;

use nix::sys::utsname::uname;
use transom_protocol::Chroma;
use transom_protocol::diagnostics::{Line, Value};

use super::Context;
use super::conversation::{Answer, Conversation};
use super::guest::{self, cpu, memory, read};
use crate::sys::cpuid;

/// Settings whose values are shown; of others only that they are set, in case they hold secrets.
const SHOWN: [&str; 13] = [
    "TRANSOM_LISTEN",
    "TRANSOM_PORT",
    "TRANSOM_BITRATE",
    "TRANSOM_FPS",
    "TRANSOM_ENCODER",
    "TRANSOM_CARD",
    "TRANSOM_SCANOUT",
    "TRANSOM_SHELL",
    "TRANSOM_COPY",
    "TRANSOM_COMPOSITOR",
    "RUST_LOG",
    "LIBVA_DRIVER_NAME",
    "LIBVA_DRIVERS_PATH",
];
/// Environment beside TRANSOM_* that is of interest.
const OF_INTEREST: [&str; 4] = ["RUST_LOG", "LIBVA_", "GALLIUM_", "MESA_"];
/// Efivars of the UEFI specification carry four bytes of attributes in front.
const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// What the boot loader and the kernel's own start handed over (x86 only).
const BOOT_PARAMS: &str = "/sys/kernel/boot_params/data";
/// There, whether Secure Boot is on: 2 is off, 3 is on (Documentation/arch/x86/zero-page.rst).
const BOOT_PARAMS_SECURE: usize = 0x1ec;

/// A text as a value.
pub fn text(value: impl Into<String>) -> Value {
    Value::Text(Line::new(value))
}

/// A count as a value.
pub fn number(value: impl TryInto<i64>) -> Value {
    Value::Number(value.try_into().unwrap_or(i64::MAX))
}

/// All of them.
pub fn run(context: &Context, talk: &mut Conversation) -> Answer {
    system(talk)?;
    agent(context, talk)?;
    display::run(context, talk)?;
    encoder(context, talk)?;
    for (folder, version) in super::gpu::drivers() {
        talk.fact(format!("gpu.driver.{}", super::gpu::fit(&folder)), text(version))?;
    }
    inputs(talk)?;
    devices::run(talk)?;
    let transports = vsock_transports();
    talk.fact("vsock.transports", text(transports.join(", ")))?;
    talk.fact("vsock.loopback", Value::Flag(Path::new("/sys/module/vsock_loopback").exists()))
}

fn system(talk: &mut Conversation) -> Answer {
    if let Ok(name) = uname() {
        talk.fact("kernel.release", text(name.release().to_string_lossy()))?;
        talk.fact("kernel.version", text(name.version().to_string_lossy()))?;
        talk.fact("kernel.machine", text(name.machine().to_string_lossy()))?;
        talk.fact("host.name", text(name.nodename().to_string_lossy()))?;
    }
    for (path, file) in [
        ("kernel.command-line", "/proc/cmdline"),
        ("kernel.boot-id", "/proc/sys/kernel/random/boot_id"),
        ("kernel.tainted", "/proc/sys/kernel/tainted"),
        ("kernel.lockdown", "/sys/kernel/security/lockdown"),
        ("machine.vendor", "/sys/class/dmi/id/sys_vendor"),
        ("machine.product", "/sys/class/dmi/id/product_name"),
        ("firmware.version", "/sys/class/dmi/id/bios_version"),
        ("load.average", "/proc/loadavg"),
    ] {
        if let Some(value) = read(file) {
            talk.fact(path, text(value))?;
        }
    }
    talk.fact("machine.hypervisor", text(hypervisor()))?;
    talk.fact("firmware.uefi", Value::Flag(Path::new("/sys/firmware/efi").exists()))?;
    if let Some(on) = secure_boot() {
        talk.fact("firmware.secure-boot", Value::Flag(on))?;
    }
    let release = read("/etc/os-release").unwrap_or_default();
    let field = |name: &str| guest::text::os_release(&release, name).map(str::to_owned);
    if let Some(name) = field("PRETTY_NAME") {
        talk.fact("system.name", text(name))?;
    }
    let image = read("/etc/transom/version").or_else(|| field("IMAGE_VERSION"));
    talk.fact("system.image-version", text(image.unwrap_or_else(|| "unknown".into())))?;
    let uptime = read("/proc/uptime").unwrap_or_default();
    if let Some(seconds) = guest::text::uptime(&uptime) {
        talk.fact("system.uptime", number(seconds))?;
    }
    if let Some((total, available)) = memory() {
        talk.fact("memory.total", number(total))?;
        talk.fact("memory.available", number(available))?;
    }
    if let Some((_, processors)) = cpu() {
        talk.fact("cpu.count", number(processors))?;
    }
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    if let Some(model) = guest::text::cpu_model(&cpuinfo) {
        talk.fact("cpu.model", text(model))?;
    }
    Ok(())
}

/// Whether the firmware checked what it started; nothing where it does not say.
fn secure_boot() -> Option<bool> {
    if let Ok(bytes) = std::fs::read(SECURE_BOOT) {
        return Some(bytes.get(4) == Some(&1));
    }
    // The shipped image has no efivarfs; the kernel's own note of what it asked the firmware stays.
    match std::fs::read(BOOT_PARAMS).ok()?.get(BOOT_PARAMS_SECURE) {
        Some(2) => Some(false),
        Some(3) => Some(true),
        _ => None,
    }
}

/// What the guest runs on, as far as it can tell.
fn hypervisor() -> String {
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    if cpuinfo.contains("User Mode Linux") {
        // Its processor is the host's and tells about that.
        return "user-mode Linux".into();
    }
    if let Some(kind) = read("/sys/hypervisor/type") {
        return kind;
    }
    match cpuid::hypervisor().as_deref() {
        Some("Microsoft Hv") => "Hyper-V".into(),
        Some("KVMKVMKVM") => "KVM".into(),
        Some("TCGTCGTCGTCG") => "QEMU without hardware support (TCG)".into(),
        Some("VMwareVMware") => "VMware".into(),
        Some("XenVMMXenVMM") => "Xen".into(),
        Some(other) => other.to_owned(),
        None => match read("/sys/class/dmi/id/sys_vendor") {
            Some(vendor) if vendor.contains("QEMU") => "QEMU".into(),
            _ => "none found".into(),
        },
    }
}

fn agent(context: &Context, talk: &mut Conversation) -> Answer {
    talk.fact("agent.version", text(env!("CARGO_PKG_VERSION")))?;
    talk.fact("agent.uptime", number(context.started.elapsed().as_secs()))?;
    talk.fact("agent.pid", number(std::process::id()))?;
    talk.fact("agent.user", number(nix::unistd::geteuid().as_raw()))?;
    talk.fact("agent.shell", Value::Flag(context.settings.shell))?;
    talk.fact("agent.copy", Value::Flag(context.settings.copy))?;
    talk.fact("agent.compositor", text(context.settings.compositor.clone()))?;
    let mut settings: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| {
            name.starts_with("TRANSOM_") || OF_INTEREST.iter().any(|start| name.starts_with(start))
        })
        .collect();
    settings.sort();
    for (name, value) in settings {
        let shown = SHOWN.contains(&name.as_str());
        let value = if shown { value.to_string_lossy().into_owned() } else { "(set)".into() };
        talk.fact(format!("settings.{name}"), text(value))?;
    }
    Ok(())
}

fn encoder(context: &Context, talk: &mut Conversation) -> Answer {
    let state = context.hub.encoder();
    for (path, value) in [
        ("encoder.name", state.name),
        ("encoder.driver", state.driver),
        ("encoder.profile", state.profile),
        ("encoder.entrypoint", state.entrypoint),
        ("encoder.path", state.path),
    ] {
        if !value.is_empty() {
            talk.fact(path, text(value))?;
        }
    }
    let colours = context.hub.colours();
    talk.fact(
        "encoder.chroma",
        text(match (colours.shown, colours.relay, colours.halved) {
            (Chroma::Yuv444, ..) => "4:4:4",
            (Chroma::Yuv420, Chroma::Yuv420, _) => "4:2:0",
            (Chroma::Yuv420, Chroma::Yuv444, true) => "4:2:0, by a setting; viewers take 4:4:4",
            (Chroma::Yuv420, Chroma::Yuv444, false) => {
                "4:2:0, for want of an encoder; viewers take 4:4:4"
            }
        }),
    )?;
    for (index, (name, reason)) in state.rejected.into_iter().enumerate() {
        talk.fact(format!("encoder.rejected.{index}"), text(format!("{name}: {reason}")))?;
    }
    talk.fact("va.drivers", text(va_drivers().join(", ")))
}

/// The VA-API drivers that are installed, where libva looks for them.
pub fn va_drivers() -> Vec<String> {
    let mut folders: Vec<String> =
        ["/usr/lib/x86_64-linux-gnu/dri", "/usr/lib/dri"].map(String::from).to_vec();
    if let Ok(own) = std::env::var("LIBVA_DRIVERS_PATH") {
        folders = own.split(':').map(String::from).collect();
    }
    let mut drivers: Vec<String> = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| Some(name.strip_suffix("_drv_video.so")?.to_owned()))
        .collect();
    drivers.sort();
    drivers
}

fn inputs(talk: &mut Conversation) -> Answer {
    let devices = read("/proc/bus/input/devices").unwrap_or_default();
    for (index, (name, handlers)) in guest::text::input_devices(&devices).enumerate() {
        talk.fact(format!("input.{index}"), text(format!("{name} ({handlers})")))?;
    }
    Ok(())
}

/// The ways that vsock takes out of this guest, and its own number.
pub fn vsock_transports() -> Vec<String> {
    let mut found = Vec::new();
    let devices = std::fs::read_dir("/sys/bus/virtio/devices").into_iter().flatten();
    for device in devices.flatten() {
        let path = device.path().join("device");
        if path.to_str().and_then(read).as_deref() == Some("0x0013") {
            found.push("virtio".to_owned());
        }
    }
    for (module, name) in [("hv_sock", "Hyper-V"), ("vmw_vsock_vmci_transport", "VMCI")] {
        if Path::new("/sys/module").join(module).exists() {
            found.push(name.to_owned());
        }
    }
    if let (false, Ok(cid)) = (found.is_empty(), vsock::get_local_cid()) {
        // Hyper-V does not tell.
        if cid != vsock::VMADDR_CID_ANY {
            found.push(format!("guest number {cid}"));
        }
    }
    found
}
