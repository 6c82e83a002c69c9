//! PUBLISH, the hot packet: read from and written to plain slices, without allocation.
//!
//! ADR 0001 says why this one packet is not left to the crate. The tests hold both to the same meaning.

use super::{Violation, frame, topic};

/// A PUBLISH that borrows from the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Publish<'a> {
    pub(crate) dup: bool,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) topic: &'a str,
    /// Zero with QoS 0, never zero otherwise.
    pub(crate) packet_id: u16,
    pub(crate) payload: &'a [u8],
}

/// Packet type in the upper half of the first byte.
pub(crate) const TYPE: u8 = 0x30;
/// Largest QoS.
const EXACTLY_ONCE: u8 = 2;

/// Reads the body of a PUBLISH; `first` is the first byte of the packet.
///
/// # Errors
/// When a rule is broken; the topic is a valid topic name afterwards, and may begin with `$`.
pub(crate) fn decode(first: u8, body: &[u8]) -> Result<Publish<'_>, Violation> {
    let (dup, qos, retain) = (first & 0b1000 != 0, (first >> 1) & 0b11, first & 1 != 0);
    if qos > EXACTLY_ONCE || (qos == 0 && dup) {
        return Err(Violation::Qos);
    }
    let (topic_len, rest) = body.split_first_chunk().ok_or(Violation::Malformed)?;
    let topic_len = usize::from(u16::from_be_bytes(*topic_len));
    let (topic, rest) = rest
        .split_at_checked(topic_len)
        .ok_or(Violation::Malformed)?;
    let topic = topic::name(topic)?;
    let (packet_id, payload) = if qos == 0 {
        (0, rest)
    } else {
        let (id, payload) = rest.split_first_chunk().ok_or(Violation::Malformed)?;
        (u16::from_be_bytes(*id), payload)
    };
    if qos > 0 && packet_id == 0 {
        return Err(Violation::Malformed);
    }
    Ok(Publish {
        dup,
        qos,
        retain,
        topic,
        packet_id,
        payload,
    })
}

/// Appends a PUBLISH. Its topic came from a packet or a log record, so it fits 16 bits of length.
pub(crate) fn encode(out: &mut Vec<u8>, publish: &Publish<'_>) {
    let Ok(topic_len) = u16::try_from(publish.topic.len()) else {
        debug_assert!(false, "a topic has at most 65,535 bytes");
        return;
    };
    let id_len = if publish.qos > 0 { 2 } else { 0 };
    let length = 2 + publish.topic.len() + id_len + publish.payload.len();
    out.reserve(5 + length);
    let flags = u8::from(publish.dup) << 3 | publish.qos << 1 | u8::from(publish.retain);
    out.push(TYPE | flags);
    frame::put_length(out, length);
    out.extend_from_slice(&topic_len.to_be_bytes());
    out.extend_from_slice(publish.topic.as_bytes());
    if publish.qos > 0 {
        out.extend_from_slice(&publish.packet_id.to_be_bytes());
    }
    out.extend_from_slice(publish.payload);
}

/// Appends a PUBACK.
pub(crate) fn encode_ack(out: &mut Vec<u8>, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[0x40, 2, high, low]);
}

#[cfg(test)]
mod tests {
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
            let publish = Publish { dup, qos, retain, topic: &topic, packet_id, payload: &payload };
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
}
