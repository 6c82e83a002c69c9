CREATE SCHEMA IF NOT EXISTS delta."lastmile_raw";
CREATE SCHEMA IF NOT EXISTS delta."lastmile_treated";
CREATE SCHEMA IF NOT EXISTS delta."lastmile_final";

-- Every stored position, as stored.
CALL delta.system.register_table(schema_name => 'lastmile_raw', table_name => 'deliverer_location', table_location => 's3://example-bucket/fleet/raw/deliverer_location');

-- Every fleet event, its data as the JSON text that was received.
CALL delta.system.register_table(schema_name => 'lastmile_raw', table_name => 'fleet_event', table_location => 's3://example-bucket/fleet/raw/fleet_event');

-- Every dead letter: the bytes that were received, and why they were refused.
CALL delta.system.register_table(schema_name => 'lastmile_raw', table_name => 'rejected', table_location => 's3://example-bucket/fleet/raw/rejected');

-- Every position once, with flags for what is doubtful about it. Nothing doubtful is left out.
CALL delta.system.register_table(schema_name => 'lastmile_treated', table_name => 'deliverer_location', table_location => 's3://example-bucket/fleet/treated/deliverer_location');

-- Every create and delete of an operating period once, with its state after the last one.
CALL delta.system.register_table(schema_name => 'lastmile_treated', table_name => 'operating_period', table_location => 's3://example-bucket/fleet/treated/operating_period');

-- Every register, update and deregister of a vehicle once, with flags for what is doubtful about it.
CALL delta.system.register_table(schema_name => 'lastmile_treated', table_name => 'vehicle_event', table_location => 's3://example-bucket/fleet/treated/vehicle_event');

-- From when to when a vehicle was registered, one row for each time it was.
CALL delta.system.register_table(schema_name => 'lastmile_treated', table_name => 'vehicle_life', table_location => 's3://example-bucket/fleet/treated/vehicle_life');

-- Orders and deliverers seen per day and delivery state. Positions without a state are a group of their own.
CALL delta.system.register_table(schema_name => 'lastmile_final', table_name => 'deliverer_location_aggregated', table_location => 's3://example-bucket/fleet/final/deliverer_location_aggregated');

-- Each delivery of an order: start, arrival, time, way, stops and mean speed.
CALL delta.system.register_table(schema_name => 'lastmile_final', table_name => 'delivery_trip', table_location => 's3://example-bucket/fleet/final/delivery_trip');

-- When each vehicle had a break; breaks that touch are one.
CALL delta.system.register_table(schema_name => 'lastmile_final', table_name => 'vehicle_break', table_location => 's3://example-bucket/fleet/final/vehicle_break');

-- When each vehicle was in operation: each operating period in force, cut to the time the vehicle was registered.
CALL delta.system.register_table(schema_name => 'lastmile_final', table_name => 'vehicle_operation_metadata', table_location => 's3://example-bucket/fleet/final/vehicle_operation_metadata');

-- Every position of every deliverer and vehicle, with the metres driven since its previous one and that one's time.
CALL delta.system.register_table(schema_name => 'lastmile_final', table_name => 'vehicle_position_data', table_location => 's3://example-bucket/fleet/final/vehicle_position_data');

-- Mean and standard deviation of speed by hour and H3 cell of resolution 8 (0.7 square kilometres).
CALL delta.system.register_table(schema_name => 'lastmile_final', table_name => 'speed_by_hour_and_cell', table_location => 's3://example-bucket/fleet/final/speed_by_hour_and_cell');

-- Travel times between zones by hour of departure; a zone is an H3 cell of resolution 7 (5 square kilometres).
CALL delta.system.register_table(schema_name => 'lastmile_final', table_name => 'travel_time_between_zones', table_location => 's3://example-bucket/fleet/final/travel_time_between_zones');

-- Each vehicle's date: what it drove, how long it moved, stood and had breaks, and which positions count for no operation.
CALL delta.system.register_table(schema_name => 'lastmile_final', table_name => 'vehicle_day', table_location => 's3://example-bucket/fleet/final/vehicle_day');

-- What each vehicle drove on each date in each of its operations, breaks apart.
CALL delta.system.register_table(schema_name => 'lastmile_final', table_name => 'vehicle_operation_distance', table_location => 's3://example-bucket/fleet/final/vehicle_operation_distance');

-- How many vehicles operated in each operating period and what they drove, in all and on average.
CALL delta.system.register_table(schema_name => 'lastmile_final', table_name => 'operating_period_distance', table_location => 's3://example-bucket/fleet/final/operating_period_distance');
