CREATE DATABASE IF NOT EXISTS `raw`;
CREATE DATABASE IF NOT EXISTS `treated`;
CREATE DATABASE IF NOT EXISTS `final`;

-- Every stored position, as stored.
CREATE TABLE IF NOT EXISTS `raw`.`deliverer_location` (
  `order_id` string,
  `deliverer_id` string,
  `delivery_state` string,
  `event_time` timestamp,
  `received_time` timestamp,
  `lat` double,
  `lon` double,
  `speed_mps` double,
  `heading_deg` double,
  `accuracy_m` double,
  `altitude_m` double,
  `battery` double,
  `seq` bigint,
  `source` string,
  `writer_id` string,
  `writer_seq` bigint,
  `event_date` date
)
USING parquet
PARTITIONED BY (`event_date`)
LOCATION 's3a://example-bucket/fleet/raw/deliverer_location';
MSCK REPAIR TABLE `raw`.`deliverer_location`;

-- Every fleet event, its data as the JSON text that was received.
CREATE TABLE IF NOT EXISTS `raw`.`fleet_event` (
  `organization_id` string,
  `on` string,
  `entity_id` string,
  `at` timestamp,
  `received_time` timestamp,
  `data` string,
  `writer_id` string,
  `writer_seq` bigint,
  `event_date` date,
  `event` string
)
USING parquet
PARTITIONED BY (`event_date`, `event`)
LOCATION 's3a://example-bucket/fleet/raw/fleet_event';
MSCK REPAIR TABLE `raw`.`fleet_event`;

-- Every dead letter: the bytes that were received, and why they were refused.
CREATE TABLE IF NOT EXISTS `raw`.`rejected` (
  `reason` string,
  `detail` string,
  `topic` string,
  `payload` binary,
  `received_time` timestamp,
  `item` bigint,
  `log_seq` bigint,
  `writer_id` string,
  `writer_seq` bigint,
  `received_date` date
)
USING parquet
PARTITIONED BY (`received_date`)
LOCATION 's3a://example-bucket/fleet/raw/rejected';
MSCK REPAIR TABLE `raw`.`rejected`;

-- Every position once, with flags for what is doubtful about it. Nothing doubtful is left out.
CREATE TABLE IF NOT EXISTS `treated`.`deliverer_location` (
  `order_id` string,
  `deliverer_id` string,
  `delivery_state` string,
  `event_time` timestamp,
  `received_time` timestamp,
  `lat` double,
  `lon` double,
  `speed_mps` double,
  `heading_deg` double,
  `accuracy_m` double,
  `altitude_m` double,
  `battery` double,
  `seq` bigint,
  `source` string,
  `writer_id` string,
  `writer_seq` bigint,
  `unknown_state` boolean,
  `from_the_future` boolean,
  `late` boolean,
  `null_island` boolean,
  `event_date` date
)
USING parquet
PARTITIONED BY (`event_date`)
LOCATION 's3a://example-bucket/fleet/treated/deliverer_location';
MSCK REPAIR TABLE `treated`.`deliverer_location`;

-- Every create and delete of an operating period once, with its state after the last one.
CREATE TABLE IF NOT EXISTS `treated`.`operating_period` (
  `organization_id` string,
  `operating_period_id` string,
  `event` string,
  `event_time` timestamp,
  `received_time` timestamp,
  `kind` string,
  `vehicle_id` string,
  `operation_start` timestamp,
  `operation_finish` timestamp,
  `writer_id` string,
  `writer_seq` bigint,
  `superseded` boolean,
  `in_force` boolean,
  `invalid_interval` boolean,
  `unknown_kind` boolean,
  `from_the_future` boolean,
  `late` boolean,
  `event_date` date
)
USING parquet
PARTITIONED BY (`event_date`)
LOCATION 's3a://example-bucket/fleet/treated/operating_period';
MSCK REPAIR TABLE `treated`.`operating_period`;

-- Every register, update and deregister of a vehicle once, with flags for what is doubtful about it.
CREATE TABLE IF NOT EXISTS `treated`.`vehicle_event` (
  `organization_id` string,
  `vehicle_id` string,
  `event` string,
  `event_time` timestamp,
  `received_time` timestamp,
  `located_at` timestamp,
  `lat` double,
  `lon` double,
  `writer_id` string,
  `writer_seq` bigint,
  `without_place` boolean,
  `invalid_place` boolean,
  `unread_time` boolean,
  `from_the_future` boolean,
  `late` boolean,
  `event_date` date
)
USING parquet
PARTITIONED BY (`event_date`)
LOCATION 's3a://example-bucket/fleet/treated/vehicle_event';
MSCK REPAIR TABLE `treated`.`vehicle_event`;

-- From when to when a vehicle was registered, one row for each time it was.
CREATE TABLE IF NOT EXISTS `treated`.`vehicle_life` (
  `organization_id` string,
  `vehicle_id` string,
  `registered_at` timestamp,
  `deregistered_at` timestamp,
  `event_date` date
)
USING parquet
PARTITIONED BY (`event_date`)
LOCATION 's3a://example-bucket/fleet/treated/vehicle_life';
MSCK REPAIR TABLE `treated`.`vehicle_life`;

-- Orders and deliverers seen per day and delivery state. Positions without a state are a group of their own.
CREATE TABLE IF NOT EXISTS `final`.`deliverer_location_aggregated` (
  `date_deliver` date,
  `delivery_state` string,
  `count_orders` bigint,
  `count_distinct_deliverers` bigint,
  `date` date
)
USING parquet
PARTITIONED BY (`date`)
LOCATION 's3a://example-bucket/fleet/final/deliverer_location_aggregated';
MSCK REPAIR TABLE `final`.`deliverer_location_aggregated`;

