//! Checks of the way from the screen to an access unit, each on its own and apart from the stream.

use std::thread;
use std::time::{Duration, Instant};

use transom_protocol::GuestTime;

use super::Finding;
use crate::capture::Frame;
use crate::capture::still::{self, Still};
use crate::damage::{Damage, Rect};
use crate::diag::conversation::Ended;
use crate::diag::{Context, info, screenshot};
use crate::encode::{Choice, Encoder, Request};
use crate::picture::Picture;
use crate::pixels::Pixels;
use crate::sys::openh264_decoder::{Decoder, Luma};

/// How long to wait for a picture to change.
const CHANGE: Duration = Duration::from_secs(2);
/// The test picture: large enough for any encoder, small enough for an emulated guest.
const SIZE: (u32, u32) = (320, 192);
/// Pictures to code: the first whole, the others by their difference.
const PICTURES: u32 = 3;
/// Less than this is no faithful picture, in dB.
const FAITHFUL: f64 = 28.0;

const START: &str = "start a compositor, or restart it: `transom diag … restart-compositor`; see \
                     its log: `transom diag … logs --unit transom-kiosk.service`";

/// Whether there is anything to show pictures on.
pub fn card(context: &Context) -> Finding {
    let (cards, trouble) = context.diag_cards();
    if cards.is_empty() {
        return Finding::fail(
            trouble.first().cloned().unwrap_or_else(|| "no DRM device has a display".into()),
            "give the machine a display device, and a kernel with its driver (virtio-gpu, bochs, \
             hyperv_drm); Debian's cloud kernel has none",
        );
    }
    let names: Vec<_> = cards.iter().map(|card| card.describe()).collect();
    match trouble.first() {
        None => Finding::pass(names.join(", ")),
        Some(trouble) => Finding::warn(
            format!("{}; but {trouble}", names.join(", ")),
            "the agent's user has to be in the groups `video` and `render`",
        ),
    }
}

/// Whether any card shows a framebuffer.
pub fn lit(context: &Context) -> Finding {
    let (cards, _) = context.diag_cards();
    if cards.is_empty() {
        return Finding::skip("there is no card");
    }
    match still::find(&cards) {
        Some(screen) => {
            Finding::pass(format!("{} scans out a framebuffer", screen.card.describe()))
        }
        None => Finding::fail("no CRTC scans out a framebuffer: the screen is dark", START),
    }
}

/// Whether the card that is captured is the one that shows something.
pub fn configured(context: &Context) -> Finding {
    let (cards, _) = context.diag_cards();
    let lit: Vec<_> = cards.iter().filter(|card| still::find([*card]).is_some()).collect();
    let names = || lit.iter().map(|card| card.describe()).collect::<Vec<_>>().join(", ");
    match &context.settings.card {
        _ if lit.is_empty() => Finding::skip("no card shows anything"),
        Some(path) if lit.iter().any(|card| card.path == *path) => {
            Finding::pass(format!("{} is configured and lit", path.display()))
        }
        Some(path) => Finding::fail(
            format!("{} is configured, but what is lit is {}", path.display(), names()),
            "remove TRANSOM_CARD from /etc/transom/agent, or name the card that is lit there; or \
             have the compositor use the configured one (WLR_DRM_DEVICES for wlroots)",
        ),
        None if lit.len() > 1 => Finding::warn(
            format!("several cards are lit, and the first is captured: {}", names()),
            "name the one that is meant: TRANSOM_CARD=/dev/dri/cardN in /etc/transom/agent",
        ),
        None => Finding::pass(format!("{} alone is lit", names())),
    }
}

/// Whether the picture can be read.
pub fn readable(context: &Context) -> Finding {
    let mut screen = match screenshot::screen(context, None) {
        Ok(screen) => screen,
        Err(ended) => return Finding::skip(words(ended)),
    };
    match Still::take(&mut screen, context.settings.scanout) {
        Ok(still) => {
            let ((width, height), format) = (still.size(), still::name(still.fourcc));
            let by = still.by.map_or("mapping it".into(), |by| by);
            let modifier = still.modifier;
            Finding::pass(format!("{width}x{height}, {format}, modifier {modifier:#x}, by {by}"))
        }
        Err(error) => Finding::fail(
            error.to_string(),
            "libgbm and Mesa's driver for the GPU read any (the image's GPU flavour has them); a \
             linear framebuffer can be read without: WLR_RENDERER=pixman or WLR_DRM_NO_MODIFIERS=1 for \
             wlroots; and the agent needs CAP_SYS_ADMIN, as its unit gives it",
        ),
    }
}

