//! Who is served: admits connections and turns control messages into orders. No input or output.
//!
//! One session at a time, made of a connection each for control, media and input. A newer session
//! replaces an older one: after a relay was killed, its successor must not wait for the guest to
//! notice, and a relay that is told [`Farewell::Replaced`] stays away.

use transom_protocol::diagnostics;
use transom_protocol::message::{
    Capabilities, Chroma, Codec, GuestControl, GuestHello, HostControl, HostHello, MAGIC, Refusal,
    Text,
};
use transom_protocol::wire::{self, WireError};
use transom_protocol::{GuestTime, Role, SessionId, StreamId, VERSION_MAX, VERSION_MIN};

use crate::encode::Tuning;

/// Names one accepted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionId(pub u64);

/// What a hello leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The answer to send.
    pub answer: GuestHello,
    /// What the connection is for; `None`: close it behind the answer.
    pub role: Option<Role>,
    /// Connections that this one replaces: say goodbye and close them.
    pub replaced: Vec<ConnectionId>,
}

/// What a control message asks of the stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The next frame has to be an IDR.
    Idr,
    /// Somebody shall be able to join, by an IDR or by a recovery point.
    Join,
    /// New targets for the encoder.
    Tune(Tuning),
    /// Viewers take so much colour.
    Colour(Chroma),
    /// Viewers take this codec.
    Codec(Codec),
}

/// What a control message leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Send this.
    Reply(GuestControl),
    /// Do this.
    Order(Order),
    /// Nothing.
    Ignored,
    /// The host is leaving.
    Close,
}

#[derive(Debug)]
struct Current {
    id: SessionId,
    control: ConnectionId,
    media: Option<ConnectionId>,
    input: Option<ConnectionId>,
}

/// The session table, such as it is.
#[derive(Debug)]
pub struct Sessions {
    boot: [u8; 16],
    capabilities: Capabilities,
    current: Option<Current>,
    tuning: Tuning,
    /// Open diagnostic connections.
    diagnostics: Vec<ConnectionId>,
}

impl Sessions {
    /// No session yet. `tuning` is what each new session starts with.
    pub fn new(boot: [u8; 16], tuning: Tuning) -> Self {
        let capabilities = Capabilities::H264
            .with(Capabilities::DIAGNOSTICS)
            .with(Capabilities::YUV444)
            .with(Capabilities::REFRESH)
            .with(Capabilities::HEVC);
        Self { boot, capabilities, current: None, tuning, diagnostics: Vec::new() }
    }

    /// Tells later hosts of a further ability.
    pub fn offer(&mut self, capability: Capabilities) {
        self.capabilities = self.capabilities.with(capability);
    }

    /// Whether a control connection is open.
    pub fn is_controlled_by(&self, connection: ConnectionId) -> bool {
        self.current.as_ref().is_some_and(|current| current.control == connection)
    }

    /// Whether this is the current media connection.
    pub fn is_media(&self, connection: ConnectionId) -> bool {
        self.current.as_ref().is_some_and(|current| current.media == Some(connection))
    }

    /// The first message of a connection.
    pub fn admit(&mut self, connection: ConnectionId, hello: &[u8]) -> Admission {
        match self.try_admit(connection, hello) {
            Ok((version, role, replaced)) => {
                let answer = GuestHello::Welcome {
                    version,
                    capabilities: self.capabilities,
                    boot: self.boot,
                    software: Text::new(concat!("transom-agent ", env!("CARGO_PKG_VERSION"))),
                };
                Admission { answer, role: Some(role), replaced }
            }
            Err(refusal) => {
                Admission { answer: GuestHello::Refused(refusal), role: None, replaced: Vec::new() }
            }
        }
    }

