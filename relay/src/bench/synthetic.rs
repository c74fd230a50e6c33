//! A guest without a machine: an agent at the other end of a loopback connection that sends frames of
//! nothing at an even pace. Its clock is this process's.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use transom_protocol::{
    Capabilities, FrameNumber, GuestTime, Role, StreamId, VERSION_MAX,
    message::{
        Codec, DisplayState, FrameTimes, GuestControl, GuestHello, GuestMedia, HostControl,
        HostHello, Scanout, Text, VideoFormat,
    },
    wire::{self, Decoder, Frame, Limits},
};

use super::BenchError;

/// As the agent writes.
const PIECE: usize = 16 * 1024;
/// SPS and PPS of 1920x1080.
const SETS: [u8; 17] =
    [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x33, 0xda, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80];
const IDR: u8 = 0x65;
const SLICE: u8 = 0x41;
/// Longest word before an answer to the handshake.
const MAX_LINE: usize = 64;

/// What is sent, and who is told when.
#[derive(Debug, Clone, Copy)]
pub struct Frames {
    /// Bytes of each.
    pub length: usize,
    /// Each second.
    pub rate: u32,
}

/// The guest; dropped means shut down.
#[derive(Debug)]
pub struct Synthetic {
    address: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Synthetic {
    /// Listens, and calls `sent` with a frame's number and the time just before its last piece was
    /// handed to the system.
    pub fn start(
        frames: Frames,
        sent: impl Fn(u32, Instant) + Send + Sync + 'static,
    ) -> Result<Self, BenchError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.map_err(BenchError::system("cannot listen on loopback"))?;
        let address = listener.local_addr().map_err(BenchError::system("no address"))?;
        let over = Arc::<AtomicBool>::default();
        let (ends, sent) = (Arc::clone(&over), Arc::new(sent));
        std::thread::spawn(move || {
            let epoch = Instant::now();
            for stream in listener.incoming().map_while(Result::ok) {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let (ends, sent) = (Arc::clone(&ends), Arc::clone(&sent));
                // Each ends when its relay goes.
                std::thread::spawn(move || {
                    let _ = stream.set_nodelay(true);
                    serve(stream, epoch, frames, &ends, &*sent)
                });
            }
        });
        Ok(Self { address, over })
    }

    /// For a relay.
    pub fn guest(&self) -> String {
        format!("tcp:{}", self.address)
    }
}

impl Drop for Synthetic {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the one who accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    mut stream: TcpStream,
    epoch: Instant,
    frames: Frames,
    over: &AtomicBool,
    sent: &(dyn Fn(u32, Instant) + Sync),
) -> io::Result<()> {
    let (mut byte, mut read) = ([0], 0);
    while byte != *b"\n" && read < MAX_LINE {
        stream.read_exact(&mut byte)?;
        read += 1;
    }
    stream.write_all(b"OK 1073741824\n")?;
    let mut decoder = Decoder::new(Limits::MESSAGES);
    let Some(hello) = frame(&mut stream, &mut decoder)? else { return Ok(()) };
    let hello: HostHello = wire::decode_hello(&hello.message).map_err(io::Error::other)?;
    let welcome = GuestHello::Welcome {
        version: VERSION_MAX,
        capabilities: Capabilities::H264,
        boot: [1; 16],
        software: Text::new("transom bench"),
    };
    stream.write_all(&encoded(&welcome))?;
    let clock = || GuestTime(epoch.elapsed().as_nanos() as u64);
    match hello.role {
        Role::CONTROL => {
            let card = Text::new("none");
            let scanout =
                Scanout { card, width: 1920, height: 1080, fourcc: 0x3432_5258, modifier: 0 };
            let state = DisplayState::Lit(scanout);
            let display = GuestControl::Display { stream: StreamId::VIDEO, state };
            stream.write_all(&encoded(&display))?;
            while let Some(asked) = frame(&mut stream, &mut decoder)? {
                let received = clock();
                if let Ok(HostControl::Ping { id, sent }) = wire::decode(&asked.message) {
                    let pong = GuestControl::Pong { id, host_sent: sent, received, sent: clock() };
                    stream.write_all(&encoded(&pong))?;
                }
            }
            Ok(())
        }
        Role::MEDIA => {
            let format = VideoFormat { codec: Codec::H264, width: 1920, height: 1080 };
            stream.write_all(&encoded(&GuestMedia::StreamStart {
                stream: StreamId::VIDEO,
                format,
            }))?;
            play(&mut stream, clock, frames, over, sent)
        }
        _ => Ok(()),
    }
}

