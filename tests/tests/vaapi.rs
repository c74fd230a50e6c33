//! VA-API under the real libva: clients that nobody here wrote, then the agent.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use transom_tests::card::pattern;
use transom_tests::{Guest, Process, Relay, Test, Uml, Viewer, machine_test, va};

const LIMIT: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(30);
/// What a still picture has to reach.
const TRUE: f64 = 35.0;

#[test]
fn programs_that_know_nothing_of_us_encode_with_the_driver() {
    machine_test("programs that know nothing of us encode with the driver", LIMIT, |test| {
        let (driver, display) = (va::driver()?, va::Display::start(test)?);
        let run = |mode: &str, program: &str, arguments: &[&str]| -> Result<String> {
            let mut command = Command::new(program);
            display.lend(command.args(arguments), &driver, mode);
            let output = command.output().with_context(|| format!("no {program}"))?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success(), "{program} ({mode}): {said}");
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        for (mode, has, lacks) in [
            ("radeonsi", "VAProfileH264ConstrainedBaseline:\tVAEntrypointEncSlice\n", "EncSliceLP"),
            ("intel", "VAProfileH264High               :\tVAEntrypointEncSliceLP", "EncSlice\n"),
            ("d3d12", "VAProfileH264Main", "ConstrainedBaseline"),
        ] {
            let told = run(mode, "vainfo", &["--display", "x11"])?;
            ensure!(told.contains(has) && !told.contains(lacks), "{mode}: {told}");
        }
        let raw = test.dir().join("raw.nv12").display().to_string();
        let coded = test.dir().join("coded.h264").display().to_string();
        let make = |size: &str| -> Result<()> {
            let source = format!("testsrc2=size={size}:rate=30");
            let filter = ["-frames:v", "10", "-vf", "format=nv12"];
            let make = ["-v", "error", "-f", "lavfi", "-i", &source];
            run("", "ffmpeg", &[&make[..], &filter, &["-f", "rawvideo", "-y", &raw]].concat())?;
            Ok(())
        };
        let same = |what: &str| -> Result<()> {
            let expected = std::fs::read(&raw)?;
            let decoded = test.dir().join("decoded.nv12").display().to_string();
            let decode = ["-v", "error", "-f", "h264", "-i", &coded, "-pix_fmt", "nv12", "-y"];
            run("", "ffmpeg", &[&decode[..], &["-f", "rawvideo", &decoded]].concat())?;
            ensure!(std::fs::read(&decoded)? == expected, "{what}: decoded pictures differ");
            Ok(())
        };
        let size = "1366x768";
        make(size)?;
        let device =
            ["-init_hw_device", "vaapi=va:,connection_type=x11", "-filter_hw_device", "va"];
        let read = ["-v", "error", "-f", "rawvideo", "-pix_fmt", "nv12", "-s", size, "-i", &raw];
        for (mode, options) in [
            ("radeonsi", &["-coder", "cavlc"][..]),
            ("radeonsi", &["-profile:v", "constrained_baseline", "-b:v", "4M"]),
            ("radeonsi", &["-slices", "4"]),
            ("d3d12", &["-rc_mode", "CBR", "-b:v", "4M"]),
            ("intel", &["-low_power", "1"]),
        ] {
            let encode = ["-vf", "hwupload", "-c:v", "h264_vaapi"];
            let out = ["-y", &coded[..]];
            run(mode, "ffmpeg", &[&device, &read[..], &encode, options, &out].concat())?;
            same(&format!("ffmpeg, {mode}, {options:?}"))?;
        }
        // Rows of a multiple of four: GStreamer's raw pictures have no others. Cropped both ways.
        make("1364x762")?;
        for options in [&[][..], &["cabac=true"], &["rate-control=cbr", "bitrate=4000"]] {
            let parse = "rawvideoparse width=1364 height=762 format=nv12";
            let from = format!("location={raw}");
            let to = format!("location={coded}");
            let mut line = vec!["-q", "filesrc", &from, "!"];
            line.extend(parse.split(' '));
            line.extend(["!", "vaapih264enc"]);
            line.extend(options);
            line.extend(["!", "video/x-h264,stream-format=byte-stream", "!", "filesink", &to]);
            run("radeonsi", "gst-launch-1.0", &line)?;
            same(&format!("GStreamer, {options:?}"))?;
        }
        Ok(())
    });
}

