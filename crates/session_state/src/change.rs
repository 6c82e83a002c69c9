//! Changes, and how they lie in the journal's records.
//!
//! A record is about one client, group or topic, named by its client id; its topic says which of the three, and
//! its payload is a run of changes. All integers are little-endian; a text is its length in two bytes and UTF-8.

use std::num::NonZeroU16;

use bytes::Bytes;

/// What can happen to the state of a client, or by it to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// All that was noted before is void: what follows is the whole.
    Reset,
    /// The record `seq` was taken with this packet id and is not released.
    Held {
        /// The publisher's packet id.
        id: NonZeroU16,
        /// The record.
        seq: u64,
    },
    /// The publisher released the packet id that the record `seq` was taken with.
    Released {
        /// The publisher's packet id.
        id: NonZeroU16,
        /// The record.
        seq: u64,
    },
    /// The session ended: nothing that was noted before holds, and no record below `below` is its.
    Cleared {
        /// First sequence that can be of a later session.
        below: u64,
    },
    /// A packet id stands for a record that is about to be sent.
    Sent {
        /// The broker's packet id.
        id: NonZeroU16,
        /// The record.
        seq: u64,
        /// The shared subscription it is sent for; empty: the client's own.
        group: Box<str>,
    },
    /// The subscriber has the message: the record is done with, the id is not.
    Received {
        /// The broker's packet id.
        id: NonZeroU16,
        /// The record.
        seq: u64,
        /// As in [`Change::Sent`].
        group: Box<str>,
    },
    /// The packet id is free.
    Completed {
        /// The broker's packet id.
        id: NonZeroU16,
    },
    /// All records below are done with; those above that are, stay noted.
    Place {
        /// As in [`Change::Sent`].
        group: Box<str>,
        /// First record that is not done with.
        seq: u64,
    },
    /// A record is done with.
    Done {
        /// As in [`Change::Sent`].
        group: Box<str>,
        /// The record.
        seq: u64,
    },
    /// A shared subscription ended.
    GroupEnded {
        /// Its name.
        group: Box<str>,
    },
    /// The client's will, in the broker's form; `None`: it has none.
    Will(Option<Bytes>),
    /// A packet id stands for a retained message that is about to be sent: its record may be gone, so it is here.
    Kept {
        /// The broker's packet id.
        id: NonZeroU16,
        /// The record it was published in.
        seq: u64,
        /// The message, in the broker's form.
        message: Bytes,
    },
    /// All retained messages that the client asked for are done with.
    KeptOver,
}

/// What stands in the place of a group's name for retained messages; no group is named so.
pub const KEPT: &str = "\0";

const RESET: u8 = 0;
const HELD: u8 = 1;
const RELEASED: u8 = 2;
const CLEARED: u8 = 3;
const SENT: u8 = 4;
const RECEIVED: u8 = 5;
const COMPLETED: u8 = 6;
const PLACE: u8 = 7;
const DONE: u8 = 8;
const GROUP_ENDED: u8 = 9;
const WILL: u8 = 10;
const NO_WILL: u8 = 11;
const KEPT_MESSAGE: u8 = 12;
const KEPT_OVER: u8 = 13;

