//! Peers that break the rules, on either side: a clear message, nothing else disturbed.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use transom_protocol::message::{GuestHello, HostHello, MAGIC, Refusal, Text};
use transom_protocol::wire::{Decoder, Limits, decode_hello, encode};
use transom_protocol::{Capabilities, Role, SessionId, VERSION_MAX, VERSION_MIN};
use transom_tests::card::read_number;
use transom_tests::{Guest, Process, Relay, Uml, Viewer, free_udp_port, machine_test};

const LIMIT: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(60);
/// How much more memory the side under attack may take, in KiB.
const SLACK: u64 = 4096;
/// What a relay may take, in KiB: a few MB of its own, and one bulk as far as it came.
const RELAY_MEMORY: u64 = 24 * 1024;

#[test]
fn the_agent_shrugs_off_bad_hosts() {
    machine_test("the agent shrugs off bad hosts", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate box")?;
        let relay = Relay::start(test, &guest)?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        viewer.wait_frames(60, SOON)?;
        let (before, files, threads) = guest.agent_usage()?;

        let strange = HostHello { version_min: 900, version_max: 999, ..hello() };
        let refusal = Refusal::Version { min: VERSION_MIN, max: VERSION_MAX };
        ensure!(answer(&guest, &strange)? == GuestHello::Refused(refusal), "a strange version");
        let role = Role(999);
        let strange = HostHello { role, ..hello() };
        ensure!(answer(&guest, &strange)? == GuestHello::Refused(Refusal::Role(role)), "a role");
        let strange = HostHello { role: Role::MEDIA, ..hello() };
        ensure!(answer(&guest, &strange)? == GuestHello::Refused(Refusal::Session), "media first");

        let mut noise = Noise(1);
        let mut good = Vec::new();
        encode(&hello(), 0, &mut good);
        let mut bad: Vec<Vec<u8>> = vec![
            // Announces 4 GiB of message, or of bulk.
            [[0xff; 4], [0; 4]].concat(),
            [[4, 0, 0, 0], [0xff; 4]].concat(),
            b"GET / HTTP/1.1\r\nHost: guest\r\n\r\n".to_vec(),
            [0; 64].to_vec(),
            // A good hello, then nonsense on the control connection.
            [&good[..], &noise.bytes(4000)].concat(),
        ];
        bad.extend((0..20).map(|_| noise.bytes(3000)));
        for bytes in &bad {
            let mut stream = guest.connect_agent()?;
            // The agent may have closed before it has read all.
            let _ = stream.write_all(bytes);
            wait_closed(stream).with_context(|| format!("after {:x?}…", &bytes[..8]))?;
        }
        // Truncated: half a hello, then gone.
        for end in 1..good.len() {
            // Too many at once: the agent has sent the oldest away already.
            let _ = guest.connect_agent()?.write_all(&good[..end]);
        }

        ensure!(viewer.complaints().is_empty(), "{:#?}", viewer.complaints());
        undisturbed(&guest, &viewer, "bad frames")?;

        // A host that says nothing is sent away, a hundred of them as well.
        let silent: Vec<_> = (0..100).map(|_| guest.connect_agent()).collect();
        let open = silent.iter().filter(|s| s.is_ok()).count();
        println!("{open} of 100 silent connections were accepted");
        undisturbed(&guest, &viewer, "a hundred connections")?;
        let (during, ..) = guest.agent_usage()?;
        for stream in silent.into_iter().flatten() {
            wait_closed(stream).context("a silent connection")?;
        }
        // The thread of a connection ends a moment after the connection.
        let deadline = Instant::now() + SOON;
        let (after, left) = loop {
            let (after, files_after, threads_after) = guest.agent_usage()?;
            let left = (files_after, threads_after);
            if left == (files, threads) || Instant::now() > deadline {
                break (after, left);
            }
        };
        println!("resident {before} KiB, {during} with a hundred connections, {after} after all");
        ensure!(during.max(after) < before + SLACK, "memory: {before}, {during}, {after} KiB");
        ensure!(left == (files, threads), "left over: {left:?}, before: {:?}", (files, threads));
        undisturbed(&guest, &viewer, "all of it")
    });
}

