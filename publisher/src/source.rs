//! Where a connection's messages come from: its share of the simulated fleet, or a file's reader.
//!
//! A source says when a message was meant to be sent. Latency is counted from there, so that a broker
//! that falls behind cannot hide it by slowing the sender down (no coordinated omission).

mod fleet;

use tokio::sync::mpsc;
use tokio::time::Instant;

pub(crate) use fleet::{Fleet, Pace, Plan};

use crate::message::Message;

/// What a source has for the connection.
#[derive(Debug)]
pub(crate) enum Next {
    /// A message, and when it was meant to be sent.
    Message(Message, Instant),
    /// Nothing before this instant.
    At(Instant),
    /// Nothing until [`Source::wait`] returns.
    Wait,
    /// Nothing any more.
    Done,
}

/// A message read from a file, and when it is due; `None` means as soon as possible.
pub(crate) type Queued = (Message, Option<Instant>);

#[derive(Debug)]
pub(crate) enum Source {
    Fleet(Box<Fleet>),
    Queue(Queue),
}

#[derive(Debug)]
pub(crate) struct Queue {
    receiver: mpsc::Receiver<Queued>,
    peeked: Option<Queued>,
    done: bool,
}

impl Queue {
    pub(crate) fn new(receiver: mpsc::Receiver<Queued>) -> Self {
        Self {
            receiver,
            peeked: None,
            done: false,
        }
    }

    fn next(&mut self, now: Instant) -> Next {
        if self.peeked.is_none() && !self.done {
            match self.receiver.try_recv() {
                Ok(queued) => self.peeked = Some(queued),
                Err(mpsc::error::TryRecvError::Empty) => return Next::Wait,
                Err(mpsc::error::TryRecvError::Disconnected) => self.done = true,
            }
        }
        match self.peeked.take() {
            Some((message, None)) => Next::Message(message, now),
            Some((message, Some(due))) if due <= now => Next::Message(message, due),
            Some((message, Some(due))) => {
                self.peeked = Some((message, Some(due)));
                Next::At(due)
            }
            None => Next::Done,
        }
    }
}

impl Source {
    /// Returns the next message when it is due. `wall_ms` is the time of day, in milliseconds since the
    /// epoch, at the instant `now`.
    pub(crate) fn next(&mut self, now: Instant, wall_ms: i64) -> Next {
        match self {
            Self::Fleet(fleet) => fleet.next(now, wall_ms),
            Self::Queue(queue) => queue.next(now),
        }
    }

    /// Waits until a source that said [`Next::Wait`] has something to say.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub(crate) async fn wait(&mut self) {
        match self {
            Self::Fleet(_) => std::future::pending().await,
            Self::Queue(queue) => match queue.receiver.recv().await {
                Some(queued) => queue.peeked = Some(queued),
                None => queue.done = true,
            },
        }
    }
}