/// Whether the picture changes.
pub fn changes(context: &Context) -> Finding {
    let mut screen = match screenshot::screen(context, None) {
        Ok(screen) => screen,
        Err(ended) => return Finding::skip(words(ended)),
    };
    let begun = Instant::now();
    let mut rows = [Vec::new(), Vec::new()];
    while begun.elapsed() < CHANGE {
        let Ok(still) = Still::take(&mut screen, context.settings.scanout) else {
            return Finding::skip("the picture cannot be read");
        };
        if !still.at_rest {
            return Finding::pass("it changes faster than it can be read twice");
        }
        let [old, new] = &mut rows;
        new.clear();
        still.read_rgb(0, u32::MAX, new);
        if !old.is_empty() && old != new {
            return Finding::pass(format!("it changed within {} ms", begun.elapsed().as_millis()));
        }
        std::mem::swap(old, new);
        thread::sleep(Duration::from_millis(50));
    }
    Finding::warn(
        format!("nothing changed for {} s", CHANGE.as_secs()),
        "all is well if the screen rests; if it should move, its program hangs, or the \
         compositor does: `transom diag … top`, `transom diag … restart-compositor`",
    )
}

/// Whether hardware encodes, and why not.
pub fn driver(context: &Context) -> Finding {
    let state = context.hub.encoder();
    let rejected: Vec<_> =
        state.rejected.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
    if state.name == "vaapi" {
        let (driver, profile, entry) = (&state.driver, &state.profile, &state.entrypoint);
        let others = rejected.iter().map(|reason| format!("; not {reason}")).collect::<String>();
        let path = &state.path;
        return Finding::pass(format!("{driver} encodes: {profile}, {entry}, by {path}{others}"));
    }
    if rejected.is_empty() {
        return Finding::skip(if state.name.is_empty() {
            "nothing was encoded yet, so that no driver was tried".to_owned()
        } else {
            format!("not in use: the encoder is {}", state.name)
        });
    }
    let drivers = info::va_drivers();
    if drivers.is_empty() {
        return Finding::skip("no VA-API driver is installed: software encodes");
    }
    Finding::warn(
        format!("software encodes; {}; installed: {}", rejected.join("; "), drivers.join(", ")),
        "install a VA-API driver for this GPU, or choose software for good: TRANSOM_ENCODER=screen \
         in /etc/transom/agent",
    )
}

/// Encodes pictures and decodes them again.
pub fn encoder(context: &Context) -> Finding {
    let choice = match context.hub.encoder().name.as_str() {
        // What is at work, rather than what would stand in for it.
        "vaapi" => Choice::Vaapi,
        _ => context.hub.choice().unwrap_or(context.settings.encoder),
    };
    let name = format!("{choice:?}").to_lowercase();
    let remedy = "choose another one: `transom diag … set encoder screen`, or TRANSOM_ENCODER=screen \
                  in /etc/transom/agent; tell its driver's makers";
    let begun = Instant::now();
    match round_trip(context, choice) {
        Ok(worst) if worst >= FAITHFUL => Finding::pass(format!(
            "'{name}': {PICTURES} test pictures came back at {worst:.1} dB or better, in {} ms",
            begun.elapsed().as_millis()
        )),
        Ok(worst) => Finding::fail(
            format!("'{name}': a test picture came back at {worst:.1} dB only"),
            remedy,
        ),
        Err(why) => Finding::fail(format!("'{name}': {why}"), remedy),
    }
}

