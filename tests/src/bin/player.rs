//! A relay with viewers that do as they are told, for tests and figures of input.
//!
//! In: a guest's address, and orders on stdin, one a line:
//!
//!     VIEWER key CODE 0|1        VIEWER button CODE 0|1     VIEWER move DX DY
//!     VIEWER place X Y           VIEWER plug PAD            VIEWER pad PAD CODE 0|1
//!     VIEWER release             VIEWER leave               measure COUNT MILLISECONDS
//!
//! Out: on stdout `ready` whenever the guest takes input, `gone` when it does not, and what becomes
//! of each order: `written VIEWER NUMBER RELAY_NS GUEST_NS`, or `lost VIEWER NUMBER`, `refused`,
//! `rumble VIEWER PAD STRONG WEAK MS`. `measure` taps the space bar so many times, so far apart,
//! and then says `measured`.

use std::io::{BufRead, Write};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use transom_protocol::PORT;
use transom_protocol::input::Event;
use transom_relay::feed::colour::Policy;
use transom_relay::feed::{self, Feed, ViewerId};
use transom_relay::guest::GuestAddr;
use transom_relay::input::{Command, InputState, Outcome};
use transom_relay::relay::{Config, Relay};
use transom_relay::status::Status;
use transom_relay::video::{self, Video};

const SPACE: u16 = 57;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let guest: GuestAddr = std::env::args().nth(1).context("usage: player GUEST")?.parse()?;
    let epoch = Instant::now();
    let video = video::Config {
        outputs: Vec::new(),
        sdp: None,
        packet: 1200,
        ttl: 1,
        idr_interval: None,
        entry: video::Entry::Idr,
    };
    let (source, commands, feed) = feed::feed("guest", &guest);
    let config = Config {
        guest,
        port: PORT,
        bitrate: None,
        chroma: Policy::Auto,
        codec: Default::default(),
    };
    let relay = Relay::new(
        config,
        Video::new(video, epoch)?,
        Status::new(false, None),
        (source, commands),
        epoch,
    );
    let (lines, mut orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    let (mut outcomes, mut news) = (feed.input_outcomes(), feed.news());
    let mut relay = std::pin::pin!(relay.run(std::future::pending()));
    let mut number = 0;
    let mut measuring = None;
    loop {
        let next_tap = async {
            match measuring {
                Some((_, due, _)) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = relay.as_mut() => bail!("the relay ended: {ended:?}"),
            line = orders.recv() => {
                let Some(line) = line else { return Ok(()) };
                match line.split(' ').collect::<Vec<_>>()[..] {
                    ["measure", count, ms] => {
                        let interval = Duration::from_millis(ms.parse()?);
                        measuring = Some((2 * u32::from_str(count)?, tokio::time::Instant::now(), interval));
                    }
                    [viewer, ref order @ ..] => {
                        number += 1;
                        obey(&feed, ViewerId(viewer.parse()?), number, order)?;
                    }
                    [] => bail!("an empty order"),
                }
            }
            () = next_tap => if let Some((left, due, interval)) = measuring {
                number += 1;
                let event = Event::Key { code: SPACE, pressed: left % 2 == 0 };
                events(&feed, ViewerId(1), number, event);
                measuring = (left > 1).then_some((left - 1, due + interval, interval));
                if measuring.is_none() {
                    say("measured");
                }
            },
            outcome = outcomes.recv() => match outcome {
                Ok(Outcome::Batch { viewer, number, relay, guest: Some(guest) }) => {
                    say(&format!("written {} {number} {} {}", viewer.0, relay.as_nanos(), guest.as_nanos()));
                }
                Ok(Outcome::Batch { viewer, number, guest: None, .. }) => {
                    say(&format!("lost {} {number}", viewer.0));
                }
                Ok(Outcome::Rumble { viewer, pad, strong, weak, duration }) => {
                    say(&format!("rumble {} {pad} {strong} {weak} {duration}", viewer.0));
                }
                Err(RecvError::Lagged(missed)) => say(&format!("missed {missed}")),
                Err(RecvError::Closed) => return Ok(()),
            },
            changed = news.changed() => {
                changed?;
                let ready = news.borrow_and_update().input == InputState::Ready;
                say(if ready { "ready" } else { "gone" });
            }
        }
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    // Whoever started this has gone; the next read of an order tells.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn events(feed: &Feed, viewer: ViewerId, number: u32, event: Event) {
    let at = Instant::now();
    if feed.send_input(Command::Events { viewer, number, at, events: vec![event] }).is_err() {
        say("refused");
    }
}

fn obey(feed: &Feed, viewer: ViewerId, number: u32, order: &[&str]) -> Result<()> {
    let pressed = |text: &str| text == "1";
    let event = match *order {
        ["key", code, down] => Event::Key { code: code.parse()?, pressed: pressed(down) },
        ["button", code, down] => Event::Button { code: code.parse()?, pressed: pressed(down) },
        ["move", dx, dy] => Event::Move { dx: dx.parse()?, dy: dy.parse()? },
        ["place", x, y] => Event::Place { x: x.parse()?, y: y.parse()? },
        ["pad", pad, code, down] => {
            Event::PadButton { pad: pad.parse()?, code: code.parse()?, pressed: pressed(down) }
        }
        ["plug", pad] => {
            return Ok(feed.send_input(Command::Plug { viewer, pad: pad.parse()? })?);
        }
        ["release"] => return Ok(feed.send_input(Command::ReleaseAll { viewer })?),
        ["leave"] => return Ok(feed.send_input(Command::Leave { viewer })?),
        _ => bail!("no such order: {order:?}"),
    };
    events(feed, viewer, number, event);
    Ok(())
}
