//! Faults in a booted guest, and what the doctor says of each.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use transom_tests::{Guest, Relay, Test, Uml, Viewer, machine_test, va};

use crate::LIMIT;
use crate::ask::{SOON, check, diag, read_png};

fn doctor(test: &Test, guest: &Guest) -> Result<(i32, Value)> {
    let said = diag(test, guest, &["doctor", "--json"])?;
    let report = said.json()?.pop().with_context(|| format!("{said:?}"))?;
    Ok((said.status, report))
}

/// The check failed, and says what to do.
fn fails(report: &Value, name: &str) -> Result<()> {
    let check = check(report, name)?;
    ensure!(check["verdict"] == "fail", "{check:#}");
    ensure!(check["remedy"].as_str().is_some_and(|text| !text.is_empty()), "{check:#}");
    Ok(())
}

fn is(report: &Value, name: &str, verdict: &str) -> Result<()> {
    let check = check(report, name)?;
    ensure!(check["verdict"] == verdict, "{check:#}");
    Ok(())
}

#[test]
fn the_doctor_names_the_layer_that_is_gone() {
    machine_test("the doctor names the layer that is gone", LIMIT, |test| {
        let mut guest = Uml::new(test).boot()?;
        // The kernel answers, nobody listens.
        let (status, report) = doctor(test, &guest)?;
        ensure!(status == 1);
        is(&report, "guest-kernel", "pass")?;
        fails(&report, "agent-listens")?;

        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate box")?;
        let (status, report) = doctor(test, &guest)?;
        ensure!(status != 1, "{report:#}");
        for name in [
            "agent-answers",
            "versions",
            "crtc-lit",
            "scanout-readable",
            "frames-change",
            "encoder-works",
            "vsock-round-trip",
            "clock-offset",
        ] {
            is(&report, name, "pass")?;
        }
        check(&report, "vsock-throughput")?;

        guest.run("kill -STOP $(cat /run/agent.pid)")?;
        let (status, report) = doctor(test, &guest)?;
        ensure!(status == 1);
        is(&report, "agent-listens", "pass")?;
        fails(&report, "agent-answers")?;
        guest.run("kill -CONT $(cat /run/agent.pid)")?;
        is(&doctor(test, &guest)?.1, "agent-answers", "pass")?;

        // The whole guest stands still.
        guest.process().signal(Signal::SIGSTOP)?;
        let (status, report) = doctor(test, &guest)?;
        ensure!(status == 1);
        is(&report, "hypervisor", "pass")?;
        fails(&report, "guest-kernel")?;
        guest.process().signal(Signal::SIGCONT)?;

        // The vsock device is taken away on the host's side.
        let socket = guest.vsock()?;
        kill(daemon(&socket)?, Signal::SIGKILL).context("the daemon")?;
        let gone = || std::os::unix::net::UnixStream::connect(&socket).is_err();
        let end = std::time::Instant::now() + SOON;
        while !gone() {
            ensure!(std::time::Instant::now() < end, "the daemon does not go");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let (status, report) = doctor(test, &guest)?;
        ensure!(status == 1);
        is(&report, "vsock-socket", "pass")?;
        fails(&report, "hypervisor")?;
        std::fs::remove_file(&socket)?;
        fails(&doctor(test, &guest)?.1, "vsock-socket")
    });
}

/// The process whose command line names this socket.
fn daemon(socket: &std::path::Path) -> Result<Pid> {
    let wanted = format!("uds-path={}", socket.display());
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = line.split(|&b| b == 0).map(String::from_utf8_lossy);
        let words: Vec<_> = words.collect();
        if words.first().is_some_and(|word| word.ends_with("vhost-device-vsock"))
            && words.iter().any(|word| word.contains(&wanted))
        {
            return Ok(Pid::from_raw(pid));
        }
    }
    anyhow::bail!("no process has {wanted}")
}

