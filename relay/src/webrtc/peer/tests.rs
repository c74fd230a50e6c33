//! A viewer on the other side, in the same process and with a clock of its own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use str0m::{
    change::SdpAnswer,
    media::{Direction, MediaKind},
};
use transom_protocol::{
    GuestTime,
    message::{FrameNumber, FrameTimes},
};

use super::*;
use crate::{
    feed::Picture,
    session::AccessUnit,
    webrtc::{certificate, packets::Cutter},
};

const STEP: Duration = Duration::from_millis(5);

struct Pair {
    now: Instant,
    peer: Peer,
    viewer: Rtc,
    at: SocketAddr,
    /// Numbers of the packets that the viewer got.
    got: Vec<u64>,
    told: Vec<Told>,
}

impl Pair {
    fn new() -> Self {
        let (now, local) = (Instant::now(), SocketAddr::from(([127, 0, 0, 1], 8889)));
        let at = SocketAddr::from(([127, 0, 0, 1], 5000));
        let mut config = Rtc::builder().clear_codecs().set_rtp_mode(true);
        config.codec_config().add_h264(96.into(), Some(97.into()), true, 0x42_c0_33);
        let mut viewer = config.build(now);
        viewer.add_local_candidate(Candidate::host(at, "udp").expect("an address"));
        let mut changes = viewer.sdp_api();
        changes.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        let (offer, pending) = changes.apply().expect("an offer");
        let certificate = certificate().expect("random numbers");
        let (peer, answer) =
            Peer::accept(&offer.to_sdp_string(), 0x42_c0_33, local, &certificate, now)
                .expect("an answer");
        let answer = SdpAnswer::from_sdp_string(&answer).expect("SDP");
        viewer.sdp_api().accept_answer(pending, answer).expect("it fits the offer");
        Self { now, peer, viewer, at, got: Vec::new(), told: Vec::new() }
    }

    /// Both sides' turn; yields what the peer sent.
    fn step(&mut self) -> Vec<Outgoing> {
        let (mut outgoing, mut told) = (Vec::new(), Vec::new());
        self.peer.handle_timeout(self.now).expect("alive");
        self.peer.poll(self.now, &mut outgoing, &mut told).expect("alive");
        self.told.append(&mut told);
        outgoing.iter().for_each(|out| self.deliver(out));
        self.viewer.handle_input(Input::Timeout(self.now)).expect("alive");
        self.listen();
        self.now += STEP;
        outgoing
    }

    fn deliver(&mut self, out: &Outgoing) {
        let receive = Receive {
            proto: Protocol::Udp,
            source: out.source,
            destination: out.destination,
            contents: out.bytes[..].try_into().expect("a datagram"),
        };
        self.viewer.handle_input(Input::Receive(self.now, receive)).expect("alive");
        self.listen();
    }

    fn listen(&mut self) {
        loop {
            match self.viewer.poll_output().expect("alive") {
                Output::Timeout(_) => return,
                Output::Transmit(sent) => {
                    let taken = self.peer.handle_datagram(self.now, self.at, &sent.contents);
                    assert!(taken.expect("alive"), "it is the viewer's");
                }
                Output::Event(Event::RtpPacket(packet)) if !packet.payload.is_empty() => {
                    self.got.push(*packet.seq_no);
                }
                Output::Event(_) => {}
            }
        }
    }

    fn join() -> Self {
        let mut pair = Self::new();
        for _ in 0..2000 {
            pair.step();
            if pair.told.contains(&Told::Connected) {
                return pair;
            }
        }
        panic!("not connected within ten seconds of their time");
    }
}

fn cut(length: usize) -> Arc<Cut> {
    let at = GuestTime(0);
    let data = [0, 0, 1, 0x65].into_iter().chain((0..length).map(|i| i as u8 | 3)).collect();
    let unit = AccessUnit {
        codec: transom_protocol::message::Codec::H264,
        number: FrameNumber(0),
        idr: true,
        times: FrameTimes { seen: at, converted: at, encoded: at, sent: at },
        damage: 0,
        data,
    };
    let picture = Picture { unit, taken: 0, received: Instant::now(), chroma: Chroma::Yuv420 };
    Cutter::new(0).cut(&Arc::new(picture))
}

#[test]
fn all_of_a_picture_leaves_in_one_turn() {
    let mut pair = Pair::join();
    let cut = cut(30_000);
    assert!(cut.payloads.len() > 20);
    pair.peer.write_packets(&cut, 0..cut.payloads.len());
    let sent = pair.step();
    let media = sent.iter().filter(|out| out.bytes.len() > 1000).count();
    assert!(media >= cut.payloads.len() - 1, "{media} of {}", cut.payloads.len());
    assert_eq!(pair.got.len(), cut.payloads.len());
    assert!(sent.iter().all(|out| !pair.peer.is_resent(&out.bytes)));
}

#[test]
fn a_packet_that_comes_twice_counts_once() {
    let mut pair = Pair::join();
    let cut = cut(3000);
    pair.peer.write_packets(&cut, 0..cut.payloads.len());
    let sent = pair.step();
    sent.iter().for_each(|out| pair.deliver(out));
    assert_eq!(pair.got.len(), cut.payloads.len());
}

#[test]
fn the_way_is_told_and_what_is_sent_again_is_known() {
    let mut pair = Pair::join();
    let cut = cut(30_000);
    let count = cut.payloads.len();
    let mut resent = 0;
    for round in 0..100 {
        pair.peer.write_packets(&cut, 0..count);
        let mut outgoing = Vec::new();
        pair.peer.handle_timeout(pair.now).expect("alive");
        pair.peer.poll(pair.now, &mut outgoing, &mut pair.told).expect("alive");
        resent += outgoing.iter().filter(|out| pair.peer.is_resent(&out.bytes)).count();
        for (i, out) in outgoing.iter().enumerate() {
            // One in ten is lost.
            if i % 10 != round % 10 {
                pair.deliver(out);
            }
        }
        pair.viewer.handle_input(Input::Timeout(pair.now)).expect("alive");
        pair.listen();
        pair.now += Duration::from_millis(16);
    }
    assert!(resent > 100, "{resent}");
    let ways = pair.told.iter().filter_map(|told| match told {
        Told::Way(loss, _) => Some(*loss),
        _ => None,
    });
    let most = ways.fold(0.0, f32::max);
    assert!((0.05..0.2).contains(&most), "{most}");
}
