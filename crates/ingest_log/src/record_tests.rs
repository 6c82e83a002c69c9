//! The record codec: round trips, and arbitrary bytes.

use std::num::NonZeroU16;

use proptest::prelude::*;

use crate::record::{Parsed, decode, parse, stamp};
use crate::{Record, RecordBatch, RecordHead};

const SALT: u64 = 0x1234_5678_9abc_def0;

#[derive(Debug, Clone)]
struct Owned {
    qos: u8,
    retain: bool,
    received_us: i64,
    topic: String,
    client_id: String,
    properties: Vec<u8>,
    packet_id: Option<NonZeroU16>,
    payload: Vec<u8>,
}

prop_compose! {
    fn owned()(
        qos in 0..3_u8,
        retain: bool,
        received_us: i64,
        topic in "\\PC{0,40}",
        client_id in "\\PC{0,20}",
        properties in prop::collection::vec(any::<u8>(), 0..40),
        packet_id: Option<NonZeroU16>,
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) -> Owned {
        Owned { qos, retain, received_us, topic, client_id, properties, packet_id, payload }
    }
}

fn frames(records: &[Owned], first: u64) -> Vec<u8> {
    let mut batch = RecordBatch::new();
    for r in records {
        let head = RecordHead {
            qos: r.qos,
            retain: r.retain,
            received_us: r.received_us,
            topic: &r.topic,
            client_id: &r.client_id,
            properties: &r.properties,
        };
        let pushed = batch.push_tracked(&head, r.packet_id, &r.payload);
        pushed.unwrap();
    }
    let mut frames = batch.frames().to_vec();
    stamp(&mut frames, first, SALT);
    frames
}

proptest! {
    #[test]
    fn what_is_pushed_is_parsed(
        records in prop::collection::vec(owned(), 1..8),
        first in 0..1_u64 << 62,
    ) {
        let frames = frames(&records, first);
        let mut rest = &frames[..];
        for (r, seq) in records.iter().zip(first..) {
            let Parsed::Frame(frame) = parse(rest, SALT) else { panic!("{:?}", parse(rest, SALT)) };
            let expected = Record {
                seq,
                received_us: r.received_us,
                qos: r.qos,
                retain: r.retain,
                topic: &r.topic,
                client_id: &r.client_id,
                properties: &r.properties,
                packet_id: r.packet_id,
                payload: &r.payload,
            };
            prop_assert_eq!(frame.record, expected);
            prop_assert_eq!(frame.starts_group, seq == first);
            rest = &rest[frame.size..];
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn a_changed_bit_or_another_log_is_never_accepted(
        record in owned(),
        bit: prop::sample::Index,
        seq in 0..1_u64 << 62,
    ) {
        let mut frames = frames(std::slice::from_ref(&record), seq);
        prop_assert!(!matches!(parse(&frames, SALT ^ 1), Parsed::Frame(_)));
        let bit = bit.index(frames.len() * 8);
        frames[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!matches!(parse(&frames, SALT), Parsed::Frame(_)));
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        len in 0..200_u32,
    ) {
        prop_assert!(!matches!(parse(&bytes, SALT), Parsed::Frame(_)));
        // With a plausible length, and as if the CRC were right.
        if bytes.len() >= 4 {
            bytes[..4].copy_from_slice(&len.to_le_bytes());
        }
        prop_assert!(!matches!(parse(&bytes, SALT), Parsed::Frame(_)));
        prop_assert!(decode(&bytes).is_none_or(|record| record.payload.len() < bytes.len()));
    }

    #[test]
    fn a_cut_frame_asks_for_the_rest(record in owned(), cut: prop::sample::Index) {
        let frames = frames(std::slice::from_ref(&record), 3);
        let cut = cut.index(frames.len());
        match parse(&frames[..cut], SALT) {
            Parsed::Short(needed) => prop_assert!(needed > cut && needed <= frames.len()),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn the_layout_never_changes() {
    let record = Owned {
        qos: 2,
        retain: true,
        received_us: 0x0102_0304_0506_0708,
        topic: "ab".into(),
        client_id: "c".into(),
        properties: Vec::new(),
        packet_id: None,
        payload: b"xyz".to_vec(),
    };
    let frame = frames(std::slice::from_ref(&record), 5);
    let body = b"\x08\x07\x06\x05\x04\x03\x02\x01\x06\x02\x00\x01\x00abcxyz";
    assert_eq!(frame[..4], 19_u32.to_le_bytes());
    assert_eq!(frame[8..16], (5 | 1_u64 << 63).to_le_bytes());
    assert_eq!(frame[16..], body[..]);
    let mut covered = body.to_vec();
    covered.extend((5_u64 ^ 1 << 63 ^ SALT).to_le_bytes());
    assert_eq!(frame[4..8], crc32fast::hash(&covered).to_le_bytes());
}

#[test]
fn properties_stand_before_the_payload_and_are_flagged() {
    let record = Owned {
        qos: 1,
        retain: false,
        received_us: 0,
        topic: "ab".into(),
        client_id: "c".into(),
        properties: b"pq".to_vec(),
        packet_id: NonZeroU16::new(0x0102),
        payload: b"xyz".to_vec(),
    };
    let frame = frames(std::slice::from_ref(&record), 5);
    let body = b"\0\0\0\0\0\0\0\0\x19\x02\x00\x01\x00abc\x02\x01\x02\x00\x00\x00pqxyz";
    assert_eq!(frame[16..], body[..]);
}

#[test]
fn a_whole_record_with_an_unknown_flag_is_told_from_a_torn_one() {
    for flag in [0b10_0000, 0b100_0000, 0b1000_0000] {
        let record = Owned {
            qos: 1,
            retain: false,
            received_us: 0,
            topic: "ab".into(),
            client_id: "c".into(),
            properties: Vec::new(),
            packet_id: None,
            payload: b"xyz".to_vec(),
        };
        let mut frame = frames(std::slice::from_ref(&record), 5);
        frame[24] |= flag;
        assert!(matches!(parse(&frame, SALT), Parsed::Bad(_)));
        let mut covered = frame[16..].to_vec();
        covered.extend((5_u64 ^ 1 << 63 ^ SALT).to_le_bytes());
        frame[4..8].copy_from_slice(&crc32fast::hash(&covered).to_le_bytes());
        assert!(matches!(parse(&frame, SALT), Parsed::Unknown));
    }
}

#[test]
fn texts_too_long_for_the_format_are_refused() {
    let topic = "t".repeat(65_536);
    let head = RecordHead {
        qos: 0,
        retain: false,
        received_us: 0,
        topic: &topic,
        client_id: "",
        properties: b"",
    };
    let mut batch = RecordBatch::new();
    assert!(batch.push(&head, b"").is_err());
    assert!(batch.is_empty() && batch.bytes() == 0);
}
