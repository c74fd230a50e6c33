//! What an encoder needs to drive the software VA driver on a machine without a DRM device.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use transom_agent::encode::vaapi::candidates::Candidate;
use transom_agent::encode::vaapi::{Rate, Remote, VaapiError};
use transom_agent::helper::set_program;
use transom_protocol::message::Codec;

/// What all streams here want.
pub const RATE: Rate = Rate { bitrate: 12_000_000, fps: 60 };

/// An X server without a screen, and the driver.
struct Stage {
    server: Child,
    display: String,
    drivers: PathBuf,
}

/// One for all tests; the X server ends with the test program's standard input.
fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        set_program(env!("CARGO_BIN_EXE_transom-agent").into());
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/va-driver/build");
        let output = Command::new(&build).stderr(Stdio::inherit()).output().expect("build starts");
        assert!(output.status.success(), "{} failed", build.display());
        let drivers = String::from_utf8(output.stdout).expect("a path").trim().into();
        // By way of a shell that waits for us: a server that nobody ends would stay for ever. It does
        // not start over when its last client leaves: the next one would be refused meanwhile.
        let watch = format!(
            "Xvfb -displayfd 3 -screen 0 64x64x24 -nolisten tcp -noreset 3>&1 >/dev/null 2>&1 & \
             while kill -0 {} 2>/dev/null; do sleep 0.5; done; kill $!",
            std::process::id()
        );
        let mut server = Command::new("bash")
            .args(["-c", &watch])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut number = String::new();
        let mut output = server.stdout.take().expect("stdout was piped");
        let mut byte = [0];
        while output.read(&mut byte).expect("a pipe") == 1 && byte[0] != b'\n' {
            number.push(byte[0].into());
        }
        assert!(!number.is_empty(), "Xvfb does not start: `tools/setup test` installs it");
        Stage { server, display: format!(":{number}"), drivers }
    })
}

/// What a program needs to use the driver in a mode.
pub fn environment(mode: &str) -> Vec<(String, String)> {
    let stage = stage();
    assert!(stage.server.id() > 0);
    let environment = [
        ("DISPLAY", stage.display.as_str()),
        ("LIBVA_DRIVER_NAME", "transom"),
        ("LIBVA_DRIVERS_PATH", stage.drivers.to_str().expect("a path in UTF-8")),
        ("TRANSOM_VA_MODE", mode),
    ];
    environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// Starts a helper with the driver in a mode.
pub fn start(mode: &str, size: (u32, u32), codec: Codec) -> Result<Remote, VaapiError> {
    let environment = environment(mode);
    let candidate = Candidate { name: mode.into(), device: None, environment };
    Remote::start(&candidate, size, RATE, codec)
}
