DROP TABLE IF EXISTS `lastmile_raw`.`deliverer_location_fresh`;
CREATE TABLE `lastmile_raw`.`deliverer_location_fresh` (
  `order_id` Nullable(String),
  `deliverer_id` String,
  `delivery_state` Nullable(String),
  `event_time` DateTime64(6, 'UTC'),
  `received_time` Nullable(DateTime64(6, 'UTC')),
  `lat` Nullable(Float64),
  `lon` Nullable(Float64),
  `speed_mps` Nullable(Float64),
  `heading_deg` Nullable(Float64),
  `accuracy_m` Nullable(Float64),
  `altitude_m` Nullable(Float64),
  `battery` Nullable(Float64),
  `seq` Nullable(Int64),
  `source` Nullable(String),
  `writer_id` Nullable(String),
  `writer_seq` Nullable(Int64),
  `event_date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`event_date`)
ORDER BY (`deliverer_id`, `event_time`)
COMMENT 'Every stored position, as stored.';
INSERT INTO `lastmile_raw`.`deliverer_location_fresh` (`order_id`, `deliverer_id`, `delivery_state`, `event_time`, `received_time`, `lat`, `lon`, `speed_mps`, `heading_deg`, `accuracy_m`, `altitude_m`, `battery`, `seq`, `source`, `writer_id`, `writer_seq`, `event_date`)
SELECT `order_id`, CAST(assumeNotNull(`deliverer_id`), 'String'), `delivery_state`, CAST(assumeNotNull(`event_time`), 'DateTime64(6, ''UTC'')'), `received_time`, `lat`, `lon`, `speed_mps`, `heading_deg`, `accuracy_m`, `altitude_m`, `battery`, `seq`, `source`, `writer_id`, `writer_seq`, CAST(assumeNotNull(`event_date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/raw/deliverer_location/');
EXCHANGE TABLES `lastmile_raw`.`deliverer_location` AND `lastmile_raw`.`deliverer_location_fresh`;
DROP TABLE `lastmile_raw`.`deliverer_location_fresh`;

DROP TABLE IF EXISTS `lastmile_raw`.`fleet_event_fresh`;
CREATE TABLE `lastmile_raw`.`fleet_event_fresh` (
  `organization_id` Nullable(String),
  `on` Nullable(String),
  `entity_id` String,
  `at` DateTime64(6, 'UTC'),
  `received_time` Nullable(DateTime64(6, 'UTC')),
  `data` Nullable(String),
  `writer_id` Nullable(String),
  `writer_seq` Nullable(Int64),
  `event_date` Date32,
  `event` String
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`event_date`)
ORDER BY (`entity_id`, `at`)
COMMENT 'Every fleet event, its data as the JSON text that was received.';
INSERT INTO `lastmile_raw`.`fleet_event_fresh` (`organization_id`, `on`, `entity_id`, `at`, `received_time`, `data`, `writer_id`, `writer_seq`, `event_date`, `event`)
SELECT `organization_id`, `on`, CAST(assumeNotNull(`entity_id`), 'String'), CAST(assumeNotNull(`at`), 'DateTime64(6, ''UTC'')'), `received_time`, `data`, `writer_id`, `writer_seq`, CAST(assumeNotNull(`event_date`), 'Date32'), CAST(assumeNotNull(`event`), 'String')
FROM deltaLake('s3://example-bucket/fleet/raw/fleet_event/');
EXCHANGE TABLES `lastmile_raw`.`fleet_event` AND `lastmile_raw`.`fleet_event_fresh`;
DROP TABLE `lastmile_raw`.`fleet_event_fresh`;

DROP TABLE IF EXISTS `lastmile_raw`.`rejected_fresh`;
CREATE TABLE `lastmile_raw`.`rejected_fresh` (
  `reason` Nullable(String),
  `detail` Nullable(String),
  `topic` Nullable(String),
  `payload` Nullable(String),
  `received_time` DateTime64(6, 'UTC'),
  `item` Nullable(Int64),
  `log_seq` Nullable(Int64),
  `writer_id` Nullable(String),
  `writer_seq` Nullable(Int64),
  `received_date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`received_date`)
ORDER BY (`received_time`)
COMMENT 'Every dead letter: the bytes that were received, and why they were refused.';
INSERT INTO `lastmile_raw`.`rejected_fresh` (`reason`, `detail`, `topic`, `payload`, `received_time`, `item`, `log_seq`, `writer_id`, `writer_seq`, `received_date`)
SELECT `reason`, `detail`, `topic`, `payload`, CAST(assumeNotNull(`received_time`), 'DateTime64(6, ''UTC'')'), `item`, `log_seq`, `writer_id`, `writer_seq`, CAST(assumeNotNull(`received_date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/raw/rejected/');
EXCHANGE TABLES `lastmile_raw`.`rejected` AND `lastmile_raw`.`rejected_fresh`;
DROP TABLE `lastmile_raw`.`rejected_fresh`;

DROP TABLE IF EXISTS `lastmile_treated`.`deliverer_location_fresh`;
CREATE TABLE `lastmile_treated`.`deliverer_location_fresh` (
  `order_id` Nullable(String),
  `deliverer_id` String,
  `delivery_state` Nullable(String),
  `event_time` DateTime64(6, 'UTC'),
  `received_time` Nullable(DateTime64(6, 'UTC')),
  `lat` Nullable(Float64),
  `lon` Nullable(Float64),
  `speed_mps` Nullable(Float64),
  `heading_deg` Nullable(Float64),
  `accuracy_m` Nullable(Float64),
  `altitude_m` Nullable(Float64),
  `battery` Nullable(Float64),
  `seq` Nullable(Int64),
  `source` Nullable(String),
  `writer_id` Nullable(String),
  `writer_seq` Nullable(Int64),
  `unknown_state` Nullable(Bool),
  `from_the_future` Nullable(Bool),
  `late` Nullable(Bool),
  `null_island` Nullable(Bool),
  `event_date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`event_date`)
ORDER BY (`deliverer_id`, `event_time`)
COMMENT 'Every position once, with flags for what is doubtful about it. Nothing doubtful is left out.';
INSERT INTO `lastmile_treated`.`deliverer_location_fresh` (`order_id`, `deliverer_id`, `delivery_state`, `event_time`, `received_time`, `lat`, `lon`, `speed_mps`, `heading_deg`, `accuracy_m`, `altitude_m`, `battery`, `seq`, `source`, `writer_id`, `writer_seq`, `unknown_state`, `from_the_future`, `late`, `null_island`, `event_date`)
SELECT `order_id`, CAST(assumeNotNull(`deliverer_id`), 'String'), `delivery_state`, CAST(assumeNotNull(`event_time`), 'DateTime64(6, ''UTC'')'), `received_time`, `lat`, `lon`, `speed_mps`, `heading_deg`, `accuracy_m`, `altitude_m`, `battery`, `seq`, `source`, `writer_id`, `writer_seq`, `unknown_state`, `from_the_future`, `late`, `null_island`, CAST(assumeNotNull(`event_date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/treated/deliverer_location/');
EXCHANGE TABLES `lastmile_treated`.`deliverer_location` AND `lastmile_treated`.`deliverer_location_fresh`;
DROP TABLE `lastmile_treated`.`deliverer_location_fresh`;

DROP TABLE IF EXISTS `lastmile_treated`.`operating_period_fresh`;
CREATE TABLE `lastmile_treated`.`operating_period_fresh` (
  `organization_id` Nullable(String),
  `operating_period_id` String,
  `event` Nullable(String),
  `event_time` DateTime64(6, 'UTC'),
  `received_time` Nullable(DateTime64(6, 'UTC')),
  `kind` Nullable(String),
  `vehicle_id` Nullable(String),
  `operation_start` Nullable(DateTime64(6, 'UTC')),
  `operation_finish` Nullable(DateTime64(6, 'UTC')),
  `writer_id` Nullable(String),
  `writer_seq` Nullable(Int64),
  `superseded` Nullable(Bool),
  `in_force` Nullable(Bool),
  `invalid_interval` Nullable(Bool),
  `unknown_kind` Nullable(Bool),
  `from_the_future` Nullable(Bool),
  `late` Nullable(Bool),
  `event_date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`event_date`)
ORDER BY (`operating_period_id`, `event_time`)
COMMENT 'Every create and delete of an operating period once, with its state after the last one.';
INSERT INTO `lastmile_treated`.`operating_period_fresh` (`organization_id`, `operating_period_id`, `event`, `event_time`, `received_time`, `kind`, `vehicle_id`, `operation_start`, `operation_finish`, `writer_id`, `writer_seq`, `superseded`, `in_force`, `invalid_interval`, `unknown_kind`, `from_the_future`, `late`, `event_date`)
SELECT `organization_id`, CAST(assumeNotNull(`operating_period_id`), 'String'), `event`, CAST(assumeNotNull(`event_time`), 'DateTime64(6, ''UTC'')'), `received_time`, `kind`, `vehicle_id`, `operation_start`, `operation_finish`, `writer_id`, `writer_seq`, `superseded`, `in_force`, `invalid_interval`, `unknown_kind`, `from_the_future`, `late`, CAST(assumeNotNull(`event_date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/treated/operating_period/');
EXCHANGE TABLES `lastmile_treated`.`operating_period` AND `lastmile_treated`.`operating_period_fresh`;
DROP TABLE `lastmile_treated`.`operating_period_fresh`;

DROP TABLE IF EXISTS `lastmile_treated`.`vehicle_event_fresh`;
CREATE TABLE `lastmile_treated`.`vehicle_event_fresh` (
  `organization_id` Nullable(String),
  `vehicle_id` String,
  `event` String,
  `event_time` DateTime64(6, 'UTC'),
  `received_time` Nullable(DateTime64(6, 'UTC')),
  `located_at` Nullable(DateTime64(6, 'UTC')),
  `lat` Nullable(Float64),
  `lon` Nullable(Float64),
  `writer_id` Nullable(String),
  `writer_seq` Nullable(Int64),
  `without_place` Nullable(Bool),
  `invalid_place` Nullable(Bool),
  `unread_time` Nullable(Bool),
  `from_the_future` Nullable(Bool),
  `late` Nullable(Bool),
  `event_date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`event_date`)
ORDER BY (`event`, `vehicle_id`, `event_time`)
COMMENT 'Every register, update and deregister of a vehicle once, with flags for what is doubtful about it.';
INSERT INTO `lastmile_treated`.`vehicle_event_fresh` (`organization_id`, `vehicle_id`, `event`, `event_time`, `received_time`, `located_at`, `lat`, `lon`, `writer_id`, `writer_seq`, `without_place`, `invalid_place`, `unread_time`, `from_the_future`, `late`, `event_date`)
SELECT `organization_id`, CAST(assumeNotNull(`vehicle_id`), 'String'), CAST(assumeNotNull(`event`), 'String'), CAST(assumeNotNull(`event_time`), 'DateTime64(6, ''UTC'')'), `received_time`, `located_at`, `lat`, `lon`, `writer_id`, `writer_seq`, `without_place`, `invalid_place`, `unread_time`, `from_the_future`, `late`, CAST(assumeNotNull(`event_date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/treated/vehicle_event/');
EXCHANGE TABLES `lastmile_treated`.`vehicle_event` AND `lastmile_treated`.`vehicle_event_fresh`;
DROP TABLE `lastmile_treated`.`vehicle_event_fresh`;

DROP TABLE IF EXISTS `lastmile_treated`.`vehicle_life_fresh`;
CREATE TABLE `lastmile_treated`.`vehicle_life_fresh` (
  `organization_id` Nullable(String),
  `vehicle_id` String,
  `registered_at` DateTime64(6, 'UTC'),
  `deregistered_at` Nullable(DateTime64(6, 'UTC')),
  `event_date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`event_date`)
ORDER BY (`vehicle_id`, `registered_at`)
COMMENT 'From when to when a vehicle was registered, one row for each time it was.';
INSERT INTO `lastmile_treated`.`vehicle_life_fresh` (`organization_id`, `vehicle_id`, `registered_at`, `deregistered_at`, `event_date`)
SELECT `organization_id`, CAST(assumeNotNull(`vehicle_id`), 'String'), CAST(assumeNotNull(`registered_at`), 'DateTime64(6, ''UTC'')'), `deregistered_at`, CAST(assumeNotNull(`event_date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/treated/vehicle_life/');
EXCHANGE TABLES `lastmile_treated`.`vehicle_life` AND `lastmile_treated`.`vehicle_life_fresh`;
DROP TABLE `lastmile_treated`.`vehicle_life_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`deliverer_location_aggregated_fresh`;
CREATE TABLE `lastmile_final`.`deliverer_location_aggregated_fresh` (
  `date_deliver` Nullable(Date32),
  `delivery_state` String,
  `count_orders` Nullable(Int64),
  `count_distinct_deliverers` Nullable(Int64),
  `date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`date`)
ORDER BY (`delivery_state`)
COMMENT 'Orders and deliverers seen per day and delivery state. Positions without a state are a group of their own.';
INSERT INTO `lastmile_final`.`deliverer_location_aggregated_fresh` (`date_deliver`, `delivery_state`, `count_orders`, `count_distinct_deliverers`, `date`)
SELECT `date_deliver`, CAST(assumeNotNull(`delivery_state`), 'String'), `count_orders`, `count_distinct_deliverers`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/deliverer_location_aggregated/');
EXCHANGE TABLES `lastmile_final`.`deliverer_location_aggregated` AND `lastmile_final`.`deliverer_location_aggregated_fresh`;
DROP TABLE `lastmile_final`.`deliverer_location_aggregated_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`delivery_trip_fresh`;
CREATE TABLE `lastmile_final`.`delivery_trip_fresh` (
  `order_id` String,
  `trip` Int64,
  `deliverers` Nullable(Int64),
  `positions` Nullable(Int64),
  `started_at` Nullable(DateTime64(6, 'UTC')),
  `last_at` Nullable(DateTime64(6, 'UTC')),
  `arrived_at` Nullable(DateTime64(6, 'UTC')),
  `duration_s` Nullable(Float64),
  `distance_m` Nullable(Float64),
  `stops` Nullable(Int64),
  `stopped_s` Nullable(Float64),
  `mean_speed_mps` Nullable(Float64),
  `without_start` Nullable(Bool),
  `date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`date`)
ORDER BY (`order_id`, `trip`)
COMMENT 'Each delivery of an order: start, arrival, time, way, stops and mean speed.';
INSERT INTO `lastmile_final`.`delivery_trip_fresh` (`order_id`, `trip`, `deliverers`, `positions`, `started_at`, `last_at`, `arrived_at`, `duration_s`, `distance_m`, `stops`, `stopped_s`, `mean_speed_mps`, `without_start`, `date`)
SELECT CAST(assumeNotNull(`order_id`), 'String'), CAST(assumeNotNull(`trip`), 'Int64'), `deliverers`, `positions`, `started_at`, `last_at`, `arrived_at`, `duration_s`, `distance_m`, `stops`, `stopped_s`, `mean_speed_mps`, `without_start`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/delivery_trip/');
EXCHANGE TABLES `lastmile_final`.`delivery_trip` AND `lastmile_final`.`delivery_trip_fresh`;
DROP TABLE `lastmile_final`.`delivery_trip_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`vehicle_break_fresh`;
CREATE TABLE `lastmile_final`.`vehicle_break_fresh` (
  `vehicle_id` String,
  `break_start` DateTime64(6, 'UTC'),
  `break_finish` Nullable(DateTime64(6, 'UTC')),
  `date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`date`)
ORDER BY (`vehicle_id`, `break_start`)
COMMENT 'When each vehicle had a break; breaks that touch are one.';
INSERT INTO `lastmile_final`.`vehicle_break_fresh` (`vehicle_id`, `break_start`, `break_finish`, `date`)
SELECT CAST(assumeNotNull(`vehicle_id`), 'String'), CAST(assumeNotNull(`break_start`), 'DateTime64(6, ''UTC'')'), `break_finish`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/vehicle_break/');
EXCHANGE TABLES `lastmile_final`.`vehicle_break` AND `lastmile_final`.`vehicle_break_fresh`;
DROP TABLE `lastmile_final`.`vehicle_break_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`vehicle_operation_metadata_fresh`;
CREATE TABLE `lastmile_final`.`vehicle_operation_metadata_fresh` (
  `vehicle_id` String,
  `operating_period_id` Nullable(String),
  `operation_start` DateTime64(6, 'UTC'),
  `operation_finish` Nullable(DateTime64(6, 'UTC')),
  `organization_id` Nullable(String),
  `date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`date`)
ORDER BY (`vehicle_id`, `operation_start`)
COMMENT 'When each vehicle was in operation: each operating period in force, cut to the time the vehicle was registered.';
INSERT INTO `lastmile_final`.`vehicle_operation_metadata_fresh` (`vehicle_id`, `operating_period_id`, `operation_start`, `operation_finish`, `organization_id`, `date`)
SELECT CAST(assumeNotNull(`vehicle_id`), 'String'), `operating_period_id`, CAST(assumeNotNull(`operation_start`), 'DateTime64(6, ''UTC'')'), `operation_finish`, `organization_id`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/vehicle_operation_metadata/');
EXCHANGE TABLES `lastmile_final`.`vehicle_operation_metadata` AND `lastmile_final`.`vehicle_operation_metadata_fresh`;
DROP TABLE `lastmile_final`.`vehicle_operation_metadata_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`vehicle_position_data_fresh`;
CREATE TABLE `lastmile_final`.`vehicle_position_data_fresh` (
  `vehicle_id` String,
  `updated_at` DateTime64(6, 'UTC'),
  `lat` Nullable(Float64),
  `lon` Nullable(Float64),
  `driven_meters` Nullable(Float64),
  `previous_at` Nullable(DateTime64(6, 'UTC')),
  `date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`date`)
ORDER BY (`vehicle_id`, `updated_at`)
COMMENT 'Every position of every deliverer and vehicle, with the metres driven since its previous one and that one''s time.';
INSERT INTO `lastmile_final`.`vehicle_position_data_fresh` (`vehicle_id`, `updated_at`, `lat`, `lon`, `driven_meters`, `previous_at`, `date`)
SELECT CAST(assumeNotNull(`vehicle_id`), 'String'), CAST(assumeNotNull(`updated_at`), 'DateTime64(6, ''UTC'')'), `lat`, `lon`, `driven_meters`, `previous_at`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/vehicle_position_data/');
EXCHANGE TABLES `lastmile_final`.`vehicle_position_data` AND `lastmile_final`.`vehicle_position_data_fresh`;
DROP TABLE `lastmile_final`.`vehicle_position_data_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`speed_by_hour_and_cell_fresh`;
CREATE TABLE `lastmile_final`.`speed_by_hour_and_cell_fresh` (
  `hour_start` DateTime64(6, 'UTC'),
  `cell` String,
  `vehicles` Nullable(Int64),
  `samples` Nullable(Int64),
  `mean_speed_mps` Nullable(Float64),
  `stddev_speed_mps` Nullable(Float64),
  `date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`date`)
