//! Takes secrets out of what others will read: passwords, tokens and keys, by how they are
//! commonly written in logs, command lines and settings.
//!
//! What it refuses to do: promise that none is left. A secret without a name beside it looks like
//! any other word.

use regex_lite::Regex;
use serde_json::Value;

/// What stands in a secret's place.
pub const MARK: &str = "REDACTED";

/// Parts of names of what is secret.
const NAMES: &str = "passwo?r?d|passphrase|secret|token|api[_-]?key|private[_-]?key|access[_-]?key|credential|authorization|cookie|psk";

/// Takes secrets out and counts them.
#[derive(Debug)]
pub struct Redactor {
    /// Each with what is put in place of a match.
    rules: Vec<(Regex, String)>,
    name: Regex,
    count: u64,
}

impl Default for Redactor {
    fn default() -> Self {
        let word = format!(r"[\w.-]*(?:{NAMES})[\w.-]*");
        let value = r#"(?:"[^"\n]*"|'[^'\n]*'|[^\s,;&"'}\]]+)"#;
        let rules = [
            // PEM, over all its lines.
            (
                r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)".to_owned(),
                MARK.to_owned(),
            ),
            // https://user:password@host
            (r"(\w://)[^/\s:@]+:[^/\s@]+@".into(), format!("${{1}}{MARK}@")),
            // Authorization: Bearer …
            (r"(?i)\b(bearer|basic)\s+[\w+/=.~-]{6,}".into(), format!("${{1}} {MARK}")),
            // A JSON web token, wherever it stands.
            (r"\beyJ[\w-]{4,}\.[\w-]+\.[\w-]*".into(), MARK.into()),
            // --password secret
            (
                format!(r#"(?im)((?:^|[\s"'(\[])--?{word})(\s+){value}"#),
                format!("${{1}}${{2}}{MARK}"),
            ),
            // password=secret, "token": "secret"
            (
                format!(r#"(?i)({word}["']?\s*(?:=|:\s?)\s*){value}"#),
                format!("${{1}}{MARK}"),
            ),
        ];
        Self {
            rules: rules.into_iter().map(|(rule, mark)| (expect(&rule), mark)).collect(),
            name: expect(&format!("(?i)(?:{NAMES})")),
            count: 0,
        }
    }
}

fn expect(rule: &str) -> Regex {
    Regex::new(rule).expect("the rules are constants that a test compiles")
}

impl Redactor {
    /// A text without its secrets.
    pub fn text(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (rule, mark) in &self.rules {
            let found =
                rule.find_iter(&text).filter(|found| !found.as_str().contains(MARK)).count();
            if found > 0 {
                self.count += found as u64;
                text = rule.replace_all(&text, mark.as_str()).into_owned();
            }
        }
        text
    }

    /// A JSON value without its secrets: texts, and whatever has a secret's name.
    pub fn json(&mut self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(values) => values.into_iter().map(|value| self.json(value)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(name, value)| {
                    let secret =
                        self.name.is_match(&name) && (value.is_string() || value.is_number());
                    let value = if secret {
                        self.count += 1;
                        MARK.into()
                    } else {
                        self.json(value)
                    };
                    (name, value)
                })
                .collect(),
            other => other,
        }
    }

    /// How many secrets were taken out so far.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_go_and_their_names_stay() {
        let cases = [
            ("password=hunter2 next", "password=REDACTED next"),
            ("WIFI_PSK: 'my cat' x", "WIFI_PSK: REDACTED x"),
            (r#"{"api_key": "abc", "b": 1}"#, r#"{"api_key": REDACTED, "b": 1}"#),
            ("curl --token abc123 http://x/", "curl --token REDACTED http://x/"),
            ("GET /play?token=abc&size=3", "GET /play?token=REDACTED&size=3"),
            ("rtsp://admin:hunter2@cam/1", "rtsp://REDACTED@cam/1"),
            ("sent Bearer abcdef.123456", "sent Bearer REDACTED"),
            ("jwt eyJhbGciOi.eyJzdWIi.sig-1", "jwt REDACTED"),
            (
                "a -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- z",
                "a REDACTED z",
            ),
            ("-----BEGIN PRIVATE KEY-----\nMIIE", "REDACTED"),
        ];
        for (text, clean) in cases {
            let mut redactor = Redactor::default();
            assert_eq!(redactor.text(text), clean);
            assert_eq!(redactor.count(), 1, "{text}");
            assert_eq!(redactor.text(clean), clean, "what is clean stays as it is");
            assert_eq!(redactor.count(), 1, "{text}");
        }
    }

    #[test]
    fn the_rest_is_left_alone() {
        for text in [
            "encoder: screen, 59.9 fps at 1280x720",
            "http://127.0.0.1:8889/doom/whep",
            "systemd-ask-password-wall.path started",
            "kernel 6.12: vsock 12:30:01",
        ] {
            assert_eq!(Redactor::default().text(text), text);
        }
    }

    #[test]
    fn json_is_searched_by_name_and_by_text() {
        let mut redactor = Redactor::default();
        let value = json!({ "link.token": "abc", "log": ["it's password=\"x y\""], "n": 3 });
        let clean = redactor.json(value);
        assert_eq!(clean, json!({ "link.token": MARK, "log": ["it's password=REDACTED"], "n": 3 }));
        assert_eq!(redactor.count(), 2);
    }
}
