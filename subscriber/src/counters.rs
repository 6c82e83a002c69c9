//! The counting law: every item received is stored, a duplicate, rejected, or still in flight.

use std::sync::{Arc, Mutex, PoisonError};

use store::Appended;

/// Items counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Items received, redelivered ones included.
    pub received: u64,
    /// Valid items that were new to the store.
    pub stored: u64,
    /// Items the store already had.
    pub duplicate: u64,
    /// Dead letters that were new to the store.
    pub rejected: u64,
    /// Items decoded and not yet stored.
    pub in_flight: u64,
}

impl Counted {
    /// Tells whether the law holds.
    pub fn balances(&self) -> bool {
        self.received == self.stored + self.duplicate + self.rejected + self.in_flight
    }
}

/// Counts; cheap to clone, all clones count together. Touched once per batch or piece of it.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Mutex<Counted>>);

impl Counters {
    /// Returns the counts of one moment.
    pub fn snapshot(&self) -> Counted {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn receive(&self, items: u64) {
        self.change(|counted| {
            counted.received += items;
            counted.in_flight += items;
        });
    }

    /// Moves `items` out of flight, into what became of them.
    pub(crate) fn settle(&self, items: u64, appended: Appended) {
        self.change(|counted| {
            counted.in_flight -= items;
            counted.stored += appended.stored;
            counted.duplicate += appended.duplicate;
            counted.rejected += appended.rejected;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Counted)) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut counted);
        debug_assert!(counted.balances(), "an item was not counted: {counted:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_move_from_flight_to_their_end() {
        let counters = Counters::default();
        counters.receive(5);
        let appended = Appended {
            stored: 2,
            duplicate: 1,
            rejected: 0,
        };
        counters.settle(3, appended);
        let counted = counters.snapshot();
        assert_eq!((counted.in_flight, counted.stored), (2, 2));
        assert!(counted.balances());
    }

    #[test]
    #[should_panic(expected = "was not counted")]
    fn an_item_that_is_lost_breaks_the_law() {
        let counters = Counters::default();
        counters.receive(2);
        counters.settle(2, Appended::default());
    }
}
