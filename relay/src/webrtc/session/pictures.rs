//! How pictures leave: paced, and no faster than the network carries them; and what the encoder is
//! asked for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use transom_protocol::BitRate;

use super::{End, MIN_BITRATE, Session, TINY};
use crate::{
    access::Role,
    feed::{Demand, Picture},
};

impl Session {
    pub(super) async fn picture(
        &mut self,
        now: Instant,
        picture: &Arc<Picture>,
    ) -> Result<(), End> {
        let cut = self.viewing.cutter.cut(picture);
        if picture.unit.idr {
            self.refresh.handle_idr(now);
        }
        let bits = picture.unit.data.len() as u64 * 8;
        // Half as much again as the estimate, so that it can grow.
        let takes = Duration::from_secs_f64(bits as f64 / (self.carries() as f64 * 1.5));
        self.carried = self.carried.max(now) + takes;
        self.pacer.start(now, cut.payloads.len());
        if self.times {
            self.say(&self.times_json(now, &cut)).await?;
        }
        self.tiny = cut.payloads.len() <= TINY;
        self.cut = Some(cut);
        self.wrote = Some(now);
        self.pace(now);
        self.peer.handle_timeout(now)?;
        let drained = self.drain(now).await;
        self.tiny = false;
        drained
    }

    /// Writes the packets that are due.
    pub(super) fn pace(&mut self, now: Instant) {
        if let Some(cut) = &self.cut {
            self.peer.write_packets(cut, self.pacer.poll(now));
            if self.pacer.is_done() {
                self.cut = None;
            }
        }
    }

    pub(super) fn demand(&mut self) {
        // A tenth is for retransmissions and headers.
        let bitrate = (self.carries() * 9 / 10).clamp(MIN_BITRATE, self.viewing.max_bitrate);
        // Rates differ all the time; the encoder need not be told of each.
        if let Some(seat) = &self.seat {
            let controls =
                self.viewing.desk.may_send(self.viewer) && self.viewing.role == Role::Control;
            if bitrate.abs_diff(self.demanded) > self.demanded / 10 {
                self.demanded = bitrate;
            }
            // No more than the configured most, which is a u32.
            let bitrate = Some(BitRate(self.demanded as u32));
            seat.demand(Demand { bitrate, controls });
        }
    }
}
