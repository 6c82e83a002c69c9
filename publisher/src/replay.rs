//! The `replay` command: publishes the events of a door2door file.
//!
//! A thread reads and checks the lines; every vehicle's events take one connection, so they arrive in the
//! order of the file. Bound: [`QUEUE`] events wait for each connection, then the reader waits.

mod lines;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use model::content_hash::ContentHash;
use model::reject::Defect;
use model::{FleetEvent, Record, UtcMicros, topic};
use service::{BoxError, Context};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::engine::{self, Job};
use crate::ledger::{Entry, EventEntry};
use crate::message::{Event, Message};
use crate::settings::ReplayConfig;
use crate::source::{Queue, Queued, Source};
use crate::summary::Summary;

/// Events read ahead for each connection.
const QUEUE: usize = 1_024;
/// Invalid lines reported one by one; the others are only counted.
const REPORTED: u64 = 20;
/// The organisation under which invalid lines are sent when they name none.
const UNKNOWN_ORGANIZATION: &str = "unknown";

/// Replays until the file's end, or until the process is told to stop.
pub(crate) async fn run(config: &ReplayConfig, context: &Context) -> Result<(), BoxError> {
    let lines = lines::open(&config.file)?;
    let ledger = config.send.open_ledger()?;
    let (queues, sources): (Vec<_>, Vec<_>) = (0..config.send.connections)
        .map(|_| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            (sender, Source::Queue(Queue::new(receiver)))
        })
        .unzip();
    let reader = Reader {
        queues,
        topics: HashMap::new(),
        pace: Pace {
            start: Instant::now(),
            speed: config.speed,
            rate: config.send.rate,
            first: None,
        },
        send_invalid: config.send_invalid,
        invalid: 0,
    };
    let (sender, invalid) = oneshot::channel();
    thread::Builder::new()
        .name("reader".to_owned())
        .spawn(move || {
            if sender.send(reader.run(lines)).is_err() {
                tracing::debug!("nobody waits for the reader any more");
            }
        })?;
    let job = Job {
        options: config.send.options(),
        sources,
        threads: config.send.threads,
        ledger: ledger.clone(),
        stop_patience: config.send.stop_patience,
        expected: None,
    };
    let acknowledged = job.options.acknowledged;
    let report = engine::run(job, context).await?;
    let mut summary = Summary::new(&report, acknowledged);
    // A stopped run leaves the reader behind, waiting for a line of stdin perhaps.
    let read = if context.tasks.is_stopping() {
        None
    } else {
        invalid.await.ok()
    };
    summary.invalid_lines = read
        .as_ref()
        .and_then(|outcome| outcome.as_ref().ok())
        .copied();
    config.send.conclude(&report, &summary, ledger.as_deref())?;
    match read {
        Some(Err(error)) => Err(error.into()),
        Some(Ok(_)) | None => Ok(()),
    }
}

/// Turns lines into messages and hands them to the connections.
struct Reader {
    queues: Vec<mpsc::Sender<Queued>>,
    topics: HashMap<Box<str>, Arc<str>>,
    pace: Pace,
    send_invalid: bool,
    invalid: u64,
}

impl Reader {
    /// Reads to the end; returns how many lines were invalid.
    fn run(mut self, lines: lines::Lines) -> Result<u64, lines::ReadError> {
        for (number, line) in (1_u64..).zip(lines) {
            let line = line?;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let (queue, at, event) = match parse(&line) {
                Ok(event) => self.valid(&event, line),
                Err(defect) => match self.invalid(number, &defect, line) {
                    Some(queued) => queued,
                    None => continue,
                },
            };
            let due = self.pace.due(at);
            if self.queues[queue]
                .blocking_send((Message::Event(event), due))
                .is_err()
            {
                // The connection gave up or the process stops.
                break;
            }
        }
        if self.invalid > REPORTED {
            let not_reported = self.invalid - REPORTED;
            tracing::warn!(not_reported, "more lines are no valid event");
        }
        Ok(self.invalid)
    }

