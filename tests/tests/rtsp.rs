//! Ordinary players watch by RTSP, over UDP and TCP, several at once, whatever others do to the
//! relay meanwhile. OBS and VLC are not here: the one needs a desktop, the other, as Debian builds
//! it, has no RTSP (it was built without live555).

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use transom_tests::card::pattern;
use transom_tests::{Guest, Process, Relay, Test, Uml, Viewer, machine_test, project_dir};

const LIMIT: Duration = Duration::from_secs(180);
const LONG: Duration = Duration::from_secs(30);
/// For a first picture on a machine under load.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn players_watch_half_a_minute_over_udp() {
    machine_test("players watch half a minute over udp", LIMIT, |test| watch(test, "udp"));
}

#[test]
fn players_watch_half_a_minute_over_tcp() {
    machine_test("players watch half a minute over tcp", LIMIT, |test| watch(test, "tcp"));
}

/// Two at once, for half a minute, without a complaint.
fn watch(test: &Test, transport: &str) -> Result<()> {
    let guest = moving(test)?;
    let (_relay, url) = Relay::start_rtsp(test, &guest, &[])?;
    let viewers = [
        Viewer::ffmpeg_rtsp(test, &url, transport)?,
        Viewer::gstreamer_rtsp(test, &url, transport)?,
    ];
    for viewer in &viewers {
        viewer.wait_frames(1, SOON)?;
    }
    let started = Instant::now();
    while started.elapsed() < LONG {
        for viewer in &viewers {
            viewer.wait_frames(10, SOON)?;
        }
    }
    for viewer in &viewers {
        println!("{} frames", viewer.count());
        let complaints = viewer.complaints();
        ensure!(complaints.is_empty(), "{} complaints: {complaints:#?}", complaints.len());
    }
    Ok(())
}

#[test]
fn ffplay_and_ffprobe_play() {
    machine_test("ffplay and ffprobe play", LIMIT, |test| {
        let guest = moving(test)?;
        let (_relay, url) = Relay::start_rtsp(test, &guest, &[])?;
        for transport in ["udp", "tcp"] {
            let mut ffprobe = Command::new("ffprobe");
            ffprobe.args(["-v", "error", "-rtsp_transport", transport, "-show_entries"]);
            let told = ffprobe
                .args(["stream=codec_name,width,height", "-of", "csv=p=0", &url])
                .output()?;
            let words = String::from_utf8_lossy(&told.stdout);
            ensure!(words.trim() == "h264,1280,720", "{transport}: {told:?}");
            ensure!(told.stderr.is_empty(), "{transport}: {told:?}");
            let mut ffplay = Process::command("ffplay");
            ffplay
                .args(["-nostats", "-hide_banner", "-loglevel", "repeat+level+info"])
                .args(["-rtsp_transport", transport, "-an", "-vf", "showinfo=checksum=0", &url])
                .env("SDL_VIDEODRIVER", "dummy")
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            let ffplay = Process::spawn(test, &format!("ffplay-{transport}"), &mut ffplay)?;
            ffplay.stderr().wait("[info] n: 200 ", SOON * 2)?;
            let text = ffplay.stderr().text();
            ensure!(!text.contains("[error]") && !text.contains("[fatal]"), "{text}");
        }
        Ok(())
    });
}

#[test]
fn a_mode_change_and_a_new_agent_are_no_end() {
    machine_test("rtsp survives a mode change and a new agent", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate screen")?;
        let (_relay, url) = Relay::start_rtsp(test, &guest, &[])?;
        let viewers =
            [Viewer::ffmpeg_rtsp(test, &url, "udp")?, Viewer::ffmpeg_rtsp(test, &url, "tcp")?];
        for viewer in &viewers {
            viewer.wait_frames(10, SOON)?;
        }
        guest.kill_agent("KILL")?;
        guest.start_agent(&[])?;
        for viewer in &viewers {
            viewer.wait_frames(10, SOON)?;
        }
        card.tell("mode 800x600 XRGB8888")?;
        card.tell("animate screen")?;
        for viewer in &viewers {
            viewer.wait_picture(SOON, "the new size", |p| (p.width, p.height) == (800, 600))?;
        }
        Ok(())
    });
}

