CREATE SCHEMA IF NOT EXISTS "raw";
CREATE SCHEMA IF NOT EXISTS "treated";
CREATE SCHEMA IF NOT EXISTS "final";

-- Every stored position, as stored.
CREATE OR REPLACE VIEW "raw"."deliverer_location" AS SELECT
  CAST("order_id" AS VARCHAR) AS "order_id",
  CAST("deliverer_id" AS VARCHAR) AS "deliverer_id",
  CAST("delivery_state" AS VARCHAR) AS "delivery_state",
  CAST("event_time" AS TIMESTAMP WITH TIME ZONE) AS "event_time",
  CAST("received_time" AS TIMESTAMP WITH TIME ZONE) AS "received_time",
  CAST("lat" AS DOUBLE) AS "lat",
  CAST("lon" AS DOUBLE) AS "lon",
  CAST("speed_mps" AS DOUBLE) AS "speed_mps",
  CAST("heading_deg" AS DOUBLE) AS "heading_deg",
  CAST("accuracy_m" AS DOUBLE) AS "accuracy_m",
  CAST("altitude_m" AS DOUBLE) AS "altitude_m",
  CAST("battery" AS DOUBLE) AS "battery",
  CAST("seq" AS BIGINT) AS "seq",
  CAST("source" AS VARCHAR) AS "source",
  CAST("writer_id" AS VARCHAR) AS "writer_id",
  CAST("writer_seq" AS BIGINT) AS "writer_seq",
  CAST("event_date" AS DATE) AS "event_date"
FROM read_parquet('s3://example-bucket/fleet/raw/deliverer_location/event_date=*/*.parquet', hive_partitioning = true, hive_types = {'event_date': 'DATE'}, union_by_name = true);

-- Every fleet event, its data as the JSON text that was received.
CREATE OR REPLACE VIEW "raw"."fleet_event" AS SELECT
  CAST("organization_id" AS VARCHAR) AS "organization_id",
  CAST("on" AS VARCHAR) AS "on",
  CAST("entity_id" AS VARCHAR) AS "entity_id",
  CAST("at" AS TIMESTAMP WITH TIME ZONE) AS "at",
  CAST("received_time" AS TIMESTAMP WITH TIME ZONE) AS "received_time",
  CAST("data" AS VARCHAR) AS "data",
  CAST("writer_id" AS VARCHAR) AS "writer_id",
  CAST("writer_seq" AS BIGINT) AS "writer_seq",
  CAST("event_date" AS DATE) AS "event_date",
  CAST("event" AS VARCHAR) AS "event"
FROM read_parquet('s3://example-bucket/fleet/raw/fleet_event/event_date=*/event=*/*.parquet', hive_partitioning = true, hive_types = {'event_date': 'DATE', 'event': 'VARCHAR'}, union_by_name = true);

-- Every dead letter: the bytes that were received, and why they were refused.
CREATE OR REPLACE VIEW "raw"."rejected" AS SELECT
  CAST("reason" AS VARCHAR) AS "reason",
  CAST("detail" AS VARCHAR) AS "detail",
  CAST("topic" AS VARCHAR) AS "topic",
  CAST("payload" AS BLOB) AS "payload",
  CAST("received_time" AS TIMESTAMP WITH TIME ZONE) AS "received_time",
  CAST("item" AS BIGINT) AS "item",
  CAST("log_seq" AS BIGINT) AS "log_seq",
  CAST("writer_id" AS VARCHAR) AS "writer_id",
  CAST("writer_seq" AS BIGINT) AS "writer_seq",
  CAST("received_date" AS DATE) AS "received_date"
FROM read_parquet('s3://example-bucket/fleet/raw/rejected/received_date=*/*.parquet', hive_partitioning = true, hive_types = {'received_date': 'DATE'}, union_by_name = true);

