//! `transom diag` as a user runs it, against a guest without a machine: what an agent may do
//! wrong, and what the exit status says.
#![cfg(unix)]

mod fake_guest;

use std::{
    io::Write,
    os::unix::net::UnixListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use fake_guest::{FakeGuest, Folder, Peer};
use serde_json::Value;
use transom_protocol::{
    GuestTime, Role,
    diagnostics::{
        Check, GuestDiagnostics, HostDiagnostics, Line, LogLevel, Outcome, Request, Signal, Verdict,
    },
    message::{GuestHello, Refusal, Text},
    wire,
};

/// Starts `transom diag GUEST …`.
fn start(address: &str, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_transom"))
        .args(["diag", address])
        .args(args)
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was built")
}

fn finish(child: Child) -> (i32, String, String) {
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (status.code().expect("no signal"), text(&stdout), text(&stderr))
}

/// Takes a diagnostic connection and reads the request.
fn accept(guest: &FakeGuest) -> (Peer, Request) {
    let mut peer = guest.accept(Role::DIAGNOSTICS);
    match wire::decode(&peer.frame().expect("a request").message).expect("a message that we know") {
        HostDiagnostics::Request(request) => (peer, request),
        other => panic!("{other:?} instead of a request"),
    }
}

fn send(peer: &mut Peer, message: &GuestDiagnostics, bulk: &[u8]) {
    let mut bytes = Vec::new();
    wire::encode(message, bulk.len() as u32, &mut bytes);
    bytes.extend_from_slice(bulk);
    // The other side may have heard enough.
    let _ = peer.stream.write_all(&bytes);
}

fn end(mut peer: Peer, outcome: Outcome) {
    send(&mut peer, &GuestDiagnostics::End(outcome), &[]);
}

/// One guest, one question, one answer.
fn ask(args: &[&str], answer: impl FnOnce(Peer, Request)) -> (i32, String, String) {
    let folder = Folder::new();
    let guest = FakeGuest::new(&folder.join("vm.vsock"));
    let child = start(&guest.address(), args);
    let (peer, request) = accept(&guest);
    answer(peer, request);
    finish(child)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text.lines().next().unwrap_or_default()).expect(text)
}

#[test]
fn refusals_say_why_and_what_helps() {
    let remedy = Line::new("Add diag=shell to /etc/transom/agent");
    let (code, _, stderr) = ask(&["shell", "--", "true"], |peer, _| {
        end(peer, Outcome::Forbidden { remedy });
    });
    assert_eq!(code, 255, "{stderr}");
    assert!(stderr.contains("Add diag=shell to"), "{stderr}");

    let (code, _, stderr) = ask(&["reboot"], |peer, request| {
        assert_eq!(request, Request::Reboot);
        end(peer, Outcome::Unsupported);
    });
    assert_eq!(code, 1);
    assert!(stderr.contains("fake agent does not know this request: update"), "{stderr}");

    let (code, stdout, _) =
        ask(&["set", "bitrate", "8M", "--json"], |peer, _| end(peer, Outcome::Busy));
    assert_eq!((code, &json(&stdout)["event"]), (1, &"error".into()));
}

