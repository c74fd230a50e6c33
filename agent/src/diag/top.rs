//! What runs in the guest: processes by the CPU time that they take while we look.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use transom_protocol::diagnostics::{GuestDiagnostics, Line, Process};
use transom_protocol::message::Text;

use super::conversation::{Answer, Conversation};
use super::guest::{processes, read, text, ticks};

/// How long to watch.
const WATCH: Duration = Duration::from_millis(500);

/// The processes, busiest first.
pub fn run(talk: &mut Conversation, count: u16) -> Answer {
    let before: HashMap<i32, u64> =
        processes().filter_map(|pid| Some((pid, stat(pid)?.cpu))).collect();
    let begun = Instant::now();
    talk.pause(WATCH)?;
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
    let mut all: Vec<(u64, i32, text::Process)> = processes()
        .filter_map(|pid| {
            let stat = stat(pid)?;
            let spent = stat.cpu.saturating_sub(*before.get(&pid).unwrap_or(&stat.cpu));
            Some((spent, pid, stat))
        })
        .collect();
    all.sort_by_key(|(spent, _, stat)| std::cmp::Reverse((*spent, stat.resident)));
    let users = read("/etc/passwd").unwrap_or_default();
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|page| u64::try_from(page).ok()).unwrap_or(4096);
    for (spent, pid, stat) in all.into_iter().take(count.into()) {
        let share =
            u128::from(spent) * 1_000_000_000_000 / u128::from(ticks()) / u128::from(micros);
        talk.say(&GuestDiagnostics::Process(Process {
            pid: pid.cast_unsigned(),
            user: Text::new(owner(pid, &users)),
            cpu: u32::try_from(share).unwrap_or(u32::MAX),
            memory: stat.resident.saturating_mul(page),
            command: Line::new(command(pid).unwrap_or(format!("[{}]", stat.name))),
        }))?;
    }
    Ok(())
}

fn stat(pid: i32) -> Option<text::Process> {
    text::process(&read(&format!("/proc/{pid}/stat"))?)
}

/// Its arguments; kernel threads have none.
fn command(pid: i32) -> Option<String> {
    let line = read(&format!("/proc/{pid}/cmdline"))?.replace('\0', " ");
    (!line.is_empty()).then_some(line)
}

fn owner(pid: i32, users: &str) -> String {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = std::fs::metadata(format!("/proc/{pid}")) else { return String::new() };
    text::user(users, meta.uid()).map_or_else(|| meta.uid().to_string(), str::to_owned)
}
