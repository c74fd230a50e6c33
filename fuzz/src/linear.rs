//! What the process that makes linear views of tiled buffers may say.
//!
//! In: bytes. Whatever they are, the agent's side neither panics nor waits, and what it shows to
//! people is fit for a log.

use std::os::fd::AsFd as _;

use transom_agent::capture::linear::message::{Answer, Layout, MAX_LENGTH};
use transom_agent::capture::linear::{Linear, NoView};
use transom_agent::helper;
use transom_agent::sys::pair::End;
use transom_agent::sys::shared::Shared;

/// Answers of one script.
const MAX_ANSWERS: u8 = 6;

/// The layout of a buffer, 22 bytes, and the answers, each behind its length.
pub fn view(data: &[u8]) {
    let Some((numbers, mut rest)) = data.split_first_chunk::<22>() else { return };
    let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| numbers[at + byte]));
    let layout = Layout {
        fourcc: word(0),
        modifier: u64::from(word(4)),
        // Views are as large as the picture: not all of a fuzzer's time shall go there.
        size: (word(8) % 4096, u32::from(numbers[20])),
        bytes: numbers[21] % 8,
        planes: vec![(word(12), word(16))],
    };
    let size = 64 * 1024;
    if layout.check(&[size]).is_ok() {
        let (pitch, offset) = layout.planes[0];
        let last = u64::from(pitch) * u64::from(layout.size.1 - 1) + layout.row() as u64;
        assert!(u64::from(offset) + last <= size && layout.length() <= MAX_LENGTH);
    }
    let (ours, theirs) = End::pair().expect("a pair of sockets");
    let theirs = End::of(theirs);
    let memory = Shared::new(size as usize).expect("a memfd");
    for _ in 0..MAX_ANSWERS {
        let Some((&length, behind)) = rest.split_first() else { break };
        let (answer, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        theirs.send(answer, &[]).expect("room for a few");
    }
    // The end of what it has to say: nobody shall wait for more.
    theirs.send(&[], &[]).expect("room for one more");
    let mut linear = Linear::over(ours);
    for _ in 0..MAX_ANSWERS {
        match linear.view(&layout, &[memory.fd().as_fd()]) {
            Ok(view) => {
                assert!(layout.check(&[size]).is_ok());
                view.with_bytes(|bytes| assert!(bytes.len() >= layout.length()));
            }
            Err(NoView::NotYet) => unreachable!("it has said all"),
            Err(NoView::Failed(reason)) => {
                assert!(!reason.contains('\n'), "fit for a log");
                break;
            }
        }
        assert!(!linear.describe().contains('\n'), "fit for a log");
    }
}

/// Conversations to start from: one that goes well, refusals, and a layout that does not fit.
pub fn seeds() -> Vec<Vec<u8>> {
    let script = |pitch: u32, answers: &[Answer]| {
        let mut out = b"XR24".to_vec();
        for number in [1 << 24 | 1, 60, pitch, 4096] {
            out.extend_from_slice(&u32::to_le_bytes(number));
        }
        out.extend([30, 4]);
        for answer in answers {
            let bytes = helper::encode(answer);
            out.push(bytes.len() as u8);
            out.extend(bytes);
        }
        out
    };
    let opened = || Answer::Opened("drm\n".into());
    let failed = || Answer::Failed("no\nsuch thing".into());
    vec![
        script(512, &[opened(), Answer::Read, Answer::Read]),
        script(512, &[opened(), failed()]),
        script(512, &[failed()]),
        script(512, &[Answer::Read]),
        script(8, &[opened(), Answer::Read]),
    ]
}
