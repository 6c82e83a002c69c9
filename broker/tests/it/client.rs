//! A client of raw sockets: it says exactly what a test wants said, right or wrong.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::broker::LIMIT;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
}

/// A PUBLISH as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) id: u16,
}

pub(crate) struct Client<S = TcpStream> {
    stream: S,
}

pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (vec![first], body.len());
    loop {
        let low = u8::try_from(rest % 128).unwrap();
        rest /= 128;
        if rest == 0 {
            bytes.push(low);
            break;
        }
        bytes.push(low | 128);
    }
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A CONNECT of MQTT 3.1.1; what `flags` announce beyond the client id is in `rest`.
pub(crate) fn connect(id: &str, flags: u8, keep_alive: u16, rest: &[u8]) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend_from_slice(&[4, flags]);
    body.extend_from_slice(&keep_alive.to_be_bytes());
    body.extend_from_slice(&text(id));
    body.extend_from_slice(rest);
    packet(0x10, &body)
}

/// A PUBLISH; `flags` are the lower half of its first byte.
pub(crate) fn publish(flags: u8, topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    if flags & 0b110 != 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.extend_from_slice(payload);
    packet(0x30 | flags, &body)
}

pub(crate) const QOS_1: u8 = 0b010;
pub(crate) const RETAIN: u8 = 0b001;
const CLEAN: u8 = 0b10;

impl Client {
    pub(crate) async fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Connects; returns whether a session was present.
    pub(crate) async fn connect(addr: SocketAddr, id: &str, clean: bool) -> (Self, bool) {
        let flags = if clean { CLEAN } else { 0 };
        let mut client = Self::open(addr).await;
        client.send(&connect(id, flags, 0, &[])).await;
        let answer = client.receive().await.unwrap();
        assert_eq!((answer.first, answer.body[1]), (0x20, 0), "{answer:?}");
        let present = answer.body[0] == 1;
        (client, present)
    }

    /// Parts the client into its halves.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        timeout(LIMIT, self.stream.write_all(bytes))
            .await
            .unwrap()
            .unwrap();
    }

    /// Sends to a broker that may have closed the connection.
    pub(crate) async fn send_or_fail(&mut self, bytes: &[u8]) {
        let sent = timeout(LIMIT, self.stream.write_all(bytes)).await.unwrap();
        drop(sent);
    }

    /// Returns the next packet, or `None` when the broker closed the connection.
    pub(crate) async fn receive(&mut self) -> Option<Packet> {
        timeout(LIMIT, self.read())
            .await
            .expect("the broker is silent")
    }

    async fn read(&mut self) -> Option<Packet> {
        let first = self.stream.read_u8().await.ok()?;
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            length |= usize::from(byte & 127) << shift;
            shift += 7;
            if byte & 128 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(Packet { first, body })
    }

    pub(crate) async fn expect(&mut self, first: u8, body: &[u8]) {
        let expected = Packet {
            first,
            body: body.to_vec(),
        };
        assert_eq!(self.receive().await, Some(expected));
    }

    pub(crate) async fn expect_closed(&mut self) {
        assert_eq!(self.receive().await, None);
    }

    /// Asks for a PINGRESP: what the broker had to send before has come by then, and nothing else may.
    pub(crate) async fn expect_quiet(&mut self) {
        self.send(&[0xc0, 0]).await;
        self.expect(0xd0, &[]).await;
    }

    pub(crate) async fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        let mut body = vec![0, 9];
        for (filter, qos) in filters {
            body.extend_from_slice(&text(filter));
            body.push(*qos);
        }
        self.send(&packet(0x82, &body)).await;
        let answer = self.receive().await.unwrap();
        assert_eq!((answer.first, &answer.body[..2]), (0x90, &[0, 9][..]));
        answer.body[2..].to_vec()
    }

    pub(crate) async fn unsubscribe(&mut self, filter: &str) {
        let mut body = vec![0, 8];
        body.extend_from_slice(&text(filter));
        self.send(&packet(0xa2, &body)).await;
        self.expect(0xb0, &[0, 8]).await;
    }

    /// Publishes with QoS 1 and waits for the PUBACK.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &str) {
        self.send(&publish(QOS_1, topic, 77, payload.as_bytes()))
            .await;
        self.expect(0x40, &[0, 77]).await;
    }

    pub(crate) async fn acknowledge(&mut self, id: u16) {
        self.send(&packet(0x40, &id.to_be_bytes())).await;
    }

    pub(crate) async fn message(&mut self) -> Received {
        let Packet { first, body } = self.receive().await.expect("closed");
        assert_eq!(first & 0xf0, 0x30, "no PUBLISH: {first:x} {body:?}");
        let topic_len = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let (topic, rest) = body[2..].split_at(topic_len);
        let qos = (first >> 1) & 3;
        let (id, payload) = if qos > 0 {
            (u16::from_be_bytes([rest[0], rest[1]]), &rest[2..])
        } else {
            (0, rest)
        };
        Received {
            topic: String::from_utf8(topic.to_vec()).unwrap(),
            payload: payload.to_vec(),
            qos,
            retain: first & 1 != 0,
            dup: first & 8 != 0,
            id,
        }
    }

    /// Returns the payloads of the next messages, acknowledging each.
    pub(crate) async fn messages(&mut self, count: usize) -> Vec<String> {
        let mut payloads = Vec::new();
        for _ in 0..count {
            let message = self.message().await;
            if message.qos > 0 {
                self.acknowledge(message.id).await;
            }
            payloads.push(String::from_utf8(message.payload).unwrap());
        }
        payloads
    }

    pub(crate) async fn disconnect(mut self) {
        self.send(&[0xe0, 0]).await;
        self.expect_closed().await;
    }

    pub(crate) fn from_stream(stream: S) -> Self {
        Self { stream }
    }
}
