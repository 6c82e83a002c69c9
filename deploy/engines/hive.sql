CREATE DATABASE IF NOT EXISTS `lastmile_raw`;
CREATE DATABASE IF NOT EXISTS `lastmile_treated`;
CREATE DATABASE IF NOT EXISTS `lastmile_final`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_raw`.`deliverer_location` (
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
  `writer_seq` bigint
)
COMMENT 'Every stored position, as stored.'
PARTITIONED BY (
  `event_date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/raw/deliverer_location';
MSCK REPAIR TABLE `lastmile_raw`.`deliverer_location`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_raw`.`fleet_event` (
  `organization_id` string,
  `on` string,
  `entity_id` string,
  `at` timestamp,
  `received_time` timestamp,
  `data` string,
  `writer_id` string,
  `writer_seq` bigint
)
COMMENT 'Every fleet event, its data as the JSON text that was received.'
PARTITIONED BY (
  `event_date` date,
  `event` string
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/raw/fleet_event';
MSCK REPAIR TABLE `lastmile_raw`.`fleet_event`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_raw`.`rejected` (
  `reason` string,
  `detail` string,
  `topic` string,
  `payload` binary,
  `received_time` timestamp,
  `item` bigint,
  `log_seq` bigint,
  `writer_id` string,
  `writer_seq` bigint
)
COMMENT 'Every dead letter: the bytes that were received, and why they were refused.'
PARTITIONED BY (
  `received_date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/raw/rejected';
MSCK REPAIR TABLE `lastmile_raw`.`rejected`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_treated`.`deliverer_location` (
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
  `null_island` boolean
)
COMMENT 'Every position once, with flags for what is doubtful about it. Nothing doubtful is left out.'
PARTITIONED BY (
  `event_date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/treated/deliverer_location';
MSCK REPAIR TABLE `lastmile_treated`.`deliverer_location`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_treated`.`operating_period` (
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
  `late` boolean
)
COMMENT 'Every create and delete of an operating period once, with its state after the last one.'
PARTITIONED BY (
  `event_date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/treated/operating_period';
MSCK REPAIR TABLE `lastmile_treated`.`operating_period`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_treated`.`vehicle_event` (
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
  `late` boolean
)
COMMENT 'Every register, update and deregister of a vehicle once, with flags for what is doubtful about it.'
PARTITIONED BY (
  `event_date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/treated/vehicle_event';
MSCK REPAIR TABLE `lastmile_treated`.`vehicle_event`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_treated`.`vehicle_life` (
  `organization_id` string,
  `vehicle_id` string,
  `registered_at` timestamp,
  `deregistered_at` timestamp
)
COMMENT 'From when to when a vehicle was registered, one row for each time it was.'
PARTITIONED BY (
  `event_date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/treated/vehicle_life';
MSCK REPAIR TABLE `lastmile_treated`.`vehicle_life`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_final`.`deliverer_location_aggregated` (
  `date_deliver` date,
  `delivery_state` string,
  `count_orders` bigint,
  `count_distinct_deliverers` bigint
)
COMMENT 'Orders and deliverers seen per day and delivery state. Positions without a state are a group of their own.'
PARTITIONED BY (
  `date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/final/deliverer_location_aggregated';
MSCK REPAIR TABLE `lastmile_final`.`deliverer_location_aggregated`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_final`.`delivery_trip` (
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
  `without_start` boolean
)
COMMENT 'Each delivery of an order: start, arrival, time, way, stops and mean speed.'
PARTITIONED BY (
  `date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/final/delivery_trip';
MSCK REPAIR TABLE `lastmile_final`.`delivery_trip`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_final`.`vehicle_break` (
  `vehicle_id` string,
  `break_start` timestamp,
  `break_finish` timestamp
)
COMMENT 'When each vehicle had a break; breaks that touch are one.'
PARTITIONED BY (
  `date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/final/vehicle_break';
MSCK REPAIR TABLE `lastmile_final`.`vehicle_break`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_final`.`vehicle_operation_metadata` (
  `vehicle_id` string,
  `operating_period_id` string,
  `operation_start` timestamp,
  `operation_finish` timestamp,
  `organization_id` string
)
COMMENT 'When each vehicle was in operation: each operating period in force, cut to the time the vehicle was registered.'
PARTITIONED BY (
  `date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/final/vehicle_operation_metadata';
MSCK REPAIR TABLE `lastmile_final`.`vehicle_operation_metadata`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_final`.`vehicle_position_data` (
  `vehicle_id` string,
  `updated_at` timestamp,
  `lat` double,
  `lon` double,
  `driven_meters` double,
  `previous_at` timestamp
)
COMMENT 'Every position of every deliverer and vehicle, with the metres driven since its previous one and that one\'s time.'
PARTITIONED BY (
  `date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/final/vehicle_position_data';
MSCK REPAIR TABLE `lastmile_final`.`vehicle_position_data`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_final`.`speed_by_hour_and_cell` (
  `hour_start` timestamp,
  `cell` string,
  `vehicles` bigint,
  `samples` bigint,
  `mean_speed_mps` double,
  `stddev_speed_mps` double
)
COMMENT 'Mean and standard deviation of speed by hour and H3 cell of resolution 8 (0.7 square kilometres).'
PARTITIONED BY (
  `date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/final/speed_by_hour_and_cell';
MSCK REPAIR TABLE `lastmile_final`.`speed_by_hour_and_cell`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_final`.`travel_time_between_zones` (
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
  `geometric_stddev` double
)
COMMENT 'Travel times between zones by hour of departure; a zone is an H3 cell of resolution 7 (5 square kilometres).'
PARTITIONED BY (
  `date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/final/travel_time_between_zones';
MSCK REPAIR TABLE `lastmile_final`.`travel_time_between_zones`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_final`.`vehicle_day` (
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
  `positions_unregistered` bigint
)
COMMENT 'Each vehicle\'s date: what it drove, how long it moved, stood and had breaks, and which positions count for no operation.'
PARTITIONED BY (
  `date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/final/vehicle_day';
MSCK REPAIR TABLE `lastmile_final`.`vehicle_day`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_final`.`vehicle_operation_distance` (
  `vehicle_id` string,
  `operating_period_id` string,
  `operation_start` timestamp,
  `operation_finish` timestamp,
  `organization_id` string,
  `positions` bigint,
  `driven_m` double,
  `break_m` double
)
COMMENT 'What each vehicle drove on each date in each of its operations, breaks apart.'
PARTITIONED BY (
  `date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/final/vehicle_operation_distance';
MSCK REPAIR TABLE `lastmile_final`.`vehicle_operation_distance`;

CREATE EXTERNAL TABLE IF NOT EXISTS `lastmile_final`.`operating_period_distance` (
  `operating_period_id` string,
  `organization_id` string,
  `vehicles` bigint,
  `driven_m` double,
  `average_driven_m` double,
  `break_m` double
)
COMMENT 'How many vehicles operated in each operating period and what they drove, in all and on average.'
PARTITIONED BY (
  `date` date
)
STORED AS PARQUET
LOCATION 's3a://example-bucket/fleet/final/operating_period_distance';
MSCK REPAIR TABLE `lastmile_final`.`operating_period_distance`;
