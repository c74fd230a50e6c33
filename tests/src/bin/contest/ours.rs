//! Our encoder's turns.

use anyhow::Result;
use transom_agent::capture::Frame;
use transom_agent::damage::{Damage, Rect};
use transom_agent::encode::screen::Screen;
use transom_agent::encode::{Request, Tuning};
use transom_agent::picture::Picture;
use transom_agent::pixels::Pixels;
use transom_protocol::{BitRate, GuestTime};
use transom_tests::corpus::Scene;

use super::{QUANTISER, ROUNDS, Run, cpu_time, peers};

/// Calls that a look at the clock is not seen among.
const CALLS: u32 = 2000;

/// Plays a scene as the agent sees it.
pub struct Player<'a> {
    scene: &'a Scene,
    next: usize,
    pixels: Vec<u8>,
    /// What encoders are given.
    pub picture: Picture,
    /// What is new in it.
    pub damage: Damage,
}

impl<'a> Player<'a> {
    /// Nothing was shown yet.
    pub fn new(scene: &'a Scene) -> Self {
        let (width, height) = scene.size;
        Self {
            scene,
            next: 0,
            pixels: vec![0; (width * height * 4) as usize],
            picture: Picture::new(scene.size),
            damage: Damage::default(),
        }
    }

    /// Draws the next picture.
    pub fn show(&mut self) {
        self.scene.pictures[self.next].draw(&mut self.pixels, self.scene.size.0);
        self.next += 1;
    }

    /// Finds and converts what has changed.
    pub fn convert(&mut self) {
        self.damage.clear();
        let pixels = Pixels::bgrx(&self.pixels, self.scene.size.0);
        self.picture.update(pixels, None, &mut self.damage);
    }

    /// The same, told what was drawn.
    fn convert_within(&mut self, drawn: &[Rect]) {
        self.damage.clear();
        let pixels = Pixels::bgrx(&self.pixels, self.scene.size.0);
        self.picture.update_within(pixels, drawn, None, &mut self.damage);
    }

    fn frame(&self) -> Frame<'_> {
        Frame { picture: &self.picture, damage: &self.damage }
    }
}

/// The scene's pictures in 4:2:0, rows without gaps.
pub fn converted(scene: &Scene) -> Vec<Vec<u8>> {
    let mut player = Player::new(scene);
    let frame = |_| {
        player.show();
        player.convert();
        player.picture.planes().concat()
    };
    (0..scene.pictures.len()).map(frame).collect()
}

fn encoder(player: &Player<'_>) -> Result<Screen> {
    let tuning = Tuning { bitrate: BitRate(u32::MAX), fps: 60 };
    let mut encoder = Screen::new(player.picture.size(), tuning)?;
    encoder.fix_quantiser(QUANTISER);
    encoder.limit_slices(1);
    Ok(encoder)
}

/// A round of a scene in which everything is found out.
pub fn play(scene: &Scene, frames: &[Vec<u8>], run: &mut Run) -> Result<()> {
    let mut player = Player::new(scene);
    let mut encoder = encoder(&player)?;
    let (mut seconds, mut bytes, mut errors) = (0.0, 0, [0; 3]);
    let first = run.seconds.is_empty();
    for (n, picture) in frames.iter().enumerate() {
        player.show();
        let begun = cpu_time()?;
        player.convert();
        let time = GuestTime(scene.pictures[n].time);
        let unit = encoder.encode(Request { frame: player.frame(), idr: n == 0, time })?;
        if n > 0 {
            seconds += cpu_time()? - begun;
            bytes += unit.bytes.len();
        }
        if first {
            add_errors(&encoder, picture, player.picture.size(), &mut errors);
        }
    }
    run.seconds.push(seconds);
    if first {
        (run.bytes, run.errors) = (bytes, errors);
    }
    Ok(())
}

/// Seconds of a round in which the damage is told: nothing but what was drawn is looked at.
pub fn told(scene: &Scene) -> Result<f64> {
    let mut player = Player::new(scene);
    let mut encoder = encoder(&player)?;
    let mut seconds = 0.0;
    for (n, shown) in scene.pictures.iter().enumerate() {
        player.show();
        let drawn: Vec<Rect> = shown.damage().collect();
        let begun = cpu_time()?;
        player.convert_within(&drawn);
        let time = GuestTime(shown.time);
        encoder.encode(Request { frame: player.frame(), idr: n == 0, time })?;
        if n > 0 {
            seconds += cpu_time()? - begun;
        }
    }
    Ok(seconds)
}

/// A round of IDRs, of the pictures with these numbers.
pub fn idrs(scene: &Scene, frames: &[Vec<u8>], picked: &[usize], run: &mut Run) -> Result<()> {
    let mut player = Player::new(scene);
    let mut encoder = encoder(&player)?;
    let (mut seconds, mut bytes, mut errors) = (0.0, 0, [0; 3]);
    let first = run.seconds.is_empty();
    for (n, picture) in frames.iter().enumerate() {
        player.show();
        let begun = cpu_time()?;
        player.convert();
        if !picked.contains(&n) {
            continue;
        }
        let time = GuestTime(scene.pictures[n].time);
        bytes += encoder.encode(Request { frame: player.frame(), idr: true, time })?.bytes.len();
        seconds += cpu_time()? - begun;
        if first {
            add_errors(&encoder, picture, player.picture.size(), &mut errors);
        }
    }
    run.seconds.push(seconds);
    if first {
        (run.bytes, run.errors) = (bytes, errors);
    }
    Ok(())
}

/// Microseconds of a picture in which nothing has changed, in each round, and its bytes.
pub fn rest(scene: &Scene) -> Result<(Vec<f64>, usize)> {
    let mut player = Player::new(scene);
    // With a quantiser that is fixed there is no rest: it would be refined for ever.
    let tuning = Tuning { bitrate: BitRate(u32::MAX), fps: 60 };
    let mut encoder = Screen::new(player.picture.size(), tuning)?;
    for _ in &scene.pictures {
        player.show();
    }
    player.convert();
    let mut now = 0;
    encoder.encode(Request { frame: player.frame(), idr: true, time: GuestTime(now) })?;
    player.damage.clear();
    let mut encode = || {
        now += 16_666_667;
        encoder.encode(Request { frame: player.frame(), idr: false, time: GuestTime(now) })
    };
    // The first ones refine what is still coarse.
    let mut bytes = 0;
    for _ in 0..3 {
        bytes = encode()?.bytes.len();
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begun = cpu_time()?;
        for _ in 0..CALLS {
            encode()?;
        }
        rounds.push((cpu_time()? - begun) * 1e6 / f64::from(CALLS));
    }
    Ok((rounds, bytes))
}

/// Adds squared errors of what decoders show.
fn add_errors(encoder: &Screen, picture: &[u8], size: (u32, u32), errors: &mut [u64; 3]) {
    let (width, height) = (size.0 as usize, size.1 as usize);
    let sizes = [(width, height), (width / 2, height / 2), (width / 2, height / 2)];
    let mut rest = picture;
    for ((plane, stride), ((columns, rows), error)) in
        encoder.reconstruction().into_iter().zip(sizes.into_iter().zip(errors))
    {
        for row in plane.chunks(stride).take(rows) {
            let (line, behind) = rest.split_at(columns);
            *error += peers::squares(&row[..columns], line);
            rest = behind;
        }
    }
}
