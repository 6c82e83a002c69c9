//! Laws of [`crate::Writer`]: every item counted and stored once, the cursor moving with it.

use super::build::{at, batch, letter, position, update};
use super::{Verdict, ensure, ensure_eq};
use crate::{Appended, Batch, Counts, ErrorKind, FleetEventQuery, SourceCursor, Store};

pub(super) async fn a_batch_is_counted_item_by_item(store: &dyn Store) -> Verdict {
    let mut mixed = batch([
        position(Some("o"), "d", 0, Some(1)),
        position(Some("o"), "d", 0, Some(1)),
    ]);
    mixed.records.push(update("org", "v", 0));
    mixed.rejects.push(letter(b"{", 0, Some(9)));
    let expected = Appended {
        stored: 2,
        duplicate: 1,
        rejected: 1,
    };
    ensure_eq!(store.append(mixed).await?, expected, "a mixed batch");
    ensure_eq!(
        store.append(Batch::default()).await?,
        Appended::default(),
        "an empty batch"
    );
    let counts = Counts {
        positions: 2,
        fleet_events: 1,
        rejected: 1,
        orders: 1,
        deliverers: 2,
    };
    ensure_eq!(store.counts().await?, counts, "what the store holds");
    Ok(())
}

pub(super) async fn an_item_is_stored_once_within_a_batch(store: &dyn Store) -> Verdict {
    let with_seq = position(Some("o"), "d", 0, Some(3));
    let without = position(Some("o"), "d", 0, None);
    let no_order = position(None, "d", 0, None);
    let twice = [&with_seq, &without, &no_order].map(Clone::clone);
    let appended = store
        .append(batch(twice.iter().cloned().chain(twice.clone())))
        .await?;
    ensure_eq!(
        (appended.stored, appended.duplicate),
        (3, 3),
        "three items, each twice"
    );
    ensure_eq!(store.counts().await?.positions, 3, "rows");
    Ok(())
}

pub(super) async fn an_item_is_stored_once_across_batches(store: &dyn Store) -> Verdict {
    let points = || {
        (0..50).flat_map(|i| {
            [
                position(Some("o"), "d", i, Some(1)),
                position(Some("o"), "d", i, None),
                position(None, "d", i, None),
            ]
        })
    };
    ensure_eq!(
        store.append(batch(points())).await?.stored,
        150,
        "first time"
    );
    for round in 0..3 {
        let again = store.append(batch(points())).await?;
        ensure_eq!(
            (again.stored, again.duplicate),
            (0, 150),
            "repetition {round}"
        );
    }
    ensure_eq!(store.counts().await?.positions, 150, "rows");
    Ok(())
}

pub(super) async fn different_items_are_all_stored(store: &dyn Store) -> Verdict {
    let mut elsewhere = position(Some("o"), "d", 0, None);
    elsewhere.lat = super::build::latitude(52.000_001);
    let points = [
        position(Some("o"), "d", 0, None),
        elsewhere,
        position(Some("o"), "d", 0, Some(0)),
        position(Some("o"), "d", 0, Some(1)),
        position(Some("o"), "d", 1, Some(1)),
        position(Some("o"), "e", 0, Some(1)),
        position(Some("p"), "d", 0, Some(1)),
        position(None, "d", 0, Some(1)),
    ];
    let expected = points.len() as u64;
    ensure_eq!(
        store.append(batch(points)).await?.stored,
        expected,
        "points that differ in one part of their identity"
    );
    Ok(())
}

pub(super) async fn an_event_and_its_position_are_one_item(store: &dyn Store) -> Verdict {
    let both = || Batch {
        records: vec![update("org", "v", 0), update("org", "v", 0)],
        ..Batch::default()
    };
    let appended = store.append(both()).await?;
    ensure_eq!((appended.stored, appended.duplicate), (1, 1), "twice");
    let again = store.append(both()).await?;
    ensure_eq!((again.stored, again.duplicate), (0, 2), "twice again");
    let counts = store.counts().await?;
    ensure_eq!(
        (counts.positions, counts.fleet_events),
        (1, 1),
        "rows of both kinds"
    );
    Ok(())
}

