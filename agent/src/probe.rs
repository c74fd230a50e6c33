//! `transom-agent probe --encode`: what encoders this machine has, tried one by one.
//!
//! In: a size and a number of frames. Out: a report for people or as JSON, worth attaching to a
//! bug report. Every candidate is opened in a helper of its own and encodes a moving picture; what
//! comes out is looked over as in the stream. It changes nothing and needs no screen.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use transom_protocol::message::Codec;

use crate::capture::linear::Linear;
use crate::damage::{Damage, Rect};
use crate::encode::vaapi::candidates::{self, Candidate};
use crate::encode::vaapi::{Opened, Progress, Rate, Remote, VaapiError, check};
use crate::picture::Picture;
use crate::pixels::Pixels;
use crate::sys::va;

/// Loading a driver may take this long.
const PATIENCE: Duration = Duration::from_secs(12);
/// Frames from one IDR to the next: as if viewers joined.
const IDRS: u32 = 300;
/// Caches are warm after so many frames: what is held from here on is not to grow.
const WARM: u32 = 1000;

/// What to try.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Columns and rows.
    pub size: (u32, u32),
    /// Frames for each candidate.
    pub frames: u32,
    /// Targets.
    pub rate: Rate,
}

/// What the driver's process holds after so many frames.
#[derive(Debug, Clone, Copy)]
struct Held {
    frames: u32,
    resident_kib: u64,
    files: usize,
}

/// What came of a candidate.
#[derive(Debug)]
struct Tried {
    name: String,
    opened: Option<Opened>,
    announced: Option<check::Announced>,
    /// Of each frame, in microseconds, sorted.
    times: Vec<u64>,
    bytes: usize,
    open_ms: u64,
    /// When warm, and at the end.
    held: Vec<Held>,
    error: Option<VaapiError>,
}

/// The report.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    libva: Result<(), String>,
    kernel: String,
    rejected: Vec<(String, String)>,
    tried: Vec<Tried>,
    /// Render nodes, and libgbm's backend for them or why there is none.
    views: Vec<(String, Result<String, String>)>,
}

/// Tries all candidates; `progress` is told which one is next.
pub fn encode(plan: Plan, progress: impl Fn(&str)) -> Report {
    let libva = va::check().map_err(|error| error.to_string());
    let found = if libva.is_ok() { candidates::find() } else { candidates::Found::default() };
    let tried = found.candidates.iter().flat_map(|candidate| {
        progress(&candidate.name);
        // Where there is no HEVC, that is nothing to complain of.
        let hevc = attempt(candidate, plan, Codec::Hevc);
        let has = |tried: &Tried| tried.opened.as_ref().is_some_and(|o| o.codec == Codec::Hevc);
        [Some(attempt(candidate, plan, Codec::H264)), Some(hevc).filter(has)]
    });
    let tried = tried.flatten();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Report {
        plan,
        libva,
        kernel: kernel.trim().to_owned(),
        tried: tried.collect(),
        rejected: found.rejected,
        views: candidates::nodes().iter().map(|node| view(node)).collect(),
    }
}

/// Whether GBM can make linear views of a GPU's tiled buffers: its driver is loaded, no more.
fn view(node: &Path) -> (String, Result<String, String>) {
    let mut linear = Linear::new(node).patient();
    let loaded = linear.load().map(str::to_owned).map_err(|error| error.to_string());
    (node.display().to_string(), loaded)
}

fn attempt(candidate: &Candidate, plan: Plan, codec: Codec) -> Tried {
    let with = if codec == Codec::Hevc { ", HEVC" } else { "" };
    let mut tried = Tried {
        name: format!("{}{with}", candidate.name),
        opened: None,
        announced: None,
        times: Vec::new(),
        bytes: 0,
        open_ms: 0,
        held: Vec::new(),
        error: None,
    };
    if let Err(error) = stream(candidate, plan, codec, &mut tried) {
        tried.error = Some(error);
    }
    tried.times.sort_unstable();
    tried
}

