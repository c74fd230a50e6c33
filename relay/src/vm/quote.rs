//! Words for shells: whatever a word holds, the shell gives it back as it was.

/// For a POSIX shell.
pub fn posix(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// For PowerShell: in single quotes nothing is expanded, and a quote is doubled. PowerShell takes
/// typographic single quotes for quotes, too (about_Quoting_Rules).
pub fn powershell(word: &str) -> String {
    let mut quoted = String::with_capacity(word.len() + 2);
    quoted.push('\'');
    for c in word.chars() {
        if matches!(c, '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}') {
            quoted.push(c);
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive() {
        assert_eq!(posix("/a/b-c=d,e"), "/a/b-c=d,e");
        assert_eq!(posix(""), "''");
        assert_eq!(posix("a b$c'd"), r"'a b$c'\''d'");
        assert_eq!(powershell("C:\\a b\\$x"), "'C:\\a b\\$x'");
        assert_eq!(powershell("it's \u{2019}"), "'it''s \u{2019}\u{2019}'");
    }

    #[test]
    #[cfg(unix)]
    fn a_real_shell_agrees() {
        for word in ["", "a", "it's", "a\nb", "$(x) `y` \\ \" * ?", "\u{2019}ü"] {
            let script = format!("printf %s {}", posix(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output();
            assert_eq!(output.expect("there is a shell").stdout, word.as_bytes());
        }
    }
}
