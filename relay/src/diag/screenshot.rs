//! A guest's scanout as a PNG file: as it is, without loss.

use std::{path::Path, time::Duration};

use transom_protocol::diagnostics::{GuestDiagnostics, Request};

use super::{Client, DiagError};

/// More than any display has; what a guest may make us set aside, times three.
const MAX_PIXELS: u64 = 16_384 * 8_640;

/// Reading a picture back from a graphics card under emulation takes a while.
const SILENCE: Duration = Duration::from_secs(15);

/// A picture: rows without gaps, three bytes a pixel, red first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screenshot {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Its bytes.
    pub pixels: Vec<u8>,
}

/// Takes a picture of `/dev/dri/cardN`, or of the card that is captured.
///
/// # Errors
///
/// See [`DiagError`].
pub async fn screenshot(client: &Client, card: Option<u8>) -> Result<Screenshot, DiagError> {
    let mut answers = client.ask(Request::Screenshot { card }).await?;
    answers.set_silence(Some(SILENCE));
    let mut size = None;
    // Grows with what really comes.
    let mut pixels: Vec<u8> = Vec::new();
    while let Some(answer) = answers.next().await? {
        match (answer.message, size) {
            (GuestDiagnostics::Picture { width, height }, None) => {
                let count = u64::from(width) * u64::from(height);
                if count == 0 || count > MAX_PIXELS {
                    return Err(answers.nonsense(format!("a picture of {width}x{height}")));
                }
                size = Some((width, height, count as usize * 3));
            }
            (GuestDiagnostics::Data, Some((width, height, length))) => {
                if pixels.len() + answer.bulk.len() > length {
                    return Err(answers.nonsense(format!("more bytes than {width}x{height} has")));
                }
                pixels.extend_from_slice(&answer.bulk);
            }
            _ => {}
        }
    }
    match size {
        Some((width, height, length)) if pixels.len() == length => {
            Ok(Screenshot { width, height, pixels })
        }
        Some((width, height, length)) => Err(answers.nonsense(format!(
            "{} of {length} bytes of a picture of {width}x{height}",
            pixels.len()
        ))),
        None => Err(answers.nonsense("no picture")),
    }
}

impl Screenshot {
    /// The picture as PNG.
    ///
    /// # Errors
    ///
    /// Sizes that PNG does not have.
    pub fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        // A screenshot is waited for, and a screen packs well even so.
        encoder.set_compression(png::Compression::Fast);
        encoder.write_header()?.write_image_data(&self.pixels)?;
        Ok(bytes)
    }

    /// Writes the PNG file: whole, or not at all.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), DiagError> {
        use std::io::Write;
        let failed = |why: std::io::Error| DiagError::File { path: path.into(), why };
        let bytes = self.png().map_err(|e| failed(std::io::Error::other(e)))?;
        let mut file = super::copy::beside(path).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.persist(path).map_err(|e| failed(e.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_holds_every_pixel() {
        let pixels: Vec<u8> = (0..5 * 3 * 3).map(|i| i as u8 * 5).collect();
        let shot = Screenshot { width: 5, height: 3, pixels };
        let bytes = shot.png().expect("a size that PNG has");
        let decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        let mut reader = decoder.read_info().expect("a PNG");
        let mut back = vec![0; reader.output_buffer_size().expect("a size")];
        reader.next_frame(&mut back).expect("a picture");
        assert_eq!(back, shot.pixels);
    }
}
