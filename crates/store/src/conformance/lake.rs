//! Laws of [`crate::LakeSource`]: every row in exactly one proven window, purged only when verified.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future;
use model::{OrderId, Position};

use super::build::{batch, letter, position, update};
use super::{Verdict, Violation, ensure, ensure_eq};
use crate::{Batch, ErrorKind, LakeTable, Store, StoreError, Stored, Visitor, Window, WindowState};

fn window(table: LakeTable, writer_id: &str, after: u64, to: u64) -> Window {
    Window {
        table,
        writer_id: writer_id.into(),
        after,
        to,
        state: WindowState::Planned,
        rows: None,
    }
}

fn kind(outcome: Result<(), StoreError>) -> Option<ErrorKind> {
    outcome.err().map(|e| e.kind())
}

/// Returns the only writer that stored into a table, and its committed sequence.
async fn writer(store: &dyn Store, table: LakeTable) -> Result<(String, u64), Violation> {
    let mut writers = store.writers(table).await?;
    writers.retain(|w| w.committed > 0);
    match writers.pop() {
        Some(one) if writers.is_empty() => Ok((one.writer_id, one.committed)),
        Some(_) => Err(Violation::new("one store object has several writers")),
        None => Err(Violation::new("no writer of stored rows")),
    }
}

pub(super) async fn rows_carry_proven_sequences(store: &dyn Store) -> Verdict {
    let mut mixed = batch((0..20).map(|i| position(Some("o"), "d", i, None)));
    mixed
        .records
        .extend((0..5).map(|i| update("org", "v", 100 + i)));
    mixed.rejects = (0..3).map(|i| letter(b"{", i, Some(1))).collect();
    store.append(mixed).await?;
    store
        .append(batch((10..30).map(|i| position(Some("o"), "d", i, None))))
        .await?;
    for (table, expected) in [
        (LakeTable::DelivererLocation, 35),
        (LakeTable::FleetEvent, 5),
        (LakeTable::Rejected, 3),
    ] {
        let (id, committed) = writer(store, table).await?;
        let (mut seqs, mut after) = (Vec::new(), 0);
        loop {
            let part: Vec<u64> = match table {
                LakeTable::DelivererLocation => store
                    .scan_positions(&id, after, committed, 4)
                    .await?
                    .into_iter()
                    .map(|s| s.writer_seq)
                    .collect(),
                LakeTable::FleetEvent => store
                    .scan_fleet_events(&id, after, committed, 4)
                    .await?
                    .into_iter()
                    .map(|s| s.writer_seq)
                    .collect(),
                LakeTable::Rejected => store
                    .scan_rejected(&id, after, committed, 4)
                    .await?
                    .into_iter()
                    .map(|s| s.writer_seq)
                    .collect(),
            };
            let Some(&last) = part.last() else { break };
            ensure!(part.len() <= 4, "a scan above its limit");
            seqs.extend(part);
            after = last;
        }
        ensure_eq!(seqs.len() as u64, expected, "rows in {}", table.as_str());
        ensure!(
            seqs.is_sorted_by(|a, b| a < b) && seqs.iter().all(|seq| (1..=committed).contains(seq)),
            "sequences in {} do not ascend from 1 to the committed {committed}: {seqs:?}",
            table.as_str()
        );
    }
    ensure!(
        store.scan_positions("nobody", 0, 100, 10).await?.is_empty(),
        "a writer that never was has rows"
    );
    visits_show_what_scans_return(store).await
}

/// Keeps what it is shown.
#[derive(Default)]
struct Kept(Vec<Stored<Position>>);

impl Visitor<Position> for Kept {
    fn visit(&mut self, row: &Stored<Position>) {
        self.0.push(row.clone());
    }
}

