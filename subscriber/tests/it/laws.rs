//! What must hold when nothing fails: dead letters, the log's cursor, the live feed, the drain.

use service::Context;
use store::{Reader, Writer};
use subscriber::{LOG_CURSOR, start_from_log};

use crate::support::{PATIENCE, Place, TOPIC, on_topic, positions, small_batches};

#[tokio::test]
async fn every_poison_message_becomes_a_dead_letter() {
    let poison: [(&str, &[u8]); 12] = [
        (TOPIC, b""),
        (TOPIC, b"{"),
        (TOPIC, b"\xff\xfe"),
        (TOPIC, b"null"),
        (TOPIC, br#"{"timestamp":1,"lat":1e999,"lon":2}"#),
        (TOPIC, br#"{"timestamp":1,"lat":91,"lon":2}"#),
        (TOPIC, br#"{"timestamp":1,"lat":"NaN","lon":2}"#),
        (
            TOPIC,
            br#"{"deliverer_id":"e","timestamp":1,"lat":1,"lon":2}"#,
        ),
        (
            TOPIC,
            br#"{"order_id":{"$gt":""},"timestamp":1,"lat":1,"lon":2}"#,
        ),
        ("fleet/o/events", br#"{"event":"explode"}"#),
        ("test/deliverer_data", br#"{"timestamp":1,"lat":1,"lon":2}"#),
        ("test/deliverer_data", b"[[[[[[[[[["),
    ];
    let place = Place::new();
    let good = positions(0..100);
    let mut sent: Vec<(&str, &[u8])> = on_topic(&good).collect();
    for (index, message) in poison.iter().enumerate() {
        sent.insert(index * 9, *message);
    }
    // Identical poison is kept each time the log holds it.
    sent.push(poison[1]);
    sent.push(("sensors/temperature", b"not ours"));
    place.append(sent).await;
    let counted = place.subscribe(place.writer()).await;
    assert_eq!((counted.stored, counted.rejected), (100, 13), "{counted:?}");
    let letters = place.store.rejected(100, None).await.unwrap().items;
    assert_eq!(letters.len(), 13);
    for (_, payload) in poison {
        assert!(letters.iter().any(|letter| *letter.payload == *payload));
    }
}

#[tokio::test]
async fn the_log_may_go_up_to_what_the_store_has_on_disk() {
    let place = Place::new();
    let cursor = || {
        place
            .log
            .cursors()
            .get(LOG_CURSOR)
            .map(|cursor| cursor.next)
    };
    let payloads = positions(0..200);
    place.append(on_topic(&payloads)).await;
    assert_eq!(cursor(), None);
    place.subscribe(place.writer()).await;
    let end = place.log.next_durable();
    assert_eq!(cursor(), Some(end));
    assert_eq!(place.store.cursor(place.log.id()).await.unwrap(), Some(end));
    // Started again it begins where it ended: nothing is received twice.
    let counted = place.subscribe(place.writer()).await;
    assert_eq!(counted.received, 0);
}

#[tokio::test]
async fn a_store_ahead_of_its_log_stops_the_subscriber() {
    let place = Place::new();
    let ahead = store::Batch {
        cursor: Some(store::SourceCursor {
            source: place.log.id().to_owned(),
            next: place.log.next_durable() + 1,
        }),
        ..store::Batch::default()
    };
    place.store.append(ahead).await.unwrap();
    let context = Context::for_tests();
    let _handle = start_from_log(small_batches(), place.log.clone(), place.writer(), &context);
    tokio::time::timeout(PATIENCE, context.tasks.failed())
        .await
        .unwrap();
    context.tasks.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn what_is_stored_is_shown_live_and_visible_before_the_stop() {
    let place = Place::new();
    let context = Context::for_tests();
    let handle = start_from_log(small_batches(), place.log.clone(), place.writer(), &context);
    let mut live = handle.live.subscribe();
    let payloads = positions(0..40);
    place.append(on_topic(&payloads)).await;
    let mut seen = 0;
    while seen < 40 {
        let batch = tokio::time::timeout(PATIENCE, live.recv()).await.unwrap();
        seen += batch.unwrap().len();
    }
    // What was shown was stored before.
    let counted = handle.counters.snapshot();
    assert_eq!((counted.stored, counted.in_flight), (40, 0), "{counted:?}");
    assert_eq!(place.counts().await.positions, 40);
    context.tasks.stop(PATIENCE).await.unwrap();
    assert!(context.tasks.take_failures().is_empty());
    let text = context.metrics.encode();
    assert!(text.contains("subscriber_stored_total 40"), "{text}");
}

#[tokio::test]
async fn a_slow_live_viewer_holds_nobody_up() {
    let place = Place::new();
    let context = Context::for_tests();
    let mut config = small_batches();
    config.live_batches = 2;
    let handle = start_from_log(config, place.log.clone(), place.writer(), &context);
    let mut idle = handle.live.subscribe();
    let payloads = positions(0..500);
    place.append(on_topic(&payloads)).await;
    context.tasks.stop(PATIENCE).await.unwrap();
    assert_eq!(handle.counters.snapshot().stored, 500);
    drop(handle);
    let first = idle.recv().await;
    assert!(
        matches!(first, Err(tokio::sync::broadcast::error::RecvError::Lagged(n)) if n > 0),
        "a viewer that read nothing was told that it missed something"
    );
}

#[tokio::test]
async fn a_subscriber_with_nothing_to_store_is_ready() {
    let place = Place::new();
    let context = Context::for_tests();
    let _handle = start_from_log(small_batches(), place.log.clone(), place.writer(), &context);
    let ready = async {
        let reasons = || context.health.components();
        while reasons().is_empty() || reasons().iter().any(|(_, reason)| reason.is_some()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.unwrap();
    context.tasks.stop(PATIENCE).await.unwrap();
}
