//! The harness itself: what every other machine test relies on.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use transom_tests::card::{Format, pattern, read_number};
use transom_tests::{Process, Qemu, Test, Uml, Viewer, free_udp_port, machine_test};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_uml_guest_has_what_tests_need() {
    machine_test("a uml guest has what tests need", LIMIT, |test| {
        let started = Instant::now();
        let guest = Uml::new(test).boot()?;
        println!("shell after {:?}", started.elapsed());
        guest.run(
            "test -c /dev/dri/card0 && test -c /dev/dri/renderD128 && test -c /dev/dri/card1",
        )?;
        guest.run("test -c /dev/vsock && test -c /dev/uinput")?;
        let output = guest.sh("echo one; echo two >&2; (exit 7)", Duration::from_secs(5))?;
        ensure!(output.status == 7 && output.text == "one\ntwo", "{output:?}");
        // The root is shared by all guests and belongs to the image.
        guest.run("echo changed > /etc/hostname && test $(cat /etc/hostname) = changed")?;
        ensure!(guest.sh("sleep 60", Duration::from_millis(200)).is_err(), "a deadline must hold");
        Ok(())
    });
}

#[test]
fn two_uml_guests_live_side_by_side() {
    machine_test("two uml guests live side by side", LIMIT, |test| {
        let one = Uml::new(test).name("one").boot()?;
        let two = Uml::new(test).name("two").boot()?;
        one.run("touch /etc/mine")?;
        ensure!(two.run("test -e /etc/mine").is_err(), "guests must not share what they write");
        ensure!(one.vsock()? != two.vsock()?, "each guest has a socket of its own");
        ensure!(one.connect(4711).is_err(), "nobody listens there");
        Ok(())
    });
}

#[test]
fn the_testcard_shows_what_it_says() {
    machine_test("the testcard shows what it says", LIMIT, testcard);
}

fn testcard(test: &Test) -> Result<()> {
    let guest = Uml::new(test).boot()?;
    let mut card = guest.testcard()?;
    for size in ["1280x720", "1366x768", "1024x768"] {
        let (w, h) = size.split_once('x').expect("written above");
        card.tell(&format!("mode {size} XRGB8888"))?;
        card.tell("still 7")?;
        ensure!(card.expected()? == pattern(7, w.parse()?, h.parse()?), "{size} differs");
    }
    let mut taken = Vec::new();
    for format in Format::ALL {
        match card.tell(&format!("mode 1280x720 {} 13", format.name())) {
            Ok(_) => taken.push(format.name()),
            Err(error) if format!("{error:#}").contains("unsupported") => continue,
            Err(error) => return Err(error),
        }
        card.tell("still 3")?;
        let psnr = card.expected()?.psnr(&pattern(3, 1280, 720))?;
        ensure!(psnr > 35.0, "{}: {psnr:.1} dB", format.name());
    }
    println!("VKMS takes {taken:?}");
    for what in ["screen", "box"] {
        card.tell("mode 1280x720 XRGB8888")?;
        card.flips()?;
        card.tell(&format!("animate {what}"))?;
        guest.run("sleep 2")?;
        let last: u32 = card.tell("cursor 100 100")?.parse()?;
        ensure!(read_number(&card.expected()?)? == last, "the number in the picture differs");
        let flips = card.flips()?;
        let (first, last) = (flips[0], flips[flips.len() - 1]);
        let fps = f64::from(last.0 - first.0) * 1e9 / (last.1 - first.1) as f64;
        println!("{what}: {fps:.1} fps");
        ensure!(fps > 40.0, "only {fps:.1} fps");
    }
    card.tell("off")?;
    card.tell("on")?;
    ensure!(card.tell("fly").is_err(), "an unknown order must be refused");
    Ok(())
}

#[test]
fn the_image_boots_with_a_root_shell() {
    machine_test("the image boots with a root shell", Duration::from_secs(600), |test| {
        let started = Instant::now();
        let mut guest = Qemu::new(test).boot()?;
        println!("shell after {:?}", started.elapsed());
        guest.run("test $(id -u) = 0 && test -c /dev/dri/card0 && test -c /dev/vsock")?;
        ensure!(
            guest.console().contains("Linux version"),
            "the console is on the first serial port"
        );
        let picture = guest.screendump()?;
        ensure!((picture.width, picture.height) == (1280, 720), "{picture:?}");
        guest.power_cycle()?;
        guest.run("true")?;
        println!("and again after {:?}", started.elapsed());
        Ok(())
    });
}

#[test]
fn viewers_count_frames_and_notice_damage() {
    machine_test("viewers count frames and notice damage", LIMIT, |test| {
        for (bitstream_filter, broken) in [("null", false), ("noise=amount=3000", true)] {
            let (sender, sdp) = send_test_pictures(test, bitstream_filter)?;
            let viewer = Viewer::ffmpeg(test, &sdp)?;
            viewer.wait_frames(30, Duration::from_secs(20))?;
            let picture = viewer.wait_picture(LIMIT, "a picture of 640x360", |p| p.width == 640)?;
            ensure!(picture.height == 360, "{picture:?}");
            let complaints = viewer.complaints();
            ensure!(complaints.is_empty() != broken, "{bitstream_filter}: {complaints:?}");
            drop(viewer);
            let viewer = Viewer::gstreamer(test, &sdp)?;
            viewer.wait_frames(30, Duration::from_secs(20))?;
            let complaints = viewer.complaints();
            ensure!(complaints.is_empty() != broken, "{bitstream_filter}: {complaints:?}");
            drop(sender);
        }
        Ok(())
    });
}

/// Sends a moving picture from ffmpeg, as the relay does from a guest.
fn send_test_pictures(test: &Test, bitstream_filter: &str) -> Result<(Process, PathBuf)> {
    let sdp = test.dir().join("sender.sdp");
    let _ = std::fs::remove_file(&sdp);
    let mut command = Process::command("ffmpeg");
    command
        .args(["-nostdin", "-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "10"])
        .args(["-bsf:v", &format!("{bitstream_filter},dump_extra"), "-sdp_file"])
        .arg(&sdp)
        .args(["-f", "rtp", &format!("rtp://127.0.0.1:{}?pkt_size=1200", free_udp_port()?)])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Ok((Process::spawn(test, "sender", &mut command)?, sdp))
}
