//! Running on a cron expression.
//!
//! Invariant: runs never overlap, because the next time is looked up when the last run has ended; times
//! missed meanwhile are not made up for one by one, the next run does all there is to do.
//!
//! Expressions have five fields (minute, hour, day, month, weekday) or six with seconds in front, and are
//! read in UTC.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::UtcMicros;
use serde::{Serialize, Serializer};
use service::{CancellationToken, Clock};

/// When to run.
#[derive(Debug, Clone)]
pub struct CronSchedule {
    text: String,
    cron: Cron,
}

/// The text is no cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no cron expression ({detail}); give five fields, for example \"*/5 * * * *\"")]
pub struct ScheduleError {
    text: String,
    detail: String,
}

/// Longest wait before the clock is asked again: the system's clock may be set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

impl CronSchedule {
    /// Returns the first time after `now`, or `None` when there is none before the year 9999.
    pub fn next_after(&self, now: UtcMicros) -> Option<UtcMicros> {
        let now = Timestamp::from_microsecond(now.as_micros()).ok()?;
        let now = now.to_zoned(TimeZone::UTC);
        let next = self.cron.find_next_occurrence(&now, false).ok()?;
        UtcMicros::new(next.timestamp().as_microsecond())
    }
}

impl FromStr for CronSchedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let wrong = |detail: String| ScheduleError {
            text: text.to_owned(),
            detail,
        };
        let cron = Cron::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let schedule = Self {
            text: text.to_owned(),
            cron,
        };
        if schedule.next_after(UtcMicros::default()).is_none() {
            return Err(wrong("it names no time that ever comes".to_owned()));
        }
        Ok(schedule)
    }
}

impl fmt::Display for CronSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for CronSchedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Runs `job` at each time of the schedule until `stop` is cancelled. A run that has begun is awaited; it
/// should itself watch `stop` and end early.
pub async fn run<F: Future<Output = ()>>(
    schedule: &CronSchedule,
    clock: &dyn Clock,
    stop: &CancellationToken,
    mut job: impl FnMut() -> F,
) {
    while !stop.is_cancelled() {
        let Some(next) = schedule.next_after(clock.now()) else {
            stop.cancelled().await;
            return;
        };
        loop {
            let remaining = next.as_micros().saturating_sub(clock.now().as_micros());
            let Ok(remaining @ 1..) = u64::try_from(remaining) else {
                break;
            };
            let wait = Duration::from_micros(remaining).min(LONGEST_WAIT);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
        job().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use service::ManualClock;

    use super::*;

    fn at(text: &str) -> UtcMicros {
        UtcMicros::parse(text).unwrap()
    }

    #[test]
    fn the_next_time_is_strictly_later_and_in_utc() {
        let schedule: CronSchedule = "*/5 * * * *".parse().unwrap();
        let next = |text| schedule.next_after(at(text)).unwrap().to_string();
        assert_eq!(next("2026-01-01T00:03:59.999Z"), "2026-01-01T00:05:00.000Z");
        assert_eq!(next("2026-01-01T00:05:00Z"), "2026-01-01T00:10:00.000Z");
        assert_eq!(next("2026-12-31T23:57:00Z"), "2027-01-01T00:00:00.000Z");
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_an_example() {
        for text in ["", "every day", "61 * * * *", "0 0 31 2 *"] {
            let error = text.parse::<CronSchedule>().unwrap_err();
            assert!(error.to_string().contains("*/5 * * * *"), "{error}");
        }
    }

    #[tokio::test]
    async fn missed_times_collapse_into_one_run_and_stop_ends_the_loop() {
        let clock = Arc::new(ManualClock::new(at("2026-01-01T00:04:59.999999Z")));
        let schedule: CronSchedule = "*/5 * * * *".parse().unwrap();
        let stop = CancellationToken::new();
        let mut starts = Vec::new();
        let job_clock = clock.clone();
        let job_stop = stop.clone();
        let mut runs = 0;
        // The clock stands still while the loop waits, so a waiter moves it on.
        let mover = async {
            while !stop.is_cancelled() {
                tokio::task::yield_now().await;
                clock.advance_micros(1);
            }
        };
        let looped = run(&schedule, clock.as_ref(), &stop, || {
            starts.push(job_clock.now());
            runs += 1;
            // The first run takes a quarter of an hour and a bit: it ends a moment before 00:20.
            job_clock.set(at("2026-01-01T00:19:59.999Z"));
            if runs == 2 {
                job_stop.cancel();
            }
            std::future::ready(())
        });
        tokio::join!(looped, mover);
        let starts: Vec<_> = starts.iter().map(ToString::to_string).collect();
        assert_eq!(starts.len(), 2);
        assert!(starts[0].starts_with("2026-01-01T00:05:00"), "{starts:?}");
        assert!(starts[1].starts_with("2026-01-01T00:20:0"), "{starts:?}");
    }
}
