//! Players that open an address: VLC as Debian has it, which takes neither RTSP nor SDP, ffplay and
//! ffprobe, by MPEG-TS over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use transom_tests::{Process, Uml, Viewer, Web, machine_test};

const LIMIT: Duration = Duration::from_secs(240);
const LONG: Duration = Duration::from_secs(30);
/// For a first picture on a machine under load.
const SOON: Duration = Duration::from_secs(30);
/// What a picture has to reach, colours and all, in dB.
const TRUE: f64 = 30.0;
const SIZE: (usize, usize) = (1280, 720);

#[test]
fn vlc_and_others_play_half_a_minute_and_show_what_rests() {
    machine_test("vlc and others play a stream", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate screen")?;
        let web = Web::start(test, &guest, &[])?;
        let path = web.guests()?[0]["stream"].as_str().context("no stream")?.to_owned();
        let url = format!("{}{path}", web.base());

        let viewers = [Viewer::vlc(test, &url, SIZE)?, Viewer::ffmpeg_http(test, &url)?];
        for viewer in &viewers {
            viewer.wait_frames(1, SOON)?;
        }
        // One that asks and does not read.
        let mut stalled = TcpStream::connect(web.base().trim_start_matches("http://"))?;
        write!(stalled, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let started = Instant::now();
        while started.elapsed() < LONG {
            for viewer in &viewers {
                viewer.wait_frames(10, SOON)?;
            }
        }
        println!("{} and {} frames in half a minute", viewers[0].count(), viewers[1].count());
        resumes(&mut stalled)?;
        drop(stalled);

        let mut ffprobe = Command::new("ffprobe");
        ffprobe.args([
            "-v",
            "error",
            "-show_entries",
            "format=format_name:stream=codec_name,width",
        ]);
        let told = ffprobe.args(["-of", "csv=p=0", &url]).output()?;
        let words = String::from_utf8_lossy(&told.stdout);
        ensure!(words.contains("h264,1280") && words.contains("mpegts"), "{told:?}");
        ensure!(told.stderr.is_empty(), "{told:?}");
        let mut ffplay = Process::command("ffplay");
        ffplay
            .args(["-nostats", "-hide_banner", "-loglevel", "repeat+level+info", "-an"])
            .args(["-fflags", "nobuffer", "-flags", "low_delay"])
            .args(["-vf", "showinfo=checksum=0", &url])
            .env("SDL_VIDEODRIVER", "dummy")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let ffplay = Process::spawn(test, "ffplay", &mut ffplay)?;
        ffplay.stderr().wait("[info] n: 100 ", SOON * 2)?;
        let text = ffplay.stderr().text();
        ensure!(!text.contains("[error]") && !text.contains("[fatal]"), "{text}");
        drop(ffplay);

        // What rests is shown, though nothing follows; to who was there and to who joins.
        card.tell("still 3")?;
        let wanted = card.expected()?;
        let late = Viewer::vlc(test, &url, SIZE)?;
        for viewer in viewers.iter().chain([&late]) {
            println!("{:.1} dB", viewer.wait_like(&wanted, TRUE, SOON)?);
        }
        card.tell("still 4")?;
        let wanted = card.expected()?;
        for viewer in viewers.iter().chain([&late]) {
            viewer.wait_like(&wanted, TRUE, SOON)?;
        }
        for viewer in viewers.iter().chain([&late]) {
            let complaints = viewer.complaints();
            ensure!(complaints.is_empty(), "{} complaints: {complaints:#?}", complaints.len());
        }
        // Who is gone is a viewer no more.
        drop((viewers, late));
        let end = Instant::now() + SOON;
        while web.guests()?[0]["viewers"] != 0 {
            ensure!(Instant::now() < end, "the relay has viewers still: {:?}", web.guests()?);
        }
        Ok(())
    });
}

/// What a player missed is not made up for; what comes has no gaps, and goes on with an IDR.
fn resumes(stalled: &mut TcpStream) -> Result<()> {
    stalled.set_read_timeout(Some(SOON))?;
    let mut byte = [0];
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        stalled.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    ensure!(head.contains(" 200 ") && head.contains("video/mp2t"), "{head}");
    // More than the relay and the sockets between can have kept.
    let (mut packet, mut counter, mut last, mut gap, mut idr) = ([0; 188], None, 0, 0, false);
    for _ in 0..200_000 {
        stalled.read_exact(&mut packet)?;
        ensure!(packet[0] == 0x47, "no packet");
        let is_video = packet[1] & 0x1f == 1 && packet[2] == 0;
        let has_payload = packet[3] & 0x10 != 0;
        if !is_video {
            continue;
        }
        if packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x10 != 0 {
            let clock = packet[6..10].iter().fold(0, |n, &byte| n << 8 | i64::from(byte)) * 2;
            if last > 0 && clock - last > 90_000 {
                gap = clock - last;
            }
            // The first picture behind a gap starts a decoder.
            idr |= gap > 0 && has_payload && packet[5] & 0x40 != 0;
            last = clock;
        }
        if has_payload {
            let expected = counter.map_or(packet[3] & 15, |last| (last + 1) & 15);
            ensure!(packet[3] & 15 == expected, "a packet is missing");
            counter = Some(expected);
        }
        if idr {
            println!("it missed {:.1} s", gap as f64 / 90_000.0);
            return Ok(());
        }
    }
    anyhow::bail!("it missed nothing: it was kept for it, all the time")
}
