//! The status channel: what the page is told of the guest, of who has control and of times, and what
//! it wishes. JSON both ways.

use std::time::{Duration, Instant};

use serde_json::json;
use transom_protocol::GuestTime;

use super::{End, Session};
use crate::{
    access::Role,
    feed::News,
    h264::HIGH_444,
    webrtc::{news_json, packets::Cut, peer::Channel, wall_ms},
};

impl Session {
    /// The channel is open: all that is known.
    pub(super) fn greet(&mut self) {
        self.status = true;
        let hello = json!({
            "type": "hello", "viewer": self.viewer.0, "guest": self.viewing.feed.name(),
            "role": self.viewing.role.to_string(),
        });
        self.write(&hello);
        let news = self.viewing.feed.news().borrow().clone();
        self.write(&news_json(&news));
        self.write_control();
    }

    /// A message of the page on the status channel.
    pub(super) fn wish(&mut self, message: &[u8]) {
        let Ok(message) = serde_json::from_slice::<serde_json::Value>(message) else { return };
        match message["type"].as_str() {
            Some("take") if self.viewing.role == Role::Control => {
                self.viewing.desk.take(self.viewer);
                self.demand();
            }
            Some("release") if self.viewing.role == Role::Control => {
                self.viewing.desk.leave(self.viewer);
                self.demand();
            }
            Some("times") => self.times = message["on"] == true,
            Some("ping") => {
                self.write(&json!({ "type": "pong", "ping": message["ping"], "at": wall_ms() }));
            }
            _ => {}
        }
    }

    pub(super) async fn news(&mut self, news: &News) -> Result<(), End> {
        // 4:4:4 comes only to those who take it, and what is not handed out does not matter.
        if let Some([idc, flags, _]) = news.sets.as_ref().and_then(|sets| sets.profile_level_id())
            && idc != HIGH_444
            && [idc, flags] != self.viewing.profile
        {
            return Err(End::Profile);
        }
        self.say(&news_json(news)).await
    }

    pub(super) async fn say_control(&mut self) -> Result<(), End> {
        self.demand();
        self.write_control();
        self.peer.handle_timeout(Instant::now())?;
        self.drain(Instant::now()).await
    }

    pub(super) fn write_control(&mut self) {
        let desk = &self.viewing.desk;
        let holder = *desk.watch().borrow();
        let state = if self.viewing.role != Role::Control {
            if holder.is_some() { "view-taken" } else { "view" }
        } else if desk.is_shared() {
            "shared"
        } else {
            match holder {
                Some(viewer) if viewer == self.viewer => "yours",
                Some(_) => "taken",
                None => "free",
            }
        };
        self.write(&json!({ "type": "control", "state": state }));
    }

    pub(super) async fn say(&mut self, message: &serde_json::Value) -> Result<(), End> {
        if !self.status {
            return Ok(());
        }
        self.write(message);
        let now = Instant::now();
        self.peer.handle_timeout(now)?;
        self.drain(now).await
    }

    pub(super) fn write(&mut self, message: &serde_json::Value) {
        // A full channel means that the page does not read: it loses figures, nothing else.
        if self.status {
            self.peer.write_message(Channel::Status, false, message.to_string().as_bytes());
        }
    }

    /// When a picture passed each stage, in milliseconds: `taken`, `received` and `sent` since 1970
    /// by this machine's clock, the others as long as they took in the guest.
    pub(super) fn times_json(&self, now: Instant, cut: &Cut) -> serde_json::Value {
        let (wall, picture) = (wall_ms(), cut.picture());
        let since_epoch = |at: Instant| millis(at.saturating_duration_since(self.viewing.epoch));
        let times = picture.unit.times;
        let step = |from: GuestTime, to: GuestTime| to.0.saturating_sub(from.0) as f64 / 1e6;
        json!({
            "type": "time", "rtp": cut.timestamp, "bytes": picture.unit.data.len(),
            "idr": picture.unit.idr, "sent": wall,
            "taken": wall - (since_epoch(now) - picture.taken as f64 / 1e6),
            "received": wall - millis(now.saturating_duration_since(picture.received)),
            "convert": step(times.seen, times.converted),
            "encode": step(times.converted, times.encoded),
            "queue": step(times.encoded, times.sent),
        })
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