fn stream(
    candidate: &Candidate,
    plan: Plan,
    codec: Codec,
    tried: &mut Tried,
) -> Result<(), VaapiError> {
    let even = (plan.size.0 & !1, plan.size.1 & !1);
    let begun = Instant::now();
    let mut remote = Remote::start(candidate, even, plan.rate, codec)?;
    if matches!(remote.wait_ready(PATIENCE)?, Progress::Opening) {
        return Err(VaapiError::Late(PATIENCE.as_millis()));
    }
    tried.open_ms = begun.elapsed().as_millis() as u64;
    tried.opened = remote.opened().cloned();
    if remote.codec() != codec {
        return Ok(());
    }
    let mut picture = Picture::new(plan.size);
    let mut pixels = vec![0; plan.size.0 as usize * plan.size.1 as usize * 4];
    for number in 0..plan.frames {
        draw(&mut pixels, plan.size, number);
        let mut damage = Damage::default();
        picture.update(Pixels::bgrx(&pixels, plan.size.0), None, &mut damage);
        let (idr, begun) = (number % IDRS == 0, Instant::now());
        let coded = remote.encode(&picture, damage.rects(), idr, plan.rate)?;
        tried.times.push(begun.elapsed().as_micros() as u64);
        tried.bytes += coded.bytes.len();
        tried.announced = coded.announced.or(tried.announced.take());
        let done = number + 1;
        if done == WARM.min(plan.frames / 2) || done == plan.frames {
            tried.held.extend(remote.pid().and_then(|pid| Held::by(pid, done)));
        }
    }
    Ok(())
}

impl Held {
    /// `None` if the process has just ended.
    fn by(pid: u32, frames: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_kib = resident.split_whitespace().next()?.parse().ok()?;
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        Some(Self { frames, resident_kib, files })
    }
}

/// A square that wanders over a gradient.
fn draw(pixels: &mut [u8], (width, height): (u32, u32), number: u32) {
    let square = Rect {
        x: number * 8 % width,
        y: number * 4 % height,
        width: width / 4 + 1,
        height: height / 4 + 1,
    };
    for (index, pixel) in pixels.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let (x, y) = (index as u32 % width, index as u32 / width);
        let inside = square.meets(Rect { x, y, width: 1, height: 1 });
        let shade = |value: u32| if inside { (255 - value) as u8 } else { value as u8 };
        *pixel = [shade(x * 255 / width), shade(y * 255 / height), shade((x + y) % 64), 255];
    }
}

impl Tried {
    fn percentile(&self, percent: usize) -> u64 {
        self.times.get(self.times.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0)
    }
}

impl Report {
    /// Whether a driver works.
    pub fn works(&self) -> bool {
        self.tried.iter().any(|tried| tried.error.is_none())
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let Plan { size, frames, rate } = self.plan;
        let _ = writeln!(
            out,
            "transom-agent {}, Linux {}, {frames} frames of {}x{} at {} kb/s, {} fps",
            env!("CARGO_PKG_VERSION"),
            self.kernel,
            size.0,
            size.1,
            rate.bitrate / 1000,
            rate.fps
        );
        if let Err(error) = &self.libva {
            let _ = writeln!(out, "libva: not here: {error}");
        }
        for tried in &self.tried {
            let verdict = match &tried.error {
                None => "works".to_owned(),
                Some(error) => format!("FAILS after {} frames: {error}", tried.times.len()),
            };
            let _ = writeln!(out, "{}: {verdict}", tried.name);
            if let Some(opened) = &tried.opened {
                let _ = writeln!(out, "  driver        {}", opened.driver);
                let _ = writeln!(out, "  profile       {}, {}", opened.profile, opened.entrypoint);
                let _ = writeln!(out, "  rate control  {}", opened.rate_control);
                let _ = writeln!(out, "  input         {}", opened.path);
                let conversion = if opened.converts { "yes" } else { "no" };
                let blending = if opened.blends { "yes" } else { "no" };
                let _ = writeln!(out, "  conversion    {conversion}, of cursors {blending}");
                let _ = writeln!(out, "  our headers   {}", opened.packed);
                let refresh = if opened.refreshes { "yes" } else { "no: IDRs" };
                let _ = writeln!(out, "  intra refresh {refresh}");
                let _ = writeln!(out, "  regions       {}", opened.regions);
                let _ = writeln!(out, "  opened in     {} ms", tried.open_ms);
            }
            if let Some(sps) = &tried.announced {
                let _ = writeln!(
                    out,
                    "  announces     {:02x}{:02x}{:02x}, {}x{}, reordering {}",
                    sps.profile_idc,
                    sps.constraints,
                    sps.level,
                    sps.size.0,
                    sps.size.1,
                    sps.reorder.map_or("not told".into(), |frames| frames.to_string())
                );
                let _ = writeln!(out, "  SPS           {}", hex(&sps.sps));
            }
            if !tried.times.is_empty() {
                let [p50, p95] = [50, 95].map(|p| tried.percentile(p) as f64 / 1000.0);
                let _ = writeln!(
                    out,
                    "  a frame       {p50:.1} ms (p95 {p95:.1}), {} bytes",
                    tried.bytes / tried.times.len()
                );
            }
            for held in &tried.held {
                let Held { frames, resident_kib, files } = held;
                let _ = writeln!(
                    out,
                    "  its process   {resident_kib} KiB, {files} open files after {frames} frames"
                );
            }
        }
        for (name, reason) in &self.rejected {
            let _ = writeln!(out, "{name}: not tried: {reason}");
        }
        for (node, loaded) in &self.views {
            let _ = match loaded {
                Ok(backend) => writeln!(out, "{node}: linear views by GBM, backend {backend}"),
                Err(reason) => writeln!(out, "{node}: no linear views by GBM: {reason}"),
            };
        }
        if !self.works() {
            let _ = writeln!(out, "No driver works here: the agent encodes on the CPU.");
        }
        out
    }

