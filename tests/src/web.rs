//! A relay that serves its page, and the links to it.

use std::any::Any;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::guest::Guest;
use crate::process::Process;
use crate::relay::Relay;
use crate::run::Test;

/// For a relay to listen, on a machine under load.
const SOON: Duration = Duration::from_secs(60);

/// A relay with a page; dropped means killed.
pub struct Web {
    /// Keeps the relay.
    _relay: Box<dyn Any>,
    base: String,
    state: String,
}

impl Web {
    /// Serves `guest` at a free port, with a secret of its own for links. The settings are
    /// environment variables.
    pub fn start(test: &Test, guest: &Guest, settings: &[(&str, &str)]) -> Result<Self> {
        Self::serve(test, |ours| {
            Ok(Box::new(Relay::start_with(test, guest, &[ours, settings].concat())?))
        })
    }

    /// Serves guests by these names and at these addresses, whether they are there or not.
    pub fn start_named(
        test: &Test,
        guests: &[(&str, &str)],
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        Self::serve(test, |ours| {
            let mut command = Relay::command();
            command.arg("relay").envs(ours.iter().chain(settings).copied()).stdin(Stdio::null());
            command.args(guests.iter().map(|(name, address)| format!("{name}={address}")));
            command.stdout(Stdio::null());
            Ok(Box::new(Process::spawn(test, "relay", &mut command)?))
        })
    }

    fn serve(
        test: &Test,
        start: impl FnOnce(&[(&str, &str)]) -> Result<Box<dyn Any>>,
    ) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
        let state = test.dir().join("state").to_string_lossy().into_owned();
        // Of an earlier relay of this test.
        let noted = Path::new(&state).join("relay");
        let _ = std::fs::remove_file(&noted);
        let relay = start(&[("TRANSOM_HTTP", port.as_str()), ("TRANSOM_STATE", state.as_str())])?;
        let end = Instant::now() + SOON;
        while !noted.exists() {
            ensure!(Instant::now() < end, "the relay serves no page; see relay.log");
            std::thread::sleep(Duration::from_millis(20));
        }
        let noted: Value = serde_json::from_slice(&std::fs::read(&noted)?)?;
        let base = noted["url"].as_str().context("the relay does not say where it is")?.to_owned();
        Ok(Self { _relay: relay, base, state })
    }

    /// Where its pages are, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Runs `transom link`, as JSON.
    pub fn link(&self, args: &[&str]) -> Result<Value> {
        let mut command = Relay::command();
        command.arg("link").args(args).arg("--json").env("TRANSOM_STATE", &self.state);
        let output = command.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// A link to the first guest.
    pub fn link_as(&self, role: &str) -> Result<String> {
        let name = self.guests()?[0]["name"].as_str().unwrap_or_default().to_owned();
        let link = self.link(&[&name, "--role", role])?;
        Ok(link["url"].as_str().context("no URL")?.to_owned())
    }

    /// `GET /api/guests`, as a script would.
    pub fn guests(&self) -> Result<Vec<Value>> {
        let url = format!("{}/api/guests", self.base);
        let mut command = Process::command("curl");
        // A certificate of a test's own is known to nobody.
        command.args(["-sSfk", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", &url]);
        let output = command.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}
