//! Facts about cards: what they could show, and what they show.

use std::os::fd::AsFd;

use drm::control::{Device as _, connector, from_u32};

use super::{number, text};
use crate::capture::plane::{Kind, Plane};
use crate::capture::still;
use crate::diag::Context;
use crate::diag::conversation::{Answer, Conversation};
use crate::diag::stats::words;
use crate::sys::kms::Card;

/// Modes told of a connector; monitors offer dozens.
const MODES: usize = 8;

/// All cards.
pub fn run(context: &Context, talk: &mut Conversation) -> Answer {
    let (cards, trouble) = context.diag_cards();
    talk.fact("display.state", text(words(&context.hub.display().1)))?;
    for card in cards {
        let name = card.path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into());
        one(talk, &card, &format!("drm.{name}"))?;
    }
    for (index, trouble) in trouble.into_iter().enumerate() {
        talk.fact(format!("drm.trouble.{index}"), text(trouble))?;
    }
    let mut nodes: Vec<_> = std::fs::read_dir("/dev/dri")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("render"))
        .collect();
    nodes.sort();
    talk.fact("drm.render-nodes", text(nodes.join(", ")))
}

fn one(talk: &mut Conversation, card: &Card, at: &str) -> Answer {
    talk.fact(format!("{at}.driver"), text(card.driver.clone()))?;
    talk.fact(format!("{at}.atomic"), transom_protocol::diagnostics::Value::Flag(card.atomic))?;
    let Ok(resources) = card.resource_handles() else { return Ok(()) };
    for handle in resources.connectors() {
        // Without a probe: it could light up monitors.
        let Ok(info) = card.get_connector(*handle, false) else { continue };
        let name = format!("{}-{}", info.interface().as_str(), info.interface_id());
        let state = match info.state() {
            connector::State::Connected => "connected",
            connector::State::Disconnected => "disconnected",
            connector::State::Unknown => "unknown",
        };
        let modes: Vec<String> = info
            .modes()
            .iter()
            .take(MODES)
            .map(|mode| format!("{}x{}@{}", mode.size().0, mode.size().1, mode.vrefresh()))
            .collect();
        let more = info.modes().len().saturating_sub(MODES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let at = format!("{at}.connector.{name}");
        talk.fact(format!("{at}.state"), text(state))?;
        talk.fact(format!("{at}.modes"), text(format!("{}{more}", modes.join(" "))))?;
    }
    for (index, handle) in resources.crtcs().iter().enumerate() {
        let Ok(info) = card.get_crtc(*handle) else { continue };
        let mode = info.mode().map_or("off".to_owned(), |mode| {
            format!("{}x{}@{}", mode.size().0, mode.size().1, mode.vrefresh())
        });
        talk.fact(format!("{at}.crtc.{index}.mode"), text(mode))?;
    }
    for (index, handle) in card.plane_handles().unwrap_or_default().into_iter().enumerate() {
        let Ok(mut plane) = Plane::open(card, handle) else { continue };
        let at = format!("{at}.plane.{index}");
        let kind = match plane.kind {
            Kind::Primary => "primary",
            Kind::Cursor => "cursor",
            Kind::Overlay => "overlay",
        };
        talk.fact(format!("{at}.type"), text(kind))?;
        let Ok(Some(state)) = plane.state(card) else { continue };
        talk.fact(format!("{at}.position"), text(format!("{},{}", state.x, state.y)))?;
        framebuffer(talk, card, u32::from(state.fb), &at)?;
    }
    Ok(())
}

fn framebuffer(talk: &mut Conversation, card: &Card, id: u32, at: &str) -> Answer {
    let Ok(info) = drm_ffi::mode::get_framebuffer2(card.as_fd(), id) else { return Ok(()) };
    // It made handles in our name, planes may share one.
    for (index, &handle) in info.handles.iter().enumerate() {
        if let (Some(handle), false) = (from_u32(handle), info.handles[..index].contains(&handle)) {
            let _ = card.close_buffer(handle);
        }
    }
    talk.fact(format!("{at}.framebuffer.id"), number(id))?;
    talk.fact(format!("{at}.framebuffer.size"), text(format!("{}x{}", info.width, info.height)))?;
    talk.fact(format!("{at}.framebuffer.format"), text(still::name(info.pixel_format)))?;
    let told = info.flags & drm_ffi::DRM_MODE_FB_MODIFIERS != 0;
    let modifier = match info.modifier[0] {
        _ if !told => "not told (linear)".into(),
        0 => "linear".into(),
        other => format!("{other:#x}"),
    };
    talk.fact(format!("{at}.framebuffer.modifier"), text(modifier))
}