async fn visits_show_what_scans_return(store: &dyn Store) -> Verdict {
    let (id, committed) = writer(store, LakeTable::DelivererLocation).await?;
    for (writer, after, to, limit) in [
        (id.as_str(), 0, committed, 1_000),
        (&id, 1, committed, 7),
        (&id, 0, 3, 100),
        (&id, committed, u64::MAX, 100),
        ("nobody", 0, 100, 10),
    ] {
        let kept = Arc::new(Mutex::new(Kept::default()));
        store
            .visit_positions(writer, after, to, limit, kept.clone())
            .await?;
        let seen = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
        let scanned = store.scan_positions(writer, after, to, limit).await?;
        ensure_eq!(
            seen.0,
            scanned,
            "rows shown after {after} to {to}, {limit} at most"
        );
    }
    Ok(())
}

pub(super) async fn windows_are_planned_one_at_a_time(store: &dyn Store) -> Verdict {
    use WindowState::{Committed, Verified};
    let conflict = Some(ErrorKind::Conflict);
    let table = LakeTable::DelivererLocation;
    store
        .append(batch((0..10).map(|i| position(None, "d", i, None))))
        .await?;
    let (id, committed) = writer(store, table).await?;
    ensure_eq!(store.last_window(table, &id).await?, None, "before any");
    let first = window(table, &id, 0, 4);
    let gap = store.plan_window(&window(table, &id, 1, 4)).await;
    ensure_eq!(kind(gap), conflict, "a first window that begins late");
    let unproven = store
        .plan_window(&window(table, &id, 0, committed + 1))
        .await;
    ensure_eq!(kind(unproven), conflict, "a window beyond the committed");
    store.plan_window(&first).await?;
    ensure_eq!(
        store.last_window(table, &id).await?,
        Some(first.clone()),
        "as planned"
    );
    let early = store.plan_window(&window(table, &id, 4, 6)).await;
    ensure_eq!(kind(early), conflict, "while the newest is planned");
    let skipped = store.advance_window(&first, Verified, 4).await;
    ensure_eq!(kind(skipped), conflict, "planned to verified");
    let unverified = store.purge(&first, 10).await.map(|_| ());
    ensure_eq!(kind(unverified), conflict, "a purge before verification");
    store.advance_window(&first, Committed, 4).await?;
    let twice = store.advance_window(&first, Committed, 4).await;
    ensure_eq!(kind(twice), conflict, "committed twice");
    store.advance_window(&first, Verified, 4).await?;
    let overlap = store.plan_window(&window(table, &id, 3, 6)).await;
    ensure_eq!(kind(overlap), conflict, "an overlap");
    let second = window(table, &id, 4, 10);
    store.plan_window(&second).await?;
    let old = store.advance_window(&first, Verified, 4).await;
    ensure_eq!(kind(old), conflict, "an old window");
    store.advance_window(&second, Committed, 6).await?;
    let seen = store.last_window(table, &id).await?;
    let law = Window {
        state: Committed,
        rows: Some(6),
        ..second
    };
    ensure_eq!(seen, Some(law), "the newest");
    let other = store.last_window(LakeTable::Rejected, &id).await?;
    ensure_eq!(other, None, "another table's window");
    Ok(())
}

const ROUNDS: i64 = 40;
const PER_ROUND: i64 = 25;

async fn write_rounds(store: &dyn Store, deliverer: &str) -> Verdict {
    for round in 0..ROUNDS {
        let times = round * PER_ROUND..(round + 1) * PER_ROUND;
        store
            .append(batch(times.map(|i| position(None, deliverer, i, None))))
            .await?;
    }
    Ok(())
}

