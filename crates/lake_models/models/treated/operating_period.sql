-- model: treated.operating_period
-- about: Every create and delete of an operating period once, with its state after the last one.
-- partition: event_date
-- inputs: raw.fleet_event
-- scope: history
-- order: operating_period_id, event_time
-- not_null: organization_id, operating_period_id, event, event_time, received_time, kind, writer_id, writer_seq
-- not_null: superseded, in_force, invalid_interval, unknown_kind, from_the_future, late, event_date
-- nullable: vehicle_id, operation_start, operation_finish
-- unique: writer_id, writer_seq
-- accepted: event IN ('create', 'delete')
-- accepted: NOT in_force OR operation_start < operation_finish
-- accepted: CAST(event_time AS DATE) = event_date
-- same_rows: SELECT COUNT(*) FROM (SELECT DISTINCT organization_id, entity_id, event, at, data FROM raw.fleet_event WHERE event IN ('create', 'delete')) AS identities
--
-- The last event of a period decides: after a create its interval is in force, after a delete none is, and another
-- create replaces the one before it. At one instant a delete comes after a create. A break is a period whose data
-- say "kind": "break"; a period whose data name a vehicle_id is for that vehicle, others are for all of the
-- organisation. The scope is history because a delete may come on a later date than its create.
SELECT
  organization_id,
  operating_period_id,
  event,
  event_time,
  received_time,
  kind,
  vehicle_id,
  operation_start,
  operation_finish,
  writer_id,
  writer_seq,
  later_event IS NOT NULL AS superseded,
  later_event IS NULL
    AND event = 'create'
    AND kind IN ('operation', 'break')
    AND COALESCE(operation_start < operation_finish, FALSE) AS in_force,
  event = 'create' AND NOT COALESCE(operation_start < operation_finish, FALSE) AS invalid_interval,
  kind NOT IN ('operation', 'break') AS unknown_kind,
  event_time > received_time + INTERVAL '5' MINUTE AS from_the_future,
  CAST(received_time AS DATE) > event_date AS late,
  event_date
FROM (
  SELECT
    *,
    CASE
      WHEN start_number IS NULL THEN try_to_timestamp(start_text)
      WHEN start_number < 1e11 THEN timestamp_micros(CAST(ROUND(start_number * 1e6) AS BIGINT))
      WHEN start_number < 1e14 THEN timestamp_micros(CAST(ROUND(start_number * 1e3) AS BIGINT))
      WHEN start_number < 1e17 THEN timestamp_micros(CAST(ROUND(start_number) AS BIGINT))
    END AS operation_start,
    CASE
      WHEN finish_number IS NULL THEN try_to_timestamp(finish_text)
      WHEN finish_number < 1e11 THEN timestamp_micros(CAST(ROUND(finish_number * 1e6) AS BIGINT))
      WHEN finish_number < 1e14 THEN timestamp_micros(CAST(ROUND(finish_number * 1e3) AS BIGINT))
      WHEN finish_number < 1e17 THEN timestamp_micros(CAST(ROUND(finish_number) AS BIGINT))
    END AS operation_finish,
    LEAD(event) OVER (
      PARTITION BY organization_id, operating_period_id
      ORDER BY event_time, event, received_time, writer_id, writer_seq
    ) AS later_event
  FROM (
    SELECT
      *,
      TRY_CAST(start_text AS DOUBLE) AS start_number,
      TRY_CAST(finish_text AS DOUBLE) AS finish_number
    FROM (
      SELECT
        organization_id,
        entity_id AS operating_period_id,
        event,
        at AS event_time,
        received_time,
        COALESCE(get_json_object(data, '$.kind'), 'operation') AS kind,
        get_json_object(data, '$.vehicle_id') AS vehicle_id,
        get_json_object(data, '$.start') AS start_text,
        get_json_object(data, '$.finish') AS finish_text,
        writer_id,
        writer_seq,
        event_date,
        ROW_NUMBER() OVER (
          PARTITION BY organization_id, entity_id, event, at, data
          ORDER BY received_time, writer_id, writer_seq
        ) AS copy
      FROM raw.fleet_event
      WHERE event IN ('create', 'delete')
    ) AS copies
    WHERE copy = 1
  ) AS texts
) AS numbers
