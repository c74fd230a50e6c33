//! A viewer on the host, as users have one: ffmpeg or GStreamer reading the relay's SDP, or playing
//! its RTSP; VLC or ffmpeg playing its stream over HTTP.
//!
//! In: an SDP file or an address. Out: decoded frames with the time of their arrival, how many there
//! were, and every line in which the viewer complained.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::picture::Picture;
use crate::process::Process;
use crate::run::Test;
use crate::transcript::Transcript;

/// A relay writes its SDP as soon as it knows the stream, which takes a booted guest.
const SDP_DEADLINE: Duration = Duration::from_secs(30);

/// No test is longer; the reader ends with its viewer.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// What stands in the line about a frame.
const SHOWINFO: &str = "[info] n:";
const CHAIN: &str = "last-message = chain";
/// What stands in the line about a fault.
const FFMPEG_SIGNS: &[&str] = &["[error]", "[fatal]", "[panic]"];
const GSTREAMER_SIGNS: &[&str] = &[" WARN ", " ERROR ", "ERROR:", "WARNING:"];
const VLC_SIGNS: &[&str] = &[" error: ", "Backtrace"];
/// What VLC says of a machine without a desktop, a sound card and a remote control,
/// and of a moment in which that machine was busy elsewhere.
const VLC_ALONE: &[&str] =
    &[" interface error: ", " libvlc error: ", " audio output error: ", "(pts_delay increased to "];

/// A running viewer; dropped means killed.
pub struct Viewer {
    process: Process,
    kind: Kind,
    dir: PathBuf,
    frames: Arc<(Mutex<Frames>, Condvar)>,
}

enum Kind {
    Ffmpeg,
    Gstreamer(Transcript),
    /// ffmpeg reads what VLC shows.
    Vlc(Process, #[allow(dead_code, reason = "it is there to be dropped")] Kept),
}

/// What has to be there while VLC runs.
struct Kept {
    _pipe: File,
    _home: Home,
}

/// A folder for a user who owns nothing here; dropped means removed.
struct Home(PathBuf);

impl Home {
    fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("transom-vlc-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let home = Self(path);
        std::fs::set_permissions(&home.0, Permissions::from_mode(0o777))?;
        Ok(home)
    }
}

impl Home {
    fn pipe(&self) -> PathBuf {
        self.0.join("pictures")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Default)]
struct Frames {
    count: u64,
    latest: Option<(Picture, Instant)>,
    arrivals: Vec<Instant>,
    ended: bool,
}

impl Viewer {
    /// ffmpeg, decoding to pictures.
    pub fn ffmpeg(test: &Test, sdp: &Path) -> Result<Self> {
        wait_for_sdp(sdp)?;
        let options = ["-protocol_whitelist", "file,udp,rtp", "-reorder_queue_size", "0"];
        Self::start_ffmpeg(test, "ffmpeg", &options.map(OsStr::new), sdp.as_os_str())
    }

    /// ffmpeg on an RTSP address, over `udp` or `tcp`.
    pub fn ffmpeg_rtsp(test: &Test, url: &str, transport: &str) -> Result<Self> {
        let options = ["-rtsp_transport", transport, "-reorder_queue_size", "0"].map(OsStr::new);
        Self::start_ffmpeg(test, &format!("ffmpeg-{transport}"), &options, OsStr::new(url))
    }

    /// ffmpeg on a stream over HTTP.
    pub fn ffmpeg_http(test: &Test, url: &str) -> Result<Self> {
        Self::start_ffmpeg(test, "ffmpeg-http", &[], OsStr::new(url))
    }

