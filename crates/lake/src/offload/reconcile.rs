//! Reconciliation: what the store has of some dates against what the lake has of them.
//!
//! A store is read by writer and sequence, not by date, so every row it still has is read once, window by window.
//! Rows are compared by their writer and sequence, which tell each from every other. Of the lake those files are
//! read whose window has rows of these dates in the store; rows that were purged from it are counted by the log.
//!
//! Nothing is changed here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use model::{FleetEvent, Position, Reject, UtcMicros};
use serde::Serialize;
use store::{LakeTable, Stored, Visitor, WindowState};

use super::Offload;
use super::window::RawTable;
use crate::delta::Add;
use crate::entity::LakeRow;
use crate::error::LakeError;
use crate::hive::PartName;

const DAY_US: i64 = 86_400_000_000;

/// Whole days, UTC, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "[String; 2]")]
pub struct Dates {
    first: i64,
    last: i64,
}

impl Dates {
    /// Takes two dates as `YYYY-MM-DD`; `None` when one is no date from 1970 on or the last is before the first.
    pub fn new(first: &str, last: &str) -> Option<Self> {
        let day = |text: &str| {
            let begin = UtcMicros::parse(&format!("{text}T00:00:00Z"))?;
            (begin.date() == text).then_some(begin.as_micros() / DAY_US)
        };
        let (first, last) = (day(first)?, day(last)?);
        (first <= last).then_some(Self { first, last })
    }

    /// Returns every date, as partitions name them.
    pub fn names(self) -> impl Iterator<Item = String> {
        (self.first..=self.last).filter_map(|day| Some(UtcMicros::new(day * DAY_US)?.date()))
    }

    /// Returns how many there are.
    pub fn count(self) -> u64 {
        (self.last - self.first).unsigned_abs() + 1
    }

    fn has(self, day: i64) -> bool {
        (self.first..=self.last).contains(&day)
    }
}

impl From<Dates> for [String; 2] {
    fn from(dates: Dates) -> Self {
        let name = |day: i64| UtcMicros::new(day * DAY_US).unwrap_or_default().date();
        [name(dates.first), name(dates.last)]
    }
}

/// What store and lake have of one date.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DateCount {
    /// The table's name.
    pub table: String,
    /// The date, of the event, or of the arrival of a dead letter.
    pub date: String,
    /// Rows the store still has, of those it has proven and this lake has taken.
    pub store_rows: u64,
    /// Rows of the lake, by its log.
    pub lake_rows: u64,
    /// Rows of the store that are not in the lake; anything but 0 is an alarm.
    pub missing: u64,
    /// Rows that are in the lake more than once; the same.
    pub repeated: u64,
}

impl DateCount {
    /// Tells whether the lake has every row of the store, once.
    pub fn agrees(&self) -> bool {
        self.missing == 0 && self.repeated == 0
    }
}

/// Sequences by day, ascending.
type Keys = BTreeMap<i64, Vec<u64>>;

/// Gathers the keys of the rows a store shows.
struct Gathering<R> {
    time: fn(&R) -> UtcMicros,
    dates: Dates,
    keys: Keys,
    rows: usize,
    last_seq: u64,
}

impl<R> Visitor<R> for Gathering<R> {
    fn visit(&mut self, row: &Stored<R>) {
        let day = (self.time)(&row.row).as_micros() / DAY_US;
        if self.dates.has(day) {
            self.keys.entry(day).or_default().push(row.writer_seq);
        }
        self.rows += 1;
        self.last_seq = row.writer_seq;
    }
}

/// Returns how many of the first are not among the second; both ascend.
fn missing(wanted: &[u64], found: &[u64]) -> u64 {
    let mut found = found.iter().peekable();
    let is_missing = |seq: &&u64| {
        while found.next_if(|other| other < seq).is_some() {}
        found.peek() != Some(seq)
    };
    wanted.iter().filter(is_missing).count() as u64
}

impl Offload {
    /// Compares store and lake, date by date; a date that has no row on either side is left out.
    ///
    /// # Errors
    /// As [`Offload::run_once`]. That rows are missing is no error but said in what is returned.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind but the lease, which runs out.
    pub async fn reconcile(&self, dates: Dates) -> Result<Vec<DateCount>, LakeError> {
        self.lease.acquire().await?;
        let work = async {
            let mut counts = self.reconcile_table::<Position>(dates).await?;
            counts.extend(self.reconcile_table::<FleetEvent>(dates).await?);
            counts.extend(self.reconcile_table::<Reject>(dates).await?);
            Ok(counts)
        };
        let outcome = self.lease.keep(work).await;
        self.lease.release().await;
        outcome
    }

