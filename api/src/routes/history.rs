//! Histories: all positions of an order or a deliverer, page by page, oldest first.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use model::{DelivererId, OrderId};
use store::{HistoryOf, HistoryQuery};

use crate::app::SharedApp;
use crate::error::ApiError;
use crate::query::{IdPath, Query, invalid};
use crate::render::{self, Format};
use crate::schema::{PositionPage, Problem};

/// Returns the history of an order.
///
/// Ask again with `cursor` set to `next_cursor` until that is null (for the forms that are not JSON: as
/// long as there is a `Link` header with `rel="next"`). `Accept` chooses the form.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{order_id}/locations",
    tag = "positions",
    params(
        ("order_id" = String, Path, description = "The order", example = "43"),
        ("from" = Option<String>, Query, description = "First event time, RFC 3339 or epoch seconds"),
        ("to" = Option<String>, Query, description = "Event time after the last"),
        ("limit" = Option<usize>, Query, description = "Most positions in the answer, 1 to 10,000; 1,000 unless given"),
        ("cursor" = Option<String>, Query, description = "The page before's `next_cursor`"),
    ),
    responses(
        (status = 200, description = "A page of positions", content(
            (PositionPage = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
            (String = "application/geo+json"),
        ), headers(("Link" = String, description = "The next page, if any"))),
        (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store_unavailable`, `overloaded`, `timeout`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn order_history(
    State(app): State<SharedApp>,
    order_id: IdPath<OrderId>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    history(&app, HistoryOf::Order(order_id.0), &uri, &headers).await
}

/// Returns the history of a deliverer or vehicle.
///
/// As the history of an order.
#[utoipa::path(
    get,
    path = "/api/v1/deliverers/{deliverer_id}/locations",
    tag = "positions",
    params(
        ("deliverer_id" = String, Path, description = "The deliverer or vehicle", example = "1"),
        ("from" = Option<String>, Query, description = "First event time, RFC 3339 or epoch seconds"),
        ("to" = Option<String>, Query, description = "Event time after the last"),
        ("limit" = Option<usize>, Query, description = "Most positions in the answer, 1 to 10,000; 1,000 unless given"),
        ("cursor" = Option<String>, Query, description = "The page before's `next_cursor`"),
    ),
    responses(
        (status = 200, description = "A page of positions", content(
            (PositionPage = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
            (String = "application/geo+json"),
        ), headers(("Link" = String, description = "The next page, if any"))),
        (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store_unavailable`, `overloaded`, `timeout`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn deliverer_history(
    State(app): State<SharedApp>,
    deliverer_id: IdPath<DelivererId>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    history(&app, HistoryOf::Deliverer(deliverer_id.0), &uri, &headers).await
}

async fn history(
    app: &SharedApp,
    of: HistoryOf,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let query = Query::parse(uri, &["from", "to", "limit", "cursor"])?;
    let question = HistoryQuery {
        of,
        from: query.instant("from")?,
        to: query.instant("to")?,
        limit: query.limit()?,
        after: query.cursor(),
    };
    if let (Some(from), Some(to)) = (question.from, question.to)
        && from > to
    {
        return Err(invalid("from", "from is later than to; exchange them"));
    }
    let page = app.reader.history(&question).await?;
    Ok(render::positions(&page, Format::accepted(headers), uri))
}