#[test]
fn the_agent_serves_nobody_in_its_own_guest() {
    machine_test("the agent serves nobody in its own guest", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        // The number of the guest itself leads through vsock_loopback.
        guest.run("timeout -s INT 5 /host/bin/transom relay vsock:3 --json >/host/log/inside 2>&1 || true")?;
        let said = std::fs::read_to_string(test.dir().join("inside"))?;
        ensure!(said.contains("\"waiting\""), "the relay inside was served:\n{said}");
        ensure!(guest.agent_log().contains("WARN"), "the agent must tell:\n{}", guest.agent_log());
        Ok(())
    });
}

#[test]
fn a_second_agent_says_that_the_port_is_taken() {
    machine_test("a second agent says that the port is taken", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let second = guest.sh("timeout 10 /host/bin/transom-agent", SOON)?;
        ensure!(second.status == 1 && second.text.contains("port 29810"), "{second:?}");
        guest.connect_agent().map(drop)
    });
}

#[test]
fn the_relay_shrugs_off_bad_guests() {
    machine_test("the relay shrugs off bad guests", LIMIT, |test| {
        let mut noise = Noise(2);
        let mut welcome = Vec::new();
        let greeting = GuestHello::Welcome {
            version: VERSION_MAX,
            capabilities: Capabilities::H264,
            boot: [7; 16],
            software: Text::new("a liar"),
        };
        encode(&greeting, 0, &mut welcome);
        let mut future = Vec::new();
        encode(&GuestHello::Refused(Refusal::Version { min: 800, max: 900 }), 0, &mut future);
        // What it says, a word of the reason that the relay must give, and whether it hangs
        // up behind it or waits to be left.
        let noisy = [b"OK 1\n", &welcome[..], &noise.bytes(100_000)].concat();
        let answers: Vec<(Vec<u8>, &str, bool)> = vec![
            (Vec::new(), "no agent listens", true),
            (b"no\n".to_vec(), "no hybrid vsock socket", false),
            (vec![b'O'; 10_000], "no hybrid vsock socket", false),
            ([b"OK 1\n", &[0xff; 8][..]].concat(), "4294967295 bytes", false),
            ([b"OK 1\n", &future[..]].concat(), "versions 800 to 900", false),
            ([b"OK 1\n", &welcome[..welcome.len() / 2]].concat(), "connection was lost", true),
            ([b"OK 1\n", &welcome[..], &[0xff; 4], &[0; 4]].concat(), "4294967295 bytes", false),
            (noisy, "control connection", false),
            ([b"OK 1\n", &noise.bytes(100_000)[..]].concat(), "control connection", false),
        ];
        for (n, (answer, word, hangs_up)) in answers.into_iter().enumerate() {
            let path = test.socket(&format!("bad{n}"));
            let listener = UnixListener::bind(&path)?;
            // The same answer for every connection, until the test is over.
            std::thread::spawn(move || {
                for mut stream in listener.incoming().map_while(Result::ok) {
                    let answer = answer.clone();
                    std::thread::spawn(move || -> Result<()> {
                        read_line(&mut stream)?;
                        stream.write_all(&answer)?;
                        if hangs_up { Ok(()) } else { wait_closed(stream) }
                    });
                }
            });
            let address = format!("unix:{}", path.display());
            let mut relay = Relay::start_at(test, &address, free_udp_port()?)?;
            let (text, last) = relay.wait(SOON, "a reason", |line| {
                let last = line["event"] == "error";
                let text = line["text"].as_str().unwrap_or_default().to_owned();
                (last || line["state"] == "waiting").then_some((text, last))
            })?;
            ensure!(text.contains(word), "bad guest {n}: {text}");
            // What is no guest at all ends it, with the same words; all else it outlives.
            if last {
                let status = relay.process().wait(SOON)?;
                ensure!(status.code() == Some(1), "bad guest {n}: the relay ended with {status}");
                relay.process().stderr().wait(&text, SOON)?;
                continue;
            }
            let kib = resident(&relay.process().pid().to_string())?;
            ensure!(kib < RELAY_MEMORY, "bad guest {n}: the relay takes {kib} KiB");
        }
        Ok(())
    });
}

