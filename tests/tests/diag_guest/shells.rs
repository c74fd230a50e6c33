//! Shells: status, streams, terminals, signals, and the end of those whose peer is gone.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use transom_protocol::diagnostics::{
    GuestDiagnostics, HostDiagnostics, Line, Outcome, Request, Signal, Terminal, TerminalSize,
};
use transom_protocol::message::Text;
use transom_tests::talk::{SOON, Talk, command};
use transom_tests::{Guest, Uml, machine_test};

use crate::LIMIT;

fn on_terminal(guest: &Guest, line: Option<&str>) -> Result<Talk> {
    let size = TerminalSize { columns: 91, rows: 33 };
    let terminal = Some(Terminal { kind: Text::new("vt100"), size });
    Talk::ask(guest, Request::Shell { command: line.map(Line::new), terminal })
}

/// Reads until `word` was said.
fn wait_for(talk: &mut Talk, word: &str) -> Result<String> {
    let mut text = String::new();
    while !text.contains(word) {
        match talk.hear().with_context(|| format!("behind {text:?}, before {word}"))? {
            (GuestDiagnostics::Data, bulk) => text += &String::from_utf8_lossy(&bulk),
            other => anyhow::bail!("{other:?} behind {text:?}, before {word}"),
        }
    }
    Ok(text)
}

fn exit(talk: &mut Talk) -> Result<i32> {
    let said = talk.done()?;
    match said.last() {
        Some((GuestDiagnostics::Exited(code), _)) => Ok(*code),
        other => anyhow::bail!("{other:?} instead of an exit status"),
    }
}

/// Waits until no process of the guest has this word in its command line.
fn wait_gone(guest: &Guest, word: &str) -> Result<()> {
    let end = Instant::now() + SOON;
    // The bracket keeps the search from finding itself.
    let (first, rest) = word.split_at(1);
    let search = format!("grep -la '[{first}]{rest}' /proc/[0-9]*/cmdline 2>/dev/null || true");
    loop {
        let left = guest.run(&search)?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "still there: {left}");
    }
}

#[test]
fn shells_do_what_shells_do() {
    machine_test("shells do what shells do", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&["--shell on"])?;
        let (status, out, errors) = command(&guest, "echo out; echo err >&2; id -u; exit 7")?;
        ensure!((status, &out[..], &errors[..]) == (7, "out\n0\n", "err\n"), "{out} {errors}");
        ensure!(command(&guest, "kill -9 $$")?.0 == 137, "a signal is told as shells do");
        ensure!(command(&guest, "nonsense-command")?.0 == 127);
        let (status, out, _) =
            command(&guest, "head -c 3000000 /dev/zero | wc -c; seq 200000 | tail -1")?;
        ensure!((status, &out[..]) == (0, "3000000\n200000\n"), "{out}");

        // Input by pipes, more than any buffer holds.
        let line = Some(Line::new("sha256sum"));
        let mut talk = Talk::ask(&guest, Request::Shell { command: line, terminal: None })?;
        (0..80).try_for_each(|_| talk.say(&HostDiagnostics::Data, &[b'x'; 65_536]))?;
        talk.say(&HostDiagnostics::EndOfData, &[])?;
        let expected = guest.run("head -c 5242880 /dev/zero | tr '\\0' x | sha256sum")?;
        let sum = wait_for(&mut talk, "\n")?;
        ensure!(sum.trim() == expected.trim(), "{sum} instead of {expected}");
        ensure!(exit(&mut talk)? == 0);

        // A terminal: its size, a new size, its keys.
        let mut talk = on_terminal(
            &guest,
            Some(
                "stty size; echo $TERM; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.05; done",
            ),
        )?;
        let text = wait_for(&mut talk, "ready")?;
        ensure!(text.contains("33 91") && text.contains("vt100"), "{text}");
        talk.say(&HostDiagnostics::Resize(TerminalSize { columns: 120, rows: 40 }), &[])?;
        let text = wait_for(&mut talk, "40 120")?;
        println!("{text}");
        ensure!(exit(&mut talk)? == 5);
        let mut talk = on_terminal(&guest, None)?;
        // What is typed before the prompt is thrown away by the shell, not by us.
        wait_for(&mut talk, "# ")?;
        talk.say(&HostDiagnostics::Data, b"sh -c 'echo $((40+2))x; exec sleep 1000'\n")?;
        wait_for(&mut talk, "42x")?;
        talk.say(&HostDiagnostics::Data, b"\x03")?;
        talk.say(&HostDiagnostics::Data, b"echo $((50+2))x; exit 3\n")?;
        wait_for(&mut talk, "52x")?;
        ensure!(exit(&mut talk)? == 3);

        // End of input, and signals by name.
        let mut talk = on_terminal(&guest, Some("echo ready; cat; echo over"))?;
        wait_for(&mut talk, "ready")?;
        talk.say(&HostDiagnostics::EndOfData, &[])?;
        wait_for(&mut talk, "over")?;
        ensure!(exit(&mut talk)? == 0);
        for (signal, status) in
            [(Signal::Terminate, 143), (Signal::Kill, 137), (Signal::Interrupt, 130)]
        {
            let mut talk = Talk::ask(
                &guest,
                Request::Shell {
                    command: Some(Line::new("echo ready; exec sleep 1000")),
                    terminal: None,
                },
            )?;
            wait_for(&mut talk, "ready")?;
            talk.say(&HostDiagnostics::Signal(signal), &[])?;
            ensure!(exit(&mut talk)? == status, "{signal:?}");
        }
        Ok(())
    });
}

