//! The VA-API encoder against the software driver of `tests/va-driver`, by way of the real libva
//! and its X11 display: no DRM device is needed.
//!
//! The driver writes I_PCM under the headers that it is given, so that what decodes equals what
//! went in, byte for byte, and only if all headers are right.

use std::process::Command;

use transom_agent::capture::Planes;
use transom_agent::capture::buffers::Dmabuf;
use transom_agent::capture::cursor::Cursor;
use transom_agent::damage::Rect;
use transom_agent::encode::vaapi::check;
use transom_agent::encode::vaapi::{Opened, VaapiError};
use transom_agent::sys::shared::Shared;
use transom_protocol::message::Codec;

#[path = "stage/screen.rs"]
mod screen;
mod stage;

use screen::{Coded, Screen, decode, open};
use stage::RATE;

/// Encodes, decodes, compares; yields what the SPS announced.
fn stream(mode: &str, size: (u32, u32)) -> (Opened, check::Announced) {
    let coded = encode(mode, size);
    assert!(decode(&coded.stream) == coded.expected, "{mode} {size:?}: decoded pictures differ");
    (coded.opened, coded.announced)
}

fn encode(mode: &str, size: (u32, u32)) -> Coded {
    screen::encode(mode, size, Codec::H264, None)
}

#[test]
fn what_decodes_equals_what_went_in_at_every_size() {
    // The last is odd on the screen: its last row and column are cut off before.
    for size in [(1366, 768), (1280, 720), (64, 64), (642, 362), (1920, 1080), (641, 363)] {
        let (opened, announced) = stream("radeonsi", (size.0 & !1, size.1 & !1));
        assert_eq!(opened.profile, "Constrained Baseline");
        assert_eq!(opened.packed, "SPS, PPS, slice, SEI");
        assert_eq!((announced.profile_idc, announced.constraints), (66, 0xc0));
        assert_eq!(announced.reorder, Some(0), "decoders shall not wait");
    }
}

#[test]
fn a_mode_change_is_seen_at_once_and_whole() {
    let [mut first, second, third] =
        [(1366, 768), (800, 600), (1366, 768)].map(|size| encode("radeonsi", size));
    for next in [second, third] {
        first.stream.extend(next.stream);
        first.expected.extend(next.expected);
    }
    assert!(decode(&first.stream) == first.expected);
}

/// What the driver's video processing makes of a screen, as I420: BT.709, limited range, 16 bits of
/// fraction; chroma is the mean of four.
fn converted(pixels: &[u8], (width, height): (usize, usize)) -> Vec<u8> {
    let pixel = |x: usize, y: usize| {
        let at = (y * width + x) * 4;
        [pixels[at + 2], pixels[at + 1], pixels[at]].map(i32::from)
    };
    let mix = |rgb: [i32; 3], by: [i32; 3], offset: i32| {
        let sum: i32 = rgb.iter().zip(by).map(|(c, by)| c * by).sum();
        ((sum + (offset << 16) + 32_768) >> 16) as u8
    };
    let mut out = Vec::with_capacity(width * height * 3 / 2);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        out.push(mix(pixel(x, y), [11_966, 40_254, 4064], 16));
    }
    for by in [[-6596, -22_189, 28_785], [28_785, -26_145, -2640]] {
        for (y, x) in (0..height / 2).flat_map(|y| (0..width / 2).map(move |x| (y * 2, x * 2))) {
            let four = [pixel(x, y), pixel(x + 1, y), pixel(x, y + 1), pixel(x + 1, y + 1)];
            let mean = [0, 1, 2].map(|c| (four.iter().map(|p| p[c]).sum::<i32>() + 2) / 4);
            out.push(mix(mean, by, 128));
        }
    }
    out
}

fn bare(primary: &Dmabuf) -> Planes<'_> {
    Planes { primary, cursor: None }
}

