//! What a connection asks its broker for, and what follows from the answer.
//!
//! [`ConsumerOptions::filters`] are asked for first. A broker that refuses one of them is asked for
//! [`ConsumerOptions::instead`], if there is that. A broker that grants them is told that the session does not
//! want the others any more, which it may have from an earlier day; else every message would come twice.
//!
//! Invariant: the others are given up only after the grant, so nothing falls between the two. What the broker
//! holds for the session already is its own to deliver: the protocol lets it drop what it has not begun to
//! send. Those known deliver it, or put it into the new subscription.

use rumqttc::{Packet, QoS, SubAck, Subscribe, SubscribeFilter, SubscribeReasonCode, Unsubscribe};

use super::{ConsumerOptions, SubscriptionError};

/// Packet ids of the three requests; messages of the broker have ids of their own.
const FILTERS: u16 = 1;
const INSTEAD: u16 = 2;
const GIVEN_UP: u16 = 3;

/// What follows from an answer.
#[derive(Debug)]
pub(super) enum Next {
    /// Messages may come; something may be said yet.
    Subscribed(Option<Packet>),
    /// Something else is asked for.
    Ask(Packet),
}

/// Asks for [`ConsumerOptions::filters`].
pub(super) fn first(options: &ConsumerOptions) -> Packet {
    subscribe(FILTERS, &options.filters)
}

/// Tells what follows from an answer.
///
/// # Errors
/// When the broker will not deliver what is asked for.
pub(super) fn answered(
    options: &ConsumerOptions,
    session_present: bool,
    answer: &SubAck,
) -> Result<Next, SubscriptionError> {
    let has_other = !options.instead.is_empty();
    let ours = answer.pkid != INSTEAD;
    let filters = if ours {
        &options.filters
    } else {
        &options.instead
    };
    match check(filters, answer) {
        Ok(()) if ours && has_other && session_present => {
            let mut unsubscribe = Unsubscribe::new(String::new());
            unsubscribe.pkid = GIVEN_UP;
            unsubscribe.topics.clone_from(&options.instead);
            Ok(Next::Subscribed(Some(Packet::Unsubscribe(unsubscribe))))
        }
        Ok(()) => Ok(Next::Subscribed(None)),
        Err(SubscriptionError::Refused { filter }) if ours && has_other => {
            tracing::warn!(
                filter,
                client_id = options.connect.client_id,
                "the broker refuses the shared subscription; this client subscribes for itself alone, and what \
                 comes before its first subscription is not for it"
            );
            Ok(Next::Ask(subscribe(INSTEAD, &options.instead)))
        }
        Err(error) => Err(error),
    }
}

fn subscribe(packet_id: u16, filters: &[String]) -> Packet {
    let filters = filters.iter();
    let filters = filters.map(|f| SubscribeFilter::new(f.clone(), QoS::AtLeastOnce));
    let mut subscribe = Subscribe::new_many(filters);
    subscribe.pkid = packet_id;
    Packet::Subscribe(subscribe)
}

fn check(filters: &[String], answer: &SubAck) -> Result<(), SubscriptionError> {
    for (code, filter) in answer.return_codes.iter().zip(filters) {
        let filter = filter.clone();
        match code {
            SubscribeReasonCode::Success(QoS::AtMostOnce) => {
                return Err(SubscriptionError::Downgraded { filter });
            }
            SubscribeReasonCode::Success(_) => {}
            SubscribeReasonCode::Failure => return Err(SubscriptionError::Refused { filter }),
        }
    }
    Ok(())
}
