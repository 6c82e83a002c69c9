//! The `verify` command: everything in the ledger can be read back from the API, once.
//!
//! The ledger is split by what the API can be asked for: an order, a deliverer (positions without an
//! order), a vehicle or an operating period. Each is read page by page and compared by identity. What is
//! missing may still be on its way, so it is asked for again until the time to wait is over.

mod api;
mod expected;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use service::{BoxError, Context, Problems};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::ledger::Entry;
use crate::settings::VerifyConfig;
use crate::summary;
use api::{Api, ApiError};
use expected::Group;

/// Missing messages named one by one.
const NAMED: usize = 20;
/// Time between two rounds of asking.
const ROUND_EVERY: Duration = Duration::from_millis(500);

/// What was found.
#[derive(Debug, Serialize)]
struct Finding {
    /// Messages in the ledger.
    acknowledged: u64,
    /// Those the API returned.
    found: u64,
    /// Those it did not.
    missing: u64,
    /// Those it returned more than once.
    found_twice: u64,
    /// The first of the missing.
    first_missing: Vec<Entry>,
    /// The first of those returned more than once.
    first_found_twice: Vec<Entry>,
}

/// The API does not hold, once, what was acknowledged.
#[derive(Debug, thiserror::Error)]
#[error(
    "of {acknowledged} acknowledged messages {missing} are missing and {found_twice} were found twice"
)]
struct NotVerified {
    acknowledged: u64,
    missing: u64,
    found_twice: u64,
}

/// A line of the ledger cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be read as a ledger", path.display())]
struct LedgerUnreadable {
    path: PathBuf,
    source: BoxError,
}

/// Verifies a ledger.
///
/// An API that does not answer, and a ledger that cannot be read, are wrong usage: exit code 2.
pub(crate) async fn run(config: &VerifyConfig, context: &Context) -> Result<(), BoxError> {
    let groups = expected::read(&config.ledger).map_err(|source| {
        let error = LedgerUnreadable {
            path: config.ledger.clone(),
            source,
        };
        Problems::one("ledger", service::ErrorChain(&error).to_string())
    })?;
    let api = Api::new(&config.api)?;
    api.check()
        .await
        .map_err(|error| unreachable_api(config, &error))?;
    let work = ask_until_found(groups, &api, config);
    let groups = tokio::select! {
        groups = work => groups?,
        () = context.tasks.stopped() => return Err("stopped before the end".into()),
    };
    let finding = Finding::of(&groups);
    summary::print(config.summary, &finding, &finding.to_string())?;
    let Finding {
        acknowledged,
        missing,
        found_twice,
        ..
    } = finding;
    if missing == 0 && found_twice == 0 {
        return Ok(());
    }
    Err(NotVerified {
        acknowledged,
        missing,
        found_twice,
    }
    .into())
}

fn unreachable_api(config: &VerifyConfig, error: &ApiError) -> Problems {
    let text = service::ErrorChain(error).to_string();
    Problems::one("api", format!("{} does not answer: {text}", config.api))
}

/// Asks round after round for the groups of which something is missing.
async fn ask_until_found(
    groups: Vec<Group>,
    api: &Api,
    config: &VerifyConfig,
) -> Result<Vec<Group>, BoxError> {
    let deadline = Instant::now() + config.wait.0;
    let total: u64 = groups.iter().map(Group::acknowledged).sum();
    let (mut open, mut done) = (groups, Vec::new());
    let mut last_said = None;
    loop {
        let round = Instant::now();
        let over = round >= deadline;
        let (asked, failure) = ask(open, api, config.concurrency).await?;
        (open, done) = asked
            .into_iter()
            .fold((Vec::new(), done), |(mut open, mut done), group| {
                if group.missing() == 0 {
                    done.push(group);
                } else {
                    open.push(group);
                }
                (open, done)
            });
        let missing: u64 = open.iter().map(Group::missing).sum();
        if missing == 0 || over {
            if let Some(error) = failure {
                return Err(unreachable_api(config, &error).into());
            }
            done.append(&mut open);
            return Ok(done);
        }
        if last_said != Some(missing) {
            last_said = Some(missing);
            say(&format!(
                "{} of {total} found, waiting for the rest",
                total - missing
            ));
        }
        tokio::time::sleep_until((round + ROUND_EVERY).min(deadline)).await;
    }
}

/// Asks for each group, some at a time. A group whose request failed is as it was; the failure is
/// returned beside, because the API may just be starting again.
async fn ask(
    groups: Vec<Group>,
    api: &Api,
    concurrency: usize,
) -> Result<(Vec<Group>, Option<ApiError>), BoxError> {
    let permits = Arc::new(Semaphore::new(concurrency));
    let mut requests = JoinSet::new();
    for mut group in groups {
        let (api, permits) = (api.clone(), Arc::clone(&permits));
        requests.spawn(async move {
            let _permit = permits.acquire().await;
            let outcome = api.read(&mut group).await;
            (group, outcome)
        });
    }
    let (mut groups, mut failure) = (Vec::new(), None);
    while let Some(asked) = requests.join_next().await {
        let (group, outcome) = asked?;
        groups.push(group);
        failure = outcome.err().or(failure);
    }
    if failure.is_some() {
        sleep(ROUND_EVERY).await;
    }
    Ok((groups, failure))
}

impl Finding {
    fn of(groups: &[Group]) -> Self {
        let sum = |count: fn(&Group) -> u64| groups.iter().map(count).sum();
        let first = |entries: &mut dyn Iterator<Item = Entry>| {
            let mut first: Vec<_> = entries.collect();
            first.sort();
            first.truncate(NAMED);
            first
        };
        Self {
            acknowledged: sum(Group::acknowledged),
            found: sum(|group| group.acknowledged() - group.missing()),
            missing: sum(Group::missing),
            found_twice: sum(Group::found_twice),
            first_missing: first(&mut groups.iter().flat_map(|group| group.named(0..=0))),
            first_found_twice: first(
                &mut groups.iter().flat_map(|group| group.named(2..=u32::MAX)),
            ),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "acknowledged {}", self.acknowledged)?;
        writeln!(f, "found        {}", self.found)?;
        writeln!(f, "missing      {}", self.missing)?;
        writeln!(f, "found twice  {}", self.found_twice)?;
        for (word, total, entries) in [
            ("missing", self.missing, &self.first_missing),
            ("found twice", self.found_twice, &self.first_found_twice),
        ] {
            for entry in entries {
                writeln!(
                    f,
                    "  {word}: {}",
                    serde_json::to_string(entry).unwrap_or_default()
                )?;
            }
            if total > entries.len() as u64 {
                writeln!(f, "  and {} more", total - entries.len() as u64)?;
            }
        }
        Ok(())
    }
}

/// Shows progress on stderr; progress that nobody can read is no reason to fail.
fn say(text: &str) {
    let mut stderr = io::stderr().lock();
    let end = if stderr.is_terminal() { "\r" } else { "\n" };
    drop(write!(stderr, "{text}{end}"));
}