-- Every position once, with flags for what is doubtful about it. Nothing doubtful is left out.
CREATE OR REPLACE VIEW "treated"."deliverer_location" AS SELECT
  CAST("order_id" AS VARCHAR) AS "order_id",
  CAST("deliverer_id" AS VARCHAR) AS "deliverer_id",
  CAST("delivery_state" AS VARCHAR) AS "delivery_state",
  CAST("event_time" AS TIMESTAMP WITH TIME ZONE) AS "event_time",
  CAST("received_time" AS TIMESTAMP WITH TIME ZONE) AS "received_time",
  CAST("lat" AS DOUBLE) AS "lat",
  CAST("lon" AS DOUBLE) AS "lon",
  CAST("speed_mps" AS DOUBLE) AS "speed_mps",
  CAST("heading_deg" AS DOUBLE) AS "heading_deg",
  CAST("accuracy_m" AS DOUBLE) AS "accuracy_m",
  CAST("altitude_m" AS DOUBLE) AS "altitude_m",
  CAST("battery" AS DOUBLE) AS "battery",
  CAST("seq" AS BIGINT) AS "seq",
  CAST("source" AS VARCHAR) AS "source",
  CAST("writer_id" AS VARCHAR) AS "writer_id",
  CAST("writer_seq" AS BIGINT) AS "writer_seq",
  CAST("unknown_state" AS BOOLEAN) AS "unknown_state",
  CAST("from_the_future" AS BOOLEAN) AS "from_the_future",
  CAST("late" AS BOOLEAN) AS "late",
  CAST("null_island" AS BOOLEAN) AS "null_island",
  CAST("event_date" AS DATE) AS "event_date"
FROM read_parquet('s3://example-bucket/fleet/treated/deliverer_location/event_date=*/*.parquet', hive_partitioning = true, hive_types = {'event_date': 'DATE'}, union_by_name = true);

-- Every create and delete of an operating period once, with its state after the last one.
CREATE OR REPLACE VIEW "treated"."operating_period" AS SELECT
  CAST("organization_id" AS VARCHAR) AS "organization_id",
  CAST("operating_period_id" AS VARCHAR) AS "operating_period_id",
  CAST("event" AS VARCHAR) AS "event",
  CAST("event_time" AS TIMESTAMP WITH TIME ZONE) AS "event_time",
  CAST("received_time" AS TIMESTAMP WITH TIME ZONE) AS "received_time",
  CAST("kind" AS VARCHAR) AS "kind",
  CAST("vehicle_id" AS VARCHAR) AS "vehicle_id",
  CAST("operation_start" AS TIMESTAMP WITH TIME ZONE) AS "operation_start",
  CAST("operation_finish" AS TIMESTAMP WITH TIME ZONE) AS "operation_finish",
  CAST("writer_id" AS VARCHAR) AS "writer_id",
  CAST("writer_seq" AS BIGINT) AS "writer_seq",
  CAST("superseded" AS BOOLEAN) AS "superseded",
  CAST("in_force" AS BOOLEAN) AS "in_force",
  CAST("invalid_interval" AS BOOLEAN) AS "invalid_interval",
  CAST("unknown_kind" AS BOOLEAN) AS "unknown_kind",
  CAST("from_the_future" AS BOOLEAN) AS "from_the_future",
  CAST("late" AS BOOLEAN) AS "late",
  CAST("event_date" AS DATE) AS "event_date"
FROM read_parquet('s3://example-bucket/fleet/treated/operating_period/event_date=*/*.parquet', hive_partitioning = true, hive_types = {'event_date': 'DATE'}, union_by_name = true);

