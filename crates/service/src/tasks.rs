//! Components and their stop, stage by stage.
//!
//! Invariant: while the process is meant to run, every component runs. One that ends by itself, whether with
//! an error or not, is recorded as a failure, and [`crate::main`] stops the process.
//!
//! Not done here: signals, deadlines of the whole and exit codes are [`crate::main`]'s.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::{BoxError, ErrorChain};

/// When a component is stopped. Each stage is cancelled only after the one before has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Takes work in: listeners and connections that accept messages.
    Intake,
    /// Finishes what was taken in: writers, consumers, offloads.
    Drain,
    /// Answers to the last: the API, health and metrics, the log under all of it.
    Serve,
}

impl Stage {
    /// Every stage, in the order stopped.
    pub const ALL: [Self; 3] = [Self::Intake, Self::Drain, Self::Serve];

    fn index(self) -> usize {
        self as usize
    }
}

/// Why the process cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A component returned an error.
    #[error("component {name} failed")]
    Failed {
        /// The component.
        name: &'static str,
        /// Its error.
        #[source]
        source: BoxError,
    },
    /// A component ended though nobody had asked it to.
    #[error("component {name} ended by itself")]
    Ended {
        /// The component.
        name: &'static str,
    },
    /// A component panicked; seen only where the process does not abort on panics, that is in tests.
    #[error("component {name} panicked")]
    Panicked {
        /// The component.
        name: &'static str,
    },
}

/// Components that were still running when the time to stop was over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("still running at the end of the time to stop: {}", .running.join(", "))]
pub struct StopTimeout {
    /// Their names.
    pub running: Vec<&'static str>,
}

/// Spawns components. Cheap to clone; all clones share them.
#[derive(Clone)]
pub struct Tasks(Arc<Inner>);

struct Inner {
    runtime: Option<Handle>,
    stopping: CancellationToken,
    failed: CancellationToken,
    failures: Mutex<Vec<Failure>>,
    running: Mutex<Vec<&'static str>>,
    stages: [StageTasks; 3],
}

