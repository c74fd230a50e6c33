//! To play: the shipped image, a link, a browser, and the game in the guest.
//!
//! What the page shows is held against what QEMU's own display shows, and what is done at the page
//! against what the game draws and against the guest's own input devices.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use transom_tests::{Browser, Guest, Picture, Qemu, Test, Web, machine_test, release_dir};

const LIMIT: Duration = Duration::from_secs(600);
/// For a game in an emulated guest, under load.
const GAME: Duration = Duration::from_secs(120);
/// What the page has to reach after WebRTC, in dB.
const TRUE: f64 = 30.0;
/// What the guest calls a gamepad of the page.
const PAD: &str = "Microsoft X-Box 360 pad";
/// Where the guest writes down what its input devices say.
const LOG: &str = "/tmp/evlog.log";

#[test]
fn a_link_opens_the_game_and_the_page_steers_it() {
    machine_test("a link opens the game and the page steers it", LIMIT, |test| {
        let began = Instant::now();
        let step = |what: &str| println!("{:6.1} s  {what}", began.elapsed().as_secs_f64());
        let mut guest = Qemu::new(test).disk(&evlog(test)?).boot()?;
        step("booted");
        let web = Web::start(test, &guest, &[])?;
        let mut page = Browser::start(test)?;
        page.open(&web.link_as("control")?)?;
        page.wait_text("#badge", "you have control")?;
        page.wait_frames(30)?;
        step("the page has control, and pictures come");
        log_events(&guest)?;
        let title = title(&mut guest)?;
        step("the game is there");

        // What the page shows is what the guest shows: the game is stopped for as long.
        guest.run("kill -STOP $(pidof chocolate-doom)")?;
        let db = wait_same(&mut guest, &mut page)?;
        guest.run("kill -CONT $(pidof chocolate-doom)")?;
        step(&format!("the page shows the guest's screen: {db:.1} dB"));

        page.tell_to("focus")?;
        steer(&mut guest, &mut page, &title)?;
        step("keys steer the game's menu");
        wait_event(&guest, "Transom keyboard: 1 1 1 ")?;
        wait_event(&guest, "Transom keyboard: 1 1 0 ")?;

        page.tell(&json!({ "do": "move", "x": 640, "y": 400 }))?;
        wait_event(&guest, "Transom tablet: 3 0 ")?;
        page.tell(&json!({ "do": "mouse", "button": "right" }))?;
        wait_event(&guest, "Transom tablet: 1 273 1 ")?;
        wait_event(&guest, "Transom tablet: 1 273 0 ")?;
        step("the mouse arrives");

        page.tell_to("plug")?;
        wait_event(&guest, &format!("+ {PAD}"))?;
        // Games of the kiosk's user may open it.
        let group = "stat -c %G $(grep -l X-Box /sys/class/input/event*/device/name | sed 's|/sys/class|/dev|; s|/device/name||')";
        guest.sh(&format!("until [ \"$({group})\" = kiosk ]; do sleep 0.2; done"), GAME)?;
        page.tell(&json!({ "do": "pad", "button": 0, "pressed": true }))?;
        wait_event(&guest, &format!("{PAD}: 1 304 1 "))?;
        page.tell(&json!({ "do": "pad", "button": 0, "pressed": false, "axis": 0, "value": 1 }))?;
        wait_event(&guest, &format!("{PAD}: 1 304 0 "))?;
        wait_event(&guest, &format!("{PAD}: 3 0 32767 "))?;
        step("a gamepad arrives");

        let complaints = page.tell_to("complaints")?;
        ensure!(complaints == json!([]), "{complaints}");
        Ok(())
    });
}

/// Waits until the page shows what the machine does, and returns how well in dB. What the game drew
/// last may still be on its way to the screen: the machine is asked again each time.
fn wait_same(guest: &mut Guest, page: &mut Browser) -> Result<f64> {
    let end = Instant::now() + GAME;
    loop {
        let screen = guest.screendump()?;
        let db = page.picture()?.psnr(&screen).unwrap_or_default();
        if db >= TRUE {
            return Ok(db);
        }
        ensure!(Instant::now() < end, "the page shows something else: {db:.1} dB, want {TRUE}");
    }
}

/// The program that writes events down, as a disk: the image has no such thing, and no network.
fn evlog(test: &Test) -> Result<PathBuf> {
    let program = release_dir().join("evlog");
    let mut bytes = std::fs::read(&program)
        .with_context(|| format!("no {}: run cargo build -p transom-tests", program.display()))?;
    // Disks have sectors; a program does not mind zeros behind it.
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    let disk = test.dir().join("evlog.raw");
    std::fs::File::create(&disk)?.write_all(&bytes)?;
    Ok(disk)
}

