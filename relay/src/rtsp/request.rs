//! Bytes of a client into RTSP requests and interleaved data (RFC 2326, 10.12). Sans-IO.
//!
//! The grammar is rtsp-types' business. Ours is when to ask it: it starts from the first byte each
//! time, so it is asked once the end of a head has been seen, and again once the body is there.
//! A client that sends byte by byte costs no more than one that does not. Longer requests than
//! [`MAX_REQUEST`] are refused, and so is what cannot be RTSP, at its first byte.

use rtsp_types::{Message, ParseError, Request};

/// Longest request with its body. Those of real clients stay below 2 kB.
pub const MAX_REQUEST: usize = 16 * 1024;

/// Longest interleaved packet: clients send RTCP, which fits into a datagram.
pub const MAX_DATA: usize = 2048;

/// Bytes in front of interleaved data: `$`, the channel, the length.
const DATA_HEADER: usize = 4;

/// What a client sent.
#[derive(Debug, PartialEq)]
pub enum Input {
    /// A request.
    Request(Request<Vec<u8>>),
    /// A packet on a channel of this connection.
    Data {
        /// Which.
        channel: u8,
        /// What.
        packet: Vec<u8>,
    },
}

/// Why a client's bytes are no RTSP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not a request.
    #[error("this is no RTSP request")]
    Grammar,
    /// Too long.
    #[error("requests have at most {MAX_REQUEST} bytes")]
    TooLong,
    /// A packet that is no RTCP.
    #[error("interleaved packets of clients have at most {MAX_DATA} bytes")]
    DataTooLong,
}

/// Collects bytes until they mean something.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// No end of a head begins before this.
    searched: usize,
    /// So many bytes the request has whose head is there.
    needed: usize,
}

impl Reader {
    /// Takes what has come in. The caller polls until there is nothing before it reads more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether there is room: a client that sends on while it waits for an answer has to wait.
    pub fn has_room(&self) -> bool {
        self.buffer.len() <= MAX_REQUEST
    }

    /// The next thing that is there in full.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: where the next request begins is not known, hence this is the end.
    pub fn poll(&mut self) -> Result<Option<Input>, Malformed> {
        loop {
            self.skip_line_ends();
            let Some(&first) = self.buffer.first() else { return Ok(None) };
            if first == b'$' {
                return self.poll_data();
            }
            if !first.is_ascii_uppercase() {
                return Err(Malformed::Grammar);
            }
            if self.buffer.len() < self.needed || self.needed == 0 && !self.has_head() {
                let long = self.buffer.len() > MAX_REQUEST;
                return if long { Err(Malformed::TooLong) } else { Ok(None) };
            }
            match Message::<Vec<u8>>::parse(&self.buffer) {
                Ok((message, length)) if length <= MAX_REQUEST => {
                    self.consume(length);
                    match message {
                        Message::Request(request) => return Ok(Some(Input::Request(request))),
                        // We ask clients nothing; an answer to that is of no interest.
                        Message::Response(_) | Message::Data(_) => {}
                    }
                }
                Ok(_) => return Err(Malformed::TooLong),
                // The head is there: it is the body that is missing, and that is bounded.
                Err(ParseError::Incomplete(more)) => {
                    let missing = more.map_or(1, usize::from);
                    self.needed = self.buffer.len().saturating_add(missing);
                    if self.needed > MAX_REQUEST {
                        return Err(Malformed::TooLong);
                    }
                    return Ok(None);
                }
                Err(ParseError::Error) => return Err(Malformed::Grammar),
            }
        }
    }

    fn poll_data(&mut self) -> Result<Option<Input>, Malformed> {
        let Some(&[_, channel, high, low]) = self.buffer.first_chunk() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MAX_DATA {
            return Err(Malformed::DataTooLong);
        }
        let Some(packet) = self.buffer.get(DATA_HEADER..DATA_HEADER + length) else {
            return Ok(None);
        };
        let packet = packet.to_vec();
        self.consume(DATA_HEADER + length);
        Ok(Some(Input::Data { channel, packet }))
    }

    /// Empty lines between requests are no offence.
    fn skip_line_ends(&mut self) {
        let count = self.buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if count > 0 {
            self.consume(count);
        }
    }

    /// Whether the empty line behind a head is there.
    fn has_head(&mut self) -> bool {
        const END: &[u8] = b"\r\n\r\n";
        let found = self.buffer[self.searched..].windows(END.len()).any(|window| window == END);
        if !found {
            self.searched = self.buffer.len().saturating_sub(END.len() - 1);
        }
        found
    }

    fn consume(&mut self, count: usize) {
        self.buffer.drain(..count);
        (self.searched, self.needed) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use rtsp_types::{Method, headers};

    use super::*;

    /// All that comes out of `bytes`, given in pieces of `step`.
    fn read(bytes: &[u8], step: usize) -> Result<Vec<Input>, Malformed> {
        let (mut reader, mut inputs) = (Reader::default(), Vec::new());
        for piece in bytes.chunks(step) {
            reader.push(piece);
            while let Some(input) = reader.poll()? {
                inputs.push(input);
            }
        }
        assert!(reader.buffer.len() <= MAX_REQUEST);
        Ok(inputs)
    }

    #[test]
    fn requests_and_packets_come_out_whole_however_they_were_cut() {
        let stream = b"\r\nOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\x01\x00\x02ab\
            RTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\n\
            GET_PARAMETER rtsp://h/doom RTSP/1.0\r\nCSeq: 2\r\nContent-Length: 4\r\n\r\nbody$\x00\x00\x00";
        for step in [1, 2, 3, 7, 50, 1000] {
            let inputs = read(stream, step).expect("it is well-formed");
            let [Input::Request(options), data, Input::Request(get), empty] = &inputs[..] else {
                panic!("{inputs:?}");
            };
            assert_eq!(options.method(), Method::Options);
            assert_eq!(data, &Input::Data { channel: 1, packet: b"ab".to_vec() });
            assert_eq!(get.body(), b"body");
            assert_eq!(get.header(&headers::CSEQ).map(|v| v.as_str()), Some("2"));
            assert_eq!(empty, &Input::Data { channel: 0, packet: Vec::new() });
        }
    }

    #[test]
    fn what_is_no_rtsp_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00",
            b"hello\r\n",
            b"OPTIONS * RTSP/3.0\r\n\r\n",
            b"OPTIONS doom RTSP/1.0\r\nCSeq: 1\r\n\r\n",
            b"OPTIONS * RTSP/1.0\r\nContent-Length: x\r\n\r\n",
            b"OPTIONS * RTSP/1.0\r\nnonsense\r\n\r\n",
        ] {
            assert_eq!(read(bytes, 5), Err(Malformed::Grammar), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn nothing_grows_beyond_its_bound() {
        let endless = [&b"OPTIONS * RTSP/1.0\r\nX: "[..], &[b'x'; MAX_REQUEST]].concat();
        assert_eq!(read(&endless, 100), Err(Malformed::TooLong));
        for length in ["16385", "18446744073709551615", "18446744073709551500"] {
            let body = format!("OPTIONS * RTSP/1.0\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(read(body.as_bytes(), 100), Err(Malformed::TooLong), "{length}");
        }
        assert_eq!(read(b"$\x00\xff\xff", 100), Err(Malformed::DataTooLong));
    }
}
