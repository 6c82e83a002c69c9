//! The laws of a store, as checks that every implementation runs against itself.
//!
//! A [`Law`] takes a fresh, empty store and says how it was broken, if it was. Laws return a
//! [`Violation`] rather than panic, so that a negative control (a store that breaks a law on purpose)
//! can show that the law notices. They assume the default skew, [`crate::DEFAULT_MAX_FUTURE_SKEW_US`].
//!
//! What is not here: what survives a crash. That needs a process to kill, and each store brings its own.

pub mod build;
mod fleet;
mod history;
mod lake;
mod last;
mod values;
mod writing;

use std::fmt;
use std::pin::Pin;

use crate::{Store, StoreError};

/// How a store broke a law.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(String);

impl Violation {
    /// Says what was seen and what the law asks for.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl From<StoreError> for Violation {
    fn from(error: StoreError) -> Self {
        Self(format!(
            "{error} ({:?}: {}), which the law does not allow here",
            error.kind, error.source
        ))
    }
}

/// The outcome of a law.
pub type Verdict = Result<(), Violation>;

/// A verdict to come.
pub type Checking<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// One law.
#[derive(Clone, Copy)]
pub struct Law {
    /// What it asks for, as a name in snake case.
    pub name: &'static str,
    check: for<'a> fn(&'a dyn Store) -> Checking<'a>,
}

impl Law {
    /// Checks the law against an empty store.
    ///
    /// # Errors
    /// How the store broke it.
    pub async fn check(&self, store: &dyn Store) -> Verdict {
        (self.check)(store)
            .await
            .map_err(|Violation(what)| Violation(format!("{}: {what}", self.name)))
    }
}

impl fmt::Debug for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Law").field(&self.name).finish()
    }
}

macro_rules! laws {
    ($($room:ident: $($name:ident),+;)+) => {
        /// Every law.
        pub const LAWS: &[Law] = &[
            $($(Law { name: stringify!($name), check: |store| Box::pin($room::$name(store)) },)+)+
        ];
    };
}

laws! {
    writing: a_batch_is_counted_item_by_item, an_item_is_stored_once_within_a_batch,
        an_item_is_stored_once_across_batches, different_items_are_all_stored,
        an_event_and_its_position_are_one_item,
        letters_from_a_log_are_all_kept, letters_without_a_log_are_kept_once,
        the_cursor_moves_with_its_batch, the_cursor_never_goes_back, foreign_cursors_are_refused;
    fleet: fleet_events_come_back_in_order_and_by_filter;
    last: the_last_is_the_greatest_whatever_the_arrival, a_stale_point_never_overwrites,
        ties_are_decided_by_content, the_future_never_becomes_last,
        a_replay_changes_nothing;
    history: pages_hold_every_point_once, equal_times_are_paged_through,
        bounds_are_half_open, a_deliverers_history_spans_orders, a_deliverers_history_spans_hours,
        late_points_take_their_place;
    values: every_field_comes_back_bit_for_bit, odd_ids_are_only_ids;
    lake: rows_carry_proven_sequences, windows_are_planned_one_at_a_time,
        windows_hold_every_row_once_under_writing, a_purge_takes_its_window_only,
        a_lease_has_one_holder;
}

/// Checks every law, each against its own store from `make`.
///
/// # Errors
/// The first law broken, and how.
pub async fn run_all<S, Fut>(make: impl Fn() -> Fut) -> Verdict
where
    S: Store,
    Fut: Future<Output = S>,
{
    for law in LAWS {
        law.check(&make().await).await?;
    }
    Ok(())
}

macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Violation::new(format!($($what)+)));
        }
    };
}

macro_rules! ensure_eq {
    ($seen:expr, $law:expr, $($what:tt)+) => {
        let (seen, law) = (&$seen, &$law);
        if seen != law {
            return Err($crate::conformance::Violation::new(format!(
                "{}: saw {seen:?}, the law asks for {law:?}", format_args!($($what)+)
            )));
        }
    };
}

use {ensure, ensure_eq};