#[test]
fn a_shell_ends_with_its_peer() {
    machine_test("a shell ends with its peer", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&["--shell on"])?;
        let (_, files, threads) = guest.agent_usage()?;
        // One that ignores being hung up, with a child in the background, and one that floods.
        let stubborn = "trap '' HUP TERM; sleep 4711 & echo ready; sleep 4711; sleep 4711";
        for line in [stubborn, "echo ready; yes 4711"] {
            for terminal in [true, false] {
                let mut talk = match terminal {
                    true => on_terminal(&guest, Some(line))?,
                    false => Talk::ask(
                        &guest,
                        Request::Shell { command: Some(Line::new(line)), terminal: None },
                    )?,
                };
                wait_for(&mut talk, "ready")?;
                drop(talk);
                wait_gone(&guest, "4711")?;
            }
        }
        // What a shell leaves behind when it exits ends, too.
        let (status, ..) = command(&guest, "sleep 4711 & exit 0")?;
        ensure!(status == 0);
        wait_gone(&guest, "4711")?;
        // Nothing is left of all that in the agent.
        let end = Instant::now() + SOON;
        while {
            let (_, f, t) = guest.agent_usage()?;
            (f, t) != (files, threads)
        } {
            ensure!(Instant::now() < end, "{:?}, not {:?}", guest.agent_usage()?, (files, threads));
        }
        Ok(())
    });
}

#[test]
fn shells_and_copies_are_off_unless_allowed() {
    machine_test("shells and copies are off unless allowed", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let path = || Line::new("/etc/passwd");
        let forbidden = [
            (
                Request::Shell { command: Some(Line::new("touch /tmp/mark")), terminal: None },
                "TRANSOM_SHELL=on",
            ),
            (Request::Pull { path: path() }, "TRANSOM_COPY=on"),
            (
                Request::Push { path: Line::new("/tmp/mark"), mode: 0o644, size: 0 },
                "TRANSOM_COPY=on",
            ),
        ];
        for (request, word) in forbidden {
            let (said, outcome) = Talk::ask(&guest, request)?.rest()?;
            ensure!(said.is_empty(), "{said:?}");
            let Outcome::Forbidden { remedy } = outcome else { anyhow::bail!("{outcome:?}") };
            println!("{remedy}");
            ensure!(
                remedy.as_str().contains(word) && remedy.as_str().contains("/etc/transom/agent")
            );
        }
        guest.run("! test -e /tmp/mark")?;
        // What is not there says so.
        let why = Talk::ask(&guest, Request::RestartCompositor)?.why()?;
        ensure!(why.contains("systemd"), "{why}");
        Ok(())
    });
}
