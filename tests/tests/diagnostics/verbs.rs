//! Each verb against a booted guest, with content that the test put there.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use transom_tests::{Process, Relay, Transcript, Uml, Viewer, machine_test};

use crate::LIMIT;
use crate::ask::{SOON, diag, read_png, transom};

#[test]
fn each_verb_tells_what_is_there() {
    machine_test("each verb tells what is there", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&["--shell on", "--copy on"])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("still 3")?;
        let diag = |args: &[&str]| diag(test, &guest, args);

        let info = diag(&["info"])?.fine()?.text();
        ensure!(info.contains(&guest.run("uname -r")?), "{info}");
        let info = diag(&["info", "--json"])?.fine()?.json()?;
        ensure!(info[0]["facts"]["kernel.release"] == guest.run("uname -r")?, "{info:#?}");

        let top = diag(&["top", "-n", "100"])?.fine()?.text();
        ensure!(top.contains("transom-agent") && top.contains("testcard"), "{top}");

        let agent = diag(&["logs"])?.fine()?.text();
        ensure!(agent.contains("listen"), "the agent's first lines are missing: {agent}");
        guest.run("echo '<3>a line of the test' >/dev/kmsg; echo '<7>a quiet line' >/dev/kmsg")?;
        let kernel = diag(&["logs", "--kernel", "--level", "err"])?.fine()?.text();
        ensure!(
            kernel.contains("a line of the test") && !kernel.contains("a quiet line"),
            "{kernel}"
        );

        let file = test.dir().join("shot.png");
        let name = file.to_str().context("a text")?;
        diag(&["screenshot", name])?.fine()?;
        ensure!(read_png(&file)? == card.expected()?, "the screenshot differs");

        // Both ways, of a size that is no multiple of anything.
        let there = test.dir().join("there");
        let back = test.dir().join("back");
        let content: Vec<u8> = (0..5_000_003u64).map(|i| ((i * i) >> 7) as u8).collect();
        std::fs::write(&there, &content)?;
        diag(&["cp", there.to_str().context("a text")?, ":/tmp/there"])?.fine()?;
        diag(&["cp", ":/tmp/there", back.to_str().context("a text")?])?.fine()?;
        ensure!(std::fs::read(&back)? == content, "the round trip changed the file");
        guest.run("mount -t tmpfs -o size=1M x /mnt")?;
        let full = diag(&["cp", there.to_str().context("a text")?, ":/mnt/there"])?;
        ensure!(full.status == 1 && full.errors.contains("pace"), "{full:?}");
        ensure!(guest.run("ls -A /mnt")?.is_empty(), "a piece of it was left");

        let shell = diag(&["shell", "--", "echo out; echo err >&2; exit 7"])?;
        ensure!((shell.status, shell.text().as_str()) == (7, "out\n"), "{shell:?}");
        ensure!(shell.errors.contains("err"), "{shell:?}");
        let address = guest.address();
        let sum =
            transom(test, &["diag", &address, "shell", "--", "wc", "-c"], &content)?.fine()?;
        ensure!(sum.text().trim() == content.len().to_string(), "{sum:?}");
        ensure!(diag(&["shell", "--", "kill -9 $$"])?.status == 137);

        diag(&["set", "fps", "25"])?.fine()?;
        diag(&["set", "bitrate", "3M"])?.fine()?;
        let sample = diag(&["stats", "--json"])?.fine()?.json()?.remove(0);
        ensure!(sample["most_fps"] == 25 && sample["target_kbps"] == 3000.0, "{sample:#}");
        let wrong = diag(&["set", "encoder", "nonsense"])?;
        ensure!(wrong.status == 1 && wrong.errors.contains("nonsense"), "{wrong:?}");
        // This guest has no systemd, and says so rather than nothing.
        let restart = diag(&["restart-compositor"])?;
        ensure!(restart.status == 1 && restart.errors.contains("systemd"), "{restart:?}");

        let list = transom(test, &["list", &address], b"")?.fine()?.text();
        ensure!(list.contains("ready") && list.contains("transom-agent"), "{list}");
        let folder = test.socket("");
        let found = transom(
            test,
            &["list", "--json", "--run-dir", folder.to_str().context("a text")?],
            b"",
        )?;
        let ours = found.json()?.into_iter().find(|line| line["guest"] == address);
        ensure!(ours.is_some_and(|line| line["found"] == "run-dir"), "{found:?}");
        Ok(())
    });
}

