//! Which drivers are worth a try on which device, and why others are not.
//!
//! In: the DRM nodes, the drivers that are installed, the environment. Out: a list in the order
//! of trial. No driver is loaded here.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use drm::Device as _;

/// Where distributions put VA drivers; `LIBVA_DRIVERS_PATH` replaces the list.
const FOLDERS: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/dri",
    "/usr/lib/aarch64-linux-gnu/dri",
    "/usr/lib64/dri",
    "/usr/lib/dri",
    "/usr/local/lib/dri",
];
/// Where a Hyper-V host's GPU libraries are injected.
const WSL: &str = "/usr/lib/wsl/lib";

/// A driver on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// For people: device, kernel driver, VA driver.
    pub name: String,
    /// The DRM node; without one, libva's X11 display.
    pub device: Option<PathBuf>,
    /// What the driver wants in its environment.
    pub environment: Vec<(String, String)>,
}

impl Candidate {
    /// How the helper is told of the device.
    pub fn arguments(&self) -> Vec<std::ffi::OsString> {
        match &self.device {
            Some(device) => vec!["--device".into(), device.into()],
            None => vec!["--x11".into()],
        }
    }
}

/// All candidates, and those that were ruled out with the reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// In the order of trial.
    pub candidates: Vec<Candidate>,
    /// Name and reason.
    pub rejected: Vec<(String, String)>,
}

/// What the environment of this process says.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// `LIBVA_DRIVER_NAME`: this driver and no other.
    pub driver: Option<String>,
    /// `LIBVA_DRIVERS_PATH`: here and nowhere else.
    pub folders: Option<String>,
    /// `TRANSOM_VA_DISPLAY=x11`: no DRM node, but libva's X11 display.
    pub x11: bool,
    /// `LD_LIBRARY_PATH`, which a driver's own folder is put in front of.
    pub libraries: Option<String>,
}

impl Wishes {
    /// Of this process.
    pub fn of_environment() -> Self {
        let from = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        Self {
            driver: from("LIBVA_DRIVER_NAME"),
            folders: from("LIBVA_DRIVERS_PATH"),
            x11: from("TRANSOM_VA_DISPLAY").is_some_and(|display| display == "x11"),
            libraries: from("LD_LIBRARY_PATH"),
        }
    }

    fn has_driver(&self, name: &str) -> bool {
        let file = format!("{name}_drv_video.so");
        match &self.folders {
            Some(folders) => {
                folders.split(':').any(|folder| Path::new(folder).join(&file).exists())
            }
            None => FOLDERS.iter().any(|folder| Path::new(folder).join(&file).exists()),
        }
    }
}

/// Looks at this machine.
pub fn find() -> Found {
    let wishes = Wishes::of_environment();
    if wishes.x11 {
        return Found {
            candidates: vec![Candidate {
                name: "the X server's device".into(),
                device: None,
                environment: Vec::new(),
            }],
            rejected: Vec::new(),
        };
    }
    let nodes = nodes();
    let mut found = Found::default();
    if nodes.is_empty() {
        found.rejected.push(("/dev/dri".into(), "no render node: no GPU, and no vgem".into()));
    }
    for node in nodes {
        match kernel_driver(&node) {
            Ok(kernel) => {
                plan(&node, &kernel, &wishes, Path::new("/dev/dxg").exists(), &mut found);
            }
            Err(error) => found.rejected.push((node.display().to_string(), error.to_string())),
        }
    }
    found
}

/// What is worth a try on one node.
fn plan(node: &Path, kernel: &str, wishes: &Wishes, dxg: bool, found: &mut Found) {
    let name = |driver: &str| format!("{} ({kernel}): {driver}", node.display());
    let drivers: Vec<&str> = match (&wishes.driver, kernel) {
        (Some(driver), _) => vec![driver],
        (None, "i915") => vec!["iHD", "i965"],
        (None, "xe") => vec!["iHD"],
        (None, "amdgpu") => vec!["radeonsi"],
        (None, "radeon") => vec!["r600", "radeonsi"],
        (None, "nouveau") => vec!["nouveau"],
        (None, "virtio_gpu") => vec!["virtio_gpu"],
        (None, "vgem") => vec!["d3d12"],
        (None, _) => Vec::new(),
    };
    if drivers.is_empty() {
        found.rejected.push((name("none"), "no VA driver is known for this device".into()));
    }
    for driver in drivers {
        if !wishes.has_driver(driver) {
            found.rejected.push((name(driver), "this VA driver is not installed".into()));
            continue;
        }
        let mut environment = vec![("LIBVA_DRIVER_NAME".to_owned(), driver.to_owned())];
        if driver == "d3d12" {
            if !dxg {
                let reason = "no /dev/dxg: the host lends no GPU, or dxgkrnl is not loaded";
                found.rejected.push((name(driver), reason.into()));
                continue;
            }
            environment.push(("GALLIUM_DRIVER".into(), "d3d12".into()));
            let others = wishes.libraries.iter().map(|path| format!(":{path}"));
            let path = WSL.to_owned() + &others.collect::<String>();
            environment.push(("LD_LIBRARY_PATH".into(), path));
        }
        let device = Some(node.to_owned());
        found.candidates.push(Candidate { name: name(driver), device, environment });
    }
}

/// The render nodes of this machine, by name.
pub fn nodes() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/dev/dri") else { return Vec::new() };
    let render = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("renderD"))
    };
    let mut nodes: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(render).collect();
    nodes.sort();
    nodes
}

struct Node(File);

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl drm::Device for Node {}

fn kernel_driver(node: &Path) -> std::io::Result<String> {
    let node = Node(fs::OpenOptions::new().read(true).write(true).open(node)?);
    Ok(node.get_driver()?.name().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(kernel: &str, wishes: &Wishes, dxg: bool) -> Found {
        let mut found = Found::default();
        plan(Path::new("/dev/dri/renderD128"), kernel, wishes, dxg, &mut found);
        found
    }

    fn folder_with(drivers: &[&str]) -> (PathBuf, Wishes) {
        let unique = format!("transom-drivers-{}-{}", std::process::id(), drivers.join("-"));
        let folder = std::env::temp_dir().join(unique);
        fs::create_dir_all(&folder).expect("a folder");
        for driver in drivers {
            fs::write(folder.join(format!("{driver}_drv_video.so")), "").expect("a file");
        }
        let wishes = Wishes { folders: Some(folder.display().to_string()), ..Wishes::default() };
        (folder, wishes)
    }

    #[test]
    fn drivers_follow_the_device_and_their_environment_follows_them() {
        let (folder, wishes) = folder_with(&["iHD", "d3d12"]);
        let intel = planned("i915", &wishes, false);
        assert_eq!(intel.candidates[0].name, "/dev/dri/renderD128 (i915): iHD");
        assert_eq!(intel.rejected[0].1, "this VA driver is not installed");
        let vgem = planned("vgem", &wishes, true);
        let has = |name: &str, value: &str| {
            vgem.candidates[0].environment.contains(&(name.into(), value.into()))
        };
        assert!(has("GALLIUM_DRIVER", "d3d12") && has("LD_LIBRARY_PATH", WSL));
        assert!(planned("vgem", &wishes, false).candidates.is_empty());
        assert!(planned("mgag200", &wishes, false).candidates.is_empty());
        let wishes = Wishes { driver: Some("iHD".into()), ..wishes };
        assert_eq!(planned("mgag200", &wishes, false).candidates.len(), 1);
        fs::remove_dir_all(folder).expect("just made");
    }
}
