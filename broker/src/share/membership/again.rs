//! What an earlier connection of a client was sent for its groups with QoS 2 and has no PUBREC for: read again from the
//! log and sent with the packet ids it had [MQTT-4.8.2-4].
//!
//! Invariant: in the order of the log; a record that cannot go now waits, and what follows it too. Bound: the window
//! of the earlier connection, and one chunk of the log.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use ingest_log::{Chunk, Log, LogError, Reader};

use crate::connection::outbound::{Message, Outbound, Sent};
use crate::session::Options;
use crate::session::window::Origin;

/// A record that is to go again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) seq: u64,
    pub(super) id: NonZeroU16,
    /// The group's.
    pub(super) number: u32,
    /// Of the client's membership, if it is a member still.
    pub(super) options: Option<Options>,
}

/// The records.
#[derive(Debug, Default)]
pub(super) struct Again {
    /// Ascending by their sequences.
    open: VecDeque<Open>,
    reader: Option<Reader>,
    chunk: Option<Chunk>,
}

/// Bytes of records taken at a time.
const CHUNK_BYTES: usize = 16 << 10;
/// Records that are rather read past than sought behind.
const READ_PAST: u64 = 10_000;

impl Again {
    /// Adds a record.
    pub(super) fn add(&mut self, new: Open) {
        let key = |open: &Open| (open.seq, open.id, open.number);
        let place = self.open.partition_point(|there| key(there) < key(&new));
        self.open.insert(place, new);
    }

    /// Takes a record out: the client had it before it was sent again.
    pub(super) fn remove(&mut self, number: u32, seq: u64) {
        self.open
            .retain(|there| (there.seq, there.number) != (seq, number));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Tells whether [`Again::fetch`] has something to wait for.
    pub(super) fn is_hungry(&self) -> bool {
        let first = self.open.front();
        first.is_some_and(|open| !self.has(open.seq))
    }

    fn has(&self, seq: u64) -> bool {
        let chunk = self.chunk.as_ref();
        chunk.is_some_and(|chunk| chunk.seqs().contains(&seq))
    }

    /// Reads the next record; `false` when the log was closed.
    ///
    /// # Errors
    /// As [`Reader::next_chunk`].
    ///
    /// # Cancel safety
    /// Yes.
    pub(super) async fn fetch(&mut self, log: &Log) -> Result<bool, LogError> {
        let Some(seq) = self.open.front().map(|open| open.seq) else {
            return Ok(true);
        };
        let near = |reader: &Reader| {
            let at = reader.position();
            at <= seq && seq - at < READ_PAST
        };
        let reader = match &mut self.reader {
            Some(reader) if near(reader) => reader,
            other => other.insert(log.reader(seq)),
        };
        while let Some(chunk) = reader.next_chunk(CHUNK_BYTES).await? {
            if chunk.seqs().contains(&seq) {
                self.chunk = Some(chunk);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends what there is, as far as window and output have room; `true` when nothing is left.
    pub(super) fn pump(&mut self, out: &mut Outbound) -> bool {
        while let Some(&open) = self.open.front() {
            let (seq, id) = (open.seq, open.id);
            if !self.has(seq) || !out.has_room() {
                return false;
            }
            let Some(chunk) = &mut self.chunk else {
                return false;
            };
            chunk.advance(usize::try_from(seq - chunk.seqs().start).unwrap_or(usize::MAX));
            let Some(record) = chunk.iter().next() else {
                return false;
            };
            let options = open.options.unwrap_or_default();
            let message = Message {
                topic: record.topic,
                payload: record.payload,
                qos: 2,
                retain: record.retain && options.retain_as_published,
                dup: true,
                origin: Origin::Share {
                    number: open.number,
                    seq,
                },
                group: "",
                properties: record.properties,
                received_us: record.received_us,
                ids: options.id.as_slice(),
            };
            match out.send_again(&message, id) {
                Sent::NotNow => return false,
                Sent::Yes => {}
                // It is larger than what the client takes now.
                Sent::Never => drop(out.take_pubrec(id, true)),
            }
            self.open.pop_front();
        }
        self.reader = None;
        self.chunk = None;
        true
    }
}
