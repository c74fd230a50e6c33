//! Named checks, in an order in which the first that fails explains those below it.
//!
//! Each runs in a thread of its own with a deadline: a driver that never answers is a finding, not
//! the end of the examination.

mod picture;
mod system;

use std::collections::HashSet;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use transom_protocol::diagnostics::{Check, GuestDiagnostics, Line, Verdict};
use transom_protocol::message::Text;

use super::Context;
use super::conversation::{Answer, Conversation};

/// Encoding and decoding a picture in an emulated guest takes a few seconds.
const LIMIT: Duration = Duration::from_secs(20);
/// Checks decode pictures: OpenH264 wants more stack than a connection has.
const STACK: usize = 1024 * 1024;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    verdict: Verdict,
    found: String,
    remedy: String,
}

impl Finding {
    fn pass(found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Pass, found: found.into(), remedy: String::new() }
    }

    fn skip(found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skip, found: found.into(), remedy: String::new() }
    }

    fn warn(found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, found: found.into(), remedy: remedy.into() }
    }

    fn fail(found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, found: found.into(), remedy: remedy.into() }
    }
}

type Examine = fn(&Context) -> Finding;

/// All checks. Names are stable: scripts know them.
const CHECKS: [(&str, Examine); 13] = [
    ("agent", system::agent),
    ("stages-move", system::stages),
    ("vsock-transport", system::vsock),
    ("memory", system::memory),
    ("disk-space", system::disk),
    ("card-present", picture::card),
    ("crtc-lit", picture::lit),
    ("scanout-card", picture::configured),
    ("scanout-readable", picture::readable),
    ("frames-change", picture::changes),
    ("va-driver", picture::driver),
    ("encoder-works", picture::encoder),
    ("uinput-usable", system::uinput),
];

/// Checks that have not come back from an earlier examination.
static STUCK: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);

fn stuck<T>(change: impl FnOnce(&mut HashSet<&'static str>) -> T) -> T {
    change(STUCK.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// All of them, as they are done.
pub fn run(context: &Arc<Context>, talk: &mut Conversation) -> Answer {
    for (name, examine) in CHECKS {
        let Finding { verdict, found, remedy } = within_limit(context, name, examine);
        talk.say(&GuestDiagnostics::Check(Check {
            name: Text::new(name),
            verdict,
            found: Line::new(found),
            remedy: Line::new(remedy),
        }))?;
    }
    Ok(())
}

fn within_limit(context: &Arc<Context>, name: &'static str, examine: Examine) -> Finding {
    const REMEDY: &str = "a driver or the kernel hangs: look into its log (`transom diag … logs \
                          --kernel`), then restart the guest (`transom diag … reboot`)";
    if stuck(|stuck| stuck.contains(name)) {
        return Finding::fail("an earlier look has not come back yet", REMEDY);
    }
    let (done, verdict) = channel();
    let context = Arc::clone(context);
    let spawned = thread::Builder::new().name(name.into()).stack_size(STACK).spawn(move || {
        let finding = examine(&context);
        stuck(|stuck| stuck.remove(name));
        // Nobody waits any more if it took too long.
        let _ = done.send(finding);
    });
    if let Err(error) = spawned {
        return Finding::fail(format!("no thread for it: {error}"), "free some memory");
    }
    match verdict.recv_timeout(LIMIT) {
        Ok(finding) => finding,
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
            Finding::fail("the check itself broke: a bug of the agent", "see the agent's log")
        }
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
            stuck(|stuck| stuck.insert(name));
            // It may have come back in this very moment.
            if let Ok(finding) = verdict.try_recv() {
                stuck(|stuck| stuck.remove(name));
                return finding;
            }
            Finding::fail(format!("no answer within {} s", LIMIT.as_secs()), REMEDY)
        }
    }
}
