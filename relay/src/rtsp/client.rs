//! A client's socket, and what is sent through it: the answers of its [`Connection`], and pictures
//! if it wants them over TCP.
//!
//! A picture is taken from the feed only when the one before has left, so that nothing queues up
//! here: a client that does not keep up misses pictures up to the next IDR, by the rules of the
//! feed, and nobody else notices. Its stream has sequence numbers of its own, without gaps.

use std::{
    future::pending,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    net::TcpStream,
    sync::watch,
    time::{sleep_until, timeout},
};

use super::{
    Server,
    connection::{Connection, Door, Ending, Output},
    stream::{IDR_INTERVAL, Membership, Place, REPORT_INTERVAL, Repeats, sender_report},
    transport::Transport,
};
use crate::{
    feed::{Feed, News, Picture, Seat, ViewerId, codec::Decodes, colour::Takes},
    rtcp::{self, Feedback},
    rtp::Packetizer,
    sets::ParameterSets,
};

/// Read in one go.
const READ: usize = 4096;

/// A client that sends requests and reads no answers is not read from any more.
const MAX_ANSWERS: usize = 64 * 1024;

/// How long the last words may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Kept in the socket for a client that does not keep up. More would be older than what could be
/// shown instead: a second of it at 2 Mb/s.
const SEND_BUFFER: usize = 256 * 1024;

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    server: Arc<Server>,
    socket: TcpStream,
    peer: SocketAddr,
    connection: Connection,
    media: Option<Media>,
    /// Whose stream that is.
    plays: Option<Feed>,
    /// Bytes on their way, and how many of them have left.
    out: Vec<u8>,
    left: usize,
    playing: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Media {
    Udp(Membership),
    Tcp(Box<Interleaved>),
}

/// A stream inside the connection.
#[derive(Debug)]
struct Interleaved {
    seat: Seat,
    packetizer: Packetizer,
    rtp: u8,
    rtcp: u8,
    next_report: Instant,
    may_ask: Instant,
    repeats: Repeats,
    /// Pictures missed when it last asked for an IDR because of that.
    skipped: u64,
}

impl Client {
    pub(super) fn new(
        server: Arc<Server>,
        socket: TcpStream,
        peer: SocketAddr,
        playing: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let options = socket2::SockRef::from(&socket);
        options.set_send_buffer_size(SEND_BUFFER)?;
        let local = socket.local_addr()?.ip().to_canonical();
        let id = getrandom::u64().map_err(io::Error::other)?;
        let door = if server.is_locked_for(peer.ip().to_canonical(), local) {
            Door::Locked {
                nonce: format!(
                    "{:032x}",
                    u128::from(getrandom::u64().map_err(io::Error::other)?) << 64 | u128::from(id)
                ),
            }
        } else {
            Door::Open
        };
        let connection = Connection::new(id, local, door, Instant::now());
        let (media, out) = (None, Vec::new());
        let plays = None;
        Ok(Self { server, socket, peer, connection, media, plays, out, left: 0, playing })
    }

    /// Serves until either side has had enough.
    pub(super) async fn run(mut self) {
        let ending = self.serve().await;
        match ending {
            Ok(Some(Ending::Malformed(e))) => log::info!("{}: RTSP: {e}", self.peer),
            Ok(Some(ending)) => log::info!("{}: RTSP ends: {ending}", self.peer),
            Ok(None) => log::debug!("{}: RTSP client is gone", self.peer),
            Err(e) => log::debug!("{}: RTSP client is gone: {e}", self.peer),
        }
        self.media = None;
        let words = async { while self.left < self.out.len() && self.write().await.is_ok() {} };
        let _ = timeout(LAST_WORDS, words).await;
    }

    async fn serve(&mut self) -> io::Result<Option<Ending>> {
        loop {
            let now = Instant::now();
            let (mut news, wake) = loop {
                match self.connection.poll_output(now, &*self.server) {
                    Output::Send(bytes) => self.out.extend_from_slice(&bytes),
                    Output::Play { guest, transport } => {
                        let played = self.play(&guest, transport);
                        self.connection.handle_played(played);
                    }
                    Output::Stop => self.set_media(None),
                    Output::Feedback(packet) => self.handle_feedback(now, &packet),
                    Output::Wait { guest, until } => break (self.server.news(&guest), until),
                    Output::Timeout(until) => break (None, until),
                    Output::Close(ending) => return Ok(Some(ending)),
                }
            };
            if let Some(feed) = &self.plays {
                // Told first and looked at then: no change is missed.
                let told = feed.news();
                let codec = told.borrow().sets.as_ref().map(ParameterSets::codec);
                if codec.zip(self.connection.described()).is_some_and(|(is, was)| is != was) {
                    return Ok(Some(Ending::Codec));
                }
                news.get_or_insert(told);
            }
            self.report(now);
            let wake = self.media_timeout(now).map_or(wake, |report| report.min(wake));
            let (idle, hears) = (self.out.is_empty(), self.connection.has_room());
            tokio::select! {
                biased;
                written = self.socket.writable(), if !idle => {
                    written?;
                    self.write_some()?;
                }
                readable = self.socket.readable(), if hears && self.out.len() < MAX_ANSWERS => {
                    readable?;
                    if !self.read_some()? {
                        return Ok(None);
                    }
                }
                event = next_event(&mut self.media, idle) => match event {
                    Event::Picture(picture) => self.send_picture(&picture),
                    Event::Sign => self.connection.handle_sign(Instant::now()),
                    Event::End => return Ok(None),
                },
                () = change(&mut news) => {}
                () = sleep_until(wake.into()) => {}
            }
        }
    }