    /// For programs: one object.
    pub fn json(&self) -> String {
        let mut out = String::new();
        let Plan { size, frames, rate } = self.plan;
        let _ = write!(
            out,
            "{{\"agent\":{},\"kernel\":{},\"size\":[{},{}],\"frames\":{frames},\"bitrate\":{},\"fps\":{},\"libva\":{},\"candidates\":[",
            string(env!("CARGO_PKG_VERSION")),
            string(&self.kernel),
            size.0,
            size.1,
            rate.bitrate,
            rate.fps,
            self.libva.as_ref().err().map_or("true".into(), |error| string(error)),
        );
        for (index, tried) in self.tried.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let error = tried.error.as_ref().map_or("null".into(), |e| string(&e.to_string()));
            let _ = write!(out, "{comma}{{\"name\":{},\"error\":{error}", string(&tried.name));
            if let Some(opened) = &tried.opened {
                for (name, value) in [
                    ("driver", &opened.driver),
                    ("profile", &opened.profile),
                    ("entrypoint", &opened.entrypoint),
                    ("rate_control", &opened.rate_control),
                    ("input", &opened.path),
                    ("headers", &opened.packed),
                ] {
                    let _ = write!(out, ",\"{name}\":{}", string(value));
                }
                let _ = write!(
                    out,
                    ",\"conversion\":{},\"blending\":{},\"refresh\":{},\"regions\":{},\"open_ms\":{}",
                    opened.converts, opened.blends, opened.refreshes, opened.regions, tried.open_ms
                );
            }
            if let Some(sps) = &tried.announced {
                let _ = write!(out, ",\"sps\":{}", string(&hex(&sps.sps)));
            }
            let _ = write!(
                out,
                ",\"frame_us\":{{\"p50\":{},\"p95\":{}}},\"bytes\":{},\"process\":[",
                tried.percentile(50),
                tried.percentile(95),
                tried.bytes
            );
            for (index, Held { frames, resident_kib, files }) in tried.held.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                let _ = write!(
                    out,
                    "{comma}{{\"frames\":{frames},\"resident_kib\":{resident_kib},\"files\":{files}}}"
                );
            }
            out.push_str("]}");
        }
        out.push_str("],\"rejected\":[");
        for (index, (name, reason)) in self.rejected.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let _ =
                write!(out, "{comma}{{\"name\":{},\"reason\":{}}}", string(name), string(reason));
        }
        out.push_str("],\"views\":[");
        for (index, (node, loaded)) in self.views.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let (name, told) = match loaded {
                Ok(backend) => ("backend", backend),
                Err(reason) => ("error", reason),
            };
            let _ = write!(out, "{comma}{{\"node\":{},\"{name}\":{}}}", string(node), string(told));
        }
        out.push_str("]}");
        out
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A JSON string (RFC 8259, 7).
fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn strings_of_drivers_do_not_break_the_json() {
        assert_eq!(
            super::string("a \"driver\"\\\n\u{1}é"),
            "\"a \\\"driver\\\"\\\\\\u000a\\u0001é\""
        );
    }
}