#[test]
fn an_agent_that_has_no_place_or_no_diagnostics_is_named() {
    for (refusal, words) in [
        (Refusal::Busy, "too many diagnostic connections"),
        (Refusal::Role(Role::DIAGNOSTICS), "too old for diagnostics"),
    ] {
        let folder = Folder::new();
        let guest = FakeGuest::new(&folder.join("vm.vsock"));
        let child = start(&guest.address(), &["info"]);
        let (mut peer, _) = guest.accept_hello();
        peer.send_hello(&GuestHello::Refused(refusal));
        let (code, _, stderr) = finish(child);
        assert_eq!(code, 1);
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn wrong_command_lines_end_with_2() {
    let run = |args: &[&str]| finish(start("unix:/nowhere", args));
    for args in [
        &["cp", "a", "b"][..],
        &["cp", ":/a", ":/b"],
        &["set", "bitrate", "fast"],
        &["set", "fps", "0"],
        &["logs", "--level", "loud"],
        &["logs", "--since", "yesterday"],
        &["logs", "--kernel", "--unit", "x"],
        &["screenshot"],
        &[],
    ] {
        let (code, _, stderr) = run(args);
        assert_eq!(code, 2, "{args:?} {stderr}");
    }
}

#[test]
fn the_doctor_tells_the_layers_apart_without_an_agent() {
    let folder = Folder::new();
    let doctor = |address: String| {
        let (code, stdout, stderr) = finish(start(&address, &["doctor", "--json"]));
        assert_eq!(code, 1, "{stderr}");
        let report = json(&stdout);
        let checks = report["checks"].as_array().expect("checks").clone();
        let failed: Vec<_> = checks.iter().filter(|check| check["verdict"] == "fail").collect();
        assert_eq!(failed.len(), 1, "{report:#}");
        assert!(!failed[0]["remedy"].as_str().expect("a remedy").is_empty());
        failed[0]["name"].as_str().expect("a name").to_owned()
    };
    let at = |name: &str| format!("unix:{}", folder.join(name).display());
    assert_eq!(doctor(at("missing")), "vsock-socket");
    std::fs::write(folder.join("file"), "").expect("a file");
    assert_eq!(doctor(at("file")), "vsock-socket");
    drop(UnixListener::bind(folder.join("dead")).expect("a socket"));
    assert_eq!(doctor(at("dead")), "hypervisor");

    // A daemon whose guest's kernel says that nobody listens, and one whose guest says nothing.
    let guest = FakeGuest::new(&folder.join("no-agent"));
    std::thread::spawn(move || drop(guest.accept_raw()));
    assert_eq!(doctor(at("no-agent")), "agent-listens");
    let guest = FakeGuest::new(&folder.join("no-kernel"));
    let silent = std::thread::spawn(move || guest.accept_raw());
    assert_eq!(doctor(at("no-kernel")), "guest-kernel");
    drop(silent.join());
    let guest = FakeGuest::new(&folder.join("stopped"));
    let silent = std::thread::spawn(move || guest.accept_hello());
    assert_eq!(doctor(at("stopped")), "agent-answers");
    drop(silent.join());
}

#[test]
fn the_doctors_status_is_the_worst_verdict() {
    for (verdict, status) in [(Verdict::Pass, 4), (Verdict::Fail, 1)] {
        let folder = Folder::new();
        let guest = FakeGuest::new(&folder.join("vm.vsock"));
        let child = start(&guest.address(), &["doctor"]);
        drop(guest.accept(Role::DIAGNOSTICS));
        let (mut peer, request) = accept(&guest);
        assert_eq!(request, Request::Doctor);
        let (found, remedy) = (Line::new("nothing \x1b[2Jmoves"), Line::new("kick it"));
        let check = Check { name: Text::new("frames-change"), verdict, found, remedy };
        send(&mut peer, &GuestDiagnostics::Check(check), &[]);
        end(peer, Outcome::Done);
        let (mut peer, request) = accept(&guest);
        assert_eq!(request, Request::Echo);
        let start_time = std::time::Instant::now();
        while let Some(frame) = peer.frame() {
            match wire::decode(&frame.message).expect("a message") {
                HostDiagnostics::Data => {
                    let now = GuestTime(start_time.elapsed().as_nanos() as u64 + 1_000_000_000);
                    let echo = GuestDiagnostics::Echo { received: now, sent: now, wall: 0 };
                    send(&mut peer, &echo, &frame.bulk);
                }
                HostDiagnostics::EndOfData => {
                    send(&mut peer, &GuestDiagnostics::End(Outcome::Done), &[]);
                }
                other => panic!("{other:?}"),
            }
        }
        let (mut peer, request) = accept(&guest);
        assert!(matches!(request, Request::Throughput { .. }));
        for _ in 0..100 {
            send(&mut peer, &GuestDiagnostics::Data, &[0; 65_536]);
        }
        end(peer, Outcome::Done);
        let (code, stdout, stderr) = finish(child);
        // A fake agent is of another release, and its wall clock stands at 1970.
        assert_eq!(code, status, "{stdout}{stderr}");
        for part in [
            "versions",
            "frames-change",
            "→ kick it",
            "vsock-round-trip",
            "clock-offset",
            "vsock-throughput",
        ] {
            assert!(stdout.contains(part), "{part} in {stdout}");
        }
        assert!(!stdout.contains('\x1b'), "no escapes off a terminal: {stdout}");
    }
}

#[test]
fn a_log_reader_is_told_what_it_missed() {
    let (code, stdout, _) = ask(&["logs", "--level", "err", "-n", "5"], |mut peer, request| {
        assert!(matches!(
            request,
            Request::Logs { level: LogLevel(3), last: 5, since: 0, follow: false, .. }
        ));
        let (time, level) = (1_700_000_000_000_000, LogLevel(3));
        let (origin, text) = (Text::new("agent"), Line::new("it broke"));
        send(&mut peer, &GuestDiagnostics::Record { time, level, origin, text }, &[]);
        send(&mut peer, &GuestDiagnostics::RecordsLost(17), &[]);
        end(peer, Outcome::Done);
    });
    assert_eq!(code, 0);
    assert!(stdout.contains("error agent it broke\n… 17 records are missing here"), "{stdout}");
}

#[test]
fn pictures_that_cannot_be_are_refused() {
    let folder = Folder::new();
    let file = folder.join("shot.png");
    let shoot = |answer: &dyn Fn(&mut Peer)| {
        ask(&["screenshot", file.to_str().expect("text")], |mut peer, _| {
            answer(&mut peer);
            end(peer, Outcome::Done);
        })
    };
    let picture = |width, height| GuestDiagnostics::Picture { width, height };
    let answers: [&dyn Fn(&mut Peer); 5] = [
        &|_| {},
        &|peer| send(peer, &picture(0, 5), &[]),
        &|peer| send(peer, &picture(u32::MAX, u32::MAX), &[]),
        &|peer| {
            send(peer, &picture(2, 2), &[]);
            send(peer, &GuestDiagnostics::Data, &[1; 11]);
        },
        &|peer| {
            send(peer, &picture(2, 2), &[]);
            send(peer, &GuestDiagnostics::Data, &[1; 13]);
        },
    ];
    for answer in answers {
        let (code, _, stderr) = shoot(answer);
        assert_eq!(code, 1);
        assert!(stderr.contains("makes no sense"), "{stderr}");
        assert!(!file.exists(), "no half picture");
    }
    let (code, stdout, stderr) = shoot(&|peer| {
        send(peer, &picture(2, 2), &[]);
        send(peer, &GuestDiagnostics::Data, &[1; 12]);
    });
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("2x2"));
    assert!(std::fs::read(&file).expect("a file").starts_with(b"\x89PNG"));
}

#[test]
fn copies_are_whole_or_not_there() {
    let folder = Folder::new();
    let file = folder.join("copy");
    let text = file.to_str().expect("text");
    let pull = |lose: bool| {
        ask(&["cp", ":/etc/motd", text], move |mut peer, request| {
            assert_eq!(request, Request::Pull { path: Line::new("/etc/motd") });
            send(&mut peer, &GuestDiagnostics::File { size: 6, mode: 0o4755 }, &[]);
            send(&mut peer, &GuestDiagnostics::Data, b"abc");
            if !lose {
                send(&mut peer, &GuestDiagnostics::Data, b"def");
                end(peer, Outcome::Done);
            }
        })
    };
    let left = |folder: &Path| std::fs::read_dir(folder).expect("a folder").count();
    let parent = file.parent().expect("a folder").to_path_buf();
    assert_eq!(pull(true).0, 1);
    assert_eq!(left(&parent), 0, "nothing half done stays");
    assert_eq!(pull(false).0, 0);
    assert_eq!(std::fs::read(&file).expect("a file"), b"abcdef");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&file).expect("a file").permissions(),
    );
    assert_eq!(mode & 0o7777, 0o755, "no set-user-id by a guest's word");

    let content: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
    std::fs::write(&file, &content).expect("a file");
    let (code, stdout, stderr) = ask(&["cp", text, ":/tmp/", "--json"], |mut peer, request| {
        let (path, size) = (Line::new("/tmp/copy"), content.len() as u64);
        assert_eq!(request, Request::Push { path, mode: 0o755, size });
        let mut got = Vec::new();
        loop {
            let frame = peer.frame().expect("all of the file");
            match wire::decode(&frame.message).expect("a message") {
                HostDiagnostics::Data => got.extend(frame.bulk),
                HostDiagnostics::EndOfData => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got, content);
        end(peer, Outcome::Done);
    });
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(json(&stdout)["bytes"], 300_000);

    // A full disk: the reason arrives while we still send.
    let big = folder.join("big");
    std::fs::File::create(&big).and_then(|f| f.set_len(64 << 20)).expect("a sparse file");
    let (code, _, stderr) = ask(&["cp", big.to_str().expect("text"), ":/tmp/x"], |mut peer, _| {
        peer.frame();
        let why = Line::new("No space left on device");
        send(&mut peer, &GuestDiagnostics::End(Outcome::Failed { why }), &[]);
        while peer.frame().is_some() {}
    });
    assert_eq!(code, 1);
    assert!(stderr.contains("No space left on device"), "{stderr}");
}

