-- model: treated.vehicle_event
-- about: Every register, update and deregister of a vehicle once, with flags for what is doubtful about it.
-- partition: event_date
-- inputs: raw.fleet_event
-- scope: partition
-- order: event, vehicle_id, event_time
-- not_null: organization_id, vehicle_id, event, event_time, received_time, writer_id, writer_seq
-- not_null: without_place, invalid_place, unread_time, from_the_future, late, event_date
-- nullable: located_at, lat, lon
-- unique: writer_id, writer_seq
-- accepted: event IN ('register', 'update', 'deregister')
-- accepted: CAST(event_time AS DATE) = event_date
-- same_rows: SELECT COUNT(*) FROM (SELECT DISTINCT organization_id, entity_id, event, at, data FROM raw.fleet_event WHERE event IN ('register', 'update', 'deregister')) AS identities
--
-- An event's identity is all that was reported. One sent again after its row was purged from the store comes to
-- raw twice, and the first one taken counts. Places out of range are kept as reported and flagged. The time of a
-- place is a text or an epoch number: below 1e11 seconds, below 1e14 milliseconds, else microseconds.
SELECT
  organization_id,
  vehicle_id,
  event,
  event_time,
  received_time,
  located_at,
  lat,
  lon,
  writer_id,
  writer_seq,
  event = 'update' AND (lat IS NULL OR lon IS NULL) AS without_place,
  COALESCE(lat NOT BETWEEN -90 AND 90, FALSE)
    OR COALESCE(lon NOT BETWEEN -180 AND 180, FALSE) AS invalid_place,
  located_text IS NOT NULL AND located_at IS NULL AS unread_time,
  event_time > received_time + INTERVAL '5' MINUTE AS from_the_future,
  CAST(received_time AS DATE) > event_date AS late,
  event_date
FROM (
  SELECT
    *,
    CASE
      WHEN located_number IS NULL THEN try_to_timestamp(located_text)
      WHEN located_number < 1e11 THEN timestamp_micros(CAST(ROUND(located_number * 1e6) AS BIGINT))
      WHEN located_number < 1e14 THEN timestamp_micros(CAST(ROUND(located_number * 1e3) AS BIGINT))
      WHEN located_number < 1e17 THEN timestamp_micros(CAST(ROUND(located_number) AS BIGINT))
    END AS located_at
  FROM (
    SELECT
      *,
      TRY_CAST(located_text AS DOUBLE) AS located_number
    FROM (
      SELECT
        organization_id,
        entity_id AS vehicle_id,
        event,
        at AS event_time,
        received_time,
        TRY_CAST(get_json_object(data, '$.location.lat') AS DOUBLE) AS lat,
        TRY_CAST(get_json_object(data, '$.location.lng') AS DOUBLE) AS lon,
        get_json_object(data, '$.location.at') AS located_text,
        writer_id,
        writer_seq,
        event_date,
        ROW_NUMBER() OVER (
          PARTITION BY organization_id, entity_id, event, at, data
          ORDER BY received_time, writer_id, writer_seq
        ) AS copy
      FROM raw.fleet_event
      WHERE event IN ('register', 'update', 'deregister')
    ) AS copies
    WHERE copy = 1
  ) AS texts
) AS numbers
