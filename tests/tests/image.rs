//! The image's file, by programs that had no part in making it: what Hyper-V will read of it.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use transom_tests::{machine_test, project_dir};

const LIMIT: Duration = Duration::from_secs(120);
/// Where the boot partition lies: the first, after one MiB.
const MIB: u64 = 1 << 20;
/// The two headers of a VHDX ([MS-VHDX] 2.2.2); the newer one counts.
const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
/// Of the minimal flavour.
const MAX_SIZE: u64 = 160 * MIB;

/// Reads all of a disk through libvhdi, and prints its size and its hash.
const READER: &str = "\
import hashlib, sys, pyvhdi
disk = pyvhdi.file()
disk.open(sys.argv[1])
size, hash = disk.get_media_size(), hashlib.sha256()
for at in range(0, size, 1 << 20):
    hash.update(disk.read_buffer_at_offset(min(1 << 20, size - at), at))
print(size, hash.hexdigest(), disk.get_disk_type())
";

fn dist(name: &str) -> Result<PathBuf> {
    let path = project_dir().join("dist").join(name);
    ensure!(path.exists(), "no {}: run `make image`", path.display());
    Ok(path)
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .output()
        .with_context(|| format!("cannot run {program}: tools/setup test"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{program}: {:?}: {out}{err}", output.status);
    Ok(out)
}

#[test]
fn others_read_the_vhdx_as_what_it_was_made_from() {
    machine_test("others read the vhdx as what it was made from", LIMIT, |_| {
        let (vhdx, raw) = (dist("transom.vhdx")?, dist("transom.raw")?);
        let (vhdx, raw) = (vhdx.display().to_string(), raw.display().to_string());
        let checked = said("qemu-img", &["check", "-f", "vhdx", &vhdx])?;
        ensure!(checked.contains("No errors were found"), "{checked}");

        let read = said("/usr/bin/python3", &["-c", READER, &vhdx])?;
        let hash = said("sha256sum", &[&raw])?;
        let hash = hash.split_whitespace().next().context("no hash")?;
        let size = std::fs::metadata(&raw)?.len();
        ensure!(
            read.starts_with(&format!("{size} {hash} ")),
            "libvhdi reads {read}, not {size} {hash}"
        );
        ensure!(size % MIB == 0, "Hyper-V wants whole MiB, not {size} bytes");
        let length = std::fs::metadata(&vhdx)?.len();
        ensure!(length <= MAX_SIZE, "the VHDX has {length} bytes");

        // Closed in order: an identifier of a log in a header would ask for its replay.
        let mut file = std::fs::File::open(&vhdx)?;
        let mut newest = (0, [0; 16]);
        for at in HEADERS {
            let mut header = [0; 80];
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut header)?;
            ensure!(&header[..4] == b"head", "no header at {at}");
            let number = u64::from_le_bytes(header[8..16].try_into()?);
            newest = newest.max((number, header[48..64].try_into()?));
        }
        ensure!(newest.1 == [0; 16], "the VHDX was not closed in order: its log is in use");
        Ok(())
    });
}

#[test]
fn its_partitions_are_what_generation_2_boots() {
    machine_test("its partitions are what generation 2 boots", LIMIT, |test| {
        let raw = dist("transom.raw")?.display().to_string();
        let checked = said("sgdisk", &["--verify", &raw])?;
        ensure!(checked.contains("No problems found"), "{checked}");
        let table = said("sgdisk", &["--info=1", &raw])?;
        ensure!(table.contains("C12A7328-F81F-11D2-BA4B-00A0C93EC93B"), "no ESP first: {table}");
        ensure!(table.contains("First sector: 2048 "), "{table}");
        let sectors = table.lines().find_map(|line| line.strip_prefix("Partition size: "));
        let sectors = sectors.and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        let length = sectors.context("sgdisk tells no size")? * 512;
        let esp = test.dir().join("esp");
        let mut disk = std::fs::File::open(&raw)?;
        disk.seek(SeekFrom::Start(MIB))?;
        std::io::copy(&mut disk.take(length), &mut std::fs::File::create(&esp)?)?;
        said("fsck.fat", &["-n", &esp.display().to_string()])?;
        // The names by which firmware without entries of its own, and the signed GRUB, look.
        for file in ["::EFI/BOOT/BOOTX64.EFI", "::EFI/BOOT/grubx64.efi", "::EFI/debian/grub.cfg"] {
            said("mdir", &["-i", &esp.display().to_string(), file])?;
        }
        Ok(())
    });
}
