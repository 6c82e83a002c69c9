-- model: final.vehicle_day
-- about: Each vehicle's date: what it drove, how long it moved, stood and had breaks, and which positions count for no operation.
-- partition: date
-- inputs: final.vehicle_position_data
-- lookups: final.vehicle_break, final.vehicle_operation_metadata, treated.vehicle_life
-- scope: partition
-- order: vehicle_id
-- not_null: vehicle_id, first_at, last_at, positions, driven_m, break_m, moving_s, idle_s, break_s
-- not_null: positions_outside_operations, positions_unregistered, date
-- nullable:
-- unique: date, vehicle_id
-- accepted: first_at <= last_at AND positions >= 1
-- accepted: driven_m >= -1e-6 AND break_m >= 0 AND moving_s >= -1e-6 AND idle_s >= -1e-6 AND break_s >= 0
-- accepted: ABS(moving_s + idle_s + break_s - CAST(unix_micros(last_at) - unix_micros(first_at) AS DOUBLE) / 1e6) < 1e-3
-- accepted: positions_outside_operations <= positions AND positions_unregistered <= positions_outside_operations
-- same: SUM(positions) == SELECT COUNT(*) FROM final.vehicle_position_data
-- same: SUM(driven_m + break_m) == SELECT SUM(driven_meters) FROM final.vehicle_position_data
--
-- The way to a position from its previous one is of the position's date, also over midnight; its time counts only
-- when both are of the date, so that moving, idle and break add up to the time from the first to the last. From
-- 0.5 m/s on it moves. What lies in a break counts as break by its share of the time. Operations and registrations
-- that overlap are merged before positions are counted in them. Joins name the smaller side first, which is the one
-- that engines without statistics keep in memory.
WITH steps AS (
  SELECT
    vehicle_id,
    date,
    updated_at,
    previous_at,
    driven_meters,
    CASE
      WHEN CAST(previous_at AS DATE) = date
        THEN CAST(unix_micros(updated_at) - unix_micros(previous_at) AS DOUBLE) / 1e6
      ELSE CAST(0 AS DOUBLE)
    END AS seconds,
    COALESCE(
      driven_meters >= 0.5 * CAST(unix_micros(updated_at) - unix_micros(previous_at) AS DOUBLE) / 1e6,
      FALSE
    ) AS is_moving
  FROM final.vehicle_position_data
),
days AS (
  SELECT
    vehicle_id,
    date,
    MIN(COALESCE(previous_at, updated_at)) AS from_at,
    MIN(updated_at) AS first_at,
    MAX(updated_at) AS last_at,
    COUNT(*) AS positions,
    SUM(driven_meters) AS driven_meters,
    SUM(CASE WHEN is_moving THEN seconds ELSE CAST(0 AS DOUBLE) END) AS moving_s,
    SUM(CASE WHEN is_moving THEN CAST(0 AS DOUBLE) ELSE seconds END) AS idle_s
  FROM steps
  GROUP BY vehicle_id, date
),
break_steps AS (
  SELECT
    steps.vehicle_id,
    steps.date,
    steps.driven_meters,
    steps.seconds,
    steps.is_moving,
    CASE
      WHEN steps.updated_at > steps.previous_at THEN
        CAST(
          LEAST(unix_micros(steps.updated_at), unix_micros(pause.break_finish))
          - GREATEST(unix_micros(steps.previous_at), unix_micros(pause.break_start))
        AS DOUBLE) / CAST(unix_micros(steps.updated_at) - unix_micros(steps.previous_at) AS DOUBLE)
      ELSE CAST(1 AS DOUBLE)
    END AS share
  FROM days
  JOIN final.vehicle_break AS pause
    ON pause.vehicle_id = days.vehicle_id
    AND pause.break_start <= days.last_at
    AND pause.break_finish > days.from_at
  JOIN steps
    ON steps.vehicle_id = days.vehicle_id
    AND steps.date = days.date
    AND steps.updated_at >= pause.break_start
    AND steps.previous_at < pause.break_finish
),
breaks AS (
  SELECT
    vehicle_id,
    date,
    SUM(driven_meters * share) AS break_m,
    SUM(CASE WHEN is_moving THEN seconds * share ELSE CAST(0 AS DOUBLE) END) AS moving_s,
    SUM(CASE WHEN is_moving THEN CAST(0 AS DOUBLE) ELSE seconds * share END) AS idle_s
  FROM break_steps
  GROUP BY vehicle_id, date
),
intervals AS (
  SELECT
    days.vehicle_id,
    days.date,
    'operation' AS kind,
    unix_micros(operation.operation_start) AS from_us,
    unix_micros(operation.operation_finish) AS to_us
  FROM days
  JOIN final.vehicle_operation_metadata AS operation
    ON operation.vehicle_id = days.vehicle_id
    AND operation.operation_start <= days.last_at
    AND operation.operation_finish > days.first_at
  UNION ALL
  SELECT
    days.vehicle_id,
    days.date,
    'life' AS kind,
    COALESCE(unix_micros(life.registered_at), unix_micros(days.first_at)) AS from_us,
    COALESCE(unix_micros(life.deregistered_at), unix_micros(days.last_at) + 1) AS to_us
  FROM days
  JOIN treated.vehicle_life AS life
    ON life.vehicle_id = days.vehicle_id
    AND (life.registered_at IS NULL OR life.registered_at <= days.last_at)
    AND (life.deregistered_at IS NULL OR life.deregistered_at > days.first_at)
),
running AS (
  SELECT
    *,
    MAX(to_us) OVER (
      PARTITION BY vehicle_id, date, kind
      ORDER BY from_us, to_us
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS latest_us
  FROM intervals
),
islands AS (
  SELECT
    *,
    SUM(CASE WHEN from_us <= latest_us THEN 0 ELSE 1 END) OVER (
      PARTITION BY vehicle_id, date, kind
      ORDER BY from_us, to_us
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS island
  FROM running
),
merged AS (
  SELECT vehicle_id, date, kind, MIN(from_us) AS from_us, MAX(to_us) AS to_us
  FROM islands
  GROUP BY vehicle_id, date, kind, island
),
inside AS (
  SELECT
    merged.vehicle_id,
    merged.date,
    SUM(CASE WHEN merged.kind = 'operation' THEN 1 ELSE 0 END) AS in_operation,
    SUM(CASE WHEN merged.kind = 'life' THEN 1 ELSE 0 END) AS registered
  FROM merged
  JOIN steps
    ON steps.vehicle_id = merged.vehicle_id
    AND steps.date = merged.date
    AND unix_micros(steps.updated_at) >= merged.from_us
    AND unix_micros(steps.updated_at) < merged.to_us
  GROUP BY merged.vehicle_id, merged.date
)
SELECT
  days.vehicle_id,
  days.first_at,
  days.last_at,
  days.positions,
  days.driven_meters - COALESCE(breaks.break_m, CAST(0 AS DOUBLE)) AS driven_m,
  COALESCE(breaks.break_m, CAST(0 AS DOUBLE)) AS break_m,
  days.moving_s - COALESCE(breaks.moving_s, CAST(0 AS DOUBLE)) AS moving_s,
  days.idle_s - COALESCE(breaks.idle_s, CAST(0 AS DOUBLE)) AS idle_s,
  COALESCE(breaks.moving_s + breaks.idle_s, CAST(0 AS DOUBLE)) AS break_s,
  days.positions - COALESCE(inside.in_operation, 0) AS positions_outside_operations,
  days.positions - COALESCE(inside.registered, 0) AS positions_unregistered,
  days.date
FROM days
LEFT JOIN breaks ON breaks.vehicle_id = days.vehicle_id AND breaks.date = days.date
LEFT JOIN inside ON inside.vehicle_id = days.vehicle_id AND inside.date = days.date
