//! The packets of a picture, cut once and shared by all WebRTC sessions of a guest.
//!
//! In: pictures, as each session comes to them. Out: RTP payloads. What this refuses to do: cut a
//! picture again for the next session.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    feed::Picture,
    rtp::{HEADER, Packetizer},
};

/// Longest RTP packet before encryption and header extensions: with 28 bytes of those, 16 of
/// SRTP's tag and 28 of UDP and IPv4 it stays below the 1280 bytes that every IPv6 path carries.
const MAX_PACKET: usize = HEADER + 1140;

/// Pictures that are remembered: as many as may wait for a session, and the one under way.
const REMEMBERED: usize = 4;

/// One picture in packets.
#[derive(Debug)]
pub struct Cut {
    picture: Arc<Picture>,
    /// RTP time, 90 kHz.
    pub timestamp: u32,
    /// Payloads, in order; the last one has the marker.
    pub payloads: Vec<Arc<[u8]>>,
}

impl Cut {
    /// What was cut.
    pub fn picture(&self) -> &Picture {
        &self.picture
    }
}

/// Cuts a guest's pictures.
#[derive(Debug)]
pub struct Cutter(Mutex<State>);

#[derive(Debug)]
struct State {
    packetizer: Packetizer,
    last: Vec<Arc<Cut>>,
}

impl Cutter {
    /// RTP times begin anywhere, as RFC 3550 asks for.
    pub fn new(base: u32) -> Self {
        let packetizer = Packetizer::new(0, 0, base, MAX_PACKET);
        Self(Mutex::new(State { packetizer, last: Vec::new() }))
    }

    /// The packets of a picture.
    pub fn cut(&self, picture: &Arc<Picture>) -> Arc<Cut> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cut) = state.last.iter().find(|cut| Arc::ptr_eq(&cut.picture, picture)) {
            return Arc::clone(cut);
        }
        let packets =
            state.packetizer.packetize(picture.unit.codec, &picture.unit.data, picture.taken);
        let timestamp = packets.iter().next().and_then(|packet| packet[4..8].try_into().ok());
        let cut = Arc::new(Cut {
            picture: Arc::clone(picture),
            timestamp: timestamp.map_or(0, u32::from_be_bytes),
            payloads: packets.iter().map(|packet| packet[HEADER..].into()).collect(),
        });
        if state.last.len() == REMEMBERED {
            state.last.remove(0);
        }
        state.last.push(Arc::clone(&cut));
        cut
    }
}
