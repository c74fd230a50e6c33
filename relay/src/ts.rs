//! MPEG-TS (ITU-T H.222.0) for players that take neither WebRTC nor RTSP: access units in, packets of
//! 188 bytes out. Pure: the time is that of the pictures.
//!
//! ```text
//!   PAT │ PMT │ PES: one access unit, an AUD before it │ … │ a packet with the clock alone │ …
//!    └────┴─ before each IDR, and twice a second            └─ while no picture comes
//! ```
//!
//! Each viewer has a muxer of its own: it counts packets without gaps although its viewer misses
//! pictures. What this refuses to do: wait. A picture is to be shown [`LEAD`] after the clock that
//! comes with it.

use mpeg2ts::{
    es::{StreamId, StreamType},
    pes::PesHeader,
    time::{ClockReference, Timestamp},
    ts::{
        AdaptationField, ContinuityCounter, EsInfo, Pid, ProgramAssociation,
        TransportScramblingControl, TsHeader, TsPacket, TsPacketWriter, TsPayload, VersionNumber,
        WriteTsPacket,
        payload::{Bytes, Pat, Pes, Pmt},
    },
};

use crate::h264::nal;

pub mod still;

/// Ticks a second of PTS; the PCR counts 300 for each.
const RATE: i64 = 90_000;
/// PTS and the PCR's base wrap at this.
const WRAP: i64 = 1 << 33;
/// From the clock to the moment in which a picture is to be shown, in ticks: 20 ms, within which a
/// large frame arrives. Players add what their own buffers want.
const LEAD: i64 = RATE / 50;
/// Where time starts, in ticks: nothing is ever before zero.
const START: i64 = 10 * RATE;
/// Between two copies of the tables, in ticks: who records may cut anywhere.
const TABLES: i64 = RATE / 2;

/// Where things are. These are the numbers that most muxers take.
const PMT_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x0100;
const PROGRAM: u16 = 1;

/// Stream id of the first video stream (table 2-22).
const VIDEO: u8 = 0xe0;
/// A PES header with a PTS: nine bytes and five, of which eight count in the packet's length.
const PES_HEADER: usize = 14;
const PES_COUNTED: usize = 8;
/// An adaptation field with a PCR.
const CLOCK: usize = 8;

/// An access unit delimiter that allows for slices of any type; H.222.0 wants one (2.14.1), and it
/// tells a player where the access unit before has ended.
const AUD: [u8; 6] = [0, 0, 0, 1, 9, 0xf0];

/// Makes packets.
#[derive(Debug)]
pub struct Muxer {
    pat: ContinuityCounter,
    pmt: ContinuityCounter,
    video: ContinuityCounter,
    /// The last PCR, and the last PTS, in ticks that never wrap.
    clock: i64,
    shown: i64,
    /// When the tables are due.
    tables: i64,
    /// The access unit under way.
    unit: Vec<u8>,
}

impl Default for Muxer {
    fn default() -> Self {
        Self {
            pat: ContinuityCounter::new(),
            pmt: ContinuityCounter::new(),
            video: ContinuityCounter::new(),
            clock: 0,
            shown: 0,
            tables: 0,
            unit: Vec::new(),
        }
    }
}

impl Muxer {
    /// The packets of an access unit, whose picture was taken at `taken` nanoseconds of the host's
    /// clock.
    pub fn picture(&mut self, access_unit: &[u8], idr: bool, taken: i64, out: &mut Vec<u8>) {
        let ticks = ticks(taken);
        // A picture that was under way for longer than the one before is not earlier.
        self.clock = self.clock.max(ticks);
        self.shown = (ticks + LEAD).max(self.clock).max(self.shown + 1);
        self.tables(idr, out);
        let mut unit = std::mem::take(&mut self.unit);
        unit.clear();
        if crate::h264::nal_units(&access_unit[..access_unit.len().min(16)])
            .next()
            .is_none_or(|first| nal::kind(first) != nal::AUD)
        {
            unit.extend_from_slice(&AUD);
        }
        unit.extend_from_slice(access_unit);
        let header = PesHeader {
            stream_id: StreamId::new(VIDEO),
            priority: false,
            data_alignment_indicator: true,
            copyright: false,
            original_or_copy: false,
            pts: Some(timestamp(self.shown)),
            dts: None,
            escr: None,
        };
        // Without a length a player knows that it has all only when the next one comes; video may
        // be longer than the length can tell.
        let pes_packet_len = u16::try_from(PES_COUNTED + unit.len()).unwrap_or(0);
        let (first, mut rest) = unit.split_at(unit.len().min(Bytes::MAX_SIZE - CLOCK - PES_HEADER));
        let start = TsPayload::PesStart(Pes { header, pes_packet_len, data: bytes(first) });
        let field = self.adaptation(idr);
        self.video(Some(field), Some(start), out);
        while !rest.is_empty() {
            let (part, more) = rest.split_at(rest.len().min(Bytes::MAX_SIZE));
            self.video(None, Some(TsPayload::PesContinuation(bytes(part))), out);
            rest = more;
        }
        self.unit = unit;
    }

