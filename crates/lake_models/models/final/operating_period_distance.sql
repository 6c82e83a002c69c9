-- model: final.operating_period_distance
-- about: How many vehicles operated in each operating period and what they drove, in all and on average.
-- partition: date
-- inputs: final.vehicle_operation_metadata, final.vehicle_operation_distance
-- scope: history
-- order: operating_period_id
-- not_null: operating_period_id, organization_id, vehicles, driven_m, average_driven_m, break_m, date
-- nullable:
-- unique: organization_id, operating_period_id
-- accepted: vehicles >= 1
-- same_rows: SELECT COUNT(*) FROM (SELECT DISTINCT organization_id, operating_period_id FROM final.vehicle_operation_metadata) AS periods
-- same: SUM(driven_m) == SELECT SUM(driven_m) FROM final.vehicle_operation_distance
-- same: SUM(vehicles) == SELECT COUNT(*) FROM (SELECT DISTINCT organization_id, operating_period_id, vehicle_id FROM final.vehicle_operation_metadata) AS vehicles
--
-- The average is over the vehicles that operated in the period, those that did not move included. The partition is
-- the date the first of them began.
SELECT
  periods.operating_period_id,
  periods.organization_id,
  periods.vehicles,
  COALESCE(distances.driven_m, CAST(0 AS DOUBLE)) AS driven_m,
  COALESCE(distances.driven_m, CAST(0 AS DOUBLE)) / CAST(periods.vehicles AS DOUBLE) AS average_driven_m,
  COALESCE(distances.break_m, CAST(0 AS DOUBLE)) AS break_m,
  periods.date
FROM (
  SELECT
    organization_id,
    operating_period_id,
    COUNT(DISTINCT vehicle_id) AS vehicles,
    MIN(date) AS date
  FROM final.vehicle_operation_metadata
  GROUP BY organization_id, operating_period_id
) AS periods
LEFT JOIN (
  SELECT
    organization_id,
    operating_period_id,
    SUM(driven_m) AS driven_m,
    SUM(break_m) AS break_m
  FROM final.vehicle_operation_distance
  GROUP BY organization_id, operating_period_id
) AS distances
  ON distances.organization_id = periods.organization_id
  AND distances.operating_period_id = periods.operating_period_id
