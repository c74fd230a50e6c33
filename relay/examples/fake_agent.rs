//! Plays an H.264 file as if a guest showed it, to try the relay and viewers without a machine:
//!
//!     ffmpeg -f lavfi -i testsrc2=size=1280x720:rate=60 -t 10 -c:v libx264 -preset ultrafast \
//!         -tune zerolatency -x264-params keyint=120:scenecut=0 -pix_fmt yuv420p moving.h264
//!     cargo run -p transom-relay --example fake_agent -- vm.vsock moving.h264 60
//!     transom relay unix:vm.vsock --rtp udp://127.0.0.1:5004 --sdp x.sdp

#[path = "../tests/fake_guest/mod.rs"]
mod fake_guest;

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use fake_guest::{FakeGuest, Peer};
use transom_relay::h264::{nal, nal_units};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, socket, file, fps] = &args[..] else {
        eprintln!("usage: fake_agent SOCKET FILE.h264 FPS");
        std::process::exit(2);
    };
    let units = access_units(&std::fs::read(file).expect("the file can be read"));
    let fps = fps.parse().expect("FPS is a number");
    let _ = std::fs::remove_file(socket);
    let guest = FakeGuest::new(Path::new(socket));
    loop {
        let (mut control, mut media) = guest.accept_session(1280, 720);
        let (idr_wanted, over) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| play(&mut media, &units, fps, &idr_wanted, &over));
            while let Some(request) = control.request() {
                println!("{request:?}");
                idr_wanted.store(true, Relaxed);
            }
            over.store(true, Relaxed);
        });
    }
}

/// Plays in a loop; goes to the next IDR of the file when one is wanted.
fn play(
    media: &mut Peer,
    units: &[(bool, Vec<u8>)],
    fps: u32,
    idr: &AtomicBool,
    over: &AtomicBool,
) {
    let (start, mut at) = (Instant::now(), 0);
    for number in 0u32.. {
        if idr.swap(false, Relaxed) {
            at = (at..units.len()).find(|&i| units[i].0).unwrap_or(0);
        }
        // A guest under load is late, now and then.
        let late = Duration::from_micros(u64::from(number) * 7919 % 9000);
        let due = start + Duration::from_secs(1) * number / fps + late;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (is_idr, data) = &units[at];
        if over.load(Relaxed) || media.send_unit(number.into(), *is_idr, data).is_err() {
            return;
        }
        at = (at + 1) % units.len();
    }
}

/// Cuts a stream where a slice with the first macroblock begins, parameter sets before it.
fn access_units(stream: &[u8]) -> Vec<(bool, Vec<u8>)> {
    let (mut units, mut has_slice) = (Vec::<(bool, Vec<u8>)>::new(), true);
    for unit in nal_units(stream) {
        let slice = (1..=5).contains(&nal::kind(unit));
        let begins = if slice { unit.get(1).is_some_and(|b| b & 0x80 != 0) } else { true };
        if begins && has_slice {
            units.push((false, Vec::new()));
            has_slice = false;
        }
        let (idr, data) = units.last_mut().expect("the first unit begins one");
        *idr |= nal::kind(unit) == nal::IDR;
        has_slice |= slice;
        data.extend_from_slice(&[0, 0, 0, 1]);
        data.extend_from_slice(unit);
    }
    units
}