#[test]
fn the_doctor_names_the_stage_that_is_at_fault() {
    machine_test("the doctor names the stage that is at fault", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        // There is a VA driver, which the environment breaks, and the scanout is on another card
        // than the agent was told.
        va::equip(&guest, "radeonsi")?;
        guest.run(
            "export LIBVA_DRIVER_NAME=nonsense TRANSOM_CARD=/dev/dri/card9 TRANSOM_ENCODER=auto",
        )?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate box")?;
        let (status, report) = doctor(test, &guest)?;
        ensure!(status == 1);
        fails(&report, "scanout-card")?;
        guest.kill_agent("TERM")?;
        guest.run("unset TRANSOM_CARD")?;
        guest.start_agent(&[])?;
        // With a viewer, an encoder is chosen: software, and the doctor says why.
        {
            let relay = Relay::start(test, &guest)?;
            Viewer::ffmpeg(test, &relay.sdp())?.wait_frames(5, SOON)?;
            let report = doctor(test, &guest)?.1;
            is(&report, "scanout-card", "pass")?;
            is(&report, "encoder-works", "pass")?;
            is(&report, "va-driver", "warn")?;
        }

        guest.run("mount -t tmpfs -o size=1M x /home; head -c 2M /dev/zero >/home/full; true")?;
        let check = check(&doctor(test, &guest)?.1, "disk-space")?;
        ensure!(
            check["verdict"] != "pass"
                && check["found"].as_str().is_some_and(|f| f.contains("/home")),
            "{check:#}"
        );
        guest.run("umount /home")?;

        // The compositor is gone, and its picture with it.
        guest.run("kill -9 $(pidof testcard)")?;
        let (status, report) = doctor(test, &guest)?;
        ensure!(status == 1);
        is(&report, "agent-answers", "pass")?;
        fails(&report, "crtc-lit")?;
        is(&report, "scanout-readable", "skip")
    });
}

/// Plugs in a card that shows nothing; its node.
fn dark_card(guest: &Guest) -> Result<String> {
    let before = guest.run("ls -1 /dev/dri/card*")?;
    // drivers/gpu/drm/vkms: one of each, connected with one another.
    guest.run(
        "cd /sys/kernel/config/vkms && mkdir dark && cd dark && \
         mkdir planes/p crtcs/c encoders/e connectors/o && echo 1 >planes/p/type && \
         ln -s $PWD/crtcs/c planes/p/possible_crtcs/ && \
         ln -s $PWD/crtcs/c encoders/e/possible_crtcs/ && \
         ln -s $PWD/encoders/e connectors/o/possible_encoders/ && echo 1 >enabled; \
         status=$?; cd /; [ $status = 0 ]",
    )?;
    let after = guest.run("ls -1 /dev/dri/card*")?;
    let new = after.lines().find(|node| !before.lines().any(|old| old == *node));
    new.map(str::to_owned).with_context(|| format!("{before} before, {after} after"))
}

#[test]
fn the_doctor_names_the_card_that_is_lit() {
    machine_test("the doctor names the card that is lit", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        let lit = guest.run("basename $(ls -d /sys/devices/*/vkms/drm/card*)")?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("still 3")?;
        let dark = dark_card(&guest)?;
        guest.run(&format!("export TRANSOM_CARD={dark}"))?;
        guest.start_agent(&[])?;
        let (status, report) = doctor(test, &guest)?;
        ensure!(status == 1);
        is(&report, "crtc-lit", "pass")?;
        fails(&report, "scanout-card")?;
        let found = check(&report, "scanout-card")?["found"].to_string();
        ensure!(found.contains(&dark) && found.contains(&lit), "{found}");
        // The card can be looked at all the same.
        let file = test.dir().join("lit.png");
        let number = lit.trim_start_matches("card");
        let name = file.to_str().context("a text")?;
        diag(test, &guest, &["screenshot", name, "--card", number])?.fine()?;
        ensure!(read_png(&file)? == card.expected()?, "the picture differs");

        guest.kill_agent("TERM")?;
        guest.run("unset TRANSOM_CARD")?;
        guest.start_agent(&[])?;
        is(&doctor(test, &guest)?.1, "scanout-card", "pass")
    });
}
