<#
.SYNOPSIS
Makes a Hyper-V machine that boots Transom's image, or makes an existing one what it should be.

.DESCRIPTION
The same as `transom vm create`. Runs in Windows PowerShell 5.1 and PowerShell 7, elevated or as a
member of Hyper-V Administrators. The machine has no network adapter: its screen leaves by vsock.

.EXAMPLE
.\New-TransomVM.ps1 -Name doom -Image .\transom.vhdx
.EXAMPLE
.\New-TransomVM.ps1 -Name doom -Image .\transom.vhdx -Width 2560 -Height 1440 -Cpus 4 -MemoryMB 4096 -Gpu
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)] [string] $Name,
    [Parameter(Mandatory)] [string] $Image,
    [int] $Width = 1920,
    [int] $Height = 1080,
    [int] $Cpus = 2,
    [int] $MemoryMB = 2048,
    [switch] $Gpu,
    [switch] $NoSecureBoot
)
$ErrorActionPreference = 'Stop'

$Image = (Resolve-Path -LiteralPath $Image).ProviderPath
$bytes = [int64] $MemoryMB * 1048576
$vm = Get-VM | Where-Object { $_.Name -eq $Name }
if (@($vm).Count -gt 1) { throw "There are several VMs named $Name. Rename one, or name another" }

# A disk of its own: Hyper-V locks the file of a running machine.
$folder = Join-Path (Get-VMHost).VirtualHardDiskPath 'Transom'
$disk = Join-Path $folder ($Name + '.vhdx')
if (-not $vm) {
    $null = New-Item -ItemType Directory -Force -Path $folder
    Copy-Item -LiteralPath $Image -Destination $disk
    $vm = New-VM -Name $Name -Generation 2 -MemoryStartupBytes $bytes -VHDPath $disk -BootDevice VHD
    # New-VM adds one unasked; the guest needs no network.
    Get-VMNetworkAdapter -VM $vm | Remove-VMNetworkAdapter
} elseif ($vm.State -ne 'Off') {
    throw "$Name is running: stop it first"
}

# Checkpoints would copy the disk aside at every start.
Set-VM -VM $vm -CheckpointType Disabled -AutomaticCheckpointsEnabled $false -AutomaticStartAction Nothing -AutomaticStopAction ShutDown
Set-VMMemory -VM $vm -DynamicMemoryEnabled $false -StartupBytes $bytes
Set-VMProcessor -VM $vm -Count $Cpus

# Debian's boot loader bears Microsoft's signature for others' systems. The kernel module for a
# part of the GPU (dxgkrnl) bears none that firmware knows.
if ($Gpu -or $NoSecureBoot) {
    Set-VMFirmware -VM $vm -EnableSecureBoot Off
} else {
    Set-VMFirmware -VM $vm -EnableSecureBoot On -SecureBootTemplate MicrosoftUEFICertificateAuthority
}
Set-VMVideo -VM $vm -ResolutionType Single -HorizontalResolution $Width -VerticalResolution $Height

if ($Gpu) {
    if (-not (Get-VMGpuPartitionAdapter -VM $vm)) { Add-VMGpuPartitionAdapter -VM $vm }
    # Whole shares of what the host's driver offers; it takes less where there is less.
    Set-VMGpuPartitionAdapter -VM $vm -MinPartitionVRAM 80000000 -MaxPartitionVRAM 100000000 -OptimalPartitionVRAM 100000000
    Set-VMGpuPartitionAdapter -VM $vm -MinPartitionEncode 80000000 -MaxPartitionEncode 100000000 -OptimalPartitionEncode 100000000
    Set-VMGpuPartitionAdapter -VM $vm -MinPartitionDecode 80000000 -MaxPartitionDecode 100000000 -OptimalPartitionDecode 100000000
    Set-VMGpuPartitionAdapter -VM $vm -MinPartitionCompute 80000000 -MaxPartitionCompute 100000000 -OptimalPartitionCompute 100000000
    # Its memory is mapped into the guest, beyond what a machine has room for by default.
    Set-VM -VM $vm -GuestControlledCacheTypes $true -LowMemoryMappedIoSpace 1GB -HighMemoryMappedIoSpace 32GB
} else {
    Get-VMGpuPartitionAdapter -VM $vm | Remove-VMGpuPartitionAdapter
}
Write-Output "Start it with: transom vm start '$Name'. Then: transom relay hyperv:$($vm.Id)"
