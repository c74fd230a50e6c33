//! Which encoder is at work, and why not another.

/// What is known about the encoder at work: for the log, for statistics and for diagnostics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncoderState {
    /// `screen`, `openh264`, `vaapi`; empty while nothing is encoded.
    pub name: String,
    /// VA-API: what the driver calls itself.
    pub driver: String,
    /// VA-API: the H.264 profile.
    pub profile: String,
    /// VA-API: `EncSlice` or `EncSliceLP`.
    pub entrypoint: String,
    /// How pictures get to the encoder: `memory`, `upload (derived image)`, `upload (image)`,
    /// `dma-buf`.
    pub path: String,
    /// Candidates that were tried or ruled out, and the reason of each; the newest reason counts.
    pub rejected: Vec<(String, String)>,
}