    fn try_admit(
        &mut self,
        connection: ConnectionId,
        hello: &[u8],
    ) -> Result<(u16, Role, Vec<ConnectionId>), Refusal> {
        let hello: HostHello = wire::decode_hello(hello).map_err(|_| Refusal::Malformed)?;
        if hello.magic != MAGIC {
            return Err(Refusal::Malformed);
        }
        let version = hello.version_max.min(VERSION_MAX);
        if version < hello.version_min.max(VERSION_MIN) {
            return Err(Refusal::Version { min: VERSION_MIN, max: VERSION_MAX });
        }
        let replaced = match hello.role {
            Role::CONTROL => {
                let id = hello.session;
                let new = Current { id, control: connection, media: None, input: None };
                let old = self.current.replace(new);
                old.map(|old| {
                    [Some(old.control), old.media, old.input].into_iter().flatten().collect()
                })
            }
            Role::MEDIA => match &mut self.current {
                Some(current) if current.id == hello.session => {
                    current.media.replace(connection).map(|old| vec![old])
                }
                _ => return Err(Refusal::Session),
            },
            Role::INPUT => match &mut self.current {
                Some(current) if current.id == hello.session => {
                    current.input.replace(connection).map(|old| vec![old])
                }
                _ => return Err(Refusal::Session),
            },
            // Of any session, or of none: a guest can be looked into whoever watches it.
            Role::DIAGNOSTICS if self.diagnostics.len() < diagnostics::MAX_CONNECTIONS => {
                self.diagnostics.push(connection);
                None
            }
            Role::DIAGNOSTICS => return Err(Refusal::Busy),
            role => return Err(Refusal::Role(role)),
        };
        Ok((version, hello.role, replaced.unwrap_or_default()))
    }

    /// A message on the control connection, read at `received`. The time in a pong's `sent` is
    /// for the caller to fill in as late as it can.
    ///
    /// # Errors
    ///
    /// Bytes that are no message at all: close the connection.
    pub fn handle_control(
        &mut self,
        message: &[u8],
        received: GuestTime,
    ) -> Result<Outcome, WireError> {
        let message = match wire::decode::<HostControl>(message) {
            Ok(message) => message,
            Err(WireError::UnknownKind { kind }) => {
                return Ok(Outcome::Reply(GuestControl::Unsupported { kind }));
            }
            Err(error) => return Err(error),
        };
        Ok(match message {
            HostControl::Ping { id, sent } => {
                Outcome::Reply(GuestControl::Pong { id, host_sent: sent, received, sent: received })
            }
            HostControl::RequestIdr { stream: StreamId::VIDEO } => Outcome::Order(Order::Idr),
            HostControl::RequestRefresh { stream: StreamId::VIDEO } => Outcome::Order(Order::Join),
            HostControl::SetBitrate { stream: StreamId::VIDEO, bitrate } => {
                self.tuning.bitrate = bitrate;
                Outcome::Order(Order::Tune(self.tuning))
            }
            HostControl::SetFrameRate { stream: StreamId::VIDEO, fps } => {
                self.tuning.fps = fps.max(1);
                Outcome::Order(Order::Tune(self.tuning))
            }
            HostControl::SetChroma { stream: StreamId::VIDEO, chroma } => {
                Outcome::Order(Order::Colour(chroma))
            }
            HostControl::SetCodec { stream: StreamId::VIDEO, codec } => {
                Outcome::Order(Order::Codec(codec))
            }
            // Streams that this agent does not have.
            HostControl::RequestIdr { .. }
            | HostControl::RequestRefresh { .. }
            | HostControl::SetBitrate { .. }
            | HostControl::SetFrameRate { .. }
            | HostControl::SetChroma { .. }
            | HostControl::SetCodec { .. } => Outcome::Ignored,
            HostControl::Goodbye => Outcome::Close,
        })
    }

    /// A setting that did not come on the control connection: it outlives the session.
    pub fn retune(&mut self, change: impl FnOnce(&mut Tuning)) -> Tuning {
        change(&mut self.tuning);
        self.tuning
    }

