//! Whose datagram is it? A STUN binding request names the session that it is for.
//!
//! In: a datagram from anybody. Out: the user name part that we chose, if there is one. What this
//! refuses to do: believe it. The session itself checks the message's integrity.

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: [u8; 2] = [0, 1];
const HEADER: usize = 20;
const USERNAME: u16 = 6;

/// Attributes looked at; real requests have fewer than ten.
const MAX_ATTRIBUTES: usize = 16;

/// The receiver's user fragment in a STUN binding request: what stands before the colon of its
/// USERNAME.
pub fn receiver(datagram: &[u8]) -> Option<&str> {
    let (header, mut rest) = datagram.split_first_chunk::<HEADER>()?;
    if header[..2] != BINDING_REQUEST || header[4..8] != COOKIE {
        return None;
    }
    for _ in 0..MAX_ATTRIBUTES {
        let (&[k0, k1, l0, l1], behind) = rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if u16::from_be_bytes([k0, k1]) == USERNAME {
            let name = std::str::from_utf8(behind.get(..length)?).ok()?;
            return name.split_once(':').map(|(receiver, _)| receiver);
        }
        // Attributes are padded to four bytes.
        rest = behind.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Whether a datagram is RTCP, encrypted or not (RFC 5761: types 192 to 223).
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, 192..=223, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = [&BINDING_REQUEST[..], &[0, 0], &COOKIE, &[7; 12]].concat();
        for (kind, value) in attributes {
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&(value.len() as u16).to_be_bytes());
            out.extend_from_slice(value);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    #[test]
    fn the_receiver_stands_before_the_colon() {
        let bytes = request(&[(0x24, &[1, 2, 3]), (USERNAME, b"ours:theirs"), (8, &[0; 20])]);
        assert_eq!(receiver(&bytes), Some("ours"));
        assert_eq!(receiver(&request(&[(USERNAME, b"ours")])), None);
        assert_eq!(receiver(&request(&[(8, &[0; 20])])), None);
    }

    #[test]
    fn cut_and_foreign_datagrams_are_nobodys() {
        let bytes = request(&[(0x24, &[1, 2, 3]), (USERNAME, b"ours:theirs")]);
        for end in 0..bytes.len() - 1 {
            assert_eq!(receiver(&bytes[..end]), None, "cut at {end}");
        }
        let mut response = bytes.clone();
        response[0] = 1;
        assert_eq!(receiver(&response), None);
        assert_eq!(receiver(&[0x80, 96, 0, 0]), None);
    }

    #[test]
    fn rtcp_is_told_from_rtp() {
        assert!(is_rtcp(&[0x80, 200, 0, 6]) && is_rtcp(&[0x8f, 205, 0, 6]));
        assert!(!is_rtcp(&[0x80, 96, 0, 6]) && !is_rtcp(&[0, 1]) && !is_rtcp(&[0x80]));
    }
}
