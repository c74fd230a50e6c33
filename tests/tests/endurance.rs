//! What a long stream costs: nothing that grows.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use transom_tests::{Guest, Relay, Test, Uml, Viewer, machine_test};

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

/// What the agent holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    resident_kib: u64,
    files: u64,
    threads: u64,
    /// Next free GEM handles of its cards, added up.
    handles: u64,
    /// Framebuffers of all cards, whoever made them.
    framebuffers: u64,
}

/// Streams all that changes at once for `until`; what is held then must be what was held
/// at the time `settled`.
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
    let mut early = None;
    let mut round = 0;
    while started.elapsed() < until {
        round += 1;
        if early.is_none() && started.elapsed() >= settled {
            early = Some(held(&guest)?);
        }
        // Everything that makes a capture start over, at a pace that a user might have.
        let size = if round % 2 == 0 { "1280x720" } else { "1366x768" };
        card.tell(&format!("mode {size} XRGB8888"))?;
        card.tell(&format!("cursor {} 50", round % 500))?;
        card.tell("animate screen")?;
        viewer.wait_frames(60, Duration::from_secs(30))?;
    }
    // The same size as when it was looked at first.
    card.tell("mode 1280x720 XRGB8888")?;
    card.tell("animate screen")?;
    viewer.wait_frames(60, Duration::from_secs(30))?;
    let (early, late) = (early.context("too short")?, held(&guest)?);
    println!("{} frames in {round} rounds; {early:?}, then {late:?}", viewer.count());
    ensure!(late.resident_kib <= early.resident_kib + 1024, "memory grew: {early:?}, {late:?}");
    ensure!(late.files == early.files && late.threads == early.threads, "{early:?}, {late:?}");
    // A frame may be in the agent's hands at the moment of looking.
    ensure!(late.handles <= early.handles + 2, "GEM handles leak: {early:?}, {late:?}");
    ensure!(late.framebuffers <= early.framebuffers + 1, "framebuffers leak: {early:?}, {late:?}");
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
