//! SUBSCRIBE and UNSUBSCRIBE: what is granted, made durable where the session is, and answered.

use std::num::NonZeroU16;

use ingest_log::LogError;
use session_state::{Change, Client, KEPT};

use super::outbound::Grant;
use super::{Connection, End, Source};
use crate::metrics::What;
use crate::protocol::control::{self, Request};
use crate::protocol::frame::length_size;
use crate::protocol::topic::{Share, Wish, wish};
use crate::protocol::v5::{answers, reason};
use crate::protocol::{Version, Violation};
use crate::retained::Retained;
use crate::session::{Options, Subscription};

/// Highest QoS of deliveries.
pub(super) const MAX_QOS: u8 = 2;

impl<R, W> Connection<R, W> {
    /// Adds subscriptions and answers.
    ///
    /// # Errors
    /// When the log or the journal has failed or is closed, or the client does not take the answer.
    pub(super) async fn subscribe(
        &mut self,
        packet_id: NonZeroU16,
        requests: Vec<Request>,
    ) -> Result<(), End> {
        self.is_answered(requests.len())?;
        // What this connection published before is not for this subscription, durable or not.
        let since = self.front.log.next_durable().max(self.appended_to);
        // What was retained before is, and that may be a moment behind.
        self.front.retained.settled(since).await;
        let mut reasons = Vec::with_capacity(requests.len());
        let mut accepted: Vec<Subscription> = Vec::new();
        let mut wanted = Vec::new();
        let mut shared = false;
        for request in requests {
            let granted = self.grant(&request, since, &accepted);
            reasons.push(granted.unwrap_or_else(|reason| reason));
            let Ok(qos) = granted else {
                continue;
            };
            if let Wish::Shared(_) = wish(&request.filter) {
                // Retained messages are not for shared subscriptions.
                shared = true;
                continue;
            }
            let filter = request.filter;
            let is_new = !self.source.has(&filter);
            let wants = request.retain_handling == 0 || (request.retain_handling == 1 && is_new);
            let options = Options {
                qos,
                no_local: request.no_local,
                retain_as_published: request.retain_as_published,
                id: request.id,
            };
            let subscription = Subscription {
                filter,
                options,
                since,
                until: None,
                retained_to: None,
            };
            if wants {
                wanted.push(subscription.clone());
            }
            let retained_to = (wants && options.qos > 0).then_some(u64::MAX);
            accepted.push(Subscription {
                retained_to,
                ..subscription
            });
        }
        let retained = self.find_retained(&wanted);
        for subscription in &mut accepted {
            // Nothing of it is to survive the connection where there is nothing.
            let bound = retained.iter().map(|(message, _)| message.seq + 1).max();
            subscription.retained_to = subscription.retained_to.and(bound);
        }
        match &mut self.source {
            Source::Persistent(delivery) if !accepted.is_empty() => {
                if delivery.has_old_retained() && !retained.is_empty() {
                    let (state, client_id) = (&self.front.state, &self.client_id);
                    let forgotten = state.change(client_id, &[Change::KeptOver])?;
                    forgotten.await.map_err(End::Log)?;
                    delivery.forgot_retained();
                }
                delivery.subscribe(accepted).await.map_err(End::Log)?;
            }
            Source::Persistent(_) => {}
            Source::Live(live) => {
                for subscription in &accepted {
                    live.subscribe(&subscription.filter, subscription.options, since);
                }
            }
        }
        if shared {
            // That nothing is known of a new group, and then the group.
            let forgotten = self.front.state.change(&self.client_id, &[])?;
            forgotten.await.map_err(End::Log)?;
            let synced = self.front.log.cursors().sync().await;
            synced.map_err(End::Log)?;
        }
        self.answer_subscribe(packet_id, &reasons);
        self.queue_retained(retained);
        Ok(())
    }

