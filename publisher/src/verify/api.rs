//! Reads the API's lists, page by page.

use std::time::Duration;

use model::UtcMicros;
use model::content_hash::ContentHash;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::expected::{Group, List};
use crate::ledger::{Entry, EventEntry, PositionEntry};

/// Items asked for at a time.
const PAGE: &str = "1000";
/// Time for one page.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The API could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("the request failed")]
    Request(#[from] reqwest::Error),
    #[error("{url} answered {status}: {body}")]
    Status {
        url: Url,
        status: StatusCode,
        body: String,
    },
    #[error("{url} answered something else than a list")]
    Format { url: Url, source: serde_json::Error },
    #[error("{0:?} is no URL")]
    Url(String),
    #[error("{url} gave the same cursor again")]
    Cursor { url: Url },
}

/// The API's client; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Api {
    client: Client,
    base: Url,
}

#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct PositionItem {
    order_id: Option<String>,
    deliverer_id: String,
    event_time: String,
    seq: Option<u64>,
}

#[derive(Deserialize)]
struct EventItem {
    organization_id: String,
    on: String,
    entity_id: String,
    event: String,
    at: String,
    data: Box<RawValue>,
}

impl Api {
    pub(super) fn new(base: &str) -> Result<Self, ApiError> {
        let base: Url = base.parse().map_err(|_| ApiError::Url(base.to_owned()))?;
        let client = Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self { client, base })
    }

    /// Asks whether anybody is there; any answer will do.
    pub(super) async fn check(&self) -> Result<(), ApiError> {
        self.client.get(self.url(&["healthz"])).send().await?;
        Ok(())
    }

    /// Reads a group's list and notes in it what was found.
    pub(super) async fn read(&self, group: &mut Group) -> Result<(), ApiError> {
        let position = |item: PositionItem, with_order: bool| {
            let order_id = item.order_id.filter(|_| with_order);
            Some(Entry::Position(PositionEntry {
                deliverer_id: item.deliverer_id,
                order_id,
                event_time_us: UtcMicros::parse(&item.event_time)?.as_micros(),
                seq: item.seq?,
            }))
        };
        match group.list.clone() {
            List::Order(order) => {
                let url = self.history(&["api", "v1", "orders", &order, "locations"], group);
                self.pages(url, group, |item| position(item, true)).await
            }
            List::Deliverer(deliverer) => {
                let path = ["api", "v1", "deliverers", &deliverer, "locations"];
                let url = self.history(&path, group);
                self.pages(url, group, |item| position(item, false)).await
            }
            List::Events {
                organization_id,
                on,
                entity_id,
            } => {
                let mut url = self.url(&["api", "v1", "fleet", "events"]);
                url.query_pairs_mut()
                    .append_pair("entity_id", &entity_id)
                    .append_pair("organization_id", &organization_id)
                    .append_pair("on", &on);
                self.pages(url, group, event).await
            }
        }
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// A history between the group's first and last time: the ids of earlier runs are the same.
    fn history(&self, path: &[&str], group: &Group) -> Url {
        let (first, last) = group.times;
        let text = |micros| UtcMicros::new(micros).unwrap_or_default().to_string();
        let mut url = self.url(path);
        url.query_pairs_mut()
            .append_pair("from", &text(first))
            .append_pair("to", &text(last.saturating_add(1)));
        url
    }

    async fn pages<T: DeserializeOwned>(
        &self,
        mut url: Url,
        group: &mut Group,
        identity: impl Fn(T) -> Option<Entry>,
    ) -> Result<(), ApiError> {
        url.query_pairs_mut().append_pair("limit", PAGE);
        group.begin();
        let mut cursor: Option<String> = None;
        loop {
            let mut url = url.clone();
            if let Some(cursor) = &cursor {
                url.query_pairs_mut().append_pair("cursor", cursor);
            }
            let page: Page<T> = self.page(url.clone()).await?;
            for entry in page.data.into_iter().filter_map(&identity) {
                group.saw(&entry);
            }
            if page.next_cursor.is_none() {
                return Ok(());
            }
            if page.next_cursor == cursor {
                return Err(ApiError::Cursor { url });
            }
            cursor = page.next_cursor;
        }
    }

    async fn page<T: DeserializeOwned>(&self, url: Url) -> Result<Page<T>, ApiError> {
        let response = self.client.get(url.clone()).send().await?;
        let status = response.status();
        let body = response.bytes().await?;
        // An order of which nothing has been stored yet may well be unknown.
        if status == StatusCode::NOT_FOUND {
            return Ok(Page {
                data: Vec::new(),
                next_cursor: None,
            });
        }
        if !status.is_success() {
            let body = String::from_utf8_lossy(&body).chars().take(300).collect();
            return Err(ApiError::Status { url, status, body });
        }
        serde_json::from_slice(&body).map_err(|source| ApiError::Format { url, source })
    }
}

fn event(item: EventItem) -> Option<Entry> {
    // The same as `FleetEvent::discriminator`: the data's text is returned as it was sent.
    let data_hash = ContentHash::default()
        .chain(item.data.get().as_bytes())
        .finish();
    Some(Entry::Event(EventEntry {
        organization_id: item.organization_id,
        on: item.on,
        entity_id: item.entity_id,
        event: item.event,
        event_time_us: UtcMicros::parse(&item.at)?.as_micros(),
        data_hash: data_hash.cast_signed(),
    }))
}