    fn valid(&mut self, event: &FleetEvent, line: Vec<u8>) -> (usize, Option<UtcMicros>, Event) {
        let entry = Entry::Event(EventEntry {
            organization_id: event.organization_id.to_string(),
            on: event.on.as_str().to_owned(),
            entity_id: event.entity_id.to_string(),
            event: event.event.as_str().to_owned(),
            event_time_us: event.at.as_micros(),
            data_hash: event.discriminator(),
        });
        let message = Event {
            topic: self.topic(&event.organization_id),
            payload: line.into(),
            ledger_line: serde_json::to_string(&entry).unwrap_or_default().into(),
        };
        (
            self.queue_of(event.entity_id.as_bytes()),
            Some(event.at),
            message,
        )
    }

    fn invalid(
        &mut self,
        number: u64,
        defect: &Defect,
        line: Vec<u8>,
    ) -> Option<(usize, Option<UtcMicros>, Event)> {
        self.invalid += 1;
        if self.invalid <= REPORTED {
            tracing::warn!(line = number, %defect, sent = self.send_invalid, "the line is no valid event");
        }
        let topic = self.topic(UNKNOWN_ORGANIZATION);
        let message = Event {
            topic,
            payload: line.into(),
            ledger_line: "".into(),
        };
        self.send_invalid.then_some((0, None, message))
    }

    fn topic(&mut self, organization_id: &str) -> Arc<str> {
        if let Some(topic) = self.topics.get(organization_id) {
            return Arc::clone(topic);
        }
        let topic: Arc<str> = topic::fleet_topic(organization_id).into();
        self.topics
            .insert(organization_id.into(), Arc::clone(&topic));
        topic
    }

    fn queue_of(&self, entity_id: &[u8]) -> usize {
        let hash = ContentHash::default().chain(entity_id).finish();
        usize::try_from(hash % self.queues.len() as u64).unwrap_or_default()
    }
}

fn parse(line: &[u8]) -> Result<FleetEvent, Defect> {
    let text = std::str::from_utf8(line).map_err(|error| {
        Defect::new(
            model::RejectReason::Malformed,
            format!("the line is not UTF-8: {error}"),
        )
    })?;
    match formats::parse_door2door(text, UtcMicros::default())? {
        Record::FleetEvent { event, .. } => Ok(event),
        Record::Position(_) => Err(Defect::new(
            model::RejectReason::InvalidField,
            "the line is a position; replay takes events",
        )),
    }
}

/// When each event is due.
struct Pace {
    start: Instant,
    speed: Option<f64>,
    rate: Option<f64>,
    /// The first event's own time, and how many events were paced so far.
    first: Option<(UtcMicros, u64)>,
}

impl Pace {
    /// `at` is the event's own time, if it has one; one without is due at once.
    fn due(&mut self, at: Option<UtcMicros>) -> Option<Instant> {
        let at = at?;
        let (first, count) = self.first.get_or_insert((at, 0));
        *count += 1;
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        let after_s = match (self.speed, self.rate) {
            (Some(speed), _) => (at.as_micros() - first.as_micros()) as f64 / 1e6 / speed,
            (None, Some(rate)) => (*count - 1) as f64 / rate,
            (None, None) => return None,
        };
        let after = Duration::try_from_secs_f64(after_s.max(0.0)).unwrap_or(Duration::MAX);
        self.start.checked_add(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_due_by_their_own_time_or_by_the_rate() {
        let start = Instant::now();
        let at = |seconds: i64| UtcMicros::new(1_000_000_000_000_000 + seconds * 1_000_000);
        let mut by_time = Pace {
            start,
            speed: Some(60.0),
            rate: None,
            first: None,
        };
        assert_eq!(by_time.due(at(0)), Some(start));
        assert_eq!(by_time.due(at(120)), Some(start + Duration::from_secs(2)));
        // An event out of order is due at once.
        assert_eq!(by_time.due(at(-5)), Some(start));
        assert_eq!(by_time.due(None), None);

        let mut by_rate = Pace {
            start,
            speed: None,
            rate: Some(4.0),
            first: None,
        };
        assert_eq!(by_rate.due(at(0)), Some(start));
        assert_eq!(by_rate.due(at(0)), Some(start + Duration::from_millis(250)));
        let mut at_once = Pace {
            start,
            speed: None,
            rate: None,
            first: None,
        };
        assert_eq!(at_once.due(at(0)), None);
    }
}
