//! A log without room: clients are not read, nothing is lost, and it goes on by itself.

use ::broker::{SessionSettings, Settings};
use ingest_log::LogCondition;
use service::ByteSize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
    until("that is said", || broker.unready("ingest_log").is_some()).await;
    let reason = broker.unready("ingest_log").unwrap();
    assert!(reason.starts_with("the log is full: "), "{reason}");
    assert!(broker.metric("ingest_log_accepts") < 0.5);
    let behind = broker.labelled("consumer=\"session/s\"");
    assert!(behind >= durable, "all of it is kept for who is away");
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
    until("that is said", || broker.unready("ingest_log").is_none()).await;
    assert!(broker.metric("ingest_log_accepts") > 0.5);
    broker.stop().await;
}

/// Fills a log of 2 MiB that is kept for an absent client with this id; tells whether it got room by itself.
async fn gets_room(id: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        mqtt_max_packet_size: Some(ByteSize::kib(16)),
        log_segment_size: Some(ByteSize::kib(256)),
        log_max_pending: Some(ByteSize::kib(512)),
        log_max_size: Some(ByteSize::mib(2)),
        sessions: SessionSettings {
            mqtt_max_session_expiry: Some("2s".parse().unwrap()),
            mqtt_pinned: Some(vec!["pinned".to_owned()]),
            ..SessionSettings::default()
        },
        ..Settings::default()
    };
    let broker = Broker::start_with(dir.path(), settings).await;
    // This one expires in any case.
    let mut witness = broker.client("witness", false).await;
    witness
        .subscribe(&[("nothing", 1), ("$share/g/nothing", 1)])
        .await;
    witness.disconnect().await;
    let mut dead = broker.client(id, false).await;
    dead.subscribe(&[("a", 1)]).await;
    dead.disconnect().await;
    let publisher = broker.client("p", true).await;
    let (mut read, mut write) = publisher.into_stream().into_split();
    let writing = tokio::spawn(async move {
        for number in 0..20_000_u32 {
            let id = u16::try_from(number).unwrap() + 1;
            let packet = publish(QOS_1, "a", id, &[b'x'; 300]);
            if write.write_all(&packet).await.is_err() {
                break;
            }
        }
        // Dropped it would end the connection.
        write
    });
    let acks = tokio::spawn(async move {
        let mut acks = vec![0; 20_000 * 4];
        read.read_exact(&mut acks).await.is_ok()
    });
    let full = || matches!(broker.log().status().condition, LogCondition::Full(_));
    until("the log is full", full).await;
    let gone = || broker.metric("broker_sessions_expired_total") > 0.5;
    until("a session has expired", gone).await;
    let pinned = broker
        .log()
        .cursors()
        .get(&format!("session/{id}"))
        .is_some();
    if pinned && id == "pinned" {
        assert!(full(), "what is pinned holds the log");
        acks.abort();
        writing.abort();
        // A full log is closed with an error.
        drop(broker);
        return false;
    }
    let all = tokio::time::timeout(2 * LIMIT, acks).await;
    assert!(all.unwrap().unwrap(), "all is acknowledged");
    broker.stop().await;
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_expires_gives_a_full_log_its_room_and_a_pinned_one_does_not() {
    assert!(gets_room("dead").await);
    assert!(!gets_room("pinned").await);
}