ORDER BY (`hour_start`, `cell`)
COMMENT 'Mean and standard deviation of speed by hour and H3 cell of resolution 8 (0.7 square kilometres).';
INSERT INTO `lastmile_final`.`speed_by_hour_and_cell_fresh` (`hour_start`, `cell`, `vehicles`, `samples`, `mean_speed_mps`, `stddev_speed_mps`, `date`)
SELECT CAST(assumeNotNull(`hour_start`), 'DateTime64(6, ''UTC'')'), CAST(assumeNotNull(`cell`), 'String'), `vehicles`, `samples`, `mean_speed_mps`, `stddev_speed_mps`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/speed_by_hour_and_cell/');
EXCHANGE TABLES `lastmile_final`.`speed_by_hour_and_cell` AND `lastmile_final`.`speed_by_hour_and_cell_fresh`;
DROP TABLE `lastmile_final`.`speed_by_hour_and_cell_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`travel_time_between_zones_fresh`;
CREATE TABLE `lastmile_final`.`travel_time_between_zones_fresh` (
  `hour_start` DateTime64(6, 'UTC'),
  `origin_zone` String,
  `destination_zone` String,
  `travels` Nullable(Int64),
  `vehicles` Nullable(Int64),
  `mean_s` Nullable(Float64),
  `stddev_s` Nullable(Float64),
  `least_s` Nullable(Float64),
  `greatest_s` Nullable(Float64),
  `geometric_mean_s` Nullable(Float64),
  `geometric_stddev` Nullable(Float64),
  `date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`date`)
