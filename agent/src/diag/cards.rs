//! The DRM cards, opened for diagnostics alone.
//!
//! Opening a card while nobody is its master makes the opener master for a moment, and a compositor
//! that starts in that moment would fail: each card is opened once and kept, apart from those of
//! capture, so that neither waits for the other.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use drm::control::Device as _;

use crate::capture::cards::nodes;
use crate::sys::kms::Card;

/// The cards that were opened.
#[derive(Debug, Default)]
pub struct Cards {
    open: Mutex<Vec<Arc<Card>>>,
}

impl Cards {
    /// All cards that have a display, by number; and what stands in the way of others.
    pub fn all(&self) -> (Vec<Arc<Card>>, Vec<String>) {
        // Held while cards are opened; nothing but diagnostics waits for it.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let paths = nodes(Path::new("/dev/dri"));
        open.retain(|card| paths.contains(&card.path) && card.resource_handles().is_ok());
        let (mut cards, mut trouble) = (Vec::new(), Vec::new());
        for path in paths {
            if let Some(card) = open.iter().find(|card| card.path == path) {
                cards.push(Arc::clone(card));
                continue;
            }
            match Card::open(&path) {
                // Render-only drivers have a card node, too.
                Ok(card) if card.resource_handles().is_ok() => {
                    let card = Arc::new(card);
                    open.push(Arc::clone(&card));
                    cards.push(card);
                }
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => {}
                Err(error) => trouble.push(format!("{}: {error}", path.display())),
            }
        }
        (cards, trouble)
    }
}
