//! SUBSCRIBE and UNSUBSCRIBE: what is granted, made durable where the session is, and answered.

use std::num::NonZeroU16;

use ingest_log::LogError;

use super::{Connection, Source};
use crate::protocol::control::{self, Request};
use crate::protocol::topic;
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
        for Request { filter, qos } in requests {
            let new = accepted
                .iter()
                .filter(|other| !self.source.has(&other.filter));
            let count = self.source.subscriptions() + new.count();
            let known = self.source.has(&filter) || accepted.iter().any(|s| s.filter == filter);
            if !topic::is_served(&filter) || !known && count >= MAX_SUBSCRIPTIONS {
                granted.push(None);
                continue;
            }
            let qos = qos.min(MAX_QOS);
            granted.push(Some(qos));
            accepted.push(Subscription { filter, qos, since });
        }
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
        control::put_suback(self.out.answers(), packet_id, &granted);
        self.send_retained(&wanted);
        Ok(())
    }

    /// Queues each retained message once, with the highest QoS any of the filters was granted.
    fn send_retained(&mut self, wanted: &[(String, u8)]) {
        let mut found = Vec::new();
        for (filter, granted) in wanted {
            let matching = self.front.retained.matching(filter).into_iter();
            found.extend(matching.map(|message| {
                let qos = message.qos.min(*granted);
                (message, qos)
            }));
        }
        found.sort_by(|a, b| a.0.topic.cmp(&b.0.topic).then(b.1.cmp(&a.1)));
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
        match &mut self.source {
            Source::Persistent(delivery) => delivery.unsubscribe(filters).await?,
            Source::Live(live) => filters.iter().for_each(|filter| live.unsubscribe(filter)),
        }
        control::put_unsuback(self.out.answers(), packet_id);
        Ok(())
    }
}
