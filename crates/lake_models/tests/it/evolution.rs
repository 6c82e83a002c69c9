//! A column more in a raw table: what was written before it reads as null, and models that do not know it go on.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use lake::delta::{Add, Commit, Table};
use lake::entities::DELIVERER_LOCATION;
use lake::entity::TableSchema;
use lake::parquet_file::FileWriter;
use lake::storage::ObjectKey;
use lake_models::{Model, ModelOutcome, builtin};
use model::UtcMicros;

use crate::world::{World, at, position};

/// Adds the rows there are again, three days later and with a column more, as a later version would.
async fn offload_with_fuel(world: &World) {
    let mut fields: Vec<Field> = Vec::new();
    let declared = DELIVERER_LOCATION.schema();
    fields.extend(declared.file.fields().iter().map(|f| f.as_ref().clone()));
    let names: Vec<_> = fields.iter().map(|field| field.name().clone()).collect();
    fields.push(Field::new("fuel", DataType::Float64, true));
    let schema = TableSchema {
        file: Arc::new(Schema::new(fields)),
        partitions: declared.partitions,
    };
    let columns = names.iter().map(|name| match name.as_str() {
        "event_time" => "event_time + INTERVAL '3' DAY AS event_time".to_owned(),
        "writer_seq" => "writer_seq + 1000 AS writer_seq".to_owned(),
        name => name.to_owned(),
    });
    let columns: Vec<_> = columns.collect();
    let sql = format!(
        "SELECT {}, CAST(1.5 AS DOUBLE) AS fuel FROM raw.deliverer_location",
        columns.join(", ")
    );
    let found = world.query(&sql).await.unwrap();
    let mut writer = FileWriter::new("raw.deliverer_location".to_owned(), &schema.file).unwrap();
    for batch in &found.batches {
        let columns = batch.columns().iter().zip(schema.file.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type()).unwrap());
        let batch = RecordBatch::try_new(schema.file.clone(), columns.collect()).unwrap();
        writer.write(&batch).unwrap();
    }
    let (content, rows) = writer.finish().unwrap();
    let storage = world.root().open();
    let folder = ObjectKey::new("raw/deliverer_location".to_owned()).unwrap();
    let table = Table::new(storage.clone(), folder);
    let mut snapshot = table.load().await.unwrap();
    let path = "event_date=2026-01-04/part-later.parquet";
    let size = content.len() as u64;
    let key = table.key(path).unwrap();
    storage.put(&key, content).await.unwrap();
    let date = Some("2026-01-04".to_owned());
    let add = Add {
        path: path.to_owned(),
        partition_values: [("event_date".to_owned(), date)].into(),
        size,
        modification_time: 0,
        data_change: true,
        stats: Some(Add::stats_of(rows)),
        tags: None,
    };
    let commit = Commit {
        operation: "WRITE",
        schema: &schema,
        now: UtcMicros::default(),
        adds: vec![add],
        removes: Vec::new(),
        transactions: Vec::new(),
        once: false,
    };
    table.commit(&mut snapshot, &commit).await.unwrap();
}

#[tokio::test]
async fn a_column_added_to_a_raw_table_is_null_where_it_was_not_yet() {
    let world = World::new();
    world
        .store([position("a", at(0, 0), 52.0), position("b", at(0, 1), 53.0)])
        .await;
    world.refresh().await;
    offload_with_fuel(&world).await;
    let sql = "SELECT event_date, count(*), count(fuel), sum(fuel) FROM raw.deliverer_location \
               GROUP BY 1 ORDER BY 1";
    let expected = [
        ["2026-01-01", "2", "0", ""],
        ["2026-01-04", "2", "2", "3.0"],
    ];
    assert_eq!(world.cells(sql).await, expected);

    // Models that do not know it take the new rows.
    let summaries = world.run(&builtin()).await.unwrap();
    assert_eq!(summaries[0].outcome, ModelOutcome::Ran);
    assert_eq!(summaries[0].partitions_written, 1);
    let days = "SELECT count(*) FROM final.vehicle_day";
    assert_eq!(world.cells(days).await, [["4"]]);

    // A model that comes to know it says so of every date.
    let mut models = builtin();
    let model = &mut models[0];
    assert_eq!(model.full_name(), "treated.deliverer_location");
    let wider = model
        .sql
        .replace("-- nullable: order_id", "-- nullable: fuel, order_id")
        .replacen("  battery,\n", "  battery,\n  fuel,\n", 1);
    *model = Model::parse("deliverer_location.sql", &wider).unwrap();
    world.run(&models).await.unwrap();
    let treated = sql.replace("raw.", "treated.");
    assert_eq!(world.cells(&treated).await, expected);
}
