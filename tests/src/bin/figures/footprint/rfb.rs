//! As much of RFB (RFC 6143) as it takes to see a picture: no password, raw pixels.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

const VERSION: &[u8; 12] = b"RFB 003.008\n";
const NO_PASSWORD: u8 = 1;
/// For a server to say who it is; a forwarded port accepts before anybody listens behind it.
const GREETING: Duration = Duration::from_secs(1);
/// For everything after it, in an emulated guest.
const ANSWER: Duration = Duration::from_secs(60);
/// Pixels of the largest screen that is taken.
const MAX_PIXELS: usize = 8192 * 8192;
/// Bytes of a clipboard's text that are read over.
const MAX_TEXT: u32 = 1 << 20;

/// A session.
pub struct Rfb {
    stream: TcpStream,
    size: (u16, u16),
    bytes_per_pixel: usize,
}

impl Rfb {
    /// Tries until a whole picture has come; yields when that was.
    pub fn wait(port: u16, patience: Duration) -> Result<(Self, Instant)> {
        let end = Instant::now() + patience;
        loop {
            let error = match Self::greet(port) {
                Ok(stream) => {
                    let mut session = Self::open(stream)?;
                    session.next_picture(false)?;
                    return Ok((session, Instant::now()));
                }
                Err(error) => error,
            };
            ensure!(Instant::now() < end, "no VNC server within {patience:?}: {error:#}");
            // Nothing tells when it listens; the pause decides nothing but when we look.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn greet(port: u16) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(GREETING))?;
        let mut version = [0; 12];
        stream.read_exact(&mut version)?;
        ensure!(version.starts_with(b"RFB "), "that is no VNC server");
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(VERSION)?;
        Ok(stream)
    }

    fn open(mut stream: TcpStream) -> Result<Self> {
        let mut kinds = vec![0; usize::from(bytes::<1>(&mut stream)?[0])];
        stream.read_exact(&mut kinds)?;
        ensure!(kinds.contains(&NO_PASSWORD), "it wants to know who we are: {kinds:?}");
        stream.write_all(&[NO_PASSWORD])?;
        ensure!(bytes::<4>(&mut stream)? == [0; 4], "it refuses us");
        const SHARED: u8 = 1;
        stream.write_all(&[SHARED])?;
        let [a, b, c, d, bits, ..] = bytes::<20>(&mut stream)?;
        let size = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let name = u32::from_be_bytes(bytes(&mut stream)?);
        skip(&mut stream, name.min(MAX_TEXT))?;
        let [pixels, bytes_per_pixel] = [pixels(size.0, size.1)?, usize::from(bits / 8)];
        ensure!(pixels > 0 && (1..=4).contains(&bytes_per_pixel), "{size:?} of {bits} bits");
        // Raw pixels alone.
        stream.write_all(&[2, 0, 0, 1, 0, 0, 0, 0])?;
        Ok(Self { stream, size, bytes_per_pixel })
    }

    /// Asks for what is new, or for all of it, and reads that.
    pub fn next_picture(&mut self, incremental: bool) -> Result<()> {
        let ([a, b], [c, d]) = (self.size.0.to_be_bytes(), self.size.1.to_be_bytes());
        self.stream.write_all(&[3, incremental.into(), 0, 0, 0, 0, a, b, c, d])?;
        loop {
            match bytes::<1>(&mut self.stream)?[0] {
                0 => return self.rectangles(),
                2 => {}
                3 => {
                    let [_, _, _, length @ ..] = bytes::<7>(&mut self.stream)?;
                    let length = u32::from_be_bytes(length);
                    ensure!(length <= MAX_TEXT, "a clipboard of {length} bytes");
                    skip(&mut self.stream, length)?;
                }
                other => bail!("a message of kind {other}"),
            }
        }
    }

    fn rectangles(&mut self) -> Result<()> {
        let [_, a, b] = bytes::<3>(&mut self.stream)?;
        for _ in 0..u16::from_be_bytes([a, b]) {
            let [_, _, _, _, a, b, c, d, encoding @ ..] = bytes::<12>(&mut self.stream)?;
            ensure!(encoding == [0; 4], "an encoding that nobody asked for");
            let pixels = pixels(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))?;
            skip(&mut self.stream, (pixels * self.bytes_per_pixel) as u32)?;
        }
        Ok(())
    }
}

fn pixels(width: u16, height: u16) -> Result<usize> {
    let pixels = usize::from(width) * usize::from(height);
    ensure!(pixels <= MAX_PIXELS, "a screen of {width}x{height}");
    Ok(pixels)
}

fn bytes<const N: usize>(stream: &mut TcpStream) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).context("the VNC server is gone")?;
    Ok(bytes)
}

fn skip(stream: &mut TcpStream, count: u32) -> Result<()> {
    let read = std::io::copy(&mut stream.take(count.into()), &mut std::io::sink())?;
    ensure!(read == u64::from(count), "the VNC server is gone");
    Ok(())
}
