//! A machine as Hyper-V takes it: PowerShell, made here and run as a script (or printed, with
//! `--dry-run`). `image/New-TransomVM.ps1` does the same for those who prefer a script.
//!
//! What enters: a definition. What leaves: the text of a script, which may run again and again: it
//! makes what is missing and sets what differs. The cmdlets are those of the Hyper-V module of
//! Windows 10, Windows Server 2019 and newer.

use super::{Definition, Name, quote::powershell as quote};

/// First lines of each script: whatever fails ends it, with an exit status of 1 and the reason on
/// stderr. What is known to go wrong is put in words that say what to do.
const HEAD: &str = r#"$ErrorActionPreference = 'Stop'
try { [Console]::OutputEncoding = [Text.Encoding]::UTF8 } catch { } # without a console there is none
trap { [Console]::Error.WriteLine($_.Exception.Message); exit 1 }
if (-not (Get-Module -ListAvailable -Name Hyper-V)) {
    throw 'Hyper-V is not installed. In an elevated PowerShell: Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V-All, then restart Windows'
}
$me = New-Object Security.Principal.WindowsPrincipal([Security.Principal.WindowsIdentity]::GetCurrent())
$administrators = New-Object Security.Principal.SecurityIdentifier('S-1-5-32-544')
$hypervadministrators = New-Object Security.Principal.SecurityIdentifier('S-1-5-32-578')
if (-not ($me.IsInRole($administrators) -or $me.IsInRole($hypervadministrators))) {
    throw 'Hyper-V takes orders from administrators alone. Run this in an elevated terminal, or join the group once: net localgroup "Hyper-V Administrators" $env:USERNAME /add, then sign in again'
}
"#;

/// How long a guest may take to shut down, in seconds, before it is switched off.
const PATIENCE: u32 = 30;

/// The script that makes the machine, or makes it what it should be.
pub fn create(vm: &Definition) -> String {
    let Definition { name, vhdx, resolution, cpus, memory, gpu, secure_boot } = vm;
    let mut script = String::from(HEAD);
    let mut add = |line: &str| {
        script.push_str(line);
        script.push('\n');
    };
    add(&format!("$name = {}", quote(name.as_str())));
    add(&format!("$image = {}", quote(&vhdx.to_string_lossy())));
    add(
        "if (-not (Test-Path -LiteralPath $image -PathType Leaf)) { throw \"There is no $image\" }",
    );
    add("$image = (Resolve-Path -LiteralPath $image).ProviderPath");
    add(&find());
    add(
        "if (@($vm).Count -gt 1) { throw \"There are several VMs named $name. Rename one, or name another\" }",
    );
    add("# A disk of its own: Hyper-V locks the file of a running machine.");
    add("$folder = Join-Path (Get-VMHost).VirtualHardDiskPath 'Transom'");
    add("$disk = Join-Path $folder ($name + '.vhdx')");
    add("if (-not $vm) {");
    add("    $null = New-Item -ItemType Directory -Force -Path $folder");
    add("    Copy-Item -LiteralPath $image -Destination $disk");
    add(&format!(
        "    $vm = New-VM -Name $name -Generation 2 -MemoryStartupBytes {}MB -VHDPath $disk -BootDevice VHD",
        memory.0
    ));
    add("    # New-VM adds one unasked; the guest needs no network.");
    add("    Get-VMNetworkAdapter -VM $vm | Remove-VMNetworkAdapter");
    add("} elseif ($vm.State -ne 'Off') {");
    add("    throw \"$name is running: stop it first (transom vm stop)\"");
    add("}");
    add("# Checkpoints would copy the disk aside at every start.");
    add(
        "Set-VM -VM $vm -CheckpointType Disabled -AutomaticCheckpointsEnabled $false -AutomaticStartAction Nothing -AutomaticStopAction ShutDown",
    );
    add(&format!("Set-VMMemory -VM $vm -DynamicMemoryEnabled $false -StartupBytes {}MB", memory.0));
    add(&format!("Set-VMProcessor -VM $vm -Count {cpus}"));
    if *secure_boot && !*gpu {
        add("# Debian's boot loader bears Microsoft's signature for others' systems.");
        add(
            "Set-VMFirmware -VM $vm -EnableSecureBoot On -SecureBootTemplate MicrosoftUEFICertificateAuthority",
        );
    } else {
        if *gpu {
            add(
                "# The kernel module for a part of the GPU (dxgkrnl) bears no signature that firmware knows.",
            );
        }
        add("Set-VMFirmware -VM $vm -EnableSecureBoot Off");
    }
    add(&format!(
        "Set-VMVideo -VM $vm -ResolutionType Single -HorizontalResolution {} -VerticalResolution {}",
        resolution.width, resolution.height
    ));
    if *gpu {
        add("if (-not (Get-VMGpuPartitionAdapter -VM $vm)) { Add-VMGpuPartitionAdapter -VM $vm }");
        add("# Whole shares of what the host's driver offers; it takes less where there is less.");
        for share in ["VRAM", "Encode", "Decode", "Compute"] {
            add(&format!(
                "Set-VMGpuPartitionAdapter -VM $vm -MinPartition{share} 80000000 -MaxPartition{share} 100000000 -OptimalPartition{share} 100000000"
            ));
        }
        add(
            "# Its memory is mapped into the guest, beyond what a machine has room for by default.",
        );
        add(
            "Set-VM -VM $vm -GuestControlledCacheTypes $true -LowMemoryMappedIoSpace 1GB -HighMemoryMappedIoSpace 32GB",
        );
    } else {
        add("Get-VMGpuPartitionAdapter -VM $vm | Remove-VMGpuPartitionAdapter");
    }
    add("'hyperv:' + $vm.Id");
    script
}

