//! The world changes while the stream runs: modes, compositors, guests, relays.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use transom_tests::card::{pattern, read_number};
use transom_tests::{Picture, Qemu, Relay, Uml, Viewer, machine_test};

const LIMIT: Duration = Duration::from_secs(180);
const QEMU_LIMIT: Duration = Duration::from_secs(600);
/// For a first picture.
const SOON: Duration = Duration::from_secs(15);
/// For a change to be seen.
const AT_ONCE: Duration = Duration::from_secs(3);
/// An emulated guest shows the game a minute after power-on at the latest.
const GAME: Duration = Duration::from_secs(120);

#[test]
fn a_mode_change_goes_on_at_the_new_size() {
    machine_test("a mode change goes on at the new size", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate screen")?;
        let relay = Relay::start(test, &guest)?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        viewer.wait_frames(10, SOON)?;
        for size in [(1366, 768), (800, 600), (1920, 1080), (1280, 720)] {
            let started = Instant::now();
            card.tell(&format!("mode {}x{} XRGB8888", size.0, size.1))?;
            card.tell("animate screen")?;
            viewer
                .wait_picture(AT_ONCE, "the new size", |p| (p.width, p.height) == size)
                .with_context(|| format!("{size:?}"))?;
            let took = started.elapsed();
            println!("{size:?} after {took:?}");
            ensure!(took < AT_ONCE, "{size:?} took {took:?}");
            viewer.wait_frames(10, AT_ONCE)?;
        }
        Ok(())
    });
}

#[test]
fn a_dark_display_is_a_state() {
    machine_test("a dark display is a state", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        // Nothing was ever shown yet.
        guest.start_agent(&[])?;
        let relay = Relay::start(test, &guest)?;
        relay.wait_state(0, "no-picture", SOON)?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("still 1")?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        viewer.wait_like(&pattern(1, 1280, 720), 35.0, SOON)?;
        for seed in 2..5 {
            let mark = relay.mark();
            card.tell("off")?;
            relay.wait_state(mark, "no-picture", AT_ONCE)?;
            card.tell("on")?;
            card.tell(&format!("still {seed}"))?;
            relay.wait_state(mark, "streaming", AT_ONCE)?;
            viewer.wait_like(&pattern(seed, 1280, 720), 35.0, SOON)?;
        }
        // A compositor that crashes takes its picture along; the next one brings its own.
        let mark = relay.mark();
        guest.run("kill -9 $(pidof testcard)")?;
        relay.wait_state(mark, "no-picture", AT_ONCE)?;
        let mut card = guest.testcard()?;
        card.tell("mode 1366x768 XRGB8888")?;
        card.tell("still 9")?;
        viewer.wait_like(&pattern(9, 1366, 768), 35.0, SOON).map(drop)
    });
}

#[test]
fn a_compositor_on_vkms_is_seen() {
    machine_test("a compositor on vkms is seen", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let relay = Relay::start(test, &guest)?;
        guest.start_compositor()?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        let first = viewer.wait_picture(SOON, "a picture that is not black", colourful)?;
        moved(&viewer, &first)
    });
}

#[test]
fn a_killed_relay_is_replaced_at_once() {
    machine_test("a killed relay is replaced at once", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate box")?;
        let mut relay = Relay::start(test, &guest)?;
        let port = relay.port();
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        viewer.wait_frames(10, SOON)?;
        for _ in 0..3 {
            relay.process().kill();
            // The old relay sent nothing that was drawn after this.
            let before: u32 = card.tell("animate box")?.parse()?;
            let started = Instant::now();
            relay = Relay::start_at(test, &guest.address(), port)?;
            viewer.wait_picture(AT_ONCE, "a newer picture", |p| {
                read_number(p).is_ok_and(|n| n > before)
            })?;
            println!("a picture {:?} after the relay's start", started.elapsed());
        }
        // A second relay takes the guest over; the first ends and says so.
        let mut second = Relay::start(test, &guest)?;
        let status = relay.process().wait(SOON)?;
        ensure!(status.code() == Some(3), "the first relay ended with {status}");
        second.wait_state(0, "streaming", SOON)?;
        ensure!(second.process().is_running(), "the second relay is gone");
        Ok(())
    });
}

