//! How long the agent takes to answer, at rest and while it streams as much as it can.
//!
//! Two kinds of request: a byte that comes back on a connection that is open, and a setting, which
//! takes a connection, a hello and an answer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use transom_protocol::diagnostics::{GuestDiagnostics, HostDiagnostics, Request, Setting};
use transom_tests::talk::Talk;
use transom_tests::{Guest, Qemu, Test, Uml};

use crate::SETTLE;
use crate::latency::percentiles;
use crate::stream::Stream;

/// Percentiles of so many are good to their 99th.
const ECHOES: usize = 1000;
const SETTINGS: usize = 300;
/// Not in step with frames at 60 a second.
const PAUSE: Duration = Duration::from_millis(7);
/// Rest and load take turns, so that both see whatever else this machine does.
const ROUNDS: u64 = 3;
/// From power-on to a running game.
const BOOT: Duration = Duration::from_secs(240);

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let guest = Uml::new(test).boot()?;
    guest.start_agent(&[])?;
    let mut screen = guest.testcard()?;
    screen.tell("mode 1280x720 XRGB8888")?;
    let mut turns = Turns::default();
    for _ in 0..ROUNDS {
        screen.tell("still 1")?;
        turns.rest.measure(&guest)?;
        let _stream = Stream::start(test, &guest)?;
        screen.tell("animate screen")?;
        turns.load.measure(&guest)?;
    }
    turns.lines("user-mode Linux")
}

/// The same in the shipped image: at rest the game is stopped.
pub fn measure_image(test: &Test) -> Result<Vec<Value>> {
    let guest = Qemu::new(test).boot()?;
    guest.sh("until pidof chocolate-doom; do sleep 0.5; done; sleep 10", BOOT)?;
    let mut turns = Turns::default();
    for _ in 0..ROUNDS {
        guest.run("kill -STOP $(pidof chocolate-doom)")?;
        turns.rest.measure(&guest)?;
        guest.run("kill -CONT $(pidof chocolate-doom)")?;
        let _stream = Stream::start(test, &guest)?;
        turns.load.measure(&guest)?;
    }
    turns.lines("shipped image, the game running")
}

#[derive(Default)]
struct Turns {
    rest: Trips,
    load: Trips,
}

/// Times in milliseconds.
#[derive(Default)]
struct Trips {
    echoes: Vec<f64>,
    settings: Vec<f64>,
}

impl Trips {
    fn measure(&mut self, guest: &Guest) -> Result<()> {
        std::thread::sleep(SETTLE);
        let mut talk = Talk::ask(guest, Request::Echo)?;
        for _ in 0..ECHOES / ROUNDS as usize {
            let start = Instant::now();
            talk.say(&HostDiagnostics::Data, &[0; 16])?;
            match talk.hear()? {
                (GuestDiagnostics::Echo { .. }, _) => self.echoes.push(ms(start)),
                other => bail!("{other:?} instead of an echo"),
            }
            std::thread::sleep(PAUSE);
        }
        for _ in 0..SETTINGS / ROUNDS as usize {
            let start = Instant::now();
            Talk::ask(guest, Request::Set(Setting::FrameRate(60)))?.done()?;
            self.settings.push(ms(start));
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

impl Turns {
    fn lines(self, guest: &str) -> Result<Vec<Value>> {
        let Self { rest, load } = self;
        [("echo", rest.echoes, load.echoes), ("setting", rest.settings, load.settings)]
            .into_iter()
            .map(|(request, rest, load)| {
                let count = rest.len();
                let of = |times| percentiles(times).context("no answer");
                Ok(json!({
                    "what": "round trip", "guest": guest, "request": request, "count": count,
                    "rest": of(rest)?, "load": of(load)?,
                }))
            })
            .collect()
    }
}
