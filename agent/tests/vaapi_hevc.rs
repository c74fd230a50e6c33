//! HEVC against the software driver of `tests/va-driver`, as `vaapi.rs` does it for H.264: with I_PCM,
//! which the driver requires, what decodes equals what went in, byte for byte.

use std::process::Command;

use transom_agent::encode::vaapi::{VaapiError, check};
use transom_protocol::message::Codec;

#[path = "stage/screen.rs"]
mod screen;
mod stage;

use screen::{Coded, Screen, decode, decode_hevc, open_codec};
use stage::RATE;

/// Frames that change, and one that does not.
fn encode(mode: &str, size: (u32, u32)) -> Coded {
    let coded = screen::encode(mode, size, Codec::Hevc, Some(3));
    let opened = &coded.opened;
    assert_eq!((opened.codec, opened.instead.as_str()), (Codec::Hevc, ""), "{mode}");
    let rest = coded.lengths[3];
    assert!(rest < 2000, "{mode} {size:?}: nothing new, {rest} bytes");
    coded
}

#[test]
fn what_decodes_equals_what_went_in_under_each_drivers_habits() {
    // The smallest coding block is of 8 samples: the first and the last are cropped.
    for (mode, sizes, entrypoint, packed) in [
        (
            "radeonsi",
            &[(1366, 768), (1280, 720), (64, 64), (642, 362)][..],
            "EncSlice",
            "SPS, PPS, slice, SEI",
        ),
        ("d3d12", &[(1366, 768), (320, 240)], "EncSlice", "none"),
        // P slices are refused: B slices with one picture in both lists.
        ("intel", &[(642, 362)], "EncSliceLP", "SPS, PPS, slice, SEI"),
        ("no-derive", &[(322, 242)], "EncSlice", "SPS, PPS, slice, SEI"),
    ] {
        for &size in sizes {
            let coded = encode(mode, size);
            assert!(
                decode_hevc(&coded.stream) == coded.expected,
                "{mode} {size:?}: others decoded"
            );
            let opened = &coded.opened;
            assert_eq!(opened.profile, "HEVC Main");
            assert_eq!((opened.entrypoint.as_str(), opened.packed.as_str()), (entrypoint, packed));
            assert_eq!((coded.announced.profile_idc, coded.announced.reorder), (1, Some(0)));
        }
    }
}

#[test]
fn a_mode_change_is_seen_at_once_and_whole() {
    let [mut first, second] = [(642, 362), (320, 240)].map(|size| encode("radeonsi", size));
    first.stream.extend(second.stream);
    first.expected.extend(second.expected);
    assert!(decode_hevc(&first.stream) == first.expected);
}

#[test]
fn without_pcm_blocks_have_their_colours() {
    // Which is all that the driver codes then: a picture made of blocks shows whether it is true.
    let (size, edge) = ((320, 256), 64);
    let (mut remote, _) = open_codec("no-pcm", size, Codec::Hevc).expect("opens");
    let mut screen = Screen::new(size);
    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    for number in 0..4 {
        for (at, pixel) in (0..).zip(screen.pixels.chunks_mut(4)) {
            let (x, y) = (at % size.0 / edge, at / size.0 / edge);
            pixel.copy_from_slice(&[(x * 50) as u8, (y * 60) as u8, (number * 40) as u8, 0]);
        }
        screen.draw(0);
        let rects = screen.damage.rects();
        let unit = remote.encode(&screen.picture, rects, number == 0, RATE).expect("encodes");
        stream.extend(unit.bytes);
        expected.extend(screen.picture.planes().concat());
    }
    let decoded = decode_hevc(&stream);
    assert_eq!(decoded.len(), expected.len());
    let off: u64 = decoded.iter().zip(&expected).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    let mean = off as f64 / expected.len() as f64;
    assert!(mean < 3.0, "samples are off by {mean:.2} on average");
}

#[test]
fn a_driver_without_hevc_encodes_h264_instead() {
    let size = (320, 240);
    let (mut remote, opened) = open_codec("no-hevc", size, Codec::Hevc).expect("opens");
    assert_eq!((remote.codec(), opened.codec), (Codec::H264, Codec::H264));
    assert!(opened.instead.contains("encodes no HEVC"), "{}", opened.instead);
    let mut screen = Screen::new(size);
    screen.draw(0);
    let rects = screen.damage.rects();
    let unit = remote.encode(&screen.picture, rects, true, RATE).expect("encodes");
    assert!(decode(&unit.bytes) == screen.picture.planes().concat());
    // Nor does anybody get HEVC who has not asked for it.
    let (_, opened) = open_codec("radeonsi", size, Codec::H264).expect("opens");
    assert_eq!(opened.codec, Codec::H264);
}

#[test]
fn faults_are_errors_with_their_cause() {
    let fault = |mode: &str| {
        let size = (644, 484);
        let (mut remote, _) = open_codec(mode, size, Codec::Hevc).expect("opens");
        let mut screen = Screen::new(size);
        (0..5)
            .find_map(|number| {
                screen.draw(number);
                let rects = screen.damage.rects();
                remote.encode(&screen.picture, rects, number == 0, RATE).err()
            })
            .unwrap_or_else(|| panic!("{mode}: no frame failed"))
    };
    assert!(matches!(fault("garbage-after=3"), VaapiError::Output(_)));
    assert!(matches!(fault("empty-after=3"), VaapiError::Output(check::Wrong::Empty)));
    assert!(matches!(fault("overflow-after=3"), VaapiError::Driver(r) if r.contains("bad")));
    let expected = check::Wrong::Size { found: (648, 488), wanted: (644, 484) };
    assert!(matches!(fault("d3d12,wrong-size"), VaapiError::Output(w) if w == expected));
}

#[test]
fn the_probe_tries_hevc_as_well() {
    let probe = |mode: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_transom-agent"))
            .args(["probe", "--encode", "--size", "320x240", "--frames", "10"])
            .envs(stage::environment(mode))
            .env("TRANSOM_VA_DISPLAY", "x11")
            .output()
            .expect("it starts");
        String::from_utf8(output.stdout).expect("text")
    };
    let text = probe("intel");
    for words in
        ["the X server's device, HEVC: works", "HEVC Main, EncSliceLP", "320x240, reordering 0"]
    {
        assert!(text.contains(words), "no '{words}' in\n{text}");
    }
    assert!(!probe("no-hevc").contains("HEVC"), "nothing to complain of");
}