-- Every register, update and deregister of a vehicle once, with flags for what is doubtful about it.
CREATE OR REPLACE VIEW "treated"."vehicle_event" AS SELECT
  CAST("organization_id" AS VARCHAR) AS "organization_id",
  CAST("vehicle_id" AS VARCHAR) AS "vehicle_id",
  CAST("event" AS VARCHAR) AS "event",
  CAST("event_time" AS TIMESTAMP WITH TIME ZONE) AS "event_time",
  CAST("received_time" AS TIMESTAMP WITH TIME ZONE) AS "received_time",
  CAST("located_at" AS TIMESTAMP WITH TIME ZONE) AS "located_at",
  CAST("lat" AS DOUBLE) AS "lat",
  CAST("lon" AS DOUBLE) AS "lon",
  CAST("writer_id" AS VARCHAR) AS "writer_id",
  CAST("writer_seq" AS BIGINT) AS "writer_seq",
  CAST("without_place" AS BOOLEAN) AS "without_place",
  CAST("invalid_place" AS BOOLEAN) AS "invalid_place",
  CAST("unread_time" AS BOOLEAN) AS "unread_time",
  CAST("from_the_future" AS BOOLEAN) AS "from_the_future",
  CAST("late" AS BOOLEAN) AS "late",
  CAST("event_date" AS DATE) AS "event_date"
FROM read_parquet('s3://example-bucket/fleet/treated/vehicle_event/event_date=*/*.parquet', hive_partitioning = true, hive_types = {'event_date': 'DATE'}, union_by_name = true);

-- From when to when a vehicle was registered, one row for each time it was.
CREATE OR REPLACE VIEW "treated"."vehicle_life" AS SELECT
  CAST("organization_id" AS VARCHAR) AS "organization_id",
  CAST("vehicle_id" AS VARCHAR) AS "vehicle_id",
  CAST("registered_at" AS TIMESTAMP WITH TIME ZONE) AS "registered_at",
  CAST("deregistered_at" AS TIMESTAMP WITH TIME ZONE) AS "deregistered_at",
  CAST("event_date" AS DATE) AS "event_date"
FROM read_parquet('s3://example-bucket/fleet/treated/vehicle_life/event_date=*/*.parquet', hive_partitioning = true, hive_types = {'event_date': 'DATE'}, union_by_name = true);

-- Orders and deliverers seen per day and delivery state. Positions without a state are a group of their own.
CREATE OR REPLACE VIEW "final"."deliverer_location_aggregated" AS SELECT
  CAST("date_deliver" AS DATE) AS "date_deliver",
  CAST("delivery_state" AS VARCHAR) AS "delivery_state",
  CAST("count_orders" AS BIGINT) AS "count_orders",
  CAST("count_distinct_deliverers" AS BIGINT) AS "count_distinct_deliverers",
  CAST("date" AS DATE) AS "date"
FROM read_parquet('s3://example-bucket/fleet/final/deliverer_location_aggregated/date=*/*.parquet', hive_partitioning = true, hive_types = {'date': 'DATE'}, union_by_name = true);

-- Each delivery of an order: start, arrival, time, way, stops and mean speed.
CREATE OR REPLACE VIEW "final"."delivery_trip" AS SELECT
  CAST("order_id" AS VARCHAR) AS "order_id",
  CAST("trip" AS BIGINT) AS "trip",
  CAST("deliverers" AS BIGINT) AS "deliverers",
  CAST("positions" AS BIGINT) AS "positions",
  CAST("started_at" AS TIMESTAMP WITH TIME ZONE) AS "started_at",
  CAST("last_at" AS TIMESTAMP WITH TIME ZONE) AS "last_at",
  CAST("arrived_at" AS TIMESTAMP WITH TIME ZONE) AS "arrived_at",
  CAST("duration_s" AS DOUBLE) AS "duration_s",
  CAST("distance_m" AS DOUBLE) AS "distance_m",
  CAST("stops" AS BIGINT) AS "stops",
  CAST("stopped_s" AS DOUBLE) AS "stopped_s",
  CAST("mean_speed_mps" AS DOUBLE) AS "mean_speed_mps",
  CAST("without_start" AS BOOLEAN) AS "without_start",
  CAST("date" AS DATE) AS "date"
FROM read_parquet('s3://example-bucket/fleet/final/delivery_trip/date=*/*.parquet', hive_partitioning = true, hive_types = {'date': 'DATE'}, union_by_name = true);

