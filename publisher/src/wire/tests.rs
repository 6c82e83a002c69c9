//! The encoder against a decoder written from the standard, and the reader against broken input.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::message::Event;

/// A packet as the standard spells it: first byte, and the body of its remaining length.
fn decode(packet: &[u8]) -> (u8, &[u8]) {
    let mut length = 0;
    let mut at = 1;
    loop {
        let byte = usize::from(packet[at]);
        length += (byte & 127) << (7 * (at - 1));
        at += 1;
        if byte & 128 == 0 {
            break;
        }
    }
    let body = &packet[at..];
    assert_eq!(
        body.len(),
        length,
        "the remaining length is the rest of the packet"
    );
    (packet[0], body)
}

fn take_text(body: &[u8]) -> (&[u8], &[u8]) {
    let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
    body[2..].split_at(length)
}

fn event(topic: &str, payload: Vec<u8>) -> Message {
    Message::Event(Event {
        topic: topic.into(),
        payload: Bytes::from(payload),
        ledger_line: "".into(),
    })
}

proptest! {
    #[test]
    fn publishes_decode_to_what_was_written(
        topic in "[a-z/é]{1,200}",
        size in prop::sample::select(vec![0, 1, 50, 126, 127, 128, 200, 16_380, 16_384, 70_000]),
        packet_id in prop::option::of(1_u16..), dup: bool,
    ) {
        let payload = vec![b'x'; size];
        // Something before it must stay as it is.
        let mut out = b"before".to_vec();
        let message = event(&topic, payload.clone());
        write_publish(&mut out, &message, packet_id, dup, &mut TimeText::default());
        let (first, body) = decode(out.strip_prefix(b"before").unwrap());
        let expected = 0x30 | u8::from(dup) << 3 | u8::from(packet_id.is_some()) << 1;
        prop_assert_eq!(first, expected);
        let (read_topic, mut rest) = take_text(body);
        prop_assert_eq!(read_topic, topic.as_bytes());
        if let Some(packet_id) = packet_id {
            prop_assert_eq!(&rest[..2], packet_id.to_be_bytes());
            rest = &rest[2..];
        }
        prop_assert_eq!(rest, payload);
    }

    #[test]
    fn arbitrary_input_never_panics_and_never_stands_still(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut rest = &bytes[..];
        while let Ok(Some((_, length))) = read(rest) {
            prop_assert!(length > 0 && length <= rest.len());
            rest = &rest[length..];
        }
    }
}

#[test]
fn connect_carries_id_and_credentials() {
    let credentials = Credentials {
        username: "ann".into(),
        password: "secret".into(),
    };
    let mut out = Vec::new();
    write_connect(&mut out, "client", Some(&credentials), 30);
    let (first, body) = decode(&out);
    assert_eq!(first, 0x10);
    let (protocol, rest) = take_text(body);
    assert_eq!(protocol, b"MQTT");
    assert_eq!(&rest[..4], [4, 0b1100_0010, 0, 30]);
    let (id, rest) = take_text(&rest[4..]);
    let (user, rest) = take_text(rest);
    let (password, rest) = take_text(rest);
    assert_eq!(
        (id, user, password, rest),
        (&b"client"[..], &b"ann"[..], &b"secret"[..], &[][..])
    );
}

#[test]
fn packets_are_read_whole_or_not_at_all() {
    let input = [0x20, 2, 0, 0, 0x40, 2, 1, 2, 0xd0, 0];
    for (from, whole, expected) in [
        (0, 4, Incoming::ConnAck { code: 0 }),
        (4, 4, Incoming::PubAck { packet_id: 258 }),
        (8, 2, Incoming::PingResp),
    ] {
        for length in 0..whole {
            assert_eq!(read(&input[from..from + length]), Ok(None));
        }
        assert_eq!(read(&input[from..]), Ok(Some((expected, whole))));
    }
    assert_eq!(read(&[0x30, 1]), Err(Unexpected(0x30)));
    assert_eq!(read(&[0x40, 3]), Err(Unexpected(0x40)));
}
