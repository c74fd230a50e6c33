//! Peers that break the rules, and peers of another age: nothing else is disturbed.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use transom_protocol::diagnostics::{
    GuestDiagnostics, HostDiagnostics, MAX_CONNECTIONS, Outcome, Request,
};
use transom_protocol::message::{GuestHello, Refusal};
use transom_tests::card::read_number;
use transom_tests::talk::{SOON, Talk, noise};
use transom_tests::{Guest, Relay, Uml, Viewer, machine_test};

use crate::LIMIT;

/// How much more memory the agent may take under attack, in KiB.
const SLACK: u64 = 6 * 1024;

/// The stream goes on, with what is drawn from now on.
fn undisturbed(guest: &Guest, viewer: &Viewer, after: &str) -> Result<()> {
    let number = guest.run("echo 'animate box' >&8; read -r answer <&9; echo ${answer#ok }")?;
    let number: u32 = number.parse()?;
    let newer = |p: &transom_tests::Picture| read_number(p).is_ok_and(|n| n > number);
    viewer
        .wait_picture(SOON, "a picture of now", newer)
        .with_context(|| format!("after {after}"))?;
    ensure!(viewer.complaints().is_empty(), "{:#?}", viewer.complaints());
    Ok(())
}

#[test]
fn bad_peers_disturb_nobody() {
    machine_test("bad peers disturb nobody", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&["--shell on --copy on"])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate box")?;
        let relay = Relay::start(test, &guest)?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        viewer.wait_frames(60, SOON)?;
        let (before, files, threads) = guest.agent_usage()?;

        // Instead of a request: noise, absurd lengths, half a message, what comes later.
        let mut bad: Vec<Vec<u8>> = vec![
            [[0xff; 4], [0; 4]].concat(),
            [[4, 0, 0, 0], [0xff; 4]].concat(),
            [[0; 4], [0; 4]].concat(),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            [&[1, 0, 0, 0, 4, 0, 0, 0, 1][..], b"data"].concat(),
            vec![1, 0, 0, 0, 0, 0, 0, 0, 2],
        ];
        bad.extend((0..20).map(|n| noise(n, 3000)));
        for bytes in &bad {
            let mut talk = Talk::open(&guest)?;
            let _ = talk.raw(bytes);
            // Refused with a reason, unless the bytes promise more to come.
            match talk.rest() {
                Ok((_, outcome)) => ensure!(
                    matches!(outcome, Outcome::Failed { .. } | Outcome::Unsupported),
                    "{outcome:?}"
                ),
                Err(error) => println!("{:x?}…: {error:#}", &bytes[..8.min(bytes.len())]),
            }
        }
        // Behind a request that takes input: noise, messages of a later age.
        let mut talk = Talk::ask(&guest, Request::Echo)?;
        talk.raw(&[2, 0, 0, 0, 0, 0, 0, 0, 77, 1])?;
        ensure!(talk.hear()?.0 == GuestDiagnostics::Unsupported { kind: 77 });
        talk.raw(&[2, 0, 0, 0, 0, 0, 0, 0, 4, 99])?;
        ensure!(talk.hear()?.0 == GuestDiagnostics::Unsupported { kind: 4 });
        talk.say(&HostDiagnostics::Data, b"still there")?;
        ensure!(talk.hear()?.1 == b"still there");
        talk.raw(&noise(5, 5000))?;
        let _ = talk.rest();
        // Requests of a later age.
        let mut talk = Talk::open(&guest)?;
        talk.raw(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 99, 5])?;
        ensure!(talk.rest()?.1 == Outcome::Unsupported);
        // Gone in mid-sentence.
        for end in 0..11 {
            let mut talk = Talk::open(&guest)?;
            talk.raw(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..end])?;
        }
        undisturbed(&guest, &viewer, "bad requests")?;

        // More than are served: refused by name, and served again as soon as one is free.
        let mut open = Vec::new();
        let refusal = loop {
            ensure!(open.len() <= MAX_CONNECTIONS, "{} are served", open.len());
            let (mut talk, answer) = Talk::hello(&guest)?;
            match answer {
                GuestHello::Welcome { .. } => {
                    talk.say(&HostDiagnostics::Request(Request::Echo), &[])?;
                    open.push(talk);
                }
                GuestHello::Refused(refusal) => break refusal,
            }
        };
        ensure!(refusal == Refusal::Busy, "{refusal:?}");
        ensure!(!open.is_empty());
        drop(open);
        drop(Talk::open(&guest).context("nobody is served any more")?);

        // 200 at once, most of which say nothing.
        let mut many = Vec::new();
        for n in 0..200 {
            let Ok(mut stream) = guest.connect_agent() else { continue };
            if n % 3 == 0 {
                let _ = stream.write_all(&noise(n, 200));
            }
            many.push(stream);
        }
        println!("{} of 200 connections were accepted", many.len());
        undisturbed(&guest, &viewer, "200 connections")?;
        let during = guest.agent_usage()?.0;
        let mut byte = [0; 4096];
        for mut stream in many {
            stream.set_read_timeout(Some(SOON))?;
            while matches!(stream.read(&mut byte), Ok(1..)) {}
        }
        let end = Instant::now() + SOON;
        let after = loop {
            let (memory, f, t) = guest.agent_usage()?;
            if (f, t) == (files, threads) {
                break memory;
            }
            ensure!(Instant::now() < end, "left over: {f} files, {t} threads; {files}, {threads}");
            std::thread::sleep(Duration::from_millis(100));
        };
        println!("resident {before} KiB, {during} with 200 connections, {after} after all");
        ensure!(during.max(after) < before + SLACK, "memory: {before}, {during}, {after} KiB");
        undisturbed(&guest, &viewer, "all of it")
    });
}