-- When each vehicle had a break; breaks that touch are one.
CREATE OR REPLACE VIEW "final"."vehicle_break" AS SELECT
  CAST("vehicle_id" AS VARCHAR) AS "vehicle_id",
  CAST("break_start" AS TIMESTAMP WITH TIME ZONE) AS "break_start",
  CAST("break_finish" AS TIMESTAMP WITH TIME ZONE) AS "break_finish",
  CAST("date" AS DATE) AS "date"
FROM read_parquet('s3://example-bucket/fleet/final/vehicle_break/date=*/*.parquet', hive_partitioning = true, hive_types = {'date': 'DATE'}, union_by_name = true);

-- When each vehicle was in operation: each operating period in force, cut to the time the vehicle was registered.
CREATE OR REPLACE VIEW "final"."vehicle_operation_metadata" AS SELECT
  CAST("vehicle_id" AS VARCHAR) AS "vehicle_id",
  CAST("operating_period_id" AS VARCHAR) AS "operating_period_id",
  CAST("operation_start" AS TIMESTAMP WITH TIME ZONE) AS "operation_start",
  CAST("operation_finish" AS TIMESTAMP WITH TIME ZONE) AS "operation_finish",
  CAST("organization_id" AS VARCHAR) AS "organization_id",
  CAST("date" AS DATE) AS "date"
FROM read_parquet('s3://example-bucket/fleet/final/vehicle_operation_metadata/date=*/*.parquet', hive_partitioning = true, hive_types = {'date': 'DATE'}, union_by_name = true);

-- Every position of every deliverer and vehicle, with the metres driven since its previous one and that one's time.
CREATE OR REPLACE VIEW "final"."vehicle_position_data" AS SELECT
  CAST("vehicle_id" AS VARCHAR) AS "vehicle_id",
  CAST("updated_at" AS TIMESTAMP WITH TIME ZONE) AS "updated_at",
  CAST("lat" AS DOUBLE) AS "lat",
  CAST("lon" AS DOUBLE) AS "lon",
  CAST("driven_meters" AS DOUBLE) AS "driven_meters",
  CAST("previous_at" AS TIMESTAMP WITH TIME ZONE) AS "previous_at",
  CAST("date" AS DATE) AS "date"
FROM read_parquet('s3://example-bucket/fleet/final/vehicle_position_data/date=*/*.parquet', hive_partitioning = true, hive_types = {'date': 'DATE'}, union_by_name = true);

-- Mean and standard deviation of speed by hour and H3 cell of resolution 8 (0.7 square kilometres).
CREATE OR REPLACE VIEW "final"."speed_by_hour_and_cell" AS SELECT
  CAST("hour_start" AS TIMESTAMP WITH TIME ZONE) AS "hour_start",
  CAST("cell" AS VARCHAR) AS "cell",
  CAST("vehicles" AS BIGINT) AS "vehicles",
  CAST("samples" AS BIGINT) AS "samples",
  CAST("mean_speed_mps" AS DOUBLE) AS "mean_speed_mps",
  CAST("stddev_speed_mps" AS DOUBLE) AS "stddev_speed_mps",
  CAST("date" AS DATE) AS "date"
FROM read_parquet('s3://example-bucket/fleet/final/speed_by_hour_and_cell/date=*/*.parquet', hive_partitioning = true, hive_types = {'date': 'DATE'}, union_by_name = true);

