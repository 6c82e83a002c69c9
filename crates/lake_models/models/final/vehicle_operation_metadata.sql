-- model: final.vehicle_operation_metadata
-- about: When each vehicle was in operation: each operating period in force, cut to the time the vehicle was registered.
-- partition: date
-- inputs: treated.vehicle_life, treated.operating_period
-- scope: history
-- order: vehicle_id, operation_start
-- not_null: vehicle_id, operating_period_id, operation_start, operation_finish, organization_id, date
-- nullable:
-- unique: organization_id, vehicle_id, operating_period_id, operation_start
-- accepted: operation_start < operation_finish
-- references: vehicle_id -> treated.vehicle_life.vehicle_id
-- references: operating_period_id -> treated.operating_period.operating_period_id
--
-- Intervals that overlap at all make a row; deleted periods, breaks and periods of another vehicle make none. The
-- partition is the date the operation starts on.
SELECT
  vehicle_id,
  operating_period_id,
  operation_start,
  operation_finish,
  organization_id,
  CAST(operation_start AS DATE) AS date
FROM (
  SELECT
    life.vehicle_id,
    period.operating_period_id,
    CASE
      WHEN life.registered_at > period.operation_start THEN life.registered_at
      ELSE period.operation_start
    END AS operation_start,
    CASE
      WHEN life.deregistered_at < period.operation_finish THEN life.deregistered_at
      ELSE period.operation_finish
    END AS operation_finish,
    life.organization_id
  FROM treated.vehicle_life AS life
  JOIN treated.operating_period AS period
    ON period.organization_id = life.organization_id
  WHERE period.in_force
    AND period.kind = 'operation'
    AND (period.vehicle_id IS NULL OR period.vehicle_id = life.vehicle_id)
    AND (life.registered_at IS NULL OR life.registered_at < period.operation_finish)
    AND (life.deregistered_at IS NULL OR life.deregistered_at > period.operation_start)
) AS operations
WHERE operation_start < operation_finish