#[test]
fn a_command_has_its_streams_signals_and_status() {
    let folder = Folder::new();
    let guest = FakeGuest::new(&folder.join("vm.vsock"));
    let mut child = start(&guest.address(), &["shell", "--", "cat", "a b"]);
    let (mut peer, request) = accept(&guest);
    let command = Some(Line::new("cat 'a b'"));
    assert_eq!(request, Request::Shell { command, terminal: None });
    let mut heartbeats = Some(guest);
    std::thread::spawn(move || {
        // The watcher beside it.
        let guest = heartbeats.take().expect("once");
        let (mut peer, request) = accept(&guest);
        assert_eq!(request, Request::Echo);
        while let Some(frame) = peer.frame() {
            let now = GuestTime(1);
            send(
                &mut peer,
                &GuestDiagnostics::Echo { received: now, sent: now, wall: 0 },
                &frame.bulk,
            );
        }
    });
    child.stdin.take().expect("it is piped").write_all(b"hello").expect("it reads");
    let frame = peer.frame().expect("input");
    assert_eq!(
        (wire::decode(&frame.message), frame.bulk),
        (Ok(HostDiagnostics::Data), b"hello".to_vec())
    );
    let mut next = || wire::decode::<HostDiagnostics>(&peer.frame().expect("more").message);
    assert_eq!(next(), Ok(HostDiagnostics::EndOfData));
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(signal.expect("kill").success());
    assert_eq!(next(), Ok(HostDiagnostics::Signal(Signal::Interrupt)));
    send(&mut peer, &GuestDiagnostics::Data, b"out\n");
    send(&mut peer, &GuestDiagnostics::ErrorData, b"err\n");
    send(&mut peer, &GuestDiagnostics::Exited(130), &[]);
    end(peer, Outcome::Done);
    let (code, stdout, stderr) = finish(child);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (130, "out\n", "err\n"));
}

