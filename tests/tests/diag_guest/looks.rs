//! Facts, checks, figures, logs and pictures: real content, with and without a viewer.

use anyhow::{Context, Result, bail, ensure};
use transom_protocol::BitRate;
use transom_protocol::diagnostics::{
    Check, GuestDiagnostics, HostDiagnostics, Line, LogLevel, LogSource, Outcome, Request, Sample,
    Setting, Value, Verdict,
};
use transom_protocol::message::Text;
use transom_tests::talk::{SOON, Talk};
use transom_tests::{Guest, Picture, Relay, Uml, Viewer, machine_test};

use crate::LIMIT;

/// Far more records than fit the kernel's ring and all buffers on the way.
const FLOOD: u64 = 4_000;

fn logs(source: LogSource, last: u32, follow: bool) -> Request {
    Request::Logs { source, level: LogLevel(7), since: 0, last, follow }
}

fn facts(guest: &Guest) -> Result<Vec<(String, Value)>> {
    let said = Talk::ask(guest, Request::Info)?.done()?;
    said.into_iter()
        .map(|(message, _)| match message {
            GuestDiagnostics::Fact { path, value } => Ok((path.to_string(), value)),
            other => bail!("{other:?} among facts"),
        })
        .collect()
}

pub fn checks(guest: &Guest) -> Result<Vec<Check>> {
    let said = Talk::ask(guest, Request::Doctor)?.done()?;
    said.into_iter()
        .map(|(message, _)| match message {
            GuestDiagnostics::Check(check) => Ok(check),
            other => bail!("{other:?} among checks"),
        })
        .collect()
}

/// A check by its name, printed for whoever reads along.
pub fn check(checks: &[Check], name: &str) -> Result<Check> {
    let check = checks.iter().find(|check| check.name.as_str() == name).cloned();
    let check = check.with_context(|| format!("no check {name} among {checks:?}"))?;
    println!("{name}: {:?}: {} [{}]", check.verdict, check.found, check.remedy);
    Ok(check)
}

pub fn sample(guest: &Guest, interval: u32) -> Result<Sample> {
    let said = Talk::ask(guest, Request::Stats { interval, count: 1 })?.done()?;
    match &said[..] {
        [(GuestDiagnostics::Sample(sample), _)] => Ok((**sample).clone()),
        other => bail!("{other:?} instead of one sample"),
    }
}

pub fn screenshot(guest: &Guest, card: Option<u8>) -> Result<Picture> {
    let mut talk = Talk::ask(guest, Request::Screenshot { card })?;
    match talk.hear()? {
        (GuestDiagnostics::Picture { width, height }, _) => {
            let (width, height) = (width as usize, height as usize);
            let rgb = talk.bytes()?;
            ensure!(rgb.len() == width * height * 3, "{} bytes of {width}x{height}", rgb.len());
            Ok(Picture { width, height, rgb })
        }
        other => bail!("{other:?} instead of a picture"),
    }
}

#[test]
fn a_guest_tells_about_itself() {
    machine_test("a guest tells about itself", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.run("export TRANSOM_SECRET=hunter2 TRANSOM_FPS=50")?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("still 3")?;

        let facts = facts(&guest)?;
        let fact = |path: &str| {
            let found = facts.iter().find(|(p, _)| p == path);
            found.map(|(_, value)| value).with_context(|| format!("no fact {path} in {facts:#?}"))
        };
        let text = |value: &str| Value::Text(Line::new(value));
        ensure!(*fact("kernel.release")? == text(&guest.run("uname -r")?));
        ensure!(*fact("machine.hypervisor")? == text("user-mode Linux"));
        let boot = guest.run("cat /proc/sys/kernel/random/boot_id")?;
        ensure!(*fact("kernel.boot-id")? == text(&boot));
        ensure!(*fact("settings.TRANSOM_FPS")? == text("50"));
        ensure!(*fact("settings.TRANSOM_SECRET")? == text("(set)"));
        ensure!(*fact("cpu.count")? == Value::Number(1));
        ensure!(matches!(fact("memory.total")?, Value::Number(900_000_000..1_100_000_000)));
        let lit = facts
            .iter()
            .any(|(path, value)| path.ends_with("framebuffer.format") && *value == text("XR24"));
        ensure!(lit, "no framebuffer in {facts:#?}");
        let size = |p: &str| p.ends_with("framebuffer.size");
        ensure!(facts.iter().any(|(p, v)| size(p) && *v == text("1280x720")), "{facts:#?}");
        ensure!(facts.iter().any(|(p, v)| p.ends_with(".driver") && *v == text("vkms")));

        let top = Talk::ask(&guest, Request::Top { count: 5 })?.done()?;
        ensure!(top.len() == 5, "{top:?}");
        let all = Talk::ask(&guest, Request::Top { count: 1000 })?.done()?;
        let agent = all.iter().any(|(message, _)| {
            matches!(message, GuestDiagnostics::Process(process)
                if process.command.as_str().contains("transom-agent")
                    && process.user.as_str() == "root" && process.memory > 1 << 20)
        });
        ensure!(agent, "{all:?}");

        // No viewer yet, and nothing of the pipeline has looked at the screen.
        ensure!(screenshot(&guest, None)? == card.expected()?, "the still picture differs");
        card.tell("cursor 100 50")?;
        ensure!(screenshot(&guest, None)? == card.expected()?, "the cursor differs");
        for format in ["ARGB8888", "RGB565"] {
            card.tell(&format!("mode 1366x768 {format} 32"))?;
            card.tell("still 4")?;
            ensure!(screenshot(&guest, None)? == card.expected()?, "{format} differs");
        }
        let why = Talk::ask(&guest, Request::Screenshot { card: Some(77) })?.why()?;
        ensure!(why.contains("card77"), "{why}");
        card.tell("off")?;
        let why = Talk::ask(&guest, Request::Screenshot { card: None })?.why()?;
        ensure!(why.contains("no card shows anything"), "{why}");
        // It never holds the card: the compositor takes it as it likes.
        card.tell("release")?;
        card.tell("acquire")?;
        card.tell("on")?;
        Ok(())
    });
}

