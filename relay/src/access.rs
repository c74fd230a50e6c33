//! Who may do what: links carry a token, and the token says for which guest, in which role and
//! until when.
//!
//! In: tokens, as strangers send them, and the time. Out: a [`Grant`], or why there is none. What
//! this refuses to do: tell a forged token from a damaged one by how long it takes, or keep a list
//! of tokens. A token proves itself; only revoked ones are remembered ([`store`]).
//!
//! ```text
//!   base64url of
//!    0         1        2                10            18                      n - 16
//!   +---------+--------+----------------+-------------+-----------------------+--------------+
//!   | version | role   | expires        | id          | guest, empty: any     | MAC          |
//!   | u8 = 1  | u8     | u64, seconds   | 8 bytes     | up to 64 bytes        | HMAC-SHA-256 |
//!   +---------+--------+----------------+-------------+-----------------------+--------------+
//! ```

use std::{fmt, str::FromStr, time::Duration};

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, Mac};
use sha2::Sha256;

pub mod store;

const VERSION: u8 = 1;
const HEADER: usize = 18;
/// Half of the digest: 128 bits leave nothing to guess, and the link stays short.
const MAC: usize = 16;
/// Longest token in characters; longer ones are refused unread.
pub const MAX_TOKEN: usize = (HEADER + 64 + MAC) * 4 / 3 + 4;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Watch.
    View,
    /// Watch, and use keyboard, pointer and gamepads.
    Control,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::View => "view",
            Self::Control => "control",
        })
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "view" => Ok(Self::View),
            "control" => Ok(Self::Control),
            _ => Err("a role is view or control"),
        }
    }
}

/// Names a token, so that it can be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(pub [u8; 8]);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for TokenId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "the id of a link has 16 hexadecimal digits";
        let text = text.as_bytes();
        if text.len() != 16 {
            return Err(WRONG);
        }
        let mut id = [0; 8];
        for (byte, digits) in id.iter_mut().zip(text.chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| WRONG)?;
            // from_str_radix would take a sign.
            if digits.starts_with('+') {
                return Err(WRONG);
            }
            *byte = u8::from_str_radix(digits, 16).map_err(|_| WRONG)?;
        }
        Ok(Self(id))
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its name.
    pub id: TokenId,
    /// What its bearer may do.
    pub role: Role,
    /// With which guest; `None`: with any of the relay.
    pub guest: Option<String>,
    /// Until when, in seconds since 1970.
    pub expires: u64,
}

/// Why a token opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not of the right form, or not made with this key.
    #[error("this link was not made by this relay, or lost a part on its way: ask for a new one")]
    Forged,
    /// Too late.
    #[error("this link has expired: ask for a new one")]
    Expired,
    /// Taken back.
    #[error("this link has been revoked: ask for a new one")]
    Revoked,
    /// Another guest's.
    #[error("this link is for another guest")]
    OtherGuest,
}

/// The secret that tokens are made with.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// A key that exists.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn mac(&self, body: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length.
        #[allow(clippy::expect_used)]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("32 bytes are a key");
        mac.update(body);
        mac
    }

    /// The token for a grant.
    pub fn seal(&self, grant: &Grant) -> String {
        let role = match grant.role {
            Role::View => 0,
            Role::Control => 1,
        };
        let mut token = vec![VERSION, role];
        token.extend_from_slice(&grant.expires.to_be_bytes());
        token.extend_from_slice(&grant.id.0);
        token.extend_from_slice(grant.guest.as_deref().unwrap_or_default().as_bytes());
        let mac = self.mac(&token).finalize().into_bytes();
        token.extend_from_slice(&mac[..MAC]);
        Base64UrlUnpadded::encode_string(&token)
    }

    /// The password that belongs to a name (see [`name_and_password`]), and the token that both
    /// make; `None`: this is no such name.
    pub fn password(&self, name: &str) -> Option<(String, String)> {
        if name.len() > MAX_TOKEN {
            return None;
        }
        let mut token = Base64UrlUnpadded::decode_vec(name).ok()?;
        let mac = self.mac(&token).finalize().into_bytes();
        token.extend_from_slice(&mac[..MAC]);
        let password = Base64UrlUnpadded::encode_string(&mac[..MAC]);
        Some((password, Base64UrlUnpadded::encode_string(&token)))
    }

    /// What a token grants at the time `now`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`TokenError::Forged`] or [`TokenError::Expired`]; the rest is for others to judge.
    pub fn open(&self, token: &str, now: u64) -> Result<Grant, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Forged);
        }
        let token = Base64UrlUnpadded::decode_vec(token).map_err(|_| TokenError::Forged)?;
        let body = token.len().checked_sub(MAC).filter(|&body| body >= HEADER);
        let (body, mac) = token.split_at(body.ok_or(TokenError::Forged)?);
        // Compares in constant time.
        self.mac(body).verify_truncated_left(mac).map_err(|_| TokenError::Forged)?;
        // What we once sealed reads back; but a key can outlive a version.
        let (header, guest) = body.split_first_chunk::<HEADER>().ok_or(TokenError::Forged)?;
        let role = match header[..2] {
            [VERSION, 0] => Role::View,
            [VERSION, 1] => Role::Control,
            _ => return Err(TokenError::Forged),
        };
        let number = |range: std::ops::Range<usize>| {
            header[range].iter().fold(0, |n, &byte| n << 8 | u64::from(byte))
        };
        let expires = number(2..10);
        let id = TokenId(number(10..18).to_be_bytes());
        let guest = std::str::from_utf8(guest).map_err(|_| TokenError::Forged)?;
        if expires <= now {
            return Err(TokenError::Expired);
        }
        let guest = (!guest.is_empty()).then(|| guest.to_owned());
        Ok(Grant { id, role, guest, expires })
    }
}

/// A token as a name and a password, for protocols in which clients show the one and only prove
/// that they know the other: the name says what the token grants, the password is its MAC.
pub fn name_and_password(token: &str) -> Option<(String, String)> {
    let bytes = Base64UrlUnpadded::decode_vec(token).ok()?;
    let body = bytes.len().checked_sub(MAC).filter(|&body| body >= HEADER)?;
    let (body, mac) = bytes.split_at(body);
    Some((Base64UrlUnpadded::encode_string(body), Base64UrlUnpadded::encode_string(mac)))
}

/// Reads a time to live: a number and one of `s`, `m`, `h`, `d`.
///
/// # Errors
///
/// What is wrong with it.
pub fn lifetime(text: &str) -> Result<Duration, String> {
    const FORM: &str = "how long is a number with s, m, h or d behind it, such as 2h or 7d";
    let unit = text.char_indices().next_back().ok_or(FORM)?;
    let seconds = match unit.1 {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(FORM.into()),
    };
    let number: u32 = text[..unit.0].parse().map_err(|_| FORM)?;
    match u64::from(number) * seconds {
        0 => Err("a link for no time at all opens nothing".into()),
        time if time > 10 * 366 * 86_400 => Err("ten years are the most".into()),
        time => Ok(Duration::from_secs(time)),
    }
}

#[cfg(test)]
mod tests;
