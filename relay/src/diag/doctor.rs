//! Named checks, host first: which of hypervisor, socket, kernel, agent or stage is at fault.
//!
//! ```text
//!   reach.rs   socket ─ hypervisor ─ kernel ─ agent listens ─ agent answers ─ versions
//!   the agent  its own checks, as it names them
//!   way.rs     round trip ─ clocks ─ throughput: measured over the same vsock
//!   viewers.rs what a relay says that its viewers get, if one is named
//! ```
//!
//! The first group needs nothing but this host, so that an unreachable guest has a diagnosis too.

use std::{fmt, time::Duration};

use serde_json::{Value, json};
use transom_protocol::{
    diagnostics::{Check, GuestDiagnostics, Line, Request, Verdict},
    message::Text,
};

use super::{Client, DiagError, tell};

pub mod reach;
pub mod viewers;
pub mod way;

/// An agent has some dozen checks; one that has more than this is up to no good.
const MAX_CHECKS: usize = 200;

/// The slowest check encodes and decodes a picture, in an emulated guest perhaps.
const SILENCE: Duration = Duration::from_secs(30);

/// All checks, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The checks.
    pub checks: Vec<Check>,
}

/// Examines a guest. `tell` gets each check as it is done.
///
/// # Errors
///
/// None for a sick guest, that is what the checks say; only what concerns ourselves.
pub async fn examine(
    client: &Client,
    relay: Option<&str>,
    mut tell: impl FnMut(&Check) -> Result<(), DiagError>,
) -> Result<Report, DiagError> {
    let mut report = Report::default();
    let mut add = |check: Check| {
        let told = tell(&check);
        report.checks.push(check);
        told
    };
    let reached = client.connect().await;
    for check in reach::checks(client.guest(), reached.as_ref().map(|answers| answers.welcome())) {
        add(check)?;
    }
    if reached.is_ok() {
        // Its place is free again for the questions that follow.
        drop(reached);
        for check in guests_own(client).await {
            add(check)?;
        }
        for check in way::checks(client).await {
            add(check)?;
        }
    }
    add(match relay {
        Some(relay) => viewers::ask(relay, client.guest()).await,
        None => viewers::unasked(),
    })?;
    Ok(report)
}

async fn guests_own(client: &Client) -> Vec<Check> {
    let mut checks = Vec::new();
    let all = async {
        let mut answers = client.ask(Request::Doctor).await?;
        answers.set_silence(Some(SILENCE));
        while let Some(answer) = answers.next().await? {
            if let GuestDiagnostics::Check(check) = answer.message {
                if checks.len() == MAX_CHECKS {
                    return Err(answers.nonsense(format!("more than {MAX_CHECKS} checks")));
                }
                checks.push(check);
            }
        }
        Ok(())
    };
    let result: Result<(), DiagError> = all.await;
    if let Err(error) = result {
        checks.push(check(
            "guest-checks",
            Verdict::Fail,
            format!("the agent's own checks broke off: {error}"),
            "Look at `transom diag GUEST logs`; restart transom-agent.service if it hangs",
        ));
    }
    checks
}

/// Puts a check together.
pub(crate) fn check(
    name: &str,
    verdict: Verdict,
    found: impl Into<String>,
    remedy: impl Into<String>,
) -> Check {
    let (found, remedy) = (Line::new(found), Line::new(remedy));
    Check { name: Text::new(name), verdict, found, remedy }
}

impl Report {
    /// The worst verdict; a skipped check is no blemish.
    pub fn verdict(&self) -> Verdict {
        let verdicts = self.checks.iter().map(|check| check.verdict);
        match verdicts.max().unwrap_or(Verdict::Pass) {
            Verdict::Skip => Verdict::Pass,
            worst => worst,
        }
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let one = |check: &Check| {
            json!({
                "name": check.name.to_string(),
                "verdict": verdict_name(check.verdict),
                "found": check.found.to_string(),
                "remedy": check.remedy.to_string(),
            })
        };
        json!({
            "verdict": verdict_name(self.verdict()),
            "checks": self.checks.iter().map(one).collect::<Vec<_>>(),
        })
    }

    /// The last line for people.
    pub fn summary(&self) -> String {
        let count = |verdict| self.checks.iter().filter(|check| check.verdict == verdict).count();
        let (failed, warned) = (count(Verdict::Fail), count(Verdict::Warn));
        let first = self.checks.iter().find(|check| check.verdict == self.verdict());
        match (self.verdict(), first) {
            (Verdict::Fail | Verdict::Warn, Some(first)) => {
                format!("{failed} failed, {warned} with a blemish; begin with {}\n", first.name)
            }
            _ => format!("all {} checks are as they should be\n", self.checks.len()),
        }
    }
}

/// One check for people, with its remedy on a line of its own.
pub fn text(check: &Check, colours: bool) -> String {
    let (word, sgr) = match check.verdict {
        Verdict::Pass => ("pass", tell::GREEN),
        Verdict::Skip => ("skip", tell::DIM),
        Verdict::Warn => ("WARN", tell::YELLOW),
        Verdict::Fail => ("FAIL", tell::RED),
    };
    let word = tell::Paint(word, if colours { sgr } else { tell::PLAIN });
    let mut text = format!("{word}  {:<20} {}\n", check.name.to_string(), check.found);
    if !check.remedy.as_str().is_empty() {
        text.push_str(&format!("      {:<20} → {}\n", "", check.remedy));
    }
    text
}

/// A verdict's name in JSON.
pub fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Skip => "skip",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.checks.iter().try_for_each(|check| f.write_str(&text(check, false)))?;
        f.write_str(&self.summary())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_verdict_counts_and_skipped_ones_do_not() {
        let report = |verdicts: &[Verdict]| Report {
            checks: verdicts.iter().map(|&v| check("x", v, "found", "")).collect(),
        };
        use Verdict::{Fail, Pass, Skip, Warn};
        assert_eq!(report(&[Pass, Skip]).verdict(), Pass);
        assert_eq!(report(&[Pass, Warn, Skip]).verdict(), Warn);
        assert_eq!(report(&[Fail, Warn, Skip]).verdict(), Fail);
        assert_eq!(report(&[]).verdict(), Pass);
        assert!(report(&[Fail, Warn]).summary().starts_with("1 failed, 1 with a blemish"));
        assert_eq!(report(&[Fail]).json()["checks"][0]["verdict"], "fail");
    }

    #[test]
    fn remedies_stand_below() {
        let check = check("crtc-lit", Verdict::Fail, "nothing is shown", "start a compositor");
        let text = text(&check, false);
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with("FAIL  crtc-lit             nothing"), "{text}");
    }
}
