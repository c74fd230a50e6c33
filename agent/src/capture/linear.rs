//! Linear views of buffers that a CPU cannot read: tiled, compressed, or not to be mapped.
//!
//! ```text
//!   agent ── dma-bufs, layout ── socket ──▶ helper ──▶ libgbm ──▶ the GPU's driver
//!     ◀──── the picture, linear ── shared memory ── ◀──┘
//! ```
//!
//! libgbm runs a GPU's driver, which hangs and crashes as VA drivers do, and its mapping calls
//! belong to a process: it gets one of its own, this same program (`transom-agent scanout-helper`)
//! without any capability, and what it costs is a copy of the picture. The road not taken, drawing
//! the tiled buffer into a linear one by OpenGL, would save that copy and want EGL, shaders and a
//! driver's trust in place of three calls.
//!
//! [`Linear`] is the agent's side, [`serve`] the helper's.

pub mod message;
mod remote;
mod serve;

pub use remote::{Linear, NoView};
pub use serve::serve;

use drm::buffer::DrmModifier;

/// Kernel drivers whose buffers may be tiled although no modifier says so: the layout is known to
/// kernel and driver alone (`I915_GEM_SET_TILING`, the metadata of amdgpu and radeon, nouveau's
/// `tile_mode`).
const SILENT: [&str; 4] = ["i915", "amdgpu", "radeon", "nouveau"];

/// How scanouts are read, as a setting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reading {
    /// Mapped where that yields the picture, else by GBM.
    #[default]
    Auto,
    /// Mapped or not at all.
    Map,
    /// By GBM or not at all.
    Gbm,
}

impl std::str::FromStr for Reading {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "map" => Ok(Self::Map),
            "gbm" => Ok(Self::Gbm),
            _ => Err(format!("'{text}' is not one of auto, map, gbm")),
        }
    }
}

/// A way to read one buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Its memory is mapped.
    Map,
    /// The GPU's driver makes a linear view.
    Gbm,
}

impl Reading {
    /// Which ways are tried for a buffer of a kernel driver, one after the other. `modifier` is what
    /// the kernel tells of its layout, if it does.
    pub fn ways(self, driver: &str, modifier: Option<u64>) -> &'static [Way] {
        let told = modifier.map(DrmModifier::from).filter(|m| *m != DrmModifier::Invalid);
        match (self, told) {
            (Self::Gbm, _) => &[Way::Gbm],
            (Self::Map, Some(DrmModifier::Linear) | None) => &[Way::Map],
            (Self::Map, Some(_)) => &[],
            (Self::Auto, Some(DrmModifier::Linear)) => &[Way::Map, Way::Gbm],
            (Self::Auto, Some(_)) => &[Way::Gbm],
            (Self::Auto, None) if SILENT.contains(&driver) => &[Way::Gbm, Way::Map],
            (Self::Auto, None) => &[Way::Map, Way::Gbm],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tiled_buffer_is_never_mapped_and_a_linear_one_is_first() {
        let (x_tiled, amd) = (1 << 56 | 1, 2 << 56 | 0x1234);
        for driver in ["i915", "amdgpu", "vkms", "hyperv_drm"] {
            for tiled in [x_tiled, amd, 0xdead_beef] {
                assert_eq!(Reading::Auto.ways(driver, Some(tiled)), [Way::Gbm]);
                assert!(Reading::Map.ways(driver, Some(tiled)).is_empty());
            }
            assert_eq!(Reading::Auto.ways(driver, Some(0)), [Way::Map, Way::Gbm]);
            assert_eq!(Reading::Map.ways(driver, Some(0)), [Way::Map]);
            assert_eq!(Reading::Gbm.ways(driver, Some(0)), [Way::Gbm]);
        }
        for silent in [None, Some(DrmModifier::Invalid.into())] {
            assert_eq!(Reading::Auto.ways("hyperv_drm", silent), [Way::Map, Way::Gbm]);
            assert_eq!(Reading::Auto.ways("amdgpu", silent), [Way::Gbm, Way::Map]);
            assert_eq!(Reading::Map.ways("amdgpu", silent), [Way::Map]);
        }
    }
}
