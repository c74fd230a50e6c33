//! The handshake of a *hybrid* vsock socket: the Unix socket behind which vhost-device-vsock,
//! Firecracker, Cloud Hypervisor and OpenVMM keep a guest's vsock ports.
//!
//! ```text
//!    host                                   hypervisor
//!    CONNECT 29810\n ──────────────────────▶
//!                    ◀────────────────────── OK 1073741824\n     a guest process listens
//!                    ◀────────────────────── (end of stream)     none does
//! ```
//!
//! Bytes of the guest may follow the OK line at once, so it is taken byte by byte; nothing may be
//! sent behind CONNECT before it, for that can be lost. The number in it means nothing to us.

use std::fmt;

/// Longest answer line that is waited for; a real one is at most 14 bytes long.
pub const MAX_LINE: usize = 64;

/// Takes the hypervisor's answer, byte by byte.
#[derive(Debug, Default)]
pub struct Handshake {
    line: Vec<u8>,
}

/// Why the handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The hypervisor closed without a word: nothing in the guest listens on that port.
    #[error("no process in the guest listens on the port")]
    NobodyListens,
    /// The hypervisor closed within its answer.
    #[error("the socket closed within its answer {0}")]
    Cut(Line),
    /// Something else than `OK`.
    #[error("the socket answered {0} instead of OK: it is no hybrid vsock socket")]
    Strange(Line),
}

/// What the other side said, made fit for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line(Vec<u8>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl Handshake {
    /// What to send first.
    pub fn request(port: u32) -> String {
        format!("CONNECT {port}\n")
    }

    /// Takes the next byte; `true` once the guest's own bytes follow.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Strange`].
    pub fn handle_byte(&mut self, byte: u8) -> Result<bool, HandshakeError> {
        if byte != b'\n' {
            self.line.push(byte);
            if self.line.len() < MAX_LINE {
                return Ok(false);
            }
        } else if self.line.strip_suffix(b"\r").unwrap_or(&self.line) == b"OK"
            || self.line.starts_with(b"OK ")
        {
            return Ok(true);
        }
        Err(HandshakeError::Strange(Line(std::mem::take(&mut self.line))))
    }

    /// The stream ended before [`Handshake::handle_byte`] said `true`.
    pub fn handle_end(self) -> HandshakeError {
        if self.line.is_empty() {
            HandshakeError::NobodyListens
        } else {
            HandshakeError::Cut(Line(self.line))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(answer: &[u8]) -> Result<usize, HandshakeError> {
        let mut handshake = Handshake::default();
        for (i, &byte) in answer.iter().enumerate() {
            if handshake.handle_byte(byte)? {
                return Ok(i + 1);
            }
        }
        Err(handshake.handle_end())
    }

    #[test]
    fn an_ok_line_is_taken_and_nothing_behind_it() {
        assert_eq!(Handshake::request(29810), "CONNECT 29810\n");
        assert_eq!(run(b"OK 1073741824\nguest bytes"), Ok(14));
        assert_eq!(run(b"OK\n"), Ok(3));
    }

    #[test]
    fn failures_are_told_apart() {
        assert_eq!(run(b""), Err(HandshakeError::NobodyListens));
        assert!(matches!(run(b"OK 10"), Err(HandshakeError::Cut(_))));
        assert!(matches!(run(b"HTTP/1.1 400\r\n"), Err(HandshakeError::Strange(_))));
        assert!(matches!(run(b"\n"), Err(HandshakeError::Strange(_))));
    }

    #[test]
    fn an_endless_line_is_refused() {
        assert!(
            matches!(run(&[b'O'; 1000]), Err(HandshakeError::Strange(Line(l))) if l.len() == MAX_LINE)
        );
    }

    #[test]
    fn control_characters_stay_off_the_terminal() {
        assert_eq!(Line(b"\x1b[2Jx".to_vec()).to_string(), "\"\\x1b[2Jx\"");
    }
}