ORDER BY (`hour_start`, `origin_zone`, `destination_zone`)
COMMENT 'Travel times between zones by hour of departure; a zone is an H3 cell of resolution 7 (5 square kilometres).';
INSERT INTO `lastmile_final`.`travel_time_between_zones_fresh` (`hour_start`, `origin_zone`, `destination_zone`, `travels`, `vehicles`, `mean_s`, `stddev_s`, `least_s`, `greatest_s`, `geometric_mean_s`, `geometric_stddev`, `date`)
SELECT CAST(assumeNotNull(`hour_start`), 'DateTime64(6, ''UTC'')'), CAST(assumeNotNull(`origin_zone`), 'String'), CAST(assumeNotNull(`destination_zone`), 'String'), `travels`, `vehicles`, `mean_s`, `stddev_s`, `least_s`, `greatest_s`, `geometric_mean_s`, `geometric_stddev`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/travel_time_between_zones/');
EXCHANGE TABLES `lastmile_final`.`travel_time_between_zones` AND `lastmile_final`.`travel_time_between_zones_fresh`;
DROP TABLE `lastmile_final`.`travel_time_between_zones_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`vehicle_day_fresh`;
CREATE TABLE `lastmile_final`.`vehicle_day_fresh` (
  `vehicle_id` String,
  `first_at` Nullable(DateTime64(6, 'UTC')),
  `last_at` Nullable(DateTime64(6, 'UTC')),
  `positions` Nullable(Int64),
  `driven_m` Nullable(Float64),
  `break_m` Nullable(Float64),
  `moving_s` Nullable(Float64),
  `idle_s` Nullable(Float64),
  `break_s` Nullable(Float64),
  `positions_outside_operations` Nullable(Int64),
  `positions_unregistered` Nullable(Int64),
  `date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`date`)
