//! A guest without a machine: a hybrid vsock socket, and an agent behind it that plays what it is
//! given as fast as it is told, to every relay that comes. It answers pings, and tells who plays that
//! an IDR is wished for.
//!
//! In: what to play, as a function that is called once for each media connection. Out: the same over
//! the socket, in pieces of 16 KiB, as the agent writes them.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use transom_protocol::message::{
    Codec, DisplayState, FrameTimes, GuestControl, GuestHello, GuestMedia, HostControl, HostHello,
    Scanout, Text, VideoFormat,
};
use transom_protocol::wire::{self, Decoder, Frame, Limits};
use transom_protocol::{
    BitRate, Capabilities, FrameNumber, GuestTime, Role, StreamId, VERSION_MAX,
};

/// Longest write, as the agent's.
const PIECE: usize = 16 * 1024;
const SIZE: (u32, u32) = (1920, 1080);

/// Zero of all these guests' clocks.
static BOOT: LazyLock<Instant> = LazyLock::new(Instant::now);

type Play = Arc<dyn Fn(&mut Media) -> io::Result<()> + Send + Sync>;

/// What its connections share.
#[derive(Default)]
struct State {
    over: AtomicBool,
    idr: AtomicBool,
    /// Bits per second that the relay wishes for; 0: it has said nothing.
    bitrate: AtomicU32,
}

/// The guest; dropped means shut down.
pub struct Guest {
    path: PathBuf,
    state: Arc<State>,
}

impl Guest {
    /// Listens at `path`, a short one, and plays.
    pub fn start(
        path: PathBuf,
        play: impl Fn(&mut Media) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let _ = std::fs::remove_file(&path);
        let listener =
            UnixListener::bind(&path).with_context(|| format!("cannot bind {}", path.display()))?;
        let state = Arc::<State>::default();
        let (shared, play): (_, Play) = (Arc::clone(&state), Arc::new(play));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
                let (shared, play) = (Arc::clone(&shared), Arc::clone(&play));
                // A relay that goes away is how each of these ends.
                std::thread::spawn(move || serve(stream, &play, shared));
            }
        });
        Ok(Self { path, state })
    }

    /// Its address, for a relay.
    pub fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        // Wakes the one who accepts.
        let _ = UnixStream::connect(&self.path);
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve(mut stream: UnixStream, play: &Play, state: Arc<State>) -> io::Result<()> {
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
    }
    stream.write_all(b"OK 1073741824\n")?;
    let mut ear = Ear { stream: stream.try_clone()?, decoder: Decoder::new(Limits::MESSAGES) };
    let Some(frame) = ear.frame()? else { return Ok(()) };
    let hello: HostHello = wire::decode_hello(&frame.message).map_err(io::Error::other)?;
    let welcome = GuestHello::Welcome {
        version: VERSION_MAX,
        capabilities: Capabilities::H264,
        boot: [1; 16],
        software: Text::new("a recording"),
    };
    stream.write_all(&encoded(&welcome, 0))?;
    match hello.role {
        Role::CONTROL => control(&mut stream, &mut ear, &state),
        Role::MEDIA => {
            let (width, height) = SIZE;
            let format = VideoFormat { codec: Codec::H264, width, height };
            let start = GuestMedia::StreamStart { stream: StreamId::VIDEO, format };
            stream.write_all(&encoded(&start, 0))?;
            play(&mut Media { stream, state, number: 0, bytes: Vec::new() })
        }
        _ => Ok(()),
    }
}

fn control(stream: &mut UnixStream, ear: &mut Ear, state: &State) -> io::Result<()> {
    let (width, height) = SIZE;
    let card = Text::new("a recording");
    let scanout = Scanout { card, width, height, fourcc: 0x3432_5258, modifier: 0 };
    let display =
        GuestControl::Display { stream: StreamId::VIDEO, state: DisplayState::Lit(scanout) };
    stream.write_all(&encoded(&display, 0))?;
    while let Some(frame) = ear.frame()? {
        let received = clock();
        match wire::decode(&frame.message).map_err(io::Error::other)? {
            HostControl::Ping { id, sent: host_sent } => {
                let pong = GuestControl::Pong { id, host_sent, received, sent: clock() };
                stream.write_all(&encoded(&pong, 0))?;
            }
            HostControl::SetBitrate { bitrate, .. } => {
                state.bitrate.store(bitrate.0, Ordering::Relaxed);
            }
            HostControl::RequestIdr { .. } => state.idr.store(true, Ordering::Relaxed),
            _ => {}
        }
    }
    Ok(())
}

fn encoded<M: serde::Serialize>(message: &M, bulk: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode(message, bulk, &mut bytes);
    bytes
}

/// Now, by the clock of all these guests.
pub fn clock() -> GuestTime {
    GuestTime(BOOT.elapsed().as_nanos() as u64)
}

/// Nanoseconds since 1970, the clock in which the kernel stamps packets.
pub fn nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// What the relay says.
struct Ear {
    stream: UnixStream,
    decoder: Decoder,
}

