//! Groups that are held: they are there before their first member and stay without any.
//!
//! A subscription is for what comes after it, so what is acknowledged to publishers before the consumer has
//! subscribed for the first time would be nobody's. For each name that is to be held, the broker itself makes
//! the groups of all filters of this project, before the first client can connect. Promises:
//! - A held group that is new begins at the first record that the log keeps.
//! - It stays, with its place, whoever leaves it and however.
//! - One that is no longer to be held is an ordinary group from the next start on: it lasts with its members,
//!   and ends if it has none.
//!
//! Held groups count towards [`super::MAX_GROUPS`] and are not refused by it; [`MAX_NAMES`] bounds them. What is
//! held is bounded by the log alone; [`watch`] says when nobody comes for it.

use std::collections::BTreeMap;
use std::time::Duration;

use ingest_log::{Cursor, Log};
use model::topic::INGEST_FILTERS;
use service::{BoxError, CancellationToken};
use tokio::time::{Instant, interval_at};

use super::Groups;
use super::group::{Group, cursor_name};
use super::roster::Roster;

/// Most names. Each is as many groups as there are filters.
pub(crate) const MAX_NAMES: usize = 16;
/// How often it is looked who waits.
const LOOK: Duration = Duration::from_mins(1);
/// Looks until it is said for the first time that nobody comes: a restart does not take that long.
const FIRST_WARNING: u32 = 2;
/// Looks between two warnings.
const WARN_EVERY: u32 = 10;

/// The groups to hold.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    /// Filters by key.
    groups: BTreeMap<String, &'static str>,
}

impl Hold {
    /// Holds the groups of these names for all filters of this project.
    pub(crate) fn new(names: &[String]) -> Self {
        let keys = names.iter().flat_map(|name| {
            let key = move |filter| (format!("{name}/{filter}"), filter);
            INGEST_FILTERS.into_iter().map(key)
        });
        Self {
            groups: keys.collect(),
        }
    }

    /// Says to a group whether it is held.
    pub(super) fn apply(&self, key: &str, roster: &mut Roster) {
        let held = self.groups.contains_key(key);
        if roster.is_held() && !held {
            let members = roster.persistent().count();
            tracing::warn!(
                group = key,
                members,
                "the group is no longer held; without members it ends, and nothing is kept for it"
            );
        }
        roster.set_held(held);
    }

    /// Begins the groups that have no cursor in the log.
    pub(super) fn begin(&self, log: &Log) -> Vec<Group> {
        let new = self.groups.iter().filter_map(|(key, filter)| {
            let name = cursor_name(key);
            if log.cursors().get(&name).is_some() {
                // Taken up already, or another version's, which was said.
                return None;
            }
            let mut roster = Roster::default();
            roster.set_held(true);
            let cursor = Cursor {
                next: log.first(),
                meta: roster.to_meta(),
                pins: true,
            };
            // Read back, because the log may have deleted its oldest records until this pinned the rest.
            log.cursors().put(&name, cursor);
            let place = log.cursors().get(&name)?.next;
            tracing::info!(group = key, place, "the group is held from now on");
            Some(Group::new(log, key, filter, place, place, roster))
        });
        new.collect()
    }
}

/// Says from time to time for which names messages wait and no member is connected.
///
/// # Errors
/// None.
pub(crate) async fn watch(
    groups: Groups,
    log: Log,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let mut pace = interval_at(Instant::now() + LOOK, LOOK);
    let mut vigil = Vigil::default();
    while stop.run_until_cancelled(pace.tick()).await.is_some() {
        for (group, records) in vigil.look(groups.abandoned()) {
            let log_bytes = log.status().disk_bytes;
            tracing::warn!(
                group,
                records,
                log_bytes,
                "nobody comes for what is held: the log keeps everything and grows; start the consumer, or leave the group out of --hold-for"
            );
        }
    }
    Ok(())
}

/// How often it was seen that nobody came.
#[derive(Debug, Default)]
struct Vigil(BTreeMap<String, u32>);

impl Vigil {
    /// Takes how many records wait for which names; returns those of which it is to be said now.
    fn look(&mut self, waiting: BTreeMap<String, u64>) -> Vec<(String, u64)> {
        self.0.retain(|name, _| waiting.contains_key(name));
        let mut due = Vec::new();
        for (name, records) in waiting {
            let looks = self.0.entry(name.clone()).or_default();
            *looks += 1;
            if *looks % WARN_EVERY == FIRST_WARNING {
                due.push((name, records));
            }
        }
        due
    }
}

impl Groups {
    /// Returns the names that are held, for which messages wait and no member is connected, and how many
    /// records of the log these are.
    fn abandoned(&self) -> BTreeMap<String, u64> {
        let groups: Vec<_> = self.lock().groups.values().cloned().collect();
        let mut abandoned = BTreeMap::new();
        for group in groups {
            let (held, connected) = {
                let state = group.lock();
                (state.roster.is_held(), state.roster.has_connected())
            };
            let lag = group.lag();
            if held && !connected && lag > 0 {
                let name = group.key.split('/').next().unwrap_or_default();
                let most: &mut u64 = abandoned.entry(name.to_owned()).or_default();
                *most = lag.max(*most);
            }
        }
        abandoned
    }
}

#[cfg(test)]
mod tests;