    /// VLC on an address of a stream of this size. It shows its pictures to a pipe, on whose other
    /// end ffmpeg makes of them what other viewers show.
    pub fn vlc(test: &Test, url: &str, (width, height): (usize, usize)) -> Result<Self> {
        let home = Home::new()?;
        let pipe = home.pipe();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::empty())?;
        std::fs::set_permissions(&pipe, Permissions::from_mode(0o666))?;
        let mut command = if nix::unistd::geteuid().is_root() {
            // It refuses to run as root; and who becomes another loses its deadline by a parent's
            // death.
            let mut command = Process::command("setpriv");
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
            command.args(["--pdeathsig", "KILL", "--", "vlc"]);
            command
        } else {
            Process::command("vlc")
        };
        command
            .args(["--intf=dummy", "--no-dbus", "--no-audio", "--no-color", "--verbose=1"])
            .args(["--vout=yuv", "--yuv-chroma=I420"])
            .arg(format!("--yuv-file={}", pipe.display()))
            .arg(url)
            .env("HOME", &home.0)
            .env_remove("DISPLAY")
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let vlc = Process::spawn(test, "vlc", &mut command)?;
        let size = format!("{width}x{height}");
        let options = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", &size];
        // Which VLC knows, and does not pass on.
        let colours = ["-colorspace", "bt709", "-color_range", "tv"];
        let options: Vec<_> = options.into_iter().chain(colours).map(OsStr::new).collect();
        let stdin = OsStr::new("pipe:0");
        let mut viewer = Self::start_ffmpeg_on(test, "vlc-pictures", &options, stdin)?;
        let ffmpeg = viewer.process.child().stdin.take().context("stdin was piped")?;
        // VLC opens it more than once while it looks for a way to show: it must not end meanwhile.
        let open = File::options().read(true).write(true).open(&pipe)?;
        let pictures = File::open(&pipe)?;
        std::thread::spawn(move || pass_on(pictures, ffmpeg, width * height * 3 / 2));
        viewer.kind = Kind::Vlc(vlc, Kept { _pipe: open, _home: home });
        Ok(viewer)
    }

    fn start_ffmpeg(test: &Test, name: &str, options: &[&OsStr], input: &OsStr) -> Result<Self> {
        let mut viewer = Self::start_ffmpeg_on(test, name, options, input)?;
        drop(viewer.process.child().stdin.take());
        Ok(viewer)
    }

    /// The same with something to write its standard input to.
    fn start_ffmpeg_on(test: &Test, name: &str, options: &[&OsStr], input: &OsStr) -> Result<Self> {
        let mut command = Process::command("ffmpeg");
        command
            .args(["-nostdin", "-nostats", "-hide_banner", "-loglevel", "repeat+level+info"])
            .args(options)
            .args(["-fflags", "nobuffer", "-flags", "low_delay"])
            // Or ffmpeg guesses at the frame rate for seconds before it shows anything.
            .args(["-probesize", "32", "-analyzeduration", "0", "-i"])
            .arg(input)
            // A change of size must come out as one, not be scaled away; showinfo tells it.
            .args(["-autoscale", "0", "-fps_mode", "passthrough"])
            .args(["-vf", "showinfo=checksum=0,format=rgb24"])
            .args(["-sws_flags", "bicubic+accurate_rnd+full_chroma_int"])
            .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::spawn(test, name, &mut command)?;
        let stdout = process.child().stdout.take().context("stdout was piped")?;
        let frames: Arc<(Mutex<Frames>, Condvar)> = Arc::default();
        let (info, shared) = (process.stderr().clone(), frames.clone());
        std::thread::spawn(move || {
            // The end of the stream is how the reader ends; waiters are told below.
            let _ = read_frames(stdout, &info, &shared);
            lock(&shared).ended = true;
            shared.1.notify_all();
        });
        Ok(Self { process, kind: Kind::Ffmpeg, dir: test.dir().into(), frames })
    }

    /// GStreamer, which counts frames but keeps none.
    pub fn gstreamer(test: &Test, sdp: &Path) -> Result<Self> {
        wait_for_sdp(sdp)?;
        let location = format!("location={}", sdp.display());
        let source = ["filesrc", &location, "!", "sdpdemux", "latency=0"];
        Self::start_gstreamer(test, "gstreamer", &source, "h264")
    }

    /// The same for a stream of HEVC.
    pub fn gstreamer_hevc(test: &Test, sdp: &Path) -> Result<Self> {
        wait_for_sdp(sdp)?;
        let location = format!("location={}", sdp.display());
        let source = ["filesrc", &location, "!", "sdpdemux", "latency=0"];
        Self::start_gstreamer(test, "gstreamer-hevc", &source, "h265")
    }

    /// GStreamer on an RTSP address, over `udp` or `tcp`; it counts frames but keeps none.
    pub fn gstreamer_rtsp(test: &Test, url: &str, transport: &str) -> Result<Self> {
        let (location, protocols) = (format!("location={url}"), format!("protocols={transport}"));
        let source = ["rtspsrc", &location, &protocols, "latency=0"];
        Self::start_gstreamer(test, &format!("gstreamer-{transport}"), &source, "h264")
    }