/// A guest with a still picture on its screen, and the driver.
fn guest(test: &Test, mode: &str) -> Result<Guest> {
    let guest = Uml::new(test).boot()?;
    va::equip(&guest, mode)?;
    Ok(guest)
}

#[test]
fn ffmpeg_imports_the_scanout_in_a_guest() {
    machine_test("ffmpeg imports the scanout in a guest", LIMIT, |test| {
        let guest = guest(test, "radeonsi")?;
        let mut card = guest.testcard()?;
        card.tell("mode 1366x768 XRGB8888")?;
        card.tell("still 4")?;
        // The scanout's dma-buf goes from VKMS into the driver, which converts and encodes it.
        let command = "card=$(basename $(ls -d /sys/devices/*/vkms/drm/card*)) && \
            /run/peer/lib64/ld-linux-x86-64.so.2 /run/peer/usr/bin/ffmpeg -v error \
            -device /dev/dri/$card -f kmsgrab -framerate 5 -i - -frames:v 3 \
            -vf hwmap=derive_device=vaapi,scale_vaapi=format=nv12 -c:v h264_vaapi \
            -y /host/log/grab.h264 2>&1";
        let output = guest.sh(command, SOON)?;
        ensure!(output.status == 0, "ffmpeg: {}", output.text);
        let picture = picture_of(&test.dir().join("grab.h264"), test)?;
        let psnr = picture.psnr(&pattern(4, 1366, 768))?;
        ensure!(psnr > TRUE, "only {psnr:.1} dB");
        Ok(())
    });
}

/// The last picture of a stream.
fn picture_of(stream: &Path, test: &Test) -> Result<transom_tests::Picture> {
    let file = test.dir().join("last.ppm");
    let status = Process::command("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(stream)
        // What kmsgrab captures has no matrix in its VUI: the driver converts by BT.709.
        .args(["-vf", "scale=in_color_matrix=bt709"])
        .args(["-sws_flags", "bicubic+accurate_rnd+full_chroma_int", "-update", "1", "-y"])
        .arg(&file)
        .status()?;
    ensure!(status.success(), "ffmpeg cannot decode {}", stream.display());
    transom_tests::Picture::read_ppm(&file)
}

/// Waits until the agent has said something.
fn wait_agent(guest: &Guest, text: &str) -> Result<()> {
    let end = std::time::Instant::now() + SOON;
    while !guest.agent_log().contains(text) {
        ensure!(
            std::time::Instant::now() < end,
            "the agent never said '{text}':\n{}",
            guest.agent_log()
        );
        guest.run("sleep 0.1")?;
    }
    Ok(())
}

#[test]
fn the_agent_encodes_through_libva_in_a_guest() {
    machine_test("the agent encodes through libva in a guest", LIMIT, |test| {
        let guest = guest(test, "radeonsi,paced")?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate box")?;
        let relay = Relay::start(test, &guest)?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        wait_agent(&guest, "encoder: VA-API, Transom software driver")?;
        for (seed, (width, height)) in [(2, (1280, 720)), (3, (1366, 768)), (4, (800, 600))] {
            card.tell(&format!("mode {width}x{height} XRGB8888"))?;
            card.tell(&format!("still {seed}"))?;
            let psnr = viewer.wait_like(&pattern(seed, width, height), TRUE, SOON)?;
            println!("{width}x{height}: {psnr:.1} dB");
        }
        ensure!(!guest.agent_log().contains("given up"), "{}", guest.agent_log());
        Ok(())
    });
}
