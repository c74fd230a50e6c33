//! A scene under a cap: whether the bitrate holds, and how the picture looks while it moves and at rest.

use anyhow::Result;
use serde_json::{Value, json};
use transom_agent::capture::Frame;
use transom_agent::encode::screen::Screen;
use transom_agent::encode::{Request, Tuning};
use transom_protocol::{BitRate, GuestTime};
use transom_tests::corpus::Scene;

use super::{Player, peers};

const CAP: u32 = 5_000_000;
const SECOND: u64 = 1_000_000_000;
/// How long the last picture rests, and how often it is looked at, as the agent would.
const REST: u64 = SECOND / 2;
const TICK: u64 = 50_000_000;

/// Plays a scene at its own pace: bits of the worst second, luma PSNR of all pictures that moved,
/// and that of the last one after half a second of rest.
pub fn run(scene: &Scene) -> Result<Value> {
    let mut player = Player::new(scene);
    let tuning = Tuning { bitrate: BitRate(CAP), fps: 60 };
    let mut encoder = Screen::new(player.picture.size(), tuning)?;
    let mut sent: Vec<(u64, usize)> = Vec::new();
    let (mut squares, mut last) = (0, 0);
    for (n, shown) in scene.pictures.iter().enumerate() {
        player.show();
        player.convert();
        last = shown.time;
        let frame = Frame { picture: &player.picture, damage: &player.damage };
        let unit = encoder.encode(Request { frame, idr: n == 0, time: GuestTime(last) })?;
        sent.push((last, unit.bytes.len() * 8));
        squares += luma(&encoder, &player);
    }
    player.damage.clear();
    for rested in (TICK..=REST).step_by(TICK as usize) {
        let frame = Frame { picture: &player.picture, damage: &player.damage };
        let time = GuestTime(last + rested);
        let unit = encoder.encode(Request { frame, idr: false, time })?;
        sent.push((time.0, unit.bytes.len() * 8));
        if !unit.coarse {
            break;
        }
    }
    let within = |from: u64| {
        let second = sent.iter().filter(move |(at, _)| (from..from + SECOND).contains(at));
        second.map(|(_, bits)| bits).sum::<usize>()
    };
    let worst = sent.iter().map(|(from, _)| within(*from)).max();
    let samples = player.picture.planes()[0].len() as f64;
    let db = |squares: u64, pictures: usize| {
        10.0 * (65_025.0 * samples * pictures as f64 / squares.max(1) as f64).log10()
    };
    Ok(json!({
        "cap": CAP, "worst": worst, "moving": db(squares, scene.pictures.len()),
        "rested": db(luma(&encoder, &player), 1),
    }))
}

/// Squared errors of luma.
fn luma(encoder: &Screen, player: &Player<'_>) -> u64 {
    let [(shown, stride), ..] = encoder.reconstruction();
    let (plane, width) = (player.picture.planes()[0], player.picture.strides()[0]);
    plane.chunks(width).zip(shown.chunks(stride)).map(|(a, b)| peers::squares(a, &b[..width])).sum()
}
