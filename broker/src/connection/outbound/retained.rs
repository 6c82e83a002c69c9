//! Retained messages on their way to one client: those of its new subscriptions, and those an earlier connection sent.
//!
//! Invariant: in a session that outlives the connection each counts as open until it is acknowledged. Bound:
//! [`MAX_RETAINED`].

use std::num::NonZeroU16;

use super::{Grant, Message, Outbound, Sent};
use crate::retained::Retained;
use crate::session::window::Origin;

/// Most retained messages waiting; each holds only references.
const MAX_RETAINED: usize = 100_000;

impl Outbound {
    /// Queues retained messages for a new subscription; returns how many had no place.
    pub(crate) fn queue_retained(&mut self, found: Vec<(Retained, Grant)>) -> usize {
        let room = MAX_RETAINED.saturating_sub(self.retained.len());
        let dropped = found.len().saturating_sub(room);
        self.retained.extend(found.into_iter().take(room));
        dropped
    }

    /// Sends queued retained messages as far as there is room.
    pub(crate) fn pump_retained(&mut self) {
        while self.has_room()
            && let Some((message, id)) = self.kept.front().cloned()
        {
            match self.send_retained_again(&message, id) {
                Sent::NotNow => return,
                Sent::Yes => drop(self.kept.pop_front()),
                // It is larger than what the client takes now.
                Sent::Never => drop(self.take_pubrec(id, true)),
            }
        }
        while self.has_room()
            && let Some((message, grant)) = self.retained.pop_front()
        {
            let sent = self.send(&Message {
                topic: &message.topic,
                payload: &message.payload,
                qos: grant.qos,
                retain: true,
                dup: false,
                origin: if self.takes.durable && grant.qos > 0 {
                    Origin::Retained { seq: message.seq }
                } else {
                    Origin::Memory
                },
                group: "",
                properties: &message.properties,
                received_us: message.received_us,
                ids: grant.id.as_slice(),
            });
            if sent == Sent::Yes && grant.qos > 0 {
                self.retained_open += usize::from(self.takes.durable);
            }
            if sent == Sent::NotNow {
                self.retained.push_front((message, grant));
                return;
            }
        }
    }

    /// Takes up a retained message that an earlier connection sent with QoS 2 and this packet id.
    pub(crate) fn restore_retained(&mut self, message: Retained, id: NonZeroU16) {
        self.retained_open += 1;
        self.kept.push_back((message, id));
    }

    fn send_retained_again(&mut self, message: &Retained, id: NonZeroU16) -> Sent {
        self.send_again(
            &Message {
                topic: &message.topic,
                payload: &message.payload,
                qos: 2,
                retain: true,
                dup: true,
                origin: Origin::Retained { seq: message.seq },
                group: "",
                properties: &message.properties,
                received_us: message.received_us,
                ids: &[],
            },
            id,
        )
    }

    /// Takes acknowledgements of retained messages; others' are left alone.
    pub(crate) fn retained_done(&mut self, acknowledged: &[Origin]) {
        let retained = |origin: &&Origin| matches!(origin, Origin::Retained { .. });
        let done = acknowledged.iter().filter(retained).count();
        self.retained_open = self.retained_open.saturating_sub(done);
    }

    /// Tells whether all retained messages were sent and acknowledged.
    pub(crate) fn has_no_retained(&self) -> bool {
        self.retained.is_empty() && self.retained_open == 0
    }
}
