//! The scanout as it is: lossless, cursor drawn in, whether or not anybody streams.

use std::path::Path;

use transom_protocol::diagnostics::{GuestDiagnostics, MAX_DATA};
use transom_protocol::message::DisplayState;

use super::Context;
use super::conversation::{Answer, Conversation, failed};
use crate::capture::cards::Screen;
use crate::capture::still::{self, Still};

/// The picture of one card, or of the one that is captured.
pub fn run(context: &Context, talk: &mut Conversation, card: Option<u8>) -> Answer {
    let mut screen = screen(context, card)?;
    let name = screen.card.describe();
    let still = Still::take(&mut screen, context.settings.scanout)
        .map_err(|error| failed(format!("{name}: {error}")))?;
    drop(screen);
    let (width, height) = still.size();
    talk.say(&GuestDiagnostics::Picture { width, height })?;
    let step = (MAX_DATA / (width * 3).max(1)).max(1);
    let mut rows = Vec::new();
    for top in (0..height).step_by(step as usize) {
        rows.clear();
        still.read_rgb(top, step, &mut rows);
        // A row of an absurdly wide screen takes several pieces.
        for piece in rows.chunks(MAX_DATA as usize) {
            talk.say_with(&GuestDiagnostics::Data, piece)?;
        }
    }
    Ok(())
}

/// The screen meant, or the one that capture takes.
pub fn screen(context: &Context, card: Option<u8>) -> Answer<Screen> {
    let (cards, trouble) = context.diag_cards();
    let path =
        match card {
            Some(number) => Some(format!("/dev/dri/card{number}")),
            None => context.settings.card.as_ref().map(|path| path.display().to_string()).or_else(
                || match context.hub.display().1 {
                    DisplayState::Lit(scanout) => {
                        scanout.card.as_str().split_whitespace().next().map(str::to_owned)
                    }
                    _ => None,
                },
            ),
        };
    let found = match &path {
        Some(path) => {
            let chosen: Vec<_> = cards.iter().filter(|c| c.path == Path::new(path)).collect();
            if chosen.is_empty() {
                let names: Vec<_> = cards.iter().map(|card| card.describe()).collect();
                return Err(failed(format!(
                    "there is no {path} with a display here; there is: {}{}",
                    if names.is_empty() { "none".into() } else { names.join(", ") },
                    trouble.first().map(|text| format!(" ({text})")).unwrap_or_default(),
                )));
            }
            still::find(chosen)
        }
        None => still::find(&cards),
    };
    found.ok_or_else(|| {
        failed(match path {
            Some(path) => format!("{path} shows nothing: no compositor, or the console is blank"),
            None => "no card shows anything: no compositor, or the console is blank".into(),
        })
    })
}
