//! What a connection leaves behind: its session, what is still to be committed, its will, and the client's last words.

use std::sync::{Arc, PoisonError};

use ingest_log::{RecordBatch, RecordHead};
use service::ErrorChain;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::{Connection, End, FAREWELL, Front, Source, part};
use crate::metrics::Reason;
use crate::protocol::Version;
use crate::protocol::control::Will;
use crate::protocol::v5::{answers, reason};
use crate::retained::Retained;
use crate::takeover::Claim;

impl<R, W> Connection<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    /// Leaves everything in order: session, retained messages, will, claim, and the socket.
    pub(super) async fn finish(
        mut self: Box<Self>,
        reason: &End,
        will: Option<Will>,
        claim: Claim,
    ) {
        let (permit, had_will) = (&mut self.permit, will.is_some());
        // The rules may have changed since the will was taken.
        let will = will.filter(|will| {
            let renewed = !permit.is_stale() || permit.renew().is_ok();
            renewed && permit.may_publish(&will.topic).is_ok()
        });
        let front = &self.front;
        self.report(reason);
        drop(self.shares);
        if let Source::Persistent(delivery) = self.source {
            let (now_us, expiry) = (front.clock.now().as_micros(), self.session_expiry);
            let left = delivery.left(&self.out);
            delivery.end(now_us, expiry);
            if expiry == 0 {
                front.end_session(&self.client_id);
            } else {
                front.unfinished.keep(&self.client_id, left);
                let end = front.expiry.end_of(&self.client_id, expiry, now_us);
                front.expiry.schedule(&self.client_id, end);
            }
        }
        let left = async {
            while let Some(pending) = self.pending.front_mut() {
                let committed = (&mut pending.commit).await;
                let pending = self.pending.pop_front();
                if let (Ok(seqs), Some(pending)) = (committed, pending) {
                    retain(front, pending.retained, seqs.start);
                }
            }
            let parted = matches!(reason, End::Disconnect) && !self.wants_will;
            match will.filter(|_| !parted) {
                // It is in the journal, and goes out after the restart.
                _ if matches!(reason, End::Stopped) => {}
                Some(will) => {
                    let wait = will.delay.min(self.session_expiry);
                    // One that cannot go now goes when the log has room.
                    front.wills.leave(&self.client_id, will, wait);
                    if wait == 0 {
                        front.wills.publish(front, &self.client_id).await;
                    }
                }
                None if had_will => {
                    // Before the client sees the connection end: from then on its will would be a surprise.
                    if let Some(noted) = front.wills.drop_of(&self.client_id) {
                        drop(noted.await);
                    }
                }
                None => {}
            }
        };
        if timeout(FAREWELL, left).await.is_err() {
            tracing::debug!("the connection ended before all was left in order");
        }
        let floors = self.pending.drain(..).filter_map(|pending| pending.floor);
        let left_behind = front.left_behind.lock();
        left_behind
            .unwrap_or_else(PoisonError::into_inner)
            .extend(floors);
        drop(claim);
        let mut words = Vec::new();
        if let (Version::V5, Some(code)) = (self.version, disconnect_reason(reason)) {
            // What was begun must be ended first.
            words.extend_from_slice(self.out.unwritten());
            let limit = self.out.packet_limit();
            answers::put_disconnect(&mut words, code, &reason.to_string(), limit);
        }
        if !words.is_empty() || matches!(reason, End::Stopped | End::Violation(_)) {
            part(&mut self.reader, &mut self.writer, &words).await;
        }
    }

    fn report(&self, reason: &End) {
        let metrics = &self.front.metrics;
        let client_id = &*self.client_id;
        let rejected = match reason {
            End::Disconnect | End::Closed | End::Io(_) | End::Stopped => None,
            End::Log(_) | End::State(_) => None,
            End::Violation(violation) => Some(Reason::from(*violation)),
            End::KeepAlive => Some(Reason::KeepAlive),
            End::Stalled => Some(Reason::Stalled),
            End::Revoked => Some(Reason::NotAuthorized),
            End::TakenOver => Some(Reason::TakenOver),
        };
        let reason = ErrorChain(reason);
        tracing::debug!(client_id, %reason, "connection ended");
        if let Some(rejected) = rejected {
            metrics.rejected(rejected);
            if let Some(suppressed) = self.front.warning.permit() {
                tracing::warn!(client_id, %reason, suppressed, "a connection was closed");
            }
        }
    }
}

/// Returns the reason code a client of MQTT 5 is told; `None` when there is nobody to tell.
fn disconnect_reason(end: &End) -> Option<u8> {
    match end {
        End::Disconnect | End::Closed | End::Io(_) | End::Stalled => None,
        End::Violation(violation) => Some(reason::of(*violation)),
        End::KeepAlive => Some(reason::KEEP_ALIVE_TIMEOUT),
        End::TakenOver => Some(reason::SESSION_TAKEN_OVER),
        End::Revoked => Some(reason::NOT_AUTHORIZED),
        End::Stopped => Some(reason::SERVER_SHUTTING_DOWN),
        End::Log(_) | End::State(_) => Some(reason::UNSPECIFIED),
    }
}

/// Keeps retained messages of a batch that is durable from `first` on.
pub(super) fn retain(front: &Front, messages: Vec<(u64, Retained)>, first: u64) {
    for (place, message) in messages {
        let seq = first + place;
        keep_retained(front, Retained { seq, ..message });
    }
}

/// Keeps a retained message that is durable, where there is room.
fn keep_retained(front: &Front, message: Retained) {
    let (topic, seq) = (Arc::clone(&message.topic), message.seq);
    let value = message.to_value();
    if front.retained.set(message) {
        front.state.note_retained(&topic, seq, value);
    }
}

/// Publishes a will as any message; tells whether it is durable.
pub(crate) async fn publish_will(front: &Front, client_id: &str, will: Will) -> bool {
    let _floor = front.state.floor();
    let next = front.log.next_durable();
    let _expected = will.retain.then(|| front.retained.expect(next));
    let mut batch = RecordBatch::new();
    let received_us = front.clock.now().as_micros();
    let head = RecordHead {
        qos: will.qos,
        retain: will.retain,
        received_us,
        topic: &will.topic,
        client_id,
        properties: &will.properties,
    };
    let appended = match batch.push(&head, &will.payload) {
        Ok(()) => front.log.append(batch).await,
        Err(error) => Err(error),
    };
    let committed = match appended {
        Ok(commit) => commit.await,
        Err(error) => Err(error),
    };
    match committed {
        Ok(seqs) if will.retain => keep_retained(
            front,
            Retained {
                topic: will.topic.into(),
                payload: will.payload,
                qos: will.qos,
                client_id: client_id.into(),
                properties: will.properties,
                received_us,
                seq: seqs.start,
            },
        ),
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "a will was not published");
            return false;
        }
    }
    true
}
