//! The shared subscriptions of one connection.
//!
//! Invariant: a membership that is dropped, for whatever reason, has left its group, and the group knows what
//! the connection had not acknowledged: a connection that ends cannot lose records.

mod again;

use std::num::NonZeroU16;
use std::sync::Arc;

use futures_util::future::select_all;
use ingest_log::LogError;

use self::again::{Again, Open};
use super::group::Seat;
use super::{Groups, JoinError, Joined};
use crate::connection::outbound::Outbound;
use crate::protocol::topic::{Share, Wish, wish};
use crate::session::Options;
use crate::session::window::Origin;

/// Most shared subscriptions of a client; each is asked at every turn of its connection.
pub(super) const MAX_MEMBERSHIPS: usize = 100;

/// The shared subscriptions of a connection.
#[derive(Debug)]
pub(crate) struct Shares {
    groups: Groups,
    client_id: Arc<str>,
    /// Whether the session outlives the connection.
    persistent: bool,
    memberships: Vec<Membership>,
    next_number: u32,
    /// Whose turn it is to send first.
    turn: usize,
    /// What an earlier connection of the client was sent with QoS 2; it comes before anything else.
    again: Again,
}

#[derive(Debug)]
struct Membership {
    groups: Groups,
    client_id: Arc<str>,
    joined: Joined,
    /// Tells acknowledgements of different memberships apart; never given twice on a connection.
    number: u32,
    /// Whether the client is no member any more once this is dropped.
    for_good: bool,
}

impl Membership {
    fn seat(&self) -> Seat {
        Seat {
            member: self.joined.member,
            number: self.number,
            options: self.joined.options,
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.groups
            .leave(&self.joined, &self.client_id, self.for_good);
    }
}

impl Shares {
    /// Begins a clean session, or a persistent one that is new: what is left of an older one is forgotten.
    pub(crate) fn begin(groups: &Groups, client_id: &Arc<str>, persistent: bool) -> Self {
        groups.forget(client_id);
        Self {
            groups: groups.clone(),
            client_id: Arc::clone(client_id),
            persistent,
            memberships: Vec::new(),
            next_number: 0,
            turn: 0,
            again: Again::default(),
        }
    }

    /// Goes on with the shared subscriptions of a persistent session.
    ///
    /// Nothing may be sent before a sync of the log's cursors: until then, a crash could hide that it was.
    pub(crate) fn resume(groups: &Groups, client_id: &Arc<str>) -> Self {
        let mut shares = Self {
            groups: groups.clone(),
            client_id: Arc::clone(client_id),
            persistent: true,
            memberships: Vec::new(),
            next_number: 0,
            turn: 0,
            again: Again::default(),
        };
        for joined in groups.rejoin(client_id) {
            shares.add(joined);
        }
        shares
    }

    fn add(&mut self, joined: Joined) {
        self.memberships.push(Membership {
            groups: self.groups.clone(),
            client_id: Arc::clone(&self.client_id),
            joined,
            number: self.next_number,
            for_good: !self.persistent,
        });
        self.next_number += 1;
    }

    /// Returns the number that acknowledgements have of what is sent for a group: of the client's membership, or a
    /// new one if it is no member any more.
    pub(crate) fn number_of(&mut self, key: &str) -> u32 {
        if let Some(place) = self.find(key) {
            return self.memberships[place].number;
        }
        self.next_number += 1;
        self.next_number - 1
    }

    /// Takes up what an earlier connection was sent with QoS 2 and did not receive: a record and its packet id. `false`
    /// when the group knows nothing of it: then it is done with.
    pub(crate) fn send_again(&mut self, key: &str, number: u32, seq: u64, id: NonZeroU16) -> bool {
        let is_bound = self.groups.is_bound(key, seq, &self.client_id);
        if is_bound {
            let membership = self.find(key).map(|place| &self.memberships[place]);
            let options = membership.map(|membership| membership.joined.options);
            self.again.add(Open {
                seq,
                id,
                number,
                options,
            });
        }
        is_bound
    }

    /// Notes that the client has records that were sent with QoS 2, and that the journal knows. `name` tells a group
    /// by its number.
    pub(crate) fn received<'a>(
        &mut self,
        received: &[Origin],
        name: impl Fn(u32) -> Option<&'a str>,
    ) {
        let named: Vec<_> = received
            .iter()
            .filter_map(|origin| match origin {
                Origin::Share { number, seq } => Some((*number, *seq)),
                _ => None,
            })
            .collect();
        if named.is_empty() {
            return;
        }
        for (number, seq) in &named {
            self.again.remove(*number, *seq);
        }
        let by_name = named.iter().filter_map(|(n, seq)| Some((name(*n)?, *seq)));
        self.groups.received(&self.client_id, by_name);
    }

    /// Returns the number of shared subscriptions.
    pub(crate) fn len(&self) -> usize {
        self.memberships.len()
    }

