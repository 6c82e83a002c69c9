//! Shared subscriptions, `$share/<group>/<filter>`: a group takes what its filter matches, and each record goes
//! to one of its members.
//!
//! A group is a name and a filter; the same name with another filter is another group. It is a cursor of the
//! log, `share/<group>/<filter>`, whose place is the lowest record that no member has acknowledged and whose
//! metadata are the members with persistent sessions. Promises:
//! - A subscription is on disk before its SUBACK; a new group begins at the log's end, or where the client that
//!   makes it stands if it has the same filter for itself: it may give that up then and misses nothing.
//! - QoS 1 at least once: what a member has not acknowledged when it leaves goes to the others first of all, with
//!   DUP, or waits for the next to come. With no member connected nothing is read and the log holds it.
//! - QoS 2 exactly once: what was sent to a member is for it alone and waits for it, and is for nobody when its session
//!   ends [MQTT-4.8.2-4, MQTT-4.8.2-5]; both are in the journal before it is sent, see [`session_state`].
//! - A group ends when its last member leaves for good: a clean session with its connection, a persistent one
//!   by UNSUBSCRIBE or when it is discarded; and when what they were sent with QoS 2 is completed.
//! - A group that is held, see [`hold`], begins with the log and does not end.
//!
//! Bounds: [`MAX_GROUPS`], [`roster::MAX_MEMBERS`] per group and [`membership::MAX_MEMBERSHIPS`] per client, with SUBACK
//! failure beyond; what is held and returned in a group is at most the windows of its members.
//!
//! Locks: the registry before a group's state, and neither is held over an await.

mod core;
mod group;
pub(crate) mod hold;
mod membership;
mod roster;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ingest_log::Log;
use service::ErrorChain;
use session_state::{KEPT, Store};

use self::group::{Group, cursor_name};
use self::hold::Hold;
pub(crate) use self::membership::Shares;
use self::roster::Roster;
use crate::metrics::ShareMetrics;
use crate::protocol::topic::{Share, Wish, wish};
use crate::session::replay::Replay;
use crate::session::{self, Options};

/// Prefix of the cursors that are groups.
const PREFIX: &str = "share/";
/// Most groups. Each holds the log from its place on.
const MAX_GROUPS: usize = 1024;

/// All groups. Cheap to clone; all clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Groups(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Log,
    state: Store,
    replay: Replay,
    metrics: ShareMetrics,
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    /// By key.
    groups: HashMap<Box<str>, Arc<Group>>,
    /// The groups in which a client is a member with a persistent session.
    of_client: HashMap<Arc<str>, Vec<Arc<Group>>>,
}

/// Why a client does not become a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("there are too many groups")]
    TooManyGroups,
    #[error("the group has too many members")]
    TooManyMembers,
    #[error("the client has too many shared subscriptions")]
    TooManyMemberships,
    #[error("the group's cursor cannot be read: another version wrote it")]
    Unreadable,
    #[error("the journal takes no changes now")]
    Journal,
}

/// How a client takes part in a group.
#[derive(Debug, Clone)]
struct Joined {
    group: Arc<Group>,
    /// The group's number of the member.
    member: u64,
    options: Options,
}

impl Groups {
    /// Takes the groups up as the log has them, and begins those of `hold` that are new; what was durable
    /// before this process began lies below `recovered`.
    ///
    /// Members whose session is gone are struck, and groups without members end if they are not held: clean
    /// sessions do not outlive the process. All this is durable after a sync of the log's cursors.
    pub(crate) fn open(
        log: &Log,
        state: &Store,
        recovered: u64,
        hold: &Hold,
        metrics: ShareMetrics,
    ) -> Self {
        let mut registry = Registry::default();
        let mut bound = bound(log, state);
        for (name, cursor) in log.cursors().list() {
            let Some(key) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let requested = format!("${name}");
            let Wish::Shared(share) = wish(&requested) else {
                tracing::error!(
                    name,
                    "a group's cursor has a name that is none; it is left alone"
                );
                continue;
            };
            let mut roster = match Roster::from_meta(&cursor.meta) {
                Ok(roster) => roster,
                Err(error) => {
                    let error = ErrorChain(&error);
                    tracing::error!(%error, name, "a group cannot be read; it holds the log and is not served");
                    continue;
                }
            };
            let members: Vec<_> = roster.persistent().cloned().collect();
            for client_id in members {
                if !session::exists(log, &client_id) {
                    roster.strike(&client_id);
                }
            }
            hold.apply(key, &mut roster);
            let known = state.group(key).unwrap_or_default();
            let bound = bound.remove(key).unwrap_or_default();
            if roster.is_over() && bound.is_empty() {
                log.cursors().remove(&name);
                continue;
            }
            let unsent = roster.sent_to().unwrap_or(recovered);
            let place = cursor.next.max(known.place);
            let group = Group::new(log, key, share.filter, place, unsent, roster);
            group.restore(bound, known.done);
            group.put(&mut group.lock());
            registry.add(Arc::new(group));
        }
        for name in state.groups() {
            if log.cursors().get(&cursor_name(&name)).is_none() {
                forget(state, &name);
            }
        }
        for group in hold.begin(log) {
            registry.add(Arc::new(group));
        }
        let groups = Self(Arc::new(Shared {
            log: log.clone(),
            state: state.clone(),
            replay: Replay::new(metrics.replay_turns.clone()),
            metrics,
            registry: Mutex::new(registry),
        }));
        groups.0.metrics.groups.set(groups.lock().count());
        groups
    }

