//! Raw pictures that move and have noise: what nobody converts or codes for nothing. ffmpeg makes them
//! once.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use transom_tests::release_dir;

/// The folder of so many pictures, BGRX, in files `0.raw` and so on and all of them in `all.raw`.
/// `noise` is its strength, of 100.
///
/// # Errors
///
/// ffmpeg is missing, or the disk is full.
pub fn folder(name: &str, size: (usize, usize), count: usize, noise: u32) -> Result<PathBuf> {
    let (width, height) = size;
    let folder = release_dir().parent().context("the target folder")?.join("bench").join(name);
    // The last file that is written.
    if folder.join("all.raw").exists() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&folder)?;
    let input = format!("testsrc2=size={width}x{height}:rate=60,noise=alls={noise}:allf=t");
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", &input]);
    command.args(["-frames:v", &count.to_string(), "-pix_fmt", "bgr0", "-f", "rawvideo", "-"]);
    let made = command.stdin(Stdio::null()).output().context("cannot run ffmpeg")?;
    let bytes = width * height * 4;
    ensure!(made.stdout.len() == count * bytes, "ffmpeg made {} bytes", made.stdout.len());
    for (i, picture) in made.stdout.chunks(bytes).enumerate() {
        std::fs::write(folder.join(format!("{i}.raw")), picture)?;
    }
    std::fs::write(folder.join("all.raw"), &made.stdout)?;
    Ok(folder)
}
