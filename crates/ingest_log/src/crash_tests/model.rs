//! What must be true of a log after a crash, given what was done with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;

use crate::{Cursor, Log};

/// Everything that was done and answered, over all lives.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// Payloads by sequence. Above `acked` they may be replaced in a later life.
    pub(super) appended: BTreeMap<u64, Vec<u8>>,
    /// All records below were acknowledged, or lay behind a leap.
    pub(super) acked: u64,
    /// The sequences that were acknowledged one by one.
    acknowledged: BTreeSet<u64>,
    pub(super) cursors: BTreeMap<&'static str, Place>,
    /// What the log promises to survive.
    pub(super) promise: Promise,
}

/// Which records must be there after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Promise {
    /// All acknowledged ones, and sequences have no gap.
    #[default]
    Acknowledged,
    /// As above, but sequences leap at each open: commits are not synced and only processes crash.
    AcknowledgedWithLeaps,
    /// Any, since commits are not synced; but nothing invented, and no acknowledged sequence reused.
    NoInvention,
}

/// What a cursor may be after a crash.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Where it was last put durably; `None`: it need not be there at all.
    pub(super) durable: Option<u64>,
    /// Where it was last put.
    pub(super) put: u64,
}

pub(super) fn cursor_at(next: u64) -> Cursor {
    Cursor {
        next,
        meta: Bytes::copy_from_slice(format!("at {next}").as_bytes()),
        pins: true,
    }
}

impl Model {
    pub(super) fn new(promise: Promise) -> Self {
        Self {
            promise,
            ..Self::default()
        }
    }

    /// Notes records that were given sequences; none may have one that was acknowledged.
    pub(super) fn append(&mut self, records: Vec<(u64, Vec<u8>)>) -> Result<(), String> {
        for (seq, payload) in records {
            if self.acknowledged.contains(&seq) {
                return Err(format!("sequence {seq} was given out twice"));
            }
            self.appended.insert(seq, payload);
        }
        Ok(())
    }

    pub(super) fn ack(&mut self, seqs: Range<u64>) {
        self.acked = self.acked.max(seqs.end);
        self.acknowledged.extend(seqs);
    }

    /// Judges a log that was just opened, and takes what it kept as the new truth.
    pub(super) fn judge(&mut self, log: &Log) -> Result<(), String> {
        let (first, next) = (log.first(), log.next_durable());
        if next < self.acked {
            return Err(format!(
                "acknowledged to {}, recovered to {next}",
                self.acked
            ));
        }
        self.judge_cursors(log, first)?;
        let read = self.read_all(log, first)?;
        self.judge_records(&read, first, next)?;
        self.acked = next;
        match self.promise {
            Promise::Acknowledged => drop(self.appended.split_off(&next)),
            // What is lost stays lost, and its sequences stay taken.
            Promise::AcknowledgedWithLeaps | Promise::NoInvention => {}
        }
        Ok(())
    }

    fn judge_cursors(&mut self, log: &Log, first: u64) -> Result<(), String> {
        for (name, cursor) in log.cursors().list() {
            let place = self.cursors.get(name.as_str());
            let place = place.ok_or_else(|| format!("cursor {name} was never put"))?;
            let least = place.durable.unwrap_or(0);
            if !(least..=place.put).contains(&cursor.next) || cursor != cursor_at(cursor.next) {
                return Err(format!("cursor {name} is {cursor:?}, and was {place:?}"));
            }
        }
        let mut slowest = None;
        for (name, place) in &mut self.cursors {
            match log.cursors().get(name) {
                None if place.durable.is_some() => {
                    return Err(format!("cursor {name} is lost: {place:?}"));
                }
                None => {
                    *place = Place {
                        durable: None,
                        put: 0,
                    }
                }
                Some(cursor) => {
                    *place = Place {
                        durable: Some(cursor.next),
                        put: cursor.next,
                    };
                    slowest = Some(slowest.map_or(cursor.next, |s: u64| s.min(cursor.next)));
                }
            }
        }
        if first > slowest.unwrap_or(0) {
            return Err(format!(
                "records to {first} are deleted, a cursor is at {slowest:?}"
            ));
        }
        Ok(())
    }

    /// Reads the whole log; every record must be one that was appended, in order.
    fn read_all(&self, log: &Log, first: u64) -> Result<BTreeSet<u64>, String> {
        let mut reader = log.reader(first);
        let mut read = BTreeSet::new();
        loop {
            let chunk = reader.try_next_chunk(700);
            let Some(chunk) = chunk.map_err(|error| error.to_string())? else {
                return Ok(read);
            };
            for record in &chunk {
                let seq = record.seq;
                if read.last().is_some_and(|&last| last >= seq) {
                    return Err(format!("read {seq} behind {:?}", read.last()));
                }
                let appended = self.appended.get(&seq).map(Vec::as_slice);
                if appended != Some(record.payload) || record.topic != topic_of(seq) {
                    return Err(format!("record {seq} was never appended so"));
                }
                read.insert(seq);
            }
        }
    }

    fn judge_records(&self, read: &BTreeSet<u64>, first: u64, next: u64) -> Result<(), String> {
        match self.promise {
            Promise::NoInvention => {}
            Promise::Acknowledged if read.iter().copied().eq(first..next) => {}
            Promise::Acknowledged => {
                return Err(format!("{first}..{next} is held, and {read:?} was read"));
            }
            Promise::AcknowledgedWithLeaps => {
                let acked = self.acknowledged.range(first..);
                if let Some(lost) = acked.clone().find(|seq| !read.contains(seq)) {
                    return Err(format!("record {lost} was acknowledged and is lost"));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn topic_of(seq: u64) -> String {
    format!("deliveries/{}/location", seq % 7)
}