#[test]
fn the_relay_names_what_is_wrong_with_its_command_line() {
    machine_test("the relay names what is wrong with its command line", LIMIT, |test| {
        let nowhere = format!("unix:{}", test.socket("nobody").display());
        let rtp = format!("udp://127.0.0.1:{}", free_udp_port()?);
        for (args, word) in [
            (vec!["relay", &nowhere], "nobody"),
            (vec!["relay", &nowhere, "--rtp", &rtp, "--sdp", "/nowhere/x.sdp"], "/nowhere"),
            (vec!["relay", &nowhere, "--rtp", &rtp, "--rtp", &rtp], "share a port"),
            (vec!["relay", &nowhere, "--rtp", "udp://127.0.0.1:99999"], "99999"),
            (vec!["relay", "nonsense"], "nonsense"),
            (vec!["relay", "vsock:x"], "vsock"),
        ] {
            let mut command = Relay::command();
            command.args(&args).stdin(Stdio::null()).stdout(Stdio::null());
            let mut process = Process::spawn(test, "wrong", &mut command)?;
            let status = process.wait(SOON).with_context(|| format!("{args:?}"))?;
            let said = process.stderr().text();
            ensure!(!status.success(), "{args:?} was taken");
            process.stderr().wait(word, SOON).with_context(|| format!("{args:?}: {said}"))?;
            println!("{}", said.lines().next().unwrap_or_default());
        }
        Ok(())
    });
}

/// The stream goes on, with what is drawn from now on.
fn undisturbed(guest: &Guest, viewer: &Viewer, after: &str) -> Result<()> {
    let number = guest.run("echo 'animate box' >&8; read -r answer <&9; echo ${answer#ok }")?;
    let number: u32 = number.parse()?;
    viewer
        .wait_picture(Duration::from_secs(5), "a picture of now", |p| {
            read_number(p).is_ok_and(|n| n > number)
        })
        .with_context(|| format!("after {after}"))
        .map(drop)
}

fn hello() -> HostHello {
    HostHello {
        magic: MAGIC,
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        session: SessionId(4711),
        role: Role(1000),
        capabilities: Capabilities::H264,
        software: Text::new("a machine test"),
    }
}

fn answer(guest: &Guest, hello: &HostHello) -> Result<GuestHello> {
    let mut stream = guest.connect_agent()?;
    stream.set_read_timeout(Some(SOON))?;
    let mut bytes = Vec::new();
    encode(hello, 0, &mut bytes);
    stream.write_all(&bytes)?;
    let mut decoder = Decoder::new(Limits::MESSAGES);
    loop {
        if let Some(frame) = decoder.poll_frame()? {
            return Ok(decode_hello(&frame.message)?);
        }
        let n = stream.read(decoder.space()).context("no answer to a hello")?;
        ensure!(n > 0, "closed without an answer to a hello");
        decoder.advance(n);
    }
}

/// The peer has to close by itself.
fn wait_closed(mut stream: UnixStream) -> Result<()> {
    stream.set_read_timeout(Some(SOON))?;
    let end = Instant::now() + SOON;
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return Ok(()),
            Ok(_) => ensure!(Instant::now() < end, "still talking after {SOON:?}"),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            Err(e) => return Err(e).context("the connection is still open"),
        }
    }
}

fn read_line(stream: &mut UnixStream) -> Result<()> {
    stream.set_read_timeout(Some(SOON))?;
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
    }
    Ok(())
}

fn resident(pid: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Bytes without sense, the same in every run.
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let next = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) as u8
        };
        std::iter::repeat_with(next).take(count).collect()
    }
}