impl Ear {
    fn frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.decoder.poll_frame().map_err(io::Error::other)? {
                return Ok(Some(frame));
            }
            match self.stream.read(self.decoder.space())? {
                0 => return Ok(None),
                count => self.decoder.advance(count),
            }
        }
    }
}

/// The way out for pictures.
pub struct Media {
    stream: UnixStream,
    state: Arc<State>,
    number: u64,
    bytes: Vec<u8>,
}

impl Media {
    /// Whether an IDR was wished for since the last call.
    pub fn take_idr_wish(&self) -> bool {
        self.state.idr.swap(false, Ordering::Relaxed)
    }

    /// The bitrate that the relay has wished for last.
    pub fn bitrate(&self) -> Option<BitRate> {
        let bitrate = self.state.bitrate.load(Ordering::Relaxed);
        (bitrate > 0).then_some(BitRate(bitrate))
    }

    /// Sends an access unit. Yields the time at which its last piece was handed to the system.
    ///
    /// # Errors
    ///
    /// The relay is gone, or the guest is to shut down.
    pub fn send(&mut self, idr: bool, unit: &[u8]) -> io::Result<u64> {
        if self.state.over.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let now = clock();
        let message = GuestMedia::AccessUnit {
            stream: StreamId::VIDEO,
            number: FrameNumber(self.number),
            idr,
            times: FrameTimes { seen: now, converted: now, encoded: now, sent: now },
            damage: 1,
        };
        self.number += 1;
        self.bytes.clear();
        wire::encode(&message, unit.len() as u32, &mut self.bytes);
        self.bytes.extend_from_slice(unit);
        write_pieces(&mut self.stream, &self.bytes)
    }
}

/// Writes in pieces; yields the time before the last.
pub fn write_pieces(stream: &mut UnixStream, bytes: &[u8]) -> io::Result<u64> {
    let last = bytes.len().saturating_sub(1) / PIECE * PIECE;
    for piece in bytes[..last].chunks(PIECE) {
        stream.write_all(piece)?;
    }
    let at = nanos();
    stream.write_all(&bytes[last..])?;
    Ok(at)
}

/// Plays a recording in a loop at its own pace, and goes to its next IDR where one is wished for.
pub fn looped(
    units: Arc<Vec<super::recording::Unit>>,
    rate: u32,
) -> impl Fn(&mut Media) -> io::Result<()> {
    move |media| {
        let (begun, mut at) = (Instant::now(), 0);
        for number in 0u32.. {
            let due = begun + Duration::from_secs(1) * number / rate;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if media.take_idr_wish() {
                at = (at..units.len()).find(|i| units[*i].idr).unwrap_or(0);
            }
            let unit = &units[at];
            media.send(unit.idr, &unit.bytes)?;
            at = (at + 1) % units.len();
        }
        Ok(())
    }
}

/// Access units whose last bytes tell their number: no pictures, but framed like some.
pub mod numbered {
    const MAGIC: [u8; 3] = [0xa5, 0x5a, 0xc3];
    const SETS: [u8; 17] =
        [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x33, 0xda, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80];

    /// A unit of this number, with `length` bytes in its slice.
    pub fn unit(number: u32, length: usize) -> Vec<u8> {
        [&[0, 0, 0, 1, 0x41][..], &slice(number, length)].concat()
    }

    /// The same as an IDR.
    pub fn idr(number: u32, length: usize) -> Vec<u8> {
        [&SETS[..], &[0, 0, 0, 1, 0x65], &slice(number, length)].concat()
    }

    /// The bytes of such a slice.
    pub fn slice(number: u32, length: usize) -> Vec<u8> {
        let mut slice = vec![0x55; length.saturating_sub(8)];
        slice.extend_from_slice(&MAGIC);
        slice.extend((0..5).map(|i| (number >> (7 * i)) as u8 | 0x80));
        slice
    }

    /// A NAL unit to put behind a real access unit: filler data, which decoders ignore.
    pub fn mark(number: u32) -> Vec<u8> {
        [&[0, 0, 0, 1, 0x0c][..], &slice(number, 0)].concat()
    }

    /// The number, if a packet is the last one of a unit.
    pub fn of_last(packet: &[u8]) -> Option<u32> {
        let (_, end) = packet.split_last_chunk::<8>()?;
        let (magic, digits) = end.split_first_chunk::<3>()?;
        let digit = |(i, byte): (usize, &u8)| u32::from(byte & 0x7f) << (7 * i);
        (*magic == MAGIC).then(|| digits.iter().enumerate().map(digit).sum())
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn a_number_is_read_from_the_end_alone() {
            for number in [0, 1, 127, 128, 65_536, (1 << 28) + 5] {
                let unit = super::unit(number, 3000);
                assert_eq!(super::of_last(&unit[2000..]), Some(number));
                assert_eq!(super::of_last(&unit[..2000]), None);
            }
        }
    }
}