    /// A connection is closed. Yields those that end with their control connection.
    pub fn close(&mut self, connection: ConnectionId) -> Vec<ConnectionId> {
        self.diagnostics.retain(|open| *open != connection);
        let Some(current) = &mut self.current else { return Vec::new() };
        for place in [&mut current.media, &mut current.input] {
            if *place == Some(connection) {
                *place = None;
            }
        }
        if current.control != connection {
            return Vec::new();
        }
        self.current.take().into_iter().flat_map(|old| [old.media, old.input]).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use transom_protocol::BitRate;
    use transom_protocol::HostTime;

    const TUNING: Tuning = Tuning { bitrate: BitRate(8_000_000), fps: 60 };

    fn hello(session: u64, role: Role) -> HostHello {
        HostHello {
            magic: MAGIC,
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            session: SessionId(session),
            role,
            capabilities: Capabilities::H264,
            software: Text::new("test"),
        }
    }

    fn bytes<M: serde::Serialize>(message: &M) -> Vec<u8> {
        let mut out = Vec::new();
        wire::encode(message, 0, &mut out);
        out.split_off(wire::PREFIX)
    }

    fn admit(sessions: &mut Sessions, id: u64, hello: &HostHello) -> Admission {
        sessions.admit(ConnectionId(id), &bytes(hello))
    }

    fn sessions() -> Sessions {
        Sessions::new([7; 16], TUNING)
    }

    #[test]
    fn control_then_media_then_a_newer_relay_takes_both_places() {
        let mut sessions = sessions();
        assert_eq!(admit(&mut sessions, 1, &hello(9, Role::CONTROL)).role, Some(Role::CONTROL));
        assert_eq!(admit(&mut sessions, 2, &hello(9, Role::MEDIA)).role, Some(Role::MEDIA));
        let newer = admit(&mut sessions, 3, &hello(10, Role::CONTROL));
        assert_eq!(newer.replaced, [ConnectionId(1), ConnectionId(2)]);
        assert!(sessions.is_controlled_by(ConnectionId(3)));
        assert!(!sessions.is_media(ConnectionId(2)));
        // The old connections close late and take nothing with them.
        assert_eq!(sessions.close(ConnectionId(1)), []);
        assert_eq!(sessions.close(ConnectionId(2)), []);
        assert!(sessions.is_controlled_by(ConnectionId(3)));
    }

    #[test]
    fn media_and_input_end_with_their_control_connection() {
        let mut sessions = sessions();
        admit(&mut sessions, 1, &hello(9, Role::CONTROL));
        admit(&mut sessions, 2, &hello(9, Role::MEDIA));
        assert_eq!(admit(&mut sessions, 3, &hello(9, Role::INPUT)).role, Some(Role::INPUT));
        assert_eq!(sessions.close(ConnectionId(1)), [ConnectionId(2), ConnectionId(3)]);
        for role in [Role::MEDIA, Role::INPUT] {
            let late = admit(&mut sessions, 4, &hello(9, role));
            assert_eq!(late.answer, GuestHello::Refused(Refusal::Session));
        }
    }

    #[test]
    fn input_belongs_to_one_session_and_one_connection() {
        let mut sessions = sessions();
        admit(&mut sessions, 1, &hello(9, Role::CONTROL));
        let stranger = admit(&mut sessions, 2, &hello(8, Role::INPUT));
        assert_eq!(stranger.answer, GuestHello::Refused(Refusal::Session));
        admit(&mut sessions, 3, &hello(9, Role::INPUT));
        let again = admit(&mut sessions, 4, &hello(9, Role::INPUT));
        assert_eq!(again.replaced, [ConnectionId(3)]);
        assert_eq!(sessions.close(ConnectionId(3)), []);
        let newer = admit(&mut sessions, 5, &hello(10, Role::CONTROL));
        assert_eq!(newer.replaced, [ConnectionId(1), ConnectionId(4)]);
    }

    #[test]
    fn abilities_are_told_once_they_are_there() {
        let mut sessions = sessions();
        let told = |sessions: &mut Sessions| match admit(sessions, 1, &hello(1, Role::CONTROL)) {
            Admission { answer: GuestHello::Welcome { capabilities, .. }, .. } => capabilities,
            other => panic!("refused: {other:?}"),
        };
        let first = Capabilities::H264
            .with(Capabilities::DIAGNOSTICS)
            .with(Capabilities::YUV444)
            .with(Capabilities::REFRESH)
            .with(Capabilities::HEVC)
            .with(Capabilities::HEVC);
        assert_eq!(told(&mut sessions), first);
        sessions.offer(Capabilities::INPUT);
        assert_eq!(told(&mut sessions), first.with(Capabilities::INPUT));
    }

    #[test]
    fn diagnostics_need_no_session_and_have_a_limit() {
        let mut sessions = sessions();
        let hello = hello(77, Role::DIAGNOSTICS);
        for id in 0..diagnostics::MAX_CONNECTIONS as u64 {
            let admission = admit(&mut sessions, 100 + id, &hello);
            assert_eq!(admission.role, Some(Role::DIAGNOSTICS));
            assert_eq!(admission.replaced, []);
        }
        let more = admit(&mut sessions, 200, &hello);
        assert_eq!(more.answer, GuestHello::Refused(Refusal::Busy));
        let _ = sessions.close(ConnectionId(200));
        assert_eq!(admit(&mut sessions, 201, &hello).role, None);
        let _ = sessions.close(ConnectionId(103));
        assert_eq!(admit(&mut sessions, 202, &hello).role, Some(Role::DIAGNOSTICS));
    }

    #[test]
    fn strangers_other_versions_and_unknown_roles_are_refused_by_name() {
        let mut sessions = sessions();
        let refused = |sessions: &mut Sessions, hello: HostHello| match admit(sessions, 1, &hello) {
            Admission { answer: GuestHello::Refused(refusal), role: None, .. } => refusal,
            other => panic!("admitted: {other:?}"),
        };
        let good = hello(1, Role::CONTROL);
        assert_eq!(
            refused(&mut sessions, HostHello { magic: *b"HTTP", ..good.clone() }),
            Refusal::Malformed
        );
        assert_eq!(
            refused(
                &mut sessions,
                HostHello { version_min: 900, version_max: 901, ..good.clone() }
            ),
            Refusal::Version { min: VERSION_MIN, max: VERSION_MAX }
        );
        assert_eq!(
            refused(&mut sessions, HostHello { version_min: 0, version_max: 0, ..good.clone() }),
            Refusal::Version { min: VERSION_MIN, max: VERSION_MAX }
        );
        assert_eq!(
            refused(&mut sessions, HostHello { role: Role(77), ..good.clone() }),
            Refusal::Role(Role(77))
        );
        assert_eq!(
            refused(&mut sessions, HostHello { role: Role::MEDIA, ..good }),
            Refusal::Session
        );
        let garbage = sessions.admit(ConnectionId(1), b"GET / HTTP/1.1\r\n");
        assert_eq!(garbage.answer, GuestHello::Refused(Refusal::Malformed));
    }

    #[test]
    fn a_newer_host_is_met_at_our_version() {
        let mut sessions = sessions();
        let newer = HostHello { version_max: 900, ..hello(1, Role::CONTROL) };
        match admit(&mut sessions, 1, &newer).answer {
            GuestHello::Welcome { version, boot, .. } => {
                assert_eq!((version, boot), (VERSION_MAX, [7; 16]))
            }
            other => panic!("refused: {other:?}"),
        }
    }

    #[test]
    fn control_messages_become_replies_and_orders() {
        let mut sessions = sessions();
        let mut handle = |message| sessions.handle_control(&bytes(&message), GuestTime(5));
        let video = StreamId::VIDEO;
        assert_eq!(
            handle(HostControl::Ping { id: 4, sent: HostTime(3) }),
            Ok(Outcome::Reply(GuestControl::Pong {
                id: 4,
                host_sent: HostTime(3),
                received: GuestTime(5),
                sent: GuestTime(5),
            }))
        );
        assert_eq!(
            handle(HostControl::RequestIdr { stream: video }),
            Ok(Outcome::Order(Order::Idr))
        );
        assert_eq!(
            handle(HostControl::RequestRefresh { stream: video }),
            Ok(Outcome::Order(Order::Join))
        );
        assert_eq!(handle(HostControl::RequestIdr { stream: StreamId(9) }), Ok(Outcome::Ignored));
        handle(HostControl::SetFrameRate { stream: video, fps: 0 }).expect("clamped");
        assert_eq!(
            handle(HostControl::SetBitrate { stream: video, bitrate: BitRate(1) }),
            Ok(Outcome::Order(Order::Tune(Tuning { bitrate: BitRate(1), fps: 1 }))),
            "both settings are remembered"
        );
        assert_eq!(
            handle(HostControl::SetChroma { stream: video, chroma: Chroma::Yuv444 }),
            Ok(Outcome::Order(Order::Colour(Chroma::Yuv444)))
        );
        assert_eq!(
            handle(HostControl::SetCodec { stream: video, codec: Codec::Hevc }),
            Ok(Outcome::Order(Order::Codec(Codec::Hevc)))
        );
        assert_eq!(
            handle(HostControl::SetCodec { stream: StreamId(1), codec: Codec::Hevc }),
            Ok(Outcome::Ignored)
        );
        assert_eq!(
            handle(HostControl::SetChroma { stream: StreamId(1), chroma: Chroma::Yuv444 }),
            Ok(Outcome::Ignored)
        );
        assert_eq!(handle(HostControl::Goodbye), Ok(Outcome::Close));
        assert_eq!(
            sessions.handle_control(&[200, 1], GuestTime(0)),
            Ok(Outcome::Reply(GuestControl::Unsupported { kind: 200 }))
        );
        assert!(sessions.handle_control(&[1], GuestTime(0)).is_err());
    }
}
