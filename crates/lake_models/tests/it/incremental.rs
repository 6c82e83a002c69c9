//! What is computed anew when rows come late, periods change or a model says more than before.

use std::collections::BTreeMap;

use lake_models::{Model, ModelOutcome, ModelSummary, builtin};
use model::geo::haversine_m;

use crate::world::{World, at, place, position};

/// Partitions written and removed, by model; those that were left alone are not named.
fn touched(summaries: &[ModelSummary]) -> BTreeMap<&str, (u64, u64)> {
    let changed = summaries
        .iter()
        .filter(|s| s.partitions_written + s.partitions_removed > 0);
    changed
        .map(|s| {
            (
                s.model.as_str(),
                (s.partitions_written, s.partitions_removed),
            )
        })
        .collect()
}

async fn event(world: &World, text: &str) {
    world
        .take("fleet/o/events", text, "2026-01-05T00:00:00Z")
        .await;
}

fn period(id: &str, kind: &str, start: &str, finish: &str) -> String {
    format!(
        r#"{{"event":"create","on":"operating_period","at":"2026-01-01T00:00:00Z","organization_id":"o",
            "data":{{"id":"{id}","kind":"{kind}","start":"{start}","finish":"{finish}"}}}}"#
    )
    .replace('\n', " ")
}

fn vehicle(what: &str, time: &str) -> String {
    format!(
        r#"{{"event":"{what}","on":"vehicle","at":"{time}","organization_id":"o","data":{{"id":"v"}}}}"#
    )
}

/// Five days of one vehicle, a position before and one after each midnight.
async fn five_days(world: &World) {
    for day in 0..5 {
        let lat = 52.0 + f64::from(i32::try_from(day).unwrap()) / 10.0;
        let of_day = [
            position("v", at(day, 100), lat),
            position("v", at(day, 86_000), lat + 0.05),
        ];
        world.store(of_day).await;
    }
    world.refresh().await;
}

#[tokio::test]
async fn a_late_position_touches_its_date_and_that_of_the_next_one() {
    let world = World::new();
    five_days(&world).await;
    // In the middle of a day: the day's own steps change and no other's.
    world.store([position("v", at(1, 500), 52.01)]).await;
    let summaries = world.refresh().await;
    let found = touched(&summaries);
    assert_eq!(found["treated.deliverer_location"], (1, 0));
    assert_eq!(found["final.vehicle_position_data"], (1, 0));
    assert_eq!(found["final.vehicle_day"], (1, 0));
    // The last of a day: the step over midnight is of the next date.
    world.store([position("v", at(1, 86_399), 52.2)]).await;
    let summaries = world.refresh().await;
    let found = touched(&summaries);
    assert_eq!(found["treated.deliverer_location"], (1, 0));
    assert_eq!(found["final.vehicle_position_data"], (2, 0));
    assert_eq!(found["final.vehicle_day"], (2, 0));
    let cells = world
        .cells("SELECT date, driven_m, positions FROM final.vehicle_day ORDER BY 1")
        .await;
    let expected: f64 = {
        let step = |from, to| haversine_m(place(from, 4.0), place(to, 4.0));
        step(52.2, 52.2) + step(52.2, 52.25)
    };
    let found: f64 = cells[2][1].parse().unwrap();
    assert!(
        (found - expected).abs() <= 1e-9 * expected,
        "{found} {expected}"
    );
    let positions: Vec<_> = cells.iter().map(|row| row[2].as_str()).collect();
    assert_eq!(positions, ["2", "4", "2", "2", "2"]);
    // What no row changed is not computed at all.
    let again = world.refresh().await;
    assert!(
        again.iter().all(|s| s.outcome == ModelOutcome::Unchanged),
        "{again:?}"
    );
}

#[tokio::test]
async fn a_period_told_late_or_taken_back_changes_the_days_it_is_about() {
    let world = World::new();
    five_days(&world).await;
    let numbers = || async {
        let sql = "SELECT positions_outside_operations, positions_unregistered, break_s \
                   FROM final.vehicle_day ORDER BY date";
        world.cells(sql).await
    };
    let unknown = ["2", "2", "0.0"];
    assert_eq!(numbers().await, [unknown; 5]);
    event(&world, &vehicle("register", "2026-01-02T00:00:00Z")).await;
    event(&world, &vehicle("deregister", "2026-01-04T00:00:00Z")).await;
    let (start, finish) = ("2026-01-02T12:00:00Z", "2026-01-03T12:00:00Z");
    event(&world, &period("p", "operation", start, finish)).await;
    let (start, finish) = ("2026-01-03T01:00:00Z", "2026-01-03T02:00:00Z");
    event(&world, &period("b", "break", start, finish)).await;
    let summaries = world.refresh().await;
    assert_eq!(touched(&summaries)["final.vehicle_day"], (2, 0));
    let known = ["1", "0", "0.0"];
    let with_break = ["1", "0", "3600.0"];
    assert_eq!(
        numbers().await,
        [unknown, known, with_break, unknown, unknown]
    );
    let taken_back = r#"{"event":"delete","on":"operating_period","at":"2026-01-04T00:00:00Z","organization_id":"o","data":{"id":"ID"}}"#;
    for id in ["p", "b"] {
        event(&world, &taken_back.replace("ID", id)).await;
    }
    let summaries = world.refresh().await;
    let found = touched(&summaries);
    assert_eq!(found["final.vehicle_operation_metadata"], (0, 1));
    assert_eq!(found["final.vehicle_day"], (2, 0));
    let registered = ["2", "0", "0.0"];
    assert_eq!(
        numbers().await,
        [unknown, registered, registered, unknown, unknown]
    );
}

#[tokio::test]
async fn a_latitude_of_zero_is_a_place_and_milliseconds_stay() {
    let world = World::new();
    let mut times = [at(0, 0), at(0, 10), at(0, 20)];
    times[1] = times[1].saturating_add_micros(123_456);
    let points = times.into_iter().zip([0.1, 0.0, -0.1]);
    world
        .store(points.map(|(time, lat)| position("v", time, lat)))
        .await;
    world.refresh().await;
    let sql = "SELECT updated_at, driven_meters FROM final.vehicle_position_data ORDER BY 1";
    let cells = world.cells(sql).await;
    assert_eq!(cells[1][0], "2026-01-01T00:00:10.123456Z");
    let step = haversine_m(place(0.1, 4.0), place(0.0, 4.0));
    for row in &cells[1..] {
        let found: f64 = row[1].parse().unwrap();
        assert!((found - step).abs() <= 1e-9 * step, "{found} {step}");
    }
}

#[tokio::test]
async fn a_column_added_to_a_model_is_there_for_every_date() {
    let world = World::new();
    five_days(&world).await;
    let mut models = builtin();
    let model = models.iter_mut().find(|m| m.name == "vehicle_day").unwrap();
    let wider = model
        .sql
        .replace("-- nullable:", "-- nullable: metres_a_position")
        .replace(
            "  days.date\nFROM days",
            "  days.driven_meters / days.positions AS metres_a_position,\n  days.date\nFROM days",
        );
    *model = Model::parse("vehicle_day.sql", &wider).unwrap();
    let summaries = world.run(&models).await.unwrap();
    assert_eq!(touched(&summaries)["final.vehicle_day"], (5, 0));
    let sql = "SELECT count(*), count(metres_a_position) FROM final.vehicle_day";
    assert_eq!(world.cells(sql).await, [["5", "5"]]);
}
