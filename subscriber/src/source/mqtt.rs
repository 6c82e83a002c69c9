//! A broker as a source: a persistent session whose messages are acknowledged once stored.
//!
//! The broker does not say when it took a message, so the time of arrival here stands for it.

use std::sync::Arc;

use formats::Message;
use model::UtcMicros;
use mqtt_client::{AckHandle, AckToken, Consumer};
use service::{BoxError, CancellationToken, Clock};
use store::SourceCursor;

use super::{OVERHEAD, Piece, Source};

/// Most messages taken at a time.
const PIECE: usize = 1_024;

/// Most bytes taken at a time, and one message more: a batch exceeds its bound by no more than that.
const PIECE_BYTES: usize = 256 << 10;

/// Takes messages until it is told to stop; what it has given out may still be acknowledged then.
pub(crate) struct MqttSource {
    consumer: Consumer,
    /// Messages taken at a time.
    limit: usize,
    acks: AckHandle,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
}

impl MqttSource {
    pub(crate) fn new(
        consumer: Consumer,
        batch_records: usize,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            acks: consumer.ack_handle(),
            consumer,
            limit: batch_records.min(PIECE),
            clock,
            stop,
        }
    }
}

impl Source for MqttSource {
    type Piece = MqttPiece;

    async fn next(&mut self) -> Result<Option<MqttPiece>, BoxError> {
        let mut messages = Vec::new();
        let taken = tokio::select! {
            biased;
            () = self.stop.cancelled() => 0,
            taken = self.consumer.next_batch(&mut messages, self.limit, PIECE_BYTES) => taken,
        };
        if taken == 0 {
            return Ok(None);
        }
        Ok(messages
            .last()
            .map(|last| last.token)
            .map(|through| MqttPiece {
                messages,
                received_time: self.clock.now(),
                acks: self.acks.clone(),
                through,
            }))
    }
}

/// Messages that came together.
pub(crate) struct MqttPiece {
    messages: Vec<mqtt_client::Message>,
    received_time: UtcMicros,
    acks: AckHandle,
    through: AckToken,
}

impl Piece for MqttPiece {
    fn each<'a>(&'a self, see: &mut dyn FnMut(Message<'a>)) {
        for message in &self.messages {
            see(Message {
                topic: &message.topic,
                payload: &message.payload,
                received_time: self.received_time,
                log_seq: None,
            });
        }
    }

    fn bytes(&self) -> usize {
        self.messages
            .iter()
            .map(|message| message.payload.len() + message.topic.len() + OVERHEAD)
            .sum()
    }

    /// The broker keeps this session's place.
    fn cursor(&self) -> Option<SourceCursor> {
        None
    }

    fn confirm(&self) {
        self.acks.ack_through(self.through);
    }
}
