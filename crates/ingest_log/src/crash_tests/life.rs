//! One life of a log: random events, each done step by step on the test's own thread.

use std::future::Future;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::model::{Model, Place, Promise, cursor_at, topic_of};
use crate::sim::{Random, SimDisk};
use crate::{
    Commit, Log, LogCondition, LogConfig, LogError, RecordBatch, RecordHead, Steps, SyncMode,
};

fn config(sync: SyncMode) -> LogConfig {
    LogConfig {
        segment_bytes: 2_048,
        max_pending_bytes: 64 << 10,
        sync,
        ..LogConfig::new("log")
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

pub(super) fn open(disk: &SimDisk, sync: SyncMode) -> Result<(Log, Steps), LogError> {
    let (log, steps, _) = Log::open_stepped(Arc::new(disk.clone()), config(sync))?;
    Ok((log, steps))
}

/// A life in progress.
pub(super) struct Life<'a> {
    log: Log,
    steps: Steps,
    model: &'a mut Model,
    commits: Vec<(Commit, Range<u64>)>,
    ack_before_write: bool,
}

const NAMES: [&str; 2] = ["lake", "subscriber"];

impl<'a> Life<'a> {
    pub(super) fn new((log, steps): (Log, Steps), model: &'a mut Model, early: bool) -> Self {
        Self {
            log,
            steps,
            model,
            commits: Vec::new(),
            ack_before_write: early,
        }
    }

    /// Lives for some events; ends early when the machine goes off. The events depend on `random` only.
    pub(super) fn live(&mut self, events: usize, random: &mut Random) -> Result<(), String> {
        for _ in 0..events {
            match random.below(16) {
                0..6 => self.append(random)?,
                6..10 => self.commit()?,
                10..12 => self.steps.keep(),
                12 => self.put_cursor(random),
                13 => self.put_cursor_durably(random),
                14 => self.read(random)?,
                _ => {
                    self.commit()?;
                    self.steps.keep();
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, random: &mut Random) -> Result<(), String> {
        let mut batch = RecordBatch::new();
        let first = self.commits.last().map(|(_, seqs)| seqs.end);
        let first = first.unwrap_or(self.model.acked);
        let mut payloads = Vec::new();
        for seq in (first..).take(1 + random.below(4)) {
            let most = if random.below(8) == 0 { 1_500 } else { 120 };
            let mut payload = vec![0; random.below(most)];
            payload.fill_with(|| random.bits().to_le_bytes()[0] | 1);
            let head = RecordHead {
                qos: 1,
                retain: false,
                received_us: 0,
                topic: &topic_of(seq),
                client_id: "device",
                properties: &[],
            };
            let pushed = batch.push(&head, &payload);
            pushed.map_err(|error| error.to_string())?;
            payloads.push((seq, payload));
        }
        match poll(pin!(self.log.append(batch))) {
            Some(Ok(commit)) => {
                let seqs = commit.seqs();
                if seqs.start != first {
                    return Err(format!("{seqs:?} was given out, and {first} was next"));
                }
                self.model.append(payloads)?;
                if self.ack_before_write {
                    self.model.ack(seqs.clone());
                }
                self.commits.push((commit, seqs));
                Ok(())
            }
            Some(Err(LogError::Failed { .. })) => Ok(()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("an append waits although there is room".to_owned()),
        }
    }

    fn commit(&mut self) -> Result<(), String> {
        let had_failed = matches!(self.log.status().condition, LogCondition::Failed(_));
        self.steps.commit();
        let mut waiting = Vec::new();
        for (mut commit, seqs) in std::mem::take(&mut self.commits) {
            match poll(Pin::new(&mut commit)) {
                Some(Ok(_)) if had_failed => return Err("acknowledged after a failure".to_owned()),
                Some(Ok(durable)) if durable != seqs => {
                    return Err(format!("{durable:?} acknowledged, {seqs:?} given out"));
                }
                Some(Ok(_)) => self.model.ack(seqs),
                Some(Err(LogError::Failed { .. })) => {}
                Some(Err(error)) => return Err(error.to_string()),
                None => waiting.push((commit, seqs)),
            }
        }
        self.commits = waiting;
        Ok(())
    }

    fn put(&mut self, random: &mut Random) -> (&'static str, u64) {
        let name = NAMES[random.below(NAMES.len())];
        let place = self.model.cursors.entry(name);
        let place = place.or_insert(Place {
            durable: None,
            put: 0,
        });
        // Forward, but not beyond what is durable; nor behind what is deleted already.
        let least = place.put.max(self.log.first());
        let ahead = self.log.next_durable().saturating_sub(least);
        let bound = usize::try_from(ahead).expect("a short test") + 1;
        place.put = least + random.below(bound) as u64;
        (name, place.put)
    }

    fn put_cursor(&mut self, random: &mut Random) {
        let (name, next) = self.put(random);
        self.log.cursors().put(name, cursor_at(next));
    }

    fn put_cursor_durably(&mut self, random: &mut Random) {
        let (name, next) = self.put(random);
        let log = self.log.clone();
        let mut put = pin!(log.cursors().put_durable(name, cursor_at(next)));
        let mut answer = poll(put.as_mut());
        if answer.is_none() {
            self.steps.keep();
            answer = poll(put);
        }
        if let Some(Ok(())) = answer
            && let Some(place) = self.model.cursors.get_mut(name)
        {
            place.durable = Some(next);
        }
    }

    /// Reads a few records from anywhere while the log is in use.
    fn read(&mut self, random: &mut Random) -> Result<(), String> {
        let (first, next) = (self.log.first(), self.log.next_durable());
        let readable: Vec<u64> = self
            .model
            .appended
            .range(first..next)
            .map(|r| *r.0)
            .collect();
        let from = match readable.len() {
            0 => next,
            len => readable[random.below(len)],
        };
        // Without sync, what was lost leaves holes.
        let may_miss = self.model.promise != Promise::Acknowledged;
        match self.log.reader(from).try_next_chunk(1_000) {
            Ok(Some(chunk)) => {
                let record = chunk.iter().next().ok_or("a chunk is empty")?;
                let appended = self.model.appended.get(&record.seq).map(Vec::as_slice);
                let right_place = record.seq == from || (may_miss && record.seq > from);
                if !right_place || Some(record.payload) != appended {
                    return Err(format!("reading {from} gave {}", record.seq));
                }
                Ok(())
            }
            Ok(None) if from == next || may_miss => Ok(()),
            Ok(None) => Err(format!("{from} is durable and cannot be read")),
            // The machine is off.
            Err(LogError::Io { .. }) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}
