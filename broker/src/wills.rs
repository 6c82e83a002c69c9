//! Wills: those of connections, and those whose connection has ended and whose delay has not.
//!
//! Invariants: a will is in the journal before the CONNACK, and until it is published or void. So it goes out also when
//! it was the broker that ended, killed or stopped: after the restart, its delay counted from there [MQTT-3.1.2-8].
//! Void it is with a DISCONNECT that wants none, and when its client comes back to its session before the delay is
//! over. It goes out at least once: a kill between its record and the journal lets it go out again. Bound: one per
//! client.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ingest_log::Commit;
use service::{BoxError, CancellationToken};
use session_state::{Change, Store};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::connection::{Front, publish_will};
use crate::protocol::control::Will;
use crate::sabotage::{Step, leaves_out};

/// How often it is looked what is due.
const PACE: Duration = Duration::from_millis(100);

/// The wills.
#[derive(Debug)]
pub(crate) struct Wills {
    state: Store,
    waiting: Mutex<BTreeMap<Arc<str>, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    will: Will,
    due: Instant,
}

impl Wills {
    /// Takes up those that waited when the process before ended.
    pub(crate) fn new(state: &Store) -> Self {
        let (now, mut waiting) = (Instant::now(), BTreeMap::new());
        for (client_id, value) in state.wills() {
            if let Some(will) = from_value(&value) {
                let due = now + Duration::from_secs(will.delay.into());
                waiting.insert(client_id, Waiting { will, due });
            } else {
                let client_id = &*client_id;
                tracing::error!(client_id, "a will cannot be read and is not published");
            }
        }
        Self {
            state: state.clone(),
            waiting: Mutex::new(waiting),
        }
    }

    /// Notes the will of a client that connects, which is published `seconds` after its connection.
    ///
    /// # Errors
    /// As [`Store::change`].
    pub(crate) fn hold(
        &self,
        client_id: &str,
        will: &Will,
        seconds: u32,
    ) -> Result<Commit, session_state::Error> {
        let value = to_value(&Will {
            delay: seconds,
            ..will.clone()
        });
        if leaves_out(Step::WillHeld) {
            return self.state.change(client_id, &[]);
        }
        self.state.change(client_id, &[Change::Will(Some(value))])
    }

    /// Notes that the will of a client was published, or is void; the commit resolves when that is durable.
    pub(crate) fn drop_of(&self, client_id: &str) -> Option<Commit> {
        if leaves_out(Step::WillDropped) {
            return None;
        }
        self.note(client_id, None)
    }

    /// Lets a will wait for `seconds`.
    pub(crate) fn leave(&self, client_id: &Arc<str>, mut will: Will, seconds: u32) {
        will.delay = seconds;
        self.note(client_id, Some(to_value(&will)));
        let due = Instant::now() + Duration::from_secs(seconds.into());
        let waiting = Waiting { will, due };
        self.lock().insert(Arc::clone(client_id), waiting);
    }

    /// Takes out the will of a client that is back, and tells whether its time had come. [`Wills::drop_of`] is to
    /// follow.
    pub(crate) fn take(&self, client_id: &str) -> Option<(Will, bool)> {
        let taken = self.lock().remove(client_id)?;
        Some((taken.will, taken.due <= Instant::now()))
    }

    /// Publishes the will of a client whose id is claimed.
    ///
    /// # Cancel safety
    /// Yes: until it is durable it waits, and what has been handed to the log may go out again.
    pub(crate) async fn publish(&self, front: &Front, client_id: &str) {
        let will = self
            .lock()
            .get(client_id)
            .map(|waiting| waiting.will.clone());
        if let Some(will) = will
            && publish_will(front, client_id, will).await
        {
            self.lock().remove(client_id);
            self.note(client_id, None);
        }
    }

    /// Returns the clients whose wills are due.
    fn due(&self) -> Vec<Arc<str>> {
        let now = Instant::now();
        let waiting = self.lock();
        let due = waiting.iter().filter(|(_, waiting)| waiting.due <= now);
        due.map(|(client_id, _)| Arc::clone(client_id)).collect()
    }

    /// Tells the journal, which has it soon.
    fn note(&self, client_id: &str, value: Option<Bytes>) -> Option<Commit> {
        let noted = self.state.change(client_id, &[Change::Will(value)]);
        noted
            .inspect_err(|error| tracing::warn!(client_id, %error, "a will was not noted"))
            .ok()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes wills when they are due.
pub(crate) async fn run(front: Arc<Front>, stop: CancellationToken) -> Result<(), BoxError> {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        select! {
            () = stop.cancelled() => return Ok(()),
            _ = pace.tick() => {}
        }
        for client_id in front.wills.due() {
            // Who is connected, or about to be, has taken it.
            let Some(_claim) = front.claims.try_claim(&client_id) else {
                continue;
            };
            front.wills.publish(&front, &client_id).await;
        }
    }
}

/// Returns what the journal keeps of a will: QoS and RETAIN in one byte, seconds of delay (4 bytes), length of the
/// topic (2 bytes), topic, length of the properties (4 bytes), properties, payload; integers are little-endian.
fn to_value(will: &Will) -> Bytes {
    let mut value = vec![will.qos | u8::from(will.retain) << 2];
    value.extend_from_slice(&will.delay.to_le_bytes());
    let topic_len = u16::try_from(will.topic.len()).unwrap_or_default();
    value.extend_from_slice(&topic_len.to_le_bytes());
    value.extend_from_slice(will.topic.as_bytes());
    let properties_len = u32::try_from(will.properties.len()).unwrap_or_default();
    value.extend_from_slice(&properties_len.to_le_bytes());
    value.extend_from_slice(&will.properties);
    value.extend_from_slice(&will.payload);
    value.into()
}

fn from_value(value: &Bytes) -> Option<Will> {
    let (flags, rest) = value.split_first()?;
    let (delay, rest) = rest.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (topic, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    let (len, rest) = rest.split_first_chunk()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let (properties, payload) = rest.split_at_checked(len)?;
    Some(Will {
        topic: str::from_utf8(topic).ok()?.to_owned(),
        payload: value.slice_ref(payload),
        qos: flags & 0b11,
        retain: flags & 0b100 != 0,
        delay: u32::from_le_bytes(*delay),
        properties: value.slice_ref(properties),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip() {
        let will = Will {
            topic: "a/é".to_owned(),
            payload: Bytes::from_static(b"gone"),
            qos: 2,
            retain: true,
            delay: 77,
            properties: Bytes::from_static(b"\x01\x01"),
        };
        let value = to_value(&will);
        assert_eq!(from_value(&value), Some(will));
        for len in 0..15 {
            assert_eq!(from_value(&value.slice(..len)), None);
        }
    }
}
