//! Models: what they compute, what they replace, what they refuse.

use lake_models::{Model, ModelError, ModelOutcome, ModelSummary};
use model::geo::haversine_m;
use model::{DeliveryState, OrderId};

use crate::world::{World, at, place, position};

fn of<'a>(summaries: &'a [ModelSummary], name: &str) -> &'a ModelSummary {
    summaries.iter().find(|s| s.model == name).unwrap()
}

#[tokio::test]
async fn orders_and_deliverers_are_counted_by_day_and_state() {
    let world = World::new();
    let mut second = position("b", at(0, 10), 52.0);
    second.order_id = Some(OrderId::new("order of a").unwrap());
    let mut vehicle = position("v", at(0, 11), 52.0);
    (vehicle.order_id, vehicle.delivery_state) = (None, None);
    let mut odd = position("a", at(1, 0), 52.0);
    odd.delivery_state = DeliveryState::new("lost");
    world
        .store([
            position("a", at(0, 0), 52.0),
            position("a", at(0, 5), 52.1),
            second,
            vehicle,
            odd,
        ])
        .await;
    world.refresh().await;
    let rows = world
        .cells("SELECT date_deliver, delivery_state, count_orders, count_distinct_deliverers FROM final.deliverer_location_aggregated ORDER BY 1, 2")
        .await;
    assert_eq!(
        rows,
        [
            ["2026-01-01", "start", "1", "2"],
            ["2026-01-01", "", "0", "1"],
            ["2026-01-02", "lost", "1", "1"],
        ]
    );
    let flags = world
        .cells("SELECT count(*) FROM treated.deliverer_location WHERE unknown_state")
        .await;
    assert_eq!(flags, [["1"]]);
}

#[tokio::test]
async fn doubtful_positions_are_flagged_and_kept() {
    let world = World::new();
    let mut ahead = position("a", at(1, 400), 52.0);
    ahead.received_time = at(1, 0);
    let mut late = position("a", at(0, 0), 52.0);
    late.received_time = at(2, 0);
    let mut nowhere = position("a", at(0, 1), 0.0);
    nowhere.lon = place(0.0, 0.0).1;
    world
        .store([ahead, late, nowhere, position("a", at(0, 2), 1.0)])
        .await;
    world.refresh().await;
    let rows = world
        .cells(
            "SELECT from_the_future, late, null_island, unknown_state \
             FROM treated.deliverer_location ORDER BY event_time",
        )
        .await;
    assert_eq!(
        rows,
        [
            ["false", "true", "false", "false"],
            ["false", "false", "true", "false"],
            ["false", "false", "false", "false"],
            ["true", "false", "false", "false"],
        ]
    );
}

#[tokio::test]
async fn driven_metres_are_those_to_the_previous_position_on_any_date() {
    let world = World::new();
    world
        .store([
            position("v", at(2, 0), 52.2),
            position("w", at(0, 50), 10.0),
            position("v", at(0, 0), 52.0),
        ])
        .await;
    world.refresh().await;
    let metres = || async {
        let sql =
            "SELECT vehicle_id, driven_meters FROM vehicle_position_data ORDER BY 1, updated_at";
        let cells = world.cells(sql).await;
        cells
            .into_iter()
            .map(|row| row[1].parse::<f64>().unwrap())
            .collect::<Vec<_>>()
    };
    let step = |from, to| haversine_m(place(from, 4.0), place(to, 4.0));
    let close = |found: Vec<f64>, expected: &[f64]| {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() <= 1e-9 * expected.max(1.0),
                "{found} {expected}"
            );
        }
    };
    close(metres().await, &[0.0, step(52.0, 52.2), 0.0]);
    let before = world.files("final/vehicle_position_data/date=2026-01-01");

    // A late position on a date of its own shortens the step of the next one, two days later, and leaves the
    // partition before it alone.
    world.store([position("v", at(1, 0), 52.1)]).await;
    let summaries = world.refresh().await;
    close(
        metres().await,
        &[0.0, step(52.0, 52.1), step(52.1, 52.2), 0.0],
    );
    let summary = of(&summaries, "final.vehicle_position_data");
    assert_eq!(
        (summary.partitions_written, summary.partitions_unchanged),
        (2, 1)
    );
    assert_eq!(
        world.files("final/vehicle_position_data/date=2026-01-01"),
        before
    );
    assert_eq!(
        world
            .files("final/vehicle_position_data/date=2026-01-03")
            .len(),
        1
    );
    let summary = of(&summaries, "treated.deliverer_location");
    assert_eq!(
        (summary.partitions_written, summary.partitions_unchanged),
        (1, 0)
    );
}

#[tokio::test]
async fn an_unchanged_input_makes_no_commit_and_no_other_bytes() {
    let world = World::new();
    let points = (0..3_000).map(|n: i32| {
        position(
            &format!("v{}", n % 7),
            at(0, n.into()),
            f64::from(n) / 10_000.0,
        )
    });
    world.store(points).await;
    assert!(
        world
            .refresh()
            .await
            .iter()
            .all(|s| s.outcome == ModelOutcome::Ran)
    );
    let (treated, last) = (world.files("treated"), world.files("final"));
    assert!(
        world
            .refresh()
            .await
            .iter()
            .all(|s| s.outcome == ModelOutcome::Unchanged)
    );
    assert_eq!(
        (world.files("treated"), world.files("final")),
        (treated, last)
    );
}

