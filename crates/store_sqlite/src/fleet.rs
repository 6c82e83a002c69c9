//! Pages of fleet events, through the index that fits the question.

use model::fleet_event::FleetAction;
use model::{FleetEvent, FleetSubject};
use rusqlite::{Connection, params};
use store::{FleetEventQuery, Page};

use crate::error::Outcome;
use crate::reader::{limits, page as make_page, read_cursor};
use crate::{rows, sql};

/// Returns a page.
pub(crate) fn page(on: &Connection, query: &FleetEventQuery) -> Outcome<Page<FleetEvent>> {
    let after = read_cursor('e', query.after.as_deref())?;
    let (count, limit) = limits(query.limit);
    let sql = match query {
        FleetEventQuery {
            entity_id: Some(_), ..
        } => sql::FLEET_EVENTS_OF_ENTITY,
        FleetEventQuery { event: Some(_), .. } => sql::FLEET_EVENTS_OF_ACTION,
        FleetEventQuery {
            on: Some(FleetSubject::OperatingPeriod),
            ..
        } => sql::FLEET_EVENTS_OF_PERIODS,
        _ => sql::FLEET_EVENTS,
    };
    let values = params![
        after,
        query.organization_id,
        query.on.map(FleetSubject::as_str),
        query.entity_id,
        query.event.map(FleetAction::as_str),
        count,
    ];
    let events = on
        .prepare_cached(sql)?
        .query_map(values, |row| {
            Ok((rows::seq(row, rows::OTHER_SEQ)?, rows::fleet_event(row)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(make_page('e', events, limit))
}
