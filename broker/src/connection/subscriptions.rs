//! SUBSCRIBE and UNSUBSCRIBE: what is granted, made durable where the session is, and answered.

use std::num::NonZeroU16;

use ingest_log::LogError;

use super::outbound::Grant;
use super::{Connection, Source};
use crate::metrics::What;
use crate::protocol::Version;
use crate::protocol::control::{self, Request};
use crate::protocol::topic::{Share, Wish, wish};
use crate::protocol::v5::{answers, reason};
use crate::session::{Options, Subscription};

/// Highest QoS of deliveries.
pub(super) const MAX_QOS: u8 = 2;
/// Highest QoS of shared subscriptions.
const MAX_SHARED_QOS: u8 = 1;

impl<R, W> Connection<R, W> {
    /// Adds subscriptions and answers.
    ///
    /// # Errors
    /// When the log has failed or is closed.
    pub(super) async fn subscribe(
        &mut self,
        packet_id: NonZeroU16,
        requests: Vec<Request>,
    ) -> Result<(), LogError> {
        // What this connection published before is not for this subscription, durable or not.
        let since = self.front.log.next_durable().max(self.appended_to);
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
            if request.retain_handling == 0 || (request.retain_handling == 1 && is_new) {
                let id = request.id;
                wanted.push((filter.clone(), Grant { qos, id }));
            }
            let options = Options {
                qos,
                no_local: request.no_local,
                retain_as_published: request.retain_as_published,
                id: request.id,
            };
            accepted.push(Subscription {
                filter,
                options,
                since,
            });
        }
        match &mut self.source {
            Source::Persistent(delivery) if !accepted.is_empty() => {
                delivery.subscribe(accepted).await?;
            }
            Source::Persistent(_) => {}
            Source::Live(live) => {
                for subscription in &accepted {
                    live.subscribe(&subscription.filter, subscription.options, since);
                }
            }
        }
        if shared {
            self.front.log.cursors().sync().await?;
        }
        self.answer_subscribe(packet_id, &reasons);
        self.send_retained(wanted);
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
                let qos = qos.min(MAX_SHARED_QOS);
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

    /// Queues each retained message once, with the highest QoS any of the filters was granted.
    fn send_retained(&mut self, wanted: Vec<(String, Grant)>) {
        let mut found = Vec::new();
        for (filter, granted) in wanted {
            let matching = self.front.retained.matching(&filter).into_iter();
            found.extend(matching.map(|message| {
                let qos = message.qos.min(granted.qos);
                (message, Grant { qos, ..granted })
            }));
        }
        found.sort_by(|a, b| a.0.topic.cmp(&b.0.topic).then(b.1.qos.cmp(&a.1.qos)));
        found.dedup_by(|later, kept| later.0.topic == kept.0.topic);
        let dropped = self.out.queue_retained(found);
        self.front.metrics.fanout_dropped.inc_by(dropped as u64);
    }

    /// Removes subscriptions.
    ///
    /// # Errors
    /// When the log has failed or is closed.
    pub(super) async fn forget(&mut self, filters: &[String]) -> Result<(), LogError> {
        let mut left = false;
        for filter in filters {
            left |= self.shares.unsubscribe(filter);
        }
        if left {
            self.front.log.cursors().sync().await?;
        }
        match &mut self.source {
            Source::Persistent(delivery) => delivery.unsubscribe(filters).await?,
            Source::Live(live) => filters.iter().for_each(|filter| live.unsubscribe(filter)),
        }
        Ok(())
    }

    /// Removes subscriptions and answers.
    ///
    /// # Errors
    /// When the log has failed or is closed.
    pub(super) async fn unsubscribe(
        &mut self,
        packet_id: NonZeroU16,
        filters: &[String],
    ) -> Result<(), LogError> {
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
        self.forget(filters).await?;
        match self.version {
            Version::V311 => control::put_unsuback(self.out.answers(), packet_id),
            Version::V5 => answers::put_unsuback(self.out.answers(), packet_id, &reasons),
        }
        Ok(())
    }
}
