//! Records the corpus that encoders are compared on: `make corpus`.
//!
//! In: which scenes, all of them without arguments. Out: `target/corpus/<scene>.scene`, each a
//! recording of what a real guest's screen showed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use transom_tests::{Guest, Test, Uml, machine_test, release_dir};

/// A scene: its name, its seconds, and how it comes about in a fresh guest.
type Scene = (&'static str, u32, fn(&Guest) -> Result<()>);

const SCENES: [Scene; 1] = [("doom", 12, doom)];

/// Several times what a scene takes.
const LIMIT: Duration = Duration::from_secs(300);

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|w| SCENES.iter().all(|(name, ..)| name != w)) {
        bail!("there is no scene '{unknown}', only {}", SCENES.map(|(name, ..)| name).join(", "));
    }
    let folder = folder()?;
    for (name, seconds, play) in SCENES {
        if !wanted.is_empty() && !wanted.iter().any(|w| w == name) {
            continue;
        }
        machine_test(&format!("corpus {name}"), LIMIT, |test| {
            record(test, name, seconds, play, &folder.join(name).with_extension("scene"))
        });
    }
    Ok(())
}

fn folder() -> Result<PathBuf> {
    let folder = release_dir().parent().context("the target folder")?.join("corpus");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn record(
    test: &Test,
    name: &str,
    seconds: u32,
    play: fn(&Guest) -> Result<()>,
    to: &std::path::Path,
) -> Result<()> {
    let guest = Uml::new(test).cpus(2).memory_mb(4096).boot()?;
    play(&guest)?;
    let order = format!("/host/bin/scanout /run/scene {seconds} && mv /run/scene /host/log/scene");
    let said = guest.sh(&order, Duration::from_secs(u64::from(seconds) + 60))?;
    anyhow::ensure!(said.status == 0, "{}", said.text);
    // Not a rename: the folders may lie on different file systems.
    std::fs::copy(test.dir().join("scene"), to)?;
    println!("{name}: {} in {}", said.text, to.display());
    Ok(())
}

/// The image's own game, in the midst of its demo.
fn doom(guest: &Guest) -> Result<()> {
    guest.start_compositor()?;
    // The demo begins after the title page, which stands still for five seconds.
    let wait = "for i in $(seq 600); do pidof chocolate-doom && break; sleep 0.1; done; sleep 14";
    let said = guest.sh(wait, Duration::from_secs(120))?;
    anyhow::ensure!(said.status == 0, "{}", said.text);
    Ok(())
}
