-- model: final.vehicle_operation_distance
-- about: What each vehicle drove on each date in each of its operations, breaks apart.
-- partition: date
-- inputs: final.vehicle_position_data
-- lookups: final.vehicle_operation_metadata, final.vehicle_break
-- scope: partition
-- order: vehicle_id, operation_start
-- not_null: vehicle_id, operating_period_id, operation_start, operation_finish, organization_id
-- not_null: positions, driven_m, break_m, date
-- nullable:
-- unique: date, organization_id, vehicle_id, operating_period_id, operation_start
-- accepted: positions >= 0 AND driven_m >= -1e-6 AND break_m >= 0
-- references: vehicle_id -> final.vehicle_operation_metadata.vehicle_id
-- references: operating_period_id -> final.vehicle_operation_metadata.operating_period_id
--
-- The way from a position to the next counts by the share of its time that lies in the operation; the share that
-- lies in a break too counts as break_m and not as driven_m. It is of the date of the later position. An operation
-- holds the instants from its start until before its finish.
WITH days AS (
  SELECT
    vehicle_id,
    date,
    MIN(COALESCE(previous_at, updated_at)) AS from_at,
    MAX(updated_at) AS to_at
  FROM final.vehicle_position_data
  GROUP BY vehicle_id, date
),
operations AS (
  SELECT
    days.date,
    operation.vehicle_id,
    operation.operating_period_id,
    operation.operation_start,
    operation.operation_finish,
    operation.organization_id
  FROM days
  JOIN final.vehicle_operation_metadata AS operation
    ON operation.vehicle_id = days.vehicle_id
    AND operation.operation_start <= days.to_at
    AND operation.operation_finish > days.from_at
),
intervals AS (
  SELECT *, operation_start AS from_at, operation_finish AS to_at, FALSE AS is_break
  FROM operations
  UNION ALL
  SELECT
    operations.*,
    CASE
      WHEN pause.break_start > operations.operation_start THEN pause.break_start
      ELSE operations.operation_start
    END AS from_at,
    CASE
      WHEN pause.break_finish < operations.operation_finish THEN pause.break_finish
      ELSE operations.operation_finish
    END AS to_at,
    TRUE AS is_break
  FROM operations
  JOIN final.vehicle_break AS pause
    ON pause.vehicle_id = operations.vehicle_id
    AND pause.break_start < operations.operation_finish
    AND pause.break_finish > operations.operation_start
),
steps AS (
  SELECT
    intervals.date,
    intervals.vehicle_id,
    intervals.operating_period_id,
    intervals.operation_start,
    intervals.operation_finish,
    intervals.organization_id,
    intervals.is_break,
    CASE WHEN point.updated_at >= intervals.from_at AND point.updated_at < intervals.to_at THEN 1 ELSE 0 END AS inside,
    point.driven_meters * CASE
      WHEN point.updated_at > point.previous_at THEN
        CAST(
          LEAST(unix_micros(point.updated_at), unix_micros(intervals.to_at))
          - GREATEST(unix_micros(point.previous_at), unix_micros(intervals.from_at))
        AS DOUBLE) / CAST(unix_micros(point.updated_at) - unix_micros(point.previous_at) AS DOUBLE)
      ELSE CAST(1 AS DOUBLE)
    END AS metres
  FROM intervals
  JOIN final.vehicle_position_data AS point
    ON point.vehicle_id = intervals.vehicle_id
    AND point.date = intervals.date
    AND point.updated_at >= intervals.from_at
    AND COALESCE(point.previous_at, point.updated_at) < intervals.to_at
)
SELECT
  vehicle_id,
  operating_period_id,
  operation_start,
  operation_finish,
  organization_id,
  SUM(CASE WHEN is_break THEN 0 ELSE inside END) AS positions,
  SUM(CASE WHEN is_break THEN -metres ELSE metres END) AS driven_m,
  SUM(CASE WHEN is_break THEN metres ELSE CAST(0 AS DOUBLE) END) AS break_m,
  date
FROM steps
GROUP BY date, vehicle_id, operating_period_id, operation_start, operation_finish, organization_id
