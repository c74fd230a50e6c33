//! The way out of a terminal whose guest hangs: `~.` at the start of a line, as in ssh.
//!
//! In: what was typed. Out: what goes to the guest, and whether the user leaves. A tilde at the
//! start of a line is held back until the next key: `~~` sends one.

/// What was typed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Escape(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    LineStart,
    Tilde,
    InLine,
}

impl Escape {
    /// Takes typed bytes.
    pub fn handle(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(typed.len());
        for &byte in typed {
            match (self.0, byte) {
                (State::LineStart, b'~') => {
                    self.0 = State::Tilde;
                    continue;
                }
                (State::Tilde, b'.') => return (out, true),
                (State::Tilde, b'~') => {}
                (State::Tilde, _) => out.push(b'~'),
                _ => {}
            }
            out.push(byte);
            self.0 = if matches!(byte, b'\r' | b'\n') { State::LineStart } else { State::InLine };
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pieces: &[&str]) -> (String, bool) {
        let (mut escape, mut all) = (Escape::default(), Vec::new());
        for piece in pieces {
            let (out, leave) = escape.handle(piece.as_bytes());
            all.extend(out);
            if leave {
                return (String::from_utf8_lossy(&all).into_owned(), true);
            }
        }
        (String::from_utf8_lossy(&all).into_owned(), false)
    }

    #[test]
    fn tilde_and_dot_leave_at_the_start_of_a_line_alone() {
        assert_eq!(run(&["~", "."]), (String::new(), true));
        assert_eq!(run(&["ls\r~.more"]), ("ls\r".into(), true));
        assert_eq!(run(&["ls ~.\r"]), ("ls ~.\r".into(), false));
        assert_eq!(run(&["cd ", "~", ".", "\r"]), ("cd ~.\r".into(), false));
    }

    #[test]
    fn other_tildes_reach_the_guest() {
        assert_eq!(run(&["~/bin\r"]), ("~/bin\r".into(), false));
        assert_eq!(run(&["~~.\r"]), ("~.\r".into(), false));
        assert_eq!(run(&["~\r~."]), ("~\r".into(), true));
    }
}