ORDER BY (`vehicle_id`)
COMMENT 'Each vehicle''s date: what it drove, how long it moved, stood and had breaks, and which positions count for no operation.';
INSERT INTO `lastmile_final`.`vehicle_day_fresh` (`vehicle_id`, `first_at`, `last_at`, `positions`, `driven_m`, `break_m`, `moving_s`, `idle_s`, `break_s`, `positions_outside_operations`, `positions_unregistered`, `date`)
SELECT CAST(assumeNotNull(`vehicle_id`), 'String'), `first_at`, `last_at`, `positions`, `driven_m`, `break_m`, `moving_s`, `idle_s`, `break_s`, `positions_outside_operations`, `positions_unregistered`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/vehicle_day/');
EXCHANGE TABLES `lastmile_final`.`vehicle_day` AND `lastmile_final`.`vehicle_day_fresh`;
DROP TABLE `lastmile_final`.`vehicle_day_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`vehicle_operation_distance_fresh`;
CREATE TABLE `lastmile_final`.`vehicle_operation_distance_fresh` (
  `vehicle_id` String,
  `operating_period_id` Nullable(String),
  `operation_start` DateTime64(6, 'UTC'),
  `operation_finish` Nullable(DateTime64(6, 'UTC')),
  `organization_id` Nullable(String),
  `positions` Nullable(Int64),
  `driven_m` Nullable(Float64),
  `break_m` Nullable(Float64),
  `date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`date`)
