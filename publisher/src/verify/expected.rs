//! What the ledger says, split by what the API can be asked for.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::RangeInclusive;
use std::path::Path;

use service::BoxError;

use crate::ledger::{Entry, EventEntry, PositionEntry};

/// A list of the API.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum List {
    /// An order's history.
    Order(String),
    /// A deliverer's history.
    Deliverer(String),
    /// The events of one vehicle or operating period.
    Events {
        organization_id: String,
        on: String,
        entity_id: String,
    },
}

/// Messages that one list should hold.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) list: List,
    /// How often each was found in the last reading.
    found: HashMap<Entry, u32>,
    /// First and last time, microseconds since the epoch.
    pub(super) times: (i64, i64),
}

/// Reads a ledger. A last line without its end is one that a killed publisher was writing: it is left out.
pub(super) fn read(path: &Path) -> Result<Vec<Group>, BoxError> {
    let mut groups: HashMap<List, Group> = HashMap::new();
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = String::new();
    for number in 1_u64.. {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            break;
        }
        let Some(text) = line.strip_suffix('\n') else {
            tracing::warn!(
                line = number,
                "the ledger's last line is cut off and left out"
            );
            break;
        };
        let entry: Entry =
            serde_json::from_str(text).map_err(|error| format!("line {number}: {error}"))?;
        let list = list_of(&entry);
        let time = time_of(&entry);
        let group = groups.entry(list.clone()).or_insert_with(|| Group {
            list,
            found: HashMap::new(),
            times: (time, time),
        });
        group.times = (group.times.0.min(time), group.times.1.max(time));
        group.found.insert(entry, 0);
    }
    Ok(groups.into_values().collect())
}

fn list_of(entry: &Entry) -> List {
    match entry {
        Entry::Position(PositionEntry {
            order_id: Some(order),
            ..
        }) => List::Order(order.clone()),
        Entry::Position(position) => List::Deliverer(position.deliverer_id.clone()),
        Entry::Event(EventEntry {
            organization_id,
            on,
            entity_id,
            ..
        }) => List::Events {
            organization_id: organization_id.clone(),
            on: on.clone(),
            entity_id: entity_id.clone(),
        },
    }
}

fn time_of(entry: &Entry) -> i64 {
    match entry {
        Entry::Position(position) => position.event_time_us,
        Entry::Event(event) => event.event_time_us,
    }
}

impl Group {
    /// Begins a reading: nothing is found yet.
    pub(super) fn begin(&mut self) {
        self.found.values_mut().for_each(|count| *count = 0);
    }

    /// Notes that the API returned `entry`; one that the ledger does not hold is somebody else's.
    pub(super) fn saw(&mut self, entry: &Entry) {
        if let Some(count) = self.found.get_mut(entry) {
            *count = count.saturating_add(1);
        }
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.found.len() as u64
    }

    pub(super) fn missing(&self) -> u64 {
        self.found.values().filter(|&&count| count == 0).count() as u64
    }

    pub(super) fn found_twice(&self) -> u64 {
        self.found.values().filter(|&&count| count > 1).count() as u64
    }

    /// Returns the messages found so many times.
    pub(super) fn named(&self, times: RangeInclusive<u32>) -> impl Iterator<Item = Entry> {
        let entries = self
            .found
            .iter()
            .filter(move |(_, count)| times.contains(count));
        entries.map(|(entry, _)| entry.clone())
    }
}