#[test]
fn a_stalled_host_costs_the_guest_nothing() {
    machine_test("a stalled host costs the guest nothing", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate screen")?;
        let mut relay = Relay::start(test, &guest)?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        viewer.wait_frames(60, SOON)?;
        drop(viewer);
        let (before, ..) = guest.agent_usage()?;
        relay.process().signal(Signal::SIGSTOP)?;
        let stalled = Instant::now();
        let mut most = before;
        let mut sample = |until| -> Result<()> {
            while stalled.elapsed() < Duration::from_secs(until) {
                guest.run("sleep 1")?;
                most = most.max(guest.agent_usage()?.0);
            }
            Ok(())
        };
        sample(14)?;
        // ffmpeg gives up after ten silent seconds, so this one comes late.
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        sample(20)?;
        println!("resident before {before} KiB, at most {most} KiB");
        ensure!(most < before + 4096, "the agent grew from {before} to {most} KiB");
        let number: u32 = card.tell("animate screen")?.parse()?;
        let resumed = Instant::now();
        relay.process().signal(Signal::SIGCONT)?;
        // Not what had been queued: what is on the screen now.
        viewer.wait_picture(AT_ONCE, "a picture of now", |p| {
            read_number(p).is_ok_and(|n| n >= number)
        })?;
        println!("a picture of now after {:?}", resumed.elapsed());
        let stats = relay.wait_stats(SOON)?;
        let dropped = stats["drops"]["slow_host"].as_u64().unwrap_or_default();
        ensure!(dropped > 100, "frames must have been dropped before encoding, not {dropped}");
        let before = viewer.complaints().len();
        viewer.wait_frames(60, SOON)?;
        ensure!(viewer.complaints().len() == before, "{:#?}", viewer.complaints());
        Ok(())
    });
}

#[test]
fn an_agent_that_is_killed_comes_back_to_the_same_relay() {
    machine_test("an agent that is killed comes back to the same relay", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate box")?;
        let relay = Relay::start(test, &guest)?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        viewer.wait_frames(10, SOON)?;
        for signal in ["KILL", "TERM"] {
            let mark = relay.mark();
            guest.kill_agent(signal)?;
            relay.wait_state(mark, "waiting", SOON)?;
            let before: u32 = card.tell("animate box")?.parse()?;
            guest.start_agent(&[])?;
            viewer.wait_picture(SOON, "a newer picture", |p| {
                read_number(p).is_ok_and(|n| n > before)
            })?;
        }
        Ok(())
    });
}

#[test]
fn the_shipped_kiosk_survives_kill_reboot_and_console() {
    machine_test("the shipped kiosk survives kill reboot and console", QEMU_LIMIT, |test| {
        let mut guest = Qemu::new(test).boot()?;
        let relay = Relay::start(test, &guest)?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        let first = viewer.wait_picture(GAME, "a picture that is not black", colourful)?;
        moved(&viewer, &first)?;

        let old = guest.run("pidof cage")?;
        guest.run(&format!(
            "kill -9 {old}; until new=$(pidof cage) && [ $new != {old} ]; do sleep 0.2; done"
        ))?;
        let first = viewer.wait_picture(GAME, "the game after a kill", colourful)?;
        moved(&viewer, &first)?;

        // The kernel's console, where no compositor runs.
        guest.run(
            "systemctl stop transom-kiosk; printf '\\033[2J\\033[?25l' > /dev/tty1; chvt 1 || true",
        )?;
        for text in ["first", "second"] {
            guest.run(&format!("i=0; while [ $i -lt 20 ]; do echo {text} line $i of the console; i=$((i+1)); done > /dev/tty1"))?;
            // The kernel draws its console a little later than it takes the text.
            let end = Instant::now() + GAME;
            let psnr = loop {
                let screen = guest.screendump()?;
                match viewer.wait_like(&screen, 35.0, SOON).context(text) {
                    Err(_) if Instant::now() < end => {}
                    answer => break answer?,
                }
            };
            println!("console: {psnr:.1} dB");
        }

        drop(viewer);
        let mark = relay.mark();
        guest.reboot()?;
        relay.wait_state(mark, "streaming", GAME)?;
        // ffmpeg gives up after ten silent seconds, a viewer of one's own choice waits.
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        let first = viewer.wait_picture(GAME, "the game after a reboot", colourful)?;
        moved(&viewer, &first)
    });
}

/// Neither black nor a console: the game fills most of the screen with colours.
fn colourful(picture: &Picture) -> bool {
    let pixels = picture.rgb.chunks_exact(3);
    let all = pixels.len();
    let coloured = pixels
        .filter(|p| {
            let (low, high) = (p.iter().min(), p.iter().max());
            high.zip(low).is_some_and(|(h, l)| h - l > 24)
        })
        .count();
    coloured * 5 > all
}

fn moved(viewer: &Viewer, first: &Picture) -> Result<()> {
    viewer
        .wait_picture(Duration::from_secs(60), "a picture that differs", |p| {
            p.psnr(first).is_ok_and(|db| db < 30.0)
        })
        .map(drop)
}
