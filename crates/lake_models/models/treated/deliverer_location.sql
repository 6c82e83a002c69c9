-- model: treated.deliverer_location
-- about: Every position once, with flags for what is doubtful about it. Nothing doubtful is left out.
-- partition: event_date
-- inputs: raw.deliverer_location
-- scope: partition
-- order: deliverer_id, event_time
-- not_null: deliverer_id, event_time, received_time, lat, lon, source, writer_id, writer_seq
-- not_null: unknown_state, from_the_future, late, null_island, event_date
-- nullable: order_id, delivery_state, speed_mps, heading_deg, accuracy_m, altitude_m, battery, seq
-- unique: writer_id, writer_seq
-- accepted: lat BETWEEN -90 AND 90
-- accepted: lon BETWEEN -180 AND 180
-- accepted: battery IS NULL OR battery BETWEEN 0 AND 1
-- accepted: CAST(event_time AS DATE) = event_date
-- same_rows: SELECT COUNT(*) FROM (SELECT DISTINCT order_id, deliverer_id, event_time, seq, CASE WHEN seq IS NULL THEN lat END, CASE WHEN seq IS NULL THEN lon END, CASE WHEN seq IS NULL THEN delivery_state END FROM raw.deliverer_location) AS identities
--
-- A position's identity is (order, deliverer, event time, seq), or what was reported where there is no seq. The
-- store keeps one of each; a position sent again after its row was purged from the store comes to raw twice,
-- and the first one taken counts: the row whose number is the rank all copies of it share. So a window is a day of
-- a deliverer, not one position: engines are slow with a million small ones.
SELECT
  order_id,
  deliverer_id,
  delivery_state,
  event_time,
  received_time,
  lat,
  lon,
  speed_mps,
  heading_deg,
  accuracy_m,
  altitude_m,
  battery,
  seq,
  source,
  writer_id,
  writer_seq,
  delivery_state IS NOT NULL
    AND delivery_state NOT IN ('start', 'on_the_way', 'arrived') AS unknown_state,
  event_time > received_time + INTERVAL '5' MINUTE AS from_the_future,
  CAST(received_time AS DATE) > event_date AS late,
  lat = 0 AND lon = 0 AS null_island,
  event_date
FROM (
  SELECT
    *,
    RANK() OVER (
      PARTITION BY event_date, deliverer_id
      ORDER BY
        event_time,
        order_id,
        seq,
        CASE WHEN seq IS NULL THEN lat END,
        CASE WHEN seq IS NULL THEN lon END,
        CASE WHEN seq IS NULL THEN delivery_state END
    ) AS first_copy,
    ROW_NUMBER() OVER (
      PARTITION BY event_date, deliverer_id
      ORDER BY
        event_time,
        order_id,
        seq,
        CASE WHEN seq IS NULL THEN lat END,
        CASE WHEN seq IS NULL THEN lon END,
        CASE WHEN seq IS NULL THEN delivery_state END,
        received_time,
        writer_id,
        writer_seq
    ) AS copy
  FROM raw.deliverer_location
) AS copies
WHERE copy = first_copy
