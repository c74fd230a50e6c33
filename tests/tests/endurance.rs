//! What a long stream costs: nothing that grows. And what a game looks like at its end: as it is.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use transom_tests::corpus::Scene;
use transom_tests::{Guest, Picture, Relay, Test, Uml, Viewer, machine_test};

/// The allocator breathes by about that much. A leak of one kilobyte a frame is twice as much in
/// two minutes, and one picture lost per mode change is a hundred megabytes.
const BREATH: u64 = 3 * 1024;
/// What the agent may take at these sizes, in KiB.
const RESIDENT_MAX: u64 = 40 * 1024;
/// What a picture at rest has to reach, through 4:2:0 and back.
const FINE: f64 = 30.0;
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn nothing_grows_in_two_minutes() {
    machine_test("nothing grows in two minutes", 5 * MINUTE, |test| {
        stream(test, MINUTE / 2, 2 * MINUTE)
    });
}

#[test]
#[ignore = "takes ten minutes: make endurance"]
fn nothing_grows_in_ten_minutes() {
    machine_test("nothing grows in ten minutes", 15 * MINUTE, |test| {
        stream(test, MINUTE, 10 * MINUTE)
    });
}

#[test]
#[ignore = "takes hours: make endurance HOURS=1"]
fn a_game_is_shown_as_it_is_after_hours() {
    let hours: f64 = std::env::var("HOURS").ok().and_then(|h| h.parse().ok()).unwrap_or(0.0);
    if hours <= 0.0 {
        println!("skipped: HOURS says for how long, as in make endurance HOURS=1");
        return;
    }
    let play = MINUTE.mul_f64(60.0 * hours);
    machine_test("a game is shown as it is after hours", play + 10 * MINUTE, |test| {
        game(test, play)
    });
}

/// Streams the image's game for so long and holds what a viewer sees at its end, with the game
/// stopped, against the scanout: a reconstruction that drifted would still be wrong.
fn game(test: &Test, play: Duration) -> Result<()> {
    let guest = Uml::new(test).cpus(2).boot()?;
    guest.start_compositor()?;
    let runs = "for i in $(seq 1200); do pidof chocolate-doom && break; sleep 0.1; done";
    guest.sh(runs, 3 * MINUTE)?;
    guest.start_agent(&[])?;
    let relay = Relay::start(test, &guest)?;
    let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
    let started = Instant::now();
    while started.elapsed() < play {
        // Title pages stand still for some seconds; nothing else does.
        viewer.wait_frames(300, 3 * MINUTE).context("the game stalls")?;
    }
    guest.run("kill -STOP $(pidof chocolate-doom)")?;
    // One second: what rests is recorded once.
    guest.sh("/host/bin/scanout /run/scene 1 && cp /run/scene /host/log/scene", MINUTE)?;
    let scene = Scene::read(&test.dir().join("scene"), usize::MAX)?;
    let (width, height) = scene.size;
    let mut pixels = vec![0; (width * height * 4) as usize];
    scene.pictures.iter().for_each(|picture| picture.draw(&mut pixels, width));
    let scanout = Picture::from_fn(width as usize, height as usize, |x, y| {
        let at = (y * width as usize + x) * 4;
        [pixels[at + 2], pixels[at + 1], pixels[at]]
    });
    let db = viewer.wait_like(&scanout, FINE, MINUTE)?;
    println!("{} frames in {:?}; {db:.1} dB at the end", viewer.count(), started.elapsed());
    Ok(())
}

/// What the agent holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    resident_kib: u64,
    files: u64,
    threads: u64,
    /// Next free GEM handles of its cards, added up.
    handles: u64,
    /// Framebuffers of all cards, whoever made them.
    framebuffers: u64,
}

impl Held {
    /// The least of each: a frame or a new size under way takes more for a moment, and a
    /// leak lifts the least of all as well.
    fn least(looks: &[(Duration, Self)]) -> Self {
        let least = |of: fn(&Self) -> u64| looks.iter().map(|(_, h)| of(h)).min().unwrap_or(0);
        Self {
            resident_kib: least(|h| h.resident_kib),
            files: least(|h| h.files),
            threads: least(|h| h.threads),
            handles: least(|h| h.handles),
            framebuffers: least(|h| h.framebuffers),
        }
    }
}

/// Streams all that changes at once for `until`. What is held in the last part, as long as
/// `settled`, must not be more than what was held in the second.
fn stream(test: &Test, settled: Duration, until: Duration) -> Result<()> {
    let guest = Uml::new(test).boot()?;
    guest.start_agent(&[])?;
    let mut card = guest.testcard()?;
    let relay = Relay::start(test, &guest)?;
    card.tell("mode 1280x720 XRGB8888")?;
    card.tell("cursor 100 100")?;
    card.tell("animate screen")?;
    let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
    let started = Instant::now();
    let mut looks = Vec::new();
    for round in 0.. {
        // Everything that makes a capture start over, at a pace that a user might have;
        // looked at in the same size each time.
        for size in ["1366x768", "1280x720"] {
            card.tell(&format!("mode {size} XRGB8888"))?;
            card.tell(&format!("cursor {} 50", round % 500))?;
            card.tell("animate screen")?;
            viewer.wait_frames(60, Duration::from_secs(30))?;
        }
        looks.push((started.elapsed(), held(&guest)?));
        if started.elapsed() >= until {
            break;
        }
    }
    let part = |from: Duration| {
        let looks = looks.iter().skip_while(move |(at, _)| *at < from);
        let looks: Vec<_> = looks.take_while(|(at, _)| *at < from + settled).copied().collect();
        ensure!(looks.len() > 3, "too few looks in {settled:?} from {from:?} on");
        Ok(Held::least(&looks))
    };
    let (early, late) = (part(settled)?, part(until - settled)?);
    let resident: Vec<_> = looks.iter().map(|(_, h)| h.resident_kib).collect();
    println!("{} frames; resident KiB {resident:?}", viewer.count());
    println!("{early:?}, then {late:?}");
    let most = resident.iter().max().copied().unwrap_or(0);
    ensure!(most <= RESIDENT_MAX, "the agent took {most} KiB");
    ensure!(late.resident_kib <= early.resident_kib + BREATH, "memory grew: {early:?}, {late:?}");
    ensure!(late.files <= early.files && late.threads <= early.threads, "{early:?}, {late:?}");
    ensure!(late.handles <= early.handles, "GEM handles leak: {early:?}, {late:?}");
    ensure!(late.framebuffers <= early.framebuffers, "framebuffers leak: {early:?}, {late:?}");
    Ok(())
}

fn held(guest: &Guest) -> Result<Held> {
    let (resident_kib, files, threads) = guest.agent_usage()?;
    let number = |text: String| -> Result<u64> {
        text.lines().try_fold(0, |sum, line| Ok(sum + line.trim().parse::<u64>()?))
    };
    let handles = number(guest.run("/host/bin/handles $(pidof transom-agent)")?)?;
    let lists = "cat /sys/kernel/debug/dri/*/framebuffer | grep -c '^framebuffer' || true";
    let framebuffers = number(guest.run(lists)?).context(lists)?;
    Ok(Held { resident_kib, files, threads, handles, framebuffers })
}