#[test]
fn garbage_and_kinds_from_the_future_are_survived() {
    let (code, stdout, _) = ask(&["info"], |mut peer, request| {
        assert_eq!(request, Request::Info);
        // Kind 99 with something behind it.
        peer.stream.write_all(&[3, 0, 0, 0, 0, 0, 0, 0, 99, 1, 2]).expect("it reads");
        let value = transom_protocol::diagnostics::Value::Number(2);
        send(&mut peer, &GuestDiagnostics::Fact { path: Text::new("cpu.count"), value }, &[]);
        end(peer, Outcome::Done);
    });
    assert_eq!(code, 0);
    assert!(stdout.contains("cpu\n  count"), "{stdout}");
    for bytes in [&[0xff; 64][..], &[2, 0, 0, 0, 0, 0, 0, 0, 1, 0xff]] {
        let (code, _, stderr) = ask(&["info"], |mut peer, _| {
            let _ = peer.stream.write_all(bytes);
        });
        assert_eq!(code, 1);
        assert!(stderr.contains("the diagnostic connection"), "{stderr}");
    }
}

#[test]
fn a_bundle_of_an_unreachable_guest_says_so() {
    let folder = Folder::new();
    let file = folder.join("report.tar.zst");
    let args = ["bundle", file.to_str().expect("text"), "--json"];
    let (code, stdout, stderr) = finish(start("unix:/nowhere/at.all", &args));
    assert_eq!(code, 0, "{stderr}");
    let summary = json(&stdout);
    assert_eq!(summary["files"], serde_json::json!(["manifest.json", "doctor.txt", "doctor.json"]));
    assert!(summary["missing"].as_array().expect("a list").len() > 3);
    assert!(file.exists());
}

