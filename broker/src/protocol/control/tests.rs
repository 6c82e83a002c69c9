use proptest::prelude::*;

use super::super::frame::{Split, split};
use super::*;

fn frame(bytes: &[u8]) -> Frame<'_> {
    match split(bytes, 1 << 20) {
        Ok(Split::Frame(frame)) if frame.size == bytes.len() => frame,
        other => panic!("no frame: {other:?}"),
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    put_length(&mut bytes, body.len());
    bytes.extend_from_slice(body);
    bytes
}

fn connect_body(name: &[u8], level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    let mut body = u16::try_from(name.len()).unwrap().to_be_bytes().to_vec();
    body.extend_from_slice(name);
    body.extend_from_slice(&[level, flags, 0, 60]);
    body.extend_from_slice(rest);
    packet(CONNECT, &body)
}

fn request(filter: &str, qos: u8) -> Request {
    Request {
        filter: filter.to_owned(),
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
        id: None,
    }
}

#[test]
fn a_connect_is_read() {
    let bytes = connect_body(b"MQTT", 4, 2, &[0, 1, b'a']);
    let expected = Connect {
        client_id: "a".to_owned(),
        clean_start: true,
        keep_alive: 60,
        wants_reasons: false,
        ..Connect::new(Version::V311)
    };
    assert_eq!(connect(&frame(&bytes)), Ok(expected));
}

#[test]
fn connects_that_break_a_rule_are_refused_as_the_standard_says() {
    let malformed = ConnectError::Violation(Violation::Malformed);
    let text = ConnectError::Violation(Violation::Text);
    let cases: [(Vec<u8>, ConnectError); 9] = [
        (
            connect_body(b"MQTT", 6, 2, &[0, 1, b'a']),
            ConnectError::Version,
        ),
        (
            connect_body(b"MQIsdp", 3, 2, &[0, 1, b'a']),
            ConnectError::Version,
        ),
        (connect_body(b"MQTX", 4, 2, &[0, 1, b'a']), malformed),
        (connect_body(b"MQTT", 4, 3, &[0, 1, b'a']), malformed),
        (connect_body(b"MQTT", 4, 0, &[0, 0]), ConnectError::ClientId),
        (connect_body(b"MQTT", 4, 2, &[0, 1, 0]), text),
        (connect_body(b"MQTT", 4, 2, &[0, 1, b'a', 9]), malformed),
        (
            connect_body(b"MQTT", 4, 0x42, &[0, 1, b'a', 0, 1, b'p']),
            malformed,
        ),
        (packet(0xc0, &[]), Violation::Unexpected.into()),
    ];
    for (bytes, expected) in cases {
        assert_eq!(connect(&frame(&bytes)), Err(expected), "{bytes:?}");
    }
}

#[test]
fn refusals_are_worded_for_the_clients_version() {
    let said = |error| {
        let mut out = Vec::new();
        put_refusal(Version::V311, &mut out, error, usize::MAX);
        out
    };
    assert_eq!(said(ConnectError::Version), [0x20, 2, 0, 1]);
    assert_eq!(said(ConnectError::ClientId), [0x20, 2, 0, 2]);
    assert_eq!(said(ConnectError::Unavailable), [0x20, 2, 0, 3]);
    assert!(said(Violation::Malformed.into()).is_empty());
}

#[test]
fn control_packets_that_break_a_rule_are_refused() {
    let cases: [(u8, &[u8], Violation); 12] = [
        (0x82, &[0, 1], Violation::Filter),
        (0x82, &[0, 0, 0, 1, b'a', 0], Violation::Malformed),
        (0x82, &[0, 1, 0, 1, b'a', 3], Violation::Malformed),
        (0x82, &[0, 1, 0, 1, b'a', 0x80], Violation::Malformed),
        (0x82, &[0, 1, 0, 2, b'a', b'#', 1], Violation::Filter),
        (0x82, &[0, 1, 0, 1, 0, 1], Violation::Text),
        (0x80, &[0, 1, 0, 1, b'a', 0], Violation::Unexpected),
        (0xa2, &[0, 1], Violation::Filter),
        (0xe0, &[0], Violation::Malformed),
        (0xf0, &[], Violation::Unexpected),
        (0x00, &[], Violation::Unexpected),
        (0xd0, &[], Violation::Unexpected),
    ];
    for (first, body, expected) in cases {
        let bytes = packet(first, body);
        assert_eq!(
            control(Version::V311, &frame(&bytes)),
            Err(expected),
            "{bytes:?}"
        );
    }
    assert_eq!(
        puback(Version::V311, &frame(&[0x40, 2, 0, 0])),
        Err(Violation::Malformed)
    );
    assert_eq!(
        puback(Version::V311, &frame(&[0x40, 3, 0, 1, 0])),
        Err(Violation::Malformed)
    );
}

#[test]
fn subscriptions_are_read_and_answered() {
    let bytes = packet(0x82, &[0, 7, 0, 3, b'a', b'/', b'#', 2, 0, 1, b'b', 0]);
    let requests = vec![request("a/#", 2), request("b", 0)];
    let id = NonZeroU16::new(7).unwrap();
    assert_eq!(
        control(Version::V311, &frame(&bytes)),
        Ok(Control::Subscribe(id, requests))
    );
    let mut out = Vec::new();
    put_suback(&mut out, id, &[Some(1), None, Some(0)]);
    put_unsuback(&mut out, id);
    put_accepted(&mut out, true);
    let expected = [0x90, 5, 0, 7, 1, 0x80, 0, 0xb0, 2, 0, 7, 0x20, 2, 1, 0];
    assert_eq!(out, expected);
}

proptest! {
    #[test]
    fn arbitrary_packets_never_panic(first: u8, body: Vec<u8>) {
        let bytes = packet(first, &body);
        let frame = frame(&bytes);
        if let Ok(connect) = connect(&frame) {
            prop_assert!(!connect.client_id.contains('\0'));
        }
        if let Ok(Control::Subscribe(_, requests)) = control(Version::V311, &frame) {
            prop_assert!(requests.iter().all(|request| request.qos < 3));
        }
    }

    #[test]
    fn arbitrary_connects_never_panic(flags: u8, rest: Vec<u8>) {
        let bytes = connect_body(b"MQTT", 4, flags, &rest);
        if let Ok(connect) = connect(&frame(&bytes)) {
            prop_assert!(connect.clean_start || !connect.client_id.is_empty());
        }
    }
}