ORDER BY (`vehicle_id`, `operation_start`)
COMMENT 'What each vehicle drove on each date in each of its operations, breaks apart.';
INSERT INTO `lastmile_final`.`vehicle_operation_distance_fresh` (`vehicle_id`, `operating_period_id`, `operation_start`, `operation_finish`, `organization_id`, `positions`, `driven_m`, `break_m`, `date`)
SELECT CAST(assumeNotNull(`vehicle_id`), 'String'), `operating_period_id`, CAST(assumeNotNull(`operation_start`), 'DateTime64(6, ''UTC'')'), `operation_finish`, `organization_id`, `positions`, `driven_m`, `break_m`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/vehicle_operation_distance/');
EXCHANGE TABLES `lastmile_final`.`vehicle_operation_distance` AND `lastmile_final`.`vehicle_operation_distance_fresh`;
DROP TABLE `lastmile_final`.`vehicle_operation_distance_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`operating_period_distance_fresh`;
CREATE TABLE `lastmile_final`.`operating_period_distance_fresh` (
  `operating_period_id` String,
  `organization_id` Nullable(String),
  `vehicles` Nullable(Int64),
  `driven_m` Nullable(Float64),
  `average_driven_m` Nullable(Float64),
  `break_m` Nullable(Float64),
  `date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`date`)
ORDER BY (`operating_period_id`)
COMMENT 'How many vehicles operated in each operating period and what they drove, in all and on average.';
INSERT INTO `lastmile_final`.`operating_period_distance_fresh` (`operating_period_id`, `organization_id`, `vehicles`, `driven_m`, `average_driven_m`, `break_m`, `date`)
SELECT CAST(assumeNotNull(`operating_period_id`), 'String'), `organization_id`, `vehicles`, `driven_m`, `average_driven_m`, `break_m`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/operating_period_distance/');
EXCHANGE TABLES `lastmile_final`.`operating_period_distance` AND `lastmile_final`.`operating_period_distance_fresh`;
DROP TABLE `lastmile_final`.`operating_period_distance_fresh`;

