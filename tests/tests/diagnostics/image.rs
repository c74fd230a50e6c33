//! The shipped image in QEMU: the real compositor, systemd, and a screen to compare with.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use transom_tests::{Guest, Picture, Qemu, Test, machine_test};

use crate::ask::{check, diag, read_png};

const LIMIT: Duration = Duration::from_secs(900);
/// An emulated guest shows the game a minute after power-on at the latest.
const GAME: Duration = Duration::from_secs(120);

fn screenshot(test: &Test, guest: &Guest) -> Result<Picture> {
    let file = test.dir().join("shot.png");
    diag(test, guest, &["screenshot", file.to_str().context("a text")?])?.fine()?;
    read_png(&file)
}

/// A screenshot has the hardware cursor in it; QEMU's screendump has not. It is at most 64 pixels
/// wide and high.
fn is_same_but_for_a_cursor(shot: &Picture, dump: &Picture) -> bool {
    if (shot.width, shot.height) != (dump.width, dump.height) {
        return false;
    }
    let pixels = shot.rgb.chunks(3).zip(dump.rgb.chunks(3)).enumerate();
    let (xs, ys): (Vec<_>, Vec<_>) =
        pixels.filter(|(_, (a, b))| a != b).map(|(i, _)| (i % shot.width, i / shot.width)).unzip();
    let extent = |of: &[usize]| match (of.iter().min(), of.iter().max()) {
        (Some(least), Some(most)) => most - least,
        _ => 0,
    };
    let (width, height) = (extent(&xs), extent(&ys));
    println!("{} pixels differ, within {width}x{height}", xs.len());
    width < 64 && height < 64
}

#[test]
fn the_image_is_seen_into_from_outside() {
    machine_test("the image is seen into from outside", LIMIT, |test| {
        let mut guest = Qemu::new(test).boot()?;
        let end = Instant::now() + GAME;
        // The game stands still: what the machine shows is what a screenshot has, pixel by pixel.
        while guest.sh("pidof chocolate-doom", Duration::from_secs(30))?.status != 0 {
            ensure!(Instant::now() < end, "no game");
        }
        loop {
            let picture = screenshot(test, &guest);
            let dark = |p: &Picture| p.rgb.iter().all(|&byte| byte < 16);
            match picture {
                Ok(picture) if !dark(&picture) => break,
                other => ensure!(Instant::now() < end, "no picture: {:?}", other.err()),
            }
        }
        guest.run("kill -STOP $(pidof chocolate-doom)")?;
        loop {
            let before = guest.screendump()?;
            let shot = screenshot(test, &guest)?;
            // What the game drew last may still be on its way to the screen.
            if before == guest.screendump()? && is_same_but_for_a_cursor(&shot, &before) {
                break;
            }
            ensure!(
                Instant::now() < end + GAME,
                "the screenshot differs from the machine's screen"
            );
        }
        guest.run("kill -CONT $(pidof chocolate-doom)")?;

        guest.run("echo 'a line of the test' >/dev/kmsg")?;
        let kernel = diag(test, &guest, &["logs", "--kernel"])?.fine()?.text();
        ensure!(kernel.contains("a line of the test"));
        let journal =
            diag(test, &guest, &["logs", "--unit", "transom-agent.service"])?.fine()?.text();
        ensure!(!journal.is_empty(), "nothing of the unit");
        let refused = diag(test, &guest, &["shell", "--", "true"])?;
        ensure!(refused.status == 255 && refused.errors.contains("TRANSOM_SHELL"), "{refused:?}");

        let report =
            diag(test, &guest, &["doctor", "--json"])?.json()?.pop().context("no report")?;
        for name in ["agent-answers", "crtc-lit", "scanout-readable", "encoder-works"] {
            let check = check(&report, name)?;
            ensure!(check["verdict"] == "pass", "{name}: {check}");
        }
        let before = guest.run("pidof cage")?;
        diag(test, &guest, &["restart-compositor"])?.fine()?;
        let end = Instant::now() + GAME;
        while guest.run("pidof cage || true")? == before
            || guest.run("pidof cage || true")?.is_empty()
        {
            ensure!(Instant::now() < end, "the compositor does not come back");
        }
        // The machine goes down as asked.
        diag(test, &guest, &["reboot"])?.fine()?;
        guest.process().wait(Duration::from_secs(240)).context("the guest does not go down")?;
        Ok(())
    });
}
