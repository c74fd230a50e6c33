//! The VA-API encoder against the software driver of `tests/va-driver`, by way of the real libva
//! and its X11 display: no DRM device is needed.
//!
//! The driver writes I_PCM under the headers that it is given, so that what decodes equals what
//! went in, byte for byte, and only if all headers are right.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use transom_agent::damage::{Damage, Rect};
use transom_agent::encode::vaapi::check;
use transom_agent::encode::vaapi::{Opened, Progress, Remote, VaapiError};
use transom_agent::mirror::{Mirror, PixelFormat};
use transom_agent::picture::Picture;

mod stage;

use stage::{RATE, start};

const SOON: Duration = Duration::from_secs(60);

fn open(mode: &str, size: (u32, u32)) -> Result<(Remote, Opened), VaapiError> {
    let mut remote = start(mode, size)?;
    match remote.wait_ready(SOON)? {
        Progress::Ready => {}
        Progress::Opening => panic!("not ready after {SOON:?}"),
    }
    let opened = remote.opened().expect("it is ready").clone();
    Ok((remote, opened))
}

/// A screen whose pictures differ in a part.
struct Screen {
    mirror: Mirror,
    picture: Picture,
    damage: Damage,
    pixels: Vec<u8>,
}

impl Screen {
    fn new((width, height): (u32, u32)) -> Self {
        let mut state = 1u32;
        let pixels = (0..width as usize * height as usize * 4).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        Self {
            mirror: Mirror::new(PixelFormat::Bgrx, width, height),
            picture: Picture::new((width, height)),
            damage: Damage::default(),
            pixels: pixels.collect(),
        }
    }

    fn draw(&mut self, number: u32) {
        let (width, height) = self.mirror.size();
        for y in (number * 7 % height)..(number * 7 % height + 40).min(height) {
            for x in (number * 13 % width)..(number * 13 % width + 90).min(width) {
                self.pixels[(y * width + x) as usize * 4] ^= number as u8 | 1;
            }
        }
        self.damage.clear();
        self.mirror.update(&self.pixels, width as usize * 4, &mut self.damage);
        self.picture.update(&self.mirror, &self.damage, None);
    }
}

/// What ffmpeg makes of a stream: all frames as I420, one behind the other.
fn decode(stream: &[u8]) -> Vec<u8> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let unique = format!("transom-vaapi-{}-{number}.h264", std::process::id());
    let file = std::env::temp_dir().join(unique);
    std::fs::write(&file, stream).expect("the temporary folder can be written");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "h264", "-i"])
        .arg(&file)
        .args(["-fps_mode", "passthrough", "-pix_fmt", "yuv420p", "-f", "rawvideo", "-"])
        .output()
        .expect("ffmpeg starts: `tools/setup test` installs it");
    std::fs::remove_file(file).expect("just made");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "ffmpeg: {said}");
    output.stdout
}

/// Encodes, decodes, compares; yields what the SPS announced.
fn stream(mode: &str, size: (u32, u32)) -> (Opened, check::Announced) {
    let (mut remote, opened) = open(mode, size).expect("opens");
    let mut screen = Screen::new(size);
    let (mut announced, mut stream, mut expected) = (None, Vec::new(), Vec::new());
    for number in 0..8 {
        screen.draw(number);
        let (idr, what) = (number == 0 || number == 5, format!("{mode} {size:?} frame {number}"));
        let (bytes, _) = remote
            .encode(&screen.picture, screen.damage.rects(), idr, RATE)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        if let Some(found) = check::access_unit(&bytes, idr).expect("was checked before") {
            announced = Some(found);
        }
        stream.extend(bytes);
        expected.extend(screen.picture.planes().concat());
    }
    assert!(decode(&stream) == expected, "{mode} {size:?}: decoded pictures differ");
    (opened, announced.expect("an IDR has an SPS"))
}

#[test]
fn what_decodes_equals_what_went_in_at_every_size() {
    // The last is odd on the screen: its last row and column are cut off before.
    for size in [(1366, 768), (1280, 720), (64, 64), (642, 362), (1920, 1080), (641, 363)] {
        let (opened, announced) = stream("radeonsi", (size.0 & !1, size.1 & !1));
        assert_eq!(opened.profile, "Constrained Baseline");
        assert_eq!(opened.packed, "SPS, PPS, slice");
        assert_eq!((announced.profile_idc, announced.constraints), (66, 0xc0));
        assert_eq!(announced.reorder, Some(0), "decoders shall not wait");
    }
}