#[test]
fn a_bundle_has_all_of_it_and_no_secret() {
    machine_test("a bundle has all of it and no secret", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        guest.run("echo '<4>login password=hunter2 done' >/dev/kmsg")?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("still 4")?;
        let file = test.dir().join("report.tar.zst");
        let said = diag(test, &guest, &["bundle", file.to_str().context("a text")?])?.fine()?;
        println!("{}", said.text());
        let out = test.dir().join("out");
        std::fs::create_dir(&out)?;
        let unpack = std::process::Command::new("tar")
            .args(["--zstd", "-xf"])
            .arg(&file)
            .arg("-C")
            .arg(&out)
            .status()?;
        ensure!(unpack.success(), "tar does not take it");
        let root = out.join("transom-bundle");
        let read = |name: &str| std::fs::read_to_string(root.join(name)).context(name.to_owned());
        let manifest: serde_json::Value = serde_json::from_str(&read("manifest.json")?)?;
        for file in manifest["files"].as_array().context("no list")? {
            let name = file["name"].as_str().context("no name")?;
            let size = std::fs::metadata(root.join(name)).context(name.to_owned())?.len();
            // This guest has no journal.
            ensure!(
                (size > 0 || name == "logs/journal.txt") && file["bytes"] == size,
                "{name}: {size} and {file}"
            );
        }
        ensure!(read("doctor.txt")?.contains("agent-answers"));
        ensure!(read("info.json")?.contains("kernel.release"));
        ensure!(read("stats.jsonl")?.lines().count() == 5);
        let kernel = read("logs/kernel.txt")?;
        ensure!(kernel.contains("login password=REDACTED done"), "{kernel}");
        ensure!(!kernel.contains("hunter2"));
        ensure!(manifest["redacted"].as_u64() > Some(0), "{manifest:#}");
        ensure!(read_png(&root.join("screenshot.png"))? == card.expected()?);
        Ok(())
    });
}

#[test]
fn followers_hear_news_and_learn_of_silence() {
    machine_test("followers hear news and learn of silence", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let start = |name: &str, args: &[&str]| -> Result<(Process, Transcript)> {
            let mut command = Relay::command();
            command.args(["diag", &guest.address()]).args(args);
            let mut process =
                Process::spawn(test, name, command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
            let stdout = process.child().stdout.take().context("stdout was piped")?;
            let said = Transcript::of(stdout, &test.dir().join(format!("{name}-said.log")))?;
            Ok((process, said))
        };
        let (mut follower, said) = start("follower", &["logs", "--kernel", "-f"])?;
        said.wait("Linux version", SOON)?;
        guest.run("echo 'news from the kernel' >/dev/kmsg")?;
        said.wait("news from the kernel", SOON)?;
        let (mut watcher, figures) = start("watcher", &["stats", "--watch", "--json"])?;
        figures.wait_from(0, SOON, "two samples", |text| {
            (text.matches("\"event\":\"sample\"").count() >= 2).then_some(())
        })?;
        // The agent is stopped: its kernel still answers, and nobody hangs without a word.
        guest.run("kill -STOP $(cat /run/agent.pid)")?;
        follower.stderr().wait("has not answered for", SOON)?;
        let status = watcher.wait(SOON)?;
        ensure!(status.code() == Some(1), "{status}");
        ensure!(watcher.stderr().text().contains("no answer for"));
        guest.run("kill -CONT $(cat /run/agent.pid)")?;
        follower.stderr().wait("answers again", SOON)?;
        // Ctrl-C is the way to end it, and no failure.
        follower.signal(Signal::SIGINT)?;
        ensure!(follower.wait(SOON)?.code() == Some(0));
        Ok(())
    });
}

#[test]
fn a_screenshot_is_taken_while_streaming() {
    machine_test("a screenshot is taken while streaming", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1366x768 XRGB8888")?;
        card.tell("still 5")?;
        card.tell("cursor 200 100")?;
        let relay = Relay::start(test, &guest)?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        viewer.wait_frames(3, SOON)?;
        let file = test.dir().join("shot.png");
        diag(test, &guest, &["screenshot", file.to_str().context("a text")?])?.fine()?;
        ensure!(read_png(&file)? == card.expected()?, "picture or cursor differ");
        Ok(())
    });
}
