//! What the page's side reads of strangers: tokens, offers, STUN, host names.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::OnceLock,
    time::Instant,
};

use str0m::config::DtlsCert;
use transom_relay::{
    access::{Grant, Key, Role, TokenId, lifetime},
    http::{guard::host_name, whep::is_sdp},
    webrtc::{certificate, peer::Peer, stun},
};

const KEY: [u8; 32] = [7; 32];

/// A token, an id, a lifetime, a Host header: no bytes open anything, and none panic.
pub fn token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let key = Key::new(KEY);
    if let Ok(grant) = key.open(&text, 0) {
        assert_eq!(key.seal(&grant), text, "only what we sealed opens");
    }
    let _ = (text.parse::<TokenId>(), lifetime(&text), is_sdp(&text));
    if let Some(host) = host_name(&text) {
        assert!(!host.is_empty() && text.contains(host));
    }
}

/// Tokens to start from.
pub fn token_seeds() -> Vec<Vec<u8>> {
    let grant = |guest: Option<&str>| Grant {
        id: TokenId([1; 8]),
        role: Role::Control,
        guest: guest.map(str::to_owned),
        expires: 1 << 40,
    };
    let key = Key::new(KEY);
    let tokens = [key.seal(&grant(None)), key.seal(&grant(Some("doom")))];
    let others = ["0123456789abcdef", "2h", "[::1]:8889", "localhost:1", "application/sdp; a=b"];
    tokens.into_iter().chain(others.map(str::to_owned)).map(String::into_bytes).collect()
}

/// An offer, and what comes on the UDP port before anybody has proven anything.
pub fn offer(data: &[u8]) {
    static CERTIFICATE: OnceLock<DtlsCert> = OnceLock::new();
    let certificate = CERTIFICATE.get_or_init(|| certificate().expect("a certificate"));
    let _ = (stun::receiver(data), stun::is_rtcp(data));
    let now = Instant::now();
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 8889));
    let text = String::from_utf8_lossy(data);
    if let Ok((mut peer, answer)) = Peer::accept(&text, 0x42_c0_28, local, certificate, now) {
        assert!(answer.contains("a=ice-lite"));
        let _ = peer.handle_datagram(now, local, data);
        let _ = peer.poll(now, &mut Vec::new(), &mut Vec::new());
    }
}

/// Offers to start from.
pub fn offer_seeds() -> Vec<Vec<u8>> {
    let offer = include_str!("../../relay/src/http/offer.sdp");
    let request =
        [&[0, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12], &[0, 6, 0, 5], b"abc:d\0\0\0"];
    vec![offer.into(), request.concat()]
}
