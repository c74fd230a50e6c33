//! H.264 streams of a known bitrate, made once by ffmpeg and kept in `target/bench`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use transom_relay::h264::{nal, nal_units};
use transom_tests::release_dir;

/// Seconds of a recording; it is played in a loop.
const LENGTH: u32 = 4;
/// Times that it stands in the file for peers which play no loop.
const REPEATS: usize = 8;

/// What to record. Noise, so that the encoder needs the bits that it is given.
#[derive(Clone, Copy)]
pub struct Recording {
    /// In tables.
    pub name: &'static str,
    size: &'static str,
    /// Bits per second.
    pub bitrate: u32,
    /// Pictures per second.
    pub rate: u32,
}

/// A desktop with some life in it.
pub const SLOW: Recording =
    Recording { name: "600 kb/s", size: "1280x720", bitrate: 600_000, rate: 30 };
/// A game.
pub const GAME: Recording =
    Recording { name: "8 Mb/s", size: "1920x1080", bitrate: 8_000_000, rate: 60 };
/// As much as anybody sends of a screen.
pub const RICH: Recording =
    Recording { name: "50 Mb/s", size: "1920x1080", bitrate: 50_000_000, rate: 60 };

/// An access unit.
pub struct Unit {
    /// Whether one can begin here.
    pub idr: bool,
    /// In Annex B form.
    pub bytes: Vec<u8>,
}

impl Recording {
    /// The file that plays it [`REPEATS`] times.
    pub fn long_file(&self) -> Result<PathBuf> {
        let short = self.file()?;
        let long = short.with_extension("long.h264");
        if !long.exists() {
            // Each begins with an IDR, and none has two of them in a row.
            let bytes = std::fs::read(&short)?.repeat(REPEATS);
            std::fs::write(&long, bytes)?;
        }
        Ok(long)
    }

    /// Its access units.
    pub fn units(&self) -> Result<Arc<Vec<Unit>>> {
        Ok(Arc::new(units(&std::fs::read(self.file()?)?)))
    }

    fn file(&self) -> Result<PathBuf> {
        let folder = release_dir().parent().context("the target folder")?.join("bench");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}-{}.h264", self.bitrate, self.rate));
        if path.exists() {
            return Ok(path);
        }
        let half_made = path.with_extension("part");
        let Self { size, bitrate, rate, .. } = *self;
        let noise = if bitrate < 1_000_000 { 0 } else { 40 };
        let input = format!("testsrc2=size={size}:rate={rate},noise=alls={noise}:allf=t");
        let (limit, buffer) = (bitrate.to_string(), (bitrate / rate * 2).to_string());
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", &input]);
        command.args(["-t", &LENGTH.to_string(), "-pix_fmt", "yuv420p", "-c:v", "libx264"]);
        command.args(["-preset", "ultrafast", "-tune", "zerolatency", "-b:v", &limit]);
        command.args(["-maxrate", &limit, "-bufsize", &buffer, "-profile:v", "baseline"]);
        let keyframes = format!("keyint={}:scenecut=0", rate * 2);
        command.args(["-x264-params", &keyframes, "-f", "h264"]).arg(&half_made);
        let status = command.stdin(Stdio::null()).status().context("cannot run ffmpeg")?;
        ensure!(status.success(), "ffmpeg made no {}", path.display());
        std::fs::rename(&half_made, &path)?;
        Ok(path)
    }
}

/// Cuts a stream where a slice with the first macroblock begins, parameter sets before it.
fn units(stream: &[u8]) -> Vec<Unit> {
    let (mut units, mut has_slice) = (Vec::<Unit>::new(), true);
    for unit in nal_units(stream) {
        let slice = (1..=5).contains(&nal::kind(unit));
        let begins = !slice || unit.get(1).is_some_and(|byte| byte & 0x80 != 0);
        if begins && has_slice {
            units.push(Unit { idr: false, bytes: Vec::new() });
            has_slice = false;
        }
        let Some(last) = units.last_mut() else { continue };
        last.idr |= nal::kind(unit) == nal::IDR;
        has_slice |= slice;
        last.bytes.extend_from_slice(&[0, 0, 0, 1]);
        last.bytes.extend_from_slice(unit);
    }
    units
}

#[cfg(test)]
mod tests {
    #[test]
    fn units_begin_with_parameter_sets_and_keep_their_slices_together() {
        let stream = [
            0, 0, 1, 0x67, 9, 0, 0, 1, 0x68, 9, 0, 0, 1, 0x65, 0x80, 0, 0, 1, 0x65, 0x10, 0, 0, 1,
            0x41, 0x80,
        ];
        let units = super::units(&stream);
        let told: Vec<_> = units.iter().map(|unit| (unit.idr, unit.bytes.len())).collect();
        assert_eq!(told, [(true, 24), (false, 6)]);
    }
}
