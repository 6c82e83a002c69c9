//! What must be true of a log after a crash, given what was done with it.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::{Cursor, Log};

/// Everything that was done and answered, over all lives.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// Payloads by sequence. Above `acked` they may be replaced in a later life.
    pub(super) appended: BTreeMap<u64, Vec<u8>>,
    /// All records below were acknowledged.
    pub(super) acked: u64,
    pub(super) cursors: BTreeMap<&'static str, Place>,
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
    pub(super) fn ack(&mut self, seqs: Range<u64>) {
        self.acked = self.acked.max(seqs.end);
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
        self.judge_records(log, first, next)?;
        self.acked = next;
        self.appended.split_off(&next);
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

    fn judge_records(&self, log: &Log, first: u64, next: u64) -> Result<(), String> {
        let mut reader = log.reader(first);
        let mut expected = first;
        loop {
            let chunk = reader
                .try_next_chunk(700)
                .map_err(|error| error.to_string())?;
            let Some(chunk) = chunk else { break };
            for record in &chunk {
                if record.seq != expected {
                    return Err(format!("read {} in place of {expected}", record.seq));
                }
                let appended = self.appended.get(&record.seq).map(Vec::as_slice);
                if appended != Some(record.payload) {
                    return Err(format!("record {expected} was never appended so"));
                }
                if record.topic != topic_of(record.seq) {
                    return Err(format!("record {expected} has another topic"));
                }
                expected += 1;
            }
        }
        if expected != next {
            return Err(format!("records end at {expected}, the log says {next}"));
        }
        Ok(())
    }
}

pub(super) fn topic_of(seq: u64) -> String {
    format!("deliveries/{}/location", seq % 7)
}