#[tokio::test]
async fn a_changed_model_is_computed_anew_and_replaces_only_what_differs() {
    let world = World::new();
    world
        .store([position("a", at(0, 0), 52.0), position("a", at(1, 0), 53.0)])
        .await;
    world.refresh().await;
    let mut models = lake_models::builtin();
    let aggregated = models
        .iter_mut()
        .find(|m| m.name.ends_with("aggregated"))
        .unwrap();
    aggregated.sql.push_str("-- said otherwise\n");
    let summaries = world.run(&models).await.unwrap();
    let summary = of(&summaries, "final.deliverer_location_aggregated");
    assert_eq!(summary.outcome, ModelOutcome::Ran);
    assert_eq!(
        (summary.partitions_written, summary.partitions_unchanged),
        (0, 2)
    );
}

#[tokio::test]
async fn what_a_dead_run_left_is_tidied() {
    let world = World::new();
    world.store([position("a", at(0, 0), 52.0)]).await;
    world.refresh().await;
    let orphan = "final/vehicle_position_data/date=2026-01-01/part-0000000000000000.parquet";
    std::fs::write(world.lake_folder().join(orphan), "not live").unwrap();
    world.refresh().await;
    assert_eq!(
        world
            .files("final/vehicle_position_data/date=2026-01-01")
            .len(),
        1
    );
}

const BROKEN: &str = "-- model: final.broken
-- about: Breaks its checks.
-- partition: date
-- inputs: raw.deliverer_location
-- scope: history
-- order: deliverer_id
-- CHECK
SELECT deliverer_id, lat, event_date AS date FROM raw.deliverer_location
";

#[tokio::test]
async fn a_broken_check_publishes_nothing_and_names_rows() {
    let world = World::new();
    world
        .store([position("a", at(0, 0), 52.0), position("a", at(0, 1), 53.5)])
        .await;
    world.offload().await;
    for (check, named) in [
        ("accepted: lat < 53", "53.5"),
        ("unique: deliverer_id", "| 2"),
        ("same_rows: SELECT 3", "| 3"),
        ("same: SUM(lat) == SELECT 105.4", "105.5"),
        (
            "references: deliverer_id -> raw.deliverer_location.order_id",
            "| a",
        ),
        ("not_null: lat, deliverer_id", ""),
        ("same: SUM(lat) == SELECT 105.5", ""),
        (
            "references: deliverer_id -> raw.deliverer_location.deliverer_id",
            "",
        ),
    ] {
        let text = BROKEN.replace("CHECK", check);
        let model = Model::parse("broken.sql", &text).unwrap();
        let outcome = world.run(&[model]).await;
        if named.is_empty() {
            // Negative control: a check that holds lets the same result through.
            assert_eq!(outcome.unwrap()[0].rows, 2);
            std::fs::remove_dir_all(world.lake_folder().join("final/broken")).unwrap();
            continue;
        }
        let error = outcome.unwrap_err();
        assert!(matches!(error, ModelError::Check { .. }), "{error}");
        assert!(error.to_string().contains(named), "{error}");
        assert!(!world.lake_folder().join("final/broken").exists());
    }
}

#[tokio::test]
async fn a_column_without_a_null_policy_is_refused_where_there_is_one() {
    let world = World::new();
    world.store([position("a", at(0, 0), 52.0)]).await;
    world.offload().await;
    for (policy, is_whole) in [
        ("not_null: deliverer_id, date\n-- nullable: lat", true),
        ("not_null: deliverer_id\n-- nullable: lat", false),
    ] {
        let model = Model::parse("x.sql", &BROKEN.replace("CHECK", policy)).unwrap();
        let outcome = world.run(&[model]).await;
        let named = outcome.map_err(|error| error.to_string().contains("the column date"));
        assert_eq!(named.is_ok(), is_whole);
        assert!(named.err().unwrap_or(true));
    }
}

#[tokio::test]
async fn a_lake_without_fleet_events_has_its_days_too() {
    let world = World::new();
    world
        .store([position("a", at(0, 0), 52.0), position("a", at(0, 9), 52.0)])
        .await;
    let summaries = world.refresh().await;
    assert!(summaries.iter().all(|s| s.outcome == ModelOutcome::Ran));
    let sql = "SELECT positions, idle_s, positions_unregistered FROM final.vehicle_day";
    assert_eq!(world.cells(sql).await, [["2", "9.0", "2"]]);
    let none = "SELECT count(*) FROM final.vehicle_operation_metadata";
    assert_eq!(world.cells(none).await, [["0"]]);
}

#[tokio::test]
async fn without_rows_there_is_nothing_to_model() {
    let world = World::new();
    let summaries = world.refresh().await;
    assert!(
        summaries.iter().all(|s| s.outcome == ModelOutcome::NoInput),
        "{summaries:?}"
    );
}
