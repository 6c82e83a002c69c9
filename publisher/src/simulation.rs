//! The simulated fleet in a time of its own: what it would report, at once and without a broker.
//!
//! The same fleet gives the same reports, byte for byte, in every run.

use std::time::Duration;

use tokio::time::Instant;

use crate::message::TimeText;
use crate::source::{Fleet, Next, Pace, Plan, Source};

/// A fleet without end, as the program simulates it.
#[derive(Debug, Clone, Copy)]
pub struct SimulatedFleet {
    /// Deliverers, 1 or more.
    pub deliverers: u64,
    /// Positions of each order, 1 or more.
    pub locations: u64,
    /// Seconds between two positions of a deliverer, give or take 3.
    pub seconds: f64,
    /// Decides the ways and the times.
    pub seed: u64,
    /// When the first reports, in milliseconds since the epoch.
    pub begin_ms: i64,
}

/// One position as it would be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The topic.
    pub topic: String,
    /// The payload, JSON.
    pub payload: String,
    /// When it would be sent, in milliseconds since the epoch.
    pub sent_ms: i64,
}

/// The reports of a fleet in the order of their times.
#[derive(Debug)]
pub struct Reports {
    fleet: Source,
    begin: Instant,
    now: Instant,
    begin_ms: i64,
    times: TimeText,
    text: Vec<u8>,
}

impl SimulatedFleet {
    /// Lets the fleet ride.
    pub fn reports(self) -> Reports {
        // Any instant does: only the time since then counts.
        let begin = Instant::now();
        let plan = Plan {
            workers: self.deliverers,
            locations: self.locations,
            orders: None,
            messages: None,
            pace: Pace::Every(self.seconds),
            seed: self.seed,
            start: begin,
            until: None,
        };
        Reports {
            fleet: Source::Fleet(Box::new(Fleet::new(plan, 0, 1))),
            begin,
            now: begin,
            begin_ms: self.begin_ms,
            times: TimeText::default(),
            text: Vec::new(),
        }
    }
}

impl Reports {
    fn written(&mut self, write: impl FnOnce(&mut Vec<u8>, &mut TimeText)) -> String {
        self.text.clear();
        write(&mut self.text, &mut self.times);
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

impl Iterator for Reports {
    type Item = Report;

    fn next(&mut self) -> Option<Report> {
        loop {
            let passed: Duration = self.now - self.begin;
            let passed_ms = i64::try_from(passed.as_millis()).ok()?;
            let sent_ms = self.begin_ms.saturating_add(passed_ms);
            match self.fleet.next(self.now, sent_ms) {
                Next::Message(message, _) => {
                    return Some(Report {
                        topic: self.written(|out, _| message.write_topic(out)),
                        payload: self.written(|out, times| message.write_payload(out, times)),
                        sent_ms,
                    });
                }
                Next::At(due) => self.now = due,
                Next::Wait | Next::Done => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{UtcMicros, native};

    use super::*;

    #[test]
    fn a_fleet_reports_the_same_in_every_run_in_the_order_of_time() {
        let fleet = SimulatedFleet {
            deliverers: 7,
            locations: 15,
            seconds: 10.0,
            seed: 3,
            begin_ms: 1_767_225_600_000,
        };
        let reports: Vec<_> = fleet.reports().take(1_000).collect();
        assert_eq!(reports, fleet.reports().take(1_000).collect::<Vec<_>>());
        assert!(reports.is_sorted_by_key(|report| report.sent_ms));
        // Each of the seven reports every ten seconds by and large.
        let last_s = (reports[999].sent_ms - fleet.begin_ms) / 1_000;
        assert!((1_300..1_560).contains(&last_s), "{last_s}");
        for report in reports {
            let read = native::parse(&report.payload, None, UtcMicros::default()).unwrap();
            assert_eq!(read.event_time.as_micros(), report.sent_ms * 1_000);
            let deliverer = read.deliverer_id.as_str();
            assert_eq!(report.topic, format!("deliveries/{deliverer}/location"));
        }
    }
}
