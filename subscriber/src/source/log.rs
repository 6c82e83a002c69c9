//! The ingest log as a source: from the store's own cursor to the log's durable end.

use formats::Message;
use ingest_log::{Chunk, Log, LogError, Reader};
use model::UtcMicros;
use service::{BoxError, CancellationToken};
use store::SourceCursor;

use super::{OVERHEAD, Piece, Source};

/// Most bytes taken at a time; the reader itself reads blocks of this size.
const CHUNK_BYTES: usize = 256 << 10;

/// Reads the log; told to stop, it reads to what was durable then.
pub(crate) struct LogSource {
    log: Log,
    reader: Reader,
    chunk_bytes: usize,
    stop: CancellationToken,
    /// Where reading ends, once it was told to stop.
    end: Option<u64>,
}

impl LogSource {
    /// Starts where the store stands in this log.
    ///
    /// # Errors
    /// When the store has seen more of the log than there is: new messages would carry sequences it takes
    /// for stored, and would be skipped.
    pub(crate) fn new(
        log: Log,
        stored: Option<u64>,
        batch_bytes: usize,
        stop: CancellationToken,
    ) -> Result<Self, BoxError> {
        let end = log.next_durable();
        let from = stored.unwrap_or_else(|| log.first());
        if from > end {
            return Err(format!(
                "the store holds the log {} up to {from}, and the log ends at {end}: it was cut or put back \
                 from a copy; move the log folder away to begin a new one",
                log.id()
            )
            .into());
        }
        Ok(Self {
            reader: log.reader(from),
            log,
            chunk_bytes: batch_bytes.min(CHUNK_BYTES),
            stop,
            end: None,
        })
    }

    fn piece(&self, chunk: Chunk) -> LogPiece {
        LogPiece {
            source: self.log.id().to_owned(),
            chunk,
        }
    }
}

impl Source for LogSource {
    type Piece = LogPiece;

    async fn next(&mut self) -> Result<Option<LogPiece>, BoxError> {
        if self.end.is_none() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => self.end = Some(self.log.next_durable()),
                chunk = self.reader.next_chunk(self.chunk_bytes) => {
                    return match chunk {
                        Ok(chunk) => Ok(chunk.map(|chunk| self.piece(chunk))),
                        Err(LogError::Closed) => Ok(None),
                        Err(error) => Err(error.into()),
                    };
                }
            }
        }
        if self.end.is_some_and(|end| self.reader.position() >= end) {
            return Ok(None);
        }
        let chunk = self.reader.try_next_chunk(self.chunk_bytes)?;
        Ok(chunk.map(|chunk| self.piece(chunk)))
    }
}

/// A run of records of the log.
pub(crate) struct LogPiece {
    source: String,
    chunk: Chunk,
}

impl Piece for LogPiece {
    fn each<'a>(&'a self, see: &mut dyn FnMut(Message<'a>)) {
        for record in &self.chunk {
            see(Message {
                topic: record.topic,
                payload: record.payload,
                received_time: UtcMicros::default().saturating_add_micros(record.received_us),
                log_seq: Some(record.seq),
            });
        }
    }

    fn bytes(&self) -> usize {
        self.chunk
            .iter()
            .map(|record| record.payload.len() + record.topic.len() + OVERHEAD)
            .sum()
    }

    fn cursor(&self) -> Option<SourceCursor> {
        Some(SourceCursor {
            source: self.source.clone(),
            next: self.chunk.seqs().end,
        })
    }

    /// The cursor was stored with the rows; there is nothing to tell.
    fn confirm(&self) {}
}
