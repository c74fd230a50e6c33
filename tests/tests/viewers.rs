//! Ordinary viewers decode the stream for half a minute without a word of complaint.

use std::time::{Duration, Instant};

use anyhow::ensure;
use transom_tests::{Relay, Test, Uml, Viewer, machine_test};

const LIMIT: Duration = Duration::from_secs(120);
const LONG: Duration = Duration::from_secs(30);

#[test]
fn ffmpeg_decodes_half_a_minute() {
    machine_test("ffmpeg decodes half a minute", LIMIT, |test| watch(test, Viewer::ffmpeg));
}

#[test]
fn gstreamer_decodes_half_a_minute() {
    machine_test("gstreamer decodes half a minute", LIMIT, |test| watch(test, Viewer::gstreamer));
}

fn watch(
    test: &Test,
    viewer: fn(&Test, &std::path::Path) -> anyhow::Result<Viewer>,
) -> anyhow::Result<()> {
    let guest = Uml::new(test).boot()?;
    guest.start_agent(&[])?;
    let mut card = guest.testcard()?;
    card.tell("mode 1280x720 XRGB8888")?;
    card.tell("animate screen")?;
    let relay = Relay::start(test, &guest)?;
    let viewer = viewer(test, &relay.sdp())?;
    viewer.wait_frames(1, Duration::from_secs(15))?;
    let (started, first) = (Instant::now(), viewer.count());
    while started.elapsed() < LONG {
        viewer.wait_frames(10, Duration::from_secs(5))?;
    }
    let fps = (viewer.count() - first) as f64 / started.elapsed().as_secs_f64();
    println!("{fps:.1} fps");
    let complaints = viewer.complaints();
    ensure!(complaints.is_empty(), "{} complaints: {complaints:#?}", complaints.len());
    Ok(())
}
