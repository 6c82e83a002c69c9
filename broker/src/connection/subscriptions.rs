//! SUBSCRIBE and UNSUBSCRIBE: what is granted, made durable where the session is, and answered.

use std::num::NonZeroU16;

use ingest_log::LogError;

use super::outbound::Grant;
use super::{Connection, Source};
use crate::protocol::control::{self, Request};
use crate::protocol::topic::{Share, Wish, wish};
use crate::session::Subscription;

/// Most subscriptions of one client; beyond it SUBACK says failure.
const MAX_SUBSCRIPTIONS: usize = 1000;
/// Highest QoS of deliveries.
const MAX_QOS: u8 = 1;

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
        let mut granted = Vec::with_capacity(requests.len());
        let mut accepted: Vec<Subscription> = Vec::new();
        let mut shared = false;
        for Request { filter, qos } in requests {
            let qos = qos.min(MAX_QOS);
            let accepts = match wish(&filter) {
                _ if !self.has_room_for(&filter, &accepted) => false,
                Wish::Refused => false,
                Wish::Shared(share) => {
                    let joined = self.share(share, qos, since);
                    shared |= joined;
                    joined
                }
                Wish::Plain => {
                    accepted.push(Subscription { filter, qos, since });
                    true
                }
            };
            granted.push(accepts.then_some(qos));
        }
        // Retained messages are not for shared subscriptions.
        let wanted: Vec<_> = accepted.iter().map(|s| (s.filter.clone(), s.qos)).collect();
        match &mut self.source {
            Source::Persistent(delivery) if !accepted.is_empty() => {
                delivery.subscribe(accepted).await?;
            }
            Source::Persistent(_) => {}
            Source::Live(live) => {
                for subscription in &accepted {
                    live.subscribe(&subscription.filter, subscription.qos, since);
                }
            }
        }
        if shared {
            self.front.log.cursors().sync().await?;
        }
        control::put_suback(self.out.answers(), packet_id, &granted);
        self.send_retained(&wanted);
        Ok(())
    }

    /// Tells whether one more filter is within the bound, or is there already.
    fn has_room_for(&self, filter: &str, accepted: &[Subscription]) -> bool {
        let new = accepted.iter().filter(|s| !self.source.has(&s.filter));
        self.source.subscriptions() + self.shares.len() + new.count() < MAX_SUBSCRIPTIONS
            || self.source.has(filter)
            || self.shares.has(filter)
            || accepted.iter().any(|s| s.filter == filter)
    }

    /// Becomes a member of a group; tells whether it is one.
    fn share(&mut self, share: Share<'_>, qos: u8, since: u64) -> bool {
        let joined = self.shares.subscribe(share, qos, since);
        if let Err(error) = &joined
            && let Some(suppressed) = self.front.warning.permit()
        {
            let (client_id, share) = (&*self.client_id, share.key);
            tracing::warn!(client_id, share, %error, suppressed, "a shared subscription was refused");
        }
        joined.is_ok()
    }

    /// Queues each retained message once, with the highest QoS any of the filters was granted.
    fn send_retained(&mut self, wanted: &[(String, u8)]) {
        let mut found = Vec::new();
        for (filter, granted) in wanted {
            let matching = self.front.retained.matching(filter).into_iter();
            found.extend(matching.map(|message| {
                let qos = message.qos.min(*granted);
                (message, Grant { qos, id: None })
            }));
        }
        found.sort_by(|a, b| a.0.topic.cmp(&b.0.topic).then(b.1.qos.cmp(&a.1.qos)));
        found.dedup_by(|later, kept| later.0.topic == kept.0.topic);
        let dropped = self.out.queue_retained(found);
        self.front.metrics.fanout_dropped.inc_by(dropped as u64);
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
        control::put_unsuback(self.out.answers(), packet_id);
        Ok(())
    }
}
