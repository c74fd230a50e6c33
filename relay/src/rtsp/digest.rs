//! Who a player is, by digest (RFC 2617, as RTSP 1.0 has it).
//!
//! In: the nonce of a connection, and what a client says in its Authorization header. Out: whether
//! it knows the password that belongs to the name it shows. What this refuses to do: offer Basic,
//! which would carry the password over the network in the clear, or know anything of tokens.
//!
//! MD5, since players know nothing newer. It is asked for nothing but to keep a random password of
//! 128 bits from being read off the wire. A nonce is good for the connection it was made for, where
//! only its own client can speak: there is nothing to replay.

use md5::{Digest, Md5};

/// What players are asked to show credentials for.
const REALM: &str = "transom";

/// Fields of one header that are looked at; real ones have up to ten.
const MAX_FIELDS: usize = 16;

/// The header by which credentials are asked for.
pub fn challenge(nonce: &str) -> String {
    format!("Digest realm=\"{REALM}\", nonce=\"{nonce}\", algorithm=MD5")
}

/// What a client shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The name; what it is worth shows [`Credentials::prove`].
    pub name: String,
    nonce: String,
    uri: String,
    response: String,
    /// Quality of protection, count and client's nonce, from clients newer than RFC 2069.
    newer: Option<[String; 3]>,
}

impl Credentials {
    /// Reads an Authorization header; `None` if it is no digest.
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, mut rest) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let mut credentials = Self::default();
        let mut newer: [Option<String>; 3] = [None, None, None];
        for _ in 0..MAX_FIELDS {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let Some((field, behind)) = rest.split_once('=') else { break };
            let (value, behind) = match behind.trim_start().strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => {
                    let value = behind.trim_start();
                    value.split_at(value.find([',', ' ']).unwrap_or(value.len()))
                }
            };
            rest = behind;
            let value = value.to_owned();
            match field.trim().to_ascii_lowercase().as_str() {
                "username" => credentials.name = value,
                "nonce" => credentials.nonce = value,
                "uri" => credentials.uri = value,
                "response" => credentials.response = value,
                "qop" => newer[0] = Some(value),
                "nc" => newer[1] = Some(value),
                "cnonce" => newer[2] = Some(value),
                "algorithm" if !value.eq_ignore_ascii_case("md5") => return None,
                _ => {}
            }
        }
        if let [Some(qop), Some(count), Some(nonce)] = newer {
            credentials.newer = Some([qop, count, nonce]);
        }
        (!credentials.name.is_empty()).then_some(credentials)
    }

    /// Whether the client that sent a request of this method knows the password, and got this
    /// nonce from us.
    pub fn prove(&self, method: &str, nonce: &str, password: &str) -> bool {
        let secret = hash(&[&self.name, REALM, password]);
        let request = hash(&[method, &self.uri]);
        let expected = match &self.newer {
            Some([qop, count, own]) => hash(&[&secret, nonce, count, own, qop, &request]),
            None => hash(&[&secret, nonce, &request]),
        };
        let said = self.response.to_ascii_lowercase();
        self.nonce == nonce && said.len() == expected.len() && {
            // In the same time wherever they differ.
            said.bytes().zip(expected.bytes()).fold(0, |apart, (a, b)| apart | (a ^ b)) == 0
        }
    }
}

/// MD5 of these parts with colons between them, in hexadecimal digits.
fn hash(parts: &[&str]) -> String {
    Md5::digest(parts.join(":")).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a player would send.
    pub(crate) fn authorization(
        (name, password): (&str, &str),
        method: &str,
        uri: &str,
        nonce: &str,
    ) -> String {
        let (secret, request) = (hash(&[name, REALM, password]), hash(&[method, uri]));
        let response = hash(&[&secret, nonce, &request]);
        format!(
            "Authorization: Digest username=\"{name}\", realm=\"{REALM}\", nonce=\"{nonce}\", \
             uri=\"{uri}\", response=\"{response}\""
        )
    }

    #[test]
    fn the_examples_of_the_standard_hold() {
        // RFC 2617, 3.5, but for the realm, which goes into the secret alone.
        let secret = hash(&["Mufasa", "testrealm@host.com", "Circle Of Life"]);
        assert_eq!(secret, "939e7578ed9e3c518a452acee763bce9");
        let request = hash(&["GET", "/dir/index.html"]);
        assert_eq!(request, "39aff3a2bab6126f332b942af96d3366");
        let nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093";
        assert_eq!(
            hash(&[&secret, nonce, "00000001", "0a4f113b", "auth", &request]),
            "6629fae49393a05397450978507c4ef1"
        );
    }

    #[test]
    fn only_the_password_of_this_connection_proves_anything() {
        let header = authorization(("a", "b"), "DESCRIBE", "rtsp://h/doom", "n1");
        let header = header.strip_prefix("Authorization: ").expect("a header");
        let credentials = Credentials::parse(header).expect("it is a digest");
        assert_eq!(credentials.name, "a");
        assert!(credentials.prove("DESCRIBE", "n1", "b"));
        assert!(!credentials.prove("DESCRIBE", "n1", "c"), "another password");
        assert!(!credentials.prove("DESCRIBE", "n2", "b"), "another connection's nonce");
        assert!(!credentials.prove("SETUP", "n1", "b"), "another method");
        // A client that also counts, in another order and without quotes.
        let (secret, request) = (hash(&["a", REALM, "b"]), hash(&["PLAY", "*"]));
        let response = hash(&[&secret, "n1", "00000001", "c", "auth", &request]).to_uppercase();
        let header = format!(
            "digest response={response},nc=00000001 , qop=auth,cnonce=\"c\",\turi=*,nonce=n1,\
             algorithm=md5,username=\"a\""
        );
        let credentials = Credentials::parse(&header).expect("it is a digest");
        assert!(credentials.prove("PLAY", "n1", "b"));
    }

    #[test]
    fn what_is_no_digest_is_none() {
        for header in [
            "",
            "Digest",
            "Digest ",
            "Basic YTpi",
            "Bearer x",
            "Digest username=\"",
            "Digest username=\"\"",
            "Digest username=a, algorithm=SHA-256",
            "Digest =,=,=,",
        ] {
            assert_eq!(Credentials::parse(header), None, "{header}");
        }
        let unproven = Credentials::parse("Digest username=a").expect("a name");
        assert!(!unproven.prove("DESCRIBE", "", ""), "an empty response proves nothing");
        assert!(Credentials::parse(&format!("Digest {}", "username=a,".repeat(9999))).is_some());
    }
}
