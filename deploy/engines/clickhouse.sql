CREATE DATABASE IF NOT EXISTS `lastmile_raw`;
CREATE DATABASE IF NOT EXISTS `lastmile_treated`;
CREATE DATABASE IF NOT EXISTS `lastmile_final`;

CREATE TABLE IF NOT EXISTS `lastmile_raw`.`deliverer_location` (
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

CREATE TABLE IF NOT EXISTS `lastmile_raw`.`fleet_event` (
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

CREATE TABLE IF NOT EXISTS `lastmile_raw`.`rejected` (
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

CREATE TABLE IF NOT EXISTS `lastmile_treated`.`deliverer_location` (
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

CREATE TABLE IF NOT EXISTS `lastmile_treated`.`operating_period` (
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

CREATE TABLE IF NOT EXISTS `lastmile_treated`.`vehicle_event` (
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

CREATE TABLE IF NOT EXISTS `lastmile_treated`.`vehicle_life` (
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

CREATE TABLE IF NOT EXISTS `lastmile_final`.`deliverer_location_aggregated` (
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

CREATE TABLE IF NOT EXISTS `lastmile_final`.`delivery_trip` (
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

CREATE TABLE IF NOT EXISTS `lastmile_final`.`vehicle_break` (
  `vehicle_id` String,
  `break_start` DateTime64(6, 'UTC'),
  `break_finish` Nullable(DateTime64(6, 'UTC')),
  `date` Date32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(`date`)
ORDER BY (`vehicle_id`, `break_start`)
COMMENT 'When each vehicle had a break; breaks that touch are one.';

CREATE TABLE IF NOT EXISTS `lastmile_final`.`vehicle_operation_metadata` (
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

CREATE TABLE IF NOT EXISTS `lastmile_final`.`vehicle_position_data` (
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

CREATE TABLE IF NOT EXISTS `lastmile_final`.`speed_by_hour_and_cell` (
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

CREATE TABLE IF NOT EXISTS `lastmile_final`.`travel_time_between_zones` (
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

CREATE TABLE IF NOT EXISTS `lastmile_final`.`vehicle_day` (
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

CREATE TABLE IF NOT EXISTS `lastmile_final`.`vehicle_operation_distance` (
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

CREATE TABLE IF NOT EXISTS `lastmile_final`.`operating_period_distance` (
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

CREATE VIEW IF NOT EXISTS `lastmile_raw`.`vehicle_register` AS
SELECT * FROM `lastmile_raw`.`fleet_event` WHERE on = 'vehicle' AND event = 'register';

CREATE VIEW IF NOT EXISTS `lastmile_raw`.`vehicle_update` AS
SELECT * FROM `lastmile_raw`.`fleet_event` WHERE on = 'vehicle' AND event = 'update';

CREATE VIEW IF NOT EXISTS `lastmile_raw`.`vehicle_deregister` AS
SELECT * FROM `lastmile_raw`.`fleet_event` WHERE on = 'vehicle' AND event = 'deregister';

CREATE VIEW IF NOT EXISTS `lastmile_raw`.`operating_period_create` AS
SELECT * FROM `lastmile_raw`.`fleet_event` WHERE on = 'operating_period' AND event = 'create';

CREATE VIEW IF NOT EXISTS `lastmile_raw`.`operating_period_delete` AS
SELECT * FROM `lastmile_raw`.`fleet_event` WHERE on = 'operating_period' AND event = 'delete';
