//! A relay whose viewers do as the test says: see `src/bin/player.rs`.

use std::io::Write;
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::guest::Guest;
use crate::process::Process;
use crate::run::{Test, release_dir};
use crate::transcript::Transcript;

/// A guest under load may need a while to answer.
const SOON: Duration = Duration::from_secs(60);

/// A running relay; dropped means killed.
pub struct Player {
    process: Process,
    orders: ChildStdin,
    lines: Transcript,
}

impl Player {
    /// Relays `guest` and waits until it takes input.
    pub fn start(test: &Test, guest: &Guest) -> Result<Self> {
        let mut command = Process::command(release_dir().join("player"));
        command.arg(guest.address()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(test, "player", &mut command)?;
        let orders = process.child().stdin.take().context("stdin was piped")?;
        let stdout = process.child().stdout.take().context("stdout was piped")?;
        let lines = Transcript::of(stdout, &test.dir().join("player-lines.log"))?;
        let player = Self { process, orders, lines };
        player.wait("ready")?;
        Ok(player)
    }

    /// Gives an order.
    pub fn tell(&mut self, order: &str) -> Result<()> {
        writeln!(self.orders, "{order}").context("the player is gone")
    }

    /// Waits for a line that starts so.
    pub fn wait(&self, prefix: &str) -> Result<String> {
        self.wait_within(prefix, SOON)
    }

    /// The same for what takes its time.
    pub fn wait_within(&self, prefix: &str, deadline: Duration) -> Result<String> {
        self.lines.wait_from(0, deadline, prefix, |text| {
            text.lines().find(|line| line.starts_with(prefix)).map(str::to_owned)
        })
    }

    /// The same, of what it says behind the mark `start`.
    pub fn wait_from(&self, start: usize, prefix: &str) -> Result<String> {
        self.lines.wait_from(start, SOON, prefix, |text| {
            text.lines().find(|line| line.starts_with(prefix)).map(str::to_owned)
        })
    }

    /// A mark for [`Player::wait_from`].
    pub fn mark(&self) -> usize {
        self.lines.len()
    }

    /// All that it said.
    pub fn text(&self) -> String {
        self.lines.text()
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