#[test]
fn cursors_are_blended_wherever_they_lie() {
    let size = (322, 242);
    let (mut remote, opened) = open("radeonsi", size).expect("opens");
    assert!(opened.blends);
    let memory = Shared::new(322 * 242 * 4).expect("a memfd");
    let mut screen = Screen::new(size);
    let image = |edge: u32, seed: u32| -> Vec<u8> {
        // Premultiplied: no colour above its alpha.
        let pixel = |i: u32| {
            let alpha = (i * 7 + seed) % 256;
            [i * 3, i * 5, i * 11, 255].map(|c| (c % 256 * alpha / 255) as u8)
        };
        (0..edge * edge).flat_map(pixel).collect()
    };
    let places = [(10, 20), (11, 21), (11, 21), (-31, -5), (300, 230), (-70, 0), (321, 241)];
    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    for (number, (x, y)) in (0..).zip(places) {
        screen.draw(number);
        memory.write(0, &screen.pixels);
        let primary = Dmabuf {
            fd: memory.fd().try_clone_to_owned().expect("a descriptor"),
            fourcc: u32::from_le_bytes(*b"XR24"),
            modifier: 0,
            size,
            pitch: 322 * 4,
            offset: 0,
            start: (0, 0),
        };
        let edge = if number < 4 { 64 } else { 96 };
        let pixels = image(edge, if number == 2 { 99 } else { 0 });
        let cursor = Cursor { x, y, width: edge, height: edge, pixels };
        let planes = Planes { primary: &primary, cursor: Some(&cursor) };
        let rects = screen.damage.rects();
        let bytes = remote
            .encode_scanout(&screen.picture, rects, number == 0, RATE, Some(planes))
            .expect("encodes")
            .bytes;
        stream.extend(bytes);
        let mut shown = screen.pixels.clone();
        let seen = cursor.area(size);
        assert_eq!(remote.path().contains("cursor"), seen.is_some(), "{}", remote.path());
        if let Some(area) = seen {
            let row = |y: u32| ((area.y + y) * 322 + area.x) as usize * 4;
            let width = area.width as usize * 4;
            let mut patch: Vec<u8> =
                (0..area.height).flat_map(|y| &shown[row(y)..][..width]).copied().collect();
            cursor.blend(&mut patch, area);
            for (y, line) in (0..).zip(patch.chunks(width)) {
                shown[row(y)..][..width].copy_from_slice(line);
            }
        }
        expected.extend(converted(&shown, (322, 242)));
    }
    assert!(decode(&stream) == expected);

    // A driver that blends nothing is not asked to.
    let (mut remote, opened) = open("no-blend", size).expect("opens");
    assert!(opened.converts && !opened.blends);
    let primary = Dmabuf {
        fd: memory.fd().try_clone_to_owned().expect("a descriptor"),
        fourcc: u32::from_le_bytes(*b"XR24"),
        modifier: 0,
        size,
        pitch: 322 * 4,
        offset: 0,
        start: (0, 0),
    };
    let cursor = Cursor { x: 4, y: 4, width: 64, height: 64, pixels: image(64, 0) };
    for (cursor, path) in [(Some(&cursor), "upload (derived image)"), (None, "dma-buf")] {
        let planes = Planes { primary: &primary, cursor };
        remote
            .encode_scanout(&screen.picture, &[], path.starts_with('u'), RATE, Some(planes))
            .expect("encodes");
        assert_eq!(remote.path(), path);
    }
}

#[test]
fn what_is_imported_equals_the_scanout_converted() {
    // A memfd stands in for a dma-buf, as far as a driver in software can tell. Rows are longer
    // than the picture, and something lies in front of them.
    let (size, pitch, offset) = ((1366, 768), 1408 * 4, 4096);
    let (mut remote, opened) = open("radeonsi", size).expect("opens");
    assert!(opened.converts);
    let memory = Shared::new(offset + pitch * 768).expect("a memfd");
    let mut screen = Screen::new(size);
    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    for number in 0..6 {
        screen.draw(number);
        for (row, pixels) in screen.pixels.chunks(1366 * 4).enumerate() {
            memory.write(offset + row * pitch, pixels);
        }
        let scanout = Dmabuf {
            fd: memory.fd().try_clone_to_owned().expect("a descriptor"),
            fourcc: u32::from_le_bytes(*b"XR24"),
            modifier: 0,
            size,
            pitch: pitch as u32,
            offset: offset as u32,
            start: (0, 0),
        };
        // By turns, as when a cursor comes and goes: what the one way has shown, the other knows.
        let (idr, scanout) = (number == 0, (number % 3 != 2).then_some(scanout));
        let rects = screen.damage.rects();
        let bytes = remote
            .encode_scanout(&screen.picture, rects, idr, RATE, scanout.as_ref().map(bare))
            .expect("encodes")
            .bytes;
        stream.extend(bytes);
        if scanout.is_some() {
            assert_eq!(remote.path(), "dma-buf");
            expected.extend(converted(&screen.pixels, (1366, 768)));
        } else {
            assert_eq!(remote.path(), "upload (derived image)");
            expected.extend(screen.picture.planes().concat());
        }
    }
    assert!(decode(&stream) == expected);
}

