//! A Windows host: Hyper-V, who may use it, GPUs that can be shared, and one machine.
//!
//! In: what [`script`] printed. Out: checks. The script asks and judges nothing, so that the
//! judgement is tested where no PowerShell is; each question that fails leaves its answer empty.

use serde::Deserialize;
use transom_protocol::{
    PORT,
    diagnostics::{Check, Verdict},
};

use crate::{
    diag::doctor::check,
    guest::hyperv::Guid,
    vm::{Name, quote::powershell as quote},
};

/// The last build before Windows 10 1903, the first that Hyper-V's GPU partitions came with.
const OLD_BUILD: u32 = 18361;
/// The template whose key has signed Debian's boot loader.
const TEMPLATE: &str = "MicrosoftUEFICertificateAuthority";
/// What a GPU partition wants at least, in bytes of address space above 4 GiB.
const HIGH_MMIO: u64 = 32 << 30;

/// The script that asks; about one machine too, if one is named.
pub fn script(machine: Option<&Name>) -> String {
    let mut script = String::from(QUESTIONS);
    let service = Guid::service(PORT);
    script.push_str(&format!(
        "$facts.service = Test-Path 'HKLM:\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\Virtualization\\GuestCommunicationServices\\{service}'\n"
    ));
    if let Some(name) = machine {
        script.push_str(&format!("$name = {}\n{MACHINE}", quote(name.as_str())));
    }
    script.push_str("ConvertTo-Json -InputObject $facts -Depth 4 -Compress\n");
    script
}

const QUESTIONS: &str = r#"try { [Console]::OutputEncoding = [Text.Encoding]::UTF8 } catch { } # without a console there is none
$ErrorActionPreference = 'Stop'
$facts = @{}
function Ask($what, $how) { try { $facts[$what] = & $how } catch { $facts[$what + 'Error'] = "$($_.Exception.Message)" } }
Ask 'build' { [int] [Environment]::OSVersion.Version.Build }
Ask 'edition' { (Get-CimInstance Win32_OperatingSystem).Caption }
Ask 'hypervisor' { [bool] (Get-CimInstance Win32_ComputerSystem).HypervisorPresent }
Ask 'module' { [bool] (Get-Module -ListAvailable -Name Hyper-V) }
Ask 'service_state' { "$((Get-Service -Name vmms).Status)" }
$me = New-Object Security.Principal.WindowsPrincipal([Security.Principal.WindowsIdentity]::GetCurrent())
Ask 'elevated' { [bool] $me.IsInRole((New-Object Security.Principal.SecurityIdentifier('S-1-5-32-544'))) }
Ask 'group' { [bool] $me.IsInRole((New-Object Security.Principal.SecurityIdentifier('S-1-5-32-578'))) }
Ask 'gpus' {
    $cmdlet = Get-Command -Name @('Get-VMHostPartitionableGpu', 'Get-VMPartitionableGpu') -ErrorAction SilentlyContinue | Select-Object -First 1
    @(if ($cmdlet) { & $cmdlet | ForEach-Object { "$($_.Name)" } })
}
Ask 'wsl' { [bool] (@("$env:SystemRoot\System32\lxss\lib\libdxcore.so", "$env:ProgramFiles\WSL\lib\libdxcore.so") | Where-Object { Test-Path $_ }) }
"#;

const MACHINE: &str = r#"Ask 'machines' {
    @(Get-VM | Where-Object { $_.Name -eq $name } | ForEach-Object {
        $vm = $_
        $firmware = if ($vm.Generation -eq 2) { Get-VMFirmware -VM $vm }
        $video = Get-VMVideo -VM $vm
        @{
            id = "$($vm.Id)"; state = "$($vm.State)"; generation = [int] $vm.Generation
            secure_boot = "$($firmware.SecureBoot)"; template = "$($firmware.SecureBootTemplate)"
            checkpoints = "$($vm.CheckpointType)"; adapters = @(Get-VMNetworkAdapter -VM $vm).Count
            resolution_type = "$($video.ResolutionType)"
            width = [int] $video.HorizontalResolution; height = [int] $video.VerticalResolution
            gpus = @(Get-VMGpuPartitionAdapter -VM $vm).Count; high_mmio = [long] $vm.HighMemoryMappedIoSpace
            disks = @(Get-VMHardDiskDrive -VM $vm | ForEach-Object { @{ path = "$($_.Path)"; there = [bool] ($_.Path -and (Test-Path -LiteralPath $_.Path)) } })
        }
    })
}
"#;

