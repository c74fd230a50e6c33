//! The program as a user runs it, against a guest without a machine.
#![cfg(unix)]

mod fake_guest;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::UdpSocket,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Instant,
};

use fake_guest::{DEADLINE, FakeGuest, Folder, Peer, fake_unit};
use serde_json::Value;
use transom_protocol::{
    Role,
    message::{Farewell, GuestControl, GuestHello, HostControl, Refusal},
};

/// A running relay with `--json`.
struct Transom {
    child: Child,
    events: mpsc::Receiver<Value>,
}

impl Transom {
    fn start(guest: &FakeGuest, args: &[&str]) -> Self {
        let mut child = command(&[&["relay", &guest.address(), "--json"], args].concat())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was built");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, events) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let line = line.expect("stdout is text");
                let _ = sender.send(serde_json::from_str(&line).expect(&line));
            }
        });
        Self { child, events }
    }

    /// Waits for an event that fulfils `is`.
    fn wait(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let (end, mut seen) = (Instant::now() + DEADLINE, Vec::new());
        loop {
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(event) if is(&event) => return event,
                Ok(event) => seen.push(event),
                Err(e) => panic!("{what}: {e}; seen were {seen:#?}"),
            }
        }
    }

    fn wait_state(&self, state: &str) -> Value {
        self.wait(state, |event| event["event"] == "state" && event["state"] == state)
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(kill.expect("there is kill").success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status.code();
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("it has not ended");
    }
}

impl Drop for Transom {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_transom"));
    command.args(args);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TRANSOM_")) {
        command.env_remove(name);
    }
    command
}

fn run(args: &[&str]) -> Output {
    command(args).output().expect("it was built")
}

/// Runs what must fail; yields stderr.
fn refused(code: i32, args: &[&str]) -> String {
    let output = run(args);
    let text = String::from_utf8(output.stderr).expect("messages are text");
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

/// A viewer on two neighbouring ports.
struct Viewer {
    rtp: UdpSocket,
    rtcp: UdpSocket,
}

impl Viewer {
    fn new() -> Self {
        for _ in 0..100 {
            let rtp = UdpSocket::bind("127.0.0.1:0").expect("a port");
            let port = rtp.local_addr().expect("it is bound").port();
            if let Some(Ok(rtcp)) = port.checked_add(1).map(|p| UdpSocket::bind(("127.0.0.1", p))) {
                rtp.set_read_timeout(Some(DEADLINE)).expect("a socket option");
                rtcp.set_read_timeout(Some(DEADLINE)).expect("a socket option");
                return Self { rtp, rtcp };
            }
        }
        panic!("no two neighbouring ports are free");
    }

    fn url(&self) -> String {
        format!("udp://{}", self.rtp.local_addr().expect("it is bound"))
    }

    fn packet(&self) -> Vec<u8> {
        let mut buffer = [0; 2000];
        let length = self.rtp.recv(&mut buffer).expect("a packet is due");
        buffer[..length].to_vec()
    }

    /// The packets of one access unit.
    fn unit(&self) -> Vec<Vec<u8>> {
        let mut packets = vec![self.packet()];
        while packets.last().is_some_and(|p| p[1] & 0x80 == 0) {
            packets.push(self.packet());
        }
        packets
    }
}

fn sequence(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[2], packet[3]])
}

