CREATE DATABASE IF NOT EXISTS `lastmile_raw`;
CREATE DATABASE IF NOT EXISTS `lastmile_treated`;
CREATE DATABASE IF NOT EXISTS `lastmile_final`;

-- Every stored position, as stored.
CREATE EXTERNAL TABLE `lastmile_raw`.`deliverer_location`
LOCATION 's3://example-bucket/fleet/raw/deliverer_location/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- Every fleet event, its data as the JSON text that was received.
CREATE EXTERNAL TABLE `lastmile_raw`.`fleet_event`
LOCATION 's3://example-bucket/fleet/raw/fleet_event/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- Every dead letter: the bytes that were received, and why they were refused.
CREATE EXTERNAL TABLE `lastmile_raw`.`rejected`
LOCATION 's3://example-bucket/fleet/raw/rejected/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- Every position once, with flags for what is doubtful about it. Nothing doubtful is left out.
CREATE EXTERNAL TABLE `lastmile_treated`.`deliverer_location`
LOCATION 's3://example-bucket/fleet/treated/deliverer_location/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- Every create and delete of an operating period once, with its state after the last one.
CREATE EXTERNAL TABLE `lastmile_treated`.`operating_period`
LOCATION 's3://example-bucket/fleet/treated/operating_period/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- Every register, update and deregister of a vehicle once, with flags for what is doubtful about it.
CREATE EXTERNAL TABLE `lastmile_treated`.`vehicle_event`
LOCATION 's3://example-bucket/fleet/treated/vehicle_event/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- From when to when a vehicle was registered, one row for each time it was.
CREATE EXTERNAL TABLE `lastmile_treated`.`vehicle_life`
LOCATION 's3://example-bucket/fleet/treated/vehicle_life/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- Orders and deliverers seen per day and delivery state. Positions without a state are a group of their own.
CREATE EXTERNAL TABLE `lastmile_final`.`deliverer_location_aggregated`
LOCATION 's3://example-bucket/fleet/final/deliverer_location_aggregated/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- Each delivery of an order: start, arrival, time, way, stops and mean speed.
CREATE EXTERNAL TABLE `lastmile_final`.`delivery_trip`
LOCATION 's3://example-bucket/fleet/final/delivery_trip/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- When each vehicle had a break; breaks that touch are one.
CREATE EXTERNAL TABLE `lastmile_final`.`vehicle_break`
LOCATION 's3://example-bucket/fleet/final/vehicle_break/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- When each vehicle was in operation: each operating period in force, cut to the time the vehicle was registered.
CREATE EXTERNAL TABLE `lastmile_final`.`vehicle_operation_metadata`
LOCATION 's3://example-bucket/fleet/final/vehicle_operation_metadata/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- Every position of every deliverer and vehicle, with the metres driven since its previous one and that one's time.
CREATE EXTERNAL TABLE `lastmile_final`.`vehicle_position_data`
LOCATION 's3://example-bucket/fleet/final/vehicle_position_data/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- Mean and standard deviation of speed by hour and H3 cell of resolution 8 (0.7 square kilometres).
CREATE EXTERNAL TABLE `lastmile_final`.`speed_by_hour_and_cell`
LOCATION 's3://example-bucket/fleet/final/speed_by_hour_and_cell/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- Travel times between zones by hour of departure; a zone is an H3 cell of resolution 7 (5 square kilometres).
CREATE EXTERNAL TABLE `lastmile_final`.`travel_time_between_zones`
LOCATION 's3://example-bucket/fleet/final/travel_time_between_zones/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- Each vehicle's date: what it drove, how long it moved, stood and had breaks, and which positions count for no operation.
CREATE EXTERNAL TABLE `lastmile_final`.`vehicle_day`
LOCATION 's3://example-bucket/fleet/final/vehicle_day/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- What each vehicle drove on each date in each of its operations, breaks apart.
CREATE EXTERNAL TABLE `lastmile_final`.`vehicle_operation_distance`
LOCATION 's3://example-bucket/fleet/final/vehicle_operation_distance/'
TBLPROPERTIES ('table_type' = 'DELTA');

-- How many vehicles operated in each operating period and what they drove, in all and on average.
CREATE EXTERNAL TABLE `lastmile_final`.`operating_period_distance`
LOCATION 's3://example-bucket/fleet/final/operating_period_distance/'
TBLPROPERTIES ('table_type' = 'DELTA');