#[test]
fn figures_and_settings_follow_the_stream() {
    machine_test("figures and settings follow the stream", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate box")?;
        let idle = sample(&guest, 200)?;
        ensure!(!idle.watched && idle.encoded_rate == 0, "{idle:?}");
        let relay = Relay::start(test, &guest)?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        viewer.wait_frames(60, SOON)?;

        let busy = sample(&guest, 1000)?;
        println!("{busy:#?}");
        ensure!(busy.watched && busy.display.as_str() == "lit", "{busy:?}");
        ensure!((busy.width, busy.height) == (1280, 720), "{busy:?}");
        ensure!(busy.encoded_rate > 1000 && busy.seen_rate > 1000, "{busy:?}");
        ensure!(busy.bitrate > 1000 && busy.encode.p50 > 0, "{busy:?}");
        ensure!(busy.encode.p50 <= busy.encode.p95 && busy.encode.p95 <= busy.encode.p99);
        ensure!((1..200_000).contains(&busy.damage), "a box is a small part: {busy:?}");
        ensure!(busy.agent_cpu > 0 && busy.agent_memory > 1 << 20, "{busy:?}");
        ensure!(busy.stalled.is_none() && busy.processors == 1, "{busy:?}");
        let pictures = screenshot(&guest, None)?;
        ensure!((pictures.width, pictures.height) == (1280, 720));

        for setting in [
            Setting::BitRate(BitRate(3_000_000)),
            Setting::FrameRate(20),
            Setting::Encoder(Text::new("openh264")),
        ] {
            Talk::ask(&guest, Request::Set(setting))?.done()?;
        }
        let wrong = [
            (Setting::Encoder(Text::new("theora")), "theora"),
            (Setting::FrameRate(0), "0 frames"),
            (Setting::BitRate(BitRate(0)), "too few"),
        ];
        for (setting, word) in wrong {
            let why = Talk::ask(&guest, Request::Set(setting))?.why()?;
            ensure!(why.contains(word), "{why}");
        }
        // Until the last seconds were all encoded with the new settings.
        let end = std::time::Instant::now() + SOON;
        loop {
            let tuned = sample(&guest, 1000)?;
            if tuned.encoded_rate < 25_000 && tuned.encoded_rate > 1000 {
                ensure!((tuned.target, tuned.frame_rate) == (BitRate(3_000_000), 20), "{tuned:?}");
                break;
            }
            ensure!(std::time::Instant::now() < end, "still as before: {tuned:?}");
        }
        ensure!(viewer.complaints().is_empty(), "{:#?}", viewer.complaints());

        let checks = checks(&guest)?;
        let skipped = ["va-driver"];
        for check in &checks {
            println!("{}: {:?}: {}", check.name, check.verdict, check.found);
            let fine = check.verdict == Verdict::Pass || skipped.contains(&check.name.as_str());
            ensure!(fine, "{check:?}");
        }
        ensure!(checks.len() == 13, "{checks:?}");
        let encoder = check(&checks, "encoder-works")?;
        ensure!(encoder.found.as_str().contains("openh264"), "{encoder:?}");
        Ok(())
    });
}

