//! Picture truth: what a viewer shows is what the guest's screen shows.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use transom_tests::card::{Format, pattern, read_number};
use transom_tests::{Display, Guest, Picture, Qemu, Relay, Test, Uml, Viewer, machine_test};

/// A viewer may need an IDR first, which a relay asks for every two seconds.
const SOON: Duration = Duration::from_secs(15);
/// What a still picture has to reach.
const TRUE: f64 = 35.0;
/// Of the brightness alone, where the colours are more than 4:2:0 can hold.
const TRUE_LUMA: f64 = 38.0;

#[test]
fn known_pictures_arrive_in_every_format_and_size() {
    machine_test(
        "known pictures arrive in every format and size",
        Duration::from_secs(180),
        |test| {
            let guest = Uml::new(test).boot()?;
            guest.start_agent(&[])?;
            let mut card = guest.testcard()?;
            card.tell("mode 1280x720 XRGB8888")?;
            card.tell("still 1")?;
            let relay = Relay::start(test, &guest)?;
            let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
            let psnr = viewer.wait_like(&pattern(1, 1280, 720), TRUE, SOON)?;
            println!("1280x720 XRGB8888: {psnr:.1} dB");
            let mut seed = 1;
            for (size, format, extra) in [
                ((1366, 768), Format::Xrgb8888, 0),
                // Rows that are longer than the picture, by an odd number of pixels.
                ((1280, 720), Format::Xrgb8888, 13),
                ((1280, 720), Format::Argb8888, 0),
                ((1280, 720), Format::Xbgr8888, 0),
                ((1280, 720), Format::Abgr8888, 0),
                ((1024, 768), Format::Rgb565, 0),
            ] {
                seed += 1;
                let (w, h) = size;
                card.tell(&format!("mode {w}x{h} {} {extra}", format.name()))?;
                card.tell(&format!("still {seed}"))?;
                let expected = card.expected()?;
                let what = format!("{w}x{h} {} +{extra}", format.name());
                let psnr = viewer.wait_like(&expected, TRUE, SOON).context(what.clone())?;
                println!("{what}: {psnr:.1} dB");
            }
            Ok(())
        },
    );
}

#[test]
fn the_cursor_and_drawing_without_flips_are_seen() {
    machine_test(
        "the cursor and drawing without flips are seen",
        Duration::from_secs(120),
        |test| {
            let guest = Uml::new(test).boot()?;
            guest.start_agent(&[])?;
            let mut card = guest.testcard()?;
            card.tell("mode 1280x720 XRGB8888")?;
            card.tell("still 5")?;
            let relay = Relay::start(test, &guest)?;
            let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
            viewer.wait_like(&card.expected()?, TRUE, SOON)?;

            // Partly outside, too: a cursor's corner is where its hotspot is not.
            for (x, y) in [(400, 300), (401, 333), (1250, 700), (-20, 100)] {
                card.tell(&format!("cursor {x} {y}"))?;
                let expected = card.expected()?;
                let (px, py) = (x.max(0) as usize, y.max(0) as usize);
                let wanted = expected.part((px, py), (64, 64));
                viewer
                    .wait_picture(SOON, "the cursor", |p| {
                        p.part((px, py), (64, 64)).psnr(&wanted).is_ok_and(|db| db > 25.0)
                    })
                    .with_context(|| format!("cursor at {x}, {y}"))?;
            }
            card.tell("cursor off")?;
            viewer.wait_like(&card.expected()?, TRUE, SOON)?;

            for _ in 0..5 {
                let number: u32 = card.tell("scribble 80")?.parse()?;
                // ffmpeg shows a frame when the next one begins: here that is the next IDR.
                viewer.wait_picture(SOON, "what was drawn", |picture| {
                    read_number(picture).is_ok_and(|n| n == number)
                })?;
            }
            viewer.wait_like(&card.expected()?, TRUE, SOON).map(drop)
        },
    );
}

