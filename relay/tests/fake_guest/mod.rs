//! A guest without a machine: a hybrid vsock socket with an agent behind it that says what a test
//! tells it to. Blocking and single-threaded, so that a test reads in the order of things.
#![allow(dead_code, reason = "every user needs another part of it")]

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use transom_protocol::{
    Capabilities, FrameNumber, GuestTime, PORT, Role, StreamId, VERSION_MAX,
    message::{
        Codec, DisplayState, FrameTimes, GuestControl, GuestHello, GuestMedia, HostControl,
        HostHello, Scanout, Text, VideoFormat,
    },
    wire::{self, Decoder, Frame, Limits},
};

/// Nothing here takes longer than milliseconds; a machine under load may need a while.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A folder that goes away with its test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "transom-relay-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The socket of a VM.
pub struct FakeGuest {
    listener: UnixListener,
    path: PathBuf,
    pub boot: [u8; 16],
}

impl FakeGuest {
    pub fn new(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        Self { listener, path: path.into(), boot: [1; 16] }
    }

    pub fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    /// Takes a connection as far as the CONNECT line.
    pub fn accept_raw(&self) -> UnixStream {
        let (mut stream, _) = self.listener.accept().expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket option");
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") {
            stream.read_exact(&mut byte).expect("a CONNECT line");
            line.push(byte[0]);
        }
        assert_eq!(line, format!("CONNECT {PORT}\n").as_bytes());
        stream
    }

    /// Takes a connection, answers the handshake and reads the hello.
    pub fn accept_hello(&self) -> (Peer, HostHello) {
        let mut stream = self.accept_raw();
        stream.write_all(b"OK 1073741824\n").expect("the relay reads");
        let mut peer =
            Peer { stream, decoder: Decoder::new(Limits::DIAGNOSTICS), born: Instant::now() };
        let hello = wire::decode_hello(&peer.frame().expect("a hello").message).expect("a hello");
        (peer, hello)
    }

    /// Takes a connection of the given role and welcomes it.
    pub fn accept(&self, role: Role) -> Peer {
        let (mut peer, hello) = self.accept_hello();
        assert_eq!(hello.role, role);
        self.welcome(&mut peer);
        peer
    }

    pub fn welcome(&self, peer: &mut Peer) {
        peer.send_hello(&GuestHello::Welcome {
            version: VERSION_MAX,
            capabilities: Capabilities::H264,
            boot: self.boot,
            software: Text::new("fake agent"),
        });
    }

    /// Takes both connections of a session and shows a picture of the given size.
    pub fn accept_session(&self, width: u32, height: u32) -> (Peer, Peer) {
        let mut control = self.accept(Role::CONTROL);
        control.send_lit(width, height);
        let mut media = self.accept(Role::MEDIA);
        media.send_start(width, height);
        (control, media)
    }
}

/// The agent's end of one connection.
pub struct Peer {
    pub stream: UnixStream,
    decoder: Decoder,
    born: Instant,
}

impl Peer {
    /// A clock with nothing in common with the host's.
    fn now(&self) -> GuestTime {
        GuestTime(5_000_000_000_000 + self.born.elapsed().as_nanos() as u64)
    }

    pub fn send_hello(&mut self, hello: &GuestHello) {
        let mut bytes = Vec::new();
        wire::encode(hello, 0, &mut bytes);
        self.stream.write_all(&bytes).expect("the relay reads");
    }

    pub fn send_control(&mut self, message: &GuestControl) {
        let mut bytes = Vec::new();
        wire::encode(message, 0, &mut bytes);
        self.stream.write_all(&bytes).expect("the relay reads");
    }

    pub fn send_lit(&mut self, width: u32, height: u32) {
        let card = Text::new("/dev/dri/card0 (fake)");
        let scanout = Scanout { card, width, height, fourcc: 0x3432_5258, modifier: 0 };
        let state = DisplayState::Lit(scanout);
        self.send_control(&GuestControl::Display { stream: StreamId::VIDEO, state });
    }

    pub fn send_media(&mut self, message: &GuestMedia, bulk: &[u8]) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        wire::encode(message, bulk.len() as u32, &mut bytes);
        bytes.extend_from_slice(bulk);
        self.stream.write_all(&bytes)
    }

    pub fn send_start(&mut self, width: u32, height: u32) {
        let format = VideoFormat { codec: Codec::H264, width, height };
        let start = GuestMedia::StreamStart { stream: StreamId::VIDEO, format };
        self.send_media(&start, &[]).expect("the relay reads");
    }

    pub fn send_unit(&mut self, number: u64, idr: bool, data: &[u8]) -> std::io::Result<()> {
        let now = self.now();
        let times = FrameTimes { seen: now, converted: now, encoded: now, sent: now };
        let (stream, number) = (StreamId::VIDEO, FrameNumber(number));
        self.send_media(&GuestMedia::AccessUnit { stream, number, idr, times, damage: 1 }, data)
    }

    /// The next frame; nothing when the relay has closed.
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.poll_frame().expect("the relay keeps to the limits") {
                return Some(frame);
            }
            match self.stream.read(self.decoder.space()).expect("the relay says something in time")
            {
                0 => return None,
                count => self.decoder.advance(count),
            }
        }
    }

    /// The next message that is no ping; pings are answered. Nothing when the relay has closed.
    pub fn request(&mut self) -> Option<HostControl> {
        loop {
            match wire::decode(&self.frame()?.message).expect("the relay sends what we know") {
                HostControl::Ping { id, sent } => {
                    let now = self.now();
                    let pong = GuestControl::Pong { id, host_sent: sent, received: now, sent: now };
                    // A relay that says goodbye does not wait for it.
                    let mut bytes = Vec::new();
                    wire::encode(&pong, 0, &mut bytes);
                    let _ = self.stream.write_all(&bytes);
                }
                other => return Some(other),
            }
        }
    }
}

/// An access unit of `length` bytes in its slice: no picture, but framed like one.
pub fn fake_unit(idr: bool, length: usize) -> Vec<u8> {
    let mut unit = Vec::new();
    if idr {
        unit.extend_from_slice(&[
            0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0xda, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80,
        ]);
    }
    unit.extend_from_slice(&[0, 0, 0, 1, if idr { 0x65 } else { 0x41 }]);
    unit.extend((0..length).map(|i| i as u8 | 1));
    unit
}