    /// Decides on one filter: the QoS that is granted, or the reason why none is. A shared subscription is made
    /// at once.
    fn grant(
        &mut self,
        request: &Request,
        since: u64,
        accepted: &[Subscription],
    ) -> Result<u8, u8> {
        let filter = &*request.filter;
        let qos = request.qos.min(MAX_QOS);
        if !self.permit.may_subscribe(filter) {
            self.front.metrics.refused(What::SubscribeDenied, 1);
            return Err(reason::NOT_AUTHORIZED);
        }
        if !self.has_room_for(filter, accepted) {
            self.front.metrics.refused(What::SubscribeLimit, 1);
            return Err(reason::QUOTA_EXCEEDED);
        }
        match wish(filter) {
            Wish::Plain => Ok(qos),
            Wish::Refused => Err(reason::TOPIC_FILTER_INVALID),
            Wish::Shared(share) => {
                let options = Options {
                    qos,
                    no_local: false,
                    retain_as_published: request.retain_as_published,
                    id: request.id,
                };
                if self.share(share, options, since) {
                    Ok(qos)
                } else {
                    Err(reason::QUOTA_EXCEEDED)
                }
            }
        }
    }

    fn answer_subscribe(&mut self, packet_id: NonZeroU16, reasons: &[u8]) {
        if self.version == Version::V311 {
            let granted: Vec<_> = reasons
                .iter()
                .map(|reason| Some(*reason).filter(|reason| *reason < reason::UNSPECIFIED))
                .collect();
            return control::put_suback(self.out.answers(), packet_id, &granted);
        }
        let refused = reasons
            .iter()
            .find(|reason| **reason >= reason::UNSPECIFIED);
        let words = refused
            .filter(|_| self.wants_reasons)
            .and_then(|reason| reason::in_words(*reason))
            // Head, reasons and the string with its length; without it the packet has no other form.
            .filter(|words| reasons.len() + words.len() + 16 <= self.out.packet_limit());
        answers::put_suback(self.out.answers(), packet_id, reasons, words);
    }

    /// Tells whether one more filter is within the bound, or is there already.
    fn has_room_for(&self, filter: &str, accepted: &[Subscription]) -> bool {
        let new = accepted.iter().filter(|s| !self.source.has(&s.filter));
        self.source.subscriptions() + self.shares.len() + new.count() < self.front.max_subscriptions
            || self.source.has(filter)
            || self.shares.has(filter)
            || accepted.iter().any(|s| s.filter == filter)
    }

    /// Becomes a member of a group; tells whether it is one.
    fn share(&mut self, share: Share<'_>, options: Options, since: u64) -> bool {
        // Where this client stands if it has the filter for itself, so that it may give that up without loss.
        let stands = match &self.source {
            Source::Persistent(delivery) => delivery.stands(share.filter),
            Source::Live(_) => None,
        };
        let joined = (self.shares).subscribe(share, options, stands.unwrap_or(since));
        if let Err(error) = &joined
            && let Some(suppressed) = self.front.warning.permit()
        {
            let (client_id, share) = (&*self.client_id, share.key);
            tracing::warn!(client_id, share, %error, suppressed, "a shared subscription was refused");
        }
        joined.is_ok()
    }

    /// Finds each retained message that is wanted once, with the highest QoS any of the filters was granted.
    fn find_retained(&self, wanted: &[Subscription]) -> Vec<(Retained, Grant)> {
        let mut found = Vec::new();
        for Subscription {
            filter, options, ..
        } in wanted
        {
            let of_clients = self.front.retained.matching(filter).into_iter();
            let matching = of_clients.chain(self.front.sys.matching(filter));
            let is_own =
                |message: &Retained| options.no_local && *message.client_id == *self.client_id;
            let matching = matching.filter(|message| !is_own(message));
            found.extend(matching.map(|message| {
                let (qos, id) = (message.qos.min(options.qos), options.id);
                (message, Grant { qos, id })
            }));
        }
        found.sort_by(|a, b| a.0.topic.cmp(&b.0.topic).then(b.1.qos.cmp(&a.1.qos)));
        found.dedup_by(|later, kept| later.0.topic == kept.0.topic);
        found
    }

