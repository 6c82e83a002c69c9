//! A connection as the network has it: bytes on their way in both directions, moved when the simulation says so.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

pub(super) struct Link {
    stream: DuplexStream,
    /// Said by the client and not yet with the broker.
    outgoing: VecDeque<u8>,
    /// Come from the broker and not yet looked at.
    pub(super) incoming: Vec<u8>,
    /// Whether the broker has closed it, or the client is done with it.
    pub(super) ended: bool,
}

impl Link {
    pub(super) fn new(stream: DuplexStream) -> Self {
        Self {
            stream,
            outgoing: VecDeque::new(),
            incoming: Vec::new(),
            ended: false,
        }
    }

    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.outgoing.extend(bytes);
    }

    /// Tells whether all that was said is on its way.
    #[cfg(test)]
    pub(super) fn is_said(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Moves up to so many bytes to the broker; returns what was moved.
    pub(super) fn push(&mut self, most: usize) -> Vec<u8> {
        let bytes: Vec<u8> = self.outgoing.iter().take(most).copied().collect();
        if bytes.is_empty() {
            return bytes;
        }
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut self.stream).poll_write(&mut context, &bytes) {
            Poll::Ready(Ok(count)) => self.outgoing.drain(..count).collect(),
            // The broker does not read any more; what it said last may still come.
            Poll::Ready(Err(_)) => {
                self.outgoing.clear();
                Vec::new()
            }
            Poll::Pending => Vec::new(),
        }
    }

    /// Moves up to so many bytes from the broker; returns how many.
    pub(super) fn pull(&mut self, most: usize) -> usize {
        let mut bytes = vec![0; most];
        let mut buffer = ReadBuf::new(&mut bytes);
        let mut context = Context::from_waker(Waker::noop());
        let read = Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer);
        let filled = buffer.filled();
        match read {
            Poll::Ready(Ok(())) if !filled.is_empty() => {
                self.incoming.extend_from_slice(filled);
                filled.len()
            }
            Poll::Ready(_) => {
                self.ended = true;
                0
            }
            Poll::Pending => 0,
        }
    }
}
