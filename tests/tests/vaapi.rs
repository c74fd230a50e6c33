//! VA-API under the real libva: clients that nobody here wrote, then the agent.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use transom_tests::card::pattern;
use transom_tests::{
    Display, Guest, Process, Qemu, Relay, Test, Testcard, Uml, Viewer, machine_test, project_dir,
    va,
};

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
        // HEVC. Under the driver's own headers it is I_PCM, byte for byte; nobody here turns that on
        // in headers of their own, and then the driver codes the mean of each block of 8x8.
        let size = "1360x768";
        make(size)?;
        let coded = test.dir().join("coded.hevc").display().to_string();
        let decoded = test.dir().join("decoded.nv12").display().to_string();
        let read = ["-v", "error", "-f", "rawvideo", "-pix_fmt", "nv12", "-s", size, "-i", &raw];
        let (from, to) = (format!("location={raw}"), format!("location={coded}"));
        let gstreamer = |mode: &str| {
            let parse = "rawvideoparse width=1360 height=768 format=nv12 ! vaapih265enc !";
            let mut line = vec!["-q", "filesrc", &from, "!"];
            line.extend(parse.split(' '));
            line.extend(["video/x-h265,stream-format=byte-stream", "!", "filesink", &to]);
            run(mode, "gst-launch-1.0", &line)
        };
        for (mode, options) in [
            ("d3d12", Some(&["-qp", "30"][..])),
            ("d3d12", None),
            ("radeonsi", Some(&["-rc_mode", "CBR", "-b:v", "4M"])),
            ("intel", Some(&["-low_power", "1", "-qp", "20"])),
            ("no-pcm", Some(&["-qp", "12"])),
            ("no-pcm", None),
        ] {
            match options {
                Some(options) => {
                    let encode = ["-vf", "hwupload", "-c:v", "hevc_vaapi"];
                    let out = ["-y", &coded[..]];
                    run(mode, "ffmpeg", &[&device, &read[..], &encode, options, &out].concat())?
                }
                None => gstreamer(mode)?,
            };
            // Whatever a decoder says is an error: nothing of the stream may be strange to it.
            let decode = ["-v", "error", "-xerror", "-f", "hevc", "-i", &coded, "-pix_fmt", "nv12"];
            run("", "ffmpeg", &[&decode[..], &["-f", "rawvideo", "-y", &decoded]].concat())?;
            let (was, is) = (std::fs::read(&raw)?, std::fs::read(&decoded)?);
            ensure!(was.len() == is.len(), "{mode}, {options:?}: {} bytes", is.len());
            if mode == "d3d12" {
                ensure!(was == is, "HEVC, {mode}, {options:?}: decoded pictures differ");
            } else {
                let off = worst_block(&was, &is, (1360, 768));
                ensure!(off < 12, "HEVC, {mode}, {options:?}: a block is off by {off}");
            }
        }
        Ok(())
    });
}

/// How far the mean of a block of 8x8 samples of luma is off at most, in all pictures.
fn worst_block(one: &[u8], other: &[u8], (width, height): (usize, usize)) -> u64 {
    let frames = one.chunks(width * height * 3 / 2).zip(other.chunks(width * height * 3 / 2));
    frames
        .flat_map(|(one, other)| {
            (0..height / 8 * (width / 8)).map(move |block| {
                let at = block / (width / 8) * 8 * width + block % (width / 8) * 8;
                let sum = |picture: &[u8]| -> u64 {
                    let row = |y| picture[at + y * width..][..8].iter().map(|v| u64::from(*v));
                    (0..8).flat_map(row).sum()
                };
                sum(one).abs_diff(sum(other)) / 64
            })
        })
        .max()
        .unwrap_or(0)
}

/// A guest with a still picture on its screen, and the driver.
fn guest(test: &Test, mode: &str) -> Result<Guest> {
    let guest = Uml::new(test).boot()?;
    va::equip(&guest, mode)?;
    // Samples that nothing compresses: twice the usual rate, for a picture is to be whole in seconds.
    guest.run("export TRANSOM_BITRATE=24000000")?;
    Ok(guest)
}

#[test]
fn others_read_the_scanout_in_a_guest() {
    machine_test("others read the scanout in a guest", LIMIT, |test| {
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
        linear_views(test, &guest, &mut card)
    });
}

