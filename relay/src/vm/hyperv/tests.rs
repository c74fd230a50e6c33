use super::*;
use crate::vm::{host, qemu::tests::definition};

#[test]
fn the_plan_is_pinned() {
    let vm = Definition { name: "Büro".parse().expect("a name"), ..definition() };
    let script = create(&vm);
    let body = script.strip_prefix(HEAD).expect("each script begins alike");
    assert_eq!(
        body,
        r#"$name = 'Büro'
$image = '/images/a,b/transom.vhdx'
if (-not (Test-Path -LiteralPath $image -PathType Leaf)) { throw "There is no $image" }
$image = (Resolve-Path -LiteralPath $image).ProviderPath
$vm = Get-VM | Where-Object { $_.Name -eq $name }
if (@($vm).Count -gt 1) { throw "There are several VMs named $name. Rename one, or name another" }
# A disk of its own: Hyper-V locks the file of a running machine.
$folder = Join-Path (Get-VMHost).VirtualHardDiskPath 'Transom'
$disk = Join-Path $folder ($name + '.vhdx')
if (-not $vm) {
    $null = New-Item -ItemType Directory -Force -Path $folder
    Copy-Item -LiteralPath $image -Destination $disk
    $vm = New-VM -Name $name -Generation 2 -MemoryStartupBytes 2048MB -VHDPath $disk -BootDevice VHD
    # New-VM adds one unasked; the guest needs no network.
    Get-VMNetworkAdapter -VM $vm | Remove-VMNetworkAdapter
} elseif ($vm.State -ne 'Off') {
    throw "$name is running: stop it first (transom vm stop)"
}
# Checkpoints would copy the disk aside at every start.
Set-VM -VM $vm -CheckpointType Disabled -AutomaticCheckpointsEnabled $false -AutomaticStartAction Nothing -AutomaticStopAction ShutDown
Set-VMMemory -VM $vm -DynamicMemoryEnabled $false -StartupBytes 2048MB
Set-VMProcessor -VM $vm -Count 4
# Debian's boot loader bears Microsoft's signature for others' systems.
Set-VMFirmware -VM $vm -EnableSecureBoot On -SecureBootTemplate MicrosoftUEFICertificateAuthority
Set-VMVideo -VM $vm -ResolutionType Single -HorizontalResolution 1920 -VerticalResolution 1080
Get-VMGpuPartitionAdapter -VM $vm | Remove-VMGpuPartitionAdapter
'hyperv:' + $vm.Id
"#
    );
}

#[test]
fn a_gpu_brings_its_settings_and_no_secure_boot() {
    let script = create(&Definition { gpu: true, ..definition() });
    for part in [
        "Add-VMGpuPartitionAdapter -VM $vm }",
        "-OptimalPartitionEncode 100000000",
        "-GuestControlledCacheTypes $true -LowMemoryMappedIoSpace 1GB -HighMemoryMappedIoSpace 32GB",
        "Set-VMFirmware -VM $vm -EnableSecureBoot Off",
    ] {
        assert!(script.contains(part), "{part}");
    }
    assert!(!script.contains("Remove-VMGpuPartitionAdapter"));
}

/// No PowerShell is at hand where this is built: a grammar of it is, and it finds no error.
#[test]
fn every_script_is_powershell() {
    let vm = definition();
    let gpu = Definition { gpu: true, ..vm.clone() };
    let file = include_str!("../../../../image/New-TransomVM.ps1");
    let scripts = [
        create(&vm),
        create(&gpu),
        start(&vm.name),
        stop(&vm.name, false),
        stop(&vm.name, true),
        delete(&vm.name),
        list(),
        host::windows::script(None),
        host::windows::script(Some(&vm.name)),
        file.into(),
    ];
    let mut parser = tree_sitter::Parser::new();
    parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).expect("versions fit");
    for script in scripts {
        let tree = parser.parse(&script, None).expect("no timeout was set");
        let wrong = first_error(tree.root_node());
        let lines =
            wrong.map(|node| (node.start_position().row + 1, node.utf8_text(script.as_bytes())));
        assert_eq!(lines, None, "{script}");
    }
    let broken = parser.parse("if ($x { 'y' }", None).expect("no timeout was set");
    assert!(broken.root_node().has_error(), "the grammar finds errors");
}

fn first_error(node: tree_sitter::Node<'_>) -> Option<tree_sitter::Node<'_>> {
    if node.is_error() || node.is_missing() {
        return Some(node);
    }
    let mut cursor = node.walk();
    node.children(&mut cursor).find_map(first_error)
}

/// The readable script and the generated one do the same: they call the same cmdlets.
#[test]
fn the_script_for_people_calls_the_same_cmdlets() {
    let file = include_str!("../../../../image/New-TransomVM.ps1");
    let (vm, gpu) = (definition(), Definition { gpu: true, ..definition() });
    let generated = create(&vm) + &create(&gpu);
    let cmdlets = |script: &str| -> std::collections::BTreeSet<String> {
        script
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-'))
            .filter(|word| word.contains("-VM") && !word.starts_with('-') && word.contains('-'))
            .map(String::from)
            .collect()
    };
    assert_eq!(cmdlets(file), cmdlets(&generated));
}

#[test]
fn lists_are_read_in_any_language() {
    let output = "\u{feff}0f3c2a64-92a1-4a8b-8d5b-7a1d2f3e4c5b\tRunning\tBüro 2\r\n\
                  WARNING: something\r\n\
                  0f3c2a64-92a1-4a8b-8d5b-7a1d2f3e4c5c\tOff\tゲーム\ttab\r\n";
    let listed = parse_list(output);
    let brief: Vec<_> = listed.iter().map(|vm| (vm.state.as_str(), vm.name.as_str())).collect();
    assert_eq!(brief, [("Running", "Büro 2"), ("Off", "ゲーム\ttab")]);
    assert_eq!(listed[0].id, "0f3c2a64-92a1-4a8b-8d5b-7a1d2f3e4c5b");
}