/// Hyper-V's card has no cursor plane: compositors draw the cursor into the picture, and the agent has
/// nothing to lay over it.
#[test]
fn a_card_without_a_cursor_plane_is_shown_as_it_is() {
    machine_test(
        "a card without a cursor plane is shown as it is",
        Duration::from_secs(120),
        |test| {
            let guest = Uml::new(test).without_cursor_plane().boot()?;
            guest.start_agent(&[])?;
            let mut card = guest.testcard()?;
            card.tell("mode 1280x720 XRGB8888")?;
            ensure!(card.tell("cursor 10 10").is_err(), "there is a cursor plane after all");
            card.tell("still 3")?;
            let info = Relay::command().args(["diag", &guest.address(), "info"]).output()?;
            let info = String::from_utf8_lossy(&info.stdout).into_owned();
            let planes: Vec<_> =
                info.lines().filter(|l| l.contains("plane.") && l.contains("type")).collect();
            ensure!(planes.len() == 1 && planes[0].ends_with("primary"), "planes: {planes:?}");
            let relay = Relay::start(test, &guest)?;
            let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
            viewer.wait_like(&pattern(3, 1280, 720), TRUE, SOON)?;
            // Drawn into the buffer that is shown, as a cursor is by who has no plane for it.
            let number: u32 = card.tell("scribble 80")?.parse()?;
            viewer.wait_picture(SOON, "what was drawn", |picture| {
                read_number(picture).is_ok_and(|n| n == number)
            })?;
            Ok(())
        },
    );
}

#[test]
fn an_animation_moves() {
    machine_test("an animation moves", Duration::from_secs(120), |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate screen")?;
        let relay = Relay::start(test, &guest)?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        let mut last = 0;
        for _ in 0..20 {
            viewer.wait_frames(1, SOON)?;
            let (picture, _) = viewer.latest().context("a frame was waited for")?;
            let number = read_number(&picture)?;
            ensure!(number > last, "frame {number} came after frame {last}");
            last = number;
        }
        Ok(())
    });
}

#[test]
fn virtio_gpu_shows_the_truth_at_1280x720() {
    game("virtio-gpu at 1280x720", Display::VirtioGpu { width: 1280, height: 720 });
}

#[test]
fn virtio_gpu_shows_the_truth_at_1366x768() {
    game("virtio-gpu at 1366x768", Display::VirtioGpu { width: 1366, height: 768 });
}

#[test]
fn bochs_shows_the_truth_at_1280x720() {
    game("bochs at 1280x720", Display::Bochs { width: 1280, height: 720 });
}

#[test]
fn bochs_shows_the_truth_at_1366x768() {
    game("bochs at 1366x768", Display::Bochs { width: 1366, height: 768 });
}

/// Stops the game; what the machine shows from then on.
fn stop_game(guest: &mut Guest) -> Result<Picture> {
    guest.run("kill -STOP $(pidof chocolate-doom)")?;
    // What the game had handed to the compositor may still be on its way.
    let mut still = guest.screendump()?;
    loop {
        guest.run("sleep 0.5")?;
        let again = guest.screendump()?;
        if std::mem::replace(&mut still, again.clone()) == again {
            return Ok(still);
        }
    }
}

/// The game on the shipped image: it moves, and stopped it looks as on the machine's screen.
fn game(name: &str, display: Display) {
    let run = |test: &Test| -> Result<()> {
        let mut guest = Qemu::new(test).display(display).boot()?;
        let relay = Relay::start(test, &guest)?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        wait_for_game(&guest)?;
        let (Display::VirtioGpu { width, height } | Display::Bochs { width, height }) = display;
        let size = (width as usize, height as usize);
        let in_size = |p: &Picture| (p.width, p.height) == size;
        let first = viewer.wait_picture(Duration::from_secs(120), "the game's size", in_size)?;
        viewer.wait_picture(Duration::from_secs(60), "another picture", |p| {
            p.psnr(&first).is_ok_and(|db| db < 30.0)
        })?;
        let mut moments = 0;
        let psnr = loop {
            let still = stop_game(&mut guest)?;
            let error = match viewer.wait_like(&still, TRUE, SOON) {
                Ok(psnr) => break psnr,
                Err(error) => error,
            };
            // A screen full of red flashes loses that much by 4:2:0 alone, before any encoder.
            // Its brightness has to be true even so; then another moment is taken.
            moments += 1;
            let (seen, _) = viewer.latest().context("it has decoded some")?;
            let luma = seen.luma().psnr(&still.luma())?;
            ensure!(moments < 4 && luma >= TRUE_LUMA, "{luma:.1} dB of luma; {error:#}");
            println!("{error:#}, {luma:.1} dB of luma: another moment");
            guest.run("kill -CONT $(pidof chocolate-doom)")?;
            viewer.wait_picture(Duration::from_secs(60), "another moment", |p| {
                p.psnr(&still).is_ok_and(|db| db < 30.0)
            })?;
        };
        println!("{display:?}: {psnr:.1} dB");
        Ok(())
    };
    machine_test(name, Duration::from_secs(600), run);
}

fn wait_for_game(guest: &Guest) -> Result<()> {
    let wait = "until pidof chocolate-doom; do sleep 0.5; done";
    guest.sh(wait, Duration::from_secs(120)).map(drop)
}