#[derive(Default)]
struct StageTasks {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// Makes an empty set.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            runtime: Handle::try_current().ok(),
            stopping: CancellationToken::new(),
            failed: CancellationToken::new(),
            failures: Mutex::default(),
            running: Mutex::default(),
            stages: Default::default(),
        }))
    }

    /// Spawns a component that runs until its token is cancelled and then finishes cleanly.
    ///
    /// Ending earlier, or with an error at any time, fails the process.
    pub fn spawn<F>(
        &self,
        stage: Stage,
        name: &'static str,
        task: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let running = self.begin(stage, name);
        let task = task(self.token(stage));
        self.spawn_on(stage, async move { running.end(task.await) });
    }

    /// Runs a component on an operating-system thread of its own, named after it.
    ///
    /// The same rules hold as for [`Tasks::spawn`]. Use it for work that blocks for as long as it lives.
    pub fn spawn_thread(
        &self,
        stage: Stage,
        name: &'static str,
        task: impl FnOnce(CancellationToken) -> Result<(), BoxError> + Send + 'static,
    ) {
        let running = Arc::new(Mutex::new(Some(self.begin(stage, name))));
        let token = self.token(stage);
        let in_thread = Arc::clone(&running);
        let take = |slot: &Mutex<Option<Running>>| lock(slot).take();
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Some(running) = take(&in_thread) {
                running.end(task(token));
            }
        });
        if let Err(error) = spawned
            && let Some(running) = take(&running)
        {
            running.end(Err(error.into()));
        }
    }

    /// Spawns a short-lived task, such as one connection, that may end whenever it likes.
    ///
    /// The end of its stage waits for it, so it should watch [`Tasks::token`].
    pub fn spawn_child<F>(&self, stage: Stage, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_on(stage, task);
    }

    /// Returns the token that is cancelled when `stage` is to stop.
    pub fn token(&self, stage: Stage) -> CancellationToken {
        self.stage(stage).token.clone()
    }

    /// Waits until the stop of the whole has begun.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn stopped(&self) {
        self.0.stopping.cancelled().await;
    }

    /// Waits until everything has ended: every component and child, after the stop has reached its stage.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn ended(&self) {
        for stage in Stage::ALL {
            self.stage(stage).tracker.wait().await;
        }
    }

    /// Tells whether the stop of the whole has begun.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.is_cancelled()
    }

    /// Waits until a component fails.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn failed(&self) {
        self.0.failed.cancelled().await;
    }

    /// Returns the failures seen so far, and forgets them.
    pub fn take_failures(&self) -> Vec<Failure> {
        std::mem::take(&mut self.failures())
    }

    /// Stops stage after stage and waits for each; all of it may take `limit`.
    ///
    /// [`crate::main`] calls it; tests with a context of their own do, too. Calling it again waits again.
    ///
    /// # Errors
    /// [`StopTimeout`] when the time is over. The stages not yet reached are cancelled then, too, but not
    /// awaited.
    pub async fn stop(&self, limit: Duration) -> Result<(), StopTimeout> {
        let deadline = Instant::now() + limit;
        self.0.stopping.cancel();
        for stage in Stage::ALL {
            let tasks = self.stage(stage);
            tasks.token.cancel();
            tasks.tracker.close();
            tracing::debug!(?stage, "stopping");
            if timeout_at(deadline, tasks.tracker.wait()).await.is_err() {
                for stage in Stage::ALL {
                    self.stage(stage).token.cancel();
                }
                return Err(self.still_running());
            }
        }
        Ok(())
    }

    /// Names what runs now.
    pub(crate) fn still_running(&self) -> StopTimeout {
        let mut running = self.running().clone();
        if running.is_empty() {
            running.push("connections");
        }
        StopTimeout { running }
    }

    fn begin(&self, stage: Stage, name: &'static str) -> Running {
        self.running().push(name);
        Running {
            tasks: self.clone(),
            stage,
            name,
            ended: false,
            _tracked: self.stage(stage).tracker.token(),
        }
    }

    fn spawn_on<F>(&self, stage: Stage, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tracker = &self.stage(stage).tracker;
        match &self.0.runtime {
            Some(runtime) => drop(tracker.spawn_on(task, runtime)),
            None => drop(tracker.spawn(task)),
        }
    }

    fn fail(&self, failure: Failure) {
        tracing::error!(error = %ErrorChain(&failure), "a component is gone");
        self.failures().push(failure);
        self.0.failed.cancel();
    }

    fn stage(&self, stage: Stage) -> &StageTasks {
        &self.0.stages[stage.index()]
    }

    fn failures(&self) -> MutexGuard<'_, Vec<Failure>> {
        lock(&self.0.failures)
    }

    fn running(&self) -> MutexGuard<'_, Vec<&'static str>> {
        lock(&self.0.running)
    }
}

/// Locks; the lists stay whole even if a holder panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("running", &*self.running())
            .finish_non_exhaustive()
    }
}

/// A component that runs; dropping it without an end means that the component panicked or that its
/// runtime went away.
struct Running {
    tasks: Tasks,
    stage: Stage,
    name: &'static str,
    ended: bool,
    _tracked: TaskTrackerToken,
}

impl Running {
    fn end(mut self, outcome: Result<(), BoxError>) {
        self.ended = true;
        let name = self.name;
        match outcome {
            Ok(()) if self.tasks.stage(self.stage).token.is_cancelled() => {}
            Ok(()) => self.tasks.fail(Failure::Ended { name }),
            Err(source) => self.tasks.fail(Failure::Failed { name, source }),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended && thread::panicking() {
            self.tasks.fail(Failure::Panicked { name: self.name });
        }
        let mut running = self.tasks.running();
        if let Some(index) = running.iter().position(|name| *name == self.name) {
            running.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests;
