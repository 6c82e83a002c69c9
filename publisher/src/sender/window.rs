//! The messages of a connection that are not yet acknowledged, in the order sent.
//!
//! Packet ids follow the order, from 1 to 65,535 and around, so a PUBACK finds its message by
//! subtraction. Brokers acknowledge in order; one that does not is understood as well.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::message::Message;

/// How many packet ids there are: 0 is none.
const IDS: i32 = 65_535;

/// A message on its way.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) message: Message,
    /// When it was meant to be sent.
    pub(crate) intended: Instant,
    /// When it was first written; `None` when it never was.
    pub(crate) written: Option<Instant>,
    acked: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Window {
    messages: VecDeque<InFlight>,
    /// Number of the first message, from 0.
    first: u64,
    /// How many of the messages were sent on this connection.
    sent: usize,
    acked: u64,
}

impl Window {
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Messages acknowledged so far.
    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    /// Messages not acknowledged.
    pub(crate) fn unacked(&self) -> u64 {
        self.messages
            .iter()
            .filter(|message| !message.acked)
            .count() as u64
    }

    pub(crate) fn push(&mut self, message: Message, intended: Instant) {
        self.messages.push_back(InFlight {
            message,
            intended,
            written: None,
            acked: false,
        });
    }

    /// Begins a connection, on which nothing was sent yet.
    pub(crate) fn begin_connection(&mut self) {
        self.sent = 0;
    }

    /// Takes the next message to send on this connection, and its packet id; marks it sent.
    pub(crate) fn next_to_send(&mut self) -> Option<(&mut InFlight, u16)> {
        while self
            .messages
            .get(self.sent)
            .is_some_and(|message| message.acked)
        {
            self.sent += 1;
        }
        let at = self.sent;
        let message = self.messages.get_mut(at)?;
        self.sent += 1;
        Some((message, packet_id(self.first + at as u64)))
    }

    /// Tells whether all messages were sent on this connection.
    pub(crate) fn all_sent(&self) -> bool {
        self.sent >= self.messages.len()
    }

    /// Takes a PUBACK and hands its message to `each`; `false` when no message of this connection has
    /// this packet id.
    pub(crate) fn ack(&mut self, id: u16, each: impl FnOnce(&InFlight)) -> bool {
        let distance = i32::from(id) - i32::from(packet_id(self.first));
        let at = usize::try_from(distance.rem_euclid(IDS)).unwrap_or(usize::MAX);
        if at >= self.sent {
            return false;
        }
        let Some(message) = self.messages.get_mut(at) else {
            return false;
        };
        if !message.acked {
            message.acked = true;
            self.acked += 1;
            each(message);
        }
        while self.messages.front().is_some_and(|message| message.acked) {
            self.messages.pop_front();
            self.first += 1;
            // One that was acknowledged out of order on an earlier connection was not sent on this one.
            self.sent = self.sent.saturating_sub(1);
        }
        true
    }
}

fn packet_id(number: u64) -> u16 {
    u16::try_from(number % u64::from(IDS.unsigned_abs()) + 1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Event;

    fn message(number: usize) -> Message {
        Message::Event(Event {
            topic: "t".into(),
            payload: number.to_string().into(),
            ledger_line: "".into(),
        })
    }

    fn number(message: &InFlight) -> usize {
        let Message::Event(event) = &message.message else {
            panic!("not an event")
        };
        std::str::from_utf8(&event.payload)
            .unwrap()
            .parse()
            .unwrap()
    }

    proptest! {
        /// Acks in any order, connections lost at any time: each message is acknowledged once, and sent
        /// in order on each connection.
        #[test]
        fn every_message_is_acknowledged_once(
            steps in prop::collection::vec((0_u8..10, any::<prop::sample::Index>()), 0..400),
            start in prop::sample::select(vec![0_u64, 65_530, 65_535]),
        ) {
            let mut window = Window { first: start, ..Window::default() };
            let (mut pushed, mut acked) = (0, Vec::new());
            let mut on_wire: Vec<(usize, u16)> = Vec::new();
            for (what, which) in steps {
                match what {
                    0..=3 => {
                        window.push(message(pushed), Instant::now());
                        pushed += 1;
                    }
                    4..=6 => {
                        if let Some((message, id)) = window.next_to_send() {
                            let number = number(message);
                            prop_assert!(on_wire.iter().all(|&(earlier, _)| earlier < number));
                            on_wire.push((number, id));
                        }
                    }
                    7..=8 => {
                        if !on_wire.is_empty() {
                            let (expected, id) = on_wire.remove(which.index(on_wire.len()));
                            let mut got = None;
                            prop_assert!(window.ack(id, |message| got = Some(number(message))));
                            prop_assert_eq!(got, Some(expected));
                            acked.push(expected);
                        }
                    }
                    _ => {
                        window.begin_connection();
                        on_wire.clear();
                    }
                }
            }
            window.begin_connection();
            while let Some((_, id)) = window.next_to_send() {
                prop_assert!(window.ack(id, |message| acked.push(number(message))));
            }
            acked.sort_unstable();
            prop_assert_eq!(acked, (0..pushed).collect::<Vec<_>>());
            prop_assert!(window.is_empty());
            prop_assert!(!window.ack(1, |_| ()));
        }
    }
}
