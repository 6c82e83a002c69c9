//! A line of the ledger: what identifies a message in the store.

use serde::{Deserialize, Serialize};

/// One acknowledged message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Entry {
    Position(PositionEntry),
    Event(EventEntry),
}

/// Identifies a position.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PositionEntry {
    pub(crate) deliverer_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) order_id: Option<String>,
    /// Microseconds since the epoch.
    pub(crate) event_time_us: i64,
    pub(crate) seq: u64,
}

/// Identifies a fleet event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventEntry {
    pub(crate) organization_id: String,
    pub(crate) on: String,
    pub(crate) entity_id: String,
    pub(crate) event: String,
    /// Microseconds since the epoch.
    pub(crate) event_time_us: i64,
    /// Tells apart events of the same instant: [`model::FleetEvent::discriminator`] of their data.
    pub(crate) data_hash: i64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Event, Message, Sample, State};
    use crate::route::Route;

    fn read_back(message: &Message) -> Entry {
        let mut line = Vec::new();
        message.write_ledger_line(&mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        serde_json::from_slice(&line).unwrap()
    }

    proptest! {
        #[test]
        fn positions_round_trip(
            worker in 1_u64..1_000_000, order in 1_u64..100, millis in 0_i64..1 << 45, seq: u64,
        ) {
            let message = Message::Position(Sample {
                worker,
                order,
                state: State::Start,
                event_time_ms: millis,
                step: Route::new(1, 1).here(),
                seq,
            });
            let order = if order == 1 { String::new() } else { format!("-{order}") };
            let expected = Entry::Position(PositionEntry {
                deliverer_id: worker.to_string(),
                order_id: Some(format!("{}{order}", worker * 43)),
                event_time_us: millis * 1_000,
                seq,
            });
            prop_assert_eq!(read_back(&message), expected);
        }

        #[test]
        fn events_round_trip(organization in ".*", entity in ".*", time in 0_i64.., hash: i64) {
            let entry = Entry::Event(EventEntry {
                organization_id: organization,
                on: "vehicle".to_owned(),
                entity_id: entity,
                event: "update".to_owned(),
                event_time_us: time,
                data_hash: hash,
            });
            let message = Message::Event(Event {
                topic: "t".into(),
                payload: bytes::Bytes::new(),
                ledger_line: serde_json::to_string(&entry).unwrap().into(),
            });
            prop_assert_eq!(read_back(&message), entry);
        }
    }
}
