//! Records the corpus that encoders are compared on: `make corpus`.
//!
//! In: which scenes, all of them without arguments. Out: `target/corpus/<scene>.scene`, each a
//! recording of what a real guest's screen showed: a terminal in the image's compositor, and the
//! image's game. A kiosk has no windows to move: that scene is put together from two recordings, with the
//! game in a window over the text.

mod window;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use transom_tests::{Guest, Test, Uml, machine_test, project_dir, release_dir};

/// What fills the screen.
enum Play {
    /// The image's own game, in the midst of its demo.
    Game,
    /// A terminal that runs this.
    Terminal(&'static str),
}

/// A scene: its name, its seconds, and what is to be seen.
type Scene = (&'static str, u32, Play);

const SCENES: [Scene; 5] = [
    (AT_REST, 3, Play::Terminal("head -n 30 $TEXT; printf '$ '; sleep 1000")),
    (
        "glyph",
        12,
        Play::Terminal(
            "head -n 20 $TEXT; while :; do for key in a b c d e f; do printf '%s\\b' $key; sleep 0.1; \
             done; done",
        ),
    ),
    (
        "typing",
        12,
        Play::Terminal(
            // dash reads no single letters; fold makes a line of each.
            "head -n 20 $TEXT; while :; do echo 'the quick brown fox jumps over it, ' | fold -w 1 | \
             while IFS= read -r key; do printf %s \"$key\"; sleep 0.08; done; done",
        ),
    ),
    (
        "scrolling",
        12,
        Play::Terminal(
            "while :; do while IFS= read -r line; do echo \"$line\"; sleep 0.03; done <$TEXT; done",
        ),
    ),
    ("doom", 12, Play::Game),
];

/// The display mode of terminals; the game's is what the guest has by itself.
const TERMINAL: &str = "1920x1080";
/// The scene in which nothing moves.
const AT_REST: &str = "idle";
/// The scene of a window that moves.
const WINDOW: &str = "window";

/// Several times what a scene takes.
const LIMIT: Duration = Duration::from_secs(300);
/// A guest holds its recording in memory.
const MEMORY_MB: u32 = 4096;

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut names: Vec<&str> = SCENES.iter().map(|(name, ..)| *name).collect();
    names.push(WINDOW);
    if let Some(unknown) = wanted.iter().find(|wanted| !names.contains(&wanted.as_str())) {
        bail!("there is no scene '{unknown}', only {}", names.join(", "));
    }
    let folder = release_dir().parent().context("the target folder")?.join("corpus");
    std::fs::create_dir_all(&folder)?;
    for scene in &SCENES {
        if wanted.is_empty() || wanted.iter().any(|w| w == scene.0) {
            let file = folder.join(scene.0).with_extension("scene");
            machine_test(&format!("corpus {}", scene.0), LIMIT, |test| record(test, scene, &file));
        }
    }
    if wanted.is_empty() || wanted.iter().any(|w| w == WINDOW) {
        let path = |name: &str| folder.join(name).with_extension("scene");
        window::make(&path("glyph"), &path("doom"), &path(WINDOW))?;
        println!("{WINDOW}: in {}", path(WINDOW).display());
    }
    Ok(())
}

fn record(test: &Test, (name, seconds, play): &Scene, to: &Path) -> Result<()> {
    let guest = Uml::new(test).cpus(2).memory_mb(MEMORY_MB).boot()?;
    // When it begins is no event that could be waited for: demos and terminals tell nobody.
    let settle = match play {
        Play::Game => {
            "for i in $(seq 600); do pidof chocolate-doom && break; sleep 0.1; done; sleep 14"
        }
        Play::Terminal(_) => {
            "for i in $(seq 600); do pidof foot && break; sleep 0.1; done; sleep 3"
        }
    };
    if let Play::Terminal(script) = play {
        terminal(test, &guest, script)?;
    }
    guest.start_compositor()?;
    let said = guest.sh(settle, Duration::from_secs(120))?;
    ensure!(said.status == 0, "{}", said.text);
    let order = format!("/host/bin/scanout /run/scene {seconds} && cp /run/scene /host/log/scene");
    let said = guest.sh(&order, Duration::from_secs(u64::from(*seconds) + 120))?;
    ensure!(said.status == 0, "{}", said.text);
    // A terminal without a keyboard has no focus, and its cursor does not blink.
    let moved = said.text.trim() != "1 pictures";
    ensure!(moved != (*name == AT_REST), "{name}: {} were not expected", said.text.trim());
    // Not a rename: the folders may lie on different file systems.
    std::fs::copy(test.dir().join("scene"), to)?;
    println!("{name}: {} in {}", said.text, to.display());
    Ok(())
}

/// Has the compositor show a terminal instead of the game.
fn terminal(test: &Test, guest: &Guest, script: &str) -> Result<()> {
    let tree = tree()?;
    std::fs::write(
        test.dir().join("kiosk"),
        format!(
            "#!/bin/sh\nexec chroot /tree /usr/bin/env XDG_RUNTIME_DIR=/run/user \
             WAYLAND_DISPLAY=\"$WAYLAND_DISPLAY\" HOME=/tmp LANG=C.UTF-8 \
             TEXT=/usr/share/common-licenses/GPL-3 \
             sh -c 'wlr-randr --output Virtual-1 --mode {TERMINAL} && \
             exec foot --fullscreen sh /run/scene.sh'\n"
        ),
    )?;
    std::fs::write(test.dir().join("scene.sh"), format!("{script}\n"))?;
    guest
        .run(&format!(
            "mkdir -p /tree && mount -t hostfs -o hostfs={} hostfs /tree && \
             mount --rbind /dev /tree/dev && mount --rbind /run /tree/run && \
             mount -t proc proc /tree/proc && mount -t tmpfs tmpfs /tree/tmp && \
             cp /host/log/scene.sh /host/log/kiosk /run/ && chmod +x /run/kiosk && \
             echo KIOSK=/run/kiosk >/etc/transom/kiosk",
            tree.display()
        ))
        .map(drop)
}

/// Builds the terminal's root if the cache has none, and finds it.
fn tree() -> Result<PathBuf> {
    let script = project_dir().join("tests/corpus/build");
    let output = Command::new(&script).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(output.status.success(), "{} failed", script.display());
    let stdout = String::from_utf8(output.stdout)?;
    Ok(stdout.lines().last().context("corpus/build printed no path")?.into())
}
