//! Messages between the connection and who takes them, bounded in bytes.
//!
//! The connection asks [`Queue::has_room`] before it reads and never waits to hand messages over, so that it
//! can go on sending acks and pings. Bound: the capacity, one read and one packet. Once full, there is room
//! again when half of it is taken: reads stay large.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Message;

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    capacity: usize,
    /// Wakes who takes.
    filled: Notify,
    /// Wakes who fills.
    room: Notify,
    /// Cancelled when nobody will take any more.
    pub(super) abandoned: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Message>,
    bytes: usize,
    full: bool,
    /// Nobody will fill any more.
    closed: bool,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            capacity: capacity.max(1),
            filled: Notify::new(),
            room: Notify::new(),
            abandoned: CancellationToken::new(),
        }
    }

    /// Hands messages over; `batch` is empty afterwards.
    pub(super) fn push(&self, batch: &mut Vec<Message>) {
        if batch.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.bytes += batch.iter().map(size).sum::<usize>();
        state.messages.extend(batch.drain(..));
        state.full = state.full || state.bytes >= self.capacity;
        drop(state);
        self.filled.notify_one();
    }

    pub(super) fn has_room(&self) -> bool {
        !self.lock().full
    }

    /// Waits until there is room.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub(super) async fn room(&self) {
        while !self.has_room() {
            self.room.notified().await;
        }
    }

    /// Waits for messages and moves up to `limit` to `batch`, and no more once they have `bytes`; 0 once
    /// closed and empty.
    ///
    /// # Cancel safety
    /// A call that is dropped has taken nothing.
    pub(super) async fn take(&self, batch: &mut Vec<Message>, limit: usize, bytes: usize) -> usize {
        loop {
            match self.try_take(batch, limit, bytes) {
                0 if limit == 0 || self.lock().closed => return 0,
                0 => self.filled.notified().await,
                taken => return taken,
            }
        }
    }

    /// As [`Queue::take`], without waiting.
    pub(super) fn try_take(&self, batch: &mut Vec<Message>, limit: usize, bytes: usize) -> usize {
        let mut state = self.lock();
        let (mut taken, mut taken_bytes) = (0, 0);
        for message in state.messages.iter().take(limit) {
            if taken_bytes >= bytes {
                break;
            }
            taken += 1;
            taken_bytes += size(message);
        }
        batch.extend(state.messages.drain(..taken));
        state.bytes -= taken_bytes;
        let freed = state.full && state.bytes <= self.capacity / 2;
        if freed {
            state.full = false;
        }
        drop(state);
        if freed {
            self.room.notify_one();
        }
        taken
    }

    /// Says that nothing more will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes a message takes, itself included.
fn size(message: &Message) -> usize {
    size_of::<Message>() + message.topic.len() + message.payload.len()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{AckToken, Qos};

    fn message(bytes: usize) -> Message {
        Message {
            topic: String::new(),
            payload: Bytes::from(vec![0; bytes]),
            qos: Qos::AtLeastOnce,
            retain: false,
            dup: false,
            token: AckToken::default(),
        }
    }

    #[tokio::test]
    async fn it_is_full_by_bytes_and_has_room_when_half_is_taken() {
        let queue = Queue::new(1_000_000);
        queue.push(&mut vec![message(400_000), message(500_000)]);
        assert!(queue.has_room());
        queue.push(&mut vec![message(200_000)]);
        assert!(!queue.has_room());
        let mut taken = Vec::new();
        assert_eq!(queue.take(&mut taken, 1, 1).await, 1);
        assert!(!queue.has_room(), "700 kB are left");
        assert_eq!(queue.take(&mut taken, 1, 1).await, 1);
        queue.room().await;
        queue.close();
        assert_eq!(queue.take(&mut taken, 9, 9).await, 1);
        assert_eq!(queue.take(&mut taken, 9, 9).await, 0);
    }

    #[tokio::test]
    async fn a_batch_ends_with_the_message_that_fills_it() {
        let queue = Queue::new(1_000_000);
        queue.push(&mut (0..9).map(|_| message(10_000)).collect());
        let mut taken = Vec::new();
        assert_eq!(queue.take(&mut taken, 9, 25_000).await, 3);
        assert_eq!(queue.take(&mut taken, 4, 1_000_000).await, 4);
        assert_eq!(queue.take(&mut taken, 9, 1_000_000).await, 2);
        assert_eq!(queue.lock().bytes, 0);
    }

    #[tokio::test]
    async fn empty_messages_fill_it_too() {
        let queue = Queue::new(10_000);
        queue.push(&mut (0..1_000).map(|_| message(0)).collect());
        assert!(!queue.has_room());
    }
}