fn play(
    stream: &mut TcpStream,
    clock: impl Fn() -> GuestTime,
    frames: Frames,
    over: &AtomicBool,
    sent: &(dyn Fn(u32, Instant) + Sync),
) -> io::Result<()> {
    let begun = Instant::now();
    let mut bytes = Vec::new();
    for number in 0u32.. {
        let due = begun + Duration::from_secs(1) * number / frames.rate;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if over.load(Ordering::Relaxed) {
            return Ok(());
        }
        // One to begin at in each second.
        let idr = number % frames.rate == 0;
        let unit = unit(number, frames.length, idr);
        let now = clock();
        let times = FrameTimes { seen: now, converted: now, encoded: now, sent: now };
        let (stream_id, frame) = (StreamId::VIDEO, FrameNumber(number.into()));
        bytes.clear();
        let message =
            GuestMedia::AccessUnit { stream: stream_id, number: frame, idr, times, damage: 1 };
        wire::encode(&message, unit.len() as u32, &mut bytes);
        bytes.extend_from_slice(&unit);
        let last = bytes.len().saturating_sub(1) / PIECE * PIECE;
        for piece in bytes[..last].chunks(PIECE) {
            stream.write_all(piece)?;
        }
        sent(number, Instant::now());
        stream.write_all(&bytes[last..])?;
    }
    Ok(())
}

/// An access unit of this number: no picture, but framed like one. Its last bytes tell the number.
pub fn unit(number: u32, length: usize, idr: bool) -> Vec<u8> {
    let mut unit = if idr { SETS.to_vec() } else { Vec::new() };
    unit.extend_from_slice(&[0, 0, 0, 1, if idr { IDR } else { SLICE }]);
    unit.resize(length.max(unit.len() + MARK) - MARK, 0x55);
    unit.extend_from_slice(&MAGIC);
    // Seven bits each and never zero, so that nothing looks like a start code.
    unit.extend((0..5).map(|i| (number >> (7 * i)) as u8 | 0x80));
    unit
}

const MAGIC: [u8; 3] = [0xa5, 0x5a, 0xc3];
const MARK: usize = MAGIC.len() + 5;

/// The number, if a packet is the last one of a unit.
pub fn number(packet: &[u8]) -> Option<u32> {
    let (_, end) = packet.split_last_chunk::<MARK>()?;
    let (magic, digits) = end.split_first_chunk::<3>()?;
    let digit = |(i, byte): (usize, &u8)| u32::from(byte & 0x7f) << (7 * i);
    (*magic == MAGIC).then(|| digits.iter().enumerate().map(digit).sum())
}

fn encoded<M: serde::Serialize>(message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode(message, 0, &mut bytes);
    bytes
}

fn frame(stream: &mut TcpStream, decoder: &mut Decoder) -> io::Result<Option<Frame>> {
    loop {
        if let Some(frame) = decoder.poll_frame().map_err(io::Error::other)? {
            return Ok(Some(frame));
        }
        match stream.read(decoder.space())? {
            0 => return Ok(None),
            count => decoder.advance(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_tells_its_number_with_its_last_bytes_alone() {
        for wanted in [0, 1, 127, 128, 1 << 20, u32::MAX >> 1] {
            for idr in [true, false] {
                let unit = unit(wanted, 3000, idr);
                assert_eq!(unit.len(), 3000);
                assert_eq!(number(&unit[2500..]), Some(wanted));
                assert_eq!(number(&unit[..2500]), None);
            }
        }
        assert_eq!(number(&unit(7, 0, false)), Some(7), "however short");
    }
}