#[test]
fn a_dmabuf_that_makes_no_sense_is_copied_instead() {
    let size = (320, 240);
    let good = || Dmabuf {
        fd: Shared::new(320 * 240 * 4).expect("a memfd").fd().try_clone_to_owned().expect("one"),
        fourcc: u32::from_le_bytes(*b"XR24"),
        modifier: 0,
        size,
        pitch: 320 * 4,
        offset: 0,
        start: (0, 0),
    };
    type Case = (&'static str, fn(&mut Dmabuf));
    let cases: [Case; 9] = [
        ("another format", |d| d.fourcc = u32::from_le_bytes(*b"NV12")),
        ("a modifier that nobody knows", |d| d.modifier = 0x0100_0000_0000_0009),
        ("rows that overlap", |d| d.pitch = 4),
        ("rows without an end", |d| d.pitch = u32::MAX),
        ("an offset behind the end", |d| d.offset = u32::MAX - 3),
        ("a picture that is too small", |d| d.size = (64, 64)),
        ("a picture that is larger than its memory", |d| d.size = (16_000, 16_000)),
        ("a start outside", |d| d.start = (u32::MAX, 8)),
        ("no buffer at all", |d| d.fd = std::fs::File::open("/dev/null").expect("open").into()),
    ];
    for (what, spoil) in cases {
        let (mut remote, _) = open("radeonsi", size).expect("opens");
        let mut screen = Screen::new(size);
        screen.draw(0);
        let mut scanout = good();
        spoil(&mut scanout);
        let rects = screen.damage.rects();
        let bytes = remote
            .encode_scanout(&screen.picture, rects, true, RATE, Some(bare(&scanout)))
            .unwrap_or_else(|error| panic!("{what}: {error}"))
            .bytes;
        assert_eq!(remote.path(), "upload (derived image)", "{what}");
        assert!(decode(&bytes) == screen.picture.planes().concat(), "{what}");
    }
}

#[test]
fn the_probe_reports_what_works_and_what_does_not() {
    let probe = |mode: &str, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_transom-agent"));
        command.args(["probe", "--encode", "--size", "320x240", "--frames", "20"]).args(arguments);
        let output = command
            .envs(stage::environment(mode))
            .env("TRANSOM_VA_DISPLAY", "x11")
            .output()
            .expect("it starts");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let (code, text) = probe("d3d12", &[]);
    assert_eq!(code, Some(0), "{text}");
    for words in [
        "the X server's device: works",
        "driver        Transom software driver for tests",
        "profile       Main, EncSlice",
        "rate control  CBR",
        "our headers   none",
        "announces     4d4033, 320x240, reordering not told",
        "open files after 20 frames",
    ] {
        assert!(text.contains(words), "no '{words}' in\n{text}");
    }
    let (code, text) = probe("fail-after=5", &["--json"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("\"error\":\"vaEndPicture: ") && text.contains("EncSlice"), "{text}");
    let (_, text) = probe("no-encode", &[]);
    assert!(text.contains("FAILS after 0 frames: ") && text.contains("does not encode"), "{text}");
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
        let coded = remote.encode(&screen.picture, rects, number == 0, RATE).expect("encodes");
        stream.extend(coded.bytes);
        expected.extend(screen.picture.planes().concat());
    }
    assert!(decode(&stream) == expected);
    let outside = [Rect { x: 0, y: 0, width: 320, height: 240 }; 3];
    remote.encode(&screen.picture, &outside, false, RATE).expect("overlapping damage is harmless");
}
