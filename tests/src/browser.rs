//! A real browser: `tests/web/page.mjs` drives Chromium by Playwright, `tests/web/firefox.mjs`
//! Firefox by WebDriver BiDi, and both do what they are told.

use std::io::Write;
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::picture::Picture;
use crate::process::Process;
use crate::run::{Test, project_dir};
use crate::transcript::Transcript;

/// For what a browser does at once, on a machine that also emulates another.
const SOON: Duration = Duration::from_secs(60);

/// A browser with one page; dropped means killed.
pub struct Browser {
    process: Process,
    orders: ChildStdin,
    answers: Transcript,
    answered: usize,
    test: Test,
}

impl Browser {
    /// Starts Chromium.
    pub fn start(test: &Test) -> Result<Self> {
        Self::start_by(test, "page.mjs")
    }

    /// Starts Firefox, which knows fewer orders.
    pub fn start_firefox(test: &Test) -> Result<Self> {
        Self::start_by(test, "firefox.mjs")
    }

    fn start_by(test: &Test, script: &str) -> Result<Self> {
        let script = project_dir().join("tests/web").join(script);
        let mut command = Process::command("node");
        command.arg(&script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(test, "browser", &mut command)?;
        let orders = process.child().stdin.take().context("stdin was piped")?;
        let stdout = process.child().stdout.take().context("stdout was piped")?;
        let answers = Transcript::of(stdout, &test.dir().join("browser-answers.log"))?;
        Ok(Self { process, orders, answers, answered: 0, test: test.clone() })
    }

    /// Gives an order and returns what came of it.
    pub fn tell(&mut self, order: &Value) -> Result<Value> {
        writeln!(self.orders, "{order}")?;
        let (start, what) = (self.answered, order["do"].as_str().unwrap_or("an order"));
        let line = self
            .answers
            .wait_from(start, 2 * SOON, what, |text| {
                text.split_once('\n').map(|(line, _)| line.to_owned())
            })
            .with_context(|| format!("the browser's log:\n{}", self.process.stderr().text()))?;
        self.answered += line.len() + 1;
        let mut answer: Value = serde_json::from_str(&line)?;
        match answer["error"].as_str() {
            Some(error) => bail!("{order}: {error}"),
            None => Ok(answer["ok"].take()),
        }
    }

    /// Gives an order that has no arguments.
    pub fn tell_to(&mut self, what: &str) -> Result<Value> {
        self.tell(&json!({ "do": what }))
    }

    /// Opens a page.
    pub fn open(&mut self, url: &str) -> Result<()> {
        self.tell(&json!({ "do": "open", "url": url })).map(drop)
    }

    /// Waits until the page has shown so many more pictures of the guest.
    pub fn wait_frames(&mut self, count: u32) -> Result<()> {
        let order = json!({ "do": "frames", "count": count, "seconds": SOON.as_secs() });
        self.tell(&order).map(drop)
    }

    /// Waits until an element says something that matches.
    pub fn wait_text(&mut self, selector: &str, pattern: &str) -> Result<String> {
        let order = json!({ "do": "text", "selector": selector, "pattern": pattern, "seconds": SOON.as_secs() });
        Ok(self.tell(&order)?.as_str().unwrap_or_default().to_owned())
    }

    /// What the page shows of the guest now.
    pub fn picture(&mut self) -> Result<Picture> {
        let file = self.test.dir().join("page.ppm");
        self.tell(&json!({ "do": "picture", "file": file }))?;
        Picture::read_ppm(&file)
    }

    /// Waits until the page shows this picture, and returns how well in dB.
    pub fn wait_like(&mut self, wanted: &Picture, psnr: f64) -> Result<f64> {
        let end = std::time::Instant::now() + SOON;
        loop {
            let shown = self.picture()?;
            let db = shown.psnr(wanted).unwrap_or_default();
            if db >= psnr {
                return Ok(db);
            }
            if std::time::Instant::now() > end {
                let dir = self.test.dir();
                wanted.write_ppm(&dir.join("wanted.ppm"))?;
                bail!(
                    "the page shows something else: {db:.1} dB, want {psnr}; see {}",
                    dir.display()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
