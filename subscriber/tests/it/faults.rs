//! What must hold when the store fails, refuses, forgets or lies.

use std::sync::{Arc, Mutex};

use service::Context;
use store::{ErrorKind, Reader};
use subscriber::{LOG_CURSOR, start_from_log};

use crate::support::{Fault, Faulty, PATIENCE, Place, on_topic, positions, small_batches};

#[tokio::test]
async fn an_unavailable_store_is_tried_until_it_answers() {
    let place = Place::new();
    let payloads = positions(0..100);
    place.append(on_topic(&payloads)).await;
    let unavailable = Fault::Fails(ErrorKind::Unavailable);
    let plan = [
        unavailable,
        unavailable,
        Fault::None,
        Fault::StoresAndFails,
        unavailable,
    ];
    let store = Faulty::new(&place.store, plan);
    let context = Context::for_tests();
    let handle = start_from_log(
        small_batches(),
        place.log.clone(),
        Arc::<Faulty>::clone(&store),
        &context,
    );
    let all_settled = async {
        while handle.counters.snapshot().in_flight > 0 || !store.is_done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all_settled).await.unwrap();
    context.tasks.stop(PATIENCE).await.unwrap();
    assert!(context.tasks.take_failures().is_empty());
    let counted = handle.counters.snapshot();
    // The batch stored by a call that failed is a duplicate the second time.
    assert_eq!(counted.received, 100);
    assert_eq!(counted.stored + counted.duplicate, 100, "{counted:?}");
    assert!(counted.duplicate > 0, "{counted:?}");
    assert_eq!(place.counts().await.positions, 100);
}

#[tokio::test]
async fn what_the_store_refuses_becomes_a_dead_letter_and_the_rest_is_stored() {
    let place = Place::new();
    let payloads = positions(0..200);
    let mut sent: Vec<_> = on_topic(&payloads).collect();
    for index in [0, 17, 18, 150] {
        sent[index].0 = "deliveries/refused/location";
    }
    let both = br#"[{"timestamp":1,"lat":1,"lon":2},{"timestamp":2,"lat":1,"lon":2},{}]"#;
    sent.push(("deliveries/refused/location", both));
    place.append(sent).await;
    let store = Arc::new(Faulty {
        inner: place.store.clone(),
        plan: Mutex::default(),
        refused: Some("refused"),
    });
    let counted = place.subscribe(store).await;
    assert_eq!((counted.stored, counted.rejected), (196, 7), "{counted:?}");
    let letters = place.store.rejected(100, None).await.unwrap().items;
    let refused = letters
        .iter()
        .filter(|letter| letter.defect.detail.contains("the store refuses it"));
    assert_eq!(refused.count(), 6);
    let end = place.log.next_durable();
    assert_eq!(
        store::Writer::cursor(&place.store, place.log.id())
            .await
            .unwrap(),
        Some(end),
        "the place moved past the refused"
    );
}

#[tokio::test]
async fn after_a_crash_at_any_batch_everything_is_stored_once() {
    let place = Place::new();
    let payloads = positions(0..300);
    place.append(on_topic(&payloads)).await;
    let mut stored = 0;
    for crash_at in 0..8 {
        let plan = (0..crash_at)
            .map(|_| Fault::None)
            .chain([Fault::Fails(ErrorKind::Data)]);
        let store = Faulty::new(&place.store, plan);
        let context = Context::for_tests();
        let handle = start_from_log(small_batches(), place.log.clone(), store, &context);
        // The last rounds find less left than their plan allows, and simply end.
        let ended = async {
            tokio::select! {
                () = context.tasks.failed() => {}
                () = caught_up(&place) => {}
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.unwrap();
        context.tasks.stop(PATIENCE).await.unwrap();
        stored += handle.counters.snapshot().stored;
    }
    stored += place.subscribe(place.writer()).await.stored;
    assert_eq!(stored, 300);
    assert_eq!(place.counts().await.positions, 300);
}

async fn caught_up(place: &Place) {
    while store::Writer::cursor(&place.store, place.log.id())
        .await
        .unwrap()
        < Some(place.log.next_durable())
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stop_while_the_store_is_away_confirms_nothing_and_loses_nothing() {
    let place = Place::new();
    let payloads = positions(0..50);
    place.append(on_topic(&payloads)).await;
    let away = std::iter::repeat_n(Fault::Fails(ErrorKind::Unavailable), 10_000);
    let store = Faulty::new(&place.store, away);
    let context = Context::for_tests();
    let _handle = start_from_log(small_batches(), place.log.clone(), store, &context);
    context.tasks.stop(PATIENCE).await.unwrap();
    assert!(context.tasks.take_failures().is_empty());
    assert_eq!(place.counts().await.positions, 0);
    let pinned = place.log.cursors().get(LOG_CURSOR).unwrap();
    assert_eq!(pinned.next, place.log.first(), "the log keeps everything");
    assert_eq!(place.subscribe(place.writer()).await.stored, 50);
}

#[tokio::test]
async fn control_a_dropped_record_breaks_the_law_and_confirms_nothing() {
    let place = Place::new();
    let payloads = positions(0..10);
    place.append(on_topic(&payloads)).await;
    let store = Faulty::new(&place.store, [Fault::Drops]);
    let context = Context::for_tests();
    let _handle = start_from_log(small_batches(), place.log.clone(), store, &context);
    tokio::time::timeout(PATIENCE, context.tasks.failed())
        .await
        .unwrap();
    context.tasks.stop(PATIENCE).await.unwrap();
    let failures = context.tasks.take_failures();
    let text = format!("{failures:?}");
    assert!(text.contains("Unaccounted"), "{text}");
    assert_eq!(
        place.log.cursors().get(LOG_CURSOR).unwrap().next,
        place.log.first(),
        "the log lost its pin to a batch that was not stored whole"
    );
}

#[tokio::test]
async fn control_a_store_that_lies_is_noticed_by_its_own_counts() {
    let place = Place::new();
    let payloads = positions(0..100);
    place.append(on_topic(&payloads)).await;
    let store = Faulty::new(&place.store, [Fault::DropsAndLies]);
    let counted = place.subscribe(store).await;
    assert_eq!(counted.stored, 100);
    assert_ne!(place.counts().await.positions, counted.stored);
}