#[test]
fn logs_begin_with_the_first_line_and_follow() {
    machine_test("logs begin with the first line and follow", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let record = |message: &GuestDiagnostics| match message {
            GuestDiagnostics::Record { text, level, time, .. } => {
                Some((text.to_string(), *level, *time))
            }
            _ => None,
        };
        let own = Talk::ask(&guest, logs(LogSource::Agent, 0, false))?.done()?;
        let own: Vec<_> = own.iter().filter_map(|(message, _)| record(message)).collect();
        ensure!(own.iter().any(|(text, ..)| text.contains("listens on")), "{own:?}");
        let now: u64 = guest.run("date +%s")?.parse()?;
        ensure!(own.iter().all(|(.., time)| time / 1_000_000 <= now + 1 && *time > 0), "{own:?}");

        guest.run("echo '<3>marked by a test' >/dev/kmsg; echo '<6>a lesser line' >/dev/kmsg")?;
        let kernel = Talk::ask(&guest, logs(LogSource::Kernel, 0, false))?.done()?;
        let kernel: Vec<_> = kernel.iter().filter_map(|(message, _)| record(message)).collect();
        ensure!(kernel.iter().any(|(text, ..)| text.contains("Linux version")), "{kernel:?}");
        let marked = kernel.iter().find(|(text, ..)| text == "marked by a test");
        let (_, level, time) = marked.with_context(|| format!("{kernel:?}"))?;
        ensure!(*level == LogLevel(3), "{level:?}");
        ensure!(time.abs_diff(now * 1_000_000) < 60_000_000, "{time} at {now}");
        let grave = Request::Logs {
            source: LogSource::Kernel,
            level: LogLevel(3),
            since: 3600,
            last: 1,
            follow: false,
        };
        let grave = Talk::ask(&guest, grave)?.done()?;
        ensure!(grave.len() == 1 && record(&grave[0].0).is_some_and(|r| r.0 == "marked by a test"));

        let mut follow = Talk::ask(&guest, logs(LogSource::Kernel, 1, true))?;
        follow.hear()?;
        guest.run("echo 'one more' >/dev/kmsg")?;
        while record(&follow.hear()?.0).is_none_or(|(text, ..)| text != "one more") {}

        // A reader that does not read misses the oldest, and is told how many.
        let mut slow = Talk::ask(&guest, logs(LogSource::Kernel, 1, true))?;
        slow.hear()?;
        let before = guest.agent_usage()?.0;
        // The kernel slows down those who write so much, and so does the console. One call for
        // each line: a shell that reads them byte by byte takes minutes in this guest.
        guest.run("echo on >/proc/sys/kernel/printk_devkmsg; echo 1 >/proc/sys/kernel/printk")?;
        let flood = format!(
            "awk 'BEGIN {{ for (i = 1; i <= {FLOOD}; i++) \
             {{ print \"flood \" i \" {}\"; fflush() }} print \"the flood is over\" }}' >/dev/kmsg",
            "x".repeat(400)
        );
        ensure!(guest.sh(&flood, 4 * SOON)?.status == 0);
        let (mut lost, mut told) = (0, 0_u64);
        loop {
            match slow.hear()?.0 {
                GuestDiagnostics::RecordsLost(count) => lost += count,
                message => {
                    told += 1;
                    if record(&message).is_some_and(|(text, ..)| text == "the flood is over") {
                        break;
                    }
                }
            }
        }
        println!("{told} records told, {lost} lost");
        ensure!(lost > 0 && told + lost >= FLOOD, "{told} told, {lost} lost");
        let after = guest.agent_usage()?.0;
        ensure!(after < before + 4096, "memory: {before}, {after} KiB");

        let (_, outcome) =
            Talk::ask(&guest, logs(LogSource::Journal { unit: None }, 10, false))?.rest()?;
        println!("journal without a journal: {outcome:?}");
        ensure!(matches!(outcome, Outcome::Done | Outcome::Failed { .. }));
        Ok(())
    });
}

#[test]
fn the_way_is_measured() {
    machine_test("the way is measured", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let bytes = Talk::ask(&guest, Request::Throughput { bytes: 10_000_001 })?.bytes()?;
        ensure!(bytes.len() == 10_000_001);
        let why = Talk::ask(&guest, Request::Throughput { bytes: u64::MAX })?.why()?;
        ensure!(why.contains("the most"), "{why}");
        let mut echo = Talk::ask(&guest, Request::Echo)?;
        let mut before = 0;
        for n in 0..20_u8 {
            echo.say(&HostDiagnostics::Data, &[n; 100])?;
            let (GuestDiagnostics::Echo { received, sent, wall }, bulk) = echo.hear()? else {
                bail!("no echo");
            };
            ensure!(bulk == [n; 100] && received <= sent && received.0 > before && wall > 0);
            before = sent.0;
        }
        echo.say(&HostDiagnostics::EndOfData, &[])?;
        echo.done()?;
        let mut sink = Talk::ask(&guest, Request::Sink)?;
        (0..100).try_for_each(|_| sink.say(&HostDiagnostics::Data, &[7; 65_536]))?;
        sink.say(&HostDiagnostics::EndOfData, &[])?;
        sink.done().map(drop)
    });
}
