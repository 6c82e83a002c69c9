//! MQTT 5 over the raw client: packets are made and taken apart here by hand.

use std::net::SocketAddr;

use crate::client::{Client, Packet, packet, text};

/// Properties with their length in front.
pub(crate) fn properties(bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 128, "the tests' properties are short");
    let mut out = vec![u8::try_from(bytes.len()).unwrap()];
    out.extend_from_slice(bytes);
    out
}

pub(crate) fn user(name: &str, value: &str) -> Vec<u8> {
    [&[0x26][..], &text(name), &text(value)].concat()
}

pub(crate) fn four(id: u8, value: u32) -> Vec<u8> {
    [&[id][..], &value.to_be_bytes()].concat()
}

pub(crate) fn two(id: u8, value: u16) -> Vec<u8> {
    [&[id][..], &value.to_be_bytes()].concat()
}

pub(crate) fn connect(id: &str, flags: u8, props: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend_from_slice(&[5, flags, 0, 0]);
    body.extend_from_slice(&properties(props));
    body.extend_from_slice(&text(id));
    body.extend_from_slice(rest);
    packet(0x10, &body)
}

/// A PUBLISH; `flags` are the lower half of its first byte.
pub(crate) fn publish(flags: u8, topic: &str, id: u16, props: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    if flags & 0b110 != 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.extend_from_slice(&properties(props));
    body.extend_from_slice(payload);
    packet(0x30 | flags, &body)
}

pub(crate) const CLEAN: u8 = 0b10;

/// A PUBLISH as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) id: u16,
    pub(crate) properties: Vec<u8>,
}

impl Client {
    /// Connects with these properties; returns whether a session was present, and the properties of CONNACK.
    pub(crate) async fn connect5(
        addr: SocketAddr,
        id: &str,
        flags: u8,
        props: &[u8],
    ) -> (Self, bool, Vec<u8>) {
        let mut client = Self::open(addr).await;
        client.send(&connect(id, flags, props, &[])).await;
        let Packet { first, body } = client.receive().await.unwrap();
        assert_eq!((first, body[1]), (0x20, 0), "{body:?}");
        (client, body[0] == 1, body[3..].to_vec())
    }

    /// Subscribes and returns the reasons; `props` without their length.
    pub(crate) async fn subscribe5(&mut self, filters: &[(&str, u8)], props: &[u8]) -> Vec<u8> {
        let mut body = vec![0, 9];
        body.extend_from_slice(&properties(props));
        for (filter, options) in filters {
            body.extend_from_slice(&text(filter));
            body.push(*options);
        }
        self.send(&packet(0x82, &body)).await;
        let answer = self.receive().await.unwrap();
        assert_eq!((answer.first, &answer.body[..2]), (0x90, &[0, 9][..]));
        let length = usize::from(answer.body[2]);
        answer.body[3 + length..].to_vec()
    }

    /// Publishes with QoS 1 and waits for the PUBACK.
    pub(crate) async fn publish5(&mut self, flags: u8, topic: &str, props: &[u8], payload: &str) {
        let bytes = publish(0b010 | flags, topic, 77, props, payload.as_bytes());
        self.send(&bytes).await;
        self.expect(0x40, &[0, 77]).await;
    }

    /// Receives a message and acknowledges it.
    pub(crate) async fn message5(&mut self) -> Message {
        let Packet { first, body } = self.receive().await.expect("closed");
        assert_eq!(first & 0xf0, 0x30, "no PUBLISH: {first:x} {body:?}");
        let topic_len = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let (topic, mut rest) = body[2..].split_at(topic_len);
        let qos = (first >> 1) & 3;
        let mut id = 0;
        if qos > 0 {
            id = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
        }
        let (properties, payload) = rest[1..].split_at(usize::from(rest[0]));
        if qos == 1 {
            self.acknowledge(id).await;
        }
        Message {
            topic: String::from_utf8(topic.to_vec()).unwrap(),
            payload: String::from_utf8(payload.to_vec()).unwrap(),
            qos,
            retain: first & 1 != 0,
            dup: first & 8 != 0,
            id,
            properties: properties.to_vec(),
        }
    }

    /// Expects a DISCONNECT with this reason, and the end.
    pub(crate) async fn expect_disconnect(&mut self, reason: u8) {
        let packet = self.receive().await.expect("no DISCONNECT");
        assert_eq!((packet.first, packet.body[0]), (0xe0, reason), "{packet:?}");
        self.expect_closed().await;
    }

    /// Sends a DISCONNECT and waits for the end.
    pub(crate) async fn disconnect5(mut self, reason: u8, props: &[u8]) {
        let body = [&[reason][..], &properties(props)].concat();
        self.send(&packet(0xe0, &body)).await;
        self.expect_closed().await;
    }
}
