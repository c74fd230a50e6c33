//! What a video driver may hand back: access units, and, from the process that it runs in, messages.
//!
//! In: bytes. Whatever they are, the agent's side neither panics nor waits, and passes nothing on
//! that it could not read itself.

use std::time::Duration;

use transom_agent::capture::Planes;
use transom_agent::capture::buffers::Dmabuf;
use transom_agent::capture::cursor::Cursor;
use transom_agent::damage::Rect;
use transom_agent::encode::vaapi::message::{self, Answer};
use transom_agent::encode::vaapi::{Access, Opened, Rate, Remote, check, hevc};
use transom_agent::helper;
use transom_agent::picture::Picture;
use transom_agent::sys::pair::End;
use transom_agent::sys::shared::Shared;
use transom_protocol::message::Codec;
use transom_relay::sets::ParameterSets;

const SIZE: (u32, u32) = (32, 18);
const RATE: Rate = Rate { bitrate: 1_000_000, fps: 60 };
/// Answers of one script.
const MAX_ANSWERS: usize = 6;
/// SPS, PPS and the beginning of an IDR slice, 32x18, as the agent's own headers have them.
const IDR: &[u8] = &[
    0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0x96, 0x54, 0x4b, 0xf1, 0x13, 0x50, 0x10, 0x10, 0x10, 0x78,
    0x40, 0x21, 0x50, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80, 0, 0, 0, 1, 0x65, 0x88, 0x80, 0x20, 3,
    0xe0,
];

/// What came out of a driver. The first bit says whether an IDR was asked for.
pub fn coded(data: &[u8]) {
    let Some((first, unit)) = data.split_first() else { return };
    let idr = first & 1 == 1;
    let Ok(announced) = check::access_unit(unit, idr) else { return };
    assert!(announced.is_some() || !idr, "an IDR has an SPS");
    let Some(announced) = announced else { return };
    let (width, height) = announced.size;
    assert!(width > 0 && height > 0);
    assert!(announced.sps.len() <= 1024 && announced.sps[0] & 0x1f == 7);
    if check::fits(&announced, announced.size).is_ok() && idr {
        let mut sets = ParameterSets::default();
        sets.update(Codec::H264, unit);
        let announced = [announced.profile_idc, announced.constraints, announced.level];
        assert_eq!(sets.profile_level_id(), Some(announced), "the relay reads the same");
    }
}

/// What came out of a driver as HEVC. The first bit says whether an IDR was asked for.
pub fn hevc_coded(data: &[u8]) {
    let Some((first, unit)) = data.split_first() else { return };
    let idr = first & 1 == 1;
    let Ok(announced) = hevc::check::access_unit(unit, idr) else { return };
    assert!(announced.is_some() || !idr, "an IDR has an SPS");
    let Some(announced) = announced else { return };
    let (width, height) = announced.size;
    assert!(width > 0 && height > 0);
    assert!(announced.sps.len() <= 1024 && announced.sps[0] >> 1 == 33);
    if hevc::check::fits(&announced, announced.size).is_ok() && idr {
        let mut sets = ParameterSets::default();
        sets.update(Codec::Hevc, unit);
        assert!(sets.is_complete(), "the relay finds the same");
    }
}

