//! Linear views by the libgbm of `tests/gbm`, which detiles in software, in the process that the agent
//! starts: no GPU is needed.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use transom_agent::capture::linear::message::Layout;
use transom_agent::capture::linear::{Linear, NoView};
use transom_agent::helper::set_program;
use transom_agent::sys::shared::Shared;

const X_TILED: u64 = 1 << 56 | 1;
const XR24: u32 = u32::from_le_bytes(*b"XR24");
/// Generous: a process has to start.
const SOON: Duration = Duration::from_secs(60);

/// A GPU's driver that behaves like this.
fn linear(mode: &str) -> Linear {
    set_program(env!("CARGO_BIN_EXE_transom-agent").into());
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/gbm/build");
    let output = Command::new(&build).stderr(Stdio::inherit()).output().expect("build starts");
    assert!(output.status.success(), "{} failed", build.display());
    let folder = String::from_utf8(output.stdout).expect("a path").trim().to_owned();
    let environment = [("LD_LIBRARY_PATH", folder.as_str()), ("TRANSOM_GBM_MODE", mode)];
    // It takes any device for one.
    Linear::new(Path::new("/dev/zero"))
        .with_environment(environment.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec())
}

/// A view, once the driver is loaded.
fn view(linear: &mut Linear, layout: &Layout, fds: &[BorrowedFd<'_>]) -> Result<Vec<u8>, String> {
    let end = Instant::now() + SOON;
    loop {
        match linear.view(layout, fds) {
            Ok(mapping) => {
                return Ok(mapping.with_bytes(|bytes| bytes[..layout.length()].to_vec()));
            }
            Err(NoView::NotYet) => assert!(Instant::now() < end, "it does not open"),
            Err(NoView::Failed(reason)) => return Err(reason),
        }
    }
}

/// A tiled buffer as a GPU would have drawn it.
struct Tiled {
    memory: Shared,
    layout: Layout,
    /// Its pixels, row by row.
    pixels: Vec<u8>,
}

/// The layout of drm_fourcc.h: tiles of 512 bytes and 8 rows.
fn tiled((width, height): (u32, u32), offset: u32, seed: u8) -> Tiled {
    let row = width as usize * 4;
    let pitch = row.next_multiple_of(512);
    let mut bytes = vec![0; offset as usize + pitch * (height as usize).next_multiple_of(8)];
    let mut pixels = Vec::with_capacity(row * height as usize);
    for y in 0..height as usize {
        for x in 0..row {
            let value = (x * 7 + y * 13 + x * y % 251) as u8 ^ seed;
            let tile = y / 8 * (pitch / 512) + x / 512;
            bytes[offset as usize + tile * 4096 + y % 8 * 512 + x % 512] = value;
            pixels.push(value);
        }
    }
    let memory = Shared::new(bytes.len()).expect("a memfd");
    memory.write(0, &bytes);
    let planes = vec![(pitch as u32, offset)];
    let layout =
        Layout { fourcc: XR24, modifier: X_TILED, size: (width, height), bytes: 4, planes };
    Tiled { memory, layout, pixels }
}

#[test]
fn tiled_buffers_come_out_byte_for_byte_over_flips_and_mode_changes() {
    let mut linear = linear("");
    for size in [(1366, 768), (64, 64), (641, 363), (1920, 1080)] {
        let pair = [tiled(size, 0, 1), tiled(size, 4096, 2)];
        for number in 0..4 {
            let Tiled { memory, layout, pixels } = &pair[number % 2];
            let seen = view(&mut linear, layout, &[memory.fd()]).expect("a view");
            assert!(seen == *pixels, "{size:?}, view {number}");
        }
        // Drawn anew into a buffer that is known.
        let (Tiled { memory, layout, .. }, new) = (&pair[0], tiled(size, 0, 9));
        let mut bytes = vec![0; layout.planes[0].0 as usize * size.1.next_multiple_of(8) as usize];
        new.memory.read(0, &mut bytes);
        memory.write(0, &bytes);
        assert!(view(&mut linear, layout, &[memory.fd()]) == Ok(new.pixels), "{size:?}, anew");
    }
    assert!(linear.describe().contains("backend software "), "{}", linear.describe());
}

#[test]
fn what_a_driver_refuses_or_does_is_told_and_tried_again_later_alone() {
    let Tiled { memory, layout, .. } = tiled((320, 200), 0, 0);
    for (mode, words) in [
        ("refuse-device", "gbm_create_device: "),
        ("refuse-import", "gbm_bo_import: "),
        ("refuse-map", "gbm_bo_map: "),
        ("lying-stride", "rows of 1279 bytes"),
        ("crash", "the driver's process ended: signal: 6"),
        ("hang", "no answer from the driver in 2000 ms"),
        ("crash-after=3", "the driver's process ended: signal: 6"),
        ("hang-after=3", "no answer from the driver in 500 ms"),
    ] {
        let mut linear = linear(mode);
        let views = if mode.contains("after") { 3 } else { 0 };
        for number in 0..views {
            view(&mut linear, &layout, &[memory.fd()])
                .unwrap_or_else(|error| panic!("{mode}, view {number}: {error}"));
        }
        let told = view(&mut linear, &layout, &[memory.fd()]).expect_err(mode);
        assert!(told.contains(words), "{mode}: {told}");
        // Not at once again: no process is started for it.
        let pid = linear.pid();
        assert_eq!(view(&mut linear, &layout, &[memory.fd()]), Err(told), "{mode}");
        assert_eq!(linear.pid(), pid, "{mode}");
    }
}

#[test]
fn a_buffer_that_is_refused_is_no_reason_to_refuse_another() {
    let mut linear = linear("");
    let Tiled { memory, layout, pixels } = tiled((320, 200), 0, 0);
    let fd = memory.fd();
    let other = |change: &dyn Fn(&mut Layout)| {
        let mut layout = layout.clone();
        change(&mut layout);
        layout
    };
    for wrong in [
        other(&|l| l.modifier = 2 << 56 | 0x77),
        other(&|l| l.planes[0].1 = u32::MAX),
        other(&|l| l.planes[0].0 = u32::MAX),
        other(&|l| l.size.1 = 16_000),
        other(&|l| l.planes.push((64, 0))),
    ] {
        view(&mut linear, &wrong, &[fd]).expect_err("a lie");
        assert_eq!(view(&mut linear, &layout, &[fd]), Ok(pixels.clone()), "after {wrong:?}");
    }
    // More planes than libgbm has; and none.
    let many = other(&|l| l.planes = vec![l.planes[0]; 4]);
    view(&mut linear, &many, &[fd; 4]).expect_err("this driver takes one plane");
    view(&mut linear, &other(&|l| l.planes.clear()), &[]).expect_err("no planes");
    assert_eq!(view(&mut linear, &layout, &[memory.fd().as_fd()]), Ok(pixels));
}

#[test]
fn without_libgbm_the_reason_is_told() {
    set_program(env!("CARGO_BIN_EXE_transom-agent").into());
    let empty = std::env::temp_dir().join(format!("transom-no-gbm-{}", std::process::id()));
    std::fs::create_dir_all(&empty).expect("a folder");
    // A file of that name that is no library is found first, whether or not this machine has one.
    std::fs::write(empty.join("libgbm.so.1"), "none").expect("a file");
    let environment = vec![("LD_LIBRARY_PATH".into(), empty.display().to_string())];
    let mut linear = Linear::new(Path::new("/dev/zero")).with_environment(environment);
    let Tiled { memory, layout, .. } = tiled((64, 64), 0, 0);
    let told = view(&mut linear, &layout, &[memory.fd()]).expect_err("no library");
    std::fs::remove_dir_all(&empty).expect("made above");
    assert!(told.contains("libgbm.so.1"), "{told}");
}
