//! The API's side of a store.

use async_trait::async_trait;
use model::fleet_event::FleetAction;
use model::{DelivererId, FleetEvent, FleetSubject, OrderId, Position, Reject, UtcMicros};

use crate::StoreError;

/// Whose history is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryOf {
    /// All positions of an order.
    Order(OrderId),
    /// All positions of a deliverer or vehicle.
    Deliverer(DelivererId),
}

/// A question for history: positions with `from <= event_time < to`, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Whose.
    pub of: HistoryOf,
    /// First instant.
    pub from: Option<UtcMicros>,
    /// Instant after the last.
    pub to: Option<UtcMicros>,
    /// Most positions in the answer, 1 or more.
    pub limit: usize,
    /// Where the page before this one ended: its `next_cursor`, unchanged.
    pub after: Option<String>,
}

/// A question for fleet events, in the order stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetEventQuery {
    /// Only of this organisation.
    pub organization_id: Option<String>,
    /// Only about this kind of entity.
    pub on: Option<FleetSubject>,
    /// Only about this entity.
    pub entity_id: Option<String>,
    /// Only what happened so.
    pub event: Option<FleetAction>,
    /// Most events in the answer, 1 or more.
    pub limit: usize,
    /// Where the page before this one ended.
    pub after: Option<String>,
}

/// Part of an answer, and where the next part begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Opaque; `None` when there is no more.
    pub next_cursor: Option<String>,
}

/// How many rows the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Positions, those of fleet events included.
    pub positions: u64,
    /// Fleet events, updates included.
    pub fleet_events: u64,
    /// Dead letters.
    pub rejected: u64,
    /// Orders with a last position.
    pub orders: u64,
    /// Deliverers with a last position.
    pub deliverers: u64,
}

/// Answers questions.
#[async_trait]
pub trait Reader: Send + Sync + 'static {
    /// Returns the last position of an order.
    ///
    /// # Errors
    /// Any [`crate::ErrorKind`] but `Conflict` and `Invalid`; so for every method here.
    async fn last_by_order(&self, order_id: &OrderId) -> Result<Option<Position>, StoreError>;

    /// Returns the last position of a deliverer.
    ///
    /// # Errors
    /// As [`Reader::last_by_order`].
    async fn last_by_deliverer(
        &self,
        deliverer_id: &DelivererId,
    ) -> Result<Option<Position>, StoreError>;

    /// Returns a page of history.
    ///
    /// # Errors
    /// `Invalid` when `after` is no cursor of this query; else as [`Reader::last_by_order`].
    async fn history(&self, query: &HistoryQuery) -> Result<Page<Position>, StoreError>;

    /// Returns a page of fleet events.
    ///
    /// # Errors
    /// As [`Reader::history`].
    async fn fleet_events(&self, query: &FleetEventQuery) -> Result<Page<FleetEvent>, StoreError>;

    /// Returns a page of dead letters, oldest first.
    ///
    /// # Errors
    /// As [`Reader::history`].
    async fn rejected(&self, limit: usize, after: Option<&str>)
    -> Result<Page<Reject>, StoreError>;

    /// Counts what the store holds; cheap enough to ask every few seconds.
    ///
    /// # Errors
    /// As [`Reader::last_by_order`].
    async fn counts(&self) -> Result<Counts, StoreError>;
}
