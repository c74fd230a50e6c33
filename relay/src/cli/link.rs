//! `transom link`: makes links with tokens, and takes them back.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use transom_relay::access::{
    Role, TokenId, lifetime, name_and_password,
    store::{Serving, Store},
};

use super::state::StateArgs;

/// Behind `transom link --help`.
pub const HELP: &str = "\
Examples:
  A link to play the guest doom for eight hours:
    transom link doom
  One to watch it for two hours, for somebody else, under the name they know this host by:
    transom link doom --role view --for 2h --url https://games.example
  One for every guest of the relay:
    transom link --all
  One for a player on another machine, by RTSP:
    transom link doom --role view --rtsp games.example:8554
  One for VLC, a TV, OBS: whatever opens an address:
    transom link doom --ts
  Take one back, by the id that was told when it was made; take all back:
    transom link --revoke 0123456789abcdef
    transom link --revoke-all

A link is as good as a password until it expires. Its secret lies in the folder --state: the relay
must have the same, and this user must be able to read it.";

/// What `transom link` is told.
#[derive(Debug, Args)]
pub struct LinkArgs {
    /// The guest's name, as the relay has it.
    #[arg(value_name = "GUEST", required_unless_present_any = ["all", "revoke", "revoke_all"])]
    guest: Option<String>,

    /// For every guest of the relay.
    #[arg(long, conflicts_with = "guest")]
    all: bool,

    /// view, or control: keyboard and mouse too.
    #[arg(long, default_value = "control", value_name = "ROLE")]
    role: Role,

    /// How long it opens the guest: a number with s, m, h or d.
    #[arg(long = "for", default_value = "8h", value_name = "TIME", value_parser = lifetime)]
    lifetime: Duration,

    /// Where viewers reach the relay; where it was started last otherwise.
    #[arg(long, env = "TRANSOM_URL")]
    url: Option<String>,

    /// An address for players by RTSP instead, at HOST:PORT, with a name and a password in it;
    /// 127.0.0.1:8554 if left out.
    #[arg(
        long,
        value_name = "HOST:PORT",
        num_args = 0..=1,
        default_missing_value = "127.0.0.1:8554",
        conflicts_with_all = ["all", "url"],
        value_parser = authority
    )]
    rtsp: Option<String>,

    /// An address for players such as VLC instead, to watch alone: MPEG-TS over HTTP, with the token
    /// in it. Players show it, and so may logs on the way.
    #[arg(long, conflicts_with_all = ["all", "rtsp"])]
    ts: bool,

    /// Take a link back, by its id.
    #[arg(long, value_name = "ID", conflicts_with_all = ["guest", "all"])]
    revoke: Option<TokenId>,

    /// Take all links back that were ever made.
    #[arg(long, conflicts_with_all = ["guest", "all", "revoke"])]
    revoke_all: bool,

    #[command(flatten)]
    state: StateArgs,

    /// Tell it as JSON.
    #[arg(long)]
    json: bool,
}

/// Where RTSP is, as it stands in an address.
fn authority(text: &str) -> Result<String, &'static str> {
    let text = text.strip_prefix("rtsp://").unwrap_or(text).trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("expected HOST:PORT, such as games.example:8554")
    }
}

/// Makes the link, or takes it back.
pub fn run(args: &LinkArgs) -> anyhow::Result<ExitCode> {
    let store = args.state.open()?;
    if args.revoke_all {
        store.revoke_all()?;
        tell(
            args.json,
            &json!({ "revoked": "all" }),
            "all links are revoked; sessions that they opened end",
        )
    } else if let Some(id) = args.revoke {
        store.revoke(id, None)?;
        let text = format!("link {id} is revoked; a session that it opened ends");
        tell(args.json, &json!({ "revoked": id.to_string() }), &text)
    } else {
        make(args, &store)
    }
}

fn make(args: &LinkArgs, store: &Store) -> anyhow::Result<ExitCode> {
    let guest = args.guest.as_deref();
    if let (Some(authority), Some(guest)) = (&args.rtsp, guest) {
        return make_for_rtsp(args, store, authority, guest);
    }
    let (url, fingerprint) = match (&args.url, store.serving()) {
        (Some(url), serving) => {
            let fingerprint = serving.and_then(|serving| serving.fingerprint);
            (url.trim_end_matches('/').to_owned(), fingerprint)
        }
        (None, Some(Serving { url, guests, fingerprint, .. })) => {
            if let Some(guest) = guest
                && !guests.iter().any(|name| name == guest)
            {
                bail!(
                    "the relay at {url} has no guest {guest}, but {}; --url for another relay",
                    guests.join(", ")
                );
            }
            (url, fingerprint)
        }
        (None, None) => bail!(
            "no relay with --http was started by this user yet: start one, or say --url \
             http://HOST:PORT"
        ),
    };
    let role = if args.ts { Role::View } else { args.role };
    let (token, grant) = store.grant(role, guest, args.lifetime).context("no link")?;
    let path = guest.map_or_else(|| "/".into(), |guest| format!("/{guest}/"));
    // Behind the #, where it is never sent to a server, nor written to its logs; players send
    // what stands behind a ? alone.
    let link = if args.ts {
        format!("{url}{path}stream.ts?token={token}")
    } else {
        format!("{url}{path}#token={token}")
    };
    let told = json!({
        "url": link, "token": token, "id": grant.id.to_string(), "role": grant.role.to_string(),
        "guest": grant.guest, "expires": grant.expires, "fingerprint": fingerprint,
    });
    if !args.json {
        let hours = args.lifetime.as_secs() as f64 / 3600.0;
        if let Some(fingerprint) = &fingerprint {
            eprintln!(
                "browsers ask whether to trust the relay; its certificate is SHA-256 {fingerprint}"
            );
        }
        eprintln!("link {}, role {}, good for {hours:.4} h:", grant.id, grant.role);
    }
    tell(args.json, &told, &link)
}

/// A link for players: what the token says is the name, what proves it the password, which players
/// do not send.
fn make_for_rtsp(
    args: &LinkArgs,
    store: &Store,
    authority: &str,
    guest: &str,
) -> anyhow::Result<ExitCode> {
    let (token, grant) = store.grant(args.role, Some(guest), args.lifetime).context("no link")?;
    let (name, password) = name_and_password(&token).context("a token has both")?;
    let link = format!("rtsp://{name}:{password}@{authority}/{guest}");
    let told = json!({
        "url": link, "name": name, "password": password, "id": grant.id.to_string(),
        "role": grant.role.to_string(), "guest": guest, "expires": grant.expires,
    });
    if !args.json {
        let hours = args.lifetime.as_secs() as f64 / 3600.0;
        eprintln!("link {}, good for {hours:.4} h:", grant.id);
    }
    tell(args.json, &told, &link)
}

fn tell(json: bool, value: &serde_json::Value, text: &str) -> anyhow::Result<ExitCode> {
    if json {
        println!("{value}");
    } else {
        println!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}