    /// Returns the shared subscriptions as the client would ask for them.
    pub(crate) fn filters(&self) -> impl Iterator<Item = String> {
        let memberships = self.memberships.iter();
        memberships.map(|membership| format!("$share/{}", membership.joined.group.key))
    }

    /// Tells whether there is a shared subscription for exactly this, `$share/` included.
    pub(crate) fn has(&self, requested: &str) -> bool {
        matches!(wish(requested), Wish::Shared(share) if self.find(share.key).is_some())
    }

    fn find(&self, key: &str) -> Option<usize> {
        let mut memberships = self.memberships.iter();
        memberships.position(|membership| *membership.joined.group.key == *key)
    }

    /// Adds a shared subscription, or changes its options; a group that is new begins at `since`.
    ///
    /// To be followed by a sync of the log's cursors before it is answered and before anything is sent.
    ///
    /// # Errors
    /// When a bound is reached or the group cannot be served.
    pub(crate) fn subscribe(
        &mut self,
        share: Share<'_>,
        options: Options,
        since: u64,
    ) -> Result<(), JoinError> {
        if let Some(place) = self.find(share.key) {
            let joined = &mut self.memberships[place].joined;
            joined.options = options;
            joined.group.grant(&self.client_id, options);
            return Ok(());
        }
        if self.memberships.len() >= MAX_MEMBERSHIPS {
            return Err(JoinError::TooManyMemberships);
        }
        let (client_id, persistent) = (&self.client_id, self.persistent);
        let joined = self
            .groups
            .join(share, client_id, persistent, options, since)?;
        self.add(joined);
        Ok(())
    }

    /// Removes a shared subscription; tells whether there was one, and so whether to sync before the answer.
    pub(crate) fn unsubscribe(&mut self, requested: &str) -> bool {
        let Wish::Shared(share) = wish(requested) else {
            return false;
        };
        let Some(place) = self.find(share.key) else {
            return false;
        };
        let mut membership = self.memberships.swap_remove(place);
        membership.for_good = true;
        true
    }

    /// Takes acknowledgements; others' are left alone, and so are those of memberships that are gone.
    pub(crate) fn acknowledge(&self, acknowledged: &[Origin]) {
        let number = |origin: &Origin| match origin {
            Origin::Share { number, .. } => Some(*number),
            _ => None,
        };
        for run in acknowledged.chunk_by(|one, other| number(one) == number(other)) {
            let Some(number) = run.first().and_then(number) else {
                continue;
            };
            let seqs = run.iter().filter_map(|origin| match origin {
                Origin::Share { seq, .. } => Some(*seq),
                _ => None,
            });
            if let Some(of) = self.memberships.iter().find(|m| m.number == number) {
                of.joined.group.acknowledge(of.joined.member, seqs);
            }
        }
    }

    /// Sends what there is, as far as window and output have room; the groups are first in turn.
    pub(crate) fn pump(&mut self, out: &mut Outbound) {
        if !self.again.pump(out) {
            return;
        }
        let count = self.memberships.len();
        if count == 0 {
            return;
        }
        self.turn = (self.turn + 1) % count;
        let (later, first) = self.memberships.split_at(self.turn);
        let mut repeated = 0;
        for membership in first.iter().chain(later) {
            repeated += (membership.joined.group).pump(membership.seat(), &self.client_id, out);
        }
        if repeated > 0 {
            self.groups.0.metrics.redelivered.inc_by(repeated);
        }
    }

    /// Tells whether [`Shares::fetch`] has something to wait for.
    pub(crate) fn is_hungry(&self, out: &Outbound) -> bool {
        if !self.again.is_empty() {
            return self.again.is_hungry();
        }
        let mut memberships = self.memberships.iter();
        memberships.any(|membership| takes(membership, out.window.is_full()))
    }

    /// Waits until a group has something for this connection; `false` when there will be no more.
    ///
    /// # Errors
    /// As [`ingest_log::Reader::next_chunk`].
    ///
    /// # Cancel safety
    /// Yes.
    pub(crate) async fn fetch(&mut self, window_is_full: bool) -> Result<bool, LogError> {
        if !self.again.is_empty() {
            return self.again.fetch(self.groups.log()).await;
        }
        let hungry = self.memberships.iter();
        let hungry = hungry.filter(|membership| takes(membership, window_is_full));
        let fetches: Vec<_> = hungry
            .map(|membership| {
                let joined = &membership.joined;
                Box::pin(joined.group.fetch(joined.member, self.groups.replay()))
            })
            .collect();
        if fetches.is_empty() {
            return std::future::pending().await;
        }
        select_all(fetches).await.0
    }
}

/// Tells whether a membership has room: with QoS 0 it needs no window.
fn takes(membership: &Membership, window_is_full: bool) -> bool {
    membership.joined.options.qos == 0 || !window_is_full
}
