//! Prometheus itself scrapes a relay, and its own tool finds nothing to complain about.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use transom_tests::{Process, Relay, Uml, Viewer, machine_test};

use crate::LIMIT;
use crate::ask::{SOON, check, diag};

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The body of a page.
fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.contains(" 200 "), "{head}");
    Ok(body.into())
}

#[test]
fn prometheus_scrapes_the_relay() {
    machine_test("prometheus scrapes the relay", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&[])?;
        let mut card = guest.testcard()?;
        card.tell("mode 1280x720 XRGB8888")?;
        card.tell("animate box")?;
        let port = free_port()?;
        let relay = Relay::start_with(test, &guest, &[("TRANSOM_METRICS", &port.to_string())])?;
        let viewer = Viewer::ffmpeg(test, &relay.sdp())?;
        viewer.wait_frames(30, SOON)?;

        let end = Instant::now() + SOON;
        let page = loop {
            let page = get(port, "/metrics")?;
            // The agent's own figures come on a connection of their own, a moment later.
            if page.contains("transom_guest_memory_bytes")
                && page.contains("transom_latency_seconds")
            {
                break page;
            }
            ensure!(Instant::now() < end, "no figures of the agent in\n{page}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        };
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("promtool is missing: tools/setup test")?;
        promtool.stdin.take().context("it is piped")?.write_all(page.as_bytes())?;
        let verdict = promtool.wait_with_output()?;
        let words = String::from_utf8_lossy(&verdict.stderr).into_owned();
        ensure!(verdict.status.success() && words.trim().is_empty(), "{words}\n{page}");

        let config = test.dir().join("prometheus.yml");
        std::fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: transom\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
            ),
        )?;
        let api = free_port()?;
        let mut command = Process::command("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", test.dir().join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{api}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let mut prometheus = Process::spawn(test, "prometheus", &mut command)?;
        let query = |what: &str| -> Result<f64> {
            let body: Value =
                serde_json::from_str(&get(api, &format!("/api/v1/query?query={what}"))?)?;
            let value = body["data"]["result"][0]["value"][1].as_str().context("nothing yet")?;
            Ok(value.parse()?)
        };
        let end = Instant::now() + SOON;
        let first = loop {
            ensure!(prometheus.is_running(), "{}", prometheus.stderr().text());
            match query("transom_frames_total") {
                Ok(count) => break count,
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(200)),
            }
        };
        while query("transom_frames_total")? <= first {
            if Instant::now() > end {
                bail!("the counter does not move");
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        ensure!(query("transom_up")? == 1.0);
        ensure!(query("transom_picture_width_pixels")? == 1280.0);
        ensure!(query("transom_guest_processors")? == 1.0);

        // The doctor asks the same page what viewers get.
        let said =
            diag(test, &guest, &["doctor", "--json", "--relay", &format!("127.0.0.1:{port}")])?;
        let report = said.json()?.pop().context("no report")?;
        ensure!(check(&report, "viewer-receives")?["verdict"] == "pass");
        Ok(())
    });
}
