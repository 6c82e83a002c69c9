//! Why an item was not taken, in words the sender can act on.

use serde::Serialize;

use crate::UtcMicros;
use crate::content_hash::ContentHash;

/// A class of defect; the label of the metric, the code in API errors, the column in the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// The payload has no bytes.
    Empty,
    /// The payload is not the JSON (or NDJSON) the topic calls for.
    Malformed,
    /// A field the format requires is absent.
    MissingField,
    /// A field has a value of the wrong type or outside its range.
    InvalidField,
    /// The topic names one deliverer and the payload another.
    TopicMismatch,
    /// The message holds more items than one message may.
    TooManyItems,
}

impl RejectReason {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Malformed,
        Self::MissingField,
        Self::InvalidField,
        Self::TopicMismatch,
        Self::TooManyItems,
    ];

    /// Returns the code, in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Malformed => "malformed",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::TopicMismatch => "topic_mismatch",
            Self::TooManyItems => "too_many_items",
        }
    }

    /// Reads a code written by [`RejectReason::as_str`].
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == code)
    }
}

/// A defect found in one item: its class, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.as_str())]
pub struct Defect {
    /// The class.
    pub reason: RejectReason,
    /// One sentence naming the field, the value's fault and the remedy.
    pub detail: String,
}

impl Defect {
    /// Names a defect.
    pub fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

/// A dead letter: an item that was not taken, as it came, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// What is wrong.
    pub defect: Defect,
    /// The topic it came on.
    pub topic: Box<str>,
    /// The bytes of the item (of the whole message when it could not be split).
    pub payload: Box<[u8]>,
    /// When the broker took the message.
    pub received_time: UtcMicros,
    /// The item's place in its message, from 0.
    pub item: u32,
    /// The message's sequence in the ingest log, when it was read from there. With it every letter is
    /// kept; without it the same bytes on the same topic are one letter, because the broker may have
    /// delivered them twice.
    pub log_seq: Option<u64>,
}

impl Reject {
    /// Returns what makes two letters one, hashed: the place in the log, or without it only topic and bytes.
    /// Stores keep it as the key, so it never changes.
    pub fn identity(&self) -> [u64; 2] {
        [b"dead letter", b"rettel daed"].map(|salt| {
            let content = ContentHash::default()
                .chain(salt)
                .chain(self.topic.as_bytes())
                .chain(&self.payload);
            let whole = match self.log_seq {
                None => content,
                Some(log_seq) => content
                    .chain(&log_seq.to_le_bytes())
                    .chain(&self.item.to_le_bytes())
                    .chain(&self.received_time.as_micros().to_le_bytes()),
            };
            whole.finish()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_known_by_its_place_or_else_by_its_bytes_and_the_key_never_changes() {
        let letter = |log_seq, item| Reject {
            defect: Defect::new(RejectReason::InvalidField, "lat"),
            topic: "t".into(),
            payload: b"p".as_slice().into(),
            received_time: UtcMicros::new(7).unwrap(),
            item,
            log_seq,
        };
        assert_eq!(letter(None, 0).identity(), letter(None, 1).identity());
        assert_ne!(letter(Some(1), 0).identity(), letter(Some(1), 1).identity());
        assert_ne!(letter(Some(1), 0).identity(), letter(Some(2), 0).identity());
        assert_eq!(
            letter(None, 0).identity(),
            [11_207_635_841_444_357_388, 4_616_866_855_717_668_357]
        );
        assert_eq!(
            letter(Some(1), 2).identity(),
            [16_078_783_021_974_280_489, 10_654_070_788_072_706_542]
        );
    }
}
