//! MQTT 5 as a client sends it, held to the meaning the crate gives it.

use bytes::BytesMut;
use proptest::prelude::*;
use rmqtt_codec::types::{Publish as TheirPublish, QoS};
use rmqtt_codec::v5 as theirs;
use tokio_util::codec::{Decoder, Encoder};

use super::super::control;
use super::super::frame::{Split, put_length, split};
use super::super::publish::{self, Alias, Extra, Publish};
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

fn read(bytes: &[u8]) -> Option<theirs::Packet> {
    let mut codec = theirs::Codec::new(1 << 20, 1 << 20);
    codec
        .decode(&mut BytesMut::from(bytes))
        .ok()?
        .map(|decoded| decoded.0)
}

fn written(packet: theirs::Packet) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    theirs::Codec::new(1 << 20, 1 << 20)
        .encode(packet, &mut bytes)
        .unwrap();
    bytes.to_vec()
}

fn connect_body(flags: u8, rest: &[u8]) -> Vec<u8> {
    let body = [b"\0\x04MQTT\x05".as_slice(), &[flags, 0, 60], rest].concat();
    packet(0x10, &body)
}

prop_compose! {
    fn will()(
        qos in 0_u8..3,
        retain: bool,
        topic in "[a-zé/]{1,20}",
        message in proptest::collection::vec(any::<u8>(), 0..30),
        delay in proptest::option::of(any::<u32>()),
        expiry in proptest::option::of(1_u32..),
        content_type in proptest::option::of("[a-z]{0,9}"),
        users in proptest::collection::vec(("[a-z]{0,5}", "[a-z]{0,5}"), 0..3),
    ) -> theirs::LastWill {
        theirs::LastWill {
            qos: QoS::try_from(qos).unwrap(),
            retain,
            topic: topic.into(),
            message: message.into(),
            will_delay_interval_sec: delay,
            correlation_data: None,
            message_expiry_interval: expiry.and_then(std::num::NonZeroU32::new),
            content_type: content_type.map(Into::into),
            user_properties: users.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
            is_utf8_payload: Some(retain),
            response_topic: None,
        }
    }
}

prop_compose! {
    fn their_connect()(
        clean_start: bool,
        keep_alive: u16,
        session_expiry in any::<u32>(),
        receive_max in proptest::option::of(1_u16..),
        topic_alias_max: u16,
        max_packet_size in proptest::option::of(1_u32..),
        (problem, response) in any::<(bool, bool)>(),
        client_id in "[a-zé]{1,9}",
        username in proptest::option::of("[a-z]{0,5}"),
        password in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)),
        last_will in proptest::option::of(will()),
    ) -> theirs::Connect {
        theirs::Connect {
            clean_start,
            keep_alive,
            session_expiry_interval_secs: session_expiry,
            auth_method: None,
            auth_data: None,
            request_problem_info: problem,
            request_response_info: response,
            receive_max: receive_max.and_then(NonZeroU16::new),
            topic_alias_max,
            user_properties: vec![("k".into(), "v".into()), ("k".into(), "w".into())],
            max_packet_size: max_packet_size.and_then(std::num::NonZeroU32::new),
            last_will,
            client_id: client_id.into(),
            username: username.map(Into::into),
            password: password.map(Into::into),
            cert: None,
        }
    }
}

