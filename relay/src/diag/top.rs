//! What runs in a guest.

use serde_json::{Value, json};
use transom_protocol::diagnostics::{GuestDiagnostics, Process, Request};

use super::{Client, DiagError, tell};

/// Asks which processes use most CPU time.
///
/// # Errors
///
/// See [`DiagError`].
pub async fn top(client: &Client, count: u16) -> Result<Vec<Process>, DiagError> {
    let mut answers = client.ask(Request::Top { count }).await?;
    let mut processes = Vec::new();
    while let Some(answer) = answers.next().await? {
        if let GuestDiagnostics::Process(process) = answer.message {
            if processes.len() == usize::from(count) {
                return Err(answers.nonsense(format!("more than {count} processes")));
            }
            processes.push(process);
        }
    }
    Ok(processes)
}

/// As JSON.
pub fn json(processes: &[Process]) -> Value {
    let one = |process: &Process| {
        json!({
            "pid": process.pid,
            "user": process.user.to_string(),
            "cpu_percent": percent(process.cpu),
            "resident_bytes": process.memory,
            "command": process.command.to_string(),
        })
    };
    json!({ "processes": processes.iter().map(one).collect::<Vec<_>>() })
}

/// As a table; lines are cut at `width`.
pub fn text(processes: &[Process], width: usize) -> String {
    let mut text =
        format!("{:>7}  {:<12} {:>6}  {:>9}  COMMAND\n", "PID", "USER", "CPU%", "MEMORY");
    for process in processes {
        let line = format!(
            "{:>7}  {:<12} {:>6.1}  {:>9}  {}",
            process.pid,
            process.user.as_str(),
            percent(process.cpu),
            tell::bytes(process.memory),
            process.command
        );
        text.extend(line.chars().take(width));
        text.push('\n');
    }
    text
}

/// Millionths of one processor in per cent.
pub fn percent(millionths: u32) -> f64 {
    (f64::from(millionths) / 1000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use transom_protocol::{diagnostics::Line, message::Text};

    #[test]
    fn a_table_keeps_to_its_width() {
        let process = Process {
            pid: 1,
            user: Text::new("root"),
            cpu: 1_234_567,
            memory: 3 << 20,
            command: Line::new("x".repeat(500)),
        };
        let text = text(std::slice::from_ref(&process), 60);
        assert!(text.contains("3.0 MiB"), "{text}");
        // Figures end below the end of their heading.
        let end = |line: &str, word: &str| line.find(word).map(|at| at + word.len());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(end(lines[0], "CPU%"), end(lines[1], "123.5"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 60), "{text}");
        assert_eq!(json(&[process])["processes"][0]["cpu_percent"], 123.5);
    }
}