    fn start_gstreamer(test: &Test, name: &str, source: &[&str], codec: &str) -> Result<Self> {
        let (depay, decoder) = (format!("rtp{codec}depay"), format!("avdec_{codec}"));
        // One pipe for both, which keeps what it says in order.
        let mut command = Process::command("sh");
        command
            .args(["-c", "exec \"$@\" 2>&1", "sh", "gst-launch-1.0", "-v"])
            .args(source)
            .args(["!", &depay, "!", &decoder])
            .args(["!", "fakesink", "silent=false", "sync=false"])
            // Warnings of all elements count as complaints.
            .env("GST_DEBUG", "2")
            .env("GST_DEBUG_NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = Process::spawn(test, name, &mut command)?;
        let stdout = process.child().stdout.take().context("stdout was piped")?;
        let output = Transcript::of(stdout, &test.dir().join(format!("{name}-output.log")))?;
        let kind = Kind::Gstreamer(output);
        Ok(Self { process, kind, dir: test.dir().into(), frames: Arc::default() })
    }

    /// How many frames were decoded so far.
    pub fn count(&self) -> u64 {
        match &self.kind {
            Kind::Ffmpeg | Kind::Vlc(..) => lock(&self.frames).count,
            Kind::Gstreamer(output) => gstreamer_frames(&output.text()),
        }
    }

    /// Waits until `n` more frames than now were decoded.
    pub fn wait_frames(&self, n: u64, deadline: Duration) -> Result<()> {
        let wanted = self.count() + n;
        match &self.kind {
            Kind::Ffmpeg | Kind::Vlc(..) => {
                self.wait(deadline, &format!("{n} frames"), |f| (f.count >= wanted).then_some(()))
            }
            Kind::Gstreamer(output) => {
                output.wait_from(0, deadline, &format!("{n} frames"), |text| {
                    (gstreamer_frames(text) >= wanted).then_some(())
                })
            }
        }
    }

    /// The newest picture and when it came (not GStreamer).
    pub fn latest(&self) -> Option<(Picture, Instant)> {
        lock(&self.frames).latest.clone()
    }

    /// Waits for a picture that `accept` likes, be it the newest so far (not GStreamer).
    pub fn wait_picture(
        &self,
        deadline: Duration,
        what: &str,
        mut accept: impl FnMut(&Picture) -> bool,
    ) -> Result<Picture> {
        let mut judged = None;
        self.wait(deadline, what, |f| {
            let (picture, at) = f.latest.as_ref()?;
            // Judging may be slow: each picture once.
            if judged.replace(*at) == Some(*at) || !accept(picture) {
                return None;
            }
            Some(picture.clone())
        })
    }

    /// Waits until the viewer shows `expected` with at least `min` dB, and returns how much
    /// it was. If that never happens, both pictures stay in the test's folder.
    pub fn wait_like(&self, expected: &Picture, min: f64, deadline: Duration) -> Result<f64> {
        let mut best = f64::NEG_INFINITY;
        let what = format!("a picture of {min} dB");
        let seen = self.wait_picture(deadline, &what, |picture| {
            best = picture.psnr(expected).unwrap_or(f64::NEG_INFINITY).max(best);
            best >= min
        });
        if let Err(error) = seen {
            expected.write_ppm(&self.dir.join("expected.ppm"))?;
            if let Some((picture, _)) = self.latest() {
                picture.write_ppm(&self.dir.join("seen.ppm"))?;
            }
            return Err(error.context(format!("the best picture had {best:.1} dB")));
        }
        Ok(best)
    }

    /// When each frame was there, decoded (not GStreamer).
    pub fn arrivals(&self) -> Vec<Instant> {
        lock(&self.frames).arrivals.clone()
    }

    /// The lines in which the viewer reported an error or, for GStreamer, a warning, since
    /// its first frame: who joins a running stream cannot know the parameters before.
    pub fn complaints(&self) -> Vec<String> {
        let (text, frame, signs) = match &self.kind {
            Kind::Ffmpeg => (self.process.stderr().text(), SHOWINFO, FFMPEG_SIGNS),
            Kind::Gstreamer(output) => (output.text(), CHAIN, GSTREAMER_SIGNS),
            // From its first line on.
            Kind::Vlc(vlc, ..) => (vlc.stderr().text(), "", VLC_SIGNS),
        };
        let alone = |line: &&str| VLC_ALONE.iter().any(|known| line.contains(known));
        text.lines()
            .skip_while(|line| !line.contains(frame))
            .filter(|line| signs.iter().any(|sign| line.contains(sign)))
            .filter(|line| !alone(line))
            .map(str::to_owned)
            .collect()
    }

    /// The child process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn wait<T>(
        &self,
        deadline: Duration,
        what: &str,
        mut find: impl FnMut(&Frames) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + deadline;
        let mut frames = lock(&self.frames);
        loop {
            if let Some(found) = find(&frames) {
                return Ok(found);
            }
            if frames.ended {
                drop(frames);
                bail!("the viewer ended without {what}: {:#?}", self.complaints());
            }
            let left = end.saturating_duration_since(Instant::now());
            ensure!(
                !left.is_zero(),
                "no {what} at the viewer within {deadline:?}; it has decoded {} frames, the newest {:?}",
                frames.count,
                frames.latest.as_ref().map(|(p, at)| (p, at.elapsed())),
            );
            frames =
                self.frames.1.wait_timeout(frames, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Takes the samples of pictures of `length` bytes from what VLC writes: a line about the stream, now
/// and then, and a line before each picture. Ends with either side.
fn pass_on(pictures: File, mut to: ChildStdin, length: usize) -> std::io::Result<()> {
    let mut pictures = BufReader::new(pictures);
    let mut picture = vec![0; length];
    loop {
        let mut line = Vec::new();
        pictures.read_until(b'\n', &mut line)?;
        match &line[..] {
            b"" => return Ok(()),
            b"FRAME\n" => {
                pictures.read_exact(&mut picture)?;
                to.write_all(&picture)?;
            }
            _ => {}
        }
    }
}

fn read_frames(
    mut pipe: ChildStdout,
    info: &Transcript,
    shared: &(Mutex<Frames>, Condvar),
) -> Result<()> {
    let mut mark = 0;
    loop {
        // showinfo speaks before the frame leaves the filter, so its line is there first.
        let (width, height, end) =
            info.wait_from(mark, FOREVER, "another frame", size_of_next_frame)?;
        mark += end;
        let mut rgb = vec![0; width * height * 3];
        pipe.read_exact(&mut rgb)?;
        let now = Instant::now();
        let mut frames = lock(shared);
        frames.count += 1;
        frames.arrivals.push(now);
        frames.latest = Some((Picture { width, height, rgb }, now));
        shared.1.notify_all();
    }
}

/// Finds `… n:  12 … s:1280x720 …` of showinfo, and where its line ends.
fn size_of_next_frame(text: &str) -> Option<(usize, usize, usize)> {
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        end += line.len();
        if !line.ends_with('\n') || !line.contains(SHOWINFO) {
            continue;
        }
        let size = line.split_whitespace().find_map(|word| word.strip_prefix("s:"))?;
        let (width, height) = size.split_once('x')?;
        return Some((width.parse().ok()?, height.parse().ok()?, end));
    }
    None
}

fn gstreamer_frames(text: &str) -> u64 {
    text.matches(CHAIN).count() as u64
}

fn wait_for_sdp(sdp: &Path) -> Result<()> {
    let end = Instant::now() + SDP_DEADLINE;
    while std::fs::metadata(sdp).map_or(0, |m| m.len()) == 0 {
        ensure!(Instant::now() < end, "no SDP at {} within {SDP_DEADLINE:?}", sdp.display());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn lock(frames: &(Mutex<Frames>, Condvar)) -> MutexGuard<'_, Frames> {
    frames.0.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::size_of_next_frame;

    #[test]
    fn showinfo_lines_are_understood() {
        let text = "[Parsed_showinfo_0 @ 0x55] [info] config in time_base: 1/90000\n\
             [Parsed_showinfo_0 @ 0x55] [info] n:   0 pts:  0 fmt:yuv420p sar:0/1 s:1280x720 i:P\n\
             [Parsed_showinfo_0 @ 0x55] [info] n:   1 pts:";
        let (width, height, end) = size_of_next_frame(text).expect("a whole line is there");
        assert_eq!((width, height), (1280, 720));
        assert_eq!(size_of_next_frame(&text[end..]), None);
    }
}
