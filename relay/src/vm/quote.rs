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

/// For programs of Windows, which take their command line apart themselves, by the rules of
/// `CommandLineToArgvW`: backslashes count only in front of a quote.
pub fn windows(word: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !"\"()&|<>^%*".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    let mut quoted = String::from("\"");
    let mut backslashes = 0;
    for c in word.chars() {
        if c == '"' {
            quoted.extend(std::iter::repeat_n('\\', backslashes + 1));
        }
        backslashes = if c == '\\' { backslashes + 1 } else { 0 };
        quoted.push(c);
    }
    quoted.extend(std::iter::repeat_n('\\', backslashes));
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `CommandLineToArgvW` documents it.
    fn taken_apart(line: &str) -> Vec<String> {
        let (mut words, mut word, mut inside, mut any) = (Vec::new(), String::new(), false, false);
        let mut rest = line.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '\\' => {
                    let mut count = 1;
                    while rest.next_if_eq(&'\\').is_some() {
                        count += 1;
                    }
                    if rest.peek() == Some(&'"') {
                        word.extend(std::iter::repeat_n('\\', count / 2));
                        if count % 2 == 1 {
                            word.extend(rest.next());
                        }
                    } else {
                        word.extend(std::iter::repeat_n('\\', count));
                    }
                    any = true;
                }
                '"' => (inside, any) = (!inside, true),
                c if c.is_whitespace() && !inside => {
                    if std::mem::take(&mut any) {
                        words.push(std::mem::take(&mut word));
                    }
                }
                c => {
                    word.push(c);
                    any = true;
                }
            }
        }
        if any {
            words.push(word);
        }
        words
    }

    proptest::proptest! {
        #[test]
        fn windows_takes_words_back(words: Vec<String>) {
            let words: Vec<_> = words.iter().map(|word| word.replace('\0', "")).collect();
            let line: Vec<_> = words.iter().map(|word| windows(word)).collect();
            proptest::prop_assert_eq!(taken_apart(&line.join(" ")), words);
        }

        #[test]
        fn quotes_and_backslashes_too(words in proptest::collection::vec("[a \\\\\"]{0,8}", 0..4)) {
            let line: Vec<_> = words.iter().map(|word| windows(word)).collect();
            proptest::prop_assert_eq!(taken_apart(&line.join(" ")), words);
        }
    }

    #[test]
    fn windows_words_are_pinned() {
        for (word, expected) in [
            (r"C:\x\", r"C:\x\"),
            ("", r#""""#),
            (r"C:\a b\", r#""C:\a b\\""#),
            (r#"a"b"#, r#""a\"b""#),
            (r#"a\"b"#, r#""a\\\"b""#),
        ] {
            assert_eq!(windows(word), expected);
        }
    }

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