/// The bytes of a host that was built before there were diagnostics, as they were pinned then.
#[test]
fn an_older_host_is_served_as_ever() {
    machine_test("an older host is served as ever", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let frame = |hex: &str| -> Result<Vec<u8>> {
            let body: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|at| Ok(u8::from_str_radix(&hex[at..at + 2], 16)?))
                .collect::<Result<_>>()?;
            Ok([&(body.len() as u32).to_le_bytes()[..], &[0; 4], &body].concat())
        };
        let exchange = |stream: &mut std::os::unix::net::UnixStream| -> Result<Vec<u8>> {
            let mut prefix = [0; 8];
            stream.read_exact(&mut prefix)?;
            let [a, b, c, d, e, f, g, h] = prefix;
            let length = u32::from_le_bytes([a, b, c, d]) + u32::from_le_bytes([e, f, g, h]);
            ensure!(length < 1 << 23, "{length} bytes");
            let mut body = vec![0; length as usize];
            stream.read_exact(&mut body)?;
            Ok(body)
        };
        // "TRSM", versions 1 to 2, session 0x1234, role control, capability H.264, "t".
        let mut control = guest.connect_agent()?;
        control.set_read_timeout(Some(SOON))?;
        control.write_all(&frame("5452534d0102b42400010174")?)?;
        let welcome = exchange(&mut control)?;
        ensure!(welcome[..2] == [0, 1], "{welcome:x?}");
        // Ping 300, and what no agent knows.
        control.write_all(&frame("00ac02c0843d")?)?;
        control.write_all(&frame("6301")?)?;
        let (mut pong, mut unsupported) = (false, false);
        while !(pong && unsupported) {
            let body = exchange(&mut control)?;
            pong |= body.starts_with(&[0, 0xac, 2, 0xc0, 0x84, 0x3d]);
            unsupported |= body == [3, 0x63];
        }
        let mut media = guest.connect_agent()?;
        media.set_read_timeout(Some(SOON))?;
        media.write_all(&frame("5452534d0102b42401010174")?)?;
        ensure!(exchange(&mut media)?[..2] == [0, 1]);
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate box")?;
        // A stream of 1280x720, and its first access unit.
        let start = exchange(&mut media)?;
        ensure!(start == [0, 0, 0, 0x80, 0x0a, 0xd0, 5], "{start:x?}");
        ensure!(exchange(&mut media)?[..4] == [1, 0, 0, 1], "the first unit is no IDR");
        control.write_all(&frame("04")?)?;
        Ok(())
    });
}