#[test]
fn a_stream_reaches_viewers_and_their_wishes_the_guest() {
    let folder = Folder::new();
    let guest = FakeGuest::new(&folder.join("vm.vsock"));
    let (viewer, second, sdp) = (Viewer::new(), Viewer::new(), folder.join("x.sdp"));
    let (first_url, second_url) = (viewer.url(), second.url());
    let args = [
        "--rtp",
        &first_url,
        "--rtp",
        &second_url,
        "--idr-interval",
        "0",
        "--sdp",
        sdp.to_str().expect("a plain path"),
    ];
    let relay = Transom::start(&guest, &args);
    let (mut control, mut media) = guest.accept_session(1280, 720);
    let state = relay.wait_state("streaming");
    assert_eq!((&state["width"], &state["height"]), (&1280.into(), &720.into()));

    media.send_unit(0, true, &fake_unit(true, 60_000)).expect("the relay reads");
    let packets = viewer.unit();
    assert!(packets.len() > 50 && packets.iter().all(|p| p.len() <= 1200));
    assert!(second.unit() == packets, "all targets get the same packets");
    relay.wait("an SDP", |event| event["event"] == "sdp");
    let text = std::fs::read_to_string(&sdp).expect("it was told to be there");
    assert!(text.contains("profile-level-id=42C01F"), "{text}");

    let mut report = [0; 200];
    let (length, from) = viewer.rtcp.recv_from(&mut report).expect("a sender report is due");
    assert_eq!((&report[..2], length % 4), (&[0x80, 200][..], 0));
    assert_eq!(report[4..8], packets[0][8..12], "the report is about this stream");
    let pli = [&[0x81, 206, 0, 2, 0, 0, 0, 9][..], &packets[0][8..12]].concat();
    viewer.rtcp.send_to(&pli, from).expect("loopback");
    assert!(matches!(control.request(), Some(HostControl::RequestIdr { .. })));

    // Another machine's connection: the stream of packets goes on where it was.
    drop((control, media));
    relay.wait_state("waiting");
    let (mut control, mut media) = guest.accept_session(1280, 720);
    media.send_unit(0, true, &fake_unit(true, 10)).expect("the relay reads");
    let next = viewer.unit();
    assert_eq!(next[0][8..12], packets[0][8..12], "the SSRC stays");
    let last = packets.last().expect("there were some");
    assert_eq!(sequence(&next[0]), sequence(last).wrapping_add(1));

    relay.signal("-TERM");
    assert_eq!(control.request(), Some(HostControl::Goodbye));
    let mut relay = relay;
    assert_eq!(relay.exit_code(), Some(0));
    relay.wait_state("ended");
}

