//! A broker of a page, whose durable record outlives its connections, and which breaks each of them as
//! the test's plan says. Its codec is rumqttc's.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use rumqttc::{
    ConnAck, ConnectReturnCode, Packet, PubAck, Publish, QoS, SubAck, SubscribeReasonCode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What one connection does before it breaks; the last of a plan holds for all later ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    /// Publishes recorded before the connection is cut.
    pub(crate) records: usize,
    /// How many of those are acknowledged.
    pub(crate) acks: usize,
}

impl Life {
    pub(crate) const FOREVER: Self = Self {
        records: usize::MAX,
        acks: usize::MAX,
    };
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    /// Payloads recorded, connection by connection.
    pub(crate) received: Arc<Mutex<Vec<Vec<Vec<u8>>>>>,
    /// Packet ids of the PUBACKs that came.
    pub(crate) acked: Arc<Mutex<Vec<u16>>>,
}

/// Starts a broker that takes connections one after another; returns its port.
pub(crate) async fn start(plan: Vec<Life>, deliver: u16, record: Record) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut plan = VecDeque::from(plan);
    let serve = async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let life = plan.pop_front().unwrap_or(Life::FOREVER);
            record.received.lock().unwrap().push(Vec::new());
            // A broken connection is this broker's business; it waits for the next.
            drop(connection(socket, life, deliver, &record).await);
        }
    };
    tokio::task::JoinSet::spawn(Box::leak(Box::default()), serve);
    port
}

async fn connection(
    mut socket: TcpStream,
    life: Life,
    deliver: u16,
    record: &Record,
) -> std::io::Result<()> {
    let mut input = BytesMut::new();
    let mut published = 0;
    loop {
        let packet = match Packet::read(&mut input, 1 << 20) {
            Ok(packet) => packet,
            Err(_) if socket.read_buf(&mut input).await? == 0 => return Ok(()),
            Err(_) => continue,
        };
        let mut output = BytesMut::new();
        match packet {
            Packet::Connect(_) => write(
                &Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false)),
                &mut output,
            ),
            Packet::Publish(publish) => {
                published += 1;
                let payload = publish.payload.to_vec();
                record
                    .received
                    .lock()
                    .unwrap()
                    .last_mut()
                    .unwrap()
                    .push(payload);
                if published <= life.acks && publish.pkid != 0 {
                    write(&Packet::PubAck(PubAck::new(publish.pkid)), &mut output);
                }
            }
            Packet::Subscribe(subscribe) => {
                let granted = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)];
                write(
                    &Packet::SubAck(SubAck::new(subscribe.pkid, granted)),
                    &mut output,
                );
                for packet_id in 1..=deliver {
                    let mut publish =
                        Publish::new("t", QoS::AtLeastOnce, packet_id.to_string().into_bytes());
                    publish.pkid = packet_id;
                    write(&Packet::Publish(publish), &mut output);
                }
            }
            Packet::PubAck(ack) => record.acked.lock().unwrap().push(ack.pkid),
            Packet::PingReq => write(&Packet::PingResp, &mut output),
            _ => {}
        }
        socket.write_all(&output).await?;
        if published >= life.records {
            return Ok(());
        }
    }
}

fn write(packet: &Packet, output: &mut BytesMut) {
    packet.write(output, 1 << 20).unwrap();
}