    /// Makes a client that has just connected a member of the group, or changes the QoS of one that has a
    /// persistent session there. The group begins at `since` if it is new.
    ///
    /// The change is durable after a sync of the log's cursors.
    fn join(
        &self,
        share: Share<'_>,
        client_id: &Arc<str>,
        persistent: bool,
        options: Options,
        since: u64,
    ) -> Result<Joined, JoinError> {
        let mut registry = self.lock();
        let group = self.find_or_begin(&mut registry, share, since)?;
        let mut state = group.lock();
        if !state.roster.admits(client_id) {
            return Err(JoinError::TooManyMembers);
        }
        if persistent && state.roster.granted(client_id) != Some(options) {
            state.roster.enrol(client_id, options);
            registry.enrol(client_id, &group);
        }
        let member = group.join(&mut state, client_id);
        drop(state);
        self.0.metrics.members.inc();
        Ok(Joined {
            group,
            member,
            options,
        })
    }

    fn find_or_begin(
        &self,
        registry: &mut Registry,
        share: Share<'_>,
        since: u64,
    ) -> Result<Arc<Group>, JoinError> {
        let Shared {
            log,
            metrics,
            state,
            ..
        } = &*self.0;
        if let Some(group) = registry.groups.get(share.key) {
            let mut state = group.lock();
            if state.roster.is_over() {
                // It was only there for what its last members were sent.
                group.begin_again(&mut state, since);
            }
            return Ok(Arc::clone(group));
        }
        if log.cursors().get(&cursor_name(share.key)).is_some() {
            return Err(JoinError::Unreadable);
        }
        if registry.groups.len() >= MAX_GROUPS {
            return Err(JoinError::TooManyGroups);
        }
        // What was known of one of the same name is not of this one.
        if !forget(state, share.key) {
            return Err(JoinError::Journal);
        }
        let roster = Roster::default();
        let group = Group::new(log, share.key, share.filter, since, since, roster);
        let group = Arc::new(group);
        registry.add(Arc::clone(&group));
        metrics.groups.set(registry.count());
        Ok(group)
    }

    /// Makes a client whose persistent session goes on a connected member of all its groups.
    fn rejoin(&self, client_id: &Arc<str>) -> Vec<Joined> {
        let registry = self.lock();
        let groups = registry.of_client.get(client_id).into_iter().flatten();
        let joined = groups.filter_map(|group| {
            let mut state = group.lock();
            let options = state.roster.granted(client_id)?;
            let member = group.join(&mut state, client_id);
            drop(state);
            self.0.metrics.members.inc();
            Some(Joined {
                group: Arc::clone(group),
                member,
                options,
            })
        });
        joined.collect()
    }

    /// Takes a connected member out; `for_good` also out of the roster. What it had goes to others.
    fn leave(&self, joined: &Joined, client_id: &str, for_good: bool) {
        let mut registry = self.lock();
        let Joined { group, member, .. } = joined;
        let mut state = group.lock();
        group.leave(&mut state, client_id, *member);
        if state.core.has_bound() {
            let known = self.0.state.client(client_id).unwrap_or_default();
            let of_group = self.0.state.group(&group.key).unwrap_or_default();
            group.reconcile(&mut state, client_id, &known, &of_group);
        }
        drop(state);
        self.0.metrics.members.dec();
        if for_good {
            registry.strike(client_id, group);
        }
        self.settle(&mut registry, group);
    }

