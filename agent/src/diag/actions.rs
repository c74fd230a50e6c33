//! What changes something in the guest: settings of the stream, the compositor, the machine.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::reboot::{RebootMode, reboot as kernel_reboot};
use transom_protocol::diagnostics::{GuestDiagnostics, Outcome, Setting};

use super::Context;
use super::conversation::{Answer, Conversation, failed};

/// A unit that takes longer to restart is in trouble.
const RESTART: Duration = Duration::from_secs(30);
/// systemd's own mark of being at work (`sd_booted(3)`).
const SYSTEMD: &str = "/run/systemd/system";

/// Changes a setting of the stream.
pub fn set(context: &Context, setting: &Setting) -> Answer {
    (context.apply)(setting).map_err(failed)
}

/// Restarts the unit with the compositor.
pub fn restart_compositor(unit: &str) -> Answer {
    if !Path::new(SYSTEMD).is_dir() {
        return Err(failed("this guest does not run systemd, which would restart the compositor"));
    }
    systemctl(&["restart", "--", unit])
}

/// Restarts the guest, after saying so.
pub fn reboot(talk: &mut Conversation) -> Answer {
    if Path::new(SYSTEMD).is_dir() {
        // systemd begins with us: the host is told first. SIGTERM is noted and not obeyed, SIGKILL
        // comes seconds later.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::default());
        return systemctl(&["reboot", "--no-block"]);
    }
    // Nobody else would: say goodbye first.
    talk.say(&GuestDiagnostics::End(Outcome::Done))?;
    let _ = talk.pause(Duration::from_secs(2));
    nix::unistd::sync();
    match kernel_reboot(RebootMode::RB_AUTOBOOT) {
        Ok(never) => match never {},
        Err(error) => Err(failed(format!("the kernel does not restart the guest: {error}"))),
    }
}

fn systemctl(arguments: &[&str]) -> Answer {
    let mut child = Command::new("systemctl")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("systemctl does not start: {error}")))?;
    let deadline = Instant::now() + RESTART;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("systemctl is not done after {RESTART:?}")));
            }
            Err(error) => return Err(failed(error)),
        }
    };
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(1000).read_to_string(&mut said);
    }
    if status.success() {
        return Ok(());
    }
    Err(failed(format!("systemctl {}: {}", arguments.join(" "), said.trim())))
}
