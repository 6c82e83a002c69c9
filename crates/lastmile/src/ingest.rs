//! The API's way into the ingest log of the same process.
//!
//! `Ok` means that every message is in a group commit that reached the disk: the ack law holds for HTTP as it
//! does for MQTT.

use std::sync::Arc;

use api::{Ingest, IngestError, OutgoingMessage};
use async_trait::async_trait;
use ingest_log::{Commit, Log, LogError, RecordBatch, RecordHead};
use service::Clock;

/// Bytes of payload appended at a time; one large `POST` then shares the log with everyone else.
const CHUNK_BYTES: usize = 256 * 1024;

/// What the log says who sent a message: there is no client id in HTTP.
const CLIENT_ID: &str = "http";

/// Appends what the API takes to the log.
#[derive(Debug)]
pub struct LogIngest {
    log: Log,
    clock: Arc<dyn Clock>,
}

impl LogIngest {
    /// Makes it over a log.
    pub fn new(log: Log, clock: Arc<dyn Clock>) -> Self {
        Self { log, clock }
    }

    async fn append(&self, messages: &[OutgoingMessage]) -> Result<(), LogError> {
        let received_us = self.clock.now().as_micros();
        let mut commits: Vec<Commit> = Vec::new();
        let mut batch = RecordBatch::new();
        for message in messages {
            let head = RecordHead {
                qos: 1,
                retain: false,
                received_us,
                topic: &message.topic,
                client_id: CLIENT_ID,
                properties: &[],
            };
            batch.push(&head, &message.payload)?;
            if batch.bytes() >= CHUNK_BYTES {
                commits.push(self.log.append(std::mem::take(&mut batch)).await?);
            }
        }
        if !batch.is_empty() {
            commits.push(self.log.append(batch).await?);
        }
        for commit in commits {
            commit.await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Ingest for LogIngest {
    async fn ingest(&self, messages: Vec<OutgoingMessage>) -> Result<(), IngestError> {
        self.append(&messages).await.map_err(|error| match error {
            LogError::TooLarge { limit, .. } => IngestError::TooLarge { limit },
            error => IngestError::Unavailable(error.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ingest_log::{LogConfig, RealDisk};
    use service::SystemClock;

    use super::*;

    fn open(folder: &Path) -> Log {
        let config = LogConfig {
            max_pending_bytes: 1 << 20,
            segment_bytes: 1 << 20,
            ..LogConfig::new(folder)
        };
        Log::open(Arc::new(RealDisk), config).unwrap().0
    }

    fn messages(count: usize, bytes: usize) -> Vec<OutgoingMessage> {
        let message = OutgoingMessage {
            topic: "deliveries/1/location".to_owned(),
            payload: vec![b'x'; bytes].into(),
        };
        vec![message; count]
    }

    #[tokio::test]
    async fn every_message_is_durable_when_the_answer_comes_however_many_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        let ingest = LogIngest::new(log.clone(), Arc::new(SystemClock));
        let before = log.next_durable();
        // Four times what the log takes at once.
        ingest.ingest(messages(40, 100_000)).await.unwrap();
        assert_eq!(log.next_durable(), before + 40);
        ingest.ingest(Vec::new()).await.unwrap();
        log.close().await.unwrap();
    }

    #[tokio::test]
    async fn what_the_log_cannot_take_is_not_answered_with_success() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        let ingest = LogIngest::new(log.clone(), Arc::new(SystemClock));
        let error = ingest.ingest(messages(1, 2 << 20)).await.unwrap_err();
        assert!(matches!(error, IngestError::TooLarge { .. }), "{error:?}");
        log.close().await.unwrap();
        let error = ingest.ingest(messages(1, 10)).await.unwrap_err();
        assert!(matches!(error, IngestError::Unavailable(_)), "{error:?}");
    }
}
