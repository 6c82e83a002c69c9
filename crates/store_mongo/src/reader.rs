//! Answers to the API, from the primary, of what a majority has.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use model::{DelivererId, FleetEvent, OrderId, Position, Reject};
use mongodb::Collection;
use mongodb::action::Find;
use mongodb::bson::doc;
use serde::de::DeserializeOwned;
use store::{Counts, FleetEventQuery, HistoryQuery, Page, StoreError};

use crate::database::{
    FLEET_EVENTS, LAST_BY_DELIVERER, LAST_POSITIONS, POSITIONS, REJECTED, answer,
};
use crate::error::Outcome;
use crate::rows::PositionDoc;
use crate::{MongoStore, fleet, history, page};

/// Rows in one reply of the server.
const REPLY_ROWS: usize = 10_000;

/// Reads one row more than a page holds.
pub(crate) async fn read<T: DeserializeOwned + Send + Sync + Unpin>(
    found: Find<'_, T>,
    limit: usize,
) -> Outcome<Vec<T>> {
    // One more than the rows asked for: the server then closes its cursor with the only reply.
    let reply = u32::try_from(limit.min(REPLY_ROWS) + 2).unwrap_or(u32::MAX);
    let found = found.limit(page::rows_to_read(limit)).batch_size(reply);
    answer(async { found.await?.try_collect().await }).await
}

async fn last(of: &Collection<PositionDoc>, id: &str) -> Outcome<Option<Position>> {
    let found = answer(of.find_one(doc! { "_id": id })).await?;
    found.map(PositionDoc::into_position).transpose()
}

#[async_trait]
impl store::Reader for MongoStore {
    async fn last_by_order(&self, order_id: &OrderId) -> Result<Option<Position>, StoreError> {
        last(self.store.last_positions(), order_id.as_str())
            .await
            .map_err(|failure| failure.during("last_by_order"))
    }

    async fn last_by_deliverer(
        &self,
        deliverer_id: &DelivererId,
    ) -> Result<Option<Position>, StoreError> {
        last(self.store.last_by_deliverer(), deliverer_id.as_str())
            .await
            .map_err(|failure| failure.during("last_by_deliverer"))
    }

    async fn history(&self, query: &HistoryQuery) -> Result<Page<Position>, StoreError> {
        history::page(&self.store, query)
            .await
            .map_err(|failure| failure.during("history"))
    }

    async fn fleet_events(&self, query: &FleetEventQuery) -> Result<Page<FleetEvent>, StoreError> {
        fleet::events(&self.store, query)
            .await
            .map_err(|failure| failure.during("fleet_events"))
    }

    async fn rejected(
        &self,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<Reject>, StoreError> {
        fleet::letters(&self.store, limit, after)
            .await
            .map_err(|failure| failure.during("rejected"))
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.count()
            .await
            .map_err(|failure| failure.during("counts"))
    }
}

impl MongoStore {
    async fn count(&self) -> Outcome<Counts> {
        let count = |name| async move {
            let documents = self.store.documents(name);
            answer(documents.estimated_document_count()).await
        };
        let (positions, fleet_events, rejected, orders, deliverers) = futures_util::try_join!(
            count(POSITIONS),
            count(FLEET_EVENTS),
            count(REJECTED),
            count(LAST_POSITIONS),
            count(LAST_BY_DELIVERER),
        )?;
        Ok(Counts {
            positions,
            fleet_events,
            rejected,
            orders,
            deliverers,
        })
    }
}