-- Travel times between zones by hour of departure; a zone is an H3 cell of resolution 7 (5 square kilometres).
CREATE OR REPLACE VIEW "final"."travel_time_between_zones" AS SELECT
  CAST("hour_start" AS TIMESTAMP WITH TIME ZONE) AS "hour_start",
  CAST("origin_zone" AS VARCHAR) AS "origin_zone",
  CAST("destination_zone" AS VARCHAR) AS "destination_zone",
  CAST("travels" AS BIGINT) AS "travels",
  CAST("vehicles" AS BIGINT) AS "vehicles",
  CAST("mean_s" AS DOUBLE) AS "mean_s",
  CAST("stddev_s" AS DOUBLE) AS "stddev_s",
  CAST("least_s" AS DOUBLE) AS "least_s",
  CAST("greatest_s" AS DOUBLE) AS "greatest_s",
  CAST("geometric_mean_s" AS DOUBLE) AS "geometric_mean_s",
  CAST("geometric_stddev" AS DOUBLE) AS "geometric_stddev",
  CAST("date" AS DATE) AS "date"
FROM read_parquet('s3://example-bucket/fleet/final/travel_time_between_zones/date=*/*.parquet', hive_partitioning = true, hive_types = {'date': 'DATE'}, union_by_name = true);

-- Each vehicle's date: what it drove, how long it moved, stood and had breaks, and which positions count for no operation.
CREATE OR REPLACE VIEW "final"."vehicle_day" AS SELECT
  CAST("vehicle_id" AS VARCHAR) AS "vehicle_id",
  CAST("first_at" AS TIMESTAMP WITH TIME ZONE) AS "first_at",
  CAST("last_at" AS TIMESTAMP WITH TIME ZONE) AS "last_at",
  CAST("positions" AS BIGINT) AS "positions",
  CAST("driven_m" AS DOUBLE) AS "driven_m",
  CAST("break_m" AS DOUBLE) AS "break_m",
  CAST("moving_s" AS DOUBLE) AS "moving_s",
  CAST("idle_s" AS DOUBLE) AS "idle_s",
  CAST("break_s" AS DOUBLE) AS "break_s",
  CAST("positions_outside_operations" AS BIGINT) AS "positions_outside_operations",
  CAST("positions_unregistered" AS BIGINT) AS "positions_unregistered",
  CAST("date" AS DATE) AS "date"
FROM read_parquet('s3://example-bucket/fleet/final/vehicle_day/date=*/*.parquet', hive_partitioning = true, hive_types = {'date': 'DATE'}, union_by_name = true);

-- What each vehicle drove on each date in each of its operations, breaks apart.
CREATE OR REPLACE VIEW "final"."vehicle_operation_distance" AS SELECT
  CAST("vehicle_id" AS VARCHAR) AS "vehicle_id",
  CAST("operating_period_id" AS VARCHAR) AS "operating_period_id",
  CAST("operation_start" AS TIMESTAMP WITH TIME ZONE) AS "operation_start",
  CAST("operation_finish" AS TIMESTAMP WITH TIME ZONE) AS "operation_finish",
  CAST("organization_id" AS VARCHAR) AS "organization_id",
  CAST("positions" AS BIGINT) AS "positions",
  CAST("driven_m" AS DOUBLE) AS "driven_m",
  CAST("break_m" AS DOUBLE) AS "break_m",
  CAST("date" AS DATE) AS "date"
FROM read_parquet('s3://example-bucket/fleet/final/vehicle_operation_distance/date=*/*.parquet', hive_partitioning = true, hive_types = {'date': 'DATE'}, union_by_name = true);

-- How many vehicles operated in each operating period and what they drove, in all and on average.
CREATE OR REPLACE VIEW "final"."operating_period_distance" AS SELECT
  CAST("operating_period_id" AS VARCHAR) AS "operating_period_id",
  CAST("organization_id" AS VARCHAR) AS "organization_id",
  CAST("vehicles" AS BIGINT) AS "vehicles",
  CAST("driven_m" AS DOUBLE) AS "driven_m",
  CAST("average_driven_m" AS DOUBLE) AS "average_driven_m",
  CAST("break_m" AS DOUBLE) AS "break_m",
  CAST("date" AS DATE) AS "date"
FROM read_parquet('s3://example-bucket/fleet/final/operating_period_distance/date=*/*.parquet', hive_partitioning = true, hive_types = {'date': 'DATE'}, union_by_name = true);