/// The real libgbm and Mesa's software driver for KMS: they import the scanout and map it, and what
/// comes of that equals what is there, byte for byte, and is what a viewer sees.
fn linear_views(test: &Test, guest: &Guest, card: &mut Testcard<'_>) -> Result<()> {
    let look = |name: &str| -> Result<Vec<u8>> {
        let file = test.dir().join(name);
        let mut command = Relay::command();
        command.args(["diag", &guest.address(), "screenshot"]).arg(&file);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "screenshot: {said}");
        Ok(std::fs::read(&file)?)
    };
    guest.start_agent(&["--scanout", "map"])?;
    let mapped = look("mapped.png")?;
    guest.kill_agent("TERM")?;
    guest.run("while pidof transom-agent; do sleep 0.02; done")?;
    // Where libgbm was not installed with the system, it is told where the rest of it is.
    let mesa = "/run/peer/usr/lib/x86_64-linux-gnu";
    guest.run(&format!("export GBM_BACKENDS_PATH={mesa}/gbm LIBGL_DRIVERS_PATH={mesa}/dri"))?;
    guest.start_agent(&["--scanout", "gbm"])?;
    // Samples that nothing compresses: over UDP, some would be lost on the way.
    let (_relay, url) = Relay::start_rtsp(test, guest, &[])?;
    let viewer = Viewer::ffmpeg_rtsp(test, &url, "tcp")?;
    viewer.wait_like(&pattern(4, 1366, 768), TRUE, SOON)?;
    wait_agent(guest, "display: read by GBM (/dev/dri/card")?;
    ensure!(look("viewed.png")? == mapped, "the linear view is not what is there");
    card.tell("mode 800x600 XRGB8888")?;
    card.tell("still 5")?;
    viewer.wait_like(&pattern(5, 800, 600), TRUE, SOON)?;
    // The scanout itself goes to the encoder, beside the view that damage is found in.
    let info = diag(guest, "info")?;
    let path = info["facts"]["encoder.path"].as_str().context("no path")?;
    ensure!(path.starts_with("dma-buf"), "{info:#}");
    let doctor = diag(guest, "doctor")?.to_string();
    ensure!(doctor.contains("by GBM (/dev/dri/card"), "{doctor}");
    // Its driver's process dies: the next views are another's.
    guest.run("kill -KILL $(grep -al 'scanout[-]helper' /proc/[0-9]*/cmdline | cut -d/ -f3)")?;
    card.tell("still 6")?;
    viewer.wait_like(&pattern(6, 800, 600), TRUE, SOON)?;
    wait_agent(guest, "no linear view by GBM of /dev/dri/card")?;
    guest.kill_agent("TERM")?;
    guest
        .run("while grep -aq 'scanout[-]helper' /proc/[0-9]*/cmdline; do sleep 0.02; done")
        .context("the helper ends with the agent")?;
    Ok(())
}