/// What a driver's process says: answers, each behind its length, and what it writes to the shared
/// memory. The first byte says how many answers and which frames are to be IDRs.
pub fn helper(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let (ours, theirs) = End::pair().expect("a pair of sockets");
    let theirs = End::of(theirs);
    let memory = Shared::new(message::length(SIZE)).expect("a memfd");
    let duplicate = memory.fd().try_clone_to_owned().expect("a descriptor");
    let output = Shared::of(duplicate, message::length(SIZE)).expect("just made");
    let mut remote = Remote::over(ours, memory, SIZE, Codec::Hevc);
    let answers = usize::from(first & 7) % (MAX_ANSWERS + 1);
    for _ in 0..answers {
        let Some((&length, behind)) = rest.split_first() else { break };
        let (answer, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        theirs.send(answer, &[]).expect("room for a few");
    }
    // The end of what it has to say: nobody shall wait for more.
    theirs.send(&[], &[]).expect("room for one more");
    let room = message::output_room(SIZE);
    output.write(message::OUTPUT_AT, &rest[..rest.len().min(room)]);

    if remote.wait_ready(Duration::ZERO).is_err() || remote.opened().is_none() {
        return;
    }
    let picture = Picture::new(SIZE);
    let all = [Rect { x: 0, y: 0, width: SIZE.0, height: SIZE.1 }];
    for frame in 0..answers {
        let access = match first >> (3 + frame.min(4)) & 3 {
            0 => Access::None,
            2 => Access::Refresh,
            _ => Access::Idr,
        };
        let primary = Dmabuf {
            fd: output.fd().try_clone_to_owned().expect("a descriptor"),
            fourcc: u32::from_le_bytes(*b"XR24"),
            modifier: 0,
            size: SIZE,
            pitch: SIZE.0 * 4,
            offset: 0,
            start: (0, 0),
        };
        let cursor = Cursor { x: -1, y: 15, width: 4, height: 4, pixels: vec![99; 64] };
        let planes = Planes { primary: &primary, cursor: (frame % 2 == 1).then_some(&cursor) };
        let Ok(coded) = remote.encode_scanout(&picture, &all, access, RATE, Some(planes)) else {
            return;
        };
        let fits = if remote.codec() == Codec::Hevc {
            let announced = hevc::check::access_unit(&coded.bytes, coded.idr);
            announced.expect("was looked over").is_none_or(|a| hevc::check::fits(&a, SIZE).is_ok())
        } else {
            let announced = check::access_unit(&coded.bytes, coded.idr);
            announced.expect("was looked over").is_none_or(|a| check::fits(&a, SIZE).is_ok())
        };
        assert!(fits, "nor another size");
        assert!(remote.path().len() <= 1200 && !remote.path().contains('\n'), "fit for a log");
    }
}

/// Access units to start from.
pub fn coded_seeds() -> Vec<Vec<u8>> {
    let unit = |idr: u8, parts: &[&[u8]]| [&[idr][..], &parts.concat()].concat();
    // Another driver's: Main, timing and HRD parameters in its VUI, SEI and a delimiter in front.
    let other = [
        0, 0, 0, 1, 9, 0x10, 0, 0, 0, 1, 0x67, 0x4d, 0x40, 0x1f, 0xec, 0xa0, 0x28, 2, 0xdd, 0x80,
        0x88, 0, 0, 3, 0, 8, 0, 0, 3, 1, 0xe0, 0x78, 0xc1, 0x8c, 0xb0, 0, 0, 1, 0x68, 0xeb, 0xef,
        0x20, 0, 0, 1, 6, 5, 1, 0xff, 0x80, 0, 0, 1, 0x65, 0x88, 0x84,
    ];
    vec![
        unit(1, &[IDR]),
        unit(1, &[&other]),
        unit(0, &[&[0, 0, 0, 1, 0x61, 0xe0, 0x20, 0x40]]),
        unit(0, &[&[0, 0, 1, 0x61, 0xe0, 0x20, 0x40, 0, 0, 1, 0x61, 0x40, 0x20]]),
    ]
}

/// Access units of HEVC to start from: the agent's own headers.
///
/// # Panics
///
/// Never: these tools are an old driver's.
pub fn hevc_seeds() -> Vec<Vec<u8>> {
    let tools = hevc::Tools::of(None, None, None, true).expect("an old driver's");
    let stream = hevc::Stream { size: SIZE, level: 93, tools };
    let idr = [vec![1], stream.vps(), stream.sps(), stream.pps(), stream.slice(true, 0)].concat();
    let next = [&[0][..], &stream.slice(false, 1), &[0xaf; 40]].concat();
    vec![idr, next, vec![0, 0, 0, 1, 70, 1, 0x50, 0, 0, 1, 2, 1, 0x80]]
}

/// Conversations to start from: one that goes well, by way of a refused dma-buf, and refusals.
pub fn helper_seeds() -> Vec<Vec<u8>> {
    let opened = |codec, converts| {
        let word = |text: &str| text.to_owned();
        Answer::Opened(Opened {
            codec,
            instead: String::new(),
            driver: word("a driver"),
            profile: word("Main"),
            entrypoint: word("EncSlice"),
            path: word("upload (image)"),
            rate_control: word("CBR"),
            packed: word("none"),
            converts,
            blends: converts,
            refreshes: converts,
            regions: u8::from(converts),
        })
    };
    let encoded = |length| Answer::Encoded {
        length,
        qp: Some(30),
        refreshing: false,
        path: "upload (image)".into(),
    };
    let failed = |usable| Answer::Failed { reason: "no\nsuch thing".into(), usable };
    let script = |idrs: u8, answers: &[Answer]| {
        let mut out = vec![idrs << 3 | answers.len() as u8];
        for answer in answers {
            let bytes = helper::encode(answer);
            out.push(bytes.len() as u8);
            out.extend(bytes);
        }
        out.extend_from_slice(IDR);
        out
    };
    let length = IDR.len() as u32;
    vec![
        script(1, &[opened(Codec::H264, false), encoded(length)]),
        script(1, &[opened(Codec::H264, true), failed(true), encoded(length), encoded(length)]),
        script(1, &[opened(Codec::H264, true), encoded(u32::MAX)]),
        script(0, &[opened(Codec::H264, false), failed(false)]),
        script(0, &[failed(false)]),
        script(0, &[opened(Codec::Hevc, false)]),
        script(0, &[encoded(0)]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_reach_as_far_as_they_shall() {
        let idr = check::access_unit(IDR, true).expect("an IDR").expect("with an SPS");
        assert_eq!(idr.size, SIZE);
        check::fits(&idr, SIZE).expect("as asked for");
        for seed in coded_seeds() {
            let idr = seed[0] & 1 == 1;
            check::access_unit(&seed[1..], idr).expect("a good one");
        }
        for seed in &hevc_seeds()[..2] {
            let idr = seed[0] & 1 == 1;
            let announced = hevc::check::access_unit(&seed[1..], idr).expect("a good one");
            assert!(announced.is_none_or(|sps| hevc::check::fits(&sps, SIZE).is_ok()));
        }
        for seed in helper_seeds() {
            let mut rest = &seed[1..];
            for _ in 0..seed[0] & 7 {
                let (length, behind) = rest.split_first().expect("a length");
                let (answer, behind) = behind.split_at(usize::from(*length));
                assert!(helper::decode::<Answer>(answer).is_some());
                rest = behind;
            }
            assert_eq!(rest, IDR);
        }
    }
}
