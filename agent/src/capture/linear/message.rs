//! The conversation between the agent and the process that makes linear views.
//!
//! 1. helper: [`Answer::Opened`] or [`Answer::Failed`];
//! 2. agent: [`Order::Memory`] with the memory that views are written to, whenever that is another;
//! 3. agent: [`Order::Read`] with a dma-buf for each plane; helper: [`Answer::Read`] or
//!    [`Answer::Failed`]. One at a time, and so on.

use serde::{Deserialize, Serialize};

/// 7680x4320 pixels of four bytes; more would take more memory than the agent has.
pub const MAX_LENGTH: usize = 7680 * 4320 * 4;

/// What the agent wants.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// From now on views go to the memory that comes along, of so many bytes.
    Memory(u32),
    /// A linear view of a buffer.
    Read(Layout),
}

/// How pixels lie in a buffer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// DRM FourCC.
    pub fourcc: u32,
    /// DRM format modifier.
    pub modifier: u64,
    /// Columns and rows.
    pub size: (u32, u32),
    /// Bytes of a pixel.
    pub bytes: u8,
    /// Of each plane: bytes from one row to the next, and bytes in front of it.
    pub planes: Vec<(u32, u32)>,
}

impl Layout {
    /// Bytes of a row of the view, which has no gaps.
    pub fn row(&self) -> usize {
        self.size.0 as usize * usize::from(self.bytes)
    }

    /// Bytes of the view.
    pub fn length(&self) -> usize {
        self.row().saturating_mul(self.size.1 as usize)
    }

    /// Whether it can be the layout of buffers of these sizes in bytes, one for each plane.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check(&self, sizes: &[u64]) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{what}: {self:?} in buffers of {sizes:?} bytes"));
        if self.planes.is_empty() || self.planes.len() != sizes.len() {
            return wrong("a plane without a buffer");
        }
        if self.length() == 0 || self.length() > MAX_LENGTH {
            return wrong("too few or too many pixels");
        }
        for (&(pitch, offset), &size) in self.planes.iter().zip(sizes) {
            if pitch == 0 || u64::from(offset) >= size {
                return wrong("a plane outside of its buffer");
            }
        }
        // Tiles pad the picture to more rows, never to fewer. What further planes hold, such as the
        // state of compression, has rows of its own.
        let ((pitch, offset), size) = (self.planes[0], sizes[0]);
        let end = u64::from(offset) + u64::from(pitch) * u64::from(self.size.1 - 1);
        if (pitch as usize) < self.row() || end + self.row() as u64 > size {
            return wrong("the pixels do not fit");
        }
        Ok(())
    }
}

/// What the helper says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// There is a driver; what it is called.
    Opened(String),
    /// The view is in the memory.
    Read,
    /// There is none; the reason.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_of_its_buffer_is_not_handed_to_a_driver() {
        let good = Layout {
            fourcc: 0x3432_5258,
            modifier: 1 << 56 | 1,
            size: (60, 30),
            bytes: 4,
            planes: vec![(512, 4096)],
        };
        let room = 4096 + 512 * 32;
        good.check(&[room]).expect("it fits");
        let wrong = |change: &dyn Fn(&mut Layout)| {
            let mut layout = good.clone();
            change(&mut layout);
            layout.check(&[room]).expect_err("it does not fit");
        };
        wrong(&|l| l.planes.clear());
        wrong(&|l| l.planes.push((512, 0)));
        wrong(&|l| l.planes[0].0 = 0);
        wrong(&|l| l.planes[0].0 = 239);
        wrong(&|l| l.planes[0].0 = u32::MAX);
        wrong(&|l| l.planes[0].1 = u32::MAX);
        wrong(&|l| l.planes[0].1 = 8192);
        wrong(&|l| l.size = (0, 30));
        wrong(&|l| l.size = (60, 0));
        wrong(&|l| l.size = (u32::MAX, u32::MAX));
        wrong(&|l| l.size = (129, 30));
        wrong(&|l| l.size = (60, 64));
        good.check(&[u64::MAX]).expect("more room than needed");
        good.check(&[0]).expect_err("no room at all");
    }
}