#[test]
fn gstreamer_encodes_on_a_render_node_in_a_guest() {
    machine_test("gstreamer encodes on a render node in a guest", LIMIT, |test| {
        let guest = guest(test, "radeonsi")?;
        // This machine's own GStreamer: its plugin `va` wants a render node, which only the guest
        // has, and the guest sees this machine's files.
        guest.run(
            "mkdir -p /run/all && mount -t hostfs -o hostfs=/ hostfs /run/all && \
             for d in dev proc sys; do mount --bind /$d /run/all/$d; done",
        )?;
        let dir = test.dir().display().to_string();
        let size = "width=1366,height=768";
        let output = guest.sh(
            &format!(
                "chroot /run/all env -u LD_LIBRARY_PATH LIBVA_DRIVERS_PATH={} \
                 XDG_CACHE_HOME={dir} HOME={dir} gst-launch-1.0 -q \
                 videotestsrc pattern=smpte75 num-buffers=5 ! video/x-raw,format=NV12,{size} ! \
                 vah264enc ! video/x-h264,stream-format=byte-stream ! \
                 filesink location={dir}/va.h264 2>&1",
                va::driver()?.display()
            ),
            SOON,
        )?;
        ensure!(output.status == 0, "GStreamer: {}", output.text);
        let picture = picture_of(&test.dir().join("va.h264"), test)?;
        ensure!((picture.width, picture.height) == (1366, 768), "{picture:?}");
        // The bars: grey first, blue last of seven.
        let grey = picture.at(60, 100);
        let blue = picture.at(1366 - 60, 100);
        ensure!(grey.iter().all(|v| v.abs_diff(190) < 16), "{grey:?}");
        ensure!(blue[2] > 170 && blue[0] < 30 && blue[1] < 30, "{blue:?}");
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

/// What `transom diag GUEST VERB --json` says, which is one object.
fn diag(guest: &Guest, verb: &str) -> Result<serde_json::Value> {
    let output = Relay::command().args(["diag", &guest.address(), verb, "--json"]).output()?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
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
        let guest = guest(test, "paced,refresh,roi")?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate box")?;
        // Each IDR has this driver begin anew with what the rate leaves for its samples: rarely.
        let rarely = ("TRANSOM_IDR_INTERVAL", "10");
        let (relay, url) = Relay::start_rtsp(test, &guest, &[rarely])?;
        let viewer = Viewer::ffmpeg_rtsp(test, &url, "tcp")?;
        wait_agent(&guest, "encoder: VA-API, Transom software driver")?;
        for (seed, (width, height)) in [(2, (1280, 720)), (3, (1366, 768)), (4, (800, 600))] {
            card.tell(&format!("mode {width}x{height} XRGB8888"))?;
            card.tell(&format!("still {seed}"))?;
            let psnr = viewer.wait_like(&pattern(seed, width, height), TRUE, SOON)?;
            println!("{width}x{height}: {psnr:.1} dB");
        }
        // With a cursor above it, the driver blends the two.
        card.tell("cursor 101 91")?;
        let expected = card.expected()?;
        viewer.wait_like(&expected, TRUE, SOON).context("with a cursor")?;
        wait_agent(&guest, "pictures come by dma-buf, cursor blended")?;
        card.tell("cursor off")?;
        viewer.wait_like(&pattern(4, 800, 600), TRUE, SOON).context("without a cursor")?;
        // Whoever asks is told which driver, how, and why no other.
        let info = diag(&guest, "info")?;
        for (name, value) in [
            ("name", "vaapi"),
            ("driver", "Transom software driver for tests"),
            ("profile", "Constrained Baseline"),
            ("entrypoint", "EncSlice"),
            ("path", "dma-buf"),
        ] {
            let fact = &info["facts"][format!("encoder.{name}")];
            ensure!(fact == value, "{name}: {info:#}");
        }
        let doctor = diag(&guest, "doctor")?.to_string();
        let verdict = "Transom software driver for tests encodes: Constrained Baseline, EncSlice, \
                       by dma-buf";
        ensure!(doctor.contains(verdict), "{doctor}");
        let log = guest.agent_log();
        ensure!(!log.contains("given up"), "{log}");
        // The scanout's own buffer went to the driver.
        ensure!(log.contains("pictures come by dma-buf"), "{log}");
        // Who comes late, on a screen that rests, to a relay that asks for refreshes: a whole one
        // has to go by, for nobody asks for an IDR.
        drop((viewer, relay));
        let relay = Relay::start_with(test, &guest, &[rarely, ("TRANSOM_REFRESH", "1")])?;
        wait_agent(&guest, "the picture is refreshed a part at a time")?;
        let late = Viewer::ffmpeg(test, &relay.sdp())?;
        late.wait_like(&pattern(4, 800, 600), TRUE, SOON).context("by a refresh")?;
        Ok(())
    });
}

/// What each habit or fault of a driver leads to: words of the agent's log, in their order.
const OUTCOMES: [(&str, &[&str]); 12] = [
    ("no-import,paced", &["VA-API, Transom", "the scanout is not imported, but copied"]),
    ("no-bgrx,paced", &["VA-API, Transom", "the scanout is not imported, but copied"]),
    ("intel,paced", &["VA-API, Transom", "Constrained Baseline, EncSliceLP"]),
    ("d3d12,paced", &["VA-API, Transom", "Main, EncSlice", "headers from us: none"]),
    ("no-derive,paced", &["VA-API, Transom", "upload (image)"]),
    ("no-encode", &["given up for 2 s", "does not encode it"]),
    ("paced,fail-after=20", &["VA-API, Transom", "given up for 2 s: vaEndPicture"]),
    ("paced,hang-after=20", &["VA-API, Transom", "given up for 2 s: no answer from the driver"]),
    (
        "paced,garbage-after=20",
        &["VA-API, Transom", "given up for 2 s: the driver's output is wrong"],
    ),
    (
        "paced,empty-after=20",
        &["VA-API, Transom", "given up for 2 s: the driver's output is wrong"],
    ),
    ("paced,crash-after=20", &["VA-API, Transom", "given up for 2 s: the driver's process ended"]),
    ("d3d12,wrong-size", &["VA-API, Transom", "given up for 2 s: the driver's output is wrong"]),
];

#[test]
fn the_stream_goes_on_whatever_the_driver_does() {
    let limit = Duration::from_secs(400);
    machine_test("the stream goes on whatever the driver does", limit, |test| {
        let guest = guest(test, "")?;
        let mut card = guest.testcard()?;
        let mut relay: Option<Relay> = None;
        for (seed, (mode, words)) in (10..).zip(OUTCOMES) {
            let mark = guest.agent_log().len();
            va::set_mode(&guest, mode)?;
            guest.start_agent(&[])?;
            // An odd size: one that needs cropping. Small, for the driver's pictures are not
            // compressed, and what is lost on the way would be taken for its fault.
            card.tell("mode 800x600 XRGB8888")?;
            card.tell("animate box")?;
            if relay.is_none() {
                relay = Some(Relay::start(test, &guest)?);
            }
            let viewer = Viewer::ffmpeg(test, &relay.as_ref().context("just set")?.sdp())?;
            let end = std::time::Instant::now() + SOON;
            loop {
                let log = guest.agent_log();
                let mut rest = &log[mark..];
                let in_order = words.iter().all(|word| match rest.find(word) {
                    Some(at) => {
                        rest = &rest[at..];
                        true
                    }
                    None => false,
                });
                if in_order {
                    break;
                }
                ensure!(
                    std::time::Instant::now() < end,
                    "{mode}: no {words:?} in\n{}",
                    &log[mark..]
                );
                guest.run("sleep 0.1")?;
            }
            // Parameter sets of the driver's own say nothing of colours: a viewer then takes the
            // matrix of BT.601 for the one of BT.709.
            let truth = if mode == "d3d12,paced" { 29.0 } else { TRUE };
            // Whoever encodes now: the truth arrives.
            card.tell(&format!("still {seed}"))?;
            let psnr = viewer
                .wait_like(&pattern(seed, 800, 600), truth, SOON)
                .with_context(|| mode.to_owned())?;
            println!("{mode}: {psnr:.1} dB");
            drop(viewer);
            guest.kill_agent("TERM")?;
            let log = guest.agent_log();
            let complaints = log[mark..].matches("given up").count();
            ensure!(complaints < 8, "{mode}: the log repeats itself:\n{}", &log[mark..]);
            // The helper ends with the agent, even one that hangs in its driver.
            guest.run("while pidof transom-agent; do sleep 0.02; done")?;
        }
        Ok(())
    });
}

/// Waits until a relay describes its stream as this codec's.
fn wait_described(relay: &Relay, codec: &str) -> Result<()> {
    let end = std::time::Instant::now() + SOON;
    loop {
        let text = std::fs::read_to_string(relay.sdp()).unwrap_or_default();
        if text.contains(&format!(" {codec}/90000")) {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < end, "never described as {codec}: {text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn hevc_reaches_players_until_the_driver_fails() {
    machine_test("hevc reaches players until the driver fails", LIMIT, |test| {
        let guest = guest(test, "")?;
        let mut card = guest.testcard()?;
        // Headers as given, and of its own.
        for (seed, mode) in [(20, "radeonsi"), (21, "d3d12")] {
            va::set_mode(&guest, mode)?;
            guest.start_agent(&[])?;
            // Small, as samples are not compressed.
            card.tell("mode 640x480 XRGB8888")?;
            card.tell(&format!("still {seed}"))?;
            let (relay, url) = Relay::start_rtsp(test, &guest, &[("TRANSOM_CODEC", "hevc")])?;
            wait_described(&relay, "H265").with_context(|| mode.to_owned())?;
            let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
            let truth = if mode == "d3d12" { 29.0 } else { TRUE };
            let expected = pattern(seed, 640, 480);
            let psnr = viewer.wait_like(&expected, truth, SOON).context(mode)?;
            println!("HEVC, {mode}: {psnr:.1} dB");
            let info = diag(&guest, "info")?;
            ensure!(info["facts"]["encoder.profile"] == "HEVC Main", "{info:#}");
            if mode == "radeonsi" {
                for transport in ["udp", "tcp"] {
                    let viewer = Viewer::ffmpeg_rtsp(test, &url, transport)?;
                    viewer
                        .wait_like(&expected, TRUE, SOON)
                        .with_context(|| transport.to_owned())?;
                }
                card.tell("animate box")?;
                // Both want the same port.
                drop(viewer);
                let viewer = Viewer::gstreamer_hevc(test, &relay.sdp())?;
                viewer.wait_frames(20, SOON).context("GStreamer")?;
            }
            drop(relay);
            guest.kill_agent("TERM")?;
            guest.run("while pidof transom-agent; do sleep 0.02; done")?;
        }
        // The driver fails in mid-stream: the stream goes on as H.264, which is told to everybody.
        va::set_mode(&guest, "fail-after=30")?;
        guest.start_agent(&[])?;
        card.tell("mode 640x480 XRGB8888")?;
        card.tell("still 30")?;
        let (relay, url) = Relay::start_rtsp(test, &guest, &[("TRANSOM_CODEC", "hevc")])?;
        wait_described(&relay, "H265")?;
        let player = Viewer::ffmpeg_rtsp(test, &url, "tcp")?;
        player.wait_like(&pattern(30, 640, 480), TRUE, SOON).context("before the fault")?;
        card.tell("animate box")?;
        wait_agent(&guest, "given up for 2 s: vaEndPicture")?;
        wait_described(&relay, "H264")?;
        relay.wait_log("the stream has another codec now")?;
        drop(player);
        card.tell("still 31")?;
        let viewer = Viewer::ffmpeg_rtsp(test, &url, "tcp")?;
        viewer.wait_like(&pattern(31, 640, 480), TRUE, SOON).context("behind the fault")?;
        Ok(())
    });
}

#[test]
fn the_shipped_image_encodes_through_libva_in_its_sandbox() {
    let limit = Duration::from_secs(400);
    machine_test("the shipped image encodes through libva in its sandbox", limit, |test| {
        // The image has neither libva nor a VA driver: both are laid over it. Small pictures, for an
        // emulated processor converts large ones more slowly than a driver may take.
        let image = va::image(test, "paced")?;
        let display = Display::VirtioGpu { width: 640, height: 480 };
        let mut guest = Qemu::new(test).image(&image).display(display).boot()?;
        let rarely = ("TRANSOM_IDR_INTERVAL", "10");
        let (_relay, url) = Relay::start_rtsp(test, &guest, &[rarely])?;
        let long = Duration::from_secs(120);
        guest.wait_console("encoder: VA-API, Transom software driver", long)?;
        // Driver code runs as nobody in particular, filtered, and without the agent's capability.
        let confined = guest.run(
            "until p=$(grep -al 'encode[-]helper' /proc/[0-9]*/cmdline 2>/dev/null) && \
             cat ${p%%/cmdline*}/status 2>/dev/null; do sleep 0.2; done",
        )?;
        for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
            ensure!(confined.contains(line), "no {line} in\n{confined}");
        }
        ensure!(!confined.contains("Uid:\t0\t"), "{confined}");
        let viewer = Viewer::ffmpeg_rtsp(test, &url, "tcp")?;
        guest.sh("until pidof chocolate-doom; do sleep 0.5; done", long)?;
        viewer.wait_frames(10, long)?;
        guest.run("kill -STOP $(pidof chocolate-doom)")?;
        let mut still = guest.screendump()?;
        loop {
            guest.run("sleep 0.5")?;
            let again = guest.screendump()?;
            if std::mem::replace(&mut still, again.clone()) == again {
                break;
            }
        }
        let psnr = viewer.wait_like(&still, TRUE, long)?;
        let info = diag(&guest, "info")?;
        let path = info["facts"]["encoder.path"].as_str().context("no path")?;
        println!("{psnr:.1} dB, by {path}");
        ensure!(path.starts_with("dma-buf"), "{info:#}");
        ensure!(!guest.console().contains("given up"), "the driver was given up");
        Ok(())
    });
}

#[test]
#[ignore = "wants `make image FLAVOUR=gpu` and minutes of emulation: cargo test --release -p transom-tests --test vaapi -- --ignored"]
fn the_gpu_image_goes_on_in_software_where_there_is_no_gpu() {
    let limit = Duration::from_secs(580);
    machine_test("the gpu image goes on in software where there is no gpu", limit, |test| {
        let image = project_dir().join("dist/transom-gpu.vhdx");
        ensure!(image.exists(), "there is no {}: make image FLAVOUR=gpu", image.display());
        let display = Display::VirtioGpu { width: 640, height: 480 };
        let guest = Qemu::new(test).image(&image).display(display).boot()?;
        let relay = Relay::start(test, &guest)?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        let long = Duration::from_secs(180);
        guest.wait_console("encoder: not ", long)?;
        viewer.wait_frames(10, long)?;
        let info = diag(&guest, "info")?;
        ensure!(info["facts"]["encoder.name"] == "screen", "{info:#}");
        // Two nodes, a driver for each, and why neither of them encodes.
        let doctor = diag(&guest, "doctor")?.to_string();
        println!("{doctor}");
        for words in ["(virtio_gpu): virtio_gpu", "(vgem): d3d12", "no /dev/dxg"] {
            ensure!(doctor.contains(words), "no '{words}' in {doctor}");
        }
        Ok(())
    });
}