#[test]
fn figures_are_told_every_second() {
    let folder = Folder::new();
    let guest = FakeGuest::new(&folder.join("vm.vsock"));
    let relay = Transom::start(&guest, &["--bitrate", "1500000"]);
    let (mut control, mut media) = guest.accept_session(640, 480);
    assert!(
        matches!(control.request(), Some(HostControl::SetBitrate { bitrate, .. }) if bitrate.0 == 1_500_000)
    );
    std::thread::spawn(move || control.request());
    let feeder = std::thread::spawn(move || {
        let mut number = 0;
        while media.send_unit(number, number == 0, &fake_unit(number == 0, 1000)).is_ok() {
            number += 1;
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    let stats = relay.wait("figures", |e| e["event"] == "stats" && e["frames"].as_u64() > Some(20));
    assert_eq!(stats["width"], 640);
    assert!(stats["fps"].as_f64() > Some(1.0), "{stats:#}");
    let total = stats["latency_us"]["total"]["p99"].as_i64().expect("the clock is known by now");
    let uncertainty = stats["clock"]["uncertainty_us"].as_i64().expect("the clock is known by now");
    assert!(total >= -uncertainty, "{stats:#}");
    assert!(stats["clock"]["offset_us"].as_i64() > Some(1_000_000_000), "{stats:#}");
    drop(relay);
    feeder.join().expect("it ends with the relay");
}

#[test]
fn plain_rtp_gets_idrs_unasked() {
    let folder = Folder::new();
    let guest = FakeGuest::new(&folder.join("vm.vsock"));
    let viewer = Viewer::new();
    let _relay = Transom::start(&guest, &["--rtp", &viewer.url(), "--idr-interval", "0.1"]);
    let (mut control, mut media) = guest.accept_session(640, 480);
    media.send_unit(0, true, &fake_unit(true, 10)).expect("the relay reads");
    for _ in 0..3 {
        assert!(matches!(control.request(), Some(HostControl::RequestIdr { .. })));
    }
}

#[test]
fn a_gap_in_the_stream_asks_for_an_idr() {
    let folder = Folder::new();
    let guest = FakeGuest::new(&folder.join("vm.vsock"));
    let _relay = Transom::start(&guest, &[]);
    let (mut control, mut media) = guest.accept_session(640, 480);
    media.send_unit(0, true, &fake_unit(true, 10)).expect("the relay reads");
    media.send_unit(2, false, &fake_unit(false, 10)).expect("the relay reads");
    assert!(matches!(control.request(), Some(HostControl::RequestIdr { .. })));
}

#[test]
fn a_relay_that_was_replaced_does_not_fight() {
    let folder = Folder::new();
    let guest = FakeGuest::new(&folder.join("vm.vsock"));
    let mut relay = Transom::start(&guest, &[]);
    let (mut control, media) = guest.accept_session(640, 480);
    // The order that tempts: the media connection goes first.
    drop(media);
    control.send_control(&GuestControl::Goodbye(Farewell::Replaced));
    assert_eq!(relay.exit_code(), Some(3));
    relay.wait_state("taken-over");
}

#[test]
fn a_booting_guest_is_waited_for() {
    let folder = Folder::new();
    let guest = FakeGuest::new(&folder.join("vm.vsock"));
    let relay = Transom::start(&guest, &[]);
    for _ in 0..3 {
        drop(guest.accept_raw()); // no listener in the guest: closed without a word
    }
    let waiting = relay.wait_state("waiting");
    assert!(waiting["text"].as_str().is_some_and(|t| t.contains("still be booting")), "{waiting}");
    let _session = guest.accept_session(640, 480);
    relay.wait_state("streaming");
}

#[test]
fn garbage_costs_the_session_and_nothing_else() {
    let folder = Folder::new();
    let guest = FakeGuest::new(&folder.join("vm.vsock"));
    let relay = Transom::start(&guest, &[]);
    let garbage: [(Role, &[u8]); 4] = [
        (Role::MEDIA, &[0xff; 64]), // lengths over the limit
        (Role::CONTROL, &[0xff; 64]),
        (Role::MEDIA, &[1, 0, 0, 0, 0, 0, 0, 0, 1]), // a message cut short
        (Role::CONTROL, &[3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 99]), // a state that does not exist
    ];
    for (role, bytes) in garbage {
        let (mut control, mut media) = guest.accept_session(640, 480);
        relay.wait_state("streaming");
        let peer: &mut Peer = if role == Role::MEDIA { &mut media } else { &mut control };
        peer.stream.write_all(bytes).expect("the relay reads");
        // The relay closes both, whatever is on the way.
        while control.frame().is_some() {}
        assert_eq!(media.stream.read(&mut [0; 100]).unwrap_or(0), 0);
        let waiting = relay.wait_state("waiting");
        assert!(waiting["text"].as_str().is_some_and(|t| t.contains("connection")), "{waiting}");
    }
    let _session = guest.accept_session(640, 480);
    relay.wait_state("streaming");
}

#[test]
fn an_agent_of_another_version_is_no_use_to_wait_for() {
    let folder = Folder::new();
    let guest = FakeGuest::new(&folder.join("vm.vsock"));
    let mut relay = Transom::start(&guest, &[]);
    let (mut peer, _) = guest.accept_hello();
    peer.send_hello(&GuestHello::Refused(Refusal::Version { min: 7, max: 9 }));
    assert_eq!(relay.exit_code(), Some(1));
    let error = relay.wait("an error", |event| event["event"] == "error");
    assert!(error["text"].as_str().is_some_and(|t| t.contains("versions 7 to 9")), "{error}");
}

#[test]
fn a_wrong_guest_is_named_with_a_remedy() {
    let folder = Folder::new();
    let path = |name: &str| folder.join(name).to_str().expect("a plain path").to_owned();
    let missing = path("missing");
    let text = refused(1, &["relay", &format!("unix:{missing}")]);
    assert!(
        text.contains(&missing) && text.contains("no such file") && text.contains("VM"),
        "{text}"
    );
    let file = path("file");
    std::fs::write(&file, "").expect("a temporary file");
    let text = refused(1, &["relay", &format!("unix:{file}")]);
    assert!(text.contains("no socket"), "{text}");
    let text = refused(2, &["relay", "hyperv:doom"]);
    assert!(text.contains("Windows build"), "{text}");
    assert!(refused(2, &["relay", "doom"]).contains("unix:PATH, vsock:CID"));
}

#[test]
fn a_wrong_output_is_named_before_anything_is_streamed() {
    let guest = "unix:/nonexistent";
    let text = refused(2, &["relay", guest, "--rtp", "udp://127.0.0.1:70000"]);
    assert!(text.contains("port must be"), "{text}");
    let text = refused(2, &["relay", guest, "--rtp", "udp://no-such-host.invalid:5004"]);
    assert!(text.contains("no-such-host.invalid"), "{text}");
    let target = "udp://127.0.0.1:5004";
    let text = refused(1, &["relay", guest, "--rtp", target, "--rtp", "udp://127.0.0.1:5005"]);
    assert!(text.contains("share a port"), "{text}");
    let text = refused(1, &["relay", guest, "--rtp", target, "--sdp", "/nonexistent/x.sdp"]);
    assert!(text.contains("cannot write") && text.contains("/nonexistent/x.sdp"), "{text}");
    assert!(refused(2, &["relay", guest, "--sdp", "x.sdp"]).contains("--rtp"));
    assert!(!Path::new("x.sdp").exists());
}

#[test]
fn help_shows_examples() {
    let output = run(&["relay", "--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("help is text");
    assert!(
        text.contains("Examples:")
            && text.contains("--idr-interval")
            && text.contains("TRANSOM_SDP")
    );
}