fn log_events(guest: &Guest) -> Result<()> {
    guest.run("cat /dev/vdb >/tmp/evlog && chmod +x /tmp/evlog")?;
    guest.run(&format!("setsid /tmp/evlog </dev/null >{LOG} 2>&1 &"))?;
    ["keyboard", "mouse", "tablet", "touch screen"]
        .iter()
        .try_for_each(|device| wait_event(guest, &format!("+ Transom {device}")))
}

/// Waits until an input device of the guest has said this.
fn wait_event(guest: &Guest, line: &str) -> Result<()> {
    guest
        .sh(&format!("until grep -q '^{line}' {LOG}; do sleep 0.1; done"), GAME)
        .map(drop)
        .with_context(|| {
            let said = guest.run(&format!("tail -n 20 {LOG}")).unwrap_or_default();
            format!("no event '{line}' in the guest, whose devices said:\n{said}")
        })
}

/// Waits for the game's own picture.
fn title(guest: &mut Guest) -> Result<Picture> {
    guest.sh("until pidof chocolate-doom; do sleep 0.2; done", GAME)?;
    // The compositor has all devices, by way of seatd.
    let taken = "ls -l /proc/$(pidof cage)/fd | grep -c /dev/input/event";
    guest.sh(
        &format!(
            "until [ $({taken}) -ge $(ls -d /sys/class/input/event* | wc -l) ]; do sleep 0.2; done"
        ),
        GAME,
    )?;
    let end = Instant::now() + GAME;
    loop {
        let picture = guest.screendump()?;
        if coloured(&picture) > 0.2 {
            return Ok(picture);
        }
        ensure!(Instant::now() < end, "the game is not on the screen");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Starts a game by keys of the page, stops it by its menu, and moves in that menu.
fn steer(guest: &mut Guest, page: &mut Browser, title: &Picture) -> Result<()> {
    let press =
        |page: &mut Browser, key: &str| page.tell(&json!({ "do": "press", "key": key })).map(drop);
    let end = Instant::now() + 2 * GAME;
    // New game, first episode, the level that is offered; in its menu the game stands still.
    for key in ["Escape", "Enter", "Enter", "Enter"] {
        press(page, key)?;
    }
    while changed_rows(title, &guest.screendump()?) < title.height / 2 {
        ensure!(Instant::now() < end, "no key reaches the game");
        std::thread::sleep(Duration::from_millis(500));
    }
    // Stopped before its first step, the game would draw no floor over what was there before.
    std::thread::sleep(Duration::from_secs(3));
    press(page, "Escape")?;
    let (bar, most) = (title.height / 8, title.height / 3);
    // The skull beside the menu blinks where it is; another line of the menu is further away.
    let mut keys = ["ArrowDown", "ArrowUp"].into_iter().cycle();
    loop {
        ensure!(Instant::now() < end, "the game's menu does not follow the keys");
        let menu = resting(guest, bar, end)?;
        if changed_rows(title, &menu) < title.height / 2 {
            continue;
        }
        press(page, keys.next().unwrap_or("ArrowDown"))?;
        // The game of an emulated guest under load answers after seconds.
        let patience = end.min(Instant::now() + Duration::from_secs(20));
        while Instant::now() < patience {
            let rows = changed_rows(&menu, &guest.screendump()?);
            if (bar..most).contains(&rows) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// A picture that rests, but for what is not higher than `bar`.
fn resting(guest: &mut Guest, bar: usize, end: Instant) -> Result<Picture> {
    let mut last = guest.screendump()?;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let picture = guest.screendump()?;
        if changed_rows(&last, &picture) < bar {
            return Ok(picture);
        }
        ensure!(Instant::now() < end, "the screen never rests");
        last = picture;
    }
}

/// Rows of the screen in which something differs.
fn changed_rows(one: &Picture, other: &Picture) -> usize {
    let rows = |picture: &Picture| {
        picture.rgb.chunks_exact(3 * picture.width).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    rows(one).iter().zip(rows(other)).filter(|(one, other)| **one != *other).count()
}

/// The share of pixels that are not grey.
fn coloured(picture: &Picture) -> f64 {
    let is = |p: &&[u8]| p.iter().max().zip(p.iter().min()).is_some_and(|(h, l)| h - l > 24);
    let all = picture.rgb.len() / 3;
    picture.rgb.chunks_exact(3).filter(is).count() as f64 / all as f64
}
