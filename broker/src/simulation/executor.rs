//! Polls futures one at a time, in an order drawn from a seed.
//!
//! Who is woken goes into a set, so the order in which wakers are called, which tokio draws at random in places, is
//! of no consequence.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use ingest_log::sim::Random;

type Task = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Polls without a rest between them after which a task counts as one that spins.
const MOST_POLLS: usize = 200_000;

#[derive(Default)]
pub(super) struct Executor {
    tasks: BTreeMap<u64, Task>,
    next: u64,
    woken: Arc<Woken>,
    failures: Vec<String>,
}

#[derive(Default)]
struct Woken(Mutex<BTreeSet<u64>>);

impl Woken {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeSet<u64>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct TaskWaker {
    id: u64,
    woken: Arc<Woken>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.woken.with(|woken| woken.insert(self.id));
    }
}

impl Executor {
    pub(super) fn spawn(
        &mut self,
        task: impl Future<Output = Result<(), String>> + Send + 'static,
    ) {
        let id = self.next;
        self.next += 1;
        self.tasks.insert(id, Box::pin(task));
        self.woken.with(|woken| woken.insert(id));
    }

    /// Polls until nobody is woken any more.
    pub(super) fn run(&mut self, random: &mut Random) -> Result<(), String> {
        for _ in 0..MOST_POLLS {
            let drawn = self.woken.with(|woken| {
                let place = (!woken.is_empty()).then(|| random.below(woken.len()))?;
                let id = *woken.iter().nth(place)?;
                woken.remove(&id);
                Some(id)
            });
            let Some(id) = drawn else {
                return Ok(());
            };
            let Some(task) = self.tasks.get_mut(&id) else {
                continue;
            };
            let waker = Waker::from(Arc::new(TaskWaker {
                id,
                woken: Arc::clone(&self.woken),
            }));
            if let Poll::Ready(ended) = task.as_mut().poll(&mut Context::from_waker(&waker)) {
                self.tasks.remove(&id);
                self.failures.extend(ended.err());
            }
        }
        Err("a task spins".to_owned())
    }

    /// Returns why a task failed, if one did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failures.first().map(String::as_str)
    }

    /// Returns how many tasks have not ended.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }
}