    /// A packet that tells the time, `now` nanoseconds of the host's clock, while no picture comes.
    pub fn clock(&mut self, now: i64, out: &mut Vec<u8>) {
        self.clock = self.clock.max(ticks(now));
        self.tables(false, out);
        let field = self.adaptation(false);
        self.video(Some(field), None, out);
    }

    fn adaptation(&self, idr: bool) -> AdaptationField {
        AdaptationField {
            discontinuity_indicator: false,
            random_access_indicator: idr,
            es_priority_indicator: false,
            pcr: Some(reference(self.clock)),
            opcr: None,
            splice_countdown: None,
            transport_private_data: Vec::new(),
            extension: None,
        }
    }

    fn video(
        &mut self,
        adaptation_field: Option<AdaptationField>,
        payload: Option<TsPayload>,
        out: &mut Vec<u8>,
    ) {
        // It counts packets with a payload (2.4.3.3); the first of those has 0.
        let mut counter = self.video;
        if payload.is_some() {
            self.video.increment();
        } else {
            counter = before(counter);
        }
        write(VIDEO_PID, counter, adaptation_field, payload, out);
    }

    fn tables(&mut self, now: bool, out: &mut Vec<u8>) {
        if !now && self.clock < self.tables {
            return;
        }
        self.tables = self.clock + TABLES;
        let pat = Pat {
            transport_stream_id: 1,
            version_number: VersionNumber::new(),
            table: vec![ProgramAssociation { program_num: PROGRAM, program_map_pid: pid(PMT_PID) }],
        };
        write(Pid::PAT, self.pat, None, Some(TsPayload::Pat(pat)), out);
        self.pat.increment();
        let video = EsInfo {
            stream_type: StreamType::H264,
            elementary_pid: pid(VIDEO_PID),
            descriptors: Vec::new(),
        };
        let pmt = Pmt {
            program_num: PROGRAM,
            pcr_pid: Some(pid(VIDEO_PID)),
            version_number: VersionNumber::new(),
            program_info: Vec::new(),
            es_info: vec![video],
        };
        write(PMT_PID, self.pmt, None, Some(TsPayload::Pmt(pmt)), out);
        self.pmt.increment();
    }
}

/// Ticks of a time in nanoseconds.
fn ticks(nanos: i64) -> i64 {
    let ticks = i128::from(nanos) * i128::from(RATE) / 1_000_000_000;
    // A guest's clock may be far off; 200 years are not.
    i64::try_from(ticks).unwrap_or(0).max(-START) + START
}

/// The counter of the packet before.
fn before(counter: ContinuityCounter) -> ContinuityCounter {
    number(ContinuityCounter::from_u8(counter.as_u8().wrapping_sub(1) & 15))
}

fn pid(pid: u16) -> Pid {
    number(Pid::new(pid))
}

fn timestamp(ticks: i64) -> Timestamp {
    number(Timestamp::new(ticks.rem_euclid(WRAP).unsigned_abs()))
}

fn reference(ticks: i64) -> ClockReference {
    number(ClockReference::new(ticks.rem_euclid(WRAP).unsigned_abs() * 300))
}

fn bytes(part: &[u8]) -> Bytes {
    number(Bytes::new(part))
}

/// What the types of the format hold, for what fits by the lines above.
#[allow(clippy::expect_used)]
fn number<T>(made: mpeg2ts::Result<T>) -> T {
    made.expect("it was cut or wrapped to what fits")
}

#[allow(clippy::expect_used)]
fn write(
    pid: u16,
    continuity_counter: ContinuityCounter,
    adaptation_field: Option<AdaptationField>,
    payload: Option<TsPayload>,
    out: &mut Vec<u8>,
) {
    let header = TsHeader {
        transport_error_indicator: false,
        transport_priority: false,
        pid: self::pid(pid),
        transport_scrambling_control: TransportScramblingControl::NotScrambled,
        continuity_counter,
    };
    TsPacketWriter::new(out)
        .write_ts_packet(&TsPacket { header, adaptation_field, payload })
        .expect("memory takes it, and its parts fit");
}

#[cfg(test)]
mod tests;
