//! How messages lie in the batches that go through rumqttd and in the queues behind it.
//!
//! `[sequence 8][flags 1][topic length 2][payload length 4][tail length 2][topic][payload][tail]`, little endian;
//! with properties `[received 8][properties length 4][properties]` behind the lengths. The tail is the publisher's client
//! id on the way to the dispatcher, and the identifiers of the subscriptions on the way to a subscriber. The bytes never
//! leave the process, so the reader trusts them; [`Entries`] still stops at the first entry that is not whole.

use ingest_log::Record;

/// Bytes in front of properties and topic.
const HEAD_BYTES: usize = 17;
/// Where the flags lie.
const FLAGS_AT: usize = 8;
/// Where the length of the tail lies.
const TAIL_AT: usize = 15;
const QOS: u8 = 0b11;
const RETAIN: u8 = 0b100;
const PROPERTIES: u8 = 0b1000;

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) seq: u64,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) topic: &'a str,
    pub(super) payload: &'a [u8],
    pub(super) properties: &'a [u8],
    /// When it was published, in microseconds since the epoch; zero without properties.
    pub(super) received_us: i64,
    pub(super) tail: &'a [u8],
    /// The entry as it lies there.
    pub(super) bytes: &'a [u8],
}

/// Appends a message from the log.
pub(super) fn put(out: &mut Vec<u8>, record: &Record<'_>) {
    let (Ok(topic_len), Ok(payload_len), Ok(tail_len), Ok(properties_len)) = (
        u16::try_from(record.topic.len()),
        u32::try_from(record.payload.len()),
        u16::try_from(record.client_id.len()),
        u32::try_from(record.properties.len()),
    ) else {
        debug_assert!(false, "a message from the log fits these lengths");
        return;
    };
    let flags = record.qos
        | if record.retain { RETAIN } else { 0 }
        | if properties_len > 0 { PROPERTIES } else { 0 };
    out.reserve(HEAD_BYTES + 12 + record.topic.len() + record.payload.len());
    out.extend_from_slice(&record.seq.to_le_bytes());
    out.push(flags);
    out.extend_from_slice(&topic_len.to_le_bytes());
    out.extend_from_slice(&payload_len.to_le_bytes());
    out.extend_from_slice(&tail_len.to_le_bytes());
    if properties_len > 0 {
        out.extend_from_slice(&record.received_us.to_le_bytes());
        out.extend_from_slice(&properties_len.to_le_bytes());
        out.extend_from_slice(record.properties);
    }
    out.extend_from_slice(record.topic.as_bytes());
    out.extend_from_slice(record.payload);
    out.extend_from_slice(record.client_id.as_bytes());
}

/// Appends an entry for one subscriber.
pub(super) fn copy(out: &mut Vec<u8>, entry: &Entry<'_>, qos: u8, retain: bool, ids: &[u32]) {
    let at = out.len();
    let tail_at = entry.bytes.len() - entry.tail.len();
    out.extend_from_slice(&entry.bytes[..tail_at]);
    let flags = &mut out[at + FLAGS_AT];
    *flags = *flags & PROPERTIES | qos | if retain { RETAIN } else { 0 };
    let mut tail_len: u16 = 0;
    for id in ids {
        // More identifiers than this are not told; a client has at most a thousand subscriptions.
        let Some(longer) = tail_len.checked_add(4) else {
            break;
        };
        tail_len = longer;
        out.extend_from_slice(&id.to_le_bytes());
    }
    out[at + TAIL_AT..][..2].copy_from_slice(&tail_len.to_le_bytes());
}

/// Reads the tail of an entry for a subscriber.
pub(super) fn ids(entry: &Entry<'_>) -> impl Iterator<Item = u32> {
    let (ids, _) = entry.tail.as_chunks();
    ids.iter().map(|id| u32::from_le_bytes(*id))
}

/// Iterates over messages.
#[derive(Debug)]
pub(super) struct Entries<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let all = self.0;
        let (seq, rest) = all.split_first_chunk()?;
        let (flags, rest) = rest.split_first()?;
        let (topic_len, rest) = rest.split_first_chunk()?;
        let (payload_len, rest) = rest.split_first_chunk()?;
        let (tail_len, rest) = rest.split_first_chunk()?;
        let (received_us, properties, rest) = if flags & PROPERTIES == 0 {
            (0, &[][..], rest)
        } else {
            let (received_us, rest) = rest.split_first_chunk()?;
            let (len, rest) = rest.split_first_chunk()?;
            let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
            let (properties, rest) = rest.split_at_checked(len)?;
            (i64::from_le_bytes(*received_us), properties, rest)
        };
        let (topic, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*topic_len)))?;
        let payload_len = usize::try_from(u32::from_le_bytes(*payload_len)).ok()?;
        let (payload, rest) = rest.split_at_checked(payload_len)?;
        let (tail, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*tail_len)))?;
        self.0 = rest;
        Some(Entry {
            seq: u64::from_le_bytes(*seq),
            qos: flags & QOS,
            retain: flags & RETAIN != 0,
            topic: str::from_utf8(topic).ok()?,
            payload,
            properties,
            received_us,
            tail,
            bytes: &all[..all.len() - rest.len()],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn entries_round_trip(messages in proptest::collection::vec(
            (
                any::<u64>(),
                (0_u8..3, any::<bool>(), any::<i64>()),
                "[a-zé/]{1,20}",
                "[a-z]{0,5}",
                proptest::collection::vec(any::<u8>(), 0..50),
                proptest::collection::vec(any::<u8>(), 0..9),
            ),
            0..5,
        )) {
            let (mut bytes, mut copied) = (Vec::new(), Vec::new());
            let mut records = Vec::new();
            for (seq, (qos, retain, received_us), topic, client_id, payload, properties) in &messages {
                let record = Record {
                    seq: *seq,
                    qos: *qos,
                    retain: *retain,
                    received_us: *received_us,
                    topic,
                    client_id,
                    payload,
                    properties,
                    packet_id: None,
                };
                put(&mut bytes, &record);
                records.push(record);
            }
            let entries: Vec<_> = Entries(&bytes).collect();
            prop_assert_eq!(entries.len(), records.len());
            for (entry, record) in entries.iter().zip(&records) {
                prop_assert_eq!((entry.seq, entry.qos, entry.retain), (record.seq, record.qos, record.retain));
                prop_assert_eq!((entry.topic, entry.tail), (record.topic, record.client_id.as_bytes()));
                prop_assert_eq!((entry.payload, entry.properties), (record.payload, record.properties));
                if !record.properties.is_empty() {
                    prop_assert_eq!(entry.received_us, record.received_us);
                }
                copy(&mut copied, entry, 0, !record.retain, &[7, 268_435_455]);
            }
            for (entry, record) in Entries(&copied).zip(&records) {
                prop_assert_eq!((entry.seq, entry.qos, entry.retain), (record.seq, 0, !record.retain));
                prop_assert_eq!((entry.payload, entry.properties), (record.payload, record.properties));
                prop_assert_eq!(ids(&entry).collect::<Vec<_>>(), vec![7, 268_435_455]);
            }
            prop_assert_eq!(Entries(&copied).count(), messages.len());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            prop_assert!(Entries(&bytes).count() <= bytes.len());
        }
    }
}
