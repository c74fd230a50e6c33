//! Every rule of tokens, and above all those that must say no.

use proptest::prelude::*;

use super::*;

fn key() -> Key {
    Key::new([7; 32])
}

fn grant() -> Grant {
    Grant {
        id: TokenId([1, 2, 3, 4, 5, 6, 7, 8]),
        role: Role::Control,
        guest: Some("doom".into()),
        expires: 1000,
    }
}

#[test]
fn a_token_says_what_it_was_made_for_until_it_expires() {
    let token = key().seal(&grant());
    assert_eq!(key().open(&token, 999), Ok(grant()));
    assert_eq!(key().open(&token, 1000), Err(TokenError::Expired));
    assert_eq!(key().open(&token, u64::MAX), Err(TokenError::Expired));
}

#[test]
fn a_token_of_another_key_is_forged() {
    let token = Key::new([8; 32]).seal(&grant());
    assert_eq!(key().open(&token, 0), Err(TokenError::Forged));
}

#[test]
fn not_one_bit_of_a_token_can_be_changed() {
    let token = key().seal(&grant());
    let bytes = Base64UrlUnpadded::decode_vec(&token).expect("we made it");
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let changed = Base64UrlUnpadded::encode_string(&changed);
        assert_eq!(key().open(&changed, 0), Err(TokenError::Forged), "bit {bit}");
    }
    for end in 0..token.len() {
        assert_eq!(key().open(&token[..end], 0), Err(TokenError::Forged), "cut at {end}");
    }
    assert_eq!(key().open(&format!("{token}A"), 0), Err(TokenError::Forged));
    assert_eq!(key().open(&"A".repeat(MAX_TOKEN + 1), 0), Err(TokenError::Forged));
}

#[test]
fn a_token_for_all_guests_names_none() {
    let all = Grant { guest: None, ..grant() };
    assert_eq!(key().open(&key().seal(&all), 0), Ok(all));
}

#[test]
fn ids_are_read_as_they_are_written() {
    let id = TokenId([0, 1, 0xab, 0xcd, 5, 6, 7, 0xff]);
    assert_eq!(id.to_string().parse(), Ok(id));
    for wrong in
        ["", "0001abcd050607f", "0001abcd050607ff0", "0001abcd050607fg", "+1+1+1+1+1+1+1+1"]
    {
        assert!(wrong.parse::<TokenId>().is_err(), "{wrong}");
    }
}

#[test]
fn lifetimes_have_a_unit_and_an_end() {
    assert_eq!(lifetime("90s"), Ok(Duration::from_secs(90)));
    assert_eq!(lifetime("2h"), Ok(Duration::from_secs(7200)));
    assert_eq!(lifetime("7d"), Ok(Duration::from_secs(604_800)));
    for wrong in ["", "h", "2", "-2h", "2w", "0m", "4000d", "99999999999h", "2ü"] {
        assert!(lifetime(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_key_does_not_show() {
    assert_eq!(format!("{:?}", key()), "Key(…)");
}

proptest! {
    #[test]
    fn nothing_opens_by_chance(token in ".*") {
        prop_assert_eq!(key().open(&token, 0), Err(TokenError::Forged));
    }

    #[test]
    fn what_is_sealed_opens(id: [u8; 8], control: bool, guest in "[a-z0-9._-]{0,64}", expires in 1u64..) {
        let grant = Grant {
            id: TokenId(id),
            role: if control { Role::Control } else { Role::View },
            guest: (!guest.is_empty()).then_some(guest),
            expires,
        };
        let token = key().seal(&grant);
        prop_assert!(token.len() <= MAX_TOKEN);
        prop_assert_eq!(key().open(&token, 0), Ok(grant));
    }
}
