//! Which card, which CRTC: finds a screen that is lit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use drm::control::{Device as _, crtc};

use super::plane::{Kind, Plane};
use crate::sys::kms::Card;

const DIRECTORY: &str = "/dev/dri";

/// A CRTC that scans out a framebuffer, and the planes that make up its picture.
#[derive(Debug)]
pub struct Screen {
    /// The card it belongs to.
    pub card: Arc<Card>,
    /// The CRTC.
    pub crtc: crtc::Handle,
    /// The plane with the picture.
    pub primary: Plane,
    /// The plane for the mouse pointer, where the driver has one.
    pub cursor: Option<Plane>,
}

/// The cards of this machine. Each is opened once and stays open: opening makes us master for a
/// moment whenever nobody else is, and a compositor that starts in that moment would fail.
#[derive(Debug)]
pub struct Cards {
    only: Option<PathBuf>,
    open: Vec<Arc<Card>>,
    /// Why the last card that could not be used could not.
    trouble: Option<String>,
}

impl Cards {
    /// Looks at all cards, or at one alone.
    pub fn new(only: Option<PathBuf>) -> Self {
        Self { only, open: Vec::new(), trouble: None }
    }

    /// Opens cards that are new and forgets those that are gone.
    pub fn refresh(&mut self) {
        let paths = match &self.only {
            Some(path) => vec![path.clone()],
            None => nodes(Path::new(DIRECTORY)),
        };
        self.open.retain(|card| paths.contains(&card.path) && card.resource_handles().is_ok());
        self.trouble = None;
        for path in paths {
            if self.open.iter().any(|card| card.path == path) {
                continue;
            }
            match Card::open(&path) {
                // Render-only drivers have a card node, too.
                Ok(card) if card.resource_handles().is_ok() => {
                    log::info!("{}: opened", card.describe());
                    self.open.push(Arc::new(card));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.only.is_none() => {}
                Err(error) => self.trouble = Some(format!("{}: {error}", path.display())),
            }
        }
    }

    /// The first screen that is lit, cards in the order of their numbers.
    pub fn find_lit(&self) -> Option<Screen> {
        self.open.iter().find_map(|card| find_on(card).ok().flatten())
    }

    /// The first card that can show something, for people.
    pub fn first(&self) -> Option<String> {
        self.open.first().map(|card| card.describe())
    }

    /// Why there is no card.
    pub fn trouble(&self) -> &str {
        match &self.trouble {
            Some(trouble) => trouble,
            None => "no DRM device has a display; does the kernel have a driver for it?",
        }
    }
}

/// `card0`, `card1`, … by number.
pub fn nodes(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut cards: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.strip_prefix("card")?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    cards.sort();
    cards.into_iter().map(|(_, path)| path).collect()
}

/// The screen that a card shows.
pub(crate) fn find_on(card: &Arc<Card>) -> io::Result<Option<Screen>> {
    let mut planes = Vec::new();
    for handle in card.plane_handles()? {
        planes.push(Plane::open(card, handle)?);
    }
    let Some((index, state)) = planes.iter_mut().enumerate().find_map(|(index, plane)| {
        let state = plane.state(card).ok().flatten()?;
        (plane.kind == Kind::Primary).then_some((index, state))
    }) else {
        return Ok(None);
    };
    let primary = planes.swap_remove(index);
    let cursor =
        planes.into_iter().find(|p| p.kind == Kind::Cursor && p.crtcs.contains(&state.crtc));
    Ok(Some(Screen { card: Arc::clone(card), crtc: state.crtc, primary, cursor }))
}