pub(super) async fn windows_hold_every_row_once_under_writing(store: &dyn Store) -> Verdict {
    let table = LakeTable::DelivererLocation;
    let expected = usize::try_from(2 * ROUNDS * PER_ROUND).unwrap_or(usize::MAX);
    let taking = async {
        let mut seen = BTreeSet::new();
        for _ in 0..100_000 {
            for progress in store.writers(table).await? {
                let id = progress.writer_id.as_str();
                let after = store.last_window(table, id).await?.map_or(0, |w| w.to);
                if progress.committed == after {
                    continue;
                }
                let next = window(table, id, after, progress.committed);
                store.plan_window(&next).await?;
                let rows = store.scan_positions(id, after, next.to, expected).await?;
                ensure!(
                    rows.iter()
                        .all(|row| (after + 1..=next.to).contains(&row.writer_seq)),
                    "a row outside of its window {after}..={}",
                    next.to
                );
                let count = rows.len() as u64;
                for row in rows {
                    let key = (row.row.deliverer_id.clone(), row.row.event_time);
                    ensure!(seen.insert(key), "{:?} is in two windows", row.row);
                }
                store
                    .advance_window(&next, WindowState::Committed, count)
                    .await?;
            }
            if seen.len() >= expected {
                return Ok(());
            }
        }
        Err(Violation::new(format!(
            "{} of {expected} rows came into windows",
            seen.len()
        )))
    };
    let (first, second, taken) =
        future::join3(write_rounds(store, "d"), write_rounds(store, "e"), taking).await;
    first.and(second).and(taken)
}

pub(super) async fn a_purge_takes_its_window_only(store: &dyn Store) -> Verdict {
    let table = LakeTable::DelivererLocation;
    let point = |i| position(Some("o"), "d", i, None);
    store.append(batch((0..30).map(point))).await?;
    let (id, committed) = writer(store, table).await?;
    let all = store.scan_positions(&id, 0, committed, 100).await?;
    ensure_eq!(all.len(), 30, "rows stored");
    let (gone, kept) = all.split_at(20);
    let first = window(table, &id, 0, gone.last().map_or(0, |row| row.writer_seq));
    store.plan_window(&first).await?;
    store
        .advance_window(&first, WindowState::Committed, 20)
        .await?;
    store
        .advance_window(&first, WindowState::Verified, 20)
        .await?;
    let mut purged = 0;
    loop {
        match store.purge(&first, 7).await? {
            0 => break,
            n if n > 7 => return Err(Violation::new("a purge above its limit")),
            n => purged += n,
        }
    }
    ensure_eq!(purged, 20, "rows purged");
    let left = store.scan_positions(&id, 0, committed, 100).await?;
    ensure_eq!(left, kept, "rows left");
    ensure_eq!(store.counts().await?.positions, 10, "counted");
    let order = OrderId::new("o").map_err(|e| Violation::new(e.to_string()))?;
    let last = store.last_by_order(&order).await?;
    ensure_eq!(
        last.as_ref().map(Position::recency),
        Some(point(29).recency()),
        "the last stays"
    );
    // Identities of purged rows are forgotten; sequences are not used again.
    let again = store.append(batch((0..30).map(point))).await?;
    ensure_eq!((again.stored, again.duplicate), (20, 10), "written again");
    let (_, later) = writer(store, table).await?;
    let anew = store.scan_positions(&id, committed, later, 100).await?;
    ensure_eq!(anew.len(), 20, "rows beyond the sequences used before");
    store
        .append(Batch {
            rejects: vec![letter(b"x", 0, None)],
            ..Batch::default()
        })
        .await?;
    Ok(())
}

pub(super) async fn a_lease_has_one_holder(store: &dyn Store) -> Verdict {
    let take = |holder: &'static str, now| store.acquire_lease("offload", holder, now, 100);
    ensure!(take("a", 0).await?, "a free lease was refused");
    ensure!(!take("b", 99).await?, "a held lease was given away");
    ensure!(take("a", 50).await?, "its holder could not renew");
    ensure!(!take("b", 149).await?, "a renewed lease was given away");
    ensure!(take("b", 150).await?, "a lapsed lease was refused");
    ensure!(!take("a", 151).await?, "the old holder took it back");
    store.release_lease("offload", "a").await?;
    ensure!(!take("a", 152).await?, "a stranger released it");
    store.release_lease("offload", "b").await?;
    ensure!(take("a", 153).await?, "a released lease was refused");
    ensure!(
        store.acquire_lease("other", "b", 153, 100).await?,
        "leases of different names exclude each other"
    );
    Ok(())
}