-- Each delivery of an order: start, arrival, time, way, stops and mean speed.
CREATE TABLE IF NOT EXISTS `final`.`delivery_trip` (
  `order_id` string,
  `trip` bigint,
  `deliverers` bigint,
  `positions` bigint,
  `started_at` timestamp,
  `last_at` timestamp,
  `arrived_at` timestamp,
  `duration_s` double,
  `distance_m` double,
  `stops` bigint,
  `stopped_s` double,
  `mean_speed_mps` double,
  `without_start` boolean,
  `date` date
)
USING parquet
PARTITIONED BY (`date`)
LOCATION 's3a://example-bucket/fleet/final/delivery_trip';
MSCK REPAIR TABLE `final`.`delivery_trip`;

-- When each vehicle had a break; breaks that touch are one.
CREATE TABLE IF NOT EXISTS `final`.`vehicle_break` (
  `vehicle_id` string,
  `break_start` timestamp,
  `break_finish` timestamp,
  `date` date
)
USING parquet
PARTITIONED BY (`date`)
LOCATION 's3a://example-bucket/fleet/final/vehicle_break';
MSCK REPAIR TABLE `final`.`vehicle_break`;

-- When each vehicle was in operation: each operating period in force, cut to the time the vehicle was registered.
CREATE TABLE IF NOT EXISTS `final`.`vehicle_operation_metadata` (
  `vehicle_id` string,
  `operating_period_id` string,
  `operation_start` timestamp,
  `operation_finish` timestamp,
  `organization_id` string,
  `date` date
)
USING parquet
PARTITIONED BY (`date`)
LOCATION 's3a://example-bucket/fleet/final/vehicle_operation_metadata';
MSCK REPAIR TABLE `final`.`vehicle_operation_metadata`;

-- Every position of every deliverer and vehicle, with the metres driven since its previous one and that one's time.
CREATE TABLE IF NOT EXISTS `final`.`vehicle_position_data` (
  `vehicle_id` string,
  `updated_at` timestamp,
  `lat` double,
  `lon` double,
  `driven_meters` double,
  `previous_at` timestamp,
  `date` date
)
USING parquet
PARTITIONED BY (`date`)
LOCATION 's3a://example-bucket/fleet/final/vehicle_position_data';
MSCK REPAIR TABLE `final`.`vehicle_position_data`;

-- Mean and standard deviation of speed by hour and H3 cell of resolution 8 (0.7 square kilometres).
CREATE TABLE IF NOT EXISTS `final`.`speed_by_hour_and_cell` (
  `hour_start` timestamp,
  `cell` string,
  `vehicles` bigint,
  `samples` bigint,
  `mean_speed_mps` double,
  `stddev_speed_mps` double,
  `date` date
)
USING parquet
PARTITIONED BY (`date`)
LOCATION 's3a://example-bucket/fleet/final/speed_by_hour_and_cell';
MSCK REPAIR TABLE `final`.`speed_by_hour_and_cell`;

-- Travel times between zones by hour of departure; a zone is an H3 cell of resolution 7 (5 square kilometres).
CREATE TABLE IF NOT EXISTS `final`.`travel_time_between_zones` (
  `hour_start` timestamp,
  `origin_zone` string,
  `destination_zone` string,
  `travels` bigint,
  `vehicles` bigint,
  `mean_s` double,
  `stddev_s` double,
  `least_s` double,
  `greatest_s` double,
  `geometric_mean_s` double,
  `geometric_stddev` double,
  `date` date
)
USING parquet
PARTITIONED BY (`date`)
LOCATION 's3a://example-bucket/fleet/final/travel_time_between_zones';
MSCK REPAIR TABLE `final`.`travel_time_between_zones`;

-- Each vehicle's date: what it drove, how long it moved, stood and had breaks, and which positions count for no operation.
CREATE TABLE IF NOT EXISTS `final`.`vehicle_day` (
  `vehicle_id` string,
  `first_at` timestamp,
  `last_at` timestamp,
  `positions` bigint,
  `driven_m` double,
  `break_m` double,
  `moving_s` double,
  `idle_s` double,
  `break_s` double,
  `positions_outside_operations` bigint,
  `positions_unregistered` bigint,
  `date` date
)
USING parquet
PARTITIONED BY (`date`)
LOCATION 's3a://example-bucket/fleet/final/vehicle_day';
MSCK REPAIR TABLE `final`.`vehicle_day`;

-- What each vehicle drove on each date in each of its operations, breaks apart.
CREATE TABLE IF NOT EXISTS `final`.`vehicle_operation_distance` (
  `vehicle_id` string,
  `operating_period_id` string,
  `operation_start` timestamp,
  `operation_finish` timestamp,
  `organization_id` string,
  `positions` bigint,
  `driven_m` double,
  `break_m` double,
  `date` date
)
USING parquet
PARTITIONED BY (`date`)
LOCATION 's3a://example-bucket/fleet/final/vehicle_operation_distance';
MSCK REPAIR TABLE `final`.`vehicle_operation_distance`;

-- How many vehicles operated in each operating period and what they drove, in all and on average.
CREATE TABLE IF NOT EXISTS `final`.`operating_period_distance` (
  `operating_period_id` string,
  `organization_id` string,
  `vehicles` bigint,
  `driven_m` double,
  `average_driven_m` double,
  `break_m` double,
  `date` date
)
USING parquet
PARTITIONED BY (`date`)
LOCATION 's3a://example-bucket/fleet/final/operating_period_distance';
MSCK REPAIR TABLE `final`.`operating_period_distance`;
