//! A lake that only counts: takes every window there is and remembers how often it saw each row.

use std::collections::HashMap;

use store::{LakeSource, LakeTable, Window, WindowState};
use store_mongo::MongoStore;

/// How often each position was in a window, by its device's counter.
#[derive(Debug, Default)]
pub(crate) struct Lake {
    pub(crate) seen: HashMap<u64, u32>,
}

impl Lake {
    /// Takes what is committed and not yet taken; a planned window is finished first.
    pub(crate) async fn take(&mut self, store: &MongoStore) {
        let table = LakeTable::DelivererLocation;
        for progress in store.writers(table).await.unwrap() {
            let id = progress.writer_id.as_str();
            let last = store.last_window(table, id).await.unwrap();
            let after = last.map_or(0, |window| window.to);
            if progress.committed == after {
                continue;
            }
            let window = Window {
                table,
                writer_id: id.to_owned(),
                after,
                to: progress.committed,
                state: WindowState::Planned,
                rows: None,
            };
            store.plan_window(&window).await.unwrap();
            let rows = store
                .scan_positions(id, after, window.to, 1_000_000)
                .await
                .unwrap();
            let count = rows.len() as u64;
            for row in rows {
                *self.seen.entry(row.row.seq.unwrap()).or_default() += 1;
            }
            for state in [WindowState::Committed, WindowState::Verified] {
                store.advance_window(&window, state, count).await.unwrap();
            }
        }
    }

    /// Says which of the first `count` rows are not in exactly one window, if any.
    pub(crate) fn contradiction(&self, count: u64) -> Option<String> {
        let times = |seq| self.seen.get(&seq).copied().unwrap_or(0);
        let wrong: Vec<_> = (0..count).filter(|&seq| times(seq) != 1).collect();
        let first = wrong.first().map(|&seq| (seq, times(seq)));
        (!wrong.is_empty()).then(|| format!("{} of {count} rows; first: {first:?}", wrong.len()))
    }
}
