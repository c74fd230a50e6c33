//! The relay under test: a child process, its JSON lines and its SDP.

use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::guest::Guest;
use crate::process::Process;
use crate::run::{Test, release_dir};
use crate::transcript::Transcript;

/// For what a relay logs at once.
const LOG_DEADLINE: Duration = Duration::from_secs(30);

/// A running `transom relay`; dropped means killed.
pub struct Relay {
    process: Process,
    lines: Transcript,
    sdp: PathBuf,
    port: u16,
}

impl Relay {
    /// Relays `guest` to a free port of this host.
    pub fn start(test: &Test, guest: &Guest) -> Result<Self> {
        Self::start_at(test, &guest.address(), free_udp_port()?)
    }

    /// The same with settings of its own, as environment variables.
    pub fn start_with(test: &Test, guest: &Guest, settings: &[(&str, &str)]) -> Result<Self> {
        let mut command = Self::command();
        command.envs(settings.iter().copied());
        Self::start_command(test, command, &guest.address(), free_udp_port()?)
    }

    /// Relays `guest` by RTSP, too; yields its address there.
    pub fn start_rtsp(
        test: &Test,
        guest: &Guest,
        settings: &[(&str, &str)],
    ) -> Result<(Self, String)> {
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let settings = [settings, &[("TRANSOM_RTSP", &listen)]].concat();
        let relay = Self::start_with(test, guest, &settings)?;
        relay.wait_log("RTSP at ")?;
        Ok((relay, format!("rtsp://{listen}/guest")))
    }

    /// Waits until it logs this.
    pub fn wait_log(&self, pattern: &str) -> Result<()> {
        self.process.stderr().wait(pattern, LOG_DEADLINE)
    }

    /// Relays whatever is at `address` to `port` of this host.
    pub fn start_at(test: &Test, address: &str, port: u16) -> Result<Self> {
        Self::start_command(test, Self::command(), address, port)
    }

    /// The same, by a program of the caller's choice.
    pub fn start_command(
        test: &Test,
        mut command: Command,
        address: &str,
        port: u16,
    ) -> Result<Self> {
        let sdp = test.dir().join(format!("{port}.sdp"));
        // A viewer waits for the file: one of an earlier relay must not deceive it.
        let _ = std::fs::remove_file(&sdp);
        command.args(["relay", address, "--json", "--rtp"]);
        command.arg(format!("udp://127.0.0.1:{port}")).arg("--sdp").arg(&sdp);
        let mut process =
            Process::spawn(test, "relay", command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let stdout = process.child().stdout.take().context("stdout was piped")?;
        let lines = Transcript::of(stdout, &test.dir().join("relay-json.log"))?;
        Ok(Self { process, lines, sdp, port })
    }

    /// The bare program, for command lines that a test makes up itself.
    pub fn command() -> Command {
        Process::command(release_dir().join("transom"))
    }

    /// Where its SDP is, or will be.
    pub fn sdp(&self) -> PathBuf {
        self.sdp.clone()
    }

    /// The RTP port that it sends to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The child process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits for a JSON line that `find` likes, of all lines since the mark `start`.
    pub fn wait_from<T>(
        &self,
        start: usize,
        deadline: Duration,
        what: &str,
        mut find: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        self.lines
            .wait_from(start, deadline, what, |text| json_lines(text).find_map(|v| find(&v)))
            .with_context(|| format!("the relay's log:\n{}", self.process.stderr().text()))
    }

    /// The same, of all lines since it began.
    pub fn wait<T>(
        &self,
        deadline: Duration,
        what: &str,
        find: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        self.wait_from(0, deadline, what, find)
    }

    /// Waits until it tells, behind the mark, that it is in this state; returns its words.
    pub fn wait_state(&self, start: usize, state: &str, deadline: Duration) -> Result<String> {
        self.wait_from(start, deadline, &format!("state {state}"), |line| {
            let is_it = line["event"] == "state" && line["state"] == state;
            is_it.then(|| line["text"].as_str().unwrap_or_default().to_owned())
        })
    }

    /// Waits for the figures of a second that begins now.
    pub fn wait_stats(&self, deadline: Duration) -> Result<Value> {
        let mut count = 0;
        self.wait_from(self.mark(), deadline, "figures", |line| {
            count += u32::from(line["event"] == "stats");
            // The first may tell of what was before.
            (line["event"] == "stats" && count > 1).then(|| line.clone())
        })
    }

    /// A mark for [`Relay::wait_from`].
    pub fn mark(&self) -> usize {
        self.lines.len()
    }

    /// All JSON lines so far.
    pub fn lines(&self) -> Vec<Value> {
        json_lines(&self.lines.text()).collect()
    }
}

/// A port of this host with a free neighbour for RTCP, at this moment.
pub fn free_udp_port() -> Result<u16> {
    for _ in 0..100 {
        let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port() & !1;
        let free = |p| UdpSocket::bind(("0.0.0.0", p)).is_ok();
        if free(port) && free(port + 1) {
            return Ok(port);
        }
    }
    anyhow::bail!("no two neighbouring UDP ports are free")
}

fn json_lines(text: &str) -> impl Iterator<Item = Value> {
    // The last line may still be half written.
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}
