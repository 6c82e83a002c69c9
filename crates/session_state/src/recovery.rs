//! From the journal and the end of the messages' log to the state in memory.
//!
//! The records of the journal, by their topics:
//!
//! | topic | client id | payload |
//! |---|---|---|
//! | `client` | the client | a run of changes |
//! | `group` | the shared subscription | a run of changes that is all of it |
//! | `retained` | the topic | the record's sequence (8 bytes), 1 and the message, or 0 |
//! | `mark` | id of the messages' log | version (1 byte), mark (8 bytes) |
//!
//! The cursor `state` of the journal is where reading begins.

use std::sync::Arc;

use bytes::Bytes;
use ingest_log::{Log, Record};

use crate::image::{Image, Key};
use crate::{Change, Error, Retained};

pub(crate) const CLIENT: &str = "client";
pub(crate) const GROUP: &str = "group";
pub(crate) const RETAINED: &str = "retained";
pub(crate) const MARK: &str = "mark";
/// The journal's only cursor.
pub(crate) const CURSOR: &str = "state";
/// Version of the records.
pub(crate) const VERSION: u8 = 1;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Reads the journal. Returns the image and where the journal's last mark is, if it has one for this log of messages.
pub(crate) fn replay(journal: &Log, messages: &Log) -> Result<(Image, Option<u64>), Error> {
    let mut image = Image::default();
    let (mut marked, mut other_log) = (None, false);
    let from = journal.cursors().get(CURSOR).map(|cursor| cursor.next);
    let mut reader = journal.reader(from.unwrap_or_default().max(journal.first()));
    while let Some(chunk) = reader.try_next_chunk(CHUNK_BYTES)? {
        for record in &chunk {
            if record.topic == MARK {
                let mark = mark_of(&record)?;
                other_log = record.client_id != messages.id();
                marked = Some(record.seq);
                image.set_mark(mark);
            } else {
                one(&mut image, &record, &chunk.payload(&record))?;
            }
        }
    }
    if other_log {
        tracing::warn!(
            "the messages' log is another than the session state was kept for; only retained messages are taken over"
        );
        let retained = std::mem::take(&mut image.retained);
        image = Image::default();
        marked = None;
        for (topic, Retained { value, .. }) in retained {
            image.begin(Key::Retained(Arc::clone(&topic)), journal.first());
            image.retain(&topic, 0, Some(value));
        }
    }
    image.mark = image.mark.min(messages.next_durable());
    Ok((image, marked))
}

fn unknown(record: &Record<'_>) -> Error {
    Error::Unreadable { at: record.seq }
}

fn mark_of(record: &Record<'_>) -> Result<u64, Error> {
    let (&version, mark) = record.payload.split_first().ok_or(unknown(record))?;
    if version != VERSION {
        return Err(Error::Version { found: version });
    }
    let mark = <[u8; 8]>::try_from(mark).map_err(|_| unknown(record))?;
    Ok(u64::from_le_bytes(mark))
}

fn one(image: &mut Image, record: &Record<'_>, payload: &Bytes) -> Result<(), Error> {
    match record.topic {
        RETAINED => {
            let (seq, rest) = record
                .payload
                .split_first_chunk::<8>()
                .ok_or(unknown(record))?;
            let (there, _) = rest.split_first().ok_or(unknown(record))?;
            let topic: Arc<str> = record.client_id.into();
            let value = (*there != 0).then(|| payload.slice(9..));
            let key = Key::Retained(Arc::clone(&topic));
            if value.is_some() {
                image.begin(key, record.seq);
            } else {
                image.forget(&key);
            }
            // What the journal says later holds, whatever its sequence.
            image.retained.remove(&topic);
            image.retain(&topic, u64::from_le_bytes(*seq), value);
        }
        CLIENT | GROUP => {
            let changes = changes_of(record)?;
            let is_whole = changes.first() == Some(&Change::Reset);
            image.apply(record.seq, record.client_id, &changes);
            if record.topic == GROUP {
                image.begin(Key::Group(record.client_id.into()), record.seq);
            } else if is_whole {
                image.begin(Key::Client(record.client_id.into()), record.seq);
            }
        }
        _ => return Err(unknown(record)),
    }
    Ok(())
}

fn changes_of(record: &Record<'_>) -> Result<Vec<Change>, Error> {
    let (mut rest, mut changes) = (record.payload, Vec::new());
    while !rest.is_empty() {
        changes.push(Change::take(&mut rest).ok_or(unknown(record))?);
    }
    Ok(changes)
}

/// Reads the messages from the mark on.
pub(crate) fn catch_up(
    image: &mut Image,
    messages: &Log,
    encode: impl Fn(&Record<'_>) -> Option<Bytes>,
) -> Result<Vec<Arc<str>>, Error> {
    let from = image.mark.max(messages.first());
    if from > image.mark && image.mark > 0 {
        tracing::error!(
            mark = image.mark,
            first = from,
            "messages are gone that the session state needs"
        );
    }
    let mut touched = Vec::new();
    let mut reader = messages.reader(from);
    while let Some(chunk) = reader.try_next_chunk(CHUNK_BYTES)? {
        for record in &chunk {
            if let Some(id) = record.packet_id {
                image.note_incoming(record.client_id, id, record.seq);
            }
            if record.retain {
                let topic: Arc<str> = record.topic.into();
                image.retain(&topic, record.seq, encode(&record));
                touched.push(topic);
            }
        }
    }
    touched.sort();
    touched.dedup();
    Ok(touched)
}
