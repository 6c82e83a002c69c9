//! Work shared among as many threads as there are processors.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread::{available_parallelism, scope};

/// Does something to each of some items, which every thread takes one by one; returns the results in the items' order.
/// One item is done without another thread.
///
/// # Errors
/// The first error of a thread; the others do the items they have begun and then those that are left.
pub(crate) fn on_every_processor<I, T, E>(
    items: I,
    work: impl Fn(I::Item) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E>
where
    I: IntoIterator<IntoIter: Send, Item: Send>,
    T: Send,
    E: Send,
{
    let items = items.into_iter();
    let most = items.size_hint().1.unwrap_or(usize::MAX);
    let threads = available_parallelism().map_or(1, NonZero::get).min(most);
    let items = Mutex::new(items.enumerate());
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || {
        let mut done = Vec::new();
        while let Some((number, item)) = next() {
            done.push((number, work(item)?));
        }
        Ok::<_, E>(done)
    };
    let mut done = scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
        let mut done = worker()?;
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(done)
    })?;
    done.sort_unstable_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
