//! A log without room: clients are not read, nothing is lost, and it goes on by itself.

use ::broker::Settings;
use ingest_log::LogCondition;
use service::ByteSize;
use tokio::io::AsyncWriteExt;

use crate::broker::{Broker, LIMIT, until};
use crate::client::{Client, QOS_1, packet, publish};

const MESSAGES: u32 = 40_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_holds_its_clients_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        mqtt_max_packet_size: Some(ByteSize::kib(16)),
        log_segment_size: Some(ByteSize::kib(256)),
        log_max_pending: Some(ByteSize::kib(512)),
        log_max_size: Some(ByteSize::mib(2)),
        ..Settings::default()
    };
    let broker = Broker::start_with(dir.path(), settings).await;
    let mut subscriber = broker.client("s", false).await;
    subscriber.subscribe(&[("a", 1)]).await;
    subscriber.disconnect().await;

    let publisher = broker.client("p", true).await;
    let (read, mut write) = publisher.into_stream().into_split();
    let writing = tokio::spawn(async move {
        for number in 0..MESSAGES {
            let id = u16::try_from(number % 60_000).unwrap() + 1;
            let payload = format!("{number:0>300}");
            write
                .write_all(&publish(QOS_1, "a", id, payload.as_bytes()))
                .await
                .unwrap();
        }
        write
    });
    let full = || matches!(broker.log().status().condition, LogCondition::Full(_));
    until("the log is full", full).await;
    let durable = broker.log().next_durable();
    assert!(durable < u64::from(MESSAGES), "the client was not held");
    // Others are still served: it is intake that waits.
    let mut other = broker.client("other", true).await;
    other.expect_quiet().await;
    drop(other);

    let mut subscriber = broker.client("s", false).await;
    let draining = tokio::time::timeout(4 * LIMIT, async {
        for number in 0..MESSAGES {
            let message = subscriber.message().await;
            assert_eq!(message.payload, format!("{number:0>300}").as_bytes());
            subscriber
                .send(&packet(0x40, &message.id.to_be_bytes()))
                .await;
        }
    });
    draining.await.unwrap();
    let write = writing.await.unwrap();
    let mut publisher = Client::from_stream(read.reunite(write).unwrap());
    for number in 0..MESSAGES {
        let id = u16::try_from(number % 60_000).unwrap() + 1;
        publisher.expect(0x40, &id.to_be_bytes()).await;
    }
    until("the log has room", || {
        broker.log().status().condition == LogCondition::Ok
    })
    .await;
    broker.stop().await;
}