/// The lowest likeness of the test pictures, in dB.
fn round_trip(context: &Context, choice: Choice) -> Result<f64, String> {
    let (_, mut tuning) = context.hub.stream();
    // Whatever the stream has to make do with: here the question is whether it works at all.
    tuning.bitrate.0 = tuning.bitrate.0.max(8_000_000);
    let mut encoder = Encoder::new(choice, SIZE, tuning).map_err(|error| error.to_string())?;
    let mut decoder = Decoder::new().map_err(|error| error.to_string())?;
    let mut picture = Picture::new(SIZE);
    let mut worst = f64::INFINITY;
    for number in 0..PICTURES {
        let mut damage = Damage::default();
        picture.update(Pixels::bgrx(&test_picture(number), SIZE.0), None, &mut damage);
        let frame = Frame { picture: &picture, damage: &damage };
        let time = GuestTime(u64::from(number) * 100_000_000);
        let unit = encoder
            .encode(Request { frame, idr: number == 0, time })
            .map_err(|error| format!("it does not encode: {error}"))?;
        let luma = decoder
            .decode(&unit.bytes)
            .map_err(|error| format!("what it writes does not decode: {error}"))?
            .ok_or("what it writes holds no picture")?;
        worst = worst.min(likeness(&luma, picture.planes()[0])?);
    }
    Ok(worst)
}

/// Gradients with a square that wanders.
fn test_picture(number: u32) -> Vec<u8> {
    let (width, height) = SIZE;
    let square = Rect { x: 32 + number * 40, y: 48, width: 64, height: 64 };
    let mut pixels = Vec::with_capacity(width as usize * height as usize * 4);
    for y in 0..height {
        for x in 0..width {
            let inside = square.meets(Rect { x, y, width: 1, height: 1 });
            let [r, g, b] =
                if inside { [220, 200, 40] } else { [x * 255 / width, y * 255 / height, 90] };
            pixels.extend([b as u8, g as u8, r as u8, 0]);
        }
    }
    pixels
}

/// Peak signal to noise of luma in dB; capped, for equal pictures have no finite one.
fn likeness(luma: &Luma, original: &[u8]) -> Result<f64, String> {
    let (width, height) = SIZE;
    if (luma.width, luma.height) != (width as usize, height as usize) {
        return Err(format!("it came back as {}x{}", luma.width, luma.height));
    }
    let squares: u64 = luma
        .samples
        .iter()
        .zip(original)
        .map(|(a, b)| u64::from(a.abs_diff(*b)) * u64::from(a.abs_diff(*b)))
        .sum();
    // A picture has far fewer than 2^52 samples.
    #[allow(clippy::cast_precision_loss)]
    let mean = squares as f64 / original.len() as f64;
    Ok(if mean == 0.0 { 99.0 } else { 10.0 * (255.0 * 255.0 / mean).log10() })
}

fn words(ended: Ended) -> String {
    use transom_protocol::diagnostics::Outcome;
    match ended {
        Ended::With(Outcome::Failed { why }) => why.as_str().to_owned(),
        _ => "there is no picture".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_decoder_shows_is_what_was_coded() {
        let tuning =
            crate::encode::Tuning { bitrate: transom_protocol::BitRate(8_000_000), fps: 60 };
        for choice in [Choice::Screen, Choice::OpenH264] {
            let records = crate::records::Records::default();
            let context = Context::new(
                std::sync::Arc::new(crate::hub::Hub::new(tuning)),
                Box::leak(Box::new(records)),
                crate::diag::Settings {
                    shell: false,
                    copy: false,
                    gpu: false,
                    compositor: String::new(),
                    card: None,
                    encoder: choice,
                    scanout: Default::default(),
                },
                Box::new(|_| Ok(())),
            );
            let worst = round_trip(&context, choice).expect("both encoders work");
            assert!(worst > FAITHFUL && worst < 99.0, "{choice:?}: {worst} dB");
        }
    }

    #[test]
    fn a_picture_that_came_back_wrong_is_noticed() {
        let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
        let luma = |samples| Luma { width, height, samples };
        let original = vec![100; width * height];
        assert!(likeness(&luma(vec![16; width * height]), &original).expect("size") < FAITHFUL);
        let cropped = Luma { width: 2, height: 2, samples: vec![100; 4] };
        assert!(likeness(&cropped, &original).is_err());
        assert!(Decoder::new().expect("a decoder").decode(&[9; 100]).is_err());
    }
}
