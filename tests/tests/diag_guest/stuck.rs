//! Faults, and what the doctor says of each.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use transom_protocol::diagnostics::{Check, Verdict};
use transom_protocol::message::Text;
use transom_tests::talk::SOON;
use transom_tests::{Guest, Relay, Uml, Viewer, machine_test};

use crate::LIMIT;
use crate::looks::{check, checks, sample, screenshot};

#[test]
fn a_stuck_stage_is_named_while_all_else_answers() {
    machine_test("a stuck stage is named while all else answers", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate screen")?;
        let relay = Relay::start(test, &guest)?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        viewer.wait_frames(30, SOON)?;
        ensure!(sample(&guest, 100)?.stalled.is_none());

        // One thread of the agent is frozen, wherever it is; again and again, until it is caught
        // at work rather than waiting. It works for a few milliseconds of each picture: a process
        // that wants all of the processor draws those out, so that it is seldom caught otherwise.
        guest.run(
            "mkdir -p /sys/fs/cgroup/a/ice && cd /sys/fs/cgroup/a && \
             echo $(cat /run/agent.pid) >cgroup.procs && echo threaded >ice/cgroup.type && \
             for t in /proc/$(cat /run/agent.pid)/task/*; do \
               grep -q pipeline $t/comm && echo ${t##*/} >ice/cgroup.threads && \
               renice -n 19 -p ${t##*/} >/dev/null; done; cd /",
        )?;
        let end = Instant::now() + 4 * SOON;
        let (mut tries, mut silent) = (0, 0);
        let (stage, elapsed, checks) = loop {
            tries += 1;
            guest.run(
                "(while :; do :; done) & sleep 1; \
                 echo 1 >/sys/fs/cgroup/a/ice/cgroup.freeze; kill $!; wait $! || true",
            )?;
            match stalled(&guest) {
                Ok(Some(found)) => break found,
                Ok(None) => ensure!(Instant::now() < end, "it was never caught at work"),
                // Frozen within one of the moments for which it holds a lock, as in an
                // allocation: no hang in the kernel or in a driver has one.
                Err(error) => {
                    silent += 1;
                    ensure!(silent < 3, "three times: {error:#}");
                }
            }
            guest.run("echo 0 >/sys/fs/cgroup/a/ice/cgroup.freeze")?;
        };
        println!("stalled: {stage} for {elapsed} ms, caught at attempt {tries}");
        ensure!(["capture", "encode"].contains(&stage.as_str()), "{stage}");
        let stages = check(&checks, "stages-move")?;
        ensure!(stages.verdict == Verdict::Fail, "{stages:?}");
        ensure!(stages.found.as_str().contains(stage.as_str()), "{stages:?}");
        // All that does not need the pipeline goes on.
        card.tell("still 5")?;
        ensure!(screenshot(&guest, None)? == card.expected()?);
        ensure!(check(&checks, "encoder-works")?.verdict == Verdict::Pass);
        ensure!(check(&checks, "scanout-readable")?.verdict == Verdict::Pass);

        guest.run("echo 0 >/sys/fs/cgroup/a/ice/cgroup.freeze")?;
        card.tell("animate box")?;
        let end = Instant::now() + SOON;
        while sample(&guest, 100)?.stalled.is_some() {
            ensure!(Instant::now() < end, "it stays stalled");
        }
        Ok(())
    });
}

/// The stage that stands still, for how many milliseconds, and what the doctor says of all.
fn stalled(guest: &Guest) -> Result<Option<(Text, u64, Vec<Check>)>> {
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        if let Some((stage, elapsed)) = sample(guest, 500)?.stalled {
            return Ok(Some((stage, elapsed, checks(guest)?)));
        }
    }
    Ok(None)
}

#[test]
fn the_doctor_names_what_is_wrong() {
    machine_test("the doctor names what is wrong", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.run("export TRANSOM_CARD=/dev/dri/card9")?;
        guest.start_agent(&[])?;
        let found = checks(&guest)?;
        ensure!(check(&found, "crtc-lit")?.verdict == Verdict::Fail);
        ensure!(check(&found, "scanout-readable")?.verdict == Verdict::Skip);
        ensure!(check(&found, "encoder-works")?.verdict == Verdict::Pass);
        ensure!(check(&found, "agent")?.verdict == Verdict::Pass);
        ensure!(check(&found, "vsock-transport")?.found.as_str().contains("virtio"));

        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("still 5")?;
        let found = checks(&guest)?;
        let lit = check(&found, "scanout-card")?;
        ensure!(lit.verdict == Verdict::Fail, "{lit:?}");
        ensure!(lit.found.as_str().contains("card9") && lit.found.as_str().contains("vkms"));
        ensure!(lit.remedy.as_str().contains("TRANSOM_CARD"), "{lit:?}");

        guest.kill_agent("TERM")?;
        guest.run("unset TRANSOM_CARD; rm /dev/uinput; mount -t tmpfs -o size=2M x /home; head -c 4M /dev/zero >/home/x; true")?;
        guest.start_agent(&[])?;
        let found = checks(&guest)?;
        ensure!(check(&found, "scanout-card")?.verdict == Verdict::Pass);
        ensure!(check(&found, "crtc-lit")?.verdict == Verdict::Pass);
        let still = check(&found, "frames-change")?;
        ensure!(still.verdict == Verdict::Warn, "{still:?}");
        let uinput = check(&found, "uinput-usable")?;
        ensure!(uinput.verdict == Verdict::Fail && uinput.remedy.as_str().contains("modprobe"));
        let disk = check(&found, "disk-space")?;
        ensure!(disk.verdict == Verdict::Fail && disk.found.as_str().contains("/home"), "{disk:?}");
        card.tell("animate box")?;
        guest.run("umount /home")?;
        let found = checks(&guest)?;
        ensure!(check(&found, "frames-change")?.verdict == Verdict::Pass);
        ensure!(check(&found, "disk-space")?.verdict == Verdict::Pass);
        Ok(())
    });
}
