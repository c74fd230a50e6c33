//! `transom.exe` under Wine: what it says, where it keeps things, and that a real guest's pictures
//! come out of it, also as a service. Run by `make test-windows`, which builds it; it is no part of the ordinary tests,
//! for the cross-build takes minutes.
//!
//! Wine has no Hyper-V: the way to the guest is a tunnel, and `hyperv:` can only fail, clearly.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use transom_tests::card::pattern;
use transom_tests::wine::{Wine, tunnel};
use transom_tests::{Relay, Test, Uml, Viewer, free_udp_port, machine_test};

const LIMIT: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(60);
/// What a still picture has to reach.
const TRUE: f64 = 35.0;
const GUID: &str = "0f3c2a64-92a1-4a8b-8d5b-7a1d2f3e4c5b";

fn transom(wine: &Wine, arguments: &[&str]) -> Result<(Output, String, String)> {
    let output = wine.transom().args(arguments).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    Ok((output, out, err))
}

fn good(wine: &Wine, arguments: &[&str]) -> Result<String> {
    let (output, out, err) = transom(wine, arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {:?}: {err}", output.status);
    Ok(out)
}

fn refused(wine: &Wine, arguments: &[&str], status: i32, why: &str) -> Result<()> {
    let (output, out, err) = transom(wine, arguments)?;
    let found = output.status.code();
    ensure!(found == Some(status), "{arguments:?} ended with {found:?}: {out}{err}");
    ensure!(err.contains(why), "{arguments:?} said: {err}");
    Ok(())
}

#[test]
#[ignore = "needs target/windows/transom.exe and Wine: make test-windows"]
fn it_says_what_it_is_and_what_it_lacks() {
    machine_test("it says what it is and what it lacks", LIMIT, |test| {
        let wine = Wine::new(test)?;
        let version = good(&wine, &["--version"])?;
        ensure!(version.trim().ends_with(env!("CARGO_PKG_VERSION")), "{version}");
        for verb in ["relay", "vm", "list", "link", "diag", "doctor", "service"] {
            let help = good(&wine, &[verb, "--help"])?;
            ensure!(help.contains("Example") && help.contains("transom"), "{verb}: {help}");
        }

        // What only another system has is said to be so.
        refused(&wine, &["relay", "unix:/run/vm.vsock"], 1, "name a Hyper-V VM, hyperv:NAME")?;
        refused(&wine, &["relay", "vsock:3"], 1, "this host has no vsock")?;
        refused(&wine, &["relay", "tcp:192.0.2.1:5"], 2, "needs a loopback address")?;
        // Wine takes no AF_HYPERV, as a Windows without the role.
        refused(&wine, &["relay", &format!("hyperv:{GUID}")], 1, "Hyper-V is not installed")?;
        // Its powershell.exe does nothing and says that all went well.
        let silent = "PowerShell did not run the script";
        refused(&wine, &["relay", "hyperv:Büro ゲーム"], 1, silent)?;
        refused(&wine, &["vm", "list"], 1, silent)?;
        refused(&wine, &["vm", "start", "doom"], 1, silent)?;
        refused(&wine, &["list"], 1, silent)?;
        refused(&wine, &["vm", "start", "a/b"], 2, "letters of any language")?;
        // A service that could not start is refused at once, and only Windows starts one.
        refused(&wine, &["service", "install", "--", "hyperv:"], 2, "hyperv: needs the name")?;
        let run = ["service", "run", "x", "--folder", "C:\\", "--state", "C:\\", "--", "hyperv:x"];
        refused(&wine, &run, 1, "this is for the service manager")?;
        refused(&wine, &["service", "uninstall"], 1, "there is no service transom-relay")?;

        // Names in any language get through the command line and out again, as UTF-8.
        let image = "C:\\Bilder mit Leerzeichen\\Büro ゲーム.vhdx";
        let plan = good(&wine, &["vm", "create", "Büro ゲーム", "--vhdx", image, "--dry-run"])?;
        ensure!(plan.contains("$name = 'Büro ゲーム'"), "{plan}");
        ensure!(plan.contains(&format!("$image = '{image}'")), "{plan}");

        // The secret behind links lies where Windows keeps what is one user's, on one machine.
        let link = good(&wine, &["link", "doom", "--url", "http://127.0.0.1:8889"])?;
        ensure!(link.contains("http://"), "{link}");
        let users = wine.drive_c().join("users");
        let found = std::fs::read_dir(&users)?
            .flatten()
            .any(|user| user.path().join("AppData/Local/transom/key").is_file());
        ensure!(found, "no AppData/Local/transom/key below {}", users.display());
        // A folder of one's own, long and in another script.
        let folder = format!("C:\\日本語\\{}", "lang\\".repeat(50));
        let output = wine
            .transom()
            .args(["link", "doom", "--url", "http://127.0.0.1:8889"])
            .env("TRANSOM_STATE", &folder)
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let key = wine.drive_c().join("日本語").join("lang/".repeat(50)).join("key");
        ensure!(key.is_file(), "no {}", key.display());
        Ok(())
    });
}

#[test]
#[ignore = "needs target/windows/transom.exe and Wine: make test-windows"]
fn a_guests_pictures_come_out_of_it() {
    machine_test("a guests pictures come out of it", LIMIT, |test| {
        let wine = Wine::new(test)?;
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("still 1")?;

        let address = tunnel(&guest.vsock()?)?;
        let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut command = wine.transom();
        command.env("TRANSOM_HTTP", &http);
        let name = format!("doom={address}");
        let mut relay = Relay::start_command(test, command, &name, free_udp_port()?)?;
        relay.wait(SOON, "a picture", |line| {
            (line["state"] == "streaming" && line["width"] == 1280).then_some(())
        })?;

        // RTP, by Linux' loopback, decoded by ffmpeg: what the screen shows, and what it shows next.
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        let psnr = viewer.wait_like(&pattern(1, 1280, 720), TRUE, SOON)?;
        println!("{psnr:.1} dB");
        card.tell("mode 1024x768 XRGB8888")?;
        card.tell("still 2")?;
        viewer.wait_like(&card.expected()?, TRUE, SOON)?;
        ensure!(viewer.complaints().is_empty(), "ffmpeg: {:?}", viewer.complaints());

        let page = get(&http, "/doom/")?;
        ensure!(page.starts_with("HTTP/1.1 200") && page.contains("<html"), "{page}");
        let guests = get(&http, "/api/guests")?;
        let body = guests.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        ensure!(body.contains("\"doom\"") && body.contains("1024"), "{guests}");

        // The other verbs find it by the same address.
        let info = good(&wine, &["diag", &address, "info"])?;
        ensure!(info.contains("1024x768"), "{info}");
        let listed = good(&wine, &["list", &address])?;
        ensure!(listed.contains("streaming"), "{listed}");

        // An agent that dies and comes back.
        let mark = relay.mark();
        guest.kill_agent("KILL")?;
        guest.start_agent(&[])?;
        relay.wait_state(mark, "streaming", SOON)?;

        // Ctrl-C: an orderly end.
        relay.process().signal(Signal::SIGINT)?;
        let status = relay.process().wait(SOON)?;
        ensure!(status.code() == Some(0), "Ctrl-C: {status:?}");
        drop(viewer);
        as_a_service(test, &wine, &name)
    });
}

/// The same relay, started and stopped by the service manager.
fn as_a_service(test: &Test, wine: &Wine, guest: &str) -> Result<()> {
    let _session = wine.session(test)?;
    let (out, _) = status(wine, 4)?;
    ensure!(out.trim() == "transom-relay: not installed", "{out}");
    let (port, folder) = (free_udp_port()?, test.dir().canonicalize()?);
    let (target, sdp) = (format!("udp://127.0.0.1:{port}"), folder.join("service.sdp"));
    let sdp_there = format!("Z:{}", sdp.display()).replace('/', "\\");
    let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let relay = [guest, "--rtp", &target, "--sdp", &sdp_there, "--http", &http];
    let install = [&["service", "install", "--"], &relay[..]].concat();
    good(wine, &install)?;
    let viewer = Viewer::ffmpeg(test, &sdp)?;
    viewer.wait_frames(10, SOON)?;
    let (out, json) = status(wine, 0)?;
    ensure!(out.starts_with("transom-relay: running, process "), "{out}");
    ensure!(json["state"] == "running" && json["pid"].as_u64() > Some(0), "{json}");
    refused(wine, &install, 1, "there is a service of this name")?;

    // Its secret and its log are its own, and links are made with that secret.
    let state = wine.drive_c().join("ProgramData/transom/relay");
    ensure!(state.join("key").is_file(), "no key in {}", state.display());
    let link = good(wine, &["link", "doom", "--state", "C:\\ProgramData\\transom\\relay"])?;
    ensure!(link.starts_with(&format!("http://{http}/doom/#token=")), "{link}");
    let log = std::fs::read_to_string(state.join("transom.log"))?;
    ensure!(log.contains("pages at http://"), "{log}");

    let removed = good(wine, &["service", "uninstall"])?;
    ensure!(removed.trim() == "transom-relay is removed", "{removed}");
    // It is stopped, and goes when it has ended; its page is the first to go.
    let end = Instant::now() + SOON;
    while TcpStream::connect(&http).is_ok() || status(wine, 4).is_err() {
        ensure!(Instant::now() < end, "it is still there");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// What is told of the service, to people and to programs; it has to end with this status.
fn status(wine: &Wine, expected: i32) -> Result<(String, serde_json::Value)> {
    let (output, out, err) = transom(wine, &["service", "status"])?;
    ensure!(output.status.code() == Some(expected), "{:?}: {out}{err}", output.status);
    let (_, json, err) = transom(wine, &["service", "status", "--json"])?;
    Ok((out, serde_json::from_str(&json).with_context(|| format!("{json}{err}"))?))
}

fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).context("the page")?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
