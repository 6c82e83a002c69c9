-- model: treated.vehicle_life
-- about: From when to when a vehicle was registered, one row for each time it was.
-- partition: event_date
-- inputs: treated.vehicle_event
-- scope: history
-- order: vehicle_id, registered_at
-- not_null: organization_id, vehicle_id, event_date
-- nullable: registered_at, deregistered_at
-- unique: organization_id, vehicle_id, registered_at
-- accepted: registered_at IS NOT NULL OR deregistered_at IS NOT NULL
-- accepted: registered_at IS NULL OR deregistered_at IS NULL OR registered_at <= deregistered_at
-- references: vehicle_id -> treated.vehicle_event.vehicle_id
-- same: COUNT(DISTINCT vehicle_id) == SELECT COUNT(DISTINCT vehicle_id) FROM treated.vehicle_event WHERE event <> 'update'
--
-- A register while registered and a deregister while not change nothing. A vehicle whose first such event is a
-- deregister was registered before the lake began: its registered_at is unknown. One that is registered still
-- has no deregistered_at.
SELECT
  organization_id,
  vehicle_id,
  CASE WHEN event = 'register' THEN event_time END AS registered_at,
  CASE WHEN event = 'register' THEN next_time ELSE event_time END AS deregistered_at,
  event_date
FROM (
  SELECT
    *,
    LEAD(event_time) OVER (
      PARTITION BY organization_id, vehicle_id
      ORDER BY event_time, event DESC, writer_id, writer_seq
    ) AS next_time,
    ROW_NUMBER() OVER (
      PARTITION BY organization_id, vehicle_id
      ORDER BY event_time, event DESC, writer_id, writer_seq
    ) AS number
  FROM (
    SELECT
      *,
      LAG(event) OVER (
        PARTITION BY organization_id, vehicle_id
        ORDER BY event_time, event DESC, writer_id, writer_seq
      ) AS previous_event
    FROM treated.vehicle_event
    WHERE event IN ('register', 'deregister')
  ) AS lives
  WHERE previous_event IS NULL OR previous_event <> event
) AS changes
WHERE event = 'register' OR number = 1
