//! Wire formats to domain: what a message on a topic means.
//!
//! [`decode`] is the single place that turns a message into records and dead letters, so that the
//! subscriber and the HTTP API can never disagree on what is valid. It is pure.

mod door2door;

use model::reject::Defect;
use model::topic::TopicKind;
use model::{Record, Reject, RejectReason, UtcMicros, native, payload, topic};

pub use door2door::parse as parse_door2door;

/// A message as taken from a source.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The topic it was published on.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
    /// When the broker took it.
    pub received_time: UtcMicros,
    /// Its sequence in the ingest log, when it was read from there.
    pub log_seq: Option<u64>,
}

/// What became of the items of one message, or of several: each item is in exactly one of the lists.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The valid items, in the order sent.
    pub records: Vec<Record>,
    /// The others, each with its reason.
    pub rejects: Vec<Reject>,
}

/// Decodes a message and appends its items to `out`; returns how many there were.
///
/// A message on a topic that carries nothing for us has no items. A payload that cannot be split counts
/// as one item, rejected whole.
pub fn decode(message: Message<'_>, out: &mut Decoded) -> usize {
    let Some(kind) = topic::classify(message.topic) else {
        return 0;
    };
    let before = out.records.len() + out.rejects.len();
    // The common case needs no splitting. Several objects on one line are not JSON as a whole, so what
    // does not parse here is split after all before it is called malformed.
    if let Some(item) = single_line(message.payload)
        && let Some(outcome) = whole(decode_one(kind, item, message.received_time))
    {
        sort(message, outcome, item, 0, out);
        return 1;
    }
    let mut index = 0;
    let split = payload::split(message.payload, |item| {
        sort(
            message,
            decode_one(kind, item, message.received_time),
            item,
            index,
            out,
        );
        index += 1;
    });
    if let Err(defect) = split {
        out.rejects
            .push(reject(message, defect, message.payload, 0));
    }
    out.records.len() + out.rejects.len() - before
}

/// Returns the outcome unless it says that the text is no JSON object.
fn whole(outcome: Result<Record, Defect>) -> Option<Result<Record, Defect>> {
    match outcome {
        Err(defect) if defect.reason == RejectReason::Malformed => None,
        outcome => Some(outcome),
    }
}

/// Parses one item of the given kind.
///
/// # Errors
/// A [`Defect`] that names the field and what to send instead.
pub fn decode_one(
    kind: TopicKind<'_>,
    item: &str,
    received_time: UtcMicros,
) -> Result<Record, Defect> {
    match kind {
        TopicKind::Delivery { deliverer_id } => {
            native::parse(item, Some(deliverer_id), received_time).map(Record::Position)
        }
        TopicKind::Native => native::parse(item, None, received_time).map(Record::Position),
        TopicKind::Fleet => door2door::parse(item, received_time),
    }
}

/// Puts an item's outcome into the list it belongs to.
fn sort(
    message: Message<'_>,
    outcome: Result<Record, Defect>,
    item: &str,
    index: u32,
    out: &mut Decoded,
) {
    match outcome {
        Ok(record) => out.records.push(record),
        Err(defect) => out
            .rejects
            .push(reject(message, defect, item.as_bytes(), index)),
    }
}

fn reject(message: Message<'_>, defect: Defect, payload: &[u8], item: u32) -> Reject {
    Reject {
        defect,
        topic: message.topic.into(),
        payload: payload.into(),
        received_time: message.received_time,
        item,
        log_seq: message.log_seq,
    }
}

/// Returns the payload as text when it looks like one object on one line.
fn single_line(payload: &[u8]) -> Option<&str> {
    let plain = payload.first() == Some(&b'{')
        && payload.last() == Some(&b'}')
        && memchr::memchr(b'\n', payload).is_none();
    if plain {
        std::str::from_utf8(payload).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(topic: &str, payload: &[u8]) -> (usize, Decoded) {
        let mut out = Decoded::default();
        let message = Message {
            topic,
            payload,
            received_time: UtcMicros::default(),
            log_seq: Some(1),
        };
        (decode(message, &mut out), out)
    }

    #[test]
    fn every_item_ends_in_one_list() {
        let batch = br#"[{"timestamp":1,"lat":1,"lon":2},{"timestamp":1,"lat":99,"lon":2},5]"#;
        let (count, out) = decoded("deliveries/7/location", batch);
        assert_eq!((count, out.records.len(), out.rejects.len()), (3, 1, 2));
        assert_eq!(
            out.rejects.iter().map(|r| r.item).collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(&*out.rejects[1].payload, b"5");
    }

    #[test]
    fn two_objects_on_one_line_are_two_items() {
        let line = br#"{"timestamp":1,"lat":1,"lon":2}{"timestamp":2,"lat":1,"lon":2}"#;
        let (count, out) = decoded("deliveries/7/location", line);
        assert_eq!((count, out.records.len()), (2, 2), "{out:?}");
    }

    #[test]
    fn a_payload_that_cannot_be_split_is_rejected_whole() {
        let (count, out) = decoded("test/deliverer_data", b"{\"lat\":1}\n{");
        assert_eq!((count, out.rejects.len()), (1, 1));
        assert_eq!(out.rejects[0].defect.reason, RejectReason::Malformed);
        assert_eq!(&*out.rejects[0].payload, b"{\"lat\":1}\n{");
    }

    #[test]
    fn other_topics_carry_nothing_for_us() {
        assert_eq!(decoded("sensors/1", b"x").0, 0);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_always_count(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            topic in prop::sample::select(vec!["deliveries/1/location", "fleet/o/events"]),
        ) {
            let (count, out) = decoded(topic, &bytes);
            prop_assert_eq!(count, out.records.len() + out.rejects.len());
        }
    }
}