#[test]
fn a_screen_at_rest_is_shown_to_players_that_throw_away_what_they_probe() {
    machine_test("a screen at rest is shown by rtsp alone", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("still 3")?;
        // Nobody has plain RTP: no IDR comes but for who plays.
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut command = Relay::command();
        command.args(["relay", &guest.address(), "--rtsp", &listen]).stdin(Stdio::null());
        let relay = Process::spawn(test, "relay", &mut command)?;
        relay.stderr().wait("RTSP at ", SOON)?;
        let url = format!("rtsp://{listen}/guest");
        for transport in ["tcp", "udp"] {
            let viewer = Viewer::ffmpeg_rtsp(test, &url, transport)?;
            viewer.wait_like(&pattern(3, 1280, 720), 35.0, SOON).context(transport)?;
        }
        Ok(())
    });
}

#[test]
fn bad_clients_disturb_nobody() {
    machine_test("bad rtsp clients disturb nobody", LIMIT, |test| {
        let guest = moving(test)?;
        let (mut relay, url) = Relay::start_rtsp(test, &guest, &[])?;
        let viewer = Viewer::ffmpeg_rtsp(test, &url, "udp")?;
        viewer.wait_frames(60, SOON)?;

        let answer = Client::connect(&url)?.ask("DESCRIBE", "", "", &url.replace("guest", "x"))?;
        ensure!(
            answer.starts_with("RTSP/1.0 404 no guest of that name; there is guest"),
            "{answer}"
        );

        // One that asks for pictures and reads none of them.
        let mut stalled = Client::connect(&url)?;
        stalled.ask(
            "SETUP",
            "/video",
            "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n",
            &url,
        )?;
        stalled.ask("PLAY", "", "", &url)?;
        viewer.wait_frames(120, SOON)?;

        // What was missed is not made up for: it goes on, packet by packet in order.
        let mut last = None;
        for _ in 0..500 {
            let packet = stalled.packet()?;
            let number = u16::from_be_bytes([packet[2], packet[3]]);
            let expected = last.map_or(number, |last: u16| last.wrapping_add(1));
            ensure!(number == expected, "packet {number} follows {last:?}");
            last = Some(number);
        }

        // More of them than there may be, which say nothing.
        let host = url.trim_start_matches("rtsp://").trim_end_matches("/guest");
        let silent: Result<Vec<_>, _> = (0..800).map(|_| TcpStream::connect(host)).collect();
        let silent = silent?;
        viewer.wait_frames(60, SOON)?;
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01", b"SETUP x RTSP/1.0\r\n\r\n"]
        {
            let mut client = Client::connect(&url)?;
            client.socket.write_all(bytes)?;
            let mut answer = String::new();
            client.reader.read_to_string(&mut answer)?;
            ensure!(answer.starts_with("RTSP/1.0 400 "), "{answer}");
        }
        let late = Viewer::gstreamer_rtsp(test, &url, "tcp")?;
        late.wait_frames(60, SOON)?;
        viewer.wait_frames(60, SOON)?;
        let files = std::fs::read_dir(format!("/proc/{}/fd", relay.process().pid()))?.count();
        ensure!(files < 600, "{files} open files");
        drop(silent);

        let complaints = viewer.complaints();
        ensure!(complaints.is_empty(), "{complaints:#?}");
        Ok(())
    });
}

#[test]
fn players_show_links_where_links_are_needed() {
    machine_test("rtsp players show links", LIMIT, |test| {
        let guest = moving(test)?;
        let listen = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let state = test.dir().join("state").display().to_string();
        let settings = [
            ("TRANSOM_RTSP", listen.as_str()),
            ("TRANSOM_STATE", state.as_str()),
            ("TRANSOM_REQUIRE_TOKEN", "1"),
        ];
        let relay = Relay::start_with(test, &guest, &settings)?;
        relay.wait_log("RTSP at ")?;
        let link = |args: &[&str]| -> Result<serde_json::Value> {
            let mut command = Relay::command();
            command.args(["link", "--json"]).args(args).env("TRANSOM_STATE", &state);
            let told = command.output()?;
            ensure!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
            Ok(serde_json::from_slice(&told.stdout)?)
        };
        let url = |link: &serde_json::Value| link["url"].as_str().unwrap_or_default().to_owned();

        // None, one for another guest, one that has been taken back.
        let plain = format!("rtsp://{listen}/guest");
        let other = url(&link(&["other", "--rtsp", &listen])?).replace("/other", "/guest");
        let revoked = link(&["guest", "--rtsp", &listen])?;
        link(&["--revoke", revoked["id"].as_str().context("no id")?])?;
        for (url, status) in [(plain, "401"), (other, "403"), (url(&revoked), "401")] {
            let mut ffprobe = Command::new("ffprobe");
            let told = ffprobe.args(["-v", "error", "-rtsp_transport", "tcp", &url]).output()?;
            let words = String::from_utf8_lossy(&told.stderr);
            ensure!(!told.status.success() && words.contains(status), "{url}: {told:?}");
        }

        // Those that are good: two players that nobody here wrote.
        let view = link(&["guest", "--role", "view", "--rtsp", &listen])?;
        let viewers = [
            Viewer::ffmpeg_rtsp(test, &url(&view), "udp")?,
            Viewer::gstreamer_rtsp(test, &url(&view), "tcp")?,
        ];
        for viewer in &viewers {
            viewer.wait_frames(30, SOON)?;
        }
        // What opens the guest is nowhere in the log; and the link ends what it opened.
        link(&["--revoke", view["id"].as_str().context("no id")?])?;
        relay.wait_log("this link has been revoked")?;
        let log = std::fs::read_to_string(test.dir().join("relay.log"))?;
        for secret in ["name", "password"] {
            ensure!(!log.contains(view[secret].as_str().context("no such field")?), "{log}");
        }
        Ok(())
    });
}