    fn play(&mut self, guest: &str, transport: Transport) -> Result<(), String> {
        let stream = self.server.stream(guest).ok_or("this guest is gone")?;
        let feed = stream.feed().clone();
        let media = match transport {
            Transport::Udp { rtp, rtcp } => {
                let at = |port| SocketAddr::new(self.peer.ip(), port);
                let local = self.server.local_for(&self.socket);
                let place = Place { rtp: at(rtp), rtcp: at(rtcp), local };
                Media::Udp(stream.join(place).map_err(|full| full.to_string())?)
            }
            Transport::Tcp { rtp, rtcp } => {
                let packetizer = self.server.packetizer().map_err(|e| e.to_string())?;
                let now = Instant::now();
                let seat = feed.watch_with(ViewerId::next(), Takes::Untold, Decodes::Described);
                let seat = seat.map_err(|e| e.to_string())?;
                Media::Tcp(Box::new(Interleaved {
                    seat,
                    packetizer,
                    rtp,
                    rtcp,
                    next_report: now,
                    may_ask: now + IDR_INTERVAL,
                    repeats: Repeats::new(now),
                    skipped: 0,
                }))
            }
        };
        let way = if matches!(media, Media::Udp(_)) { "UDP" } else { "TCP" };
        log::info!("{}: plays {guest} by RTSP over {way}", self.peer);
        self.set_media(Some(media));
        self.plays = Some(feed);
        Ok(())
    }

    fn set_media(&mut self, media: Option<Media>) {
        self.playing.store(media.is_some(), Ordering::Relaxed);
        if media.is_none() {
            self.plays = None;
        }
        self.media = media;
    }

    fn handle_feedback(&mut self, now: Instant, packet: &[u8]) {
        if let Some(Media::Tcp(tcp)) = &mut self.media
            && rtcp::feedback(packet, tcp.packetizer.ssrc()).any(|f| f == Feedback::NeedsIdr)
            && tcp.may_ask <= now
        {
            tcp.may_ask = now + IDR_INTERVAL;
            tcp.seat.request_idr();
        }
    }

    fn send_picture(&mut self, picture: &Picture) {
        let Some(Media::Tcp(tcp)) = &mut self.media else { return };
        let packets =
            tcp.packetizer.packetize(picture.unit.codec, &picture.unit.data, picture.taken);
        packets.iter().for_each(|packet| frame(&mut self.out, tcp.rtp, packet));
    }

    /// Reports if it is time, and asks for an IDR if this client began a while ago, or fell behind
    /// and has caught up: on a screen at rest no picture would come by to tell it from.
    fn report(&mut self, now: Instant) {
        let Some(Media::Tcp(tcp)) = &mut self.media else { return };
        if !self.out.is_empty() {
            return;
        }
        if tcp.repeats.is_due(now) {
            tcp.seat.request_idr();
        }
        if tcp.seat.skipped() != tcp.skipped && tcp.may_ask <= now {
            tcp.skipped = tcp.seat.skipped();
            tcp.may_ask = now + IDR_INTERVAL;
            tcp.seat.request_idr();
        }
        if tcp.packetizer.sent().0 > 0 && tcp.next_report <= now {
            tcp.next_report = now + REPORT_INTERVAL;
            let report = sender_report(&tcp.packetizer, &self.server.cname, self.server.epoch);
            frame(&mut self.out, tcp.rtcp, &report.encode(false));
        }
    }

    fn media_timeout(&self, now: Instant) -> Option<Instant> {
        match &self.media {
            // What is on its way wakes us by leaving.
            Some(Media::Tcp(tcp)) if self.out.is_empty() => {
                Some(tcp.next_report.max(now + REPORT_INTERVAL / 2))
            }
            _ => None,
        }
    }

    fn read_some(&mut self) -> io::Result<bool> {
        let mut buffer = [0; READ];
        match self.socket.try_read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.connection.handle_bytes(&buffer[..count]);
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(e) => Err(e),
        }
    }

    fn write_some(&mut self) -> io::Result<()> {
        match self.socket.try_write(&self.out[self.left..]) {
            Ok(count) => self.left += count,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
        if self.left == self.out.len() {
            self.out.clear();
            self.left = 0;
            if matches!(self.media, Some(Media::Tcp(_))) {
                // It takes what it is sent: as good as a word.
                self.connection.handle_sign(Instant::now());
            }
        }
        Ok(())
    }

    async fn write(&mut self) -> io::Result<()> {
        self.socket.writable().await?;
        self.write_some()
    }
}

/// RFC 2326, 10.12.
fn frame(out: &mut Vec<u8>, channel: u8, packet: &[u8]) {
    // No packet is longer than the command line allows, 8900 bytes.
    let [high, low] = (packet.len() as u16).to_be_bytes();
    out.extend_from_slice(&[b'$', channel, high, low]);
    out.extend_from_slice(packet);
}

/// What happens to the media of a client.
enum Event {
    /// A picture is there to be sent.
    Picture(Arc<Picture>),
    /// RTCP has come.
    Sign,
    /// The relay ends.
    End,
}

async fn next_event(media: &mut Option<Media>, idle: bool) -> Event {
    match media {
        Some(Media::Tcp(tcp)) if idle => tcp.seat.next().await.map_or(Event::End, Event::Picture),
        Some(Media::Udp(membership)) => {
            membership.sign().await;
            Event::Sign
        }
        _ => pending().await,
    }
}

async fn change(news: &mut Option<watch::Receiver<News>>) {
    match news {
        Some(news) => {
            // An error means that the guest is gone, which shows at the next look.
            let _ = news.changed().await;
        }
        None => pending().await,
    }
}
