//! What was muxed is read back by the crate's own reader, and packet by packet here.

use std::collections::HashMap;

use mpeg2ts::{
    pes::{PesPacketReader, ReadPesPacket},
    ts::TsPacketReader,
};
use proptest::prelude::*;

use super::*;

const MS: i64 = 1_000_000;

/// The access units in a stream, and when each is to be shown, in ticks.
fn demux(stream: &[u8]) -> Vec<(Vec<u8>, u64)> {
    let mut reader = PesPacketReader::new(TsPacketReader::new(stream));
    let mut units = Vec::new();
    while let Some(packet) = reader.read_pes_packet().expect("it can be read") {
        units.push((packet.data, packet.header.pts.expect("each has a time").as_u64()));
    }
    units
}

/// Checks each packet's form, that none is missing of any PID, and that the clock never goes back;
/// yields the clock's values, in ticks.
fn check(stream: &[u8]) -> Vec<u64> {
    assert_eq!(stream.len() % 188, 0);
    let (mut counters, mut clocks) = (HashMap::new(), Vec::new());
    for packet in stream.chunks(188) {
        assert_eq!(packet[0], 0x47);
        let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
        let (has_field, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
        let count = packet[3] & 15;
        if let Some(last) = counters.insert(pid, count) {
            assert_eq!(count, if has_payload { (last + 1) & 15 } else { last }, "of {pid}");
        }
        if has_field && packet[4] > 0 && packet[5] & 0x10 != 0 {
            let base = packet[6..10].iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
            clocks.push(base << 1 | u64::from(packet[10] >> 7));
        }
    }
    assert!(clocks.is_sorted());
    clocks
}

#[test]
fn a_stream_begins_with_its_tables_and_an_idr_that_can_be_joined() {
    let (mut muxer, mut out) = (Muxer::default(), Vec::new());
    muxer.picture(&[0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x65, 2], true, 0, &mut out);
    let pids: Vec<_> = out.chunks(188).map(|p| u16::from_be_bytes([p[1] & 0x1f, p[2]])).collect();
    assert_eq!(pids, [0, PMT_PID, VIDEO_PID]);
    assert_eq!(out[2 * 188 + 5] & 0x40, 0x40, "random_access_indicator");
    assert_eq!(check(&out), [START as u64]);
    let units = demux(&out);
    assert_eq!(units.len(), 1);
    assert_eq!(units[0].0, [&AUD[..], &[0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x65, 2]].concat());
    assert_eq!(units[0].1, (START + LEAD) as u64);
}

#[test]
fn tables_come_again_before_an_idr_and_twice_a_second() {
    let (mut muxer, mut out) = (Muxer::default(), Vec::new());
    let count = |out: &[u8]| out.chunks(188).filter(|p| p[1] & 0x1f == 0 && p[2] == 0).count();
    for i in 0..60 {
        muxer.picture(&[0, 0, 1, 0x41, 1], false, i * 1000 * MS / 60, &mut out);
    }
    assert_eq!(count(&out), 2);
    muxer.picture(&[0, 0, 1, 0x65, 1], true, 1000 * MS, &mut out);
    assert_eq!(count(&out), 3);
    (0..20).for_each(|i| muxer.clock(1000 * MS + i * 100 * MS, &mut out));
    assert_eq!(count(&out), 6);
    check(&out);
}

#[test]
fn time_does_not_go_back_and_wraps_as_the_format_wants() {
    let (mut muxer, mut out) = (Muxer::default(), Vec::new());
    let unit = [0, 0, 1, 0x41, 1];
    muxer.picture(&unit, false, 100 * MS, &mut out);
    // The relay's clock ran ahead of a picture that was late.
    muxer.clock(200 * MS, &mut out);
    muxer.picture(&unit, false, 150 * MS, &mut out);
    muxer.picture(&unit, false, 150 * MS, &mut out);
    let clocks = check(&out);
    assert_eq!(
        clocks.iter().map(|clock| clock - START as u64).collect::<Vec<_>>(),
        [9000, 18_000, 18_000, 18_000]
    );
    let shown: Vec<_> = demux(&out).into_iter().map(|(_, shown)| shown).collect();
    assert!(shown.is_sorted_by(|a, b| a < b), "{shown:?}");
    assert!(shown.iter().zip([0, 2, 3]).all(|(shown, at)| *shown >= clocks[at]));
    // After 26 hours.
    let day = 27 * 3600 * 1000 * MS;
    out.clear();
    muxer.picture(&unit, false, day, &mut out);
    let wrapped = (ticks(day) + LEAD) - WRAP;
    assert_eq!(demux(&out)[0].1, wrapped.unsigned_abs());
    // Whatever a guest's clock says.
    for taken in [i64::MIN, i64::MAX, 0] {
        muxer.picture(&unit, false, taken, &mut out);
        muxer.clock(taken, &mut out);
    }
}

#[test]
fn an_access_unit_that_has_a_delimiter_gets_no_second_one() {
    let (mut muxer, mut out) = (Muxer::default(), Vec::new());
    let unit = [&AUD[..], &[0, 0, 1, 0x41, 7]].concat();
    muxer.picture(&unit, false, 0, &mut out);
    assert_eq!(demux(&out)[0].0, unit);
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        units in prop::collection::vec((0usize..70_000, any::<bool>()), 1..6),
    ) {
        let (mut muxer, mut out, mut wanted) = (Muxer::default(), Vec::new(), Vec::new());
        for (i, &(length, idr)) in units.iter().enumerate() {
            let unit = [&[0, 0, 0, 1, 0x41][..], &vec![i as u8 + 9; length]].concat();
            muxer.picture(&unit, idr, i as i64 * 16 * MS, &mut out);
            muxer.clock(i as i64 * 16 * MS + MS, &mut out);
            wanted.push([&AUD[..], &unit].concat());
        }
        check(&out);
        let found: Vec<_> = demux(&out).into_iter().map(|(unit, _)| unit).collect();
        prop_assert!(found == wanted);
    }
}