#[test]
fn a_few_lines_of_python_receive() {
    machine_test("a few lines of python receive", LIMIT, |test| {
        let guest = moving(test)?;
        let (relay, url) = Relay::start_rtsp(test, &guest, &[])?;
        relay.wait_log("connected to")?;
        let sdp = relay.sdp();
        let end = Instant::now() + SOON;
        while !sdp.exists() {
            ensure!(Instant::now() < end, "no SDP");
            std::thread::sleep(Duration::from_millis(10));
        }
        let python = python()?;
        let file = sdp.display().to_string();
        for (source, tcp) in [(url.as_str(), false), (url.as_str(), true), (file.as_str(), false)] {
            let saved = test.dir().join("frame.png");
            let mut receive = Command::new(&python);
            receive.arg(project_dir().join("examples/receive.py")).arg(source);
            receive.args(["--seconds", "6", "--save"]).arg(&saved);
            if tcp {
                receive.arg("--tcp");
            }
            let told = receive.output()?;
            let words = String::from_utf8_lossy(&told.stdout);
            println!("{words}");
            ensure!(told.status.success(), "{told:?}");
            let last = words.lines().rfind(|line| line.contains("fps")).context("no figures")?;
            ensure!(last.starts_with("1280x720 ") && last.ends_with(" ms"), "{last}");
            ensure!(std::fs::read(&saved)?.starts_with(b"\x89PNG"), "no picture");
            std::fs::remove_file(&saved)?;
        }
        Ok(())
    });
}

/// A Python that has PyAV: the one that `tools/setup test` made.
fn python() -> Result<std::path::PathBuf> {
    let python = transom_tests::cache_dir()?.join("python/bin/python3");
    ensure!(python.exists(), "no {}: run tools/setup test", python.display());
    Ok(python)
}

/// A guest whose whole screen moves; the card goes on by itself.
fn moving(test: &Test) -> Result<Guest> {
    let guest = Uml::new(test).boot()?;
    guest.start_agent(&[])?;
    let mut card = guest.testcard()?;
    card.tell("mode 1280x720 XRGB8888")?;
    card.tell("animate screen")?;
    Ok(guest)
}

/// A client that does what it is told.
struct Client {
    socket: TcpStream,
    reader: BufReader<TcpStream>,
    cseq: u32,
}

impl Client {
    fn connect(url: &str) -> Result<Self> {
        let host = url.trim_start_matches("rtsp://").split('/').next().context("a host")?;
        let socket = TcpStream::connect(host)?;
        socket.set_read_timeout(Some(SOON))?;
        Ok(Self { reader: BufReader::new(socket.try_clone()?), socket, cseq: 0 })
    }

    fn ask(&mut self, method: &str, track: &str, lines: &str, url: &str) -> Result<String> {
        self.cseq += 1;
        let mut request = String::new();
        write!(request, "{method} {url}{track} RTSP/1.0\r\nCSeq: {}\r\n{lines}\r\n", self.cseq)?;
        self.socket.write_all(request.as_bytes())?;
        let mut answer = String::new();
        while !answer.ends_with("\r\n\r\n") {
            ensure!(self.reader.read_line(&mut answer)? > 0, "no answer to {method}");
        }
        Ok(answer)
    }

    /// The next RTP packet.
    fn packet(&mut self) -> Result<Vec<u8>> {
        loop {
            let mut head = [0; 4];
            self.reader.read_exact(&mut head)?;
            let [b'$', channel, high, low] = head else { bail!("no packet: {head:?}") };
            let mut packet = vec![0; u16::from_be_bytes([high, low]).into()];
            self.reader.read_exact(&mut packet)?;
            if channel == 0 {
                return Ok(packet);
            }
        }
    }
}
