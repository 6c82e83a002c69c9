//! PUBLISH, held to the meaning the crate gives it.

use bytes::BytesMut;
use proptest::prelude::*;
use rmqtt_codec::v3::{Codec, Packet};
use tokio_util::codec::{Decoder, Encoder};

use super::super::frame::{Split, split};
use super::*;

fn ours(bytes: &[u8]) -> Result<Publish<'_>, Violation> {
    match split(bytes, 1 << 20)? {
        Split::Frame(frame) => decode(frame.first, frame.body),
        Split::Incomplete(_) => Err(Violation::Malformed),
    }
}

fn theirs(bytes: &[u8]) -> Option<Packet> {
    let mut codec = Codec::new(1 << 20);
    codec
        .decode(&mut BytesMut::from(bytes))
        .ok()?
        .map(|decoded| decoded.0)
}

fn flags() -> impl Strategy<Value = (bool, u8, bool, u16)> {
    (any::<bool>(), 0_u8..=2, any::<bool>(), 1_u16..).prop_map(|(dup, qos, retain, id)| {
        (dup && qos > 0, qos, retain, if qos > 0 { id } else { 0 })
    })
}

proptest! {
    #[test]
    fn what_we_write_both_read_alike(
        (dup, qos, retain, packet_id) in flags(),
        topic in "[a-zé/]{1,300}",
        payload: Vec<u8>,
    ) {
        let publish = Publish { dup, qos, retain, topic: &topic, packet_id, properties: &[], payload: &payload };
        let mut bytes = Vec::new();
        encode(&mut bytes, &publish);
        prop_assert_eq!(ours(&bytes), Ok(publish));
        let Some(Packet::Publish(theirs)) = theirs(&bytes) else {
            return Err(TestCaseError::fail("the crate reads no PUBLISH"));
        };
        prop_assert_eq!((theirs.dup, theirs.qos.value(), theirs.retain), (dup, qos, retain));
        prop_assert_eq!(theirs.topic.as_bytes(), topic.as_bytes());
        prop_assert_eq!(&theirs.payload[..], &payload[..]);
        prop_assert_eq!(theirs.packet_id.map_or(0, std::num::NonZero::get), packet_id);

        let mut again = BytesMut::new();
        Codec::new(0).encode(Packet::Publish(theirs), &mut again).unwrap();
        prop_assert_eq!(&again[..], &bytes[..]);
    }

    #[test]
    fn we_accept_nothing_that_the_crate_refuses(
        flags in 0_u8..16,
        topic_len in 0_u16..12,
        body in proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'/'), Just(b'+'), any::<u8>()], 0..16),
    ) {
        let mut bytes = vec![TYPE | flags];
        frame::put_length(&mut bytes, body.len() + 2);
        bytes.extend_from_slice(&topic_len.to_be_bytes());
        bytes.extend_from_slice(&body);
        if ours(&bytes).is_ok() {
            prop_assert!(matches!(theirs(&bytes), Some(Packet::Publish(_))));
        }
    }
}

#[test]
fn broken_rules_are_named() {
    let cases: [(&[u8], Violation); 9] = [
        (&[0x36, 6, 0, 1, b'a', 0, 1, b'p'], Violation::Qos),
        (&[0x38, 3, 0, 1, b'a'], Violation::Qos),
        (&[0x32, 5, 0, 1, b'a', 0, 0], Violation::Malformed),
        (&[0x32, 4, 0, 1, b'a', 0], Violation::Malformed),
        (&[0x30, 3, 0, 2, b'a'], Violation::Malformed),
        (&[0x30, 2, 0, 0], Violation::Topic),
        (&[0x30, 3, 0, 1, b'#'], Violation::Topic),
        (&[0x30, 3, 0, 1, 0], Violation::Text),
        (&[0x30, 4, 0, 2, 0xc3, 0x28], Violation::Text),
    ];
    for (bytes, violation) in cases {
        assert_eq!(ours(bytes), Err(violation), "{bytes:?}");
    }
}