/// The script that starts it.
pub fn start(name: &Name) -> String {
    one(name, "if ($vm.State -ne 'Running') { Start-VM -VM $vm }\n'hyperv:' + $vm.Id\n")
}

/// The script that stops it: by asking the guest, and by force if it does not obey or `now`.
pub fn stop(name: &Name, now: bool) -> String {
    let force = "if ($vm.State -ne 'Off') { Stop-VM -VM $vm -TurnOff }\n";
    let ask = format!(
        "if ($vm.State -eq 'Running') {{
    try {{ Stop-VM -VM $vm -Force }} catch {{ }}
    $until = (Get-Date).AddSeconds({PATIENCE})
    while ((Get-VM -Id $vm.Id).State -ne 'Off' -and (Get-Date) -lt $until) {{ Start-Sleep -Milliseconds 200 }}
}}
$vm = Get-VM -Id $vm.Id
"
    );
    one(name, &format!("{}{force}", if now { "" } else { &ask }))
}

/// The script that deletes it, and the copy of the image that was made for it.
pub fn delete(name: &Name) -> String {
    one(
        name,
        "if ($vm.State -ne 'Off') { throw \"$name is running: stop it first (transom vm stop)\" }
$disks = @(Get-VMHardDiskDrive -VM $vm | ForEach-Object { $_.Path })
$folder = Join-Path (Get-VMHost).VirtualHardDiskPath 'Transom'
Remove-VM -VM $vm -Force
# No disk is deleted but what create has made.
$disks | Where-Object { $_ -and (Split-Path -Parent $_) -eq $folder } | Remove-Item -Force
",
    )
}

/// The script that lists machines: one line each, id, state and name, apart by tabs.
pub fn list() -> String {
    format!("{HEAD}Get-VM | ForEach-Object {{ \"$($_.Id)`t$($_.State)`t$($_.Name)\" }}\n")
}

fn find() -> String {
    // A name's wildcards would be expanded by -Name.
    "$vm = Get-VM | Where-Object { $_.Name -eq $name }".into()
}

fn one(name: &Name, action: &str) -> String {
    format!(
        "{HEAD}$name = {}\n{}\n\
         if (-not $vm) {{ throw \"There is no VM named $name. Get-VM lists those that are there\" }}\n\
         if (@($vm).Count -gt 1) {{ throw \"There are several VMs named $name. Rename one\" }}\n{action}",
        quote(name.as_str()),
        find()
    )
}

/// One machine, as [`list`] prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its GUID.
    pub id: String,
    /// `Running`, `Off` and so on; in English on every Windows.
    pub state: String,
    /// Its name, in any language.
    pub name: String,
}

/// Reads what [`list`] printed. Lines of another shape are skipped.
pub fn parse_list(output: &str) -> Vec<Listed> {
    output
        .lines()
        .filter_map(|line| {
            let mut parts =
                line.trim_start_matches('\u{feff}').trim_end_matches('\r').splitn(3, '\t');
            let (id, state, name) = (parts.next()?, parts.next()?, parts.next()?);
            is_guid(id).then(|| Listed { id: id.into(), state: state.into(), name: name.into() })
        })
        .collect()
}

fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests;