    fn queue_retained(&mut self, found: Vec<(Retained, Grant)>) {
        let dropped = self.out.queue_retained(found);
        self.front.metrics.fanout_dropped.inc_by(dropped as u64);
    }

    /// Queues the retained messages that an earlier connection was to get and did not acknowledge.
    pub(super) fn resume_retained(&mut self, known: &Client) {
        let Source::Persistent(delivery) = &self.source else {
            return;
        };
        let awaiting: Vec<_> = delivery
            .awaiting_retained()
            .filter(|(subscription, _)| self.permit.may_subscribe(&subscription.filter))
            .map(|(subscription, to)| (subscription.clone(), to))
            .collect();
        let to = awaiting.iter().map(|(_, to)| *to).max();
        let (Some(to), wanted) = (to, awaiting.into_iter().map(|(s, _)| s).collect::<Vec<_>>())
        else {
            return;
        };
        let on_its_way = |seq| {
            let mut outgoing = known.outgoing.values();
            outgoing.any(|out| out.seq == seq && &*out.group == KEPT)
        };
        let mut found = self.find_retained(&wanted);
        found.retain(|(message, grant)| {
            let seq = message.seq;
            // What is newer comes from the log.
            grant.qos > 0 && seq < to && !known.kept.contains(&seq) && !on_its_way(seq)
        });
        self.queue_retained(found);
    }

    /// Removes subscriptions that the rules do not grant any more: nothing is sent for them again.
    ///
    /// # Errors
    /// When the log has failed or is closed.
    pub(super) async fn withdraw(&mut self, filters: &[String]) -> Result<(), LogError> {
        self.leave_groups(filters).await?;
        match &mut self.source {
            Source::Persistent(delivery) => delivery.withdraw(filters).await?,
            Source::Live(live) => filters.iter().for_each(|filter| live.unsubscribe(filter)),
        }
        Ok(())
    }

    async fn leave_groups(&mut self, filters: &[String]) -> Result<(), LogError> {
        let mut left = false;
        for filter in filters {
            left |= self.shares.unsubscribe(filter);
        }
        if left {
            self.front.log.cursors().sync().await?;
        }
        Ok(())
    }

    /// Removes subscriptions; what was begun is completed [MQTT-3.10.4-3].
    async fn forget(&mut self, filters: &[String]) -> Result<(), LogError> {
        self.leave_groups(filters).await?;
        match &mut self.source {
            Source::Persistent(delivery) => delivery.unsubscribe(filters).await?,
            Source::Live(live) => filters.iter().for_each(|filter| live.unsubscribe(filter)),
        }
        Ok(())
    }

    /// Refuses what cannot be answered in a packet that the client takes, with a reason for each filter.
    fn is_answered(&self, filters: usize) -> Result<(), End> {
        // First byte, length, packet id and the length of the properties.
        let overhead = 1 + length_size(filters + 3) + 3;
        if self.version == Version::V5 && filters + overhead > self.out.packet_limit() {
            return Err(End::Violation(Violation::TooLarge));
        }
        Ok(())
    }

    /// Removes subscriptions and answers.
    ///
    /// # Errors
    /// When the log has failed or is closed, or the client does not take the answer.
    pub(super) async fn unsubscribe(
        &mut self,
        packet_id: NonZeroU16,
        filters: &[String],
    ) -> Result<(), End> {
        self.is_answered(filters.len())?;
        let reasons: Vec<_> = filters
            .iter()
            .map(|filter| {
                if self.source.has(filter) || self.shares.has(filter) {
                    reason::SUCCESS
                } else {
                    reason::NO_SUBSCRIPTION_EXISTED
                }
            })
            .collect();
        self.forget(filters).await.map_err(End::Log)?;
        match self.version {
            Version::V311 => control::put_unsuback(self.out.answers(), packet_id),
            Version::V5 => answers::put_unsuback(self.out.answers(), packet_id, &reasons),
        }
        Ok(())
    }
}