proptest! {
    #[test]
    fn a_connect_of_theirs_is_read_alike(theirs in their_connect()) {
        let bytes = written(theirs::Packet::Connect(Box::new(theirs.clone())));
        let ours = control::connect(&frame(&bytes)).unwrap();
        prop_assert_eq!(ours.version, Version::V5);
        prop_assert_eq!((ours.clean_start, ours.keep_alive), (theirs.clean_start, theirs.keep_alive));
        prop_assert_eq!(ours.session_expiry, theirs.session_expiry_interval_secs);
        prop_assert_eq!(&*ours.client_id, &*theirs.client_id);
        prop_assert_eq!(ours.receive_maximum, theirs.receive_max.map_or(u16::MAX, NonZeroU16::get));
        prop_assert_eq!(ours.aliases, theirs.topic_alias_max);
        let packet_bytes = theirs.max_packet_size.map_or(usize::MAX, |most| most.get() as usize);
        prop_assert_eq!(ours.packet_bytes, packet_bytes);
        prop_assert_eq!((ours.wants_reasons, ours.wants_response), (theirs.request_problem_info, theirs.request_response_info));
        prop_assert_eq!(ours.username.as_deref(), theirs.username.as_deref());
        prop_assert_eq!(&ours.password, &theirs.password);
        prop_assert_eq!(ours.will.is_some(), theirs.last_will.is_some());
        if let (Some(ours), Some(theirs)) = (ours.will, theirs.last_will) {
            prop_assert_eq!((ours.qos, ours.retain), (theirs.qos.value(), theirs.retain));
            prop_assert_eq!(&*ours.topic, &*theirs.topic);
            prop_assert_eq!(ours.payload, theirs.message);
            prop_assert_eq!(ours.delay, theirs.will_delay_interval_sec.unwrap_or(0));
            let (expiry, _) = properties::expiry_of(&ours.properties);
            prop_assert_eq!(expiry, theirs.message_expiry_interval.map(std::num::NonZeroU32::get));
        }
    }

    #[test]
    fn what_we_accept_they_accept(first: u8, body in proptest::collection::vec(any::<u8>(), 0..24)) {
        let bytes = packet(first, &body);
        if control(&frame(&bytes)).is_ok() {
            prop_assert!(read(&bytes).is_some());
        }
    }

    #[test]
    fn connects_that_are_nearly_right_never_panic(
        flags: u8,
        rest in proptest::collection::vec(prop_oneof![0_u8..4, Just(0x26), Just(0x11), any::<u8>()], 0..30),
    ) {
        let bytes = connect_body(flags, &rest);
        if let Ok(connect) = control::connect(&frame(&bytes)) {
            prop_assert!(!connect.client_id.contains('\0'));
            // They refuse two things that are right: an empty client id without clean start, and a will whose
            // message expires at once.
            let zero = connect.will.is_some_and(|will| properties::expiry_of(&will.properties).0 == Some(0));
            if !connect.client_id.is_empty() && !zero {
                prop_assert!(read(&bytes).is_some());
            }
        }
    }

    #[test]
    fn subscriptions_nearly_right_are_read_alike(
        options in proptest::collection::vec(any::<u8>(), 1..4),
        number in proptest::option::of(0_u32..300),
    ) {
        let mut properties = Vec::new();
        if let Some(number) = number {
            properties.push(id::SUBSCRIPTION_ID);
            put_length(&mut properties, number as usize);
        }
        let mut body = vec![0, 9];
        put_length(&mut body, properties.len());
        body.extend_from_slice(&properties);
        for options in &options {
            body.extend_from_slice(&[0, 1, b'a', *options]);
        }
        let bytes = packet(SUBSCRIBE, &body);
        let ours = control(&frame(&bytes));
        match (ours, read(&bytes)) {
            (Ok(Control::Subscribe(packet_id, requests)), Some(theirs::Packet::Subscribe(theirs))) => {
                prop_assert_eq!(packet_id, theirs.packet_id);
                for (ours, (filter, theirs_options)) in requests.iter().zip(&theirs.topic_filters) {
                    prop_assert_eq!(&*ours.filter, &**filter);
                    prop_assert_eq!(ours.qos, theirs_options.qos.value());
                    prop_assert_eq!(ours.no_local, theirs_options.no_local);
                    prop_assert_eq!(ours.retain_as_published, theirs_options.retain_as_published);
                    prop_assert_eq!(ours.retain_handling, u8::from(theirs_options.retain_handling));
                    prop_assert_eq!(ours.id, theirs.id.map(std::num::NonZeroU32::get));
                }
            }
            (Err(_), _) => prop_assert!(
                number == Some(0) || options.iter().any(|o| o & 0xc0 != 0 || o & 3 == 3 || o & 0x30 == 0x30)
            ),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn a_publish_of_ours_is_read_alike(
        (qos, dup, retain) in (0_u8..3, any::<bool>(), any::<bool>()),
        topic in "[a-zé/]{1,30}",
        payload in proptest::collection::vec(any::<u8>(), 0..40),
        (expiry, alias) in (proptest::option::of(1_u32..), 0_u16..3),
        users in proptest::collection::vec(("[a-z]{0,5}", "[a-z]{0,5}"), 0..3),
        ids in proptest::collection::vec(1_u32..268_435_455, 0..3),
    ) {
        let mut kept = b"\x03\0\x01t\x09\0\x02\0\xff".to_vec();
        for (name, value) in &users {
            kept.push(id::USER);
            super::super::wire::put_text(&mut kept, name);
            super::super::wire::put_text(&mut kept, value);
        }
        let number = NonZeroU16::new(7).unwrap();
        let extra = Extra {
            alias: [None, Some(Alias::New(number)), Some(Alias::Known(number))][usize::from(alias)],
            expiry,
            ids: &ids,
        };
        let publish = Publish {
            dup: dup && qos > 0,
            qos,
            retain,
            topic: &topic,
            packet_id: if qos > 0 { 5 } else { 0 },
            properties: &kept,
            payload: &payload,
        };
        let mut bytes = Vec::new();
        publish::encode_v5(&mut bytes, &publish, &extra);
        prop_assert_eq!(bytes.len(), publish::size_v5(&publish, &extra));
        let Some(theirs::Packet::Publish(theirs)) = read(&bytes) else {
            return Err(TestCaseError::fail("they read no PUBLISH"));
        };
        let TheirPublish { dup, retain, qos, topic: their_topic, packet_id, payload: their_payload, properties } = *theirs;
        prop_assert_eq!((dup, retain, qos.value()), (publish.dup, publish.retain, publish.qos));
        prop_assert_eq!(&*their_topic, if alias == 2 { "" } else { &*topic });
        prop_assert_eq!(packet_id.map_or(0, NonZeroU16::get), publish.packet_id);
        prop_assert_eq!(&their_payload[..], &payload[..]);
        let properties = properties.unwrap();
        prop_assert_eq!(properties.message_expiry_interval.map(std::num::NonZeroU32::get), expiry);
        prop_assert_eq!(properties.topic_alias, extra.alias.map(|_| number));
        prop_assert_eq!(properties.content_type.as_deref(), Some("t"));
        prop_assert_eq!(properties.correlation_data.as_deref(), Some(&[0, 0xff][..]));
        let their_users: Vec<_> = properties.user_properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        prop_assert_eq!(their_users, users);
        let their_ids: Vec<_> = properties.subscription_ids.iter().map(|id| id.get()).collect();
        prop_assert_eq!(&their_ids, &ids);

        // And back, as a client would send it: without identifiers of subscriptions.
        let mut bytes = Vec::new();
        publish::encode_v5(&mut bytes, &publish, &Extra { ids: &[], ..extra });
        let frame = frame(&bytes);
        let mut room = Vec::new();
        let (ours, their_alias) = publish::decode_v5(frame.first, frame.body, &mut room).unwrap();
        prop_assert_eq!(their_alias, extra.alias.map(|_| number));
        let (their_expiry, others) = properties::expiry_of(ours.properties);
        prop_assert_eq!((their_expiry, others), (expiry, &kept[..]));
        prop_assert_eq!((ours.dup, ours.qos, ours.retain, ours.packet_id), (publish.dup, publish.qos, publish.retain, publish.packet_id));
        prop_assert_eq!(ours.payload, publish.payload);
    }

    #[test]
    fn a_publish_that_we_accept_they_accept(
        flags in 0_u8..16,
        body in proptest::collection::vec(prop_oneof![0_u8..4, Just(b'a'), Just(0x23), Just(0x26), any::<u8>()], 0..20),
    ) {
        let bytes = packet(publish::TYPE | flags, &body);
        let mut room = Vec::new();
        let frame = frame(&bytes);
        if let Ok((publish, _)) = publish::decode_v5(frame.first, frame.body, &mut room)
            && properties::expiry_of(publish.properties).0 != Some(0)
        {
            prop_assert!(read(&bytes).is_some());
        }
    }
}

#[test]
fn packets_that_break_a_rule_are_refused_for_it() {
    let cases: [(u8, &[u8], Violation); 26] = [
        // Neither filter nor packet id.
        (0x82, &[0, 1, 0], Violation::Protocol),
        (0x82, &[0, 0, 0, 0, 1, b'a', 0], Violation::Malformed),
        // Options: QoS 3, reserved bits, retain handling 3.
        (0x82, &[0, 1, 0, 0, 1, b'a', 3], Violation::Protocol),
        (0x82, &[0, 1, 0, 0, 1, b'a', 0x40], Violation::Malformed),
        (0x82, &[0, 1, 0, 0, 1, b'a', 0x30], Violation::Protocol),
        (0x82, &[0, 1, 0, 0, 2, b'a', b'#', 1], Violation::Filter),
        (0x82, &[0, 1, 0, 0, 1, 0, 1], Violation::Text),
        // Two identifiers, one of zero, and a property of another packet.
        (
            0x82,
            &[0, 1, 4, 0x0b, 1, 0x0b, 2, 0, 1, b'a', 0],
            Violation::Repeated,
        ),
        (
            0x82,
            &[0, 1, 2, 0x0b, 0, 0, 1, b'a', 0],
            Violation::Protocol,
        ),
        (
            0x82,
            &[0, 1, 2, 0x01, 0, 0, 1, b'a', 0],
            Violation::Property,
        ),
        (0x82, b"\0\x01\0\0\x0a$share/g/a\x04", Violation::Protocol),
        // Reserved flags.
        (0x80, &[0, 1, 0, 0, 1, b'a', 0], Violation::Malformed),
        (0xa0, &[0, 1, 0, 0, 1, b'a'], Violation::Malformed),
        (0xa2, &[0, 1, 0], Violation::Protocol),
        (0xe1, &[], Violation::Malformed),
        (0x51, &[0, 1], Violation::Malformed),
        (0x60, &[0, 1], Violation::Malformed),
        (0x74, &[0, 1], Violation::Malformed),
        (0xf1, &[], Violation::Malformed),
        // DISCONNECT with a reason that only a server has, or with something behind its properties.
        (0xe0, &[0x8e], Violation::Malformed),
        (0xe0, &[0, 0, 0], Violation::Malformed),
        (0xe0, &[0, 2, 0x1c, 0], Violation::Property),
        // AUTH without enhanced authentication, a second CONNECT, what only servers send, type 0.
        (0xf0, &[], Violation::Unexpected),
        (0x10, &[], Violation::Unexpected),
        (0xd0, &[], Violation::Unexpected),
        (0x00, &[], Violation::Malformed),
    ];
    for (first, body, expected) in cases {
        let bytes = packet(first, body);
        assert_eq!(control(&frame(&bytes)), Err(expected), "{bytes:?}");
    }
}

#[test]
fn connects_that_break_a_rule_are_refused_for_it() {
    let refused =
        |flags, rest: &[u8]| control::connect(&frame(&connect_body(flags, rest))).unwrap_err();
    let ok = &[0, 0, 1, b'a'][..];
    assert!(control::connect(&frame(&connect_body(2, ok))).is_ok());
    for flags in [3, 0x0a, 0x22, 0x1e] {
        assert_eq!(refused(flags, ok), Violation::Malformed.into(), "{flags:x}");
    }
    assert_eq!(refused(2, &[0, 0, 1, b'a', 9]), Violation::Malformed.into());
    assert_eq!(refused(2, &[0, 0, 1, 0]), Violation::Text.into());
    let cases: [(&[u8], ConnectError); 6] = [
        (&[0x21, 0, 0], Violation::Protocol.into()),
        (&[0x27, 0, 0, 0, 0], Violation::Protocol.into()),
        (&[0x17, 2], Violation::Protocol.into()),
        (
            &[0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1],
            Violation::Repeated.into(),
        ),
        (&[0x16, 0, 0], Violation::Protocol.into()),
        (&[0x15, 0, 1, b'x', 0x16, 0, 0], ConnectError::AuthMethod),
    ];
    for (properties, expected) in cases {
        let length = u8::try_from(properties.len()).unwrap();
        let rest = [&[length], properties, &[0, 1, b'a']].concat();
        assert_eq!(refused(2, &rest), expected, "{properties:?}");
    }
}

#[test]
fn acknowledgements_are_read_in_all_their_forms() {
    let one = NonZeroU16::new(1).unwrap();
    let read = |body: &[u8]| acknowledgement(body, reason::is_of_puback);
    assert_eq!(read(&[0, 1]), Ok((one, 0)));
    assert_eq!(read(&[0, 1, 0x10]), Ok((one, 0x10)));
    assert_eq!(read(&[0, 1, 0x80, 0]), Ok((one, 0x80)));
    assert_eq!(read(b"\0\x01\x87\x04\x1f\0\x01x"), Ok((one, 0x87)));
    for wrong in [
        &[0, 0][..],
        &[0],
        &[0, 1, 1],
        &[0, 1, 0, 0, 0],
        &[0, 1, 0, 1],
    ] {
        assert_eq!(read(wrong), Err(Violation::Malformed), "{wrong:?}");
    }
    assert_eq!(read(&[0, 1, 0, 2, 0x01, 0]), Err(Violation::Property));
}

/// Appends an answer.
type Put<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn what_we_answer_they_read() {
    let one = NonZeroU16::new(1).unwrap();
    let mut out = Vec::new();
    let accepted = answers::Accepted {
        session_present: true,
        session_expiry: Some(7),
        receive_maximum: 9,
        maximum_qos: Some(1),
        packet_bytes: 1000,
        assigned_client_id: Some("id"),
        aliases: 5,
        keep_alive: Some(11),
        response_information: Some("r"),
    };
    answers::put_accepted(&mut out, &accepted);
    let Some(theirs::Packet::ConnectAck(ack)) = read(&out) else {
        panic!("they read no CONNACK");
    };
    assert!(ack.session_present);
    assert_eq!(ack.session_expiry_interval_secs, Some(7));
    assert_eq!(ack.receive_max.get(), 9);
    assert_eq!(ack.max_qos, QoS::AtLeastOnce);
    assert_eq!(ack.max_packet_size, Some(1000));
    assert_eq!(ack.assigned_client_id.as_deref(), Some("id"));
    assert_eq!(ack.topic_alias_max, 5);
    assert_eq!(ack.server_keepalive_sec, Some(11));
    assert_eq!(ack.response_info.as_deref(), Some("r"));

    let all: [Put<'_>; 6] = [
        &|out| answers::put_refused(out, reason::BAD_AUTHENTICATION_METHOD, "no", 1000),
        &|out| answers::put_suback(out, one, &[0, 1, reason::QUOTA_EXCEEDED], Some("no")),
        &|out| answers::put_unsuback(out, one, &[0, reason::NO_SUBSCRIPTION_EXISTED]),
        &|out| answers::put_disconnect(out, reason::SESSION_TAKEN_OVER, "no", 1000),
        &|out| answers::put_acknowledgement(out, 0x40, 1, reason::NOT_AUTHORIZED, None),
        &|out| answers::put_acknowledgement(out, 0x40, 1, reason::NOT_AUTHORIZED, Some("no")),
    ];
    for put in all {
        let mut out = Vec::new();
        put(&mut out);
        assert!(read(&out).is_some(), "{out:?}");
    }
    let mut small = Vec::new();
    answers::put_disconnect(&mut small, reason::SESSION_TAKEN_OVER, "no", 5);
    assert_eq!(small, [0xe0, 2, reason::SESSION_TAKEN_OVER, 0]);
}