/// What the script found; what is missing could not be asked, or is of a newer script.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Facts {
    build: Option<u32>,
    edition: Option<String>,
    hypervisor: Option<bool>,
    module: Option<bool>,
    service_state: Option<String>,
    elevated: Option<bool>,
    group: Option<bool>,
    gpus: Option<OneOrMany<String>>,
    wsl: Option<bool>,
    service: Option<bool>,
    machines: Option<OneOrMany<Machine>>,
    #[serde(rename = "machinesError")]
    machines_error: Option<String>,
}

/// PowerShell takes a list of one for the one.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    fn all(&self) -> &[T] {
        match self {
            Self::Many(all) => all,
            Self::One(one) => std::slice::from_ref(one),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Machine {
    id: String,
    state: String,
    generation: u32,
    secure_boot: String,
    template: String,
    checkpoints: String,
    adapters: u32,
    resolution_type: String,
    width: u32,
    height: u32,
    gpus: u32,
    high_mmio: u64,
    disks: Option<OneOrMany<Disk>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Disk {
    path: String,
    there: bool,
}

/// The host was not asked at all.
pub fn no_facts(why: &str) -> Check {
    let why = why.lines().next().unwrap_or("PowerShell said nothing");
    check(
        "powershell",
        Verdict::Fail,
        why,
        "Run powershell.exe in a terminal: does Get-VM work there?",
    )
}

/// What the script's answer means.
pub fn checks(said: &str, machine: Option<&Name>) -> Vec<Check> {
    let said = said.trim_start_matches('\u{feff}').trim();
    // A list would read as one without entries.
    let facts = match said.starts_with('{') {
        true => serde_json::from_str(said),
        false => Err(serde::de::Error::custom("no object")),
    };
    let facts: Facts = match facts {
        Ok(facts) => facts,
        Err(e) => return vec![no_facts(&format!("its answer does not read ({e})"))],
    };
    let mut checks = vec![system(&facts), role(&facts), rights(&facts), gpu(&facts), wsl(&facts)];
    checks.push(check(
        "service-registered",
        Verdict::Pass,
        match facts.service {
            Some(true) => "yes, which does no harm: the host connects, and needs no registry key",
            _ => "no, and need not be: the host connects, and needs no registry key",
        },
        "",
    ));
    if let Some(name) = machine {
        machine_checks(&facts, name, &mut checks);
    }
    checks
}

fn system(facts: &Facts) -> Check {
    let edition = facts.edition.as_deref().unwrap_or("Windows");
    match facts.build {
        _ if edition.contains("Home") => check(
            "windows",
            Verdict::Fail,
            format!("{edition} has no Hyper-V"),
            "Upgrade to Pro, or use a Linux host",
        ),
        Some(build) if build > OLD_BUILD => {
            check("windows", Verdict::Pass, format!("{edition}, build {build}"), "")
        }
        Some(build) => check(
            "windows",
            Verdict::Warn,
            format!("{edition}, build {build}, has no GPU partitions"),
            "Update Windows, if a GPU is wanted",
        ),
        None => {
            check("windows", Verdict::Warn, "does not tell its version", "Run this again, elevated")
        }
    }
}

fn role(facts: &Facts) -> Check {
    let enable = "In an elevated PowerShell: Enable-WindowsOptionalFeature -Online -FeatureName \
                  Microsoft-Hyper-V-All, then restart Windows";
    let fail = |found: &str, remedy: &str| check("hyper-v", Verdict::Fail, found, remedy);
    match (facts.module, facts.service_state.as_deref(), facts.hypervisor) {
        (Some(true), Some("Running"), Some(false)) => fail(
            "is installed, and the hypervisor does not run",
            "Switch virtualisation on in this computer's firmware; then, elevated: bcdedit /set \
             hypervisorlaunchtype auto, and restart Windows",
        ),
        (Some(true), Some("Running"), _) => check("hyper-v", Verdict::Pass, "runs", ""),
        (_, Some(state), _) => fail(
            &format!("its service vmms is not running, but {state}"),
            "In an elevated PowerShell: Start-Service vmms",
        ),
        (Some(true), None, _) => {
            fail("its service vmms is missing: only its tools are there", enable)
        }
        _ => fail("is not installed", enable),
    }
}

fn rights(facts: &Facts) -> Check {
    match (facts.group, facts.elevated) {
        (Some(true), _) => check("rights", Verdict::Pass, "a member of Hyper-V Administrators", ""),
        (_, Some(true)) => check("rights", Verdict::Pass, "an elevated administrator", ""),
        _ => check(
            "rights",
            Verdict::Fail,
            "neither elevated nor in Hyper-V Administrators",
            "net localgroup \"Hyper-V Administrators\" %USERNAME% /add, elevated, then sign in again",
        ),
    }
}

fn gpu(facts: &Facts) -> Check {
    match facts.gpus.as_ref().map(OneOrMany::all) {
        Some(gpus @ [_, ..]) => {
            check("gpu", Verdict::Pass, format!("{} can be shared", gpus.len()), "")
        }
        _ => check(
            "gpu",
            Verdict::Skip,
            "none can be shared: --gpu is not to be had",
            "Install the GPU vendor's newest driver, if there is a GPU",
        ),
    }
}

fn wsl(facts: &Facts) -> Check {
    match facts.wsl {
        Some(true) => check("gpu-libraries", Verdict::Pass, "WSL's are there", ""),
        _ => check(
            "gpu-libraries",
            Verdict::Skip,
            "WSL's are missing: `transom vm gpu-inject` has nothing to bring",
            "wsl --install --no-distribution, if a GPU is wanted",
        ),
    }
}

fn machine_checks(facts: &Facts, name: &Name, checks: &mut Vec<Check>) {
    let remake = |what: &str| format!("transom vm create {name} --vhdx FILE sets {what}");
    let vm = match (facts.machines.as_ref().map(OneOrMany::all), &facts.machines_error) {
        (Some([vm]), _) => vm,
        (Some([]), _) | (None, None) => {
            let remedy = "`transom vm list` shows those that are there";
            checks.push(check(
                "machine",
                Verdict::Fail,
                format!("there is none named {name}"),
                remedy,
            ));
            return;
        }
        (Some(_), _) => {
            let found = format!("there are several named {name}");
            checks.push(check("machine", Verdict::Fail, found, "Rename one: Rename-VM"));
            return;
        }
        (None, Some(why)) => {
            let remedy = "Look at the checks above";
            checks.push(check("machine", Verdict::Fail, why.clone(), remedy));
            return;
        }
    };
    let mut add = |name: &str, good: bool, bad: Verdict, found: String, remedy: String| {
        let (verdict, remedy) = if good { (Verdict::Pass, String::new()) } else { (bad, remedy) };
        checks.push(check(name, verdict, found, remedy));
    };
    use Verdict::{Fail, Warn};
    add(
        "machine",
        vm.state == "Running",
        Warn,
        format!("{}, {}", vm.id, vm.state),
        format!("transom vm start {name}"),
    );
    add(
        "machine-generation",
        vm.generation == 2,
        Fail,
        format!("{}", vm.generation),
        format!("The image boots by UEFI alone: transom vm delete {name}, and create it anew"),
    );
    let (secure, with_gpu) = (vm.secure_boot == "On", vm.gpus > 0);
    add(
        "machine-secure-boot",
        !secure || (vm.template == TEMPLATE && !with_gpu),
        Fail,
        match secure {
            true => format!("on, template {}", vm.template),
            false => "off".into(),
        },
        match with_gpu {
            true => format!(
                "No firmware knows who signed dxgkrnl: Set-VMFirmware {name} -EnableSecureBoot Off"
            ),
            false => remake("the template whose key has signed the boot loader"),
        },
    );
    if let Some(disk) = vm.disks.iter().flat_map(OneOrMany::all).find(|disk| !disk.there) {
        let found = format!("{} is missing", disk.path);
        add("machine-disk", false, Fail, found, remake("its disk, after transom vm delete"));
    }
    add(
        "machine-resolution",
        vm.resolution_type == "Single",
        Warn,
        format!("{}x{}, {}", vm.width, vm.height, vm.resolution_type),
        remake("a fixed one"),
    );
    add(
        "machine-checkpoints",
        vm.checkpoints == "Disabled",
        Warn,
        vm.checkpoints.clone(),
        remake("them off: they would copy the disk aside at every start"),
    );
    add(
        "machine-network",
        true,
        Warn,
        format!("{} adapters; none is needed", vm.adapters),
        String::new(),
    );
    add(
        "machine-gpu",
        !with_gpu || vm.high_mmio >= HIGH_MMIO,
        Fail,
        format!("{} partitions, {} MB of address space above 4 GB", vm.gpus, vm.high_mmio >> 20),
        format!("Set-VM {name} -HighMemoryMappedIoSpace 32GB -LowMemoryMappedIoSpace 1GB"),
    );
}

#[cfg(test)]
mod tests;
