//! Runs the program and takes what it says.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use transom_tests::{Guest, Picture, Process, Relay, Test};

/// For one command, even under load.
pub const SOON: Duration = Duration::from_secs(60);

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub status: i32,
    pub out: Vec<u8>,
    pub errors: String,
}

impl Said {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Its JSON lines.
    pub fn json(&self) -> Result<Vec<Value>> {
        let text = self.text();
        text.lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
    }

    /// The same, if it ended well.
    pub fn fine(self) -> Result<Self> {
        ensure!(self.status == 0, "status {}: {}{}", self.status, self.text(), self.errors);
        Ok(self)
    }
}

/// Runs `transom` with these arguments and this on its stdin.
pub fn transom(test: &Test, args: &[&str], input: &[u8]) -> Result<Said> {
    let mut command: Command = Relay::command();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(test, "transom", &mut command)?;
    let mut stdin = process.child().stdin.take().context("stdin was piped")?;
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let mut stdout = process.child().stdout.take().context("stdout was piped")?;
    let reader = std::thread::spawn(move || {
        let mut out = Vec::new();
        stdout.read_to_end(&mut out).map(|_| out)
    });
    let status = process.wait(SOON).with_context(|| format!("transom {args:?}"))?;
    let out = reader.join().map_err(|_| anyhow::anyhow!("the reader broke"))??;
    // It may end without reading all of it.
    let _ = writer.join();
    let status = status.code().with_context(|| format!("transom {args:?}: {status}"))?;
    // The transcript's thread may be a moment behind the process's end.
    let errors = process.stderr().text();
    Ok(Said { status, out, errors })
}

/// Runs `transom diag GUEST …`.
pub fn diag(test: &Test, guest: &Guest, args: &[&str]) -> Result<Said> {
    let address = guest.address();
    transom(test, &[&["diag", &address], args].concat(), b"")
}

/// The check of this name, of a doctor's JSON.
pub fn check(report: &Value, name: &str) -> Result<Value> {
    let checks = report["checks"].as_array().context("no checks")?;
    let found = checks.iter().find(|check| check["name"] == name);
    let check = found.with_context(|| format!("no check {name} in {report:#}"))?.clone();
    println!("{name}: {} {} → {}", check["verdict"], check["found"], check["remedy"]);
    Ok(check)
}

/// A PNG file as a picture.
pub fn read_png(path: &Path) -> Result<Picture> {
    let file = std::io::BufReader::new(std::fs::File::open(path)?);
    let mut reader = png::Decoder::new(file).read_info()?;
    let mut rgb = vec![0; reader.output_buffer_size().context("a picture too large")?];
    let info = reader.next_frame(&mut rgb)?;
    ensure!(info.color_type == png::ColorType::Rgb && info.bit_depth == png::BitDepth::Eight);
    Ok(Picture { width: info.width as usize, height: info.height as usize, rgb })
}
