//! How messages lie in the batches that go through rumqttd and in the queues behind it.
//!
//! `[sequence 8][qos 1][topic length 2][payload length 4][topic][payload]`, little endian. The bytes never leave
//! the process, so the reader trusts them; [`Entries`] still stops at the first entry that is not whole.

/// Bytes in front of the topic.
const HEAD_BYTES: usize = 15;
/// Where the QoS lies.
const QOS_AT: usize = 8;

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) seq: u64,
    pub(super) qos: u8,
    pub(super) topic: &'a str,
    pub(super) payload: &'a [u8],
    /// The entry as it lies there.
    pub(super) bytes: &'a [u8],
}

/// Appends a message.
pub(super) fn put(out: &mut Vec<u8>, seq: u64, qos: u8, topic: &str, payload: &[u8]) {
    let (Ok(topic_len), Ok(payload_len)) =
        (u16::try_from(topic.len()), u32::try_from(payload.len()))
    else {
        debug_assert!(false, "a message from the log fits these lengths");
        return;
    };
    out.reserve(HEAD_BYTES + topic.len() + payload.len());
    out.extend_from_slice(&seq.to_le_bytes());
    out.push(qos);
    out.extend_from_slice(&topic_len.to_le_bytes());
    out.extend_from_slice(&payload_len.to_le_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(payload);
}

/// Appends an entry as it is, with another QoS.
pub(super) fn copy(out: &mut Vec<u8>, entry: &Entry<'_>, qos: u8) {
    let at = out.len() + QOS_AT;
    out.extend_from_slice(entry.bytes);
    out[at] = qos;
}

/// Iterates over messages.
#[derive(Debug)]
pub(super) struct Entries<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let all = self.0;
        let (seq, rest) = all.split_first_chunk()?;
        let (qos, rest) = rest.split_first()?;
        let (topic_len, rest) = rest.split_first_chunk()?;
        let (payload_len, rest) = rest.split_first_chunk()?;
        let (topic, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*topic_len)))?;
        let payload_len = usize::try_from(u32::from_le_bytes(*payload_len)).ok()?;
        let (payload, rest) = rest.split_at_checked(payload_len)?;
        self.0 = rest;
        Some(Entry {
            seq: u64::from_le_bytes(*seq),
            qos: *qos,
            topic: str::from_utf8(topic).ok()?,
            payload,
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
            (any::<u64>(), 0_u8..3, "[a-zé/]{1,20}", proptest::collection::vec(any::<u8>(), 0..50)),
            0..5,
        )) {
            let (mut bytes, mut copied) = (Vec::new(), Vec::new());
            for (seq, qos, topic, payload) in &messages {
                put(&mut bytes, *seq, *qos, topic, payload);
            }
            let entries: Vec<_> = Entries(&bytes).collect();
            let read: Vec<_> = entries
                .iter()
                .map(|e| (e.seq, e.qos, e.topic.to_owned(), e.payload.to_vec()))
                .collect();
            prop_assert_eq!(&read, &messages);
            for entry in &entries {
                copy(&mut copied, entry, 0);
            }
            prop_assert!(Entries(&copied).all(|entry| entry.qos == 0));
            prop_assert_eq!(Entries(&copied).count(), messages.len());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            prop_assert!(Entries(&bytes).count() <= bytes.len());
        }
    }
}