    async fn reconcile_table<R: LakeRow>(&self, dates: Dates) -> Result<Vec<DateCount>, LakeError> {
        let mut table = self.raw_table::<R>();
        let name = table.entity.table;
        table.snapshot = table.delta.load().await?;
        let mut counts: BTreeMap<i64, DateCount> = BTreeMap::new();
        for add in table.snapshot.files.values() {
            if let Some(day) = day_of(&table, add).filter(|day| dates.has(*day)) {
                counts.entry(day).or_default().lake_rows += add.rows().unwrap_or_default();
            }
        }
        for writer in self.source.writers(name).await? {
            let taken = self.taken(name, &writer.writer_id).await?;
            self.reconcile_writer(&table, &writer.writer_id, taken, dates, &mut counts)
                .await?;
        }
        let named = counts.into_iter().map(|(day, count)| DateCount {
            table: name.as_str().to_owned(),
            date: UtcMicros::new(day * DAY_US).unwrap_or_default().date(),
            ..count
        });
        Ok(named.collect())
    }

    /// Returns the last sequence of a writer that was verified in the lake.
    async fn taken(&self, table: LakeTable, writer_id: &str) -> Result<u64, LakeError> {
        let last = self.source.last_window(table, writer_id).await?;
        Ok(last.map_or(0, |window| match window.state {
            WindowState::Verified => window.to,
            WindowState::Planned | WindowState::Committed => window.after,
        }))
    }

    async fn reconcile_writer<R: LakeRow>(
        &self,
        table: &RawTable<R>,
        writer_id: &str,
        taken: u64,
        dates: Dates,
        counts: &mut BTreeMap<i64, DateCount>,
    ) -> Result<(), LakeError> {
        // Files by their last sequence: a row of the store is in those of the first end at or above it, or nowhere.
        let mut files: BTreeMap<u64, Vec<&Add>> = BTreeMap::new();
        for add in table.snapshot.files.values() {
            let part = PartName::parse(&add.path).filter(|part| part.writer_id == writer_id);
            if let Some(part) = part {
                files.entry(part.to).or_default().push(add);
            }
        }
        let ends: BTreeSet<u64> = files.keys().copied().chain([taken]).collect();
        let mut after = 0;
        for to in ends.into_iter().filter(|to| *to <= taken) {
            let stored = self.stored(table, writer_id, after, to, dates).await?;
            if !stored.is_empty() {
                let files = files.get(&to).into_iter().flatten().copied();
                let in_lake = self.in_lake(table, files, &stored, counts).await?;
                for (day, seqs) in stored {
                    let count = counts.entry(day).or_default();
                    count.store_rows += seqs.len() as u64;
                    let found = in_lake.get(&day).map_or(&[][..], Vec::as_slice);
                    count.missing += missing(&seqs, found);
                }
            }
            after = to;
        }
        Ok(())
    }

    /// Returns the rows the store has of a window and of these dates.
    async fn stored<R: LakeRow>(
        &self,
        table: &RawTable<R>,
        writer_id: &str,
        after: u64,
        to: u64,
        dates: Dates,
    ) -> Result<Keys, LakeError> {
        let gathering = Arc::new(Mutex::new(Gathering {
            time: table.entity.time,
            dates,
            keys: Keys::new(),
            rows: 0,
            last_seq: 0,
        }));
        let gathered = || gathering.lock().unwrap_or_else(PoisonError::into_inner);
        let (source, limit) = (self.source.as_ref(), table.entity.page_rows);
        let mut reached = after;
        while reached < to {
            self.lease.renew().await?;
            R::visit(source, writer_id, reached, to, limit, gathering.clone()).await?;
            let mut seen = gathered();
            reached = match std::mem::take(&mut seen.rows) {
                rows if rows >= limit => seen.last_seq,
                _ => to,
            };
        }
        let keys = std::mem::take(&mut gathered().keys);
        Ok(keys)
    }

    /// Returns the rows files hold of the days at hand, and counts those that are there twice.
    async fn in_lake<R: LakeRow>(
        &self,
        table: &RawTable<R>,
        files: impl Iterator<Item = &Add>,
        days: &Keys,
        counts: &mut BTreeMap<i64, DateCount>,
    ) -> Result<Keys, LakeError> {
        let mut found = Keys::new();
        for add in files {
            if !day_of(table, add).is_some_and(|day| days.contains_key(&day)) {
                continue;
            }
            self.lease.renew().await?;
            let gather = |keys: &mut Vec<_>, seq, time| keys.push((time / DAY_US, seq));
            let (parts, _) = match self.read_file(table, add, gather).await? {
                Ok(read) => read,
                Err(detail) => {
                    let table = table.delta.folder();
                    tracing::error!(%table, path = add.path, detail, "a live file cannot be used");
                    continue;
                }
            };
            for (day, seq) in parts.into_iter().flatten() {
                found.entry(day).or_default().push(seq);
            }
        }
        for (day, seqs) in &mut found {
            seqs.sort_unstable();
            let repeated = seqs.windows(2).filter(|two| two[0] == two[1]).count() as u64;
            if repeated > 0 {
                counts.entry(*day).or_default().repeated += repeated;
            }
        }
        Ok(found)
    }
}

/// Returns the day of a file's partition.
fn day_of<R>(table: &RawTable<R>, add: &Add) -> Option<i64> {
    let date = table.schema.partitions.first()?.name();
    let date = add.partition_values.get(date)?.as_deref()?;
    Dates::new(date, date).map(|dates| dates.first)
}