pub(super) async fn letters_from_a_log_are_all_kept(store: &dyn Store) -> Verdict {
    let letters = || Batch {
        rejects: vec![
            letter(b"x", 0, Some(1)),
            letter(b"x", 0, Some(2)),
            letter(b"x", 1, Some(2)),
        ],
        ..Batch::default()
    };
    ensure_eq!(store.append(letters()).await?.rejected, 3, "letters");
    let again = store.append(letters()).await?;
    ensure_eq!(
        (again.rejected, again.duplicate),
        (0, 3),
        "the same messages of the log again"
    );
    let first = store.rejected(2, None).await?;
    let cursor = first.next_cursor.as_deref();
    ensure!(cursor.is_some(), "two of three letters end no list");
    let second = store.rejected(2, cursor).await?;
    let seen: Vec<_> = first.items.into_iter().chain(second.items).collect();
    ensure_eq!(seen, letters().rejects, "letters in the order stored");
    ensure_eq!(second.next_cursor, None, "the end of the list");
    Ok(())
}

pub(super) async fn letters_without_a_log_are_kept_once(store: &dyn Store) -> Verdict {
    let mut later = letter(b"\x00\xff{", 0, None);
    later.received_time = at(5);
    let mut other_topic = letter(b"\x00\xff{", 0, None);
    other_topic.topic = "fleet/o/events".into();
    let appended = store
        .append(Batch {
            rejects: vec![letter(b"\x00\xff{", 0, None), later, other_topic],
            ..Batch::default()
        })
        .await?;
    ensure_eq!(
        (appended.rejected, appended.duplicate),
        (2, 1),
        "the same bytes twice on one topic, once on another"
    );
    Ok(())
}

fn at_cursor(source: &str, next: u64, micros: i64) -> Batch {
    Batch {
        cursor: Some(SourceCursor {
            source: source.into(),
            next,
        }),
        ..batch([position(Some("o"), "d", micros, Some(1))])
    }
}

pub(super) async fn the_cursor_moves_with_its_batch(store: &dyn Store) -> Verdict {
    ensure_eq!(store.cursor("log").await?, None, "a source never seen");
    ensure_eq!(store.sync("log").await?, None, "a source never seen");
    store.append(at_cursor("log", 7, 0)).await?;
    ensure_eq!(store.cursor("log").await?, Some(7), "after its batch");
    store.append(at_cursor("$other", 3, 1)).await?;
    let only_cursor = Batch {
        records: Vec::new(),
        ..at_cursor("log", 8, 0)
    };
    store.append(only_cursor).await?;
    ensure_eq!(store.cursor("log").await?, Some(8), "after an empty batch");
    ensure_eq!(store.cursor("$other").await?, Some(3), "of another source");
    ensure_eq!(store.sync("log").await?, Some(8), "on disk");
    Ok(())
}

pub(super) async fn the_cursor_never_goes_back(store: &dyn Store) -> Verdict {
    store.append(at_cursor("log", 9, 0)).await?;
    store.append(at_cursor("log", 4, 0)).await?;
    ensure_eq!(store.cursor("log").await?, Some(9), "after an old batch");
    Ok(())
}

pub(super) async fn foreign_cursors_are_refused(store: &dyn Store) -> Verdict {
    for foreign in ["", "x", "7", "h.1.2.3", "\u{1f6b2}", "{\"$gt\":\"\"}"] {
        let letters = store.rejected(1, Some(foreign)).await;
        let events = store
            .fleet_events(&FleetEventQuery {
                limit: 1,
                after: Some(foreign.into()),
                ..FleetEventQuery::default()
            })
            .await;
        let kinds = (
            letters.map_err(|e| e.kind()).err(),
            events.map_err(|e| e.kind()).err(),
        );
        ensure_eq!(
            kinds,
            (Some(ErrorKind::Invalid), Some(ErrorKind::Invalid)),
            "the cursor {foreign:?}"
        );
    }
    Ok(())
}