    /// Takes a client that has no session any more out of all groups for good.
    ///
    /// The change is durable after a sync of the log's cursors.
    pub(crate) fn forget(&self, client_id: &str) {
        let sent = self.0.state.groups_of(client_id);
        let mut registry = self.lock();
        let mut groups = registry.of_client.remove(client_id).unwrap_or_default();
        groups.extend(sent.iter().filter_map(|k| registry.groups.get(k).cloned()));
        for group in groups {
            group.lock().roster.strike(client_id);
            group.let_go(client_id);
            self.settle(&mut registry, &group);
        }
    }

    /// Returns the turns of who is far behind.
    pub(crate) fn replay(&self) -> &Replay {
        &self.0.replay
    }

    fn log(&self) -> &Log {
        &self.0.log
    }

    /// Tells whether a record is on its way to a client for a group.
    fn is_bound(&self, key: &str, seq: u64, client_id: &str) -> bool {
        let group = self.lock().groups.get(key).cloned();
        group.is_some_and(|group| group.is_bound(seq, client_id))
    }

    /// Notes that a client has records, by group; the journal knows.
    fn received<'a>(&self, client_id: &str, received: impl IntoIterator<Item = (&'a str, u64)>) {
        let mut registry = self.lock();
        for (key, seq) in received {
            let Some(group) = registry.groups.get(key).cloned() else {
                continue;
            };
            let mut state = group.lock();
            group.unbind(&mut state, client_id, seq);
            let is_over = state.is_over();
            drop(state);
            if is_over {
                self.settle(&mut registry, &group);
            }
        }
    }

    /// Ends a group that has no members any more, or keeps it as it is now.
    fn settle(&self, registry: &mut Registry, group: &Group) {
        let mut state = group.lock();
        if state.is_over() {
            group.end(&mut state);
            forget(&self.0.state, &group.key);
            registry.groups.remove(&group.key);
            self.0.metrics.groups.set(registry.count());
        } else {
            if state.roster.is_over() {
                // It stays for what is on its way, and the rest is nobody's.
                state.core.leap(0);
            }
            group.put(&mut state);
        }
    }

    /// Returns how many records the groups are behind the log's durable end: all together, and the one that
    /// is the most.
    pub(crate) fn lag(&self) -> (u64, u64) {
        let groups: Vec<_> = self.lock().groups.values().cloned().collect();
        let lags = groups.iter().map(|group| group.lag());
        lags.fold((0, 0), |(sum, most), lag| (sum + lag, lag.max(most)))
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what is on its way to clients with QoS 2, by group. What was on its way to a client that has no session
/// any more is for nobody.
fn bound(log: &Log, state: &Store) -> HashMap<Box<str>, BTreeMap<u64, Arc<str>>> {
    let mut bound: HashMap<Box<str>, BTreeMap<_, _>> = HashMap::new();
    for (client_id, _, outgoing) in state.outgoing() {
        let is_open = !outgoing.received && !outgoing.group.is_empty() && &*outgoing.group != KEPT;
        if !session::exists(log, &client_id) {
            if let Err(error) = state.clear(&client_id) {
                let client_id = &*client_id;
                tracing::warn!(client_id, %error, "what was kept of a session could not be cleared");
            }
        } else if is_open {
            let of_group = bound.entry(outgoing.group).or_default();
            of_group.insert(outgoing.seq, client_id);
        }
    }
    bound
}

/// Lets the journal forget a group that ended; `false` when it takes no changes now.
fn forget(state: &Store, key: &str) -> bool {
    let ended = state.end_group(key);
    if let Err(error) = &ended {
        tracing::warn!(group = key, %error, "what was kept of a group could not be cleared");
    }
    ended.is_ok()
}

impl Registry {
    fn add(&mut self, group: Arc<Group>) {
        let members: Vec<_> = group.lock().roster.persistent().cloned().collect();
        for client_id in &members {
            self.enrol(client_id, &group);
        }
        self.groups.insert(group.key.clone(), group);
    }

    fn enrol(&mut self, client_id: &Arc<str>, group: &Arc<Group>) {
        let groups = self.of_client.entry(Arc::clone(client_id)).or_default();
        if !groups.iter().any(|there| Arc::ptr_eq(there, group)) {
            groups.push(Arc::clone(group));
        }
    }

    fn strike(&mut self, client_id: &str, group: &Arc<Group>) {
        if group.lock().roster.strike(client_id)
            && let Some(groups) = self.of_client.get_mut(client_id)
        {
            groups.retain(|there| !Arc::ptr_eq(there, group));
            if groups.is_empty() {
                self.of_client.remove(client_id);
            }
        }
    }

    fn count(&self) -> i64 {
        i64::try_from(self.groups.len()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests;
