//! What changes a guest: settings of its stream, its compositor, the guest itself.

use transom_protocol::{BitRate, Chroma, diagnostics::Request};

use super::{Client, DiagError};

/// Has the agent do something that has no answer but its outcome.
///
/// # Errors
///
/// See [`DiagError`].
pub async fn command(client: &Client, request: Request) -> Result<(), DiagError> {
    let mut answers = client.ask(request).await?;
    while answers.next().await?.is_some() {}
    Ok(())
}

/// Reboots the guest: done means that it goes down.
///
/// # Errors
///
/// See [`DiagError`].
pub async fn reboot(client: &Client) -> Result<(), DiagError> {
    match command(client, Request::Reboot).await {
        // The connection may be gone before its last word is here.
        Err(DiagError::Link { why: crate::link::LinkError::Io { why, .. }, .. }) => {
            log::debug!("the guest went down: {why}");
            Ok(())
        }
        other => other,
    }
}

/// Reads a rate in bits per second, with `k` or `M` behind it for thousands and millions.
///
/// # Errors
///
/// Words for a user.
pub fn bit_rate(text: &str) -> Result<BitRate, String> {
    let (number, factor) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1e3),
        None => text.strip_suffix(['m', 'M']).map_or((text, 1.0), |number| (number, 1e6)),
    };
    let bits = number.parse::<f64>().map(|number| number * factor);
    match bits {
        Ok(bits) if (1.0..=f64::from(u32::MAX)).contains(&bits) => Ok(BitRate(bits as u32)),
        _ => Err("bits per second, such as 8000000, 8000k or 8M".into()),
    }
}

/// Reads how much colour: `420` or `444`.
///
/// # Errors
///
/// Words for a user.
pub fn chroma(text: &str) -> Result<Chroma, String> {
    match text {
        "420" => Ok(Chroma::Yuv420),
        "444" => Ok(Chroma::Yuv444),
        _ => Err("420 or 444".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_rates_have_units() {
        for (text, bits) in
            [("8M", 8_000_000), ("2.5M", 2_500_000), ("800k", 800_000), ("64000", 64_000)]
        {
            assert_eq!(bit_rate(text), Ok(BitRate(bits)), "{text}");
        }
        assert_eq!((chroma("420"), chroma("444")), (Ok(Chroma::Yuv420), Ok(Chroma::Yuv444)));
        assert!(chroma("4:4:4").is_err());
        for text in ["", "0", "M", "-1k", "5G", "nan", "1e12"] {
            assert!(bit_rate(text).is_err(), "{text}");
        }
    }
}