#[test]
fn each_drivers_habits_lead_to_a_stream() {
    let size = (1366, 768);
    let (opened, announced) = stream("d3d12", size);
    // Its own SPS rules: not our level, no VUI.
    assert_eq!((opened.packed.as_str(), opened.profile.as_str()), ("none", "Main"));
    assert_eq!((announced.profile_idc, announced.level, announced.reorder), (77, 51, None));
    let (opened, announced) = stream("intel", size);
    assert_eq!(opened.entrypoint, "EncSliceLP");
    assert_eq!(announced.level, 42);
    let (opened, announced) = stream("main-high", size);
    assert_eq!((opened.profile.as_str(), announced.profile_idc), ("Main", 77));
    let (opened, _) = stream("no-derive", size);
    assert_eq!(opened.path, "upload (image)");
    // What the driver says of its image is not believed, and not used.
    let (opened, _) = stream("lying-pitch", size);
    assert_eq!(opened.path, "upload (image)");
    let (opened, _) = stream("no-vpp", size);
    assert!(!opened.converts);
}

#[test]
fn a_driver_that_cannot_encode_says_why() {
    let refused = |mode, size| match open(mode, size) {
        Err(VaapiError::Driver(reason)) => reason,
        other => panic!("{mode}: {other:?}"),
    };
    assert!(refused("no-encode", (640, 480)).contains("decodes H.264 but does not encode it"));
    assert!(refused("radeonsi", (8208, 64)).contains("end at"));
    assert!(refused("no such mode", (640, 480)).contains("vaInitialize"));
}

#[test]
fn every_fault_is_an_error_with_its_cause_and_in_time() {
    let size = (640, 480);
    let fault = |mode: &str| {
        let (mut remote, _) = open(mode, size).expect("opens");
        let mut screen = Screen::new(size);
        for number in 0..5 {
            screen.draw(number);
            let rects = screen.damage.rects();
            match remote.encode(&screen.picture, rects, number == 0, RATE) {
                Ok(_) => assert!(number < 3, "{mode}: frame {number} came out"),
                Err(error) => {
                    assert_eq!(number, 3, "{mode}: {error}");
                    return error;
                }
            }
        }
        unreachable!("frame 3 ends it")
    };
    assert!(matches!(fault("fail-after=3"), VaapiError::Driver(r) if r.contains("vaEndPicture")));
    assert!(matches!(fault("hang-after=3"), VaapiError::Late(_)));
    assert!(matches!(fault("garbage-after=3"), VaapiError::Output(_)));
    assert!(matches!(fault("empty-after=3"), VaapiError::Output(check::Wrong::Empty)));
    assert!(matches!(fault("overflow-after=3"), VaapiError::Driver(r) if r.contains("bad")));
    assert!(matches!(fault("crash-after=3"), VaapiError::Died(r) if r.contains("signal")));
}

#[test]
fn an_sps_of_another_size_is_not_passed_on() {
    let size = (1366, 768);
    let (mut remote, _) = open("d3d12,wrong-size", size).expect("opens");
    let mut screen = Screen::new(size);
    screen.draw(0);
    let wrong = remote.encode(&screen.picture, screen.damage.rects(), true, RATE);
    let expected = check::Wrong::Size { found: (1376, 768), wanted: size };
    assert!(matches!(wrong, Err(VaapiError::Output(wrong)) if wrong == expected));
}

#[test]
fn what_was_passed_over_is_caught_up() {
    let size = (320, 240);
    let (mut remote, _) = open("radeonsi", size).expect("opens");
    let mut screen = Screen::new(size);
    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    for number in 0..600 {
        screen.draw(number);
        if number % 300 != 0 {
            remote.pass_over(screen.damage.rects());
            continue;
        }
        let rects = screen.damage.rects();
        let (bytes, _) = remote.encode(&screen.picture, rects, number == 0, RATE).expect("encodes");
        stream.extend(bytes);
        expected.extend(screen.picture.planes().concat());
    }
    assert!(decode(&stream) == expected);
    let outside = [Rect { x: 0, y: 0, width: 320, height: 240 }; 3];
    remote.encode(&screen.picture, &outside, false, RATE).expect("overlapping damage is harmless");
}
