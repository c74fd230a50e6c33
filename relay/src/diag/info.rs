//! Facts about a guest: named values, as the agent tells them.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use transom_protocol::diagnostics::{GuestDiagnostics, Request, Value};

use super::{Client, DiagError, tell};

/// A guest tells some hundred facts; one that tells more than this is up to no good.
const MAX_FACTS: usize = 10_000;

/// Probing the drivers of a graphics card takes seconds in an emulated guest.
const SILENCE: Duration = Duration::from_secs(20);

/// What is known about a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The agent's name and version.
    pub agent: String,
    /// In the agent's order.
    pub facts: Vec<(String, Value)>,
}

/// Asks for all facts.
///
/// # Errors
///
/// See [`DiagError`].
pub async fn info(client: &Client) -> Result<Info, DiagError> {
    let mut answers = client.ask(Request::Info).await?;
    answers.set_silence(Some(SILENCE));
    let agent = answers.welcome().software.to_string();
    let mut facts = Vec::new();
    while let Some(answer) = answers.next().await? {
        if let GuestDiagnostics::Fact { path, value } = answer.message {
            if facts.len() == MAX_FACTS {
                return Err(answers.nonsense(format!("more than {MAX_FACTS} facts")));
            }
            facts.push((path.to_string(), value));
        }
    }
    Ok(Info { agent, facts })
}

impl Info {
    /// As one JSON object: paths and their values.
    pub fn json(&self) -> Json {
        let facts: Map<String, Json> = self
            .facts
            .iter()
            .map(|(path, value)| {
                let value = match value {
                    Value::Text(text) => json!(text.to_string()),
                    Value::Number(number) => json!(number),
                    Value::Flag(flag) => json!(flag),
                };
                (path.clone(), value)
            })
            .collect();
        json!({ "agent": self.agent, "facts": facts })
    }

    /// For people: a heading for each first part of the paths, and the rest in columns.
    pub fn text(&self, colours: bool) -> String {
        let mut text = format!("agent: {}\n", self.agent);
        let mut heading = "";
        for (path, value) in &self.facts {
            let (first, rest) = path.split_once('.').unwrap_or((path, ""));
            if first != heading {
                heading = first;
                let sgr = if colours { tell::BOLD } else { tell::PLAIN };
                text.push_str(&format!("\n{}\n", tell::Paint(first, sgr)));
            }
            let value = match value {
                Value::Text(line) => line.to_string(),
                Value::Number(number) => words(path, *number),
                Value::Flag(true) => "yes".into(),
                Value::Flag(false) => "no".into(),
            };
            text.push_str(&format!(
                "  {:<32} {value}\n",
                if rest.is_empty() { first } else { rest }
            ));
        }
        text
    }
}

/// A number with its unit, where its path tells which it is.
fn words(path: &str, number: i64) -> String {
    match u64::try_from(number) {
        Ok(bytes) if path.starts_with("memory.") || path.ends_with(".bytes") => tell::bytes(bytes),
        Ok(seconds) if path.ends_with(".uptime") => tell::span(Duration::from_secs(seconds)),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use transom_protocol::diagnostics::Line;

    #[test]
    fn facts_are_grouped_for_people_and_flat_for_programs() {
        let info = Info {
            agent: "transom-agent 1".into(),
            facts: vec![
                ("kernel.release".into(), Value::Text(Line::new("6.12\x1b[2J"))),
                ("kernel.secure".into(), Value::Flag(false)),
                ("drm.card0.planes".into(), Value::Number(3)),
                ("memory.total".into(), Value::Number(1 << 30)),
                ("system.uptime".into(), Value::Number(3700)),
                ("memory.odd".into(), Value::Number(-1)),
            ],
        };
        let json = info.json();
        assert_eq!(json["facts"]["drm.card0.planes"], 3);
        assert_eq!(json["facts"]["kernel.secure"], false);
        let text = info.text(false);
        assert!(text.contains("\nkernel\n  release "), "{text}");
        assert!(text.contains("\ndrm\n  card0.planes "), "{text}");
        for unit in ["1.0 GiB\n", "1 h 1 min\n", " -1\n"] {
            assert!(text.contains(unit), "{unit:?} in {text}");
        }
        assert!(!text.contains('\x1b'), "a guest's escapes stay off the terminal");
    }
}
