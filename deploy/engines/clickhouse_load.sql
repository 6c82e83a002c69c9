DROP TABLE IF EXISTS `lastmile_raw`.`deliverer_location_fresh`;
CREATE TABLE `lastmile_raw`.`deliverer_location_fresh` AS `lastmile_raw`.`deliverer_location`;
INSERT INTO `lastmile_raw`.`deliverer_location_fresh` (`order_id`, `deliverer_id`, `delivery_state`, `event_time`, `received_time`, `lat`, `lon`, `speed_mps`, `heading_deg`, `accuracy_m`, `altitude_m`, `battery`, `seq`, `source`, `writer_id`, `writer_seq`, `event_date`)
SELECT `order_id`, CAST(assumeNotNull(`deliverer_id`), 'String'), `delivery_state`, CAST(assumeNotNull(`event_time`), 'DateTime64(6, ''UTC'')'), `received_time`, `lat`, `lon`, `speed_mps`, `heading_deg`, `accuracy_m`, `altitude_m`, `battery`, `seq`, `source`, `writer_id`, `writer_seq`, CAST(assumeNotNull(`event_date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/raw/deliverer_location/');
EXCHANGE TABLES `lastmile_raw`.`deliverer_location` AND `lastmile_raw`.`deliverer_location_fresh`;
DROP TABLE `lastmile_raw`.`deliverer_location_fresh`;

DROP TABLE IF EXISTS `lastmile_raw`.`fleet_event_fresh`;
CREATE TABLE `lastmile_raw`.`fleet_event_fresh` AS `lastmile_raw`.`fleet_event`;
INSERT INTO `lastmile_raw`.`fleet_event_fresh` (`organization_id`, `on`, `entity_id`, `at`, `received_time`, `data`, `writer_id`, `writer_seq`, `event_date`, `event`)
SELECT `organization_id`, `on`, CAST(assumeNotNull(`entity_id`), 'String'), CAST(assumeNotNull(`at`), 'DateTime64(6, ''UTC'')'), `received_time`, `data`, `writer_id`, `writer_seq`, CAST(assumeNotNull(`event_date`), 'Date32'), CAST(assumeNotNull(`event`), 'String')
FROM deltaLake('s3://example-bucket/fleet/raw/fleet_event/');
EXCHANGE TABLES `lastmile_raw`.`fleet_event` AND `lastmile_raw`.`fleet_event_fresh`;
DROP TABLE `lastmile_raw`.`fleet_event_fresh`;

DROP TABLE IF EXISTS `lastmile_raw`.`rejected_fresh`;
CREATE TABLE `lastmile_raw`.`rejected_fresh` AS `lastmile_raw`.`rejected`;
INSERT INTO `lastmile_raw`.`rejected_fresh` (`reason`, `detail`, `topic`, `payload`, `received_time`, `item`, `log_seq`, `writer_id`, `writer_seq`, `received_date`)
SELECT `reason`, `detail`, `topic`, `payload`, CAST(assumeNotNull(`received_time`), 'DateTime64(6, ''UTC'')'), `item`, `log_seq`, `writer_id`, `writer_seq`, CAST(assumeNotNull(`received_date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/raw/rejected/');
EXCHANGE TABLES `lastmile_raw`.`rejected` AND `lastmile_raw`.`rejected_fresh`;
DROP TABLE `lastmile_raw`.`rejected_fresh`;

DROP TABLE IF EXISTS `lastmile_treated`.`deliverer_location_fresh`;
CREATE TABLE `lastmile_treated`.`deliverer_location_fresh` AS `lastmile_treated`.`deliverer_location`;
INSERT INTO `lastmile_treated`.`deliverer_location_fresh` (`order_id`, `deliverer_id`, `delivery_state`, `event_time`, `received_time`, `lat`, `lon`, `speed_mps`, `heading_deg`, `accuracy_m`, `altitude_m`, `battery`, `seq`, `source`, `writer_id`, `writer_seq`, `unknown_state`, `from_the_future`, `late`, `null_island`, `event_date`)
SELECT `order_id`, CAST(assumeNotNull(`deliverer_id`), 'String'), `delivery_state`, CAST(assumeNotNull(`event_time`), 'DateTime64(6, ''UTC'')'), `received_time`, `lat`, `lon`, `speed_mps`, `heading_deg`, `accuracy_m`, `altitude_m`, `battery`, `seq`, `source`, `writer_id`, `writer_seq`, `unknown_state`, `from_the_future`, `late`, `null_island`, CAST(assumeNotNull(`event_date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/treated/deliverer_location/');
EXCHANGE TABLES `lastmile_treated`.`deliverer_location` AND `lastmile_treated`.`deliverer_location_fresh`;
DROP TABLE `lastmile_treated`.`deliverer_location_fresh`;

DROP TABLE IF EXISTS `lastmile_treated`.`operating_period_fresh`;
CREATE TABLE `lastmile_treated`.`operating_period_fresh` AS `lastmile_treated`.`operating_period`;
INSERT INTO `lastmile_treated`.`operating_period_fresh` (`organization_id`, `operating_period_id`, `event`, `event_time`, `received_time`, `kind`, `vehicle_id`, `operation_start`, `operation_finish`, `writer_id`, `writer_seq`, `superseded`, `in_force`, `invalid_interval`, `unknown_kind`, `from_the_future`, `late`, `event_date`)
SELECT `organization_id`, CAST(assumeNotNull(`operating_period_id`), 'String'), `event`, CAST(assumeNotNull(`event_time`), 'DateTime64(6, ''UTC'')'), `received_time`, `kind`, `vehicle_id`, `operation_start`, `operation_finish`, `writer_id`, `writer_seq`, `superseded`, `in_force`, `invalid_interval`, `unknown_kind`, `from_the_future`, `late`, CAST(assumeNotNull(`event_date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/treated/operating_period/');
EXCHANGE TABLES `lastmile_treated`.`operating_period` AND `lastmile_treated`.`operating_period_fresh`;
DROP TABLE `lastmile_treated`.`operating_period_fresh`;

DROP TABLE IF EXISTS `lastmile_treated`.`vehicle_event_fresh`;
CREATE TABLE `lastmile_treated`.`vehicle_event_fresh` AS `lastmile_treated`.`vehicle_event`;
INSERT INTO `lastmile_treated`.`vehicle_event_fresh` (`organization_id`, `vehicle_id`, `event`, `event_time`, `received_time`, `located_at`, `lat`, `lon`, `writer_id`, `writer_seq`, `without_place`, `invalid_place`, `unread_time`, `from_the_future`, `late`, `event_date`)
SELECT `organization_id`, CAST(assumeNotNull(`vehicle_id`), 'String'), CAST(assumeNotNull(`event`), 'String'), CAST(assumeNotNull(`event_time`), 'DateTime64(6, ''UTC'')'), `received_time`, `located_at`, `lat`, `lon`, `writer_id`, `writer_seq`, `without_place`, `invalid_place`, `unread_time`, `from_the_future`, `late`, CAST(assumeNotNull(`event_date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/treated/vehicle_event/');
EXCHANGE TABLES `lastmile_treated`.`vehicle_event` AND `lastmile_treated`.`vehicle_event_fresh`;
DROP TABLE `lastmile_treated`.`vehicle_event_fresh`;

DROP TABLE IF EXISTS `lastmile_treated`.`vehicle_life_fresh`;
CREATE TABLE `lastmile_treated`.`vehicle_life_fresh` AS `lastmile_treated`.`vehicle_life`;
INSERT INTO `lastmile_treated`.`vehicle_life_fresh` (`organization_id`, `vehicle_id`, `registered_at`, `deregistered_at`, `event_date`)
SELECT `organization_id`, CAST(assumeNotNull(`vehicle_id`), 'String'), CAST(assumeNotNull(`registered_at`), 'DateTime64(6, ''UTC'')'), `deregistered_at`, CAST(assumeNotNull(`event_date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/treated/vehicle_life/');
EXCHANGE TABLES `lastmile_treated`.`vehicle_life` AND `lastmile_treated`.`vehicle_life_fresh`;
DROP TABLE `lastmile_treated`.`vehicle_life_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`deliverer_location_aggregated_fresh`;
CREATE TABLE `lastmile_final`.`deliverer_location_aggregated_fresh` AS `lastmile_final`.`deliverer_location_aggregated`;
INSERT INTO `lastmile_final`.`deliverer_location_aggregated_fresh` (`date_deliver`, `delivery_state`, `count_orders`, `count_distinct_deliverers`, `date`)
SELECT `date_deliver`, CAST(assumeNotNull(`delivery_state`), 'String'), `count_orders`, `count_distinct_deliverers`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/deliverer_location_aggregated/');
EXCHANGE TABLES `lastmile_final`.`deliverer_location_aggregated` AND `lastmile_final`.`deliverer_location_aggregated_fresh`;
DROP TABLE `lastmile_final`.`deliverer_location_aggregated_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`delivery_trip_fresh`;
CREATE TABLE `lastmile_final`.`delivery_trip_fresh` AS `lastmile_final`.`delivery_trip`;
INSERT INTO `lastmile_final`.`delivery_trip_fresh` (`order_id`, `trip`, `deliverers`, `positions`, `started_at`, `last_at`, `arrived_at`, `duration_s`, `distance_m`, `stops`, `stopped_s`, `mean_speed_mps`, `without_start`, `date`)
SELECT CAST(assumeNotNull(`order_id`), 'String'), CAST(assumeNotNull(`trip`), 'Int64'), `deliverers`, `positions`, `started_at`, `last_at`, `arrived_at`, `duration_s`, `distance_m`, `stops`, `stopped_s`, `mean_speed_mps`, `without_start`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/delivery_trip/');
EXCHANGE TABLES `lastmile_final`.`delivery_trip` AND `lastmile_final`.`delivery_trip_fresh`;
DROP TABLE `lastmile_final`.`delivery_trip_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`vehicle_break_fresh`;
CREATE TABLE `lastmile_final`.`vehicle_break_fresh` AS `lastmile_final`.`vehicle_break`;
INSERT INTO `lastmile_final`.`vehicle_break_fresh` (`vehicle_id`, `break_start`, `break_finish`, `date`)
SELECT CAST(assumeNotNull(`vehicle_id`), 'String'), CAST(assumeNotNull(`break_start`), 'DateTime64(6, ''UTC'')'), `break_finish`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/vehicle_break/');
EXCHANGE TABLES `lastmile_final`.`vehicle_break` AND `lastmile_final`.`vehicle_break_fresh`;
DROP TABLE `lastmile_final`.`vehicle_break_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`vehicle_operation_metadata_fresh`;
CREATE TABLE `lastmile_final`.`vehicle_operation_metadata_fresh` AS `lastmile_final`.`vehicle_operation_metadata`;
INSERT INTO `lastmile_final`.`vehicle_operation_metadata_fresh` (`vehicle_id`, `operating_period_id`, `operation_start`, `operation_finish`, `organization_id`, `date`)
SELECT CAST(assumeNotNull(`vehicle_id`), 'String'), `operating_period_id`, CAST(assumeNotNull(`operation_start`), 'DateTime64(6, ''UTC'')'), `operation_finish`, `organization_id`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/vehicle_operation_metadata/');
EXCHANGE TABLES `lastmile_final`.`vehicle_operation_metadata` AND `lastmile_final`.`vehicle_operation_metadata_fresh`;
DROP TABLE `lastmile_final`.`vehicle_operation_metadata_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`vehicle_position_data_fresh`;
CREATE TABLE `lastmile_final`.`vehicle_position_data_fresh` AS `lastmile_final`.`vehicle_position_data`;
INSERT INTO `lastmile_final`.`vehicle_position_data_fresh` (`vehicle_id`, `updated_at`, `lat`, `lon`, `driven_meters`, `previous_at`, `date`)
SELECT CAST(assumeNotNull(`vehicle_id`), 'String'), CAST(assumeNotNull(`updated_at`), 'DateTime64(6, ''UTC'')'), `lat`, `lon`, `driven_meters`, `previous_at`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/vehicle_position_data/');
EXCHANGE TABLES `lastmile_final`.`vehicle_position_data` AND `lastmile_final`.`vehicle_position_data_fresh`;
DROP TABLE `lastmile_final`.`vehicle_position_data_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`speed_by_hour_and_cell_fresh`;
CREATE TABLE `lastmile_final`.`speed_by_hour_and_cell_fresh` AS `lastmile_final`.`speed_by_hour_and_cell`;
INSERT INTO `lastmile_final`.`speed_by_hour_and_cell_fresh` (`hour_start`, `cell`, `vehicles`, `samples`, `mean_speed_mps`, `stddev_speed_mps`, `date`)
SELECT CAST(assumeNotNull(`hour_start`), 'DateTime64(6, ''UTC'')'), CAST(assumeNotNull(`cell`), 'String'), `vehicles`, `samples`, `mean_speed_mps`, `stddev_speed_mps`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/speed_by_hour_and_cell/');
EXCHANGE TABLES `lastmile_final`.`speed_by_hour_and_cell` AND `lastmile_final`.`speed_by_hour_and_cell_fresh`;
DROP TABLE `lastmile_final`.`speed_by_hour_and_cell_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`travel_time_between_zones_fresh`;
CREATE TABLE `lastmile_final`.`travel_time_between_zones_fresh` AS `lastmile_final`.`travel_time_between_zones`;
INSERT INTO `lastmile_final`.`travel_time_between_zones_fresh` (`hour_start`, `origin_zone`, `destination_zone`, `travels`, `vehicles`, `mean_s`, `stddev_s`, `least_s`, `greatest_s`, `geometric_mean_s`, `geometric_stddev`, `date`)
SELECT CAST(assumeNotNull(`hour_start`), 'DateTime64(6, ''UTC'')'), CAST(assumeNotNull(`origin_zone`), 'String'), CAST(assumeNotNull(`destination_zone`), 'String'), `travels`, `vehicles`, `mean_s`, `stddev_s`, `least_s`, `greatest_s`, `geometric_mean_s`, `geometric_stddev`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/travel_time_between_zones/');
EXCHANGE TABLES `lastmile_final`.`travel_time_between_zones` AND `lastmile_final`.`travel_time_between_zones_fresh`;
DROP TABLE `lastmile_final`.`travel_time_between_zones_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`vehicle_day_fresh`;
CREATE TABLE `lastmile_final`.`vehicle_day_fresh` AS `lastmile_final`.`vehicle_day`;
INSERT INTO `lastmile_final`.`vehicle_day_fresh` (`vehicle_id`, `first_at`, `last_at`, `positions`, `driven_m`, `break_m`, `moving_s`, `idle_s`, `break_s`, `positions_outside_operations`, `positions_unregistered`, `date`)
SELECT CAST(assumeNotNull(`vehicle_id`), 'String'), `first_at`, `last_at`, `positions`, `driven_m`, `break_m`, `moving_s`, `idle_s`, `break_s`, `positions_outside_operations`, `positions_unregistered`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/vehicle_day/');
EXCHANGE TABLES `lastmile_final`.`vehicle_day` AND `lastmile_final`.`vehicle_day_fresh`;
DROP TABLE `lastmile_final`.`vehicle_day_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`vehicle_operation_distance_fresh`;
CREATE TABLE `lastmile_final`.`vehicle_operation_distance_fresh` AS `lastmile_final`.`vehicle_operation_distance`;
INSERT INTO `lastmile_final`.`vehicle_operation_distance_fresh` (`vehicle_id`, `operating_period_id`, `operation_start`, `operation_finish`, `organization_id`, `positions`, `driven_m`, `break_m`, `date`)
SELECT CAST(assumeNotNull(`vehicle_id`), 'String'), `operating_period_id`, CAST(assumeNotNull(`operation_start`), 'DateTime64(6, ''UTC'')'), `operation_finish`, `organization_id`, `positions`, `driven_m`, `break_m`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/vehicle_operation_distance/');
EXCHANGE TABLES `lastmile_final`.`vehicle_operation_distance` AND `lastmile_final`.`vehicle_operation_distance_fresh`;
DROP TABLE `lastmile_final`.`vehicle_operation_distance_fresh`;

DROP TABLE IF EXISTS `lastmile_final`.`operating_period_distance_fresh`;
CREATE TABLE `lastmile_final`.`operating_period_distance_fresh` AS `lastmile_final`.`operating_period_distance`;
INSERT INTO `lastmile_final`.`operating_period_distance_fresh` (`operating_period_id`, `organization_id`, `vehicles`, `driven_m`, `average_driven_m`, `break_m`, `date`)
SELECT CAST(assumeNotNull(`operating_period_id`), 'String'), `organization_id`, `vehicles`, `driven_m`, `average_driven_m`, `break_m`, CAST(assumeNotNull(`date`), 'Date32')
FROM deltaLake('s3://example-bucket/fleet/final/operating_period_distance/');
EXCHANGE TABLES `lastmile_final`.`operating_period_distance` AND `lastmile_final`.`operating_period_distance_fresh`;
DROP TABLE `lastmile_final`.`operating_period_distance_fresh`;

