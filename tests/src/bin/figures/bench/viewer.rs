//! WebRTC viewers without a screen: str0m on the other side, a thread and a socket each. They decrypt
//! what comes, send the reports that a browser sends, and decode nothing.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpPacket;
use str0m::{Candidate, Event, Input, Output, Rtc};

/// Receive buffer to ask for, as browsers have it.
const BUFFER: usize = 1 << 20;
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// What came in, over all viewers.
#[derive(Clone, Copy)]
pub struct Counts {
    /// Viewers that have seen a whole picture.
    pub watching: u64,
    /// Packets with media in them.
    pub packets: u64,
    /// Bytes of media.
    pub bytes: u64,
    /// Ends of pictures.
    pub pictures: u64,
    /// Gaps in sequence numbers that nothing closed.
    pub lost: u64,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    watching: AtomicU64,
    packets: AtomicU64,
    bytes: AtomicU64,
    pictures: AtomicU64,
    expected: AtomicU64,
}

/// Viewers that watch; dropped means gone.
#[derive(Default)]
pub struct Viewers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// One that is about to join.
pub struct Viewer {
    rtc: Rtc,
    socket: UdpSocket,
    address: SocketAddr,
    pending: Option<SdpPendingOffer>,
}

impl Viewer {
    fn new(ip: Ipv4Addr) -> Result<Self> {
        let socket = UdpSocket::bind((ip, 0))?;
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &BUFFER)?;
        let address = socket.local_addr()?;
        let mut config = Rtc::builder().clear_codecs().set_rtp_mode(true);
        // At a level for any size.
        for (pt, profile) in [(96, 0x42_c0_33), (98, 0x42_e0_33), (100, 0x42_00_33)] {
            config.codec_config().add_h264(pt.into(), Some((pt + 1).into()), true, profile);
        }
        let mut rtc = config.build(Instant::now());
        rtc.add_local_candidate(Candidate::host(address, "udp")?);
        Ok(Self { rtc, socket, address, pending: None })
    }

    /// One that offers; its offer.
    pub fn offer() -> Result<(Self, String)> {
        let mut viewer = Self::new(Ipv4Addr::LOCALHOST)?;
        let mut changes = viewer.rtc.sdp_api();
        changes.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        let (offer, pending) = changes.apply().context("an offer of nothing")?;
        viewer.pending = Some(pending);
        Ok((viewer, offer.to_sdp_string()))
    }

    /// Where it receives.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the answer.
    pub fn answered(mut self, answer: &str) -> Result<Self> {
        let pending = self.pending.take().context("nothing was offered")?;
        self.rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(answer)?)?;
        Ok(self)
    }

    /// One at this address that answers; its answer.
    pub fn answer(offer: &str, ip: Ipv4Addr) -> Result<(Self, String)> {
        let mut viewer = Self::new(ip)?;
        let answer = viewer.rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(offer)?)?;
        Ok((viewer, answer.to_sdp_string()))
    }
}

impl Viewers {
    /// Has one watch; `see` is called with each packet of media.
    pub fn add(&mut self, viewer: Viewer, see: impl FnMut(&RtpPacket) + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        self.threads.push(std::thread::spawn(move || {
            if let Err(error) = watch(viewer, &shared, see) {
                eprintln!("a viewer is gone: {error:#}");
            }
        }));
    }

    /// What came in so far.
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        let packets = shared.packets.load(Relaxed);
        Counts {
            watching: shared.watching.load(Relaxed),
            packets,
            bytes: shared.bytes.load(Relaxed),
            pictures: shared.pictures.load(Relaxed),
            lost: shared.expected.load(Relaxed).saturating_sub(packets),
        }
    }

    /// Waits until each of them has seen something.
    pub fn wait(&self) -> Result<()> {
        super::wait("a picture for every viewer", || {
            Ok(self.counts().watching == self.threads.len() as u64)
        })
    }
}

impl Drop for Viewers {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn watch(viewer: Viewer, shared: &Shared, mut see: impl FnMut(&RtpPacket)) -> Result<()> {
    let Viewer { mut rtc, socket, address, .. } = viewer;
    let mut buffer = vec![0; 2048];
    let (mut highest, mut watching) = (None, false);
    while !shared.over.load(Relaxed) && rtc.is_alive() {
        let due = match rtc.poll_output()? {
            Output::Timeout(due) => due,
            Output::Transmit(transmit) => {
                // What does not leave is lost, as on any way.
                let _ = socket.send_to(&transmit.contents, transmit.destination);
                continue;
            }
            Output::Event(Event::RtpPacket(packet)) => {
                // An empty one only fills the way, to try how wide it is.
                if packet.payload.is_empty() {
                    continue;
                }
                let number = *packet.seq_no;
                let before = highest.unwrap_or(number - 1);
                highest = Some(before.max(number));
                shared.expected.fetch_add(number.saturating_sub(before), Relaxed);
                shared.packets.fetch_add(1, Relaxed);
                shared.bytes.fetch_add(packet.payload.len() as u64, Relaxed);
                if packet.header.marker {
                    shared.pictures.fetch_add(1, Relaxed);
                    if !std::mem::replace(&mut watching, true) {
                        shared.watching.fetch_add(1, Relaxed);
                    }
                }
                see(&packet);
                continue;
            }
            Output::Event(_) => continue,
        };
        let patience = due.saturating_duration_since(Instant::now()).min(LONGEST_WAIT);
        if patience.is_zero() {
            rtc.handle_input(Input::Timeout(Instant::now()))?;
            continue;
        }
        socket.set_read_timeout(Some(patience))?;
        let now = match socket.recv_from(&mut buffer) {
            Ok((length, source)) => {
                let now = Instant::now();
                if let Ok(contents) = buffer[..length].try_into() {
                    let receive =
                        Receive { proto: Protocol::Udp, source, destination: address, contents };
                    rtc.handle_input(Input::Receive(now, receive))?;
                }
                now
            }
            Err(_) => Instant::now(),
        };
        rtc.handle_input(Input::Timeout(now))?;
    }
    Ok(())
}