impl Change {
    /// Appends the change.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Reset => out.push(RESET),
            Self::Held { id, seq } => put_id(out, HELD, *id, *seq),
            Self::Released { id, seq } => put_id(out, RELEASED, *id, *seq),
            Self::Cleared { below } => {
                out.push(CLEARED);
                out.extend_from_slice(&below.to_le_bytes());
            }
            Self::Sent { id, seq, group } => {
                put_id(out, SENT, *id, *seq);
                put_text(out, group);
            }
            Self::Received { id, seq, group } => {
                put_id(out, RECEIVED, *id, *seq);
                put_text(out, group);
            }
            Self::Completed { id } => {
                out.push(COMPLETED);
                out.extend_from_slice(&id.get().to_le_bytes());
            }
            Self::Place { group, seq } => put_place(out, PLACE, group, *seq),
            Self::Done { group, seq } => put_place(out, DONE, group, *seq),
            Self::GroupEnded { group } => {
                out.push(GROUP_ENDED);
                put_text(out, group);
            }
            Self::Will(Some(will)) => {
                out.push(WILL);
                put_bytes(out, will);
            }
            Self::Will(None) => out.push(NO_WILL),
            Self::Kept { id, seq, message } => {
                put_id(out, KEPT_MESSAGE, *id, *seq);
                put_bytes(out, message);
            }
            Self::KeptOver => out.push(KEPT_OVER),
        }
    }

    /// Takes a change from the beginning of `bytes`; `None` when there is none that is known.
    pub(crate) fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        *bytes = rest;
        Some(match *tag {
            RESET => Self::Reset,
            HELD => Self::Held {
                id: take_id(bytes)?,
                seq: take_u64(bytes)?,
            },
            RELEASED => Self::Released {
                id: take_id(bytes)?,
                seq: take_u64(bytes)?,
            },
            CLEARED => Self::Cleared {
                below: take_u64(bytes)?,
            },
            SENT => Self::Sent {
                id: take_id(bytes)?,
                seq: take_u64(bytes)?,
                group: take_text(bytes)?,
            },
            RECEIVED => Self::Received {
                id: take_id(bytes)?,
                seq: take_u64(bytes)?,
                group: take_text(bytes)?,
            },
            COMPLETED => Self::Completed {
                id: take_id(bytes)?,
            },
            PLACE => Self::Place {
                seq: take_u64(bytes)?,
                group: take_text(bytes)?,
            },
            DONE => Self::Done {
                seq: take_u64(bytes)?,
                group: take_text(bytes)?,
            },
            GROUP_ENDED => Self::GroupEnded {
                group: take_text(bytes)?,
            },
            WILL => Self::Will(Some(take_bytes(bytes)?)),
            NO_WILL => Self::Will(None),
            KEPT_MESSAGE => Self::Kept {
                id: take_id(bytes)?,
                seq: take_u64(bytes)?,
                message: take_bytes(bytes)?,
            },
            KEPT_OVER => Self::KeptOver,
            _ => return None,
        })
    }
}

fn put_id(out: &mut Vec<u8>, tag: u8, id: NonZeroU16, seq: u64) {
    out.push(tag);
    out.extend_from_slice(&id.get().to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
}

fn put_place(out: &mut Vec<u8>, tag: u8, group: &str, seq: u64) {
    out.push(tag);
    out.extend_from_slice(&seq.to_le_bytes());
    put_text(out, group);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("a group's name came in a packet");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("a message came in a packet");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn take_bytes(bytes: &mut &[u8]) -> Option<Bytes> {
    let len = u32::from_le_bytes(take_array(bytes)?);
    let (taken, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
    *bytes = rest;
    Some(Bytes::copy_from_slice(taken))
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (array, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*array)
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take_array(bytes).map(u64::from_le_bytes)
}

fn take_id(bytes: &mut &[u8]) -> Option<NonZeroU16> {
    take_array(bytes).and_then(|id| NonZeroU16::new(u16::from_le_bytes(id)))
}

fn take_text(bytes: &mut &[u8]) -> Option<Box<str>> {
    let len = u16::from_le_bytes(take_array(bytes)?);
    let (text, rest) = bytes.split_at_checked(usize::from(len))?;
    *bytes = rest;
    str::from_utf8(text).ok().map(Box::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = Change> {
        let group = || "[a-zé/#]{0,12}".prop_map(String::into_boxed_str);
        let (id, seq) = (any::<NonZeroU16>, any::<u64>);
        prop_oneof![
            Just(Change::Reset),
            (id(), seq()).prop_map(|(id, seq)| Change::Held { id, seq }),
            (id(), seq()).prop_map(|(id, seq)| Change::Released { id, seq }),
            seq().prop_map(|below| Change::Cleared { below }),
            (id(), seq(), group()).prop_map(|(id, seq, group)| Change::Sent { id, seq, group }),
            (id(), seq(), group()).prop_map(|(id, seq, group)| Change::Received { id, seq, group }),
            id().prop_map(|id| Change::Completed { id }),
            (seq(), group()).prop_map(|(seq, group)| Change::Place { seq, group }),
            (seq(), group()).prop_map(|(seq, group)| Change::Done { seq, group }),
            group().prop_map(|group| Change::GroupEnded { group }),
            any::<Option<Vec<u8>>>().prop_map(|will| Change::Will(will.map(Bytes::from))),
            (id(), seq(), any::<Vec<u8>>()).prop_map(|(id, seq, message)| Change::Kept {
                id,
                seq,
                message: message.into()
            }),
            Just(Change::KeptOver),
        ]
    }

    proptest! {
        #[test]
        fn changes_round_trip(changes in prop::collection::vec(change(), 0..10)) {
            let mut bytes = Vec::new();
            for change in &changes {
                change.put(&mut bytes);
            }
            let mut rest = &bytes[..];
            for change in changes {
                prop_assert_eq!(Change::take(&mut rest), Some(change));
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let mut rest = &bytes[..];
            while Change::take(&mut rest).is_some() {}
            prop_assert!(rest.len() <= bytes.len());
        }
    }
}
