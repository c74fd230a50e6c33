//! The shipped image: journal, restarts, helpers with rights of their own, the watchdog.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use transom_protocol::diagnostics::{
    GuestDiagnostics, LogLevel, LogSource, Outcome, Request, Verdict,
};
use transom_protocol::message::Text;
use transom_tests::talk::{Talk, command, pull, push};
use transom_tests::{Guest, Qemu, machine_test};

use crate::looks::{check, checks, screenshot};

const LIMIT: Duration = Duration::from_secs(900);
/// An emulated guest takes its time.
const PATIENCE: Duration = Duration::from_secs(180);

fn wait(what: &str, mut there: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !there()? {
        ensure!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn property(guest: &Guest, unit: &str, name: &str) -> Result<String> {
    guest.run(&format!("systemctl show -P {name} {unit}"))
}

fn journal(guest: &Guest, unit: &str) -> Result<Vec<String>> {
    let source = LogSource::Journal { unit: Some(Text::new(unit)) };
    let request = Request::Logs { source, level: LogLevel(7), since: 0, last: 50, follow: false };
    let said = Talk::ask(guest, request)?.done()?;
    Ok(said
        .into_iter()
        .filter_map(|(message, _)| match message {
            GuestDiagnostics::Record { text, .. } => Some(text.to_string()),
            _ => None,
        })
        .collect())
}

#[test]
#[ignore = "minutes of emulation: cargo test --release -p transom-tests --test diag_guest -- --ignored"]
fn the_image_answers_with_few_rights() {
    machine_test("the image answers with few rights", LIMIT, |test| {
        let mut guest = Qemu::new(test).boot()?;
        wait("the agent", || Ok(Talk::open(&guest).is_ok()))?;
        wait("the kiosk", || Ok(property(&guest, "transom-kiosk", "ActiveState")? == "active"))?;

        // The streaming agent has one capability, and no way to the kernel's log or the journal.
        let pid = property(&guest, "transom-agent", "MainPID")?;
        let status = guest
            .run(&format!("grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/{pid}/status"))?;
        println!("{status}");
        ensure!(status.contains("CapEff:\t0000000000200000"), "{status}");
        ensure!(status.contains("CapBnd:\t0000000000200000"), "{status}");

        // Through the helper: the kernel's log, the journal, all processes.
        guest.run("echo '<4>marked by a test' >/dev/kmsg")?;
        let kernel = Request::Logs {
            source: LogSource::Kernel,
            level: LogLevel(7),
            since: 0,
            last: 0,
            follow: false,
        };
        let kernel = Talk::ask(&guest, kernel)?.done()?;
        let marked = kernel.iter().any(|(message, _)| {
            matches!(message, GuestDiagnostics::Record { text, .. } if text.as_str() == "marked by a test")
        });
        ensure!(marked, "{} records of the kernel", kernel.len());
        let lines = journal(&guest, "transom-agent.service")?;
        ensure!(lines.iter().any(|line| line.contains("listens on")), "{lines:?}");
        let top = Talk::ask(&guest, Request::Top { count: 500 })?.done()?;
        for user in ["root", "kiosk", "transom"] {
            let there = top.iter().any(|(message, _)| {
                matches!(message, GuestDiagnostics::Process(p) if p.user.as_str() == user)
            });
            ensure!(there, "no process of {user}: {top:?}");
        }
        let info = Talk::ask(&guest, Request::Info)?.done()?;
        for (message, _) in &info {
            if let GuestDiagnostics::Fact { path, value } = message {
                println!("{path} = {value:?}");
            }
        }
        let picture = screenshot(&guest, None)?;
        ensure!((picture.width, picture.height) == (1280, 720));
        let found = checks(&guest)?;
        for one in &found {
            println!("{}: {:?}: {} [{}]", one.name, one.verdict, one.found, one.remedy);
        }
        for name in
            ["crtc-lit", "scanout-readable", "encoder-works", "uinput-usable", "vsock-transport"]
        {
            ensure!(check(&found, name)?.verdict == Verdict::Pass, "{name}");
        }

        // Shells and copies: off, then on.
        let shell = Request::Shell { command: None, terminal: None };
        let (_, outcome) = Talk::ask(&guest, shell)?.rest()?;
        ensure!(matches!(outcome, Outcome::Forbidden { .. }), "{outcome:?}");
        guest.run("printf 'TRANSOM_SHELL=on\\nTRANSOM_COPY=on\\n' >>/etc/transom/agent; systemctl restart transom-agent")?;
        wait("the agent with a shell", || {
            Ok(command(&guest, "id -u; exit 9")
                .is_ok_and(|(status, out, _)| (status, &out[..]) == (9, "0\n")))
        })?;
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        push(&guest, "/root/there", 0o600, &bytes)?.done()?;
        ensure!(pull(&guest, "/root/there")? == bytes, "a copy came back changed");
        // Its peer gone, nothing is left of a shell.
        let line =
            Some(transom_protocol::diagnostics::Line::new("sleep 4711 & echo ready; sleep 4711"));
        let mut talk = Talk::ask(&guest, Request::Shell { command: line, terminal: None })?;
        ensure!(talk.hear()?.1 == b"ready\n");
        drop(talk);
        wait("the shell's end", || Ok(guest.sh("pidof sleep", PATIENCE)?.status != 0))?;
        wait("the helpers' end", || {
            Ok(guest
                .run("systemctl list-units --no-legend 'transom-helper@*' 'transom-shell@*'")?
                .is_empty())
        })?;

        // The compositor is another one afterwards.
        let old = property(&guest, "transom-kiosk", "MainPID")?;
        Talk::ask(&guest, Request::RestartCompositor)?.done()?;
        wait("another compositor", || {
            let new = property(&guest, "transom-kiosk", "MainPID")?;
            Ok(new != old && new != "0")
        })?;

        // A stopped agent says nothing to systemd, which starts another one.
        let old = property(&guest, "transom-agent", "MainPID")?;
        guest.run(&format!("kill -STOP {old}"))?;
        wait("another agent", || {
            let new = property(&guest, "transom-agent", "MainPID")?;
            Ok(new != old && new != "0")
        })?;
        ensure!(property(&guest, "transom-agent", "NRestarts")? != "0");
        wait("the new agent", || Ok(Talk::open(&guest).is_ok()))?;

        Talk::ask(&guest, Request::Reboot)?.done()?;
        guest.process().wait(PATIENCE).context("the guest does not go down")?;
        Ok(())
    });
}