#[test]
fn every_verb_shows_an_example() {
    let verbs = [
        "info",
        "doctor",
        "stats",
        "logs",
        "screenshot",
        "top",
        "reboot",
        "restart-compositor",
        "set",
        "shell",
        "cp",
        "bundle",
    ];
    for verb in verbs {
        let (code, stdout, _) = finish(start("vsock:3", &[verb, "--help"]));
        assert_eq!(code, 0);
        assert!(
            stdout.contains("transom diag vsock:3") || stdout.contains("transom diag unix:"),
            "{verb}: {stdout}"
        );
    }
}

#[test]
fn the_list_says_how_guests_are() {
    let folder = Folder::new();
    let guest = FakeGuest::new(&folder.join("vm.vsock"));
    drop(UnixListener::bind(folder.join("dead.vsock")).expect("a socket"));
    let silent = std::thread::spawn(move || {
        let (peer, request) = accept(&guest);
        assert!(matches!(request, Request::Stats { count: 1, .. }));
        end(peer, Outcome::Failed { why: Line::new("no figures yet") });
    });
    let list = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_transom"));
        command.arg("list").args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().expect("it was built"))
    };
    let at = |name: &str| format!("unix:{}", folder.join(name).display());
    let (code, stdout, stderr) = list(&[&at("vm.vsock"), &at("dead.vsock"), "--json"]);
    silent.join().expect("the guest");
    assert_eq!(code, 1, "{stderr}");
    let lines: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let state = |i: usize| lines[i]["state"].as_str().expect("a state").to_owned();
    assert_eq!([state(0), state(1)], ["no-answer", "unreachable"], "{stdout}");
    assert!(lines[0]["text"].as_str().expect("words").contains("no figures yet"));
}

#[test]
fn man_pages_and_completions_know_every_verb() {
    let folder = Folder::new();
    let dir = folder.join("out");
    let status = Command::new(env!("CARGO_BIN_EXE_transom"))
        .arg("manual")
        .arg(&dir)
        .status()
        .expect("it was built");
    assert!(status.success());
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).expect(name);
    for verb in ["logs", "screenshot", "bundle"] {
        assert!(read("bash/transom.bash").contains(verb), "{verb}");
        assert!(read("zsh/_transom").contains(verb), "{verb}");
        assert!(read("fish/transom.fish").contains(verb), "{verb}");
        let page = read(&format!("man1/transom-diag-{verb}.1"));
        assert!(page.contains("transom diag vsock:3"), "an example in {page}");
    }
    assert!(read("man1/transom.1").contains("relay"));
}
